"""Round the loop: suggestions, decisions, push to CVAT (the stand-in), a completed task, pull, a new snapshot."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.collect import frames_of
from obdb_lib.cvat.collect import collect_cvat, open_cvat
from obdb_lib.cvat.push import PushPlan, StoreJournal, plan_push, pushed_suggestions, send
from obdb_lib.errors import CvatError
from obdb_lib.frames import FrameStore
from obdb_lib.review import Journal, decide_by_rule
from obdb_lib.store import Store
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import PASSWORD, accept, log_in, stored_shapes, suggestion
from tests.helpers import task, write_frames

TIMES = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(4)]


def test_accepted_boxes_come_round_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = task(frames=3, boxes={0: [("Fat hen", [10, 10, 30, 30])], 1: [("Dandelion", [5, 5, 25, 25])]})
    store.import_tasks([record])
    store.add_image_roots([write_frames(tmp_path, [record])])
    snapshot = store.load(store.snapshot())
    first, second = (frame["name"] for frame in record.meta["frames"][:2])
    suggestions = [
        suggestion("s1", first, [50, 10, 80.5, 40], task=record.name, object_class="Dandelion", score=0.9),
        suggestion("s2", second, [40, 30, 70, 60], task=record.name, object_class="Fat hen", score=0.85),
        suggestion("s3", second, [70, 0, 90, 20], task=record.name, object_class="Fat hen", score=0.3),
    ]
    journal = Journal(store, queue=suggestions)
    decide_by_rule(journal, suggestions, accept_score=0.8)
    frames = frames_of(store)
    plan = plan_push(suggestions, journal.standing(), snapshot, frames, model="mobilenet_v2", classes=snapshot.classes)
    assert plan.boxes == 2
    with StandIn() as server:
        monkeypatch.setenv("CVAT_URL", server.url)
        monkeypatch.setenv("CVAT_USERNAME", "admin")
        monkeypatch.setenv("CVAT_PASSWORD", PASSWORD)
        client = open_cvat()
        sent = send(plan, client, journal=StoreJournal(store), confirm=True)
        again = send(plan, client, journal=StoreJournal(store), confirm=True)
        assert [task.task_id for task in again.tasks] == [task.task_id for task in sent.tasks]
        assert sum(task.sent for task in again.tasks) == 0, "sending twice is sending once"
        journal.decide(suggestions[2], "accept")  # a change of mind: one more box, and nothing twice
        done = pushed_suggestions(StoreJournal(store).entries(), server=server.url)
        assert done == {"s1", "s2"}
        plan = plan_push(
            suggestions,
            journal.standing(),
            snapshot,
            frames,
            model="mobilenet_v2",
            classes=snapshot.classes,
            already_pushed=done,
            now=TIMES[1],
        )
        send(plan, client, journal=StoreJournal(store), confirm=True)
        assert len(stored_shapes(server)) == 3
        for job in client.list_all("jobs"):
            client.request("PATCH", f"jobs/{job['id']}", body={"stage": "acceptance", "state": "completed"})
        collected = collect_cvat(store)
    assert collected.counts == {"tasks": 2, "frames": 3, "annotations": 3}
    later = store.load(store.snapshot())
    assert later.id != snapshot.id
    assert len(later.frames) == 3, "the pushed frames are the frames they were"
    assert (len(later.boxes(first)), len(later.boxes(second))) == (2, 3)
    added = later.annotations[later.annotations["source"] == "auto"]
    assert sorted(added["object_class"]) == ["Dandelion", "Fat hen", "Fat hen"]


def test_a_push_cut_off_goes_on_in_its_own_task_even_if_more_was_accepted(store: Store, tmp_path: Path) -> None:
    record = task(frames=1)
    store.import_tasks([record])
    frames = FrameStore([write_frames(tmp_path, [record])])
    snapshot = store.load(store.snapshot())
    path = record.meta["frames"][0]["name"]
    found = [suggestion(f"s{i}", path, [10 * i, 10, 10 * i + 9, 30], task=record.name) for i in range(3)]
    journal = StoreJournal(store)

    def plan(count: int) -> PushPlan:
        decisions = {f"s{i}": accept(f"s{i}") for i in range(count)}
        done = pushed_suggestions(journal.entries())
        return plan_push(
            found, decisions, snapshot, frames, model="m", classes=["cleavers"], already_pushed=done, now=TIMES[count]
        )

    class Cut(StoreJournal):
        def append(self, document: dict[str, Any]) -> None:
            if document["step"] == "verified":
                raise KeyboardInterrupt  # killed when the boxes were sent, before it was noted that they are there
            super().append(document)

    with StandIn() as server:
        client = log_in(server)
        with pytest.raises(KeyboardInterrupt):
            send(plan(2), client, journal=Cut(store), confirm=True)
        assert len(stored_shapes(server)) == 2
        result = send(plan(3), client, journal=journal, confirm=True)
        assert len(stored_shapes(server)) == 3, "no box twice"
        assert len(server.world.tasks) == 1
        assert (result.tasks[0].sent, result.tasks[0].already_there) == (1, 2)


def test_without_an_address_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVAT_URL", raising=False)
    with pytest.raises(CvatError, match="set CVAT_URL and CVAT_TOKEN"):
        open_cvat()
