"""Evidence that a plant of a class stands in a box: numbers made alike for candidates and annotations.

A *claim* says "a plant of this class stands here, though nobody drew it". Candidates for missing boxes are claims; so
is every annotation, taken as if it were not drawn. What both have in common is what a probability is learned from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import IntArray
from obdb_lib.frame_matching import FlatBoxes, Overlaps, overlapping
from obdb_lib.snapshots import BOX
from obdb_lib.twin_frames import TwinFrames

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SAME_PLACE_IOU = 0.5
"""Boxes that overlap by this much say something of the same place; raise it to ask for tighter agreement."""
TWIN_IOU = 0.3
"""The same in a twin frame, where a box laid over from another view fits less well."""
WEAK_SCORE = 0.05
"""Detections of twins below this say nothing."""
TOUCH_IOU = 1e-6
LEAST = 1e-4
"""Probabilities are kept this far from 0 and 1 before their log odds are taken."""
BORDER = 0.005
"""A box nearer than this share of the frame's longer side to the border may be cut off by it."""
PLAIN, MIRRORED = "plain", "mirrored"


@dataclass(frozen=True)
class Claims:
    """Boxes with a class that are asked about.

    Attributes:
        table: columns img_path, object_class, x1, y1, x2, y2 (full-frame pixels), score (0..1).
        own: (N,) object, id of the annotation that is taken as not drawn; "" where there is none.
    """

    table: pd.DataFrame
    own: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Scene:
    """What is known of the frames.

    Attributes:
        annotations: columns of ``Snapshot.annotations``.
        detections: columns of ``detect`` and, if there, ``look`` (plain or mirrored) and ``fold``.
        twins: how frames lie over those that show the same ground.
    """

    annotations: pd.DataFrame
    detections: pd.DataFrame
    twins: TwinFrames


def evidence(claims: Claims, scene: Scene) -> pd.DataFrame:
    """Numbers about each claim, one row each, all finite.

    Returns:
        score, second_look (log odds of the score in the plain and in the mirrored frame), steady (overlap of the two),
        other_class (log odds of the strongest detection of another class there), looks (mean score over the detectors
        that looked), folds (share of them that sees it), stronger (overlap with the surest stronger detection), repeats
        (log of the detections on the place), common (log share of its class among the annotations), size and odd_size
        (log area against its class, in standard deviations), aspect, border, overlap and covered (with other
        annotations, 0..1), and of the frames that show the same ground: twins (log of how many), and drawn, drawn_any,
        detected (the mean overlap with annotations of the class, of any class, and with detections times their score),
        drawn_share (in how many) and detected_share (mean score there).
    """
    frame = _Numbering(claims, scene)
    columns = {
        **_looks(claims, scene, frame),
        **_shape(claims, scene, frame),
        **_neighbours(claims, scene, frame),
        **_twins(claims, scene, frame),
    }
    return pd.DataFrame(columns)


class _Numbering:
    """Claims, annotations and detections in one numbering of frames and classes."""

    def __init__(self, claims: Claims, scene: Scene) -> None:
        tables = (claims.table, scene.annotations, scene.detections)
        self.classes = pd.Index(sorted({name for table in tables for name in table["object_class"].unique()}))
        self.twins = scene.twins
        self.claims, self.annotations, self.detections = (self.flat(table) for table in tables)

    def flat(self, table: pd.DataFrame) -> FlatBoxes:
        frame = self.twins.number(table["img_path"])
        label = self.classes.get_indexer(pd.Index(table["object_class"])).astype(np.int64)
        return FlatBoxes(table[BOX].to_numpy(np.float32), frame, label)


def log_odds(values: Floats) -> Floats:
    """Of probabilities, which are kept ``LEAST`` away from 0 and 1."""
    kept = np.clip(values, LEAST, 1 - LEAST)
    return np.asarray(np.log(kept / (1 - kept)), dtype=np.float64)


def _strongest(count: int, rows: IntArray, values: NDArray[np.floating]) -> Floats:
    """(count,) the largest value of each row, 0 without one."""
    found = np.zeros(count)
    np.maximum.at(found, rows, values.astype(np.float64))
    return found


def _looks(claims: Claims, scene: Scene, frame: _Numbering) -> dict[str, Floats]:
    count, table = len(claims), scene.detections
    score = claims.table["score"].to_numpy(np.float64)
    their_score = table["score"].to_numpy(np.float64)
    pairs = overlapping(frame.claims, frame.detections, min_iou=TWIN_IOU)
    same = frame.claims.label[pairs.first] == frame.detections.label[pairs.second]
    tight = pairs.iou >= SAME_PLACE_IOU
    mirrored = _where(table, "look", MIRRORED)[pairs.second]
    plain = ~mirrored
    values = their_score[pairs.second]

    def best(chosen: Bools, what: NDArray[np.floating] = values) -> Floats:
        return _strongest(count, pairs.first[chosen], what[chosen])

    stronger = plain & (values > score[pairs.first])
    folds = table["fold"].to_numpy(np.int64) if "fold" in table else np.zeros(len(table), dtype=np.int64)
    mean, agree = _agreement(frame, pairs[plain & tight & same], their_score, folds)
    return {
        "score": log_odds(score),
        "second_look": log_odds(best(mirrored & tight & same)),
        "steady": best(mirrored & same, pairs.iou),
        "other_class": log_odds(best(plain & tight & ~same)),
        "looks": mean,
        "folds": agree,
        "stronger": best(stronger, pairs.iou),
        "repeats": np.log1p(np.bincount(pairs.first[plain & tight], minlength=count).astype(np.float64)),
    }


def _where(table: pd.DataFrame, column: str, value: object) -> Bools:
    if column not in table:
        return np.zeros(len(table), dtype=bool)
    return (table[column] == value).to_numpy(bool)


def _agreement(frame: _Numbering, pairs: Overlaps, scores: Floats, folds: IntArray) -> tuple[Floats, Floats]:
    """Over the detectors that looked at each claim's frame: their mean score there, and the share that sees it.

    Args:
        pairs: claims with plain detections of their class on their place.
        scores, folds: of the detections. A detector that found nothing at all in a frame is taken as not having looked.
    """
    count, numbers = len(frame.claims), int(folds.max(initial=0)) + 1
    best = _strongest(count * numbers, pairs.first * numbers + folds[pairs.second], scores[pairs.second])
    each = best.reshape(count, numbers)
    looked = np.unique(frame.detections.frame * numbers + folds) // numbers
    judges = np.bincount(looked, minlength=len(frame.twins.names))[frame.claims.frame]
    judges = np.maximum(judges, 1)
    return each.sum(axis=1) / judges, (each > 0).sum(axis=1) / judges


def _shape(claims: Claims, scene: Scene, frame: _Numbering) -> dict[str, Floats]:
    boxes = claims.table[BOX].to_numpy(np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    area = np.log(sides.prod(axis=1))
    drawn = scene.annotations[BOX].to_numpy(np.float64)
    drawn_area = np.log(np.maximum(drawn[:, 2:] - drawn[:, :2], 1e-3).prod(axis=1))
    middle, spread = np.zeros(len(frame.classes)), np.ones(len(frame.classes))
    for label in range(len(frame.classes)):
        own = drawn_area[frame.annotations.label == label]
        if len(own) > 1:
            middle[label], spread[label] = np.median(own), max(float(own.std()), 0.05)
        else:  # a class that is hardly drawn is told by no size of its own
            middle[label] = float(np.median(drawn_area)) if len(drawn_area) else 0.0
            spread[label] = max(float(drawn_area.std()), 0.05) if len(drawn_area) > 1 else 1.0
    size = (area - middle[frame.claims.label]) / spread[frame.claims.label]
    picture = frame.twins.sizes[frame.claims.frame]
    margin = BORDER * picture.max(axis=1, initial=1.0)
    at_border = np.minimum(boxes[:, :2].min(axis=1), (picture - boxes[:, 2:]).min(axis=1)) < margin
    drawn_of = np.bincount(frame.annotations.label, minlength=len(frame.classes)).astype(np.float64)
    common = np.log((drawn_of + 1) / (drawn_of.sum() + len(drawn_of)))
    return {
        "common": common[frame.claims.label],
        "size": size,
        "odd_size": np.abs(size),
        "aspect": np.abs(np.log(sides[:, 0] / sides[:, 1])),
        "border": at_border.astype(np.float64),
    }


def _neighbours(claims: Claims, scene: Scene, frame: _Numbering) -> dict[str, Floats]:
    """Other annotations of the same frame; an overlap with one is a hint, no verdict."""
    pairs = overlapping(frame.claims, frame.annotations, min_iou=TOUCH_IOU)
    ids = scene.annotations["annotation_id"].to_numpy(object)
    pairs = pairs[ids[pairs.second] != claims.own[pairs.first]]
    areas = [(b.xyxy[:, 2] - b.xyxy[:, 0]) * (b.xyxy[:, 3] - b.xyxy[:, 1]) for b in (frame.claims, frame.annotations)]
    mine, theirs = areas[0][pairs.first], areas[1][pairs.second]
    inside = pairs.iou * (mine + theirs) / (1 + pairs.iou) / np.maximum(mine, 1e-6)
    return {
        "overlap": _strongest(len(claims), pairs.first, pairs.iou),
        "covered": _strongest(len(claims), pairs.first, np.minimum(inside, 1)),
    }


def _twins(claims: Claims, scene: Scene, frame: _Numbering) -> dict[str, Floats]:
    """The same ground in other frames. Their annotations all count: what is in doubt is this frame's alone."""
    count = len(claims)
    row, twin, boxes = frame.twins.projected(frame.claims.frame, claims.table[BOX].to_numpy(np.float32))
    seen = np.bincount(row, minlength=count).astype(np.float64)
    laid = FlatBoxes(boxes.astype(np.float32), twin, frame.claims.label[row])
    weak = scene.detections["score"].to_numpy(np.float64)
    said = (weak >= WEAK_SCORE) & ~_where(scene.detections, "look", MIRRORED)

    def in_twins(others: FlatBoxes, weight: Floats, *, class_aware: bool) -> tuple[Floats, Floats]:
        pairs = overlapping(laid, others, min_iou=TWIN_IOU, class_aware=class_aware)
        fits = _strongest(len(row), pairs.first, pairs.iou * weight[pairs.second])
        there = _strongest(len(row), pairs.first, weight[pairs.second])
        fits, there = (np.bincount(row, one, minlength=count) / np.maximum(seen, 1) for one in (fits, there))
        return fits, there

    ones = np.ones(len(scene.annotations))
    drawn, drawn_share = in_twins(frame.annotations, ones, class_aware=True)
    drawn_any, _ = in_twins(frame.annotations, ones, class_aware=False)
    detected, detected_share = in_twins(frame.detections[said], weak[said], class_aware=True)
    return {
        "twins": np.log1p(seen),
        "drawn": drawn,
        "drawn_share": drawn_share,
        "drawn_any": drawn_any,
        "detected": detected,
        "detected_share": detected_share,
    }
