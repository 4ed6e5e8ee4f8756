"""What counts as a missing annotation, by hand-made scenes."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from obdb_lib.candidates import find_candidates
from obdb_lib.errors import DatasetError
from obdb_lib.suggest import compare_with_truth, suggest_missing, suggestions_of
from tests.helpers import snapshot_of, task


def test_suggestions_carry_what_the_review_needs() -> None:
    snapshot = snapshot_of([task(boxes={0: [("Fat hen", [10, 10, 30, 30])]})])
    path, empty = snapshot.frames["img_path"][:2]
    rows = [
        (path, 10, 10, 30, 30, "Fat hen", 0.99),
        (path, 50, 10, 80, 40, "Dandelion", 0.8),
        (empty, 5, 5, 25, 25, "Fat hen", 0.6),
        (empty, 40, 5, 65, 25, "Fat hen", 0.3),
        ("not in the snapshot.png", 0, 0, 9, 9, "Fat hen", 0.9),
    ]
    detections = pd.DataFrame(rows, columns=["img_path", "x1", "y1", "x2", "y2", "object_class", "score"])
    found = suggest_missing(detections, snapshot, run_id="run", parts=pd.Series({path: "val"}))
    assert [(d["object_class"], d["score"], d["part"], d["frame"]) for d in found] == [
        ("Dandelion", 0.8, "val", 0),
        ("Fat hen", 0.6, "", 1),
    ]
    again = suggest_missing(detections, snapshot, run_id="run")
    assert [d["_id"] for d in again] == [d["_id"] for d in found], "the same suggestion keeps its id"
    strict = suggest_missing(detections, snapshot, run_id="run", min_score={"Dandelion": 0.9})
    assert [d["object_class"] for d in strict] == ["Fat hen"]
    assert suggest_missing(detections.iloc[:0], snapshot, run_id="run") == []


def test_truth_is_compared_one_to_one() -> None:
    hidden = [{"img_path": "f", "points": [0, 0, 20, 20], "object_class": "a"}]
    suggestions = [
        {"img_path": "f", "points": [1, 0, 20, 20], "object_class": "a"},
        {"img_path": "f", "points": [0, 0, 20, 18], "object_class": "a"},
        {"img_path": "g", "points": [0, 0, 20, 20], "object_class": "b"},
    ]
    table = compare_with_truth(suggestions, hidden)
    assert table.loc["a"].tolist() == [2, 1, 1]
    assert table.loc["b"].tolist() == [1, 0, 0]


def test_every_kind_becomes_a_document_with_the_annotation_it_concerns() -> None:
    boxes = {0: [("Fat hen", [10, 10, 30, 30]), ("Fat hen", [60, 10, 80, 30]), ("Dandelion", [10, 40, 30, 60])]}
    snapshot = snapshot_of([task(boxes=boxes)])
    path = snapshot.frames["img_path"][0]
    rows = [
        (path, 11, 10, 30, 30, "Dandelion", 0.9),
        (path, 60, 10, 80, 19, "Fat hen", 0.7),
        (path, 60, 40, 80, 60, "Fat hen", 0.6),
    ]
    detections = pd.DataFrame(rows, columns=["img_path", "x1", "y1", "x2", "y2", "object_class", "score"])
    candidates = find_candidates(detections, snapshot)
    found = suggestions_of(candidates, snapshot, run_id="run")
    told = [(d["kind"], d["object_class"], d["annotation_class"], d["annotation_points"], d["score"]) for d in found]
    assert told == [
        ("spurious", "Dandelion", "Dandelion", [10, 40, 30, 60], 0.0),  # nothing there: the surest of all
        ("swapped_class", "Dandelion", "Fat hen", [10, 10, 30, 30], 0.9),
        ("bad_location", "Fat hen", "Fat hen", [60, 10, 80, 30], 0.7),
        ("missing", "Fat hen", "", None, 0.6),
    ]
    concerned = {d["annotation_id"] for d in found} - {""}
    assert concerned == set(snapshot.annotations["annotation_id"])
    assert all(d["probability"] is None and d["silenced_by"] == "" and d["task_name"] for d in found)
    assert found[1]["evidence"] == {"overlap": 0.95, "inside": 1.0, "merged": 0.0}
    assert len({d["_id"] for d in found}) == 4
    json.dumps([{**d, "created": ""} for d in found])  # plain numbers only

    ranked = suggestions_of(candidates.assign(probability=[0.2, float("nan"), 0.95, 0.1]), snapshot, run_id="run")
    assert [d["probability"] for d in ranked] == [0.95, None, 0.2, 0.1]
    assert {d["_id"] for d in ranked} == {d["_id"] for d in found}, "the estimate does not name the suggestion"


def test_a_candidate_outside_the_snapshot_is_not_lost_in_silence() -> None:
    snapshot = snapshot_of([task()])
    elsewhere = pd.DataFrame(
        [("b.png", 0, 0, 9, 9, "Fat hen", 0.9)], columns=["img_path", "x1", "y1", "x2", "y2", "object_class", "score"]
    )
    candidates = find_candidates(elsewhere, snapshot, img_paths=["b.png"])
    with pytest.raises(DatasetError, match=r"1 frames with candidates are not in snapshot .* 'b.png'"):
        suggestions_of(candidates, snapshot, run_id="run")
