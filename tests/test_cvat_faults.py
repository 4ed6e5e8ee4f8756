"""The fault switches themselves: each kind does what its name says, and ``every_request`` finds a careless action."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdb_lib.cvat.push import send
from obdb_lib.errors import CvatError
from tests.cvat_server import KINDS, Fault, Scene, StandIn, every_request
from tests.cvat_server.helpers import MemoryJournal, log_in, stored_shapes, two_frame_plan

TAKES_EFFECT = {"drop_after", "slow", "error_502", "wrong_json", "other_json"}


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"throttled", "shapes_dropped"}))
def test_kind__tells_an_error_and_acts_or_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obdb_lib.cvat.transport.READ_TIMEOUT_S", 0.2)
    with StandIn() as server:
        client = log_in(server)
        fault = Fault("*", "", kind=kind)
        server.faults.append(fault)
        with pytest.raises(CvatError):
            client.create_task("once", labels=["a"])
        assert fault.met == [("POST", "/api/tasks")]
        assert len(client.tasks()) == (kind in TAKES_EFFECT)


def test_kind__throttled_is_waited_for() -> None:
    slept: list[float] = []
    with StandIn() as server:
        client = log_in(server, sleep=slept.append)
        server.faults.append(Fault("*", "", kind="throttled"))
        client.create_task("once", labels=["a"])
        assert len(client.tasks()) == 1
    assert slept == [7.0]


def test_every_request__finds_an_action_that_makes_things_twice() -> None:
    def make(server: StandIn) -> Scene:
        client = log_in(server)
        return Scene(lambda: client.create_task("once", labels=["a"]))

    assert every_request(make, ["drop_before", "throttled", "error_500"]).count == 3
    with pytest.raises(AssertionError, match=r"drop_after at request 0 \(POST /api/tasks\).*another end"):
        every_request(make, ["drop_after"])


def test_every_request__finds_an_action_that_never_ends_well() -> None:
    undisturbed = [True]

    def make(server: StandIn) -> Scene:
        client = log_in(server)
        fine = undisturbed.pop() if undisturbed else False

        def run() -> None:
            client.tasks()
            if not fine:
                raise CvatError("it broke for good")

        return Scene(run)

    with pytest.raises(AssertionError, match=r"no good end after .*it broke for good"):
        every_request(make, ["drop_before"])


def test_every_request__finds_boxes_lost_without_a_word(tmp_path: Path) -> None:
    plan = two_frame_plan(tmp_path)

    def make(server: StandIn) -> Scene:
        client = log_in(server)
        task_ids = [task.task_id for task in send(plan, client, journal=MemoryJournal(), confirm=True).tasks]
        shapes = [{**shape} for shape in client.annotations(task_ids[0])["shapes"]]
        client.delete_shapes(task_ids[0], shapes)
        for shape in shapes:
            del shape["id"]

        def careless() -> None:
            if len(stored_shapes(server)) < 4:
                client.add_shapes(task_ids[0], shapes)

        return Scene(careless)

    with pytest.raises(AssertionError, match="shapes_dropped at request 0"):
        every_request(make, ["shapes_dropped"])
