"""Which detection found which annotated plant: COCO's greedy matching, done once and read by every measure after it.

Precision-recall curves, confidence sweeps, intervals and scores per cluster all count the same matches, so they agree
with each other and with ``evaluation.coco_metrics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import IntArray
from obdb_lib.evaluation import MOST_BOXES, check_tables
from obdb_lib.snapshots import BOX

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

COCO_IOUS: tuple[float, ...] = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
RECALLS = np.linspace(0, 1, 101)
"""COCO's AP is the mean precision at these recalls."""
NOTHING = -1
"""In place of a truth: the detection found none."""


@dataclass(frozen=True)
class Matches:
    """Detections, surest first, and the annotation that each one found.

    Attributes:
        classes, img_paths: what ``label`` and ``image`` count.
        ious: (T,) overlaps from which a box counts as found.
        image, label: (D,) int64 of each detection.
        score: (D,) float64, 0..1, falling.
        truth: (T, D) int64, index of the annotation found at that overlap, or NOTHING.
        overlap: (D,) float64, largest overlap with any annotation of its image and class; 0 where it has none.
        nearest: (D,) int64, that annotation, or NOTHING.
        truth_image, truth_label: (G,) int64 of each annotation.
        truth_row: (G,) int64, its row in the truth table that was given.
    """

    classes: tuple[str, ...]
    img_paths: tuple[str, ...]
    ious: tuple[float, ...]
    image: IntArray
    label: IntArray
    score: Floats
    truth: IntArray
    overlap: Floats
    nearest: IntArray
    truth_image: IntArray
    truth_label: IntArray
    truth_row: IntArray

    def at(self, iou: float) -> IntArray:
        """(D,) annotation found at one overlap, NOTHING where none.

        Raises:
            ValueError: the matches were not made for that overlap.
        """
        return cast(IntArray, self.truth[place_of(self.ious, iou)])


def place_of(ious: Sequence[float], iou: float) -> int:
    """Place of an overlap among those that were matched; ValueError names them when it is not there."""
    found = np.flatnonzero(np.isclose(ious, iou))
    if not len(found):
        raise ValueError(f"the boxes were matched at IoU {', '.join(f'{one:g}' for one in ious)}, not at {iou:g}")
    return int(found[0])


def match_detections(
    detections: pd.DataFrame,
    truth: pd.DataFrame,
    img_paths: Sequence[str],
    classes: Sequence[str],
    *,
    ious: Sequence[float] = COCO_IOUS,
) -> Matches:
    """Match detections with annotations of their image and class as COCO does (Lin et al. 2014, and its public code).

    The surest detection chooses first and takes the free annotation it overlaps most, if by ``iou`` or more; each
    annotation is found once, a second detection of it is false.

    Args:
        detections: columns as ``detect`` returns; rows of other images are ignored.
        truth: columns img_path, object_class, x1, y1, x2, y2 (full-frame pixels).
        img_paths: all judged images, those without boxes too.
        ious: overlaps to match at, 0..1, each by itself.

    Raises:
        DatasetError: no images, or a class that is not in ``classes``.
    """
    check_tables(detections, truth, img_paths, classes)
    names, labels = tuple(dict.fromkeys(img_paths)), tuple(classes)
    found, found_image, found_label, _ = _columns(detections, names, labels)
    wanted, truth_image, truth_label, truth_row = _columns(truth, names, labels)
    known = detections["img_path"].isin(set(names)).to_numpy(bool)
    score = detections.loc[known, "score"].to_numpy(np.float64)
    # Ties of the score are broken as COCO does: by image, then by the order given.
    order = np.lexsort((np.arange(len(score)), found_image, -score))
    found, found_image, found_label, score = found[order], found_image[order], found_label[order], score[order]
    rank = _ranks(found_image * len(labels) + found_label)
    judged = rank < MOST_BOXES
    found, found_image, found_label = found[judged], found_image[judged], found_label[judged]
    score, rank = score[judged], rank[judged]
    pairs = _pairs(found, found_image * len(labels) + found_label, wanted, truth_image * len(labels) + truth_label)
    overlap, nearest = np.zeros(len(score)), np.full(len(score), NOTHING, dtype=np.int64)
    by_overlap = np.argsort(pairs[2], kind="stable")
    overlap[pairs[0][by_overlap]], nearest[pairs[0][by_overlap]] = pairs[2][by_overlap], pairs[1][by_overlap]
    chosen = _greedy(*pairs, rank, len(wanted), np.asarray(ious, dtype=np.float64))
    return Matches(
        classes=labels,
        img_paths=names,
        ious=tuple(float(iou) for iou in ious),
        image=found_image,
        label=found_label,
        score=score,
        truth=chosen,
        overlap=overlap,
        nearest=nearest,
        truth_image=truth_image,
        truth_label=truth_label,
        truth_row=truth_row,
    )


def _columns(
    table: pd.DataFrame, img_paths: Sequence[str], classes: Sequence[str]
) -> tuple[Floats, IntArray, IntArray, IntArray]:
    """Boxes (x, y, width, height), image, label and row of the table's rows on judged images."""
    image = pd.Index(img_paths).get_indexer(pd.Index(table["img_path"])).astype(np.int64)
    rows = np.flatnonzero(image >= 0)
    boxes = table[BOX].to_numpy(np.float64, copy=True)[rows]
    boxes[:, 2:] -= boxes[:, :2]
    label = pd.Index(classes).get_indexer(pd.Index(table["object_class"])).astype(np.int64)[rows]
    return boxes, image[rows], label, rows.astype(np.int64)


def _ranks(keys: IntArray) -> IntArray:
    """(N,) how many equal keys stand before each one."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys)))
    return ranks


def _pairs(
    found: Floats, found_key: IntArray, wanted: Floats, wanted_key: IntArray
) -> tuple[IntArray, IntArray, Floats]:
    """Overlapping pairs of the same image and class: detection, annotation (rising), overlap."""
    order = np.argsort(wanted_key, kind="stable")
    keys = wanted_key[order]
    first, last = np.searchsorted(keys, found_key, "left"), np.searchsorted(keys, found_key, "right")
    counts = last - first
    detection = np.repeat(np.arange(len(found_key)), counts)
    offset = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts, counts)
    annotation = order[np.repeat(first, counts) + offset]
    a, b = found[detection], wanted[annotation]
    sides = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    touching = overlap > 0
    return detection[touching].astype(np.int64), annotation[touching].astype(np.int64), overlap[touching]


def _greedy(
    detection: IntArray, annotation: IntArray, overlap: Floats, rank: IntArray, truths: int, ious: Floats
) -> IntArray:
    """(T, D) annotation taken by each detection. Those of one rank, at most one an image and class, choose at once."""
    chosen = np.full((len(ious), len(rank)), NOTHING, dtype=np.int64)
    taken = np.zeros((len(ious), truths), dtype=bool)
    # COCO compares with a hair below 1, so that equal boxes match at any overlap.
    limits = np.minimum(ious, 1 - 1e-10)[:, None]
    near = np.flatnonzero(overlap >= limits.min(initial=1.0))
    # Within a rank the largest overlap comes last, and of equals the later annotation: what is written last stays.
    order = near[np.lexsort((annotation[near], overlap[near], rank[detection[near]]))]
    ranks = rank[detection[order]]
    for start, end in zip(*_runs(ranks), strict=True):
        pairs = order[start:end]
        free = (overlap[pairs] >= limits) & ~taken[:, annotation[pairs]]
        level, place = np.nonzero(free)
        chosen[level, detection[pairs[place]]] = annotation[pairs[place]]
        taken[level, chosen[level, detection[pairs[place]]]] = True
    return chosen


def _runs(values: IntArray) -> tuple[IntArray, IntArray]:
    """Where runs of equal values start and end."""
    starts = np.flatnonzero(np.diff(values, prepend=-1)).astype(np.int64)
    return starts, np.append(starts, len(values))[1:].astype(np.int64)


def average_precision(hits: Bools, truths: float, weights: Floats | None = None) -> float:
    """COCO's AP of one class at one overlap: mean over RECALLS of the best precision at that recall or more.

    Args:
        hits: (D,) whether each detection, surest first, is right.
        truths: how many there are to find; NaN is returned for none.
        weights: (D,) how often each detection counts; once when None.
    """
    if not truths:
        return float("nan")
    weights = np.ones(len(hits)) if weights is None else weights
    right, all_found = np.cumsum(weights * hits), np.cumsum(weights)
    precision = right / (all_found + np.spacing(1))
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(right / truths, RECALLS, side="left")].mean())


def class_precisions(matches: Matches) -> Floats:
    """(K, T) AP of each class at each overlap; NaN for a class without annotations."""
    table = np.full((len(matches.classes), len(matches.ious)), np.nan)
    for k in range(len(matches.classes)):
        own, truths = matches.label == k, int((matches.truth_label == k).sum())
        table[k] = [average_precision(found[own] != NOTHING, truths) for found in matches.truth]
    return table
