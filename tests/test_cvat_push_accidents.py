"""Accidents of a push that a cut connection alone does not show: kills, late work, refusals, boxes that vanish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from obdb_lib.cvat.client import CvatClient, NoAnswerError
from obdb_lib.cvat.push import PushPlan, StoreJournal, pushed_suggestions, send
from obdb_lib.errors import CvatError
from obdb_lib.store import Store
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.answers import server_error
from tests.cvat_server.helpers import (
    CLASSES,
    EXPECTED,
    MemoryJournal,
    arrived,
    log_in,
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


def test_push__boxes_that_arrived_unseen_are_not_sent_again(
    server: StandIn, client: CvatClient, plan: PushPlan
) -> None:
    journal = MemoryJournal()
    server.faults.append(Fault("PATCH", SHAPES, kind="drop_after"))
    with pytest.raises(NoAnswerError):
        send(plan, client, journal=journal, confirm=True)
    result = send(plan, client, journal=journal, confirm=True)
    assert [(task.sent, task.already_there) for task in result.tasks] == [(0, 3), (1, 0)]
    assert sum("annotations" in path for _, path in server.writes) == 2, "one request a task, and nothing to delete"
