"""The journal with several people on one queue, redo, changed boxes, and reading only what is new."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from obdb_lib.decision_log import LATE_S, fold
from obdb_lib.errors import DecidedMeanwhileError, ReviewError, TakenError
from obdb_lib.review import Journal, checked_points
from obdb_lib.store import Store

QUEUE: list[dict[str, Any]] = [
    {"_id": f"s{i}", "run_id": "m", "snapshot_id": "n", "object_class": "a", "points": [0, 0, 9, 9], "score": i / 10}
    for i in range(6)
]


class Counting:
    """A store that notes how many entries each reading brought."""

    def __init__(self, store: Store) -> None:
        self.store, self.brought = store, [0]

    def append_decision(self, document: dict[str, Any]) -> dict[str, Any]:
        return self.store.append_decision(document)

    def decisions(self, suggestion_ids: Sequence[str] | None = None, *, since: datetime | None = None) -> Any:
        found = self.store.decisions(suggestion_ids, since=since)
        self.brought.append(len(found))
        return found


def verdicts(journal: Journal) -> dict[str, str]:
    return {name: entry["verdict"] for name, entry in journal.standing().items()}


def test_redo_repeats_what_was_undone_until_a_new_verdict(store: Store) -> None:
    ann = Journal(store, who="ann", queue=QUEUE)
    assert ann.redo() is None
    ann.decide(QUEUE[0], "accept", object_class="b", points=[1, 1, 8, 8])
    ann.decide(QUEUE[1], "reject")
    ann.undo()
    ann.undo()
    assert verdicts(ann) == {}
    again = Journal(store, who="ann", queue=QUEUE)  # another kernel: everything comes from the journal
    entry = again.redo()
    assert entry is not None
    assert (entry["suggestion_id"], entry["verdict"], entry["object_class"]) == ("s0", "accept", "b")
    assert entry["points"] == [1, 1, 8, 8]
    assert again.redo()["suggestion_id"] == "s1"
    assert again.redo() is None
    assert verdicts(again) == {"s0": "accept", "s1": "reject"}
    again.undo()
    assert verdicts(again) == {"s0": "accept"}
    again.decide(QUEUE[2], "accept")
    assert again.redo() is None, "a new verdict leaves nothing to repeat"
    assert len(store.decisions()) == 8, "nothing is ever removed"


def test_undo_and_redo_are_each_persons_own(store: Store) -> None:
    ann, bob = Journal(store, who="ann", queue=QUEUE), Journal(store, who="bob", queue=QUEUE)
    ann.decide(QUEUE[0], "accept")
    bob.decide(QUEUE[1], "reject")
    ann.undo()
    assert bob.redo() is None
    assert bob.undo()["suggestion_id"] == "s1"
    assert ann.redo()["suggestion_id"] == "s0"
    assert verdicts(bob) == {"s0": "accept"}


def test_anothers_decision_is_told_and_not_overwritten(store: Store) -> None:
    ann, bob = Journal(store, who="ann", queue=QUEUE), Journal(store, who="bob", queue=QUEUE)
    assert bob.standing() == {}
    ann.decide(QUEUE[0], "reject", seen="")
    with pytest.raises(DecidedMeanwhileError, match=r"ann rejected this on \d\d \w+ \d{4} at \d\d:\d\d") as told:
        bob.decide(QUEUE[0], "accept", seen="")
    assert told.value.entry["who"] == "ann"
    assert len(store.decisions()) == 1
    bob.decide(QUEUE[0], "accept", seen=str(told.value.entry["_id"]))  # on purpose
    assert [entry["verdict"] for entry in store.decisions()] == ["reject", "accept"]
    assert verdicts(ann) == {"s0": "accept"}
    ann.decide(QUEUE[1], "accept", seen="")
    ann.decide(QUEUE[1], "reject", seen="")  # one's own earlier verdict is no surprise
    assert verdicts(bob)["s1"] == "reject"


def test_redo_does_not_cover_what_another_decided_since(store: Store) -> None:
    ann, bob = Journal(store, who="ann", queue=QUEUE), Journal(store, who="bob", queue=QUEUE)
    ann.decide(QUEUE[0], "accept")
    ann.undo()
    bob.decide(QUEUE[0], "reject")
    with pytest.raises(DecidedMeanwhileError, match="bob rejected"):
        ann.redo()
    assert verdicts(ann) == {"s0": "reject"}


def test_two_people_in_the_same_moment_never_both_write_unseen(store: Store) -> None:
    people = [Journal(store, who=name, queue=QUEUE) for name in ("ann", "bob", "carl", "dora")]
    told: list[str] = []
    start = threading.Barrier(len(people))

    def decide_all(journal: Journal) -> None:
        for suggestion in QUEUE:
            start.wait()
            try:
                journal.decide(suggestion, "accept", seen="")
            except DecidedMeanwhileError as error:
                told.append(str(error))

    threads = [threading.Thread(target=decide_all, args=[journal]) for journal in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.decisions()) == len(QUEUE)
    assert len(told) == len(QUEUE) * (len(people) - 1)


def test_a_skip_is_ones_own_and_a_verdict_is_everybodys(store: Store) -> None:
    ann, bob = Journal(store, who="ann", queue=QUEUE), Journal(store, who="bob", queue=QUEUE)
    ann.decide(QUEUE[0], "skip")
    assert (verdicts(ann), verdicts(bob)) == ({"s0": "skip"}, {})
    bob.decide(QUEUE[0], "accept", seen="")  # no surprise either: a skip decides nothing
    assert (verdicts(ann), verdicts(bob)) == ({"s0": "accept"}, {"s0": "accept"})
    ann.decide(QUEUE[0], "skip")
    assert (verdicts(ann), verdicts(bob)) == ({"s0": "accept"}, {"s0": "accept"}), "a skip takes nobody's verdict away"
    bob.decide(QUEUE[0], "skip")  # Bob steps back from his own
    assert (verdicts(ann), verdicts(bob)) == ({"s0": "skip"}, {"s0": "skip"})
    assert {name: entry["verdict"] for name, entry in fold(store.decisions()).items()} == {"s0": "skip"}


def test_an_entry_carries_kind_and_annotation(store: Store) -> None:
    swapped = {**QUEUE[0], "kind": "swapped_class", "annotation_id": "a17"}
    ann = Journal(store, who="ann", queue=QUEUE)
    ann.decide(swapped, "accept")
    ann.decide(QUEUE[1], "accept")
    ann.undo()
    ann.redo()
    kinds = [(entry["kind"], entry["annotation_id"]) for entry in store.decisions()]
    assert kinds == [("swapped_class", "a17"), ("missing", ""), ("missing", ""), ("missing", "")]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([1, 2, 3], "four finite numbers"),
        ([1, 2, float("nan"), 4], "four finite numbers"),
        ([5, 2, 3, 4], "needs x1 < x2"),
        ([1, 4, 3, 4], "needs x1 < x2"),
        ([-1, 0, 3, 4], "not inside its frame of 20 x 10"),
        ([1, 0, 3, 11], "not inside its frame of 20 x 10"),
    ],
)
def test_a_changed_box_is_checked(store: Store, points: list[float], message: str) -> None:
    with pytest.raises(ReviewError, match=message):
        Journal(store).decide(QUEUE[0], "accept", points=points, frame_size=(20, 10))
    assert store.decisions() == []
    assert checked_points([0, 0, 20, 10], (20, 10)) == [0, 0, 20, 10]


def test_a_clock_that_goes_back_changes_nothing(store: Store) -> None:
    ann = Journal(store, who="ann", queue=QUEUE)
    ann.decide(QUEUE[0], "accept")
    ann.decide(QUEUE[1], "accept")
    ann.undo()
    store._db.decisions.update_many({"seq": 3}, {"$set": {"when": datetime.now(UTC) - timedelta(seconds=1)}})
    again = Journal(store, who="ann", queue=QUEUE)
    assert verdicts(again) == {"s0": "accept"}
    assert list(fold(store.decisions())) == ["s0"]
    assert again.redo()["suggestion_id"] == "s1"


def test_a_suggestion_outside_the_queue_can_be_decided_too(store: Store) -> None:
    ann = Journal(store, who="ann", queue=QUEUE[:1])
    ann.decide(QUEUE[3], "accept")
    ann.decide(QUEUE[3], "reject")
    assert ann.standing() == {}
    assert [entry["verdict"] for entry in store.decisions(["s3"])] == ["accept", "reject"]


def test_only_new_entries_are_read(store: Store) -> None:
    old = datetime.now(UTC) - timedelta(hours=1)
    store._db.decisions.insert_many(
        {"suggestion_id": f"s{i % 6}", "verdict": "accept", "who": "ann", "when": old + timedelta(milliseconds=i)}
        for i in range(3000)
    )
    counting = Counting(store)
    bob = Journal(counting, who="bob", queue=QUEUE)
    assert len(bob.standing()) == 6
    assert sum(counting.brought) == 3000
    bob.decide(QUEUE[0], "reject")
    bob.standing()
    counting.brought.clear()
    store._db.decisions.update_many({"who": "bob"}, {"$set": {"when": datetime.now(UTC) - timedelta(minutes=30)}})
    Journal(store, who="carl").decide(QUEUE[1], "reject")
    assert verdicts(bob)["s1"] == "reject"
    assert sum(counting.brought) <= 2, "only what came since, not the journal"
    assert LATE_S < 60


def test_an_id_is_given_away_once(store: Store) -> None:
    first = {"_id": "x", "suggestion_id": "s0", "verdict": "accept"}
    stored = store.append_decision(first)
    assert store.append_decision(first) == stored, "a second try after a lost answer"
    with pytest.raises(TakenError, match="another entry has the id 'x'"):
        store.append_decision({**first, "verdict": "reject"})
    assert store.decisions() == [stored]
    assert abs((stored["when"] - datetime.now(UTC)).total_seconds()) < 60
