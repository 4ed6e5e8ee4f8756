"""Precision and recall against the score threshold: the curves, and the threshold with the best F1 of each class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from obdb_lib.intervals import ALL
from obdb_lib.matches import NOTHING, Matches

THRESHOLDS = tuple(np.round(np.arange(0.01, 1.0, 0.01), 2).tolist())
"""Score thresholds of a sweep."""
CURVE_IOU = 0.5


def precision_recall(matches: Matches, *, iou: float = CURVE_IOU) -> pd.DataFrame:
    """The curve of each class, a row a detection, the surest first.

    Returns:
        Columns object_class, score, precision, recall, and best_precision: the best at this recall or more, as AP
        counts it; all 0..1. A class without annotations has no rows.
    """
    found = matches.at(iou) != NOTHING
    parts = []
    for k, name in enumerate(matches.classes):
        own, truths = matches.label == k, int((matches.truth_label == k).sum())
        if not truths:
            continue
        right = np.cumsum(found[own])
        precision = right / np.arange(1, len(right) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        columns = {"score": matches.score[own], "precision": precision, "recall": right / truths}
        parts.append(pd.DataFrame({"object_class": name, **columns, "best_precision": best}))
    names = ["object_class", "score", "precision", "recall", "best_precision"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def confidence_sweep(
    matches: Matches, *, iou: float = CURVE_IOU, thresholds: tuple[float, ...] = THRESHOLDS
) -> pd.DataFrame:
    """Precision, recall and F1 when detections below a score are dropped.

    Returns:
        A row a class (and one for ALL: every box counts the same) and threshold: object_class, threshold, right, false,
        missed (boxes), precision (NaN where nothing is left), recall, f1 (0 where nothing is right; NaN without truth).
    """
    found = matches.at(iou) != NOTHING
    limits = np.asarray(thresholds, dtype=np.float64)
    parts = []
    for k in range(-1, len(matches.classes)):
        own = np.ones(len(found), dtype=bool) if k < 0 else matches.label == k
        truths = len(matches.truth_label) if k < 0 else int((matches.truth_label == k).sum())
        falling = matches.score[own]
        # Scores pass through float32 on their way here: .7 is stored a hair lower and still counts as .7.
        left = np.searchsorted(-falling, -(limits - 1e-7), side="right")
        right = np.append(0, np.cumsum(found[own]))[left]
        table = pd.DataFrame({"object_class": ALL if k < 0 else matches.classes[k], "threshold": limits})
        parts.append(table.assign(right=right, false=left - right, missed=truths - right))
    sweep = pd.concat(parts, ignore_index=True)
    kept, truths_there = sweep["right"] + sweep["false"], sweep["right"] + sweep["missed"]
    sweep["precision"] = sweep["right"] / kept.where(kept > 0)
    sweep["recall"] = sweep["right"] / truths_there.where(truths_there > 0)
    sweep["f1"] = 2 * sweep["right"] / (kept + truths_there).where(truths_there > 0)
    return sweep


def best_thresholds(sweep: pd.DataFrame) -> pd.DataFrame:
    """The row of ``confidence_sweep`` with the best F1 of each class; of equals the lowest threshold, NaN where no
    threshold leaves a right detection.

    Beware: chosen on the frames that judge, it looks a little better than it will be on new ones.
    """
    known = sweep[sweep["f1"].notna()]
    best = known.loc[known.groupby("object_class", sort=False)["f1"].idxmax()].set_index("object_class")
    best["threshold"] = best["threshold"].where(best["f1"] > 0)
    return best
