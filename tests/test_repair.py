"""Accepted decisions become annotations: every kind, the person's word first, contradictions told and not guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from obdb_lib.records import Document
from obdb_lib.repair import Repaired, repaired
from obdb_lib.review import Journal
from obdb_lib.snapshots import BOX, Snapshot, build_snapshot, with_annotations
from obdb_lib.store import Store, with_ids
from tests.helpers import task

BOXES = {0: [("Fat hen", (5, 5, 25, 25)), ("Dandelion", (40, 10, 60, 30))], 1: [("Fat hen", (10, 10, 40, 40))]}
RECORD = task(frames=3, boxes=BOXES)
DOCUMENTS = with_ids(RECORD.annotations)
SNAPSHOT = build_snapshot([RECORD.meta], DOCUMENTS)
PATHS = [place["name"] for place in RECORD.meta["frames"]]
IDS = [str(document["_id"]) for document in DOCUMENTS]


def suggestion(kind: str, frame: int, name: str, points: tuple[float, ...], annotation: int | None = None) -> Document:
    number = "" if annotation is None else IDS[annotation]
    return {
        "_id": f"{kind}-{frame}-{name}-{points}",
        "img_path": PATHS[frame],
        "task_name": RECORD.name,
        "frame": frame,
        "kind": kind,
        "object_class": name,
        "points": list(points),
        "annotation_id": number,
    }


def accepted(*suggestions: Document, **more: Any) -> dict[str, Document]:
    """Decisions as ``Journal.decide`` writes them when the person changes nothing; ``more`` is what they changed."""
    return {
        one["_id"]: {"verdict": "accept", "who": "tester", **{k: one[k] for k in ("object_class", "points")}, **more}
        for one in suggestions
    }


def run(*suggestions: Document, **more: Any) -> Repaired:
    return repaired(SNAPSHOT, suggestions, accepted(*suggestions, **more))


def rebuilt(changed: list[Document]) -> Snapshot:
    return build_snapshot([RECORD.meta], changed)


def boxes(found: Repaired, frame: int) -> list[tuple[Any, ...]]:
    table = found.snapshot.annotations
    rows = table[table["img_path"] == PATHS[frame]]
    return [(name, *map(float, box)) for name, box in zip(rows["object_class"], rows[BOX].to_numpy(), strict=True)]


def test_every_kind__gives_what_a_database_changed_by_hand_would() -> None:
    new = suggestion("missing", 2, "Dandelion", (50.5, 20, 70, 44.25))
    swap = suggestion("swapped_class", 0, "Fat hen", (41, 11, 61, 31), 1)
    move = suggestion("bad_location", 1, "Fat hen", (12, 12, 44, 44), 2)
    gone = suggestion("spurious", 0, "Fat hen", (5, 5, 25, 25), 0)
    found = run(new, swap, move, gone)
    assert found.conflicts.empty
    by_hand = [
        {**DOCUMENTS[1], "object_class": "Fat hen"},
        {**DOCUMENTS[2], "points": [12.0, 12.0, 44.0, 44.0]},
        {**DOCUMENTS[0], "_id": "x", "img_path": PATHS[2], "frame": 2, "object_class": "Dandelion"}
        | {"points": [50.5, 20.0, 70.0, 44.25], "source": "auto"},
    ]
    wanted = rebuilt(by_hand)
    assert found.snapshot.id == wanted.id != SNAPSHOT.id
    assert found.snapshot.classes == wanted.classes
    columns = ["img_path", "object_class", *BOX, "shape_type", "occluded", "source", "task_name", "frame"]
    assert found.snapshot.annotations[columns].equals(wanted.annotations[columns])
    assert found.snapshot.annotations.dtypes.equals(SNAPSHOT.annotations.dtypes)
    assert found.snapshot.boxes(PATHS[2]).ids.tolist() == [new["_id"]]
    assert SNAPSHOT.id == build_snapshot([RECORD.meta], DOCUMENTS).id, "the snapshot given is left alone"
    told = found.changes.set_index("kind")
    assert set(told.index) == {"missing", "swapped_class", "bad_location", "spurious"}
    assert (told.loc["swapped_class", "class_before"], told.loc["swapped_class", "class_after"]) == (
        "Dandelion",
        "Fat hen",
    )
    assert told.loc["bad_location", ["x1_before", "x1_after"]].tolist() == [10, 12]
    assert np.isnan(told.loc["missing", "x1_before"])
    assert np.isnan(told.loc["spurious", "x1_after"])
    assert told.loc["spurious", "annotation_id"] == IDS[0]
    assert set(told["who"]) == {"tester"}
    assert found.summary() == "Annotations: 1 added, 1 given another class, 1 moved, 1 removed."


def test_only_accepted_ones_count() -> None:
    new = suggestion("missing", 2, "Dandelion", (50, 20, 70, 44))
    for verdict in ("reject", "skip"):
        found = repaired(SNAPSHOT, [new], {new["_id"]: {"verdict": verdict}})
        assert found.snapshot.id == SNAPSHOT.id
        assert found.changes.empty
        assert found.conflicts.empty
    nothing = repaired(SNAPSHOT, [new], {"another": accepted(new)[new["_id"]]})
    assert nothing.snapshot.id == SNAPSHOT.id
    assert nothing.snapshot.annotations.equals(SNAPSHOT.annotations)


def test_the_persons_word_goes_before_the_suggestion() -> None:
    new = suggestion("missing", 2, "Dandelion", (50, 20, 70, 44))
    assert boxes(run(new, object_class="Thistle", points=[48, 20, 70, 44]), 2) == [("Thistle", 48, 20, 70, 44)]
    assert "Thistle" in run(new, object_class="Thistle").snapshot.classes
    swap = suggestion("swapped_class", 1, "Dandelion", (11, 11, 39, 39), 2)
    assert boxes(run(swap), 1) == [("Dandelion", 10, 10, 40, 40)], "the box of the detection is not taken"
    assert boxes(run(swap, points=[9, 9, 41, 41]), 1) == [("Dandelion", 9, 9, 41, 41)], "the person's box is"
    move = suggestion("bad_location", 1, "Dandelion", (12, 12, 44, 44), 2)
    assert boxes(run(move), 1) == [("Fat hen", 12, 12, 44, 44)], "the class of the detection is not taken"
    assert boxes(run(move, object_class="Thistle"), 1) == [("Thistle", 12, 12, 44, 44)], "the person's class is"
    assert boxes(run(swap, kind="spurious"), 1) == [], "the decision's kind"
    moved = run(swap, annotation_id=IDS[0])
    assert boxes(moved, 0)[0][0] == "Dandelion"
    assert boxes(moved, 1) == boxes(run(), 1)


def test_points__are_put_in_order_and_inside_the_frame() -> None:
    new = suggestion("missing", 2, "Dandelion", (110, 60, 70, -5))
    assert boxes(run(new), 2) == [("Dandelion", 70, 0, 96, 60)]
    for wrong, why in (((50, 20, 50, 44), "no area"), ((200, 20, 250, 44), "outside the frame"), ((1, 2), "points")):
        found = run(suggestion("missing", 2, "Dandelion", wrong))
        assert found.snapshot.id == SNAPSHOT.id
        assert why in found.conflicts["why"][0]
        assert "decide on it again" in found.conflicts["why"][0]


def test_polygon_that_is_moved__becomes_a_rectangle_and_one_of_another_class_stays_itself() -> None:
    polygon = [{**DOCUMENTS[2], "shape_types": "polygon", "points": [10.0, 10.0, 40.0, 10.0, 40.0, 40.0]}]
    snapshot = rebuilt(polygon)
    swap = suggestion("swapped_class", 1, "Dandelion", (11, 11, 39, 39), 2)
    move = suggestion("bad_location", 1, "Fat hen", (12, 12, 44, 44), 2)
    for one, shape in ((swap, "polygon"), (move, "rectangle")):
        found = repaired(snapshot, [one], accepted(one))
        assert found.snapshot.annotations["shape_type"].tolist() == [shape]


def test_decisions_on_one_annotation__agree_or_are_reported() -> None:
    swap = suggestion("swapped_class", 1, "Dandelion", (11, 11, 39, 39), 2)
    same = {**swap, "_id": "the same of another model"}
    other = {**swap, "_id": "other", "object_class": "Thistle"}
    move = suggestion("bad_location", 1, "Fat hen", (12, 12, 44, 44), 2)
    gone = suggestion("spurious", 1, "Fat hen", (10, 10, 40, 40), 2)
    again = {**gone, "_id": "gone again"}
    assert boxes(run(swap, move), 1) == [("Dandelion", 12, 12, 44, 44)], "class and place are two things"
    assert run(swap, same).conflicts.empty
    assert len(run(swap, same).changes) == 2
    assert boxes(run(gone, again), 1) == []
    for pair in ((swap, other), (swap, gone), (move, {**move, "_id": "m2", "points": [1, 1, 30, 30]})):
        found = run(*pair)
        assert found.snapshot.id == SNAPSHOT.id, "neither is applied"
        assert found.changes.empty
        assert sorted(found.conflicts["suggestion_id"]) == sorted(one["_id"] for one in pair)
        assert "reject all but one" in found.conflicts["why"][0]
        assert "2 accepted decisions not applied" in found.summary()


def test_added_boxes_on_one_plant__are_reported_and_the_same_box_is_added_once() -> None:
    first = suggestion("missing", 2, "Dandelion", (50, 20, 70, 40))
    repeat = {**first, "_id": "repeat"}
    near = suggestion("missing", 2, "Fat hen", (51, 21, 71, 41))
    apart = suggestion("missing", 2, "Dandelion", (62, 20, 82, 40))
    assert boxes(run(first, repeat, apart), 2) == [("Dandelion", 50, 20, 70, 40), ("Dandelion", 62, 20, 82, 40)]
    found = run(first, near, apart)
    assert boxes(found, 2) == [("Dandelion", 62, 20, 82, 40)]
    assert sorted(found.conflicts["suggestion_id"]) == sorted([first["_id"], near["_id"]])
    assert "IoU 0.82" in found.conflicts["why"][0]
    assert len(boxes(repaired(SNAPSHOT, [first, near], accepted(first, near), min_iou=0.9), 2)) == 2


def test_added_box_on_an_annotation_of_its_class__is_reported_unless_that_one_goes() -> None:
    new = suggestion("missing", 1, "Fat hen", (11, 11, 41, 41))
    gone = suggestion("spurious", 1, "Fat hen", (10, 10, 40, 40), 2)
    found = run(new)
    assert found.snapshot.id == SNAPSHOT.id
    assert f"annotation {IDS[2]} of its class is there already" in found.conflicts["why"][0]
    assert boxes(run(new, gone), 1) == [("Fat hen", 11, 11, 41, 41)]
    swap = suggestion("swapped_class", 1, "Dandelion", (11, 11, 39, 39), 2)
    assert len(boxes(run(new, swap), 1)) == 2, "another class: plants may stand in each other"


def test_what_is_not_there__is_reported_with_the_next_step() -> None:
    stale = {**suggestion("spurious", 1, "Fat hen", (10, 10, 40, 40)), "annotation_id": "none of these"}
    lost = {**suggestion("missing", 2, "Dandelion", (50, 20, 70, 40)), "img_path": "elsewhere.png"}
    odd = {**suggestion("missing", 2, "Dandelion", (50, 20, 70, 40)), "_id": "odd", "kind": "wrong"}
    so = suggestion("swapped_class", 1, "Fat hen", (11, 11, 39, 39), 2)
    found = run(stale, lost, odd, so)
    why = found.conflicts.set_index("suggestion_id")["why"]
    assert "annotation none of these is not in this snapshot" in why[stale["_id"]]
    assert "its frame is not in this snapshot" in why[lost["_id"]]
    assert "'wrong' is no kind of suggestion; there are missing" in why["odd"]
    assert "nothing to change" in why[so["_id"]]
    assert found.snapshot.id == SNAPSHOT.id


def test_last_box_removed__the_class_is_gone_and_the_table_keeps_its_types() -> None:
    found = run(
        *(
            suggestion("spurious", f, n, p, i)
            for i, (f, n, p) in enumerate(
                (frame, name, points) for frame, drawn in BOXES.items() for name, points in drawn
            )
        )
    )
    assert found.snapshot.classes == ()
    assert len(found.snapshot.annotations) == 0
    assert found.snapshot.annotations.dtypes["x1"] == np.float32
    assert with_annotations(found.snapshot, SNAPSHOT.annotations.iloc[::-1]).id == SNAPSHOT.id


def test_a_journals_decisions__are_applied(store: Store) -> None:
    new, gone = suggestion("missing", 2, "Dandelion", (50, 20, 70, 44)), suggestion("spurious", 0, "", (0, 0, 9, 9), 0)
    journal = Journal(store, queue=[new, gone])
    journal.decide(gone, "accept")
    journal.decide(new, "accept", object_class="Fat hen")
    found = repaired(SNAPSHOT, [new, gone], journal.standing())
    assert found.summary() == "Annotations: 1 added, 0 given another class, 0 moved, 1 removed."
    assert boxes(found, 2) == [("Fat hen", 50, 20, 70, 44)]
    journal.undo()
    assert len(repaired(SNAPSHOT, [new, gone], journal.standing()).changes) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_order_of_the_suggestions__does_not_matter(order: int) -> None:
    ones = [suggestion("missing", 2, "Dandelion", (5 + 30 * i, 20, 25 + 30 * i, 44)) for i in range(3)]
    assert run(*ones[::order]).snapshot.id == run(*ones).snapshot.id
    assert run(*ones[::order]).changes.equals(run(*ones).changes)
