"""Every request of push, merge and undo goes wrong once in every way; repeated, each ends as if nothing had been."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from obdb_lib.cvat.client import CvatClient, NoAnswerError
from obdb_lib.cvat.merge import merge, plan_merge
from obdb_lib.cvat.push import PushPlan, pushed_suggestions, send, undo_push
from obdb_lib.cvat.push_journal import merged_shapes
from tests.cvat_server import KINDS, Fault, Runs, Scene, StandIn, every_request
from tests.cvat_server.helpers import MemoryJournal, log_in, stored_shapes, two_frame_plan
from tests.cvat_server.merge_world import PREFIX, add, shapes_of, verified_world
from tests.cvat_server.world import World

NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
LEAST = 300
"""The issue's bar for all such runs together; those of this file alone are above it."""
UNDO_KINDS = [kind for kind in KINDS if kind != "shapes_dropped"]
RUNS: Counter[str] = Counter()
TESTS = 2 * len(KINDS) + 2 * len(UNDO_KINDS)


@dataclass(frozen=True)
class Prepared:
    """A world as it was before the action, made once, and the notes until then."""

    world: World
    notes: list[dict[str, Any]]
    push_id: str = ""

    def begin(self, server: StandIn) -> tuple[CvatClient, MemoryJournal]:
        server.copy_from(self.world)
        notes = [{**note, "server": server.url} for note in self.notes]
        return log_in(server), MemoryJournal(notes)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> PushPlan:
    return two_frame_plan(tmp_path_factory.mktemp("images"), now=NOON)


@pytest.fixture(scope="module")
def pushed(plan: PushPlan) -> Prepared:
    """Two tasks; in the first one somebody changed a box."""
    with StandIn() as server:
        journal = MemoryJournal()
        send(plan, log_in(server), journal=journal, confirm=True)
        next(iter(server.world.jobs.values())).shapes[0]["points"] = [7, 7, 17, 17]
        return Prepared(server.world, journal.documents, plan.push_id)


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two ground-truth tasks, one of them with one of the verified boxes already."""
    with StandIn() as server:
        client, journal = log_in(server), MemoryJournal()
        truth = verified_world(server, client, tmp_path_factory.mktemp("images"), journal, now=NOON)
        add(client, truth[0], 1, "cleavers", [1, 2, 20, 30])
        return Prepared(server.world, journal.documents)


@pytest.fixture(scope="module")
def merged(verified: Prepared) -> Prepared:
    with StandIn() as server:
        client, journal = verified.begin(server)
        made = plan_merge(client, source_prefix=PREFIX, journal=journal)
        merge(made, client, journal=journal, confirm=True)
        return Prepared(server.world, journal.documents, made.merge_id)


def counted(kind: str, runs: Runs) -> None:
    RUNS["tests"] += 1
    RUNS["runs"] += runs.count


@pytest.mark.parametrize("kind", KINDS)
def test_push(plan: PushPlan, kind: str) -> None:
    """From the log-in on; four boxes in two tasks, two boxes a request."""
    journals: list[MemoryJournal] = []

    def make(server: StandIn) -> Scene:
        journals.append(MemoryJournal())

        def run() -> None:
            send(plan, log_in(server), journal=journals[-1], confirm=True, shapes_per_request=2)

        return Scene(run, more=lambda: sorted(pushed_suggestions(journals[-1].documents)))

    def each(server: StandIn, scene: Scene) -> None:
        assert len(server.world.tasks) == 2
        assert len(stored_shapes(server)) == 4
        # The ids that an undo goes by are those that stand there.
        told = [
            n for e in journals[-1].documents if (e["step"], e["phase"]) == ("shapes", "after") for n in e["shape_ids"]
        ]
        assert set(told) >= {shape["id"] for shape in stored_shapes(server)}

    counted(kind, every_request(make, [kind], each=each))


@pytest.mark.parametrize("delay", [0, 3, 6, 9])
def test_push__a_server_that_does_late_what_was_given_up(plan: PushPlan, delay: int) -> None:
    """So many requests later, when the repeat has already looked: a task or boxes would be there twice."""

    def make(server: StandIn) -> Scene:
        journal = MemoryJournal()
        return Scene(lambda: send(plan, log_in(server), journal=journal, confirm=True, shapes_per_request=2))

    runs = every_request(make, ["late"], delay=delay, skip=lambda method, path: method == "GET")
    assert runs.count > 10


def test_push__what_is_done_late_even_after_the_repeat_goes_at_the_next_one(plan: PushPlan) -> None:
    with StandIn() as server:
        journal = MemoryJournal()
        server.faults.append(Fault("PATCH", "annotations", kind="late", delay=12))
        with pytest.raises(NoAnswerError):
            send(plan, log_in(server), journal=journal, confirm=True)
        send(plan, log_in(server), journal=journal, confirm=True)
        assert len(stored_shapes(server)) == 7, "three boxes twice"
        send(plan, log_in(server), journal=journal, confirm=True)
        assert len(stored_shapes(server)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_merge(verified: Prepared, kind: str) -> None:
    """Planned anew at each repeat, as a command line does; one box a request."""

    def make(server: StandIn) -> Scene:
        client, journal = verified.begin(server)

        def run() -> None:
            made = plan_merge(client, source_prefix=PREFIX, journal=journal)
            merge(made, client, journal=journal, confirm=True, shapes_per_request=1)

        return Scene(run, more=lambda: sorted(merged_shapes(journal.documents, server.url)))

    def each(server: StandIn, scene: Scene) -> None:
        assert [len(shapes_of(server, number)) for number in (1, 2)] == [3, 1]

    counted(kind, every_request(make, [kind], each=each))


@pytest.mark.parametrize("kind", UNDO_KINDS)
def test_undo_of_a_push(pushed: Prepared, kind: str) -> None:
    """One task goes whole; in the other one the changed box stays, and with it the task."""

    def make(server: StandIn) -> Scene:
        client, journal = pushed.begin(server)

        def run() -> None:
            undo_push(client, pushed.push_id, journal=journal, confirm=True)

        return Scene(run, more=lambda: sorted(pushed_suggestions(journal.documents)))

    def each(server: StandIn, scene: Scene) -> None:
        assert [shape["points"] for shape in stored_shapes(server)] == [[7, 7, 17, 17]]

    counted(kind, every_request(make, [kind], each=each))


@pytest.mark.parametrize("kind", UNDO_KINDS)
def test_undo_of_a_merge(merged: Prepared, kind: str) -> None:
    def make(server: StandIn) -> Scene:
        client, journal = merged.begin(server)

        def run() -> None:
            undo_push(client, merged.push_id, journal=journal, confirm=True)

        return Scene(run, more=lambda: sorted(merged_shapes(journal.documents, server.url)))

    def each(server: StandIn, scene: Scene) -> None:
        assert [len(shapes_of(server, number)) for number in (1, 2)] == [1, 0]

    counted(kind, every_request(make, [kind], each=each))


def test_enough_runs() -> None:
    """Counts what the tests above did; a part of them alone says nothing."""
    if RUNS["tests"] < TESTS:
        pytest.skip("only a part of this file was chosen")
    assert RUNS["runs"] >= LEAST
