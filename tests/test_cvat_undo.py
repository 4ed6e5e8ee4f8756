"""Undoing a push: exactly what it created goes; what somebody made of it stays and is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cvat.client import CvatClient, NoAnswerError
from obdb_lib.cvat.push import PushPlan, StoreJournal, plan_push, pushed_suggestions, send
from obdb_lib.cvat.undo import undo_push
from obdb_lib.errors import CvatError
from obdb_lib.store import Store
from tests.cvat_server import Fault, StandIn
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


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


@pytest.fixture
def plan(tmp_path: Path) -> PushPlan:
    return two_frame_plan(tmp_path / "images")


def first_job(server: StandIn) -> Any:
    return next(iter(server.world.jobs.values()))


def sent(client: CvatClient, plan: PushPlan) -> MemoryJournal:
    journal = MemoryJournal()
    send(plan, client, journal=journal, confirm=True)
    return journal


def test_dry_run_deletes_nothing(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = sent(client, plan)
    writes, notes = len(server.writes), len(journal.documents)
    result = undo_push(client, plan.push_id, journal=journal)
    assert not result.done
    assert len(server.writes) == writes
    assert len(journal.documents) == notes
    assert result.table()[["act", "boxes", "kept", "added"]].to_numpy().tolist() == [
        ["delete task", 3, 0, 0],
        ["delete task", 1, 0, 0],
    ]
    assert result.summary().startswith("2 tasks, and 0 boxes of 0 tasks that stay, would be deleted")
    assert "Dry run: nothing was deleted" in result.summary()


def test_tasks_of_the_push_go_and_nothing_else(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    other = client.create_task("somebody's", labels=["x"])["id"]
    journal = sent(client, plan)
    assert pushed_suggestions(journal.documents) == {"s1", "s2", "s3", "s4"}
    result = undo_push(client, plan.push_id, journal=journal, confirm=True)
    assert result.done
    assert list(server.world.tasks) == [other]
    assert pushed_suggestions(journal.documents) == set()
    steps = [("undo_task", "before"), ("undo_task", "after"), ("undone", "after")]
    assert journal.steps()[-6:] == steps * 2


def test_repeated_undo_changes_nothing_and_says_so(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = sent(client, plan)
    undo_push(client, plan.push_id, journal=journal, confirm=True)
    writes, notes = len(server.writes), len(journal.documents)
    again = undo_push(client, plan.push_id, journal=journal, confirm=True)
    assert (len(server.writes), len(journal.documents)) == (writes, notes)
    assert [task.act for task in again.tasks] == ["undone before"] * 2
    assert again.summary().count("was undone before") == 2


def test_after_an_undo_the_same_plan_can_be_sent_and_undone_again(
    server: StandIn, client: CvatClient, plan: PushPlan
) -> None:
    journal = sent(client, plan)
    for _ in range(2):
        undo_push(client, plan.push_id, journal=journal, confirm=True)
        assert server.world.tasks == {}
        send(plan, client, journal=journal, confirm=True)
        assert len(stored_shapes(server)) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"points": [7, 7, 17, 17]}, "place changed since"),
        ({"label_id": 2}, "class changed since"),
        ({"occluded": True}, "occlusion changed since"),
        ({"source": "semi-auto"}, "source changed since"),
        ({"rotation": 30}, "place changed since"),
    ],
)
def test_a_changed_box_stays_with_its_task(
    server: StandIn, client: CvatClient, plan: PushPlan, change: dict[str, Any], told: str
) -> None:
    journal = sent(client, plan)
    first_job(server).shapes[0].update(change)
    kept_id = first_job(server).shapes[0]["id"]
    result = undo_push(client, plan.push_id, journal=journal, confirm=True)
    assert [task.act for task in result.tasks] == ["delete boxes", "delete task"]
    assert [shape["id"] for shape in stored_shapes(server)] == [kept_id]
    assert f"stays: {told}" in result.summary()
    assert pushed_suggestions(journal.documents) == {"s1"}
    with pytest.raises(CvatError, match=r"was undone, but 1 of its boxes still stand.*suggestions s1.*Plan again"):
        send(plan, client, journal=journal, confirm=True)


def test_a_task_with_a_persons_boxes_stays(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = sent(client, plan)
    task_id = next(iter(server.world.tasks))
    label = client.labels(task_id=task_id)[0]["id"]
    client.add_shapes(task_id, [{"type": "rectangle", "frame": 0, "label_id": label, "points": [9, 9, 19, 19]}])
    result = undo_push(client, plan.push_id, journal=journal, confirm=True)
    assert [shape["source"] for shape in stored_shapes(server)] == ["manual"]
    assert list(server.world.tasks) == [task_id]
    assert "kept, as somebody added 1 annotations to it" in result.summary()


def test_tags_and_tracks_of_a_person_keep_a_task(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = sent(client, plan)
    task_id = next(iter(server.world.tasks))
    label = client.labels(task_id=task_id)[0]["id"]
    path = f"tasks/{task_id}/annotations"
    client.request("PATCH", path, body={"tags": [{"frame": 0, "label_id": label}]}, action="create")
    result = undo_push(client, plan.push_id, journal=journal)
    assert (result.tasks[0].act, result.tasks[0].added) == ("delete boxes", 1)


def test_changed_attributes_keep_a_box_and_defaults_do_not(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    spec = {"name": "stage", "input_type": "select", "default_value": "2 leaves", "values": ["2 leaves", "4 leaves"]}
    labels = [{"name": name, "attributes": [spec]} for name in CLASSES]
    project = client.request("POST", "projects", body={"name": "weeds", "labels": labels})["id"]
    plan, journal = two_frame_plan(tmp_path), MemoryJournal()
    send(plan, client, journal=journal, confirm=True, project_id=project)
    assert [task.act for task in undo_push(client, plan.push_id, journal=journal).tasks] == ["delete task"] * 2
    number = client.labels(project_id=project)[0]["attributes"][0]["id"]
    first_job(server).shapes[0]["attributes"] = [{"spec_id": number, "value": "4 leaves"}]
    assert "attributes changed since" in undo_push(client, plan.push_id, journal=journal).summary()


def test_boxes_added_to_a_task_that_was_there_go_alone(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """The task is found by its name and was not made by this push, as far as the journal knows."""
    sent(client, plan)
    job = first_job(server)
    del job.shapes[0]
    journal = MemoryJournal()
    send(plan, client, journal=journal, confirm=True)
    undo_push(client, plan.push_id, journal=journal, confirm=True)
    assert len(server.world.tasks) == 2
    assert len(stored_shapes(server)) == 3


def test_a_push_cut_off_is_undone(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    for kind in ("drop_before", "drop_after"):
        for skip in range(20):
            journal = MemoryJournal()
            server.faults[:] = [Fault("*", "", kind=kind, skip=skip)]
            with pytest.raises(NoAnswerError):
                send(plan, client, journal=journal, confirm=True)
            if journal.documents:
                undo_push(client, plan.push_id, journal=journal, confirm=True)
            assert server.world.tasks == {}, (kind, skip)


def test_a_completed_task_is_told(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = sent(client, plan)
    for job in client.list_all("jobs"):
        client.request("PATCH", f"jobs/{job['id']}", body={"stage": "acceptance", "state": "completed"})
    summary = undo_push(client, plan.push_id, journal=journal).summary()
    assert summary.count("was completed by somebody and goes all the same") == 2


def test_a_task_that_is_gone_is_told(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = sent(client, plan)
    client.delete_task(next(iter(server.world.tasks)))
    result = undo_push(client, plan.push_id, journal=journal, confirm=True)
    assert [task.act for task in result.tasks] == ["gone", "delete task"]
    assert "is not there any more" in result.summary()
    assert pushed_suggestions(journal.documents) == set()


def test_unknown_push(client: CvatClient, plan: PushPlan) -> None:
    with pytest.raises(CvatError, match=r"no push 'nope', and it is empty"):
        undo_push(client, "nope", journal=MemoryJournal())
    journal = sent(client, plan)
    with pytest.raises(CvatError, match=rf"no push 'nope'; the latest are {plan.push_id}"):
        undo_push(client, "nope", journal=journal)
    with StandIn() as other, pytest.raises(CvatError, match="connect there to undo it"):
        undo_push(log_in(other), plan.push_id, journal=journal)


def test_a_plan_that_went_on_in_its_predecessors_task_takes_it_back(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", ["a/x.png"])
    found = [suggestion(f"s{i}", "a/x.png", [10 * i, 1, 10 * i + 9, 30], task="T") for i in range(3)]
    journal, snapshot = StoreJournal(store), make_snapshot([("a/x.png", "T")])

    def plan(count: int) -> PushPlan:
        decisions = {f"s{i}": accept(f"s{i}") for i in range(count)}
        return plan_push(found, decisions, snapshot, images, model="m", classes=CLASSES)

    server.faults.append(Fault("PATCH", "annotations", kind="drop_after"))
    with pytest.raises(NoAnswerError):
        send(plan(2), client, journal=journal, confirm=True)
    send(plan(3), client, journal=journal, confirm=True)
    assert len(server.world.tasks) == 1
    result = undo_push(client, plan(3).push_id, journal=journal, confirm=True)
    assert [task.act for task in result.tasks] == ["delete task"]
    assert server.world.tasks == {}
