"""What counts as a missing annotation, by hand-made scenes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from obdb_lib.boxes import BoxSet
from obdb_lib.suggest import compare_with_truth, suggest_missing, unexplained
from tests.helpers import snapshot_of, task


def boxes(*items: tuple[float, float, float, float, str, float]) -> BoxSet:
    return BoxSet(
        np.array([item[:4] for item in items], dtype=np.float32),
        np.array([item[4] for item in items], dtype=object),
        np.array([item[5] for item in items], dtype=np.float32),
    )


PLANT = (10, 10, 50, 50, "a", 1.0)


@pytest.mark.parametrize(
    ("detection", "found", "why"),
    [
        ((12, 11, 51, 50, "a", 0.9), False, "the annotated plant itself"),
        ((60, 10, 90, 50, "a", 0.9), True, "another plant"),
        ((10, 10, 50, 30, "a", 0.9), False, "a loose box of the annotated plant"),
        ((11, 11, 50, 50, "b", 0.9), False, "the annotated plant taken for another class"),
        ((40, 10, 80, 50, "a", 0.9), True, "a neighbour that overlaps the annotation a little"),
    ],
)
def test_one_detection_beside_one_annotation(detection: tuple, found: bool, why: str) -> None:
    assert (len(unexplained(boxes(detection), boxes(PLANT))) == 1) is found, why


def test_a_second_plant_within_an_annotations_reach_is_found() -> None:
    """Dense scene: one annotation explains one detection; the neighbour stays a candidate."""
    detections = boxes((10, 10, 50, 50, "a", 0.9), (35, 10, 75, 50, "a", 0.8))
    assert unexplained(detections, boxes(PLANT)).tolist() == [1]


def test_repeated_detections_of_one_plant_count_once() -> None:
    detections = boxes((60, 10, 90, 50, "a", 0.7), (61, 10, 91, 50, "b", 0.9), (12, 10, 50, 48, "a", 0.6))
    detections = BoxSet(
        np.vstack([detections.xyxy, [[10, 10, 50, 50]]]),
        np.append(detections.classes, "a"),
        np.append(detections.scores, 0.95),
    )
    assert unexplained(detections, boxes(PLANT)).tolist() == [1]  # the stronger; the twin on PLANT is a repetition


def test_frames_without_annotations_and_without_detections() -> None:
    nothing = BoxSet(np.empty((0, 4)))
    assert unexplained(boxes(PLANT), nothing).tolist() == [0]
    assert unexplained(nothing, boxes(PLANT)).tolist() == []


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
