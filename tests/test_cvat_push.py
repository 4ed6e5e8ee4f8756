"""Pushing to the stand-in with the real cvat-sdk: what arrives, and what an accident may not do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from obdb_lib.cvat.client import CvatClient, NoAnswerError
from obdb_lib.cvat.push import PushPlan, Share, StoreJournal, plan_push, pushed_suggestions, send
from obdb_lib.errors import CvatError
from obdb_lib.store import Store
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.answers import server_error
from tests.cvat_server.helpers import (
    CLASSES,
    MemoryJournal,
    accept,
    log_in,
    make_images,
    make_snapshot,
    stored_shapes,
    suggestion,
    two_frame_plan,
)
from tests.cvat_server.world import World

NOON = datetime(2026, 5, 20, 12, 0, 1, tzinfo=UTC)
SHAPES = r"annotations\?action=create"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


@pytest.fixture
def plan(tmp_path: Path) -> PushPlan:
    return two_frame_plan(tmp_path / "images", now=NOON)


def arrived(server: StandIn) -> Counter[tuple[Any, ...]]:
    """What a person would see: image, label and points of each box."""
    return Counter((shape["image"], shape["label"], *shape["points"]) for shape in stored_shapes(server))


EXPECTED = Counter(
    {
        ("day__1L__GH1__img10.png", "cleavers", 1.0, 2.0, 20.13, 30.0): 1,
        ("day__1L__GH1__img10.png", "dandelion", 30.0, 5.0, 50.0, 40.0): 1,
        ("day__1L__GH1__img2.png", "cleavers", 3.0, 3.0, 13.0, 13.0): 1,
        ("day__1L__GH2__img2.png", "cleavers", 4.0, 4.0, 14.0, 14.0): 1,
    }
)


# -- sending ---------------------------------------------------------------------------------------------------------


def test_dry_run_sends_nothing(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = MemoryJournal()
    with pytest.raises(CvatError, match=r"dry run: nothing was sent\. 4 boxes on 3 frames"):
        send(plan, client, journal=journal)
    assert server.writes == []
    assert journal.documents == []


def test_nothing_accepted(client: CvatClient, tmp_path: Path) -> None:
    plan = two_frame_plan(tmp_path, already_pushed={"s1", "s2", "s3", "s4"})
    with pytest.raises(CvatError, match="nothing to push"):
        send(plan, client, journal=MemoryJournal(), confirm=True)


def test_push__boxes_land_on_their_images(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """img10 comes before img2 on CVAT, and two folders have an img2."""
    journal = MemoryJournal()
    result = send(plan, client, journal=journal, confirm=True)
    assert arrived(server) == EXPECTED
    assert {shape["source"] for shape in stored_shapes(server)} == {"auto"}
    assert sorted(shape["score"] for shape in stored_shapes(server)) == [0.75, 0.75, 0.75, 0.9]
    assert [task.sent for task in result.tasks] == [3, 1]
    assert [task.name for task in server.world.tasks.values()] == [task.name for task in plan.tasks]
    steps = [("create", "before"), ("create", "after"), ("upload", "before"), ("upload", "after")]
    steps += [("shapes", "before"), ("shapes", "after"), ("verified", "after")]
    assert journal.steps() == steps * 2
    assert pushed_suggestions(journal.documents) == {"s1", "s2", "s3", "s4"}
    assert "4 boxes sent to 2 tasks" in result.summary()
    assert result.table()["sent"].sum() == 4


def test_push__images_are_the_right_ones(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    send(plan, client, journal=MemoryJournal(), confirm=True)
    for planned, task in zip(plan.tasks, server.world.tasks.values(), strict=True):
        assert task.data is not None
        sent = {frame.name: frame.content for frame in task.data.frames}
        assert sent == {frame.upload_name: frame.file.read_bytes() for frame in planned.frames}


def test_push__same_base_name_in_one_task_and_behind_a_link(
    server: StandIn, client: CvatClient, tmp_path: Path, data_cache: Path
) -> None:
    root = tmp_path / "images"
    store = make_images(root, ["a/x.png", "b/x.png"])
    (root / "c").mkdir()
    (root / "c" / "x.png").symlink_to(root / "a" / "x.png")
    names = ["a/x.png", "b/x.png", "c/x.png"]
    found = [suggestion(name, name, [place, 1, 40, 40], task="T") for place, name in enumerate(names, 1)]
    decisions = {name: accept(name) for name in names}
    snapshot = make_snapshot([(name, "T") for name in names])
    plan = plan_push(found, decisions, snapshot, store, model="m", classes=CLASSES)
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert {(shape["image"], shape["points"][0]) for shape in stored_shapes(server)} == {
        ("a__x.png", 1.0),
        ("b__x.png", 2.0),
        ("c__x.png", 3.0),
    }
    assert not list(data_cache.glob("push-*"))


def test_push__repeated_after_success_changes_nothing(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    journal = MemoryJournal()
    send(two_frame_plan(tmp_path, now=NOON), client, journal=journal, confirm=True)
    writes = len(server.writes)
    result = send(two_frame_plan(tmp_path), client, journal=journal, confirm=True)  # planned at another hour
    assert len(server.writes) == writes
    assert sum(task.already_there for task in result.tasks) == 4


def test_push__what_a_person_changed_since_is_left_alone(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = MemoryJournal()
    send(plan, client, journal=journal, confirm=True)
    job = next(iter(server.world.jobs.values()))
    del job.shapes[0]
    job.shapes[0]["points"] = [7, 7, 17, 17]
    send(plan, client, journal=journal, confirm=True)
    assert len(stored_shapes(server)) == 3


# -- accidents -------------------------------------------------------------------------------------------------------

WRITES = [
    ("POST", r"/api/tasks$"),
    ("POST", r"/data/"),
    ("PATCH", SHAPES),
]
READS = [("GET", r"/requests/"), ("GET", r"/data/meta"), ("GET", r"/annotations"), ("GET", r"/labels")]


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize(("method", "pattern"), WRITES + READS)
def test_push__connection_lost_anywhere_then_repeated(
    server: StandIn, client: CvatClient, plan: PushPlan, method: str, pattern: str, skip: int, kind: str
) -> None:
    """Whatever request breaks, before or after it took effect: the repeat leaves no duplicate and no loss."""
    journal = MemoryJournal()
    server.faults.append(Fault(method, pattern, kind=kind, skip=skip))
    try:
        send(plan, client, journal=journal, confirm=True)
    except NoAnswerError:
        send(plan, client, journal=journal, confirm=True)
    else:
        assert server.faults[0].times == 1, "the fault was met but not noticed"
    assert arrived(server) == EXPECTED
    assert [task.name for task in server.world.tasks.values()] == [task.name for task in plan.tasks]


def test_push__killed_between_request_and_note(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """kill -9 at every note: what follows the note never happens, then a new process repeats the push."""

    class Killed(BaseException):
        pass

    class DyingJournal(MemoryJournal):
        left = 0

        def append(self, document: dict[str, Any]) -> None:
            if DyingJournal.left == 0:
                raise Killed
            DyingJournal.left -= 1
            super().append(document)

    total = 14
    for lives in range(total):
        with StandIn() as fresh:
            journal = DyingJournal()
            DyingJournal.left = lives
            with pytest.raises(Killed):
                send(plan, log_in(fresh), journal=journal, confirm=True)
            DyingJournal.left = 1000
            send(plan, log_in(fresh), journal=journal, confirm=True)
            assert arrived(fresh) == EXPECTED, lives
            assert len(fresh.world.tasks) == 2


def test_push__second_try_without_its_journal_goes_by_the_name(
    server: StandIn, client: CvatClient, plan: PushPlan
) -> None:
    send(plan, client, journal=MemoryJournal(), confirm=True)
    result = send(plan, client, journal=MemoryJournal(), confirm=True)
    assert arrived(server) == EXPECTED
    assert [task.already_there for task in result.tasks] == [3, 1]


def test_push__journal_of_another_server_is_not_followed(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """First to a test server, then to the real one, where other tasks have the same ids."""
    journal = MemoryJournal()
    send(plan, client, journal=journal, confirm=True)
    with StandIn() as other:
        second = log_in(other)
        foreign = second.create_task("somebody's", labels=["x"])["id"]
        send(plan, second, journal=journal, confirm=True)
        assert arrived(other) == EXPECTED
        assert foreign in other.world.tasks
    assert arrived(server) == EXPECTED


@pytest.mark.parametrize(("method", "pattern"), [("PATCH", SHAPES), ("POST", "/data/")])
def test_push__silent_server_times_out_and_its_late_work_is_not_doubled(
    server: StandIn, client: CvatClient, plan: PushPlan, monkeypatch: pytest.MonkeyPatch, method: str, pattern: str
) -> None:
    monkeypatch.setattr("obdb_lib.cvat.transport.READ_TIMEOUT_S", 0.2)
    journal = MemoryJournal()
    server.faults.append(Fault(method, pattern, kind="hook", hook=lambda world: time.sleep(0.7)))
    with pytest.raises(NoAnswerError, match="run this step again"):
        send(plan, client, journal=journal, confirm=True)
    for _ in range(20):  # the server may still be at it
        try:
            send(plan, client, journal=journal, confirm=True)
            break
        except NoAnswerError:
            continue
    assert arrived(server) == EXPECTED


def test_push__journal_in_the_store(server: StandIn, client: CvatClient, plan: PushPlan, store: Store) -> None:
    journal = StoreJournal(store)
    server.faults.append(Fault("PATCH", SHAPES, kind="drop_after", skip=1))
    with pytest.raises(NoAnswerError):
        send(plan, client, journal=journal, confirm=True)
    send(plan, client, journal=journal, confirm=True)
    assert arrived(server) == EXPECTED
    entries = store.pushes()
    assert [entry["step"] for entry in entries[:2]] == ["create", "create"]
    assert pushed_suggestions(entries) == {"s1", "s2", "s3", "s4"}


def test_push__failed_upload_leaves_nothing_behind(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = MemoryJournal()
    server.faults.append(Fault("POST", "/data/", answer=server_error(), skip=1))
    with pytest.raises(CvatError, match=r"were not taken.*500"):
        send(plan, client, journal=journal, confirm=True)
    assert server.world.tasks == {}
    send(plan, client, journal=journal, confirm=True)
    assert arrived(server) == EXPECTED


def test_push__unreadable_image_is_refused_by_the_server(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    plan.tasks[0].frames[0].file.write_bytes(b"not an image")
    with pytest.raises(CvatError, match="cannot identify image file"):
        send(plan, client, journal=MemoryJournal(), confirm=True)
    assert server.world.tasks == {}


def test_push__empty_task_of_somebody_else_is_not_touched(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    client.create_task(plan.tasks[0].name, labels=["x"])
    with pytest.raises(CvatError, match="that this push did not make"):
        send(plan, client, journal=MemoryJournal(), confirm=True)
    assert len(server.world.tasks) == 1


def test_push__two_tasks_of_the_name(client: CvatClient, plan: PushPlan) -> None:
    for _ in range(2):
        client.create_task(plan.tasks[0].name, labels=["x"])
    with pytest.raises(CvatError, match=r"2 tasks of the name .* \(ids 1, 2\)"):
        send(plan, client, journal=MemoryJournal(), confirm=True)


def test_push__dropped_boxes_are_noticed(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """CVAT answers 200 for boxes outside the task and drops them."""

    def lose_last_frame(world: World) -> None:
        task = world.tasks[1]
        assert task.data is not None
        task.data.frames.pop()

    server.faults.append(Fault("PATCH", SHAPES, kind="hook", hook=lose_last_frame))
    with pytest.raises(
        CvatError, match=r"did not keep 1 boxes .*cleavers at \[3.0, 3.0, 13.0, 13.0\] on day/1L/GH1/img2"
    ):
        send(plan, client, journal=MemoryJournal(), confirm=True)


def test_push__boxes_that_vanish_after_a_good_answer_are_noticed(
    server: StandIn, client: CvatClient, plan: PushPlan
) -> None:
    server.faults.append(
        Fault("GET", "annotations", kind="hook", skip=1, hook=lambda world: world.jobs[1].shapes.clear())
    )
    with pytest.raises(CvatError, match="did not keep 3 boxes"):
        send(plan, client, journal=MemoryJournal(), confirm=True)


def test_push__copies_of_a_late_first_try_are_taken_away(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """The first request comes through after the repeat has looked: the same boxes are there twice."""

    def late(world: World) -> None:
        job = world.jobs[1]
        job.shapes += [{**shape, "id": shape["id"] + 100} for shape in job.shapes]

    server.faults.append(Fault("GET", "annotations", kind="hook", skip=1, hook=late))
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert arrived(server) == EXPECTED


def test_push__large_task_goes_in_parts(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    journal = MemoryJournal()
    server.faults.append(Fault("PATCH", SHAPES, kind="drop_after", skip=1))
    plan = two_frame_plan(tmp_path)
    with pytest.raises(NoAnswerError):
        send(plan, client, journal=journal, confirm=True, shapes_per_request=2)
    send(plan, client, journal=journal, confirm=True, shapes_per_request=2)
    assert arrived(server) == EXPECTED


def test_push__into_a_project_takes_its_labels(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    labels = [{"name": name} for name in ("other", *CLASSES)]
    project = client.request("POST", "projects", body={"name": "weeds", "labels": labels})["id"]
    send(plan, client, journal=MemoryJournal(), confirm=True, project_id=project)
    assert arrived(server) == EXPECTED
    assert {task.project_id for task in server.world.tasks.values()} == {project}


def test_push__label_missing_in_the_project_sends_nothing(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    project = client.request("POST", "projects", body={"name": "weeds", "labels": [{"name": "cleavers"}]})["id"]
    before = len(server.writes)
    with pytest.raises(CvatError, match="has no label 'dandelion'"):
        send(plan, client, journal=MemoryJournal(), confirm=True, project_id=project)
    assert len(server.writes) == before


def test_push__other_image_on_the_server(client: CvatClient, plan: PushPlan) -> None:
    file = plan.tasks[0].frames[0].file
    Image.new("RGB", (10, 10)).save(file)
    with pytest.raises(CvatError, match="10 x 10 there, 64 x 48 here"):
        send(plan, client, journal=MemoryJournal(), confirm=True)


# -- jobs, a share, and names that are no friends --------------------------------------------------------------------


def test_push__boxes_go_job_by_job(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """A server that cuts tasks into jobs of one frame each."""

    def cut(world: World) -> None:
        for task in world.tasks.values():
            task.segment_size = 1

    server.faults.append(Fault("GET", "/requests/", kind="hook", hook=cut, times=100))
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert arrived(server) == EXPECTED
    assert [len(job.shapes) for job in server.world.jobs.values()] == [2, 1, 1]
    sent = [path for method, path in server.log if method == "PATCH"]
    assert sent == [f"/api/jobs/{number}/annotations?action=create" for number in (1, 2, 3)]


def test_push__jobs_that_overlap_get_a_box_once(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    def overlap(world: World) -> None:
        first = world.jobs_of(1)[0]
        second = type(first)(world.next_id("job"), 1, 1, 1, first.created, first.updated)
        world.jobs[second.id] = second

    server.faults.append(Fault("GET", "/jobs", kind="hook", hook=overlap))
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert arrived(server) == EXPECTED


def test_push__frames_without_a_job_are_told(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    def shorten(world: World) -> None:
        world.jobs_of(1)[0].stop = 0

    server.faults.append(Fault("GET", "/jobs", kind="hook", hook=shorten))
    with pytest.raises(CvatError, match=r"has no job for frames 1; look at its jobs in CVAT"):
        send(plan, client, journal=MemoryJournal(), confirm=True)
    assert stored_shapes(server) == []


def test_push__requests_of_no_boxes(client: CvatClient, plan: PushPlan) -> None:
    with pytest.raises(CvatError, match="shapes_per_request must be at least 1; got 0"):
        send(plan, client, journal=MemoryJournal(), confirm=True, shapes_per_request=0)


@pytest.mark.parametrize("below", ["", "field/2026"])
def test_push__images_of_a_share_are_named_and_not_uploaded(
    server: StandIn, client: CvatClient, plan: PushPlan, tmp_path: Path, below: str
) -> None:
    root = tmp_path / "images"
    names = {frame.img_path: f"{below}/{frame.img_path}".lstrip("/") for task in plan.tasks for frame in task.frames}
    server.world.share |= {name: (root / img_path).read_bytes() for img_path, name in names.items()}
    send(plan, client, journal=MemoryJournal(), confirm=True, share=Share({root: below}))
    there = {frame.name for task in server.world.tasks.values() if task.data for frame in task.data.frames}
    assert there == set(names.values())
    assert {(shape["image"], *shape["points"]) for shape in stored_shapes(server)} == {
        (names[shape.img_path], *shape.points) for task in plan.tasks for shape in task.shapes
    }
    assert not any("Upload" in path for _, path in server.log)
    assert sum(path.endswith("/data") for _, path in server.writes) == 2


def test_push__begun_with_uploads_goes_on_with_a_share(
    server: StandIn, client: CvatClient, plan: PushPlan, tmp_path: Path
) -> None:
    journal = MemoryJournal()
    server.faults.append(Fault("PATCH", SHAPES, kind="drop_before"))
    with pytest.raises(NoAnswerError):
        send(plan, client, journal=journal, confirm=True)
    root = tmp_path / "images"
    server.world.share |= {"day/1L/GH2/img2.png": (root / "day/1L/GH2/img2.png").read_bytes()}
    send(plan, client, journal=journal, confirm=True, share=Share({root: ""}))
    assert len(stored_shapes(server)) == 4


def test_push__a_share_that_the_server_does_not_see(
    server: StandIn, client: CvatClient, plan: PushPlan, tmp_path: Path
) -> None:
    with pytest.raises(CvatError, match=r"No such file.*Does the server have these files in its share"):
        send(plan, client, journal=MemoryJournal(), confirm=True, share=Share({tmp_path / "images": ""}))
    assert server.world.tasks == {}


def test_share__which_files_it_has(tmp_path: Path) -> None:
    share = Share({tmp_path: "all", tmp_path / "near": ""})
    assert share.server_file(tmp_path / "a" / "x.png") == "all/a/x.png"
    assert share.server_file(tmp_path / "near" / "x.png") == "x.png"
    assert share.server_file(tmp_path / "near" / ".." / "x.png") is None
    assert share.server_file(Path("/elsewhere/x.png")) is None
    assert share.server_file(tmp_path / ("long" * 300)) is None
    with pytest.raises(CvatError, match=r"'\.\./etc' for .* leads out of the share"):
        Share({tmp_path: "../etc"})


def test_share__all_images_or_none(plan: PushPlan, tmp_path: Path) -> None:
    frames = plan.tasks[0].frames
    folder = tmp_path / "images" / "day" / "1L"
    assert list(Share({folder: ""}).server_files(frames).values()) == ["GH1/img10.png", "GH1/img2.png"]
    assert Share({frames[0].file: ""}).server_files(frames) == {}
    assert Share({folder: ""}, least_frames=3).server_files(frames) == {}


HOSTILE = ("<script>alert(1)</script>", "=HYPERLINK(1)", "a\u202eb", "'; drop table --", "Ünkraut €")


def test_push__hostile_label_task_and_file_names_are_text(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    names = [f"d/{name.replace('/', '_')}.png" for name in HOSTILE]
    found = [
        suggestion(f"s{place}", names[place], [1, 1, 9, 9], task=f"T {label}", object_class=label)
        for place, label in enumerate(HOSTILE)
    ]
    plan = plan_push(
        found,
        {one["_id"]: accept(one["_id"]) for one in found},
        make_snapshot([(one["img_path"], one["task_name"]) for one in found]),
        make_images(tmp_path, names),
        model="m",
        classes=HOSTILE,
    )
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert sorted(shape["label"] for shape in stored_shapes(server)) == sorted(HOSTILE)
    assert {shape["task"].split("_")[-1].removeprefix("T ") for shape in stored_shapes(server)} >= {"=HYPERLINK(1)"}
    shown = plan.table().to_html()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
