"""The confusion matrix of a detector, and the frames behind each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from obdb_lib.boxes import DEFAULT_MATCH_IOU, BoxSet, match
from obdb_lib.evaluation import check_tables
from obdb_lib.snapshots import BOX

BACKGROUND = "(background)"
"""As a row: soil that the detector took for a plant; as a column: plants that it missed."""
DEFAULT_SCORE = 0.5
"""Detections below this do not count; lower it to see more confusion, raise it to see more missed plants."""


@dataclass(frozen=True)
class Confusion:
    """What was annotated (rows) against what was detected (columns).

    Attributes:
        matrix: (K + 1, K + 1) counts; index and columns are the classes and BACKGROUND (last). The cell background x
            background is 0: nobody counts the plants that are not there.
        events: one row a box or pair: img_path, annotated, detected (class or BACKGROUND), overlap (NaN without pair),
            score (NaN without detection).
        min_score, min_iou: what was counted.
    """

    matrix: pd.DataFrame
    events: pd.DataFrame
    min_score: float | Mapping[str, float]
    min_iou: float

    def frames(self, annotated: str, detected: str) -> list[str]:
        """Frames behind a cell, those with most of its boxes first."""
        mine = self.events[(self.events["annotated"] == annotated) & (self.events["detected"] == detected)]
        counts = mine.groupby("img_path").size().rename("n").reset_index()
        return list(counts.sort_values(["n", "img_path"], ascending=[False, True])["img_path"])


def confusion(
    detections: pd.DataFrame,
    truth: pd.DataFrame,
    img_paths: Sequence[str],
    classes: Sequence[str],
    *,
    min_score: float | Mapping[str, float] = DEFAULT_SCORE,
    min_iou: float = DEFAULT_MATCH_IOU,
) -> Confusion:
    """Match boxes one to one whatever their class, and count which class met which.

    On each frame the detections of ``min_score`` or more and the annotations are paired so that the sum of overlaps is
    largest (``boxes.match``), pairs below ``min_iou`` left out. A pair of different classes is a confusion; what is
    left over meets the background. A second detection of a plant, of whatever class, is therefore a false one.

    Args:
        detections, truth, img_paths, classes: as for ``coco_metrics``.
        min_score: one threshold, or one by class (``curves.best_thresholds``; a class that is not named takes
            DEFAULT_SCORE).

    Raises:
        DatasetError: no images, or a class that is not in ``classes``.
    """
    found, wanted = check_tables(detections, truth, img_paths, classes)
    if isinstance(min_score, Mapping):
        limits = found["object_class"].map(lambda name: min_score.get(name, DEFAULT_SCORE)).astype(float)
    else:
        limits = pd.Series(float(min_score), index=found.index)
    found = found[found["score"] >= limits - 1e-7]
    by_frame = {str(name): part for name, part in found.groupby("img_path")}
    annotated = {str(name): part for name, part in wanted.groupby("img_path")}
    rows: list[tuple[str, str, str, float, float]] = []
    for img_path in dict.fromkeys(img_paths):
        if img_path in by_frame or img_path in annotated:
            rows += _events(img_path, _boxes(by_frame.get(img_path)), _boxes(annotated.get(img_path)), min_iou)
    events = pd.DataFrame(rows, columns=["img_path", "annotated", "detected", "overlap", "score"])
    names = [*classes, BACKGROUND]
    matrix = pd.crosstab(events["annotated"], events["detected"]).reindex(index=names, columns=names, fill_value=0)
    return Confusion(matrix.astype(int), events, min_score, min_iou)


def _boxes(table: pd.DataFrame | None) -> BoxSet:
    if table is None:
        return BoxSet(np.empty((0, 4), dtype=np.float32))
    scores = table["score"] if "score" in table else pd.Series(1.0, index=table.index)
    return BoxSet(table[BOX].to_numpy(np.float32), table["object_class"].to_numpy(object), scores.to_numpy(np.float32))


def _events(img_path: str, found: BoxSet, wanted: BoxSet, min_iou: float) -> list[tuple[str, str, str, float, float]]:
    matching = match(found, wanted, min_iou=min_iou, class_aware=False)
    nan = float("nan")
    rows = [
        (img_path, str(wanted.classes[w]), str(found.classes[f]), float(overlap), float(found.scores[f]))
        for (f, w), overlap in zip(matching.pairs, matching.ious, strict=True)
    ]
    rows += [(img_path, str(wanted.classes[w]), BACKGROUND, nan, nan) for w in matching.unmatched_second]
    rows += [
        (img_path, BACKGROUND, str(found.classes[f]), nan, float(found.scores[f])) for f in matching.unmatched_first
    ]
    return rows
