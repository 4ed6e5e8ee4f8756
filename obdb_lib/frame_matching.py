"""One-to-one matching of the boxes of all frames at once; frame by frame it is ``boxes.match``.

Overlaps are computed for flat lists of pairs, in parts of bounded memory. A frame is then not one assignment problem
but many small ones: boxes that can only be each other's partner need no solver, and of several rivals for one box the
nearest takes it. Only knots with choices on both sides go to the Hungarian method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from obdb_lib.boxes import DEFAULT_MATCH_IOU, FloatArray, IntArray, Matching
from obdb_lib.errors import DatasetError

PAIRS_AT_ONCE = 1 << 17
"""Pairs whose overlaps are computed together, about 10 MB of working memory; a single box is never cut apart."""
COLUMNS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class FlatBoxes:
    """Boxes of many frames in flat arrays.

    Attributes:
        xyxy: (N, 4) float32, pixels of the full frame, finite, x1 <= x2, y1 <= y2.
        frame: (N,) int64 >= 0, boxes of equal numbers lie in one frame.
        label: (N,) int64 >= 0, number of the class.

    Raises:
        DatasetError: a shape or a value is not as above.
    """

    xyxy: FloatArray
    frame: IntArray
    label: IntArray

    def __post_init__(self) -> None:
        xyxy = np.asarray(self.xyxy, dtype=np.float32)
        xyxy = xyxy.reshape(0, 4) if xyxy.size == 0 else xyxy
        if xyxy.ndim != 2 or xyxy.shape[1] != 4:
            raise DatasetError(f"boxes must have shape (N, 4); got {xyxy.shape}")
        wrong = ~np.isfinite(xyxy).all(axis=1) | (xyxy[:, :2] > xyxy[:, 2:]).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DatasetError(
                f"boxes must be finite with x1 <= x2 and y1 <= y2; {int(wrong.sum())} are not, the first is box {row}: "
                f"{xyxy[row].tolist()}"
            )
        object.__setattr__(self, "xyxy", xyxy)
        for name in ("frame", "label"):
            numbers = np.asarray(getattr(self, name), dtype=np.int64)
            if numbers.shape != (len(xyxy),) or (numbers < 0).any():
                raise DatasetError(f"{name} must be {len(xyxy)} numbers from 0; got shape {numbers.shape}")
            object.__setattr__(self, name, numbers)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: ArrayLike) -> FlatBoxes:
        keep = np.asarray(rows)
        keep = keep.astype(np.int64) if keep.size == 0 and keep.dtype != bool else keep
        return FlatBoxes(self.xyxy[keep], self.frame[keep], self.label[keep])


@dataclass(frozen=True)
class Overlaps:
    """Pairs of boxes of one frame that overlap.

    Attributes:
        first, second: (P,) int64, indices; sorted by ``first``, then by ``second``.
        iou: (P,) float32 in 0..1.
    """

    first: IntArray
    second: IntArray
    iou: FloatArray

    def __len__(self) -> int:
        return len(self.iou)

    def __getitem__(self, keep: NDArray[np.bool_] | IntArray) -> Overlaps:
        return Overlaps(self.first[keep], self.second[keep], self.iou[keep])


def flat_boxes(*tables: pd.DataFrame) -> tuple[FlatBoxes, ...]:
    """Boxes of tables with the columns img_path, x1, y1, x2, y2, object_class, numbered alike in all of them."""
    frames, _ = pd.factorize(np.concatenate([table["img_path"].to_numpy(object) for table in tables]))
    labels, _ = pd.factorize(np.concatenate([table["object_class"].to_numpy(object) for table in tables]))
    ends = np.cumsum([len(table) for table in tables])
    return tuple(
        FlatBoxes(
            table[list(COLUMNS)].to_numpy(np.float32), frames[end - len(table) : end], labels[end - len(table) : end]
        )
        for table, end in zip(tables, ends, strict=True)
    )


def overlapping(
    first: FlatBoxes,
    second: FlatBoxes,
    *,
    min_iou: float,
    class_aware: bool = False,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Overlaps:
    """All pairs of one frame (and, when ``class_aware``, of one class) that overlap by ``min_iou`` or more.

    Raises:
        DatasetError: ``min_iou`` is not above 0 and at most 1.
    """
    if not 0 < min_iou <= 1:
        raise DatasetError(f"min_iou must be above 0 and at most 1; got {min_iou}")
    parts = list(_parts(first, second, min_iou, class_aware, pairs_at_once))
    rows, columns, ious = (np.concatenate([part[place] for part in parts]) for place in range(3))
    order = np.lexsort((columns, rows))
    return Overlaps(rows[order], columns[order], ious[order])


def _parts(
    first: FlatBoxes, second: FlatBoxes, min_iou: float, class_aware: bool, pairs_at_once: int
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Overlapping pairs (index in first, in second, overlap), a bounded number of comparisons a part."""
    labels = 1 + max(first.label.max(initial=0), second.label.max(initial=0)) if class_aware else 1
    keys = [boxes.frame * labels + (boxes.label if class_aware else 0) for boxes in (first, second)]
    order = np.argsort(keys[1], kind="stable")
    ordered = keys[1][order]
    start, end = np.searchsorted(ordered, keys[0], "left"), np.searchsorted(ordered, keys[0], "right")
    counts = end - start
    done = np.cumsum(counts)
    # Columns lie apart, so that each is gathered from one short stretch of memory.
    a, b = (np.ascontiguousarray(boxes.T) for boxes in (first.xyxy, second.xyxy[order]))
    areas = [(sides[2] - sides[0]) * (sides[3] - sides[1]) for sides in (a, b)]
    low = 0
    while True:
        before = int(done[low - 1]) if low else 0
        high = min(max(int(np.searchsorted(done, before + pairs_at_once, "right")), low + 1), len(first))
        own = counts[low:high]
        rows = np.repeat(np.arange(low, high), own)
        columns = np.arange(len(rows)) + np.repeat(start[low:high] - (done[low:high] - own - before), own)
        width = np.minimum(a[2][rows], b[2][columns]) - np.maximum(a[0][rows], b[0][columns])
        height = np.minimum(a[3][rows], b[3][columns]) - np.maximum(a[1][rows], b[1][columns])
        near = np.flatnonzero((width > 0) & (height > 0))
        rows, columns = rows[near], columns[near]
        common = width[near] * height[near]
        # The same steps in float32 as boxes.iou_matrix, so that both see the same overlaps to the last bit.
        union = areas[0][rows] + areas[1][columns] - common
        iou = np.where(union > 0, common / np.where(union > 0, union, 1), 0).astype(np.float32)
        kept = iou >= min_iou
        yield rows[kept].astype(np.int64), order[columns[kept]].astype(np.int64), iou[kept]
        low = high
        if low >= len(first):
            return


def match_frames(
    first: FlatBoxes,
    second: FlatBoxes,
    *,
    min_iou: float = DEFAULT_MATCH_IOU,
    class_aware: bool = True,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Matching:
    """Match the boxes of each frame one to one so that the sum of overlaps is largest: ``boxes.match`` on all frames.

    Args:
        first, second: boxes of the same numbering of frames and classes (``flat_boxes``).
        min_iou: least overlap of a pair, above 0 and at most 1.
        class_aware: a pair needs the same class.
        pairs_at_once: comparisons held in memory at a time.

    Returns:
        Indices into ``first`` and ``second``, pairs sorted by the first.

    Raises:
        DatasetError: ``min_iou`` out of range.
    """
    pairs = overlapping(first, second, min_iou=min_iou, class_aware=class_aware, pairs_at_once=pairs_at_once)
    return assign(pairs, len(first), len(second))


def assign(pairs: Overlaps, first: int, second: int) -> Matching:
    """The one-to-one choice among ``pairs`` with the largest sum of overlaps.

    Args:
        first, second: numbers of boxes on either side.
    """
    chosen = pairs[_largest_sum(pairs, first, second)]
    free = [np.ones(first, dtype=bool), np.ones(second, dtype=bool)]
    free[0][chosen.first], free[1][chosen.second] = False, False
    return Matching(
        pairs=np.stack([chosen.first, chosen.second], axis=1),
        ious=chosen.iou,
        unmatched_first=np.flatnonzero(free[0]).astype(np.int64),
        unmatched_second=np.flatnonzero(free[1]).astype(np.int64),
    )


def _largest_sum(pairs: Overlaps, first: int, second: int) -> IntArray:
    """Places of the chosen pairs, rising."""
    if not len(pairs):
        return np.empty(0, dtype=np.int64)
    size = first + second
    links = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs.first, first + pairs.second)), shape=(size, size))
    knot = connected_components(links, directed=False)[1][pairs.first]
    rivals = np.bincount(pairs.first, minlength=first)[pairs.first], np.bincount(pairs.second)[pairs.second]
    # A knot is a star when all its pairs share a box; then the nearest pair wins. A lone pair is the smallest star.
    links_of = np.bincount(knot)[knot]
    star = (rivals[0] == links_of) | (rivals[1] == links_of)
    easy = np.flatnonzero(star)
    by_overlap = easy[np.lexsort((-pairs.iou[easy], knot[easy]))]
    best = by_overlap[np.flatnonzero(np.diff(knot[by_overlap], prepend=-1))]
    hard = np.flatnonzero(~star)
    hard = hard[np.argsort(knot[hard], kind="stable")]
    cuts = np.flatnonzero(np.diff(knot[hard])) + 1
    solved = [_solve(pairs, part) for part in np.split(hard, cuts) if len(part)]
    return np.sort(np.concatenate([best, *solved])).astype(np.int64)


def _solve(pairs: Overlaps, places: IntArray) -> IntArray:
    """Hungarian method on one knot."""
    rows, row = np.unique(pairs.first[places], return_inverse=True)
    columns, column = np.unique(pairs.second[places], return_inverse=True)
    gains = np.zeros((len(rows), len(columns)))
    number = np.full(gains.shape, -1, dtype=np.int64)
    gains[row, column], number[row, column] = pairs.iou[places], places
    found = number[linear_sum_assignment(gains, maximize=True)]
    return found[found >= 0]
