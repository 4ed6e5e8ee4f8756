"""Upstream's files: Pascal VOC AP per class, and its grid of counts over confidence and overlap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from obdb_lib.cache import write_json
from obdb_lib.curves import confidence_sweep
from obdb_lib.matches import NOTHING, Bools, Matches

ClassMetrics = dict[str, dict[str, dict[str, dict[str, float]]]]
"""class -> TP, FP, FN, precision, recall, f1 -> confidence -> IoU -> value."""

UPSTREAM_IOU = 0.3
"""Upstream counted a plant as found at this overlap; VOC's own rule is .5."""
ALL_POINT = "all-point"
ELEVEN_POINT = "11-point"
CLASS_METRICS_NAME = "class_metrics.json"
_COUNTS = {"TP": "right", "FP": "false", "FN": "missed", "precision": "precision", "recall": "recall", "f1": "f1"}


def voc_average_precision(matches: Matches, *, iou: float = UPSTREAM_IOU, method: str = ALL_POINT) -> dict[str, Any]:
    """AP per class by the rules of Pascal VOC (Everingham et al. 2010, IJCV 88, 303-338, section 4.2 and 5.2.3).

    Each detection is held against the annotation of its class that it overlaps most. It is right when that overlap is
    ``iou`` or more and no surer detection has that annotation already; unlike COCO's rule it may not fall back on
    another one. Overlaps are of real-valued boxes, without the pixel that VOC's own program adds to each side.

    Args:
        matches: of ``match_detections``, at any overlaps.
        method: "all-point" (area under the envelope, VOC 2010 and later) or "11-point" (mean at recalls 0, .1 ... 1,
            VOC 2007).

    Returns:
        iou_threshold, method, mAP (over classes with annotations; None without any), and ``classes``: name -> AP (None
        without annotations), ``total positives``, ``total TP``, ``total FP``.

    Raises:
        ValueError: another method.
    """
    if method not in (ALL_POINT, ELEVEN_POINT):
        raise ValueError(f"the method is {ALL_POINT!r} or {ELEVEN_POINT!r}; got {method!r}")
    hits = np.zeros(len(matches.score), dtype=bool)
    near = np.flatnonzero((matches.overlap >= iou) & (matches.nearest != NOTHING))
    hits[near[np.unique(matches.nearest[near], return_index=True)[1]]] = True
    classes: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(matches.classes):
        own, truths = hits[matches.label == k], int((matches.truth_label == k).sum())
        score = _area(own, truths, method) if truths else None
        counts = {"total positives": truths, "total TP": int(own.sum()), "total FP": int((~own).sum())}
        classes[name] = {"AP": score, **counts}
    known = [entry["AP"] for entry in classes.values() if entry["AP"] is not None]
    mean = float(np.mean(known)) if known else None
    return {"iou_threshold": iou, "method": method, "mAP": mean, "classes": classes}


def _area(hits: Bools, truths: int, method: str) -> float:
    right = np.cumsum(hits)
    recall, precision = right / truths, right / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if method == ELEVEN_POINT:
        return float(envelope[np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-9, side="left")].mean())
    return float((np.diff(recall, prepend=0.0) * envelope[:-1]).sum())


def write_average_precision(folder: Path, result: dict[str, Any], *, when: datetime | None = None) -> Path:
    """Write ``AveragePrecision_YYYY_MM_DD_HH_MM_SS.json``; returns its path.

    Raises:
        CacheError: the folder cannot be written.
    """
    path = folder / f"AveragePrecision_{(when or datetime.now()).strftime('%Y_%m_%d_%H_%M_%S')}.json"
    write_json(path, result)
    return path


def class_metrics(matches: Matches, confidences: Sequence[float]) -> ClassMetrics:
    """Upstream's ``class_metrics.json``: class -> TP, FP, FN, precision, recall, f1 -> confidence -> IoU -> value.

    Same keys, other counts: upstream counted a detection once for each annotation it met (its FP could fall below
    zero); here each annotation is found once. Precision, recall and f1 are 0 where they are not defined, as upstream.
    """
    limits = tuple(float(value) for value in confidences)
    result: ClassMetrics = {
        name: {key: {str(value): {} for value in limits} for key in _COUNTS} for name in matches.classes
    }
    for iou in matches.ious:
        sweep = confidence_sweep(matches, iou=iou, thresholds=limits)
        for row in sweep[sweep["object_class"].isin(matches.classes)].to_dict("records"):
            for key, column in _COUNTS.items():
                value = float(row[column])
                plain = int(value) if key in ("TP", "FP", "FN") else (0.0 if np.isnan(value) else value)
                result[row["object_class"]][key][str(row["threshold"])][str(iou)] = plain
    return result
