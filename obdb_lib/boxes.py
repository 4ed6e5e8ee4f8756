"""Boxes as one checked value type, overlap, and one-to-one matching.

Everywhere in OBDB Lab a box is ``x1, y1, x2, y2`` in pixels of the full frame, float32, with x1 <= x2 and y1 <= y2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from obdb_lib.errors import DatasetError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

DEFAULT_MATCH_IOU = 0.5
"""Two boxes with at least this overlap can be the same plant; raise it to demand tighter boxes."""


@dataclass(frozen=True)
class BoxSet:
    """Boxes of one frame.

    Attributes:
        xyxy: (N, 4) float32, pixels of the full frame, finite, x1 <= x2, y1 <= y2.
        classes: (N,) object array of class names; empty strings where a class does not matter.
        scores: (N,) float32 in 0..1; 1 for human annotations.
        ids: (N,) object array of ids (annotation or suggestion), empty strings where there is none.

    Raises:
        DatasetError: a shape or a value is not as above.
    """

    xyxy: FloatArray
    classes: NDArray[np.object_] = field(default_factory=lambda: np.empty(0, dtype=object))
    scores: FloatArray = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    ids: NDArray[np.object_] = field(default_factory=lambda: np.empty(0, dtype=object))

    def __post_init__(self) -> None:
        xyxy = np.asarray(self.xyxy, dtype=np.float32)
        if xyxy.size == 0:
            xyxy = xyxy.reshape(0, 4)
        if xyxy.ndim != 2 or xyxy.shape[1] != 4:
            raise DatasetError(f"boxes must have shape (N, 4); got {xyxy.shape}")
        if not np.isfinite(xyxy).all():
            raise DatasetError("boxes must be finite numbers; got NaN or infinity")
        if (xyxy[:, :2] > xyxy[:, 2:]).any():
            row = int(np.argmax((xyxy[:, :2] > xyxy[:, 2:]).any(axis=1)))
            raise DatasetError(f"boxes must have x1 <= x2 and y1 <= y2; box {row} is {xyxy[row].tolist()}")
        count = len(xyxy)
        object.__setattr__(self, "xyxy", xyxy)
        object.__setattr__(self, "classes", _column(self.classes, count, "", "classes"))
        object.__setattr__(self, "ids", _column(self.ids, count, "", "ids"))
        scores = np.asarray(self.scores, dtype=np.float32)
        if scores.size == 0:
            scores = np.ones(count, dtype=np.float32)
        if scores.shape != (count,):
            raise DatasetError(f"scores must have shape ({count},); got {scores.shape}")
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[FloatArray]:
        return iter(self.xyxy)

    def __getitem__(self, index: ArrayLike) -> BoxSet:
        keep = np.atleast_1d(np.asarray(index))
        if keep.size == 0:
            keep = keep.astype(np.int64)
        return BoxSet(self.xyxy[keep], self.classes[keep], self.scores[keep], self.ids[keep])

    @property
    def areas(self) -> FloatArray:
        """(N,) float32, square pixels."""
        sides = self.xyxy[:, 2:] - self.xyxy[:, :2]
        return np.asarray(sides[:, 0] * sides[:, 1], dtype=np.float32)

    def scaled(self, factor_x: float, factor_y: float | None = None) -> BoxSet:
        """The same boxes in a frame resized by the given factors."""
        factor_y = factor_x if factor_y is None else factor_y
        factors = np.array([factor_x, factor_y, factor_x, factor_y], dtype=np.float32)
        return BoxSet(self.xyxy * factors, self.classes, self.scores, self.ids)

    def clipped(self, width: float, height: float) -> BoxSet:
        """The same boxes cut at the frame's border; a box wholly outside becomes one without area."""
        limits = np.array([width, height, width, height], dtype=np.float32)
        return BoxSet(np.clip(self.xyxy, 0, limits), self.classes, self.scores, self.ids)


def _column(values: ArrayLike | Sequence[object], count: int, default: object, name: str) -> NDArray[np.object_]:
    column = np.asarray(values, dtype=object)
    if column.size == 0:
        column = np.full(count, default, dtype=object)
    if column.shape != (count,):
        raise DatasetError(f"{name} must have shape ({count},); got {column.shape}")
    return column


def iou_matrix(first: BoxSet, second: BoxSet) -> FloatArray:
    """Intersection over union of every pair: (N, M) float32 in 0..1; 0 where a box has no area."""
    a, b = first.xyxy[:, None, :], second.xyxy[None, :, :]
    overlap = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    intersection = overlap[..., 0] * overlap[..., 1]
    union = first.areas[:, None] + second.areas[None, :] - intersection
    return np.asarray(np.where(union > 0, intersection / np.where(union > 0, union, 1), 0), dtype=np.float32)


@dataclass(frozen=True)
class Matching:
    """Result of a one-to-one matching.

    Attributes:
        pairs: (P, 2) int64, rows of (index in first, index in second).
        ious: (P,) float32, overlap of each pair.
        unmatched_first: (U,) int64, indices of ``first`` without a partner.
        unmatched_second: (V,) int64, indices of ``second`` without a partner.
    """

    pairs: IntArray
    ious: FloatArray
    unmatched_first: IntArray
    unmatched_second: IntArray


def match(first: BoxSet, second: BoxSet, *, min_iou: float = DEFAULT_MATCH_IOU, class_aware: bool = True) -> Matching:
    """Match boxes one to one so that the sum of overlaps is largest (Hungarian method).

    A pair needs an overlap of at least ``min_iou`` and, when ``class_aware``, the same class name. Each box has at most
    one partner: a second detection of an annotated plant stays unmatched.
    """
    overlaps = iou_matrix(first, second)
    allowed = overlaps >= min_iou
    if class_aware:
        allowed &= first.classes[:, None] == second.classes[None, :]
    gains = np.where(allowed, overlaps, 0.0)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    kept = allowed[rows, columns]
    rows, columns = rows[kept].astype(np.int64), columns[kept].astype(np.int64)
    return Matching(
        pairs=np.stack([rows, columns], axis=1),
        ious=overlaps[rows, columns].astype(np.float32),
        unmatched_first=np.setdiff1d(np.arange(len(first), dtype=np.int64), rows),
        unmatched_second=np.setdiff1d(np.arange(len(second), dtype=np.int64), columns),
    )
