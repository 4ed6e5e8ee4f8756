"""The stand-in against recorded traffic of a real CVAT 2.73, driven by cvat-sdk 2.80."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from obdb_lib import paths
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.answers import as_json
from tests.cvat_server.replay import Ids, Replay, Report, differences, read_traffic, skip_reason

TRAFFIC = paths.PROJECT_ROOT.parent / "shared" / "cvat" / "traffic.jsonl"
LEAST_COMPARED = 391
needs_traffic = pytest.mark.skipif(not TRAFFIC.exists(), reason=f"no recorded traffic at {TRAFFIC}")


def replay(traffic: Path, *faults: Fault) -> Report:
    with StandIn(faults=list(faults)) as server:
        return Replay(server).run(read_traffic(traffic))


@needs_traffic
def test_stand_in_answers_as_recorded() -> None:
    report = replay(TRAFFIC)
    assert not report.differences, "\n".join(report.differences[:40])
    assert len(report.compared) == LEAST_COMPARED
    total = len(report.compared) + sum(len(numbers) for numbers in report.skipped.values())
    assert total == len(read_traffic(TRAFFIC))


@needs_traffic
def test_only_exports_imports_and_cut_records_are_skipped() -> None:
    """Every skipped step is named in replay.SKIPPED_STEPS or SKIPPED_NUMBERS with its reason."""
    skipped = {record["n"]: reason for record in read_traffic(TRAFFIC) if (reason := skip_reason(record))}
    outside = {number for number, reason in skipped.items() if "export" not in reason and "import" not in reason}
    assert outside == {141, 142, 413, 415, 416, 417, 419}


@needs_traffic
@pytest.mark.parametrize(
    ("fault", "number"),
    [
        (Fault("GET", "tasks/5/data/meta", answer=as_json({"frames": []})), "#75 "),
        (Fault("GET", "users/self", answer=as_json({"detail": "x"}, 403)), "#124 "),
        (Fault("PATCH", "annotations", kind="hook", hook=lambda world: world.labels.clear()), "#77 "),
    ],
)
def test_replay_notices_another_answer(fault: Fault, number: str) -> None:
    assert any(line.startswith(number) for line in replay(TRAFFIC, fault).differences)


@pytest.mark.parametrize(
    ("recorded", "actual", "told"),
    [
        ({"score": 1}, {"score": 1.0}, "type int"),
        ({"a": None}, {"a": 0}, "type NoneType"),
        ({"a": 1}, {"a": 1, "b": 2}, "unexpected {'b'}"),
        ({"a": 1, "b": 2}, {"a": 1}, "missing {'b'}"),
        ({"label_id": 9}, {"label_id": 9}, ""),
        ({"label_id": 9}, {"label_id": 4}, "id 9 is known as 9, got 4"),
        ({"created_date": "2026-11-22T07:38:34.209329Z"}, {"created_date": "2026-11-22"}, "created_date"),
        ({"created_date": "2026-11-22T07:38:34.209329Z"}, {"created_date": "2020-01-01T00:00:00.000000Z"}, ""),
        ([1, 2], [1], "2 items, got 1"),
        ("label_id `9` is invalid", "label_id `9` is wrong", "is wrong"),
    ],
)
def test_differences(recorded: Any, actual: Any, told: str) -> None:
    ids = Ids()
    assert ids.same("label", 9, 9)
    found = differences(recorded, actual, ids, "http://127.0.0.1:1")
    assert (told in found[0]) if told else not found


def test_ids_are_mapped_one_to_one() -> None:
    ids = Ids()
    assert ids.same("task", 5, 1)
    assert ids.same("task", 5, 1)
    assert not ids.same("task", 5, 2)
    assert not ids.same("task", 6, 1)
    assert ids.in_text("/api/tasks/5/annotations?job_id=3&target=task&target_id=5") == (
        "/api/tasks/1/annotations?job_id=3&target=task&target_id=1"
    )
