"""Pulling into a store: only what changed, job by job, whole tasks, images from where they are, and an account."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.pull import pull_into, pull_tasks
from obdb_lib.cvat.pull_jobs import JobFilter, job_filter
from obdb_lib.cvat.pull_summary import PullSummary
from obdb_lib.errors import CvatError
from obdb_lib.store import Store
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.helpers import log_in, make_images
from tests.one_database import emptied_store, one_database  # noqa: F401 - fixtures
from tests.test_cvat_pull import draw, make_cvat_task


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


def read_again(server: StandIn) -> list[str]:
    """Annotation requests since this was last asked."""
    found = [path for method, path in server.log if method == "GET" and "annotations" in path]
    server.log.clear()
    return found


def kinds(summary: PullSummary) -> dict[str, str]:
    return {change.name: change.kind for change in summary.changes} | dict.fromkeys(summary.not_read, "not read")


def two_jobs(client: CvatClient, root: Path, name: str, *images: str, size: int = 2, overlap: int = 0) -> int:
    """A task in jobs of ``size`` frames."""
    store = make_images(root, images)
    body = {"name": name, "labels": [{"name": "cleavers"}], "segment_size": size, "overlap": overlap}
    number = int(client.request("POST", "tasks", body=body)["id"])
    client.wait(client.upload(number, [store.path(image) for image in images]))
    return number


# -- incremental -----------------------------------------------------------------------------------------------------


def test_only_changed_tasks_are_read_again(server: StandIn, client: CvatClient, store: Store, tmp_path: Path) -> None:
    numbers = [make_cvat_task(client, tmp_path, name, "a.png", "b.png") for name in ("one", "two", "three")]
    for number in numbers:
        draw(client, number, {"points": [1, 1, 20, 20]}, {"frame": 1, "points": [5, 5, 25, 25]})
    assert kinds(pull_into(store, client, jobs="all")) == dict.fromkeys(("one", "two", "three"), "added")
    read_again(server)
    assert kinds(pull_into(store, client, jobs="all")) == dict.fromkeys(("one", "two", "three"), "not read")
    assert read_again(server) == []
    [drawn] = draw(client, numbers[0], {"points": [30, 1, 50, 20]})
    [shape, other] = client.annotations(numbers[1])["shapes"]
    moved = {**shape, "points": [2, 2, 22, 22]}
    client.request("PATCH", f"tasks/{numbers[1]}/annotations", body={"shapes": [moved]}, action="update")
    client.delete_shapes(numbers[1], [other])
    read_again(server)
    summary = pull_into(store, client, jobs="all")
    assert kinds(summary) == {"one": "changed", "two": "changed", "three": "not read"}
    asked = sorted("".join(re.findall(r"tasks/(\d+)", path)) for path in read_again(server))
    assert asked == ["1", "2"]  # several are read at once, in any order
    one, two = summary.changes
    assert (len(one.boxes_added), len(one.boxes_changed), len(one.boxes_removed)) == (1, 0, 0)
    assert (len(two.boxes_added), len(two.boxes_changed), len(two.boxes_removed)) == (0, 1, 1)
    by_id = {str(a["_id"]): a for a in store.record("one").annotations}
    assert by_id[one.boxes_added[0]]["cvat_id"]["shape"] == drawn["id"]
    assert [a["points"] for a in store.record("two").annotations] == [[2, 2, 22, 22]]
    forced = pull_into(store, client, jobs="all", force=True)
    assert kinds(forced) == dict.fromkeys(("one", "two", "three"), "unchanged")
    assert len(read_again(server)) == 3


def test_what_makes_a_task_be_read_again(server: StandIn, client: CvatClient, store: Store, tmp_path: Path) -> None:
    """Options, a job's state, labels of the project, a task of the same name from elsewhere, a lost image."""
    body = {"name": "p", "labels": [{"name": "weed"}]}
    project = client.request("POST", "projects", body=body)["id"]
    number = make_cvat_task(client, tmp_path, "T", "a.png", project_id=project)
    draw(client, number, {"points": [1, 1, 20, 20]})
    options: dict[str, Any] = {"jobs": "all", "image_root": tmp_path / "down"}

    def is_read() -> bool:
        read_again(server)
        pull_into(store, client, **options)
        return bool(read_again(server))

    assert [is_read(), is_read()] == [True, False]
    options["tracks"] = "linear"
    assert [is_read(), is_read()] == [True, False]
    [job] = client.jobs(number)
    updated = server.world.tasks[number].updated
    client.request("PATCH", f"jobs/{job['id']}", body={"state": "in progress"})
    server.world.tasks[number].updated = updated  # a real server leaves it, too
    assert [is_read(), is_read()] == [True, False]
    label = client.labels(project_id=project)[0]["id"]
    client.request("PATCH", f"labels/{label}", body={"name": "herb"})
    assert [is_read(), is_read()] == [True, False]
    assert {a["object_class"] for a in store.record("T").annotations} == {"herb"}
    record = store.record("T")
    store.put_tasks([type(record)({**record.task, "pulled": None}, record.meta, [])])  # as an import of files does
    assert [is_read(), is_read()] == [True, False]
    (tmp_path / "down/T/a.png").unlink()
    assert [is_read(), is_read()] == [True, False]
    Image.new("RGB", (9, 9)).save(tmp_path / "down/T/a.png")  # of another size than its boxes were drawn on
    assert [is_read(), is_read()] == [True, False]
    assert (tmp_path / "down/T/a.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_tasks_gone_from_cvat_are_told_and_kept_unless_removal_is_asked_for(
    client: CvatClient, store: Store, tmp_path: Path
) -> None:
    numbers = {name: make_cvat_task(client, tmp_path, name, "a.png") for name in ("stays", "deleted", "renamed")}
    pull_into(store, client, jobs="all")
    from tests.helpers import task

    store.put_tasks([task()])  # not from CVAT: none of its business
    client.delete_task(numbers["deleted"])
    client.request("PATCH", f"tasks/{numbers['renamed']}", body={"name": "new name"})
    summary = pull_into(store, client, jobs="all")
    assert {(one.name, one.why) for one in summary.gone} == {
        ("deleted", "deleted"),
        ("renamed", "renamed to 'new name'"),
    }
    assert summary.names == ["new name", "stays"]
    assert store.task_names() == sorted(["stays", "deleted", "renamed", "new name", task().name])
    assert pull_into(store, client, jobs="all", names=["stays"], gone="remove").gone == []
    summary = pull_into(store, client, jobs="all", gone="remove")
    assert kinds(summary)["deleted"] == kinds(summary)["renamed"] == "removed"
    assert summary.names == ["new name", "stays"]
    assert store.task_names() == sorted(["stays", "new name", task().name])
    with pytest.raises(CvatError, match="gone='delete' is not known"):
        pull_into(store, client, gone="delete")


def test_a_task_that_the_account_may_not_see_any_more_is_never_removed(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path
) -> None:
    number = make_cvat_task(client, tmp_path, "T", "a.png")
    pull_into(store, client, jobs="all")
    server.world.users[1].superuser = False
    server.world.tasks[number].owner = server.world.add_user("other", "p")
    summary = pull_into(store, client, jobs="all", gone="remove")
    assert [(one.name, one.certain) for one in summary.gone] == [("T", False)]
    assert "hidden from this account" in summary.gone[0].why
    assert store.task_names() == ["T"]


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_jobs_that_do_not_count_stay_out_with_their_frames(client: CvatClient, store: Store, tmp_path: Path) -> None:
    number = two_jobs(client, tmp_path, "T", "a.png", "b.png", "c.png", "d.png")
    draw(client, number, *[{"frame": frame, "points": [frame, 1, 20 + frame, 20]} for frame in range(4)])
    first, second = client.jobs(number)
    done = {"stage": "acceptance", "state": "completed"}
    client.request("PATCH", f"jobs/{second['id']}", body=done)
    summary = pull_into(store, client)
    record = store.record("T")
    assert [frame["name"] for frame in record.meta["frames"]] == ["T/c.png", "T/d.png"]
    assert [(a["frame"], a["img_path"], a["points"][0]) for a in record.annotations] == [
        (0, "T/c.png", 2.0),
        (1, "T/d.png", 3.0),
    ]
    assert "2 frames of jobs that do not count yet left out" in str(summary.problems[0])
    client.request("PATCH", f"jobs/{first['id']}", body=done)
    [change] = pull_into(store, client).changes
    assert (len(change.frames_added), len(change.boxes_added), len(change.boxes_removed)) == (2, 2, 0)
    client.request("PATCH", f"jobs/{first['id']}", body={"stage": "validation", "state": "in progress"})
    client.request("PATCH", f"jobs/{second['id']}", body={"stage": "annotation", "state": "completed"})
    summary = pull_into(store, client)
    assert (summary.waiting, summary.names) == (["T"], [])
    assert len(store.record("T").annotations) == 4, "what was pulled before is kept"
    for jobs, frames in {
        "validation": [0, 1],
        "in progress, validation": [0, 1],
        "state:completed": [2, 3],
        "stage:annotation": [2, 3],
        "annotation, validation": [0, 1, 2, 3],
    }.items():
        [found] = pull_tasks(client, jobs=jobs).tasks
        assert [a["cvat_id"]["frame"] for a in found.annotations] == frames, jobs
    with pytest.raises(CvatError, match=r"jobs='done' does not say which jobs: wanted 'completed', 'all', or states"):
        pull_tasks(client, jobs="done")
    assert job_filter("completed") == JobFilter(("completed",), ("acceptance",))


def test_a_frame_of_two_jobs_is_taken_once(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    number = two_jobs(client, tmp_path, "T", "a.png", "b.png", "c.png", "d.png", "e.png", size=2)
    jobs = [server.world.jobs[job["id"]] for job in client.jobs(number)]
    jobs[1].start = 1  # frame 1 belongs to both the first and the second job
    label = client.labels(task_id=number)[0]["id"]
    for job, frames in ((jobs[0], (0, 1)), (jobs[1], (1, 2, 3)), (jobs[2], (4,))):
        shapes = [{"type": "rectangle", "label_id": label, "frame": f, "points": [f, 1, 20 + f, 20]} for f in frames]
        client.request("PATCH", f"jobs/{job.id}/annotations", body={"shapes": shapes}, action="create")
        job.stage, job.state = ("acceptance", "completed") if job is not jobs[2] else ("annotation", "new")
    [found] = pull_tasks(client).tasks
    assert [a["cvat_id"]["frame"] for a in found.annotations] == [0, 1, 2, 3]


def test_ground_truth_jobs_are_no_annotations_of_the_task(
    client: CvatClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = make_cvat_task(client, tmp_path, "T", "a.png")
    listed = CvatClient.jobs
    truth = {"id": 99, "task_id": number, "type": "ground_truth", "state": "completed", "stage": "acceptance"}
    truth |= {"start_frame": 0, "stop_frame": 0}
    monkeypatch.setattr(CvatClient, "jobs", lambda self, task_id=None: [*listed(self, task_id), truth])
    assert pull_tasks(client).tasks == []


# -- shapes ----------------------------------------------------------------------------------------------------------


def track(label: int, *keyframes: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"type": "rectangle", "outside": False, "occluded": False}
    return {"label_id": label, "frame": keyframes[0]["frame"], "shapes": [{**base, **k} for k in keyframes], **more}


def test_tracks_between_keyframes(client: CvatClient, tmp_path: Path) -> None:
    images = [f"{number}.png" for number in range(8)]
    number = make_cvat_task(client, tmp_path, "T", *images)
    label = client.labels(task_id=number)[0]["id"]
    moving = track(
        label,
        {"frame": 0, "points": [0, 0, 10, 10]},
        {"frame": 4, "points": [20, 8, 34, 18], "occluded": True},
        {"frame": 6, "points": [20, 8, 34, 18], "outside": True},
    )
    ending = track(label, {"frame": 5, "points": [40, 30, 50, 40]})
    client.request("PATCH", f"tasks/{number}/annotations", body={"tracks": [moving, ending]}, action="create")
    [plain] = pull_tasks(client, only_completed=False).tasks
    assert [(a["frame"], a["points"]) for a in plain.annotations] == [
        (0, [0, 0, 10, 10]),
        (4, [20, 8, 34, 18]),
        (5, [40, 30, 50, 40]),
    ]
    [linear] = pull_tasks(client, only_completed=False, tracks="linear").tasks
    got = {(a["frame"], a["cvat_id"]["track"]): (a["points"], a["occluded"]) for a in linear.annotations}
    assert got == {
        (0, 1): ([0, 0, 10, 10], False),
        (1, 1): ([5, 2, 16, 12], False),
        (2, 1): ([10, 4, 22, 14], False),
        (3, 1): ([15, 6, 28, 16], False),
        (4, 1): ([20, 8, 34, 18], True),
        (5, 1): ([20, 8, 34, 18], True),
        **{(frame, 2): ([40, 30, 50, 40], False) for frame in (5, 6, 7)},
    }
    with pytest.raises(CvatError, match="tracks='all' is not known"):
        pull_tasks(client, tracks="all")


def test_tracks_turn_the_short_way(client: CvatClient, tmp_path: Path) -> None:
    number = make_cvat_task(client, tmp_path, "T", "0.png", "1.png", "2.png")
    label = client.labels(task_id=number)[0]["id"]
    box = {"points": [10, 10, 30, 20]}
    turning = track(label, {"frame": 0, "rotation": 350, **box}, {"frame": 2, "rotation": 10, **box})
    client.request("PATCH", f"tasks/{number}/annotations", body={"tracks": [turning]}, action="create")
    [record] = pull_tasks(client, only_completed=False, tracks="linear").tasks
    assert [a.get("rotation") for a in record.annotations] == [350, None, 10]
    assert record.annotations[1]["points"] == [10, 10, 30, 20]


def test_attributes_tags_and_rotation_are_kept(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path
) -> None:
    images = make_images(tmp_path, ["a.png", "b.png"])
    spec = {"name": "stage", "input_type": "select", "mutable": True, "default_value": "2", "values": ["2", "4"]}
    labels = [{"name": "cleavers", "attributes": [spec]}, {"name": "wet soil"}]
    number = int(client.request("POST", "tasks", body={"name": "T", "labels": labels})["id"])
    client.wait(client.upload(number, [images.path("a.png"), images.path("b.png")]))
    label, soil = client.labels(task_id=number)
    given = {"spec_id": label["attributes"][0]["id"], "value": "4"}
    draw(client, number, {"points": [10, 10, 30, 20], "rotation": 90, "attributes": [given], "occluded": True})
    tag = {"frame": 1, "label_id": soil["id"]}
    client.request("PATCH", f"tasks/{number}/annotations", body={"tags": [tag]}, action="create")
    pull_into(store, client, jobs="all")
    record = store.record("T")
    [box] = record.annotations
    assert box["attributes"] == [given]
    assert record.task["labels"][0]["attributes"][0]["name"] == "stage"
    assert (box["rotation"], box["box"], box["occluded"]) == (90.0, [10, 10, 30, 20], True)
    assert record.meta["frames"][0] == {"name": "T/a.png", "width": 64, "height": 48}
    assert record.meta["frames"][1]["tags"] == [{"name": "wet soil", "attributes": []}]
    client.request("PUT", f"tasks/{number}/annotations", body={"shapes": [], "tags": [], "tracks": []})
    server.world.tasks[number].updated = server.world.now()  # as a real server does, whatever is deleted
    [change] = pull_into(store, client, jobs="all").changes
    assert (change.frames_changed, len(change.boxes_removed)) == (("T/b.png",), 1)


def test_frames_of_a_video_are_told_apart(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    number = make_cvat_task(client, tmp_path, "T", "0.png", "1.png", "2.png")
    draw(client, number, {"frame": 2, "points": [1, 1, 20, 20]})
    meta = client.meta(number)
    video = {**meta, "frames": [{**meta["frames"][0], "name": "GH1.mp4"}]}
    server.faults.append(Fault("GET", "data/meta", kind="answer", answer=_json(video)))
    [record] = pull_tasks(client, only_completed=False).tasks
    assert [frame["name"] for frame in record.meta["frames"]] == [f"T/frame_00000{number}.png" for number in range(3)]
    assert [a["img_path"] for a in record.annotations] == ["T/frame_000002.png"]


def _json(value: Any) -> Any:
    from tests.cvat_server.answers import as_json

    return as_json(value)
