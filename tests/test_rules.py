"""Deciding headless: the precision rule, and decisions recorded in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obdb_lib.errors import ReviewError
from obdb_lib.recorded import read_decisions, write_decisions
from obdb_lib.records import Document
from obdb_lib.review import Journal, is_open
from obdb_lib.rules import apply_recorded, decide_by_precision, precision_thresholds, threshold_table


class Memory:
    """A journal's store in a list."""

    def __init__(self) -> None:
        self.entries: list[Document] = []

    def append_decision(self, document: Document) -> Document:
        when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=len(self.entries))
        self.entries.append({**document, "when": when})
        return self.entries[-1]

    def decisions(
        self, suggestion_ids: Sequence[str] | None = None, *, since: datetime | None = None
    ) -> list[Document]:
        wanted = [one for one in self.entries if suggestion_ids is None or one["suggestion_id"] in suggestion_ids]
        return [one for one in wanted if since is None or one["when"] >= since]


def suggestion(name: str, probability: float | None = None, **more: Any) -> Document:
    base = {"_id": name, "img_path": "f.png", "kind": "missing", "object_class": "a", "points": [0, 0, 10, 10]}
    return {**base, "score": 0.5, "probability": probability, **more}


# -- the rule --------------------------------------------------------------------------------------------------------


def test_thresholds_as_a_table() -> None:
    given = [{**suggestion(str(n)), "object_class": "a", "probability": p} for n, p in enumerate((0.9, 0.5))]
    given.append({**suggestion("z"), "object_class": "b", "probability": 0.1})
    table = threshold_table(given, 0.8)
    assert table["suggestions"].to_dict() == {"a": 2, "b": 1}
    assert table["accepted"].to_dict() == {"a": 1, "b": 0}
    assert table.loc["a", "from probability"] == 0.9
    assert np.isnan(table.loc["b", "from probability"])
    assert list(threshold_table([]).columns) == list(table.columns)


def test_a_class_is_cut_where_the_mean_still_reaches_the_target() -> None:
    a = [suggestion(f"a{i}", p) for i, p in enumerate([0.95, 0.9, 0.7, 0.4, 0.3])]
    b = [suggestion("b0", 0.6, object_class="b")]
    found = precision_thresholds([*a, *b, suggestion("x")], 0.8)
    assert (found["a"].least, found["a"].accepted) == (0.7, 3)  # means .95 .925 .85 .7375 .65
    assert found["a"].expected == pytest.approx(0.85)
    assert (found["b"].least, found["b"].accepted) == (None, 0)
    assert precision_thresholds(a, 0.65)["a"].least == 0.3
    each = precision_thresholds([*a, *b], {"a": 0.94, "b": 0.6})
    assert (each["a"].least, each["b"].least) == (0.95, 0.6)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.8, 0.9, 1.0]), min_size=1, max_size=30), st.floats(0, 1))
def test_the_cut_is_the_lowest_that_keeps_the_promise(probabilities: list[float], target: float) -> None:
    found = precision_thresholds([suggestion(str(i), p) for i, p in enumerate(probabilities)], target)["a"]
    values = np.array(probabilities)
    good = [cut for cut in set(probabilities) if values[values >= cut].mean() >= target - 1e-9]
    assert found.least == (min(good) if good else None)
    if good:
        assert found.accepted == (values >= found.least).sum()


def test_the_rule_accepts_and_signs_with_its_words() -> None:
    store = Memory()
    queue = [
        suggestion("sure", 0.95),
        suggestion("fair", 0.8),
        suggestion("weak", 0.2),
        suggestion("unknown"),
        suggestion("other class", 0.5, object_class="b"),
        suggestion("removal", 0.99, kind="spurious"),
        suggestion("silent", 0.99, silenced_by="d1"),
        suggestion("by hand", 0.97),
    ]
    journal = Journal(store, who="batch")
    journal.decide(queue[-1], "reject")
    assert decide_by_precision(journal, queue, precision=0.85) == {"accept": 2, "reject": 1, "skip": 5}
    verdicts = {name: one["verdict"] for name, one in journal.standing().items()}
    assert verdicts == {
        **dict.fromkeys(("sure", "fair"), "accept"),
        **dict.fromkeys(("weak", "unknown", "other class", "removal", "silent"), "skip"),
        "by hand": "reject",
    }
    assert {one["rule"] for one in store.entries[1:]} == {
        "accept missing above a precision target per class, else skip; a (target 0.85): probability >= 0.8, expected "
        "0.875; b (target 0.85): none"
    }
    before = len(store.entries)
    assert decide_by_precision(journal, queue, precision=0.85) == {"accept": 2, "reject": 1, "skip": 5}
    assert len(store.entries) == before, "the same rule again changes nothing"


def test_another_target_decides_what_a_rule_skipped_and_nothing_else() -> None:
    """In two steps as at once; a person's skip stays, and so does every verdict."""
    queue = [suggestion(f"s{i}", p) for i, p in enumerate([0.95, 0.9, 0.7, 0.4, 0.3])]
    queue += [suggestion("by hand", 0.99), suggestion("passed over", 0.99)]
    found = []
    for targets in ([0.9, 0.65], [0.65]):
        journal = Journal(Memory(), who="p")
        journal.decide(queue[5], "reject")
        journal.decide(queue[6], "skip")
        for target in targets:
            counts = decide_by_precision(journal, queue, precision=target)
        assert counts == {"accept": 5, "reject": 1, "skip": 1}
        found.append({name: (one["verdict"], bool(one["rule"])) for name, one in journal.standing().items()})
    assert found[0] == found[1]
    assert (found[0]["by hand"], found[0]["passed over"]) == (("reject", False), ("skip", False))
    raised = Journal(Memory(), who="p")
    decide_by_precision(raised, queue, precision=0.65)
    assert decide_by_precision(raised, queue, precision=0.99)["accept"] == 7, "nothing is taken back"


def test_kinds_are_accepted_when_told() -> None:
    store = Memory()
    queue = [suggestion("removal", 0.99, kind="spurious"), suggestion("box", 0.99)]
    assert decide_by_precision(Journal(store, who="p"), queue, kinds=["spurious"])["accept"] == 1
    assert [one["verdict"] for one in store.entries] == ["accept", "skip"]


def test_without_probabilities_nothing_is_accepted_and_all_is_left_to_people() -> None:
    store = Memory()
    queue = [suggestion("s"), suggestion("t")]
    journal = Journal(store, who="p")
    assert decide_by_precision(journal, queue) == {"accept": 0, "reject": 0, "skip": 2}
    assert all("no suggestion has an acceptance probability" in one["rule"] for one in store.entries)
    assert all(is_open(entry) for entry in journal.standing().values())


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ReviewError, match=r"target precision of a must be 0\.\.1; got 90"):
        decide_by_precision(Journal(Memory(), who="p"), [suggestion("s", 0.5)], precision=90)
    with pytest.raises(ReviewError, match=r"a has 1\.5"):
        precision_thresholds([suggestion("s", 1.5)])
    assert decide_by_precision(Journal(Memory(), who="p"), []) == {"accept": 0, "reject": 0, "skip": 0}


# -- recorded decisions ----------------------------------------------------------------------------------------------

QUEUE = [
    suggestion("s0", points=[0, 0, 10, 10]),
    suggestion("s1", points=[50, 50, 80, 80]),
    suggestion("s2", points=[50, 50, 80, 80], object_class="b"),
    suggestion("s3", points=[50, 50, 80, 80], kind="spurious"),
    suggestion("s4", points=[0, 0, 10, 10], img_path="g.png"),
]


def write(path: Path, records: Any) -> Path:
    path.write_text(records if isinstance(records, str) else json.dumps(records), encoding="utf-8")
    return path


def applied(path: Path, queue: Sequence[Document] = QUEUE) -> tuple[Any, Mapping[str, Document]]:
    journal = Journal(Memory(), who="batch")
    return apply_recorded(journal, queue, read_decisions(path)), journal.standing()


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_decisions_come_back_from_a_file(tmp_path: Path, ending: str) -> None:
    """With the class and the box that a person changed, on the same suggestions and on those of another run."""
    journal = Journal(Memory(), who='Änne, "A"')
    journal.decide(QUEUE[0], "accept", object_class="c", points=[1, 1, 30, 30])
    journal.decide(QUEUE[1], "reject")
    journal.decide(QUEUE[3], "skip")
    path = tmp_path / f"decisions.{ending}"
    assert write_decisions(path, QUEUE, journal.standing()) == 3

    for renamed in (False, True):
        queue = [{**one, "_id": f"new {one['_id']}"} if renamed else one for one in QUEUE]
        result, standing = applied(path, queue)
        assert (result.written, result.by_place, result.problems) == (3, 3 if renamed else 0, [])
        assert result.counts == {"accept": 1, "reject": 1, "skip": 1, "undecided": 2}
        got = {
            name.removeprefix("new "): (one["verdict"], one["object_class"], one["points"])
            for name, one in standing.items()
        }
        assert got == {
            "s0": ("accept", "c", [1, 1, 30, 30]),
            "s1": ("reject", "a", [50, 50, 80, 80]),
            "s3": ("skip", "a", [50, 50, 80, 80]),
        }
        assert {name.removeprefix("new "): one["who"] for name, one in standing.items()} == {
            **dict.fromkeys(("s0", "s1"), 'Änne, "A"'),
            "s3": "batch",
        }
        assert {one["rule"] for one in standing.values()} == {None}, "a person decided"
        assert {one["recorded"] for one in standing.values()} == {path.name}, "but not now"


def test_by_place_each_suggestion_is_decided_once(tmp_path: Path) -> None:
    text = "img_path,x1,y1,x2,y2,object_class,verdict,kind\n" + "\n".join(
        [
            "f.png,51,50,80,80,a,accept,",
            "f.png,50,50,80,77,a,reject,",  # nearly the same box again: one to one, so it fits nothing
            "f.png,50,50,80,80,b,reject,",
            "f.png,50,50,80,80,a,reject,spurious",
            "g.png,0,0,10,20,a,accept,",  # another box
            "h.png,0,0,10,10,a,accept,",  # another frame
        ]
    )
    result, standing = applied(write(tmp_path / "d.csv", text))
    verdicts = {name: one["verdict"] for name, one in standing.items()}
    assert verdicts == {"s1": "accept", "s2": "reject", "s3": "reject"}
    assert result.by_place == 3
    assert len(result.problems) == 3
    assert "d.csv, line 6: no suggestion here is like it (id none, a on g.png); nothing was decided" in map(
        str, result.problems
    )


def test_unknown_ones_are_told_and_earlier_decisions_stay(tmp_path: Path) -> None:
    records = [
        {"suggestion_id": "s0", "verdict": "accept", "who": "p"},
        {"suggestion_id": "gone", "verdict": "accept"},
        {"suggestion_id": "s1", "verdict": "skip"},
    ]
    path = write(tmp_path / "d.json", {"decisions": records})
    journal = Journal(Memory(), who="me")
    journal.decide(QUEUE[0], "reject")
    journal.decide(QUEUE[1], "skip")
    result = apply_recorded(journal, QUEUE, read_decisions(path))
    assert result.written == 0
    unknown = "no suggestion here is like it (id gone, no image, box and class to go by); nothing was decided"
    assert {str(one) for one in result.problems} == {
        f"d.json, record 2: {unknown}",
        "d.json, record 1: accept here, but reject by me before; left as it is",
    }
    assert journal.standing()["s0"]["verdict"] == "reject"


def test_no_skip_stands_against_a_recorded_verdict(tmp_path: Path) -> None:
    records = [{"suggestion_id": f"s{i}", "verdict": "accept", "who": who} for i, who in enumerate(("ann", "me", ""))]
    path = write(tmp_path / "d.json", records)
    journal = Journal(Memory(), who="me")
    journal.decide(QUEUE[0], "skip", rule="a rule")
    journal.decide(QUEUE[1], "skip")
    result = apply_recorded(journal, QUEUE, read_decisions(path))
    assert (result.written, result.problems) == (3, [])
    assert result.counts == {"accept": 3, "reject": 0, "skip": 0, "undecided": 2}
    assert {name: one["verdict"] for name, one in journal.standing().items()} == dict.fromkeys(
        ("s0", "s1", "s2"), "accept"
    )


def test_the_same_verdict_on_another_class_or_box_is_told(tmp_path: Path) -> None:
    records = [
        {"suggestion_id": "s0", "verdict": "accept", "object_class": "z"},
        {"suggestion_id": "s1", "verdict": "accept", "object_class": "a", "points": [50, 50, 80, 90]},
        {"suggestion_id": "s2", "verdict": "accept", "object_class": "b", "points": [50, 50, 80.004, 80]},
        {"suggestion_id": "s3", "verdict": "reject"},
    ]
    journal = Journal(Memory(), who="me")
    for one, verdict in zip(QUEUE[:4], ("accept", "accept", "accept", "reject"), strict=True):
        journal.decide(one, verdict)
    result = apply_recorded(journal, QUEUE, read_decisions(write(tmp_path / "d.json", records)))
    assert result.written == 0
    assert [str(one) for one in result.problems] == [
        "d.json, record 1: accept as z here, but as a by me before; left as it is",
        "d.json, record 2: accept with box [50.0, 50.0, 80.0, 90.0] here, but with [50.0, 50.0, 80.0, 80.0] by me "
        "before; left as it is",
    ]


def test_an_exported_journal_is_read_with_its_undo_entries(tmp_path: Path) -> None:
    store = Memory()
    journal = Journal(store, who="p")
    journal.decide(QUEUE[0], "accept")
    journal.decide(QUEUE[1], "accept")
    journal.undo()
    journal.decide(QUEUE[2], "reject")
    journal.decide(QUEUE[2], "accept")
    _, standing = applied(write(tmp_path / "journal.json", json.dumps(store.entries, default=str)))
    assert {name: one["verdict"] for name, one in standing.items()} == {"s0": "accept", "s2": "accept"}


def test_a_recorded_rule_stays_a_rule(tmp_path: Path) -> None:
    journal = Journal(Memory(), who="batch one")
    decide_by_precision(journal, [suggestion("s0", 0.9)], precision=0.5)
    path = tmp_path / "decisions.json"
    write_decisions(path, QUEUE, journal.standing())
    _, standing = applied(path)
    assert standing["s0"]["rule"].startswith("accept missing above a precision target")
    assert standing["s0"]["rule"].endswith("(recorded in decisions.json)")


def test_of_two_people_in_one_file_a_skip_does_not_cover_the_others_verdict(tmp_path: Path) -> None:
    records = [
        {"suggestion_id": "s0", "verdict": "accept", "who": "ann"},
        {"suggestion_id": "s0", "verdict": "skip", "who": "bob"},
        {"suggestion_id": "s1", "verdict": "accept", "who": "ann"},
        {"suggestion_id": "s1", "verdict": "reject", "who": "bob"},
    ]
    _, standing = applied(write(tmp_path / "d.json", records))
    assert {name: (one["verdict"], one["who"]) for name, one in standing.items()} == {
        "s0": ("accept", "ann"),
        "s1": ("reject", "bob"),
    }


@pytest.mark.parametrize(
    ("records", "told"),
    [
        (
            [{"suggestion_id": "s0", "verdict": "yes"}],
            "record 1: the verdict must be one of accept, reject, skip; it is 'yes'",
        ),
        ([{"verdict": "accept"}], "record 1: it needs a suggestion_id, or img_path with a box"),
        ([{"verdict": "accept", "img_path": "f", "object_class": "a"}], "it needs a suggestion_id, or img_path"),
        ([{"suggestion_id": "s0", "verdict": "accept", "points": [1, 2]}], "a box must be four numbers; it is [1, 2]"),
        ([{"suggestion_id": "s0", "verdict": "accept", "x1": 9, "y1": 0, "x2": 1, "y2": 5}], "x1 < x2 and y1 < y2"),
        ([{"suggestion_id": "s0", "verdict": "accept", "x1": "nan", "y1": 0, "x2": 1, "y2": 5}], "must be finite"),
        ([{"suggestion_id": "", "verdict": "undo"}], "an undo needs a suggestion_id"),
        ([{"verdict": "?"}, {"verdict": "accept"}], "has 2 wrong records, and nothing of it was used"),
        ({"verdict": "accept"}, "should hold a list of records"),
        ("[1, 2]", "should hold a list of records"),
        ("{", "cannot be read as decisions"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, records: Any, told: str) -> None:
    with pytest.raises(ReviewError) as error:
        read_decisions(write(tmp_path / "d.json", records))
    assert told in str(error.value)


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="there is no file"):
        read_decisions(tmp_path / "none.csv")
    with pytest.raises(ReviewError, match=r"as .csv or .json; got 'd.xlsx'"):
        write_decisions(tmp_path / "d.xlsx", QUEUE, {})
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReviewError, match="cannot be read as decisions"):
        read_decisions(tmp_path / "d.csv")
