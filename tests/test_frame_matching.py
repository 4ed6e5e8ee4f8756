"""Matching of all frames at once: the same pairs as frame by frame, in bounded memory."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obdb_lib.boxes import BoxSet, iou_matrix, match
from obdb_lib.errors import DatasetError
from obdb_lib.frame_matching import FlatBoxes, flat_boxes, match_frames, overlapping

corner = st.integers(0, 24)
boxes = st.lists(
    st.tuples(corner, corner, st.integers(0, 16), st.integers(0, 16), st.integers(0, 2), st.sampled_from("ab")),
    max_size=14,
)


def table(rows: list[tuple[int, int, int, int, int, str]]) -> pd.DataFrame:
    """Boxes (x, y, width, height, frame, class) of small integers: equal overlaps are common."""
    made = [(f"f{frame}", x, y, x + w, y + h, name) for x, y, w, h, frame, name in rows]
    return pd.DataFrame(made, columns=["img_path", "x1", "y1", "x2", "y2", "object_class"])


def box_set(rows: pd.DataFrame) -> BoxSet:
    return BoxSet(rows[["x1", "y1", "x2", "y2"]].to_numpy(np.float32), rows["object_class"].to_numpy(object))


def best_choices(overlaps: np.ndarray, allowed: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """All one-to-one choices of the largest sum, by trying every one (few boxes only)."""
    rows, columns = overlaps.shape
    found: dict[frozenset[tuple[int, int]], float] = {}
    for places in itertools.product([*range(columns), None], repeat=rows):
        used = [place for place in places if place is not None]
        pairs = frozenset((row, place) for row, place in enumerate(places) if place is not None)
        if len(set(used)) == len(used) and all(allowed[pair] for pair in pairs):
            found[pairs] = float(sum(np.float64(overlaps[pair]) for pair in pairs))
    largest = max(found.values())
    return {pairs for pairs, total in found.items() if total >= largest - 1e-9}


@given(boxes, boxes, st.sampled_from([0.05, 0.3, 0.5, 0.75, 1.0]), st.booleans(), st.integers(1, 9))
def test_all_frames_at_once_equal_one_by_one(a: list, b: list, min_iou: float, class_aware: bool, part: int) -> None:
    first, second = table(a), table(b)
    flat = flat_boxes(first, second)
    result = match_frames(*flat, min_iou=min_iou, class_aware=class_aware, pairs_at_once=part)
    pairs = dict(zip(map(tuple, result.pairs.tolist()), result.ious, strict=True))
    assert sorted([*result.pairs[:, 0], *result.unmatched_first]) == list(range(len(first)))
    assert sorted([*result.pairs[:, 1], *result.unmatched_second]) == list(range(len(second)))
    for frame in {*first["img_path"], *second["img_path"]}:
        rows = [np.flatnonzero(one["img_path"] == frame) for one in (first, second)]
        sets = box_set(first.iloc[rows[0]]), box_set(second.iloc[rows[1]])
        wanted = match(*sets, min_iou=min_iou, class_aware=class_aware)
        own = {pair: iou for pair, iou in pairs.items() if pair[0] in rows[0]}
        assert sum(map(np.float64, own.values())) == pytest.approx(wanted.ious.astype(np.float64).sum(), abs=1e-9)
        overlaps = iou_matrix(*sets)
        assert all(overlaps[np.searchsorted(rows[0], i), np.searchsorted(rows[1], j)] == v for (i, j), v in own.items())
        if max(overlaps.shape) <= 4 and overlaps.size:
            allowed = overlaps >= np.float32(min_iou)
            if class_aware:
                allowed &= sets[0].classes[:, None] == sets[1].classes[None, :]
            choices = best_choices(overlaps, allowed)
            local = frozenset((int(np.searchsorted(rows[0], i)), int(np.searchsorted(rows[1], j))) for i, j in own)
            assert local in choices
            if len(choices) == 1:  # then boxes.match has no other choice
                assert local == frozenset(map(tuple, wanted.pairs.tolist()))


@pytest.mark.parametrize("class_aware", [True, False])
def test_crowded_frames_give_the_very_same_pairs(class_aware: bool) -> None:
    """Boxes of random real numbers: no two choices are equal, so the pairs must be the same ones."""
    dice = np.random.default_rng(5)
    tables = []
    for count in (900, 1100):
        corners = dice.uniform(0, 150, (count, 2))
        made = np.hstack([corners, corners + dice.uniform(5, 60, (count, 2))]).astype(np.float32)
        one = pd.DataFrame(made, columns=["x1", "y1", "x2", "y2"])
        tables.append(one.assign(img_path=dice.choice(list("pqr"), count), object_class=dice.choice(list("ab"), count)))
    result = match_frames(*flat_boxes(*tables), min_iou=0.4, class_aware=class_aware, pairs_at_once=1000)
    wanted = []
    for frame in "pqr":
        rows = [np.flatnonzero(one["img_path"] == frame) for one in tables]
        sets = [box_set(one.iloc[row]) for one, row in zip(tables, rows, strict=True)]
        found = match(*sets, min_iou=0.4, class_aware=class_aware).pairs
        wanted += zip(rows[0][found[:, 0]].tolist(), rows[1][found[:, 1]].tolist(), strict=True)
    assert sorted(map(tuple, result.pairs.tolist())) == sorted(wanted)
    assert len(wanted) > 300


def test_a_knot_is_solved_as_a_whole() -> None:
    """The nearest pair of all would leave the other detection without a partner; the largest sum takes both."""
    first = table([(0, 0, 10, 20, 0, "a"), (0, 4, 10, 20, 0, "a")])
    second = table([(0, 3, 10, 20, 0, "a"), (0, 9, 10, 20, 0, "a")])
    assert match_frames(*flat_boxes(first, second), min_iou=0.5).pairs.tolist() == [[0, 0], [1, 1]]


def test_neighbouring_frames_and_classes_stay_apart() -> None:
    first, second = table([(0, 0, 10, 10, 0, "a")]), table([(0, 0, 10, 10, 1, "a"), (0, 0, 10, 10, 0, "b")])
    flat = flat_boxes(first, second)
    assert match_frames(*flat).pairs.tolist() == []
    assert match_frames(*flat, class_aware=False).pairs.tolist() == [[0, 1]]


def test_nothing_matches_nothing() -> None:
    nothing, one = table([]), table([(0, 0, 10, 10, 0, "a")])
    assert len(match_frames(*flat_boxes(nothing, nothing)).pairs) == 0
    assert match_frames(*flat_boxes(one, nothing)).unmatched_first.tolist() == [0]
    assert match_frames(*flat_boxes(nothing, one)).unmatched_second.tolist() == [0]


@pytest.mark.parametrize(
    ("boxes", "frame", "word"),
    [
        ([[0, 0, 1]], [0], "shape"),
        ([[0, 0, 1, 1], [5, 0, 1, 4]], [0, 0], "box 1"),
        ([[0, 0, np.nan, 1]], [0], "finite"),
        ([[0, 0, 1, 1]], [-1], "frame must be"),
        ([[0, 0, 1, 1]], [0, 1], "frame must be"),
    ],
)
def test_wrong_input_is_refused_with_what_came(boxes: list, frame: list, word: str) -> None:
    with pytest.raises(DatasetError, match=word):
        FlatBoxes(np.array(boxes), np.array(frame), np.zeros(len(boxes)))


@pytest.mark.parametrize("min_iou", [0.0, -1.0, 1.1, float("nan")])
def test_an_overlap_of_nothing_is_no_overlap(min_iou: float) -> None:
    flat = flat_boxes(table([]), table([]))
    with pytest.raises(DatasetError, match="above 0"):
        overlapping(*flat, min_iou=min_iou)
