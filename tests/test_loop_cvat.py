"""Round the loop: suggestions, decisions, push to CVAT (the stand-in), a completed task, pull, a new snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdb_lib.collect import frames_of
from obdb_lib.cvat.collect import collect_cvat, open_cvat
from obdb_lib.cvat.push import StoreJournal, plan_push, send
from obdb_lib.errors import CvatError
from obdb_lib.review import Journal, decide_by_rule
from obdb_lib.store import Store
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import PASSWORD, suggestion
from tests.helpers import task, write_frames


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
        for job in client.list_all("jobs"):
            client.request("PATCH", f"jobs/{job['id']}", body={"stage": "acceptance", "state": "completed"})
        collected = collect_cvat(store)
    assert collected.counts == {"tasks": 1, "frames": 2, "annotations": 2}
    later = store.load(store.snapshot())
    assert later.id != snapshot.id
    assert len(later.frames) == 3, "the pushed frames are the frames they were"
    assert len(later.boxes(first)) == len(later.boxes(second)) == 2
    added = later.annotations[later.annotations["source"] == "auto"]
    assert sorted(added["object_class"]) == ["Dandelion", "Fat hen"]


def test_without_an_address_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVAT_URL", raising=False)
    with pytest.raises(CvatError, match="set CVAT_URL and CVAT_TOKEN"):
        open_cvat()
