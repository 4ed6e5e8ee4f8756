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
from obdb_lib.cvat.push import PushPlan, StoreJournal, plan_push, pushed_places, pushed_suggestions, send
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


# -- the plan --------------------------------------------------------------------------------------------------------


def test_plan__only_accepted_boxes_and_their_frames(plan: PushPlan) -> None:
    assert [task.name for task in plan.tasks] == [
        "auto_annotation_resnet18_2026_05_20_12_00_01_Field A",
        "auto_annotation_resnet18_2026_05_20_12_00_01_Field B",
    ]
    assert plan.table()[["frames", "boxes", "cleavers", "dandelion"]].to_numpy().tolist() == [
        [2, 3, 2, 1],
        [1, 1, 1, 0],
    ]
    assert plan.summary().startswith("4 boxes on 3 frames as 2 new tasks")


def test_plan__id_is_that_of_the_content_and_not_of_the_hour(tmp_path: Path, plan: PushPlan) -> None:
    later = two_frame_plan(tmp_path / "images")
    assert later.push_id == plan.push_id
    assert later.tasks[0].name != plan.tasks[0].name
    fewer = two_frame_plan(tmp_path / "images", now=NOON, already_pushed={"s1"})
    assert fewer.push_id != plan.push_id
    assert fewer.boxes == 3


def small_plan(tmp_path: Path, decision: dict[str, Any], *points: float, **more: Any) -> PushPlan:
    store = make_images(tmp_path / "images", ["a/x.png"])
    found = suggestion("s1", "a/x.png", points or [1, 1, 9, 9], task="T", **more)
    return plan_push(
        [found], {"s1": decision}, make_snapshot([("a/x.png", "T")]), store, model="m", classes=CLASSES, now=NOON
    )


def test_plan__decision_overrides_class_and_points(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, accept("s1", object_class="dandelion", points=[2, 2, 8, 8]))
    shape = plan.tasks[0].shapes[0]
    assert (shape.object_class, shape.points, shape.score) == ("dandelion", (2.0, 2.0, 8.0, 8.0), 0.75)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("swapped_class", "annotation 17 (cleavers) should be a class of no label"),
        ("bad_location", "annotation 17 (cleavers) should lie at [1.0, 1.0, 9.0, 9.0]"),
        ("spurious", "annotation 17 (cleavers) at [1.0, 1.0, 9.0, 9.0] should be removed"),
        ("of next year", "a suggestion of kind 'of next year', which this version cannot send"),
    ],
)
def test_plan__corrections_are_listed_and_not_sent(tmp_path: Path, kind: str, told: str) -> None:
    store = make_images(tmp_path / "images", ["a/x.png"])
    more = {"annotation_id": "17", "annotation_class": "cleavers", "kind": kind}
    found = [
        suggestion("s1", "a/x.png", [1, 1, 9, 9], task="T", kind="missing"),
        # Not even a class without a label or an image without a file is in the way.
        {
            **suggestion("s2", "gone.png", [1, 1, 9, 9], task="T"),
            **more,
            "object_class": "a class of no label",
            "frame": 7,
        },
        {**suggestion("s3", "a/x.png", [1, 1, 9, 9], task="T"), **more},
    ]
    decisions = {"s1": accept("s1"), "s2": accept("s2"), "s3": {**accept("s3"), "verdict": "reject"}}
    plan = plan_push(found, decisions, make_snapshot([("a/x.png", "T")]), store, model="m", classes=CLASSES, now=NOON)
    assert [shape.suggestion_id for task in plan.tasks for shape in task.shapes] == ["s1"]
    assert [one.where for one in plan.corrections] == ["task T, frame 7 (gone.png), suggestion s2"]
    assert "1 accepted corrections of existing annotations are not sent" in plan.summary()
    assert told in plan.summary()


@pytest.mark.parametrize("kind", ["swapped_class", "bad_location"])
def test_plan__a_correction_tells_both_changes(tmp_path: Path, kind: str) -> None:
    more = {"annotation_id": "17", "annotation_class": "cleavers", "object_class": "dandelion", "kind": kind}
    found = [{**suggestion("s1", "a/x.png", [1, 1, 9, 9], task="T", frame=0), **more}]
    changed = accept("s1", object_class="nettle", points=[2, 2, 8, 8])
    plan = plan_push(found, {"s1": changed}, make_snapshot([]), make_images(tmp_path, []), model="m", classes=CLASSES)
    first, second = ("be nettle", "lie at [2.0, 2.0, 8.0, 8.0]")[:: 1 if kind == "swapped_class" else -1]
    assert [str(one) for one in plan.corrections] == [
        f"task T, frame 0 (a/x.png), suggestion s1: annotation 17 (cleavers) should {first} and {second}"
    ]


@pytest.mark.parametrize(
    ("points", "sent", "told"),
    [
        ((9, 9, 1, 1), (1, 1, 9, 9), "corners put in order"),
        ((-5, 3, 9, 9), (0, 3, 9, 9), "cut at the frame's border"),
        ((5, 5, 5, 9), None, "has no area"),
        ((100, 100, 120, 120), None, "outside the frame"),
        ((1, 1, float("nan"), 9), None, "finite numbers"),
    ],
)
def test_plan__boxes_are_checked_here(
    tmp_path: Path, points: tuple[float, ...], sent: tuple[float, ...] | None, told: str
) -> None:
    plan = small_plan(tmp_path, accept("s1"), *points)
    assert told in plan.summary()
    assert [shape.points for task in plan.tasks for shape in task.shapes] == ([sent] if sent else [])


def test_plan__class_without_a_label(tmp_path: Path) -> None:
    with pytest.raises(CvatError, match=r"no label 'cleaver' \(did you mean 'cleavers'\?\)"):
        small_plan(tmp_path, accept("s1"), object_class="cleaver")


def test_plan__missing_unknown_or_other_image(tmp_path: Path) -> None:
    store = make_images(tmp_path / "images", ["a/x.png"], size=(32, 24))
    found = [suggestion("s1", "a/x.png", [1, 1, 9, 9], task="T"), suggestion("s2", "b/y.png", [1, 1, 9, 9], task="T")]
    both = make_snapshot([("a/x.png", "T"), ("b/y.png", "T")])
    with pytest.raises(CvatError, match=r"1 images to push cannot be read: b/y\.png"):
        plan_push(found, {"s2": accept("s2")}, both, store, model="m", classes=CLASSES)
    with pytest.raises(CvatError, match="32 x 24, annotated as 64 x 48"):
        plan_push(found, {"s1": accept("s1")}, both, store, model="m", classes=CLASSES)
    with pytest.raises(CvatError, match=r"not in snapshot snap1: b/y\.png"):
        plan_push(found, {"s2": accept("s2")}, make_snapshot([("a/x.png", "T")]), store, model="m", classes=CLASSES)


def test_plan__nothing_is_sent_twice_to_one_place(tmp_path: Path) -> None:
    """By the place of what was sent, whatever its id and class, and of two models' boxes once."""
    new = {"run_id": "second", "snapshot_id": "n2"}
    store = make_images(tmp_path / "images", ["a/x.png", "a/y.png"])
    old = suggestion("old", "a/x.png", [0, 0, 5, 5], task="T", run_id="first", snapshot_id="n1")
    found = [
        suggestion("again", "a/x.png", [1, 1, 9, 10], task="T", **new, object_class="dandelion"),
        suggestion("other frame", "a/y.png", [1, 1, 9, 9], task="T", **new),
        suggestion("z", "a/x.png", [30, 10, 50, 30], task="T", **new),
        suggestion("twin of z", "a/x.png", [31, 10, 50, 30], task="T", **new),
        suggestion("carried", "a/x.png", [31, 11, 50, 30], task="T", run_id="first", snapshot_id="n1"),
        suggestion("turned", "a/x.png", [9, 9, 1, 1], task="T", **new),
        suggestion("no box", "a/x.png", [1, 1, float("nan"), 9], task="T", **new),
    ]
    # Accepted with another box, sent so, and taken back later: it stands on CVAT all the same.
    entries = [accept("old", points=[1, 1, 9, 9]), {"suggestion_id": "old", "verdict": "undo"}]
    sent = pushed_places({"old"}, [old, found[1]], entries)
    assert sent == [{"_id": "old", "img_path": "a/x.png", "points": [1, 1, 9, 9]}]
    plan = plan_push(
        found,
        {one["_id"]: accept(one["_id"]) for one in found},
        make_snapshot([("a/x.png", "T"), ("a/y.png", "T")]),
        store,
        model="m",
        classes=CLASSES,
        now=NOON,
        pushed_places=sent,
    )
    assert [shape.suggestion_id for shape in plan.tasks[0].shapes] == ["twin of z", "z", "other frame"]
    told = plan.summary()
    for name in ("again", "turned"):
        assert f"suggestion {name} on a/x.png: a box was sent there before (suggestion old); not sent again" in told
    assert "suggestion carried on a/x.png: suggestion z of another look lies there and is sent; this one" in told
    assert "suggestion no box on a/x.png: " in told


def test_plan__name_too_long(tmp_path: Path) -> None:
    with pytest.raises(CvatError, match="up to 256 characters"):
        two_frame_plan(tmp_path, task_prefix="x" * 250)


# -- sending ---------------------------------------------------------------------------------------------------------


def test_dry_run_sends_nothing(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = MemoryJournal()
    with pytest.raises(CvatError, match=r"dry run: nothing was sent\. 4 boxes on 3 frames"):
        send(plan, client, journal=journal)
    assert server.writes == []
    assert journal.documents == []


def test_nothing_accepted(client: CvatClient, tmp_path: Path) -> None:
    plan = small_plan(tmp_path, {"verdict": "reject"})
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
