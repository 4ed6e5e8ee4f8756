"""Merging verified auto tasks into ground truth on the stand-in: what is added, what is told, what stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.merge import frame_loader, merge, plan_merge
from obdb_lib.cvat.pull import pull_into
from obdb_lib.cvat.push import StoreJournal, pushed_suggestions, undo_push
from obdb_lib.cvat.push_journal import merged_tasks
from obdb_lib.errors import CvatError
from obdb_lib.store import Store
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import MemoryJournal, log_in
from tests.cvat_server.merge_world import PREFIX, add, complete, make_task, shapes_of, verified_world

NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
DATED = f"{PREFIX}_2026_05_20_12_00_00"
ADDED_A = [
    ("img10.png", "cleavers", 1.0, 2.0, 20.13, 30.0),
    ("img10.png", "dandelion", 30.0, 5.0, 50.0, 40.0),
    ("img2.png", "cleavers", 3.0, 3.0, 13.0, 13.0),
]
ADDED_B = [("day__1L__GH2__img2.png", "cleavers", 4.0, 4.0, 14.0, 14.0)]


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def truth(server: StandIn, client: CvatClient, tmp_path: Path, journal: MemoryJournal) -> tuple[int, int]:
    return verified_world(server, client, tmp_path, journal, now=NOON)


def test_dry_run_plans_and_sends_nothing(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    writes, notes = len(server.writes), len(journal.documents)
    plan = plan_merge(client, source_prefix=DATED)
    assert plan.table()[["task", "add", "duplicates", "ambiguous"]].to_numpy().tolist() == [
        ["Field A", 3, 0, 0],
        ["Field B", 1, 0, 0],
    ]
    assert plan.summary().startswith("4 verified boxes to add to 2 ground-truth tasks; 0 stand there already")
    with pytest.raises(CvatError, match=r"dry run: nothing was sent\. 4 verified boxes to add"):
        merge(plan, client, journal=journal)
    assert (len(server.writes), len(journal.documents)) == (writes, notes)


def test_boxes_land_on_their_images(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    """The ground-truth task has one image more, so that frame numbers differ; and bare file names."""
    result = merge(plan_merge(client, source_prefix=DATED), client, journal=journal, confirm=True)
    assert shapes_of(server, truth[0]) == ADDED_A
    assert shapes_of(server, truth[1]) == ADDED_B
    stored = [shape for task in truth for job in server.world.jobs_of(task) for shape in job.shapes]
    assert {shape["source"] for shape in stored} == {"auto"}
    assert sorted(shape["score"] for shape in stored) == [0.75, 0.75, 0.75, 0.9]
    assert result.table()["sent"].tolist() == [3, 1]
    assert result.summary().endswith("pull them no more, or the store has each box twice.")
    assert merged_tasks(journal.documents, client.url) == {3, 4}
    steps = [("shapes", "before"), ("shapes", "after"), ("merged", "after")]
    assert journal.steps()[-6:] == steps * 2


@pytest.mark.parametrize("with_journal", [True, False])
def test_a_second_run_changes_nothing(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal, with_journal: bool
) -> None:
    merge(plan_merge(client, source_prefix=DATED), client, journal=journal, confirm=True)
    writes = len(server.writes)
    noted = journal if with_journal else MemoryJournal()
    plan = plan_merge(client, source_prefix=DATED, journal=noted)
    assert plan.boxes == 0
    counted = (plan.table()["merged_before"].sum(), plan.table()["duplicates"].sum())
    assert counted == ((4, 0) if with_journal else (0, 4))
    assert merge(plan, client, journal=noted, confirm=True).summary().startswith("0 boxes added")
    assert len(server.writes) == writes


def test_the_same_plan_again_changes_nothing(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    plan = plan_merge(client, source_prefix=DATED)
    merge(plan, client, journal=journal, confirm=True)
    writes = len(server.writes)
    merge(plan, client, journal=journal, confirm=True)
    merge(plan, client, journal=MemoryJournal(), confirm=True)
    assert len(server.writes) == writes


def test_by_stable_id_what_somebody_moved_or_deleted_since_is_not_added_again(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    merge(plan_merge(client, source_prefix=DATED), client, journal=journal, confirm=True)
    job = server.world.jobs_of(truth[0])[0]
    job.shapes[0]["points"] = [40, 1, 60, 20]
    del job.shapes[1]
    assert plan_merge(client, source_prefix=DATED, journal=journal).boxes == 0
    assert plan_merge(client, source_prefix=DATED).boxes == 2, "without the journal nobody knows"


@pytest.mark.parametrize(("min_iou", "added"), [(0.7, 2), (0.9, 3)])
def test_iou_from_which_boxes_are_one_is_settable(
    client: CvatClient, truth: tuple[int, int], min_iou: float, added: int
) -> None:
    add(client, truth[0], 2, "cleavers", [3, 3, 13, 12])  # IoU 0.9 with the verified box... exactly 90 of 100
    add(client, truth[0], 1, "cleavers", [1, 2, 20.13, 26])  # 24 of 28 rows: 0.857
    plan = plan_merge(client, source_prefix=DATED, min_iou=min_iou)
    assert plan.tasks[0].duplicates == (2 if min_iou == 0.7 else 1)
    assert plan.boxes == added


@pytest.mark.parametrize("min_iou", [0.0, 1.5])
def test_iou_out_of_range(client: CvatClient, min_iou: float) -> None:
    with pytest.raises(CvatError, match=r"min_iou must be above 0 and at most 1"):
        plan_merge(client, min_iou=min_iou)


def test_another_class_at_the_place_is_listed_and_not_guessed(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    add(client, truth[0], 2, "dandelion", [3, 3, 13, 13])
    plan = plan_merge(client, source_prefix=DATED)
    assert (plan.boxes, len(plan.tasks[0].ambiguous)) == (3, 1)
    assert "1 are ambiguous and not added; decide them in CVAT" in plan.summary()
    assert "another class lies there: dandelion at [3.0, 3.0, 13.0, 13.0]" in plan.summary()
    changes = plan.changes()
    assert changes["act"].tolist() == ["add", "add", "ambiguous", "add"]
    merge(plan, client, journal=journal, confirm=True)
    assert ADDED_A[2] not in shapes_of(server, truth[0])


def test_two_near_boxes_are_listed_and_not_guessed(client: CvatClient, truth: tuple[int, int]) -> None:
    numbers = [add(client, truth[0], 2, "cleavers", points) for points in ([3, 3, 13, 12], [3, 4, 13, 13])]
    plan = plan_merge(client, source_prefix=DATED)
    why = f"lies on 2 of its class: shape {numbers[0]}, shape {numbers[1]}"
    assert [text for _, text in plan.tasks[0].ambiguous] == [why]


def test_tracks_take_their_places_between_keyframes(client: CvatClient, truth: tuple[int, int]) -> None:
    """On img10 (frame 1) a track from frame 0 to frame 2 passes just where the verified box lies."""
    label = client.labels(task_id=truth[0])[0]["id"]
    keys = [
        {"type": "rectangle", "frame": frame, "points": [x, 2, x + 19.13, 30], "outside": False, "attributes": []}
        for frame, x in ((0, -1), (2, 3))
    ]
    track = {"frame": 0, "label_id": label, "shapes": keys, "attributes": []}
    client.request("PATCH", f"tasks/{truth[0]}/annotations", body={"tracks": [track]}, action="create")
    assert plan_merge(client, source_prefix=DATED).tasks[0].duplicates == 1


def test_only_completed_tasks(client: CvatClient, truth: tuple[int, int]) -> None:
    task = client.tasks(f"{DATED}_Field A")[0]
    for job in client.jobs(task["id"]):
        client.request("PATCH", f"jobs/{job['id']}", body={"stage": "validation", "state": "completed"})
    plan = plan_merge(client, source_prefix=DATED)
    assert [one.name for one in plan.tasks] == ["Field B"]
    assert "Field A' (id 3): is not completed on CVAT, left out" in plan.summary()
    assert plan_merge(client, source_prefix=DATED, only_completed=False).boxes == 4


def test_two_ground_truth_tasks_that_match_are_listed(client: CvatClient, truth: tuple[int, int]) -> None:
    twin = make_task(client, "Field A", ["img10.png"])
    plan = plan_merge(client, source_prefix=DATED)
    assert [one.name for one in plan.tasks] == ["Field B"]
    assert f"could belong to 2 ground-truth tasks, left out: 'Field A' (id {truth[0]}); 'Field A' (id {twin})" in (
        plan.summary()
    )


def test_target_as_upstream_names_it(server: StandIn, client: CvatClient, truth: tuple[int, int]) -> None:
    """``-m gt_val``: the ground-truth tasks are called gt_val_Field_A, gt_train_Field_A ..."""
    val = make_task(client, "gt_val_Field_A", ["img10.png", "img2.png"])
    make_task(client, "gt_train_Field_A", ["img10.png", "img2.png"])
    plan = plan_merge(client, source_prefix=DATED, target="gt_val")
    assert [(one.task_id, len(one.shapes)) for one in plan.tasks] == [(val, 3)]
    assert "there is no ground-truth task for 'Field B' whose name contains 'gt_val'" in plan.summary()


def test_prefix_ends_with_a_word(client: CvatClient, truth: tuple[int, int]) -> None:
    with pytest.raises(CvatError, match=r"name begins with 'auto_annotation_resnet1'; did you mean"):
        plan_merge(client, source_prefix="auto_annotation_resnet1")
    assert plan_merge(client).boxes == 4, "the whole of auto_annotation by default"


def test_auto_tasks_of_another_model_are_no_ground_truth(client: CvatClient, truth: tuple[int, int]) -> None:
    other = make_task(client, "auto_annotation_resnet50_2026_05_21_12_00_00_Field A", ["img10.png"])
    complete(client, other)
    assert [one.name for one in plan_merge(client, source_prefix=DATED, target="Field").tasks] == ["Field A", "Field B"]


def test_one_plant_verified_in_two_auto_tasks_is_added_once(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    other = make_task(client, "auto_annotation_resnet50_2026_05_21_12_00_00_Field A", ["img10.png", "img2.png"])
    add(client, other, 1, "cleavers", [3, 3, 13, 12.5])
    add(client, other, 1, "cleavers", [40, 20, 60, 40])
    complete(client, other)
    plan = plan_merge(client)
    assert (len(plan.tasks[0].shapes), plan.tasks[0].duplicates) == (4, 1)
    merge(plan, client, journal=journal, confirm=True)
    assert plan_merge(client).boxes == 0, "nor at the second run"


def test_two_boxes_of_one_task_at_one_place_are_listed(client: CvatClient, truth: tuple[int, int]) -> None:
    auto = client.tasks(f"{DATED}_Field A")[0]["id"]
    add(client, auto, 1, "cleavers", [3, 3, 13, 12.5])
    plan = plan_merge(client, source_prefix=DATED)
    assert (len(plan.tasks[0].shapes), len(plan.tasks[0].ambiguous)) == (2, 2)


def test_missing_label_is_told_before_anything_is_sent(
    server: StandIn, client: CvatClient, truth: tuple[int, int]
) -> None:
    client.delete_task(truth[0])
    make_task(client, "Field A", ["img10.png", "img2.png"], labels=["cleavers", "dandelions"])
    writes = len(server.writes)
    with pytest.raises(CvatError, match=r"has no label 'dandelion' \(did you mean 'dandelions'\?\)"):
        plan_merge(client, source_prefix=DATED)
    assert len(server.writes) == writes


def test_frames_that_are_missing_deleted_or_of_another_size(
    server: StandIn, client: CvatClient, truth: tuple[int, int]
) -> None:
    data = server.world.tasks[truth[0]].data
    assert data is not None
    data.deleted = [1]
    data.frames[2].width = 10
    client.delete_task(truth[1])
    make_task(client, "Field B", ["something.png"])
    plan = plan_merge(client, source_prefix=DATED)
    assert plan.boxes == 0
    told = plan.summary()
    assert "3 boxes left out: 'Field A' has not their images: day__1L__GH1__img10.png: deleted there; " in told
    assert "day__1L__GH1__img2.png: 10 x 48 there, 64 x 48 here" in told
    assert "day__1L__GH2__img2.png: no frame of that name" in told


def test_frames_of_one_bare_name_are_not_guessed(client: CvatClient, truth: tuple[int, int]) -> None:
    client.delete_task(truth[0])
    make_task(client, "Field A", ["a__img10.png", "b__img10.png", "img2.png"])
    assert "day__1L__GH1__img10.png: 2 frames of that name" in plan_merge(client, source_prefix=DATED).summary()


def test_polygons_rotation_occlusion_and_attributes_come_along(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    spec = {"name": "stage", "input_type": "text", "default_value": "", "values": []}
    for task in (truth[0], client.tasks(f"{DATED}_Field A")[0]["id"]):
        server.world.add_label({"name": "thistle", "attributes": [{**spec, "name": f"of {task}"}, spec]}, task_id=task)
    auto = client.tasks(f"{DATED}_Field A")[0]["id"]
    label = next(one for one in client.labels(task_id=auto) if one["name"] == "thistle")
    stage = next(one["id"] for one in label["attributes"] if one["name"] == "stage")
    other = next(one["id"] for one in label["attributes"] if one["name"] != "stage")
    values = [{"spec_id": stage, "value": "4 leaves"}, {"spec_id": other, "value": "unknown there"}]
    add(client, auto, 0, "thistle", [1, 40, 9, 40, 5, 47], type="polygon", occluded=True, attributes=values)
    add(client, auto, 0, "thistle", [40, 40, 50, 45], rotation=30.0)
    merge(plan_merge(client, source_prefix=DATED), client, journal=journal, confirm=True)
    shapes = {shape["type"]: shape for shape in server.world.jobs_of(truth[0])[0].shapes if len(shape["points"]) == 6}
    assert (shapes["polygon"]["occluded"], shapes["polygon"]["points"]) == (True, [1, 40, 9, 40, 5, 47])
    there = next(one for one in client.labels(task_id=truth[0]) if one["name"] == "thistle")
    stage_there = next(one["id"] for one in there["attributes"] if one["name"] == "stage")
    assert shapes["polygon"]["attributes"] == [{"spec_id": stage_there, "value": "4 leaves"}]
    assert [s["rotation"] for s in server.world.jobs_of(truth[0])[0].shapes if s["rotation"]] == [30.0]
    assert plan_merge(client, source_prefix=DATED).boxes == 0


def test_tags_and_tracks_of_the_auto_task_are_told(client: CvatClient, truth: tuple[int, int]) -> None:
    auto = client.tasks(f"{DATED}_Field A")[0]["id"]
    body = {"tags": [{"frame": 0, "label_id": client.labels(task_id=auto)[0]["id"]}]}
    client.request("PATCH", f"tasks/{auto}/annotations", body=body, action="create")
    assert "1 tags left out: only single shapes are merged" in plan_merge(client, source_prefix=DATED).summary()


def test_what_came_to_stand_there_since_the_plan_is_not_sent(
    server: StandIn, client: CvatClient, truth: tuple[int, int], journal: MemoryJournal
) -> None:
    plan = plan_merge(client, source_prefix=DATED)
    add(client, truth[0], 2, "cleavers", [3, 3, 13, 12])
    result = merge(plan, client, journal=journal, confirm=True)
    assert len(shapes_of(server, truth[0])) == 3
    assert "since this was planned; not sent" in result.summary()


def test_a_plan_for_another_server(client: CvatClient, truth: tuple[int, int], journal: MemoryJournal) -> None:
    plan = plan_merge(client, source_prefix=DATED)
    with StandIn() as other, pytest.raises(CvatError, match="plan it again there"):
        merge(plan, log_in(other), journal=journal, confirm=True)


def test_undo_of_a_merge_takes_its_boxes_and_no_others(
    server: StandIn, client: CvatClient, truth: tuple[int, int], store: Store, journal: MemoryJournal
) -> None:
    stored = StoreJournal(store)
    mine = add(client, truth[0], 0, "cleavers", [1, 1, 9, 9])
    plan = plan_merge(client, source_prefix=DATED, journal=stored)
    merge(plan, client, journal=stored, confirm=True)
    moved = server.world.jobs_of(truth[0])[0].shapes[1]
    moved["points"] = [40, 1, 60, 20]
    assert [task.act for task in undo_push(client, plan.merge_id, journal=stored).tasks] == ["delete boxes"] * 2
    result = undo_push(client, plan.merge_id, journal=stored, confirm=True)
    assert "stays: place changed since" in result.summary()
    assert "somebody added" not in result.summary()
    assert [shape["id"] for shape in server.world.jobs_of(truth[0])[0].shapes] == [mine, moved["id"]]
    assert server.world.jobs_of(truth[1])[0].shapes == []
    assert len(server.world.tasks) == 4, "no task goes"
    assert pushed_suggestions(journal.documents) == {"s1", "s2", "s3", "s4"}, "the push stands"
    again = plan_merge(client, source_prefix=DATED, journal=stored)
    assert again.merge_id == plan.merge_id
    assert again.boxes == 3, "what somebody moved is known"
    merge(again, client, journal=stored, confirm=True)
    assert len(shapes_of(server, truth[0])) == 4


def test_jobs_and_parts(server: StandIn, client: CvatClient, tmp_path: Path, journal: MemoryJournal) -> None:
    """Each shape goes through the job of its frame, so many in a request."""
    truth = verified_world(server, client, tmp_path, journal, now=NOON)
    first = server.world.jobs_of(truth[0])[0]
    second = type(first)(server.world.next_id("job"), truth[0], 2, 2, first.created, first.updated)
    first.stop = 1
    server.world.jobs[second.id] = second
    writes = len(server.writes)
    merge(plan_merge(client, source_prefix=DATED), client, journal=journal, confirm=True, shapes_per_request=1)
    paths = [path for _, path in server.writes[writes:]]
    assert [path.split("/")[3] for path in paths] == [str(first.id), str(first.id), str(second.id), "2"]
    assert (len(first.shapes), len(second.shapes)) == (2, 1)


def test_pictures_of_what_would_be_added(client: CvatClient, truth: tuple[int, int]) -> None:
    records = plan_merge(client, source_prefix=DATED).records()
    assert records[0]["points"] == [1.0, 2.0, 20.13, 30.0]
    assert frame_loader(client)(records[0]["img_path"]).shape == (48, 64, 3)


def test_a_pull_leaves_out_what_was_merged(
    client: CvatClient, truth: tuple[int, int], journal: MemoryJournal, store: Store
) -> None:
    merge(plan_merge(client, source_prefix=DATED), client, journal=journal, confirm=True)
    for task_id in truth:
        complete(client, task_id)
    merged = merged_tasks(journal.entries(), client.url)
    found = pull_into(store, client, merged=merged)
    assert found.names == ["Field A", "Field B"]
    assert [problem.what for problem in found.problems] == ["merged into its ground truth, left out"] * 2
    assert store.counts(found.names)["annotations"] == len(ADDED_A) + len(ADDED_B)
    (named, _) = sorted(task["name"] for task in client.tasks() if task["id"] in merged)
    assert pull_into(store, client, names=[named], merged=merged).names == [named]
