"""Boxes: checked on creation, overlap by hand, one-to-one matching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obdb_lib.boxes import BoxSet, iou_matrix, match
from obdb_lib.errors import DatasetError

corner = st.integers(0, 60)
box = st.tuples(corner, corner, st.integers(1, 40), st.integers(1, 40)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@pytest.mark.parametrize(
    ("boxes", "word"),
    [
        ([[0, 0, 1]], "shape"),
        ([[5, 0, 1, 4]], "x1 <= x2"),  # inverted
        ([[0, 0, np.nan, 4]], "finite"),
    ],
)
def test_wrong_boxes_are_refused_with_what_came(boxes: list[list[float]], word: str) -> None:
    with pytest.raises(DatasetError, match=word):
        BoxSet(np.array(boxes, dtype=np.float32))


def test_iou_by_hand() -> None:
    first = BoxSet(np.array([[0, 0, 10, 10], [0, 0, 0, 0]], dtype=np.float32))
    second = BoxSet(np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]], dtype=np.float32))
    expected = [[1 / 3, 0, 1], [0, 0, 0]]  # a box without area overlaps nothing
    np.testing.assert_allclose(iou_matrix(first, second), expected, atol=1e-6)


def test_a_box_explains_one_detection_only() -> None:
    annotation = BoxSet(np.array([[0, 0, 10, 10]]), np.array(["a"], dtype=object))
    detections = BoxSet(np.array([[0, 0, 10, 9], [0, 0, 10, 10]]), np.array(["a", "a"], dtype=object))
    result = match(detections, annotation)
    assert result.pairs.tolist() == [[1, 0]]  # the better one
    assert result.unmatched_first.tolist() == [0]


def test_matching_is_class_aware_unless_told() -> None:
    annotation = BoxSet(np.array([[0, 0, 10, 10]]), np.array(["a"], dtype=object))
    detection = BoxSet(np.array([[0, 0, 10, 10]]), np.array(["b"], dtype=object))
    assert len(match(detection, annotation).pairs) == 0
    assert len(match(detection, annotation, class_aware=False).pairs) == 1


@given(st.lists(box, max_size=6), st.lists(box, max_size=6), st.floats(0.1, 0.9))
def test_matching_is_one_to_one_and_complete(a: list[list[int]], b: list[list[int]], min_iou: float) -> None:
    first, second = BoxSet(np.array(a, dtype=np.float32)), BoxSet(np.array(b, dtype=np.float32))
    result = match(first, second, min_iou=min_iou)
    rows, columns = result.pairs[:, 0].tolist(), result.pairs[:, 1].tolist()
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert sorted(rows + result.unmatched_first.tolist()) == list(range(len(a)))
    assert sorted(columns + result.unmatched_second.tolist()) == list(range(len(b)))
    assert (result.ious >= np.float32(min_iou)).all()
    overlaps = iou_matrix(first, second)
    # Nothing that could still be paired is left over.
    left = overlaps[np.ix_(result.unmatched_first, result.unmatched_second)]
    assert not (left >= min_iou).any()
