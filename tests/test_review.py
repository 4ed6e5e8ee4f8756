"""The journal: append-only, undo by folding, rules that leave a person's decisions alone."""

from __future__ import annotations

import pytest

from obdb_lib.errors import ReviewError
from obdb_lib.records import Document
from obdb_lib.review import Journal, decide_by_rule, is_open
from obdb_lib.store import Store

SUGGESTIONS = [
    {"_id": f"s{i}", "run_id": "m", "snapshot_id": "n", "object_class": "a", "points": [0, 0, 9, 9], "score": i / 10}
    for i in range(10)
]


def test_decisions_stand_until_undone(store: Store) -> None:
    journal = Journal(store, who="ann")
    journal.decide(SUGGESTIONS[0], "accept")
    journal.decide(SUGGESTIONS[1], "reject")
    journal.decide(SUGGESTIONS[0], "reject")  # a change of mind
    assert {key: d["verdict"] for key, d in journal.standing().items()} == {"s0": "reject", "s1": "reject"}
    assert journal.undo()["suggestion_id"] == "s0"
    assert journal.standing()["s0"]["verdict"] == "accept"
    assert journal.undo()["suggestion_id"] == "s1"
    assert journal.undo()["suggestion_id"] == "s0"
    assert journal.standing() == {}
    assert journal.undo() is None
    assert len(store.decisions()) == 6, "nothing is ever removed"


def test_undo_takes_back_only_ones_own(store: Store) -> None:
    ann, bob = Journal(store, who="ann"), Journal(store, who="bob")
    ann.decide(SUGGESTIONS[0], "accept")
    bob.decide(SUGGESTIONS[1], "accept")
    assert ann.undo()["suggestion_id"] == "s0"
    assert ann.undo() is None
    assert list(ann.standing()) == ["s1"]


def test_undo_stays_within_the_queue(store: Store) -> None:
    journal = Journal(store, who="ann", queue=SUGGESTIONS[:2])
    journal.decide(SUGGESTIONS[0], "accept")
    Journal(store, who="ann").decide(SUGGESTIONS[5], "accept")
    assert list(journal.standing()) == ["s0"]
    assert journal.undo()["suggestion_id"] == "s0"


def test_an_entry_says_who_when_model_and_snapshot(store: Store) -> None:
    entry = Journal(store, who="ann").decide(SUGGESTIONS[3], "accept", object_class="b", points=[1, 1, 8, 8])
    stored = store.decisions(["s3"])[0]
    assert stored["_id"] == entry["_id"]
    wanted = {"who": "ann", "model": "m", "snapshot_id": "n", "object_class": "b", "points": [1, 1, 8, 8], "rule": None}
    assert {key: stored[key] for key in wanted} == wanted
    assert stored["when"].tzinfo is not None


def test_unknown_verdict_is_refused(store: Store) -> None:
    with pytest.raises(ReviewError, match="accept, reject, skip"):
        Journal(store).decide(SUGGESTIONS[0], "yes")
    assert store.decisions() == []


def test_rule_decides_the_rest_and_repeats_without_change(store: Store) -> None:
    journal = Journal(store, who="batch")
    Journal(store, who="ann").decide(SUGGESTIONS[9], "reject")
    assert decide_by_rule(journal, SUGGESTIONS, accept_score=0.5) == {"accept": 4, "reject": 1, "skip": 5}
    assert decide_by_rule(journal, SUGGESTIONS, accept_score=0.5) == {"accept": 4, "reject": 1, "skip": 5}
    assert len(store.decisions()) == 10
    assert store.decisions(["s5"])[0]["rule"] == "accept at score >= 0.5, else skip"


def test_undo_leaves_what_a_rule_decided(store: Store) -> None:
    journal = Journal(store, who="ann")
    journal.decide(SUGGESTIONS[0], "reject")
    decide_by_rule(journal, SUGGESTIONS[:4], accept_score=0.2)
    journal.decide(SUGGESTIONS[3], "reject")  # overrules the rule
    ruled = {key: one["verdict"] for key, one in journal.standing().items() if one["rule"]}
    assert ruled == {"s1": "skip", "s2": "accept"}
    assert [journal.undo()["suggestion_id"] for _ in range(2)] == ["s3", "s0"]
    assert journal.undo() is None
    standing = journal.standing()
    assert {key: one["verdict"] for key, one in standing.items()} == ruled | {"s3": "accept"}
    assert all(one["rule"] for one in standing.values()), "the rule's words stand again, too"
    assert [journal.redo()["suggestion_id"] for _ in range(2)] == ["s0", "s3"]
    assert {key: one["verdict"] for key, one in journal.standing().items()} == ruled | {"s0": "reject", "s3": "reject"}


def test_a_rule_leaves_what_was_undone_to_be_repeated(store: Store) -> None:
    journal = Journal(store, who="ann")
    journal.decide(SUGGESTIONS[0], "reject")
    journal.undo()
    decide_by_rule(journal, SUGGESTIONS[1:3], accept_score=0.2)
    assert journal.redo()["suggestion_id"] == "s0"


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (None, True),
        ({"verdict": "skip", "rule": "accept at score >= 0.5, else skip"}, True),
        ({"verdict": "skip", "rule": None}, False),
        ({"verdict": "skip"}, False),
        ({"verdict": "accept", "rule": "accept at score >= 0.5, else skip"}, False),
        ({"verdict": "reject", "rule": None}, False),
    ],
)
def test_only_what_no_person_looked_at_is_open(decision: Document | None, expected: bool) -> None:
    assert is_open(decision) is expected
