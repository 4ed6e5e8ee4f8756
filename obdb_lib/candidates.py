"""Candidates: places where detections and annotations disagree, of all frames at once, for a person to judge.

Four kinds: *missing* (a detection that no annotation explains), *swapped_class* (another class is detected on an
annotation far more surely than its own), *bad_location* (the detection of the class lies beside the annotation rather
than on it) and *spurious* (an annotation that no detection supports).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import DEFAULT_MATCH_IOU, FloatArray, IntArray
from obdb_lib.errors import DatasetError
from obdb_lib.explained import (
    DEFAULT_LOOSE_IOU,
    DEFAULT_MERGE_IOU,
    DEFAULT_REPEAT_IOU,
    DEFAULT_RIVAL_SHARE,
    DEFAULT_SURE_SCORE,
    LOOSE,
    OPEN,
    SWAPPED,
    TOUCH_IOU,
    Limits,
    judge,
)
from obdb_lib.frame_matching import FlatBoxes, Overlaps, flat_boxes, overlapping
from obdb_lib.snapshots import BOX, Snapshot

MISSING, SWAPPED_CLASS, BAD_LOCATION, SPURIOUS = KINDS = ("missing", "swapped_class", "bad_location", "spurious")
DEFAULT_CANDIDATE_SCORE = 0.05
"""Detections below this propose nothing; lower it for more and weaker candidates."""
DEFAULT_SPURIOUS_BELOW = 0.1
"""An annotation is spurious when no detection on it scores this much; raise it for more candidates."""
CANDIDATE_COLUMNS = [
    *("img_path", "kind", "object_class", *BOX, "score", "annotation_id", "overlap"),
    *("annotation_class", "annotation_x1", "annotation_y1", "annotation_x2", "annotation_y2", "inside", "merged"),
]
TEXT_COLUMNS = ("img_path", "kind", "object_class", "annotation_id", "annotation_class")
ANNOTATION_BOX = [f"annotation_{name}" for name in BOX]


def find_candidates(
    detections: pd.DataFrame,
    annotations: Snapshot | pd.DataFrame,
    *,
    img_paths: Sequence[str] | None = None,
    min_score: float | Mapping[str, float] = DEFAULT_CANDIDATE_SCORE,
    default_score: float = DEFAULT_CANDIDATE_SCORE,
    min_iou: float = DEFAULT_MATCH_IOU,
    loose_iou: float = DEFAULT_LOOSE_IOU,
    repeat_iou: float = DEFAULT_REPEAT_IOU,
    merge_iou: float = DEFAULT_MERGE_IOU,
    sure_score: float = DEFAULT_SURE_SCORE,
    rival_share: float = DEFAULT_RIVAL_SHARE,
    loose_other_class: bool = False,
    spurious_below: float = DEFAULT_SPURIOUS_BELOW,
    kinds: Sequence[str] = KINDS,
) -> pd.DataFrame:
    """All candidates, by image and falling score.

    A detection gives at most one candidate, and an annotation too (spurious before swapped_class before bad_location).

    Args:
        detections: columns img_path, x1, y1, x2, y2 (pixels of the full frame), object_class, score (0..1);
            ``attrs["unreadable"]`` (img_path -> reason), if there, names frames that the detector could not judge.
        annotations: a snapshot, or a table with img_path, object_class, x1..y2 and, if it has, annotation_id.
        img_paths: the frames that the detector judged, those without a detection too; None: all frames of the
            snapshot (of both tables). An annotation on a frame outside is never spurious.
        min_score: one threshold for detections to propose, or one for each class.
        default_score: threshold of a class that ``min_score`` does not name.
        min_iou .. loose_other_class: see ``explained.Limits``.
        spurious_below: 0..1, an annotation is spurious when every detection that overlaps it by ``loose_iou``, of any
            class and also below ``min_score``, scores less.
        kinds: those to return; each candidate's kind does not depend on it.

    Returns:
        Columns CANDIDATE_COLUMNS. Box and class are what is proposed (spurious: the annotation's own). ``score``: the
        detector's (spurious: the best of its class that overlaps it by ``loose_iou``, 0 for none). ``overlap``: largest
        IoU with any annotation (spurious: any other one). ``annotation_id``, ``annotation_class`` and its box: the
        annotation concerned; "" and NaN for missing. ``inside``: 0..1, largest share of the box inside one annotation
        (spurious: any other one). ``merged``: weaker detections of the same place that were dropped for this one.
        ``.attrs`` accounts for every frame: ``images`` (judged), ``unreadable`` (img_path -> reason),
        ``without_annotations`` and ``without_detections`` (numbers of judged frames), ``unknown`` (frames with
        detections that are not among the judged ones, left out) and ``kinds`` (numbers, of all four).

    Raises:
        DatasetError: a column is missing, a value out of range, an unknown kind.
    """
    limits = Limits(min_iou, loose_iou, repeat_iou, merge_iou, sure_score, rival_share, loose_other_class)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or isinstance(kinds, str):
        raise DatasetError(f"kinds must be a list of {', '.join(KINDS)}; got {kinds!r}")
    table = annotations.annotations if isinstance(annotations, Snapshot) else annotations
    _check(detections, [*("img_path", "object_class"), *BOX, "score"], "detections")
    _check(table, ["img_path", "object_class", *BOX], "annotations")
    known = annotations.frames["img_path"] if isinstance(annotations, Snapshot) else None
    judged, notes = _frames(detections, table, img_paths, known)
    found = detections[detections["img_path"].isin(judged)]
    drawn = table[table["img_path"].isin(judged)]
    kept = found["score"].to_numpy(np.float32) >= _thresholds(found, min_score, default_score)
    # A box without area proposes nothing that anybody could see.
    kept &= (found["x2"] > found["x1"]).to_numpy(bool) & (found["y2"] > found["y1"]).to_numpy(bool)
    scene = _Scene(found, drawn, kept, limits)
    result = pd.concat([scene.missing(), *scene.corrections(spurious_below)], ignore_index=True).sort_values(
        ["img_path", "score", *BOX, "kind"], ascending=[True, False, *[True] * 5], ignore_index=True
    )
    notes["without_annotations"] = len(judged) - drawn["img_path"].nunique()
    notes["without_detections"] = len(judged) - found["img_path"].nunique()
    notes["kinds"] = {kind: int((result["kind"] == kind).sum()) for kind in KINDS}
    result = result[result["kind"].isin(kinds)].reset_index(drop=True)
    result.attrs.update(notes)
    return result


def _check(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise DatasetError(f"{name} must have the columns {', '.join(columns)}; {', '.join(lacking)} are missing")
    if "score" in columns:
        scores = table["score"].to_numpy(np.float64)
        wrong = ~((scores >= 0) & (scores <= 1))
        if wrong.any():
            raise DatasetError(f"scores must be 0..1; {int(wrong.sum())} are not, the first is {scores[wrong][0]}")


def _frames(
    detections: pd.DataFrame, annotations: pd.DataFrame, img_paths: Sequence[str] | None, known: pd.Series | None
) -> tuple[set[str], dict[Hashable, object]]:
    """The judged frames, and the account of all others."""
    if img_paths is not None:
        asked = set(img_paths)
    elif known is not None:
        asked = set(known)
    else:
        asked = set(detections["img_path"]) | set(annotations["img_path"])
    unreadable = {path: why for path, why in detections.attrs.get("unreadable", {}).items() if path in asked}
    judged = asked - set(unreadable)
    unknown = sorted(set(detections["img_path"]) - asked)
    return judged, {"images": len(judged), "unreadable": unreadable, "unknown": unknown}


def _thresholds(detections: pd.DataFrame, min_score: float | Mapping[str, float], default: float) -> FloatArray:
    if isinstance(min_score, Mapping):
        limits = detections["object_class"].map(lambda name: min_score.get(name, default))
        return limits.to_numpy(np.float32)
    return np.full(len(detections), min_score, dtype=np.float32)


class _Scene:
    """Detections and annotations of the judged frames, judged."""

    def __init__(self, found: pd.DataFrame, drawn: pd.DataFrame, kept: NDArray[np.bool_], limits: Limits) -> None:
        """``kept`` marks the detections that may propose; the others only support annotations."""
        every, self.flat_drawn = flat_boxes(found, drawn)
        self.drawn, self.found, self.flat_found = drawn, found[kept], every[kept]
        self.scores = self.found["score"].to_numpy(np.float32)
        self.judgement = judge(self.flat_found, self.scores, self.flat_drawn, limits)
        near = overlapping(every, self.flat_drawn, min_iou=limits.loose_iou)
        same = every.label[near.first] == self.flat_drawn.label[near.second]
        scores = found["score"].to_numpy(np.float32)[near.first]
        self.support, self.own_support = (np.zeros(len(drawn), dtype=np.float32) for _ in range(2))
        np.maximum.at(self.support, near.second, scores)
        np.maximum.at(self.own_support, near.second[same], scores[same])

    def missing(self) -> pd.DataFrame:
        rows = np.flatnonzero(self.judgement.role == OPEN)
        return self._proposals(MISSING, rows)

    def corrections(self, spurious_below: float) -> list[pd.DataFrame]:
        """Candidates of the three other kinds, at most one an annotation."""
        spurious = self.support < spurious_below
        role, partner = self.judgement.role, self.judgement.partner
        swapped = np.flatnonzero(role == SWAPPED)
        swapped = swapped[~spurious[partner[swapped]]]
        loose = np.flatnonzero(role == LOOSE)
        same = self.flat_found.label[loose] == self.flat_drawn.label[partner[loose]]
        loose = loose[same & ~spurious[partner[loose]]]
        return [
            self._spurious(np.flatnonzero(spurious)),
            self._proposals(SWAPPED_CLASS, swapped),
            self._proposals(BAD_LOCATION, loose),
        ]

    def _proposals(self, kind: str, rows: IntArray) -> pd.DataFrame:
        overlap, inside = largest(self.judgement.touching, self.flat_found, self.flat_drawn)
        table = self._rows(kind, self.found.iloc[rows], self.scores[rows], overlap[rows], inside[rows])
        table["merged"] = self.judgement.merged[rows]
        return table if kind == MISSING else self._concerning(table, self.judgement.partner[rows])

    def _spurious(self, rows: IntArray) -> pd.DataFrame:
        own = self.flat_drawn[rows]
        pairs = overlapping(own, self.flat_drawn, min_iou=TOUCH_IOU)
        others = pairs[rows[pairs.first] != pairs.second]
        overlap, inside = largest(others, own, self.flat_drawn)
        table = self._rows(SPURIOUS, self.drawn.iloc[rows], self.own_support[rows], overlap, inside)
        return self._concerning(table, rows)

    @staticmethod
    def _rows(
        kind: str, source: pd.DataFrame, score: FloatArray, overlap: FloatArray, inside: FloatArray
    ) -> pd.DataFrame:
        """Candidates without an annotation."""
        table = source[["img_path", "object_class", *BOX]].reset_index(drop=True)
        table[BOX] = table[BOX].astype(np.float32)
        table = table.assign(kind=kind, score=score, overlap=overlap, inside=inside, merged=0)
        table = table.assign(annotation_id="", annotation_class="", **dict.fromkeys(ANNOTATION_BOX, np.float32("nan")))
        return table[CANDIDATE_COLUMNS].astype(dict.fromkeys(TEXT_COLUMNS, object))

    def _concerning(self, table: pd.DataFrame, rows: IntArray) -> pd.DataFrame:
        """The same candidates with the annotations of these rows."""
        drawn = self.drawn.iloc[rows]
        if "annotation_id" in drawn:
            table["annotation_id"] = drawn["annotation_id"].astype(str).to_numpy(object)
        table["annotation_class"] = drawn["object_class"].to_numpy(object)
        table[ANNOTATION_BOX] = drawn[BOX].to_numpy(np.float32)
        return table


def largest(pairs: Overlaps, first: FlatBoxes, second: FlatBoxes) -> tuple[FloatArray, FloatArray]:
    """(N,) largest overlap of each first box, and the largest share of it inside one second box; 0 without a pair."""
    areas = [(one.xyxy[:, 2] - one.xyxy[:, 0]) * (one.xyxy[:, 3] - one.xyxy[:, 1]) for one in (first, second)]
    a, b = areas[0][pairs.first], areas[1][pairs.second]
    share = pairs.iou * (a + b) / (1 + pairs.iou) / a
    overlap, inside = (np.zeros(len(first), dtype=np.float32) for _ in range(2))
    np.maximum.at(overlap, pairs.first, pairs.iou)
    np.maximum.at(inside, pairs.first, np.minimum(share, 1).astype(np.float32))
    return overlap, inside
