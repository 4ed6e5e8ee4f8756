"""COCO average precision of a table of detections, by faster-coco-eval.

Detecting itself lives in ``detecting``; its names can be imported from here, too.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from obdb_lib.detecting import (
    DEFAULT_SCORE_THRESHOLD,
    DETECTION_COLUMNS,
    METRIC_SCORE_THRESHOLD,
    choose_device,
    detect,
    detect_dataset,
)
from obdb_lib.errors import DatasetError

__all__ = [
    "DEFAULT_SCORE_THRESHOLD",
    "DETECTION_COLUMNS",
    "METRIC_SCORE_THRESHOLD",
    "SIZE_LIMITS",
    "Metrics",
    "check_tables",
    "choose_device",
    "coco_metrics",
    "detect",
    "detect_dataset",
]

logger = logging.getLogger(__name__)

SIZE_LIMITS = (32.0**2, 96.0**2)
"""COCO's limits between small, medium and large boxes, square pixels of the full frame."""
SIZES = ("small", "medium", "large")
CLASS_SCORES = ("ap", "ap50", "ap75", "ar", "ap_small", "ap_medium", "ap_large")
MOST_BOXES = 100
"""Detections of an image and class that are judged, the surest first, as in COCO."""
_IOU50, _IOU75 = 0, 5
_ANY_SIZE, _MOST_BOXES = 0, -1


@dataclass(frozen=True)
class Metrics:
    """COCO metrics, all 0..1; NaN where there is no truth to judge by.

    Attributes:
        ap: mean over classes and IoU .50:.05:.95. ap50, ap75: at one IoU. ar: recall with at most 100 boxes an image.
        ap_small, ap_medium, ap_large: ``ap`` of boxes below 32², up to 96², above (pixels of the full frame).
        per_class: one row a class: object_class, ap, ap50, ap75, ar, ap_small, ap_medium, ap_large, truth (boxes),
            detections (boxes).
        images, truth, detections: counts.
        per_size: one row a size: size (small, medium, large), ap, ar, truth (boxes).
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    ap_small: float
    ap_medium: float
    ap_large: float
    per_class: pd.DataFrame
    images: int
    truth: int
    detections: int
    per_size: pd.DataFrame = field(default_factory=pd.DataFrame)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON note; NaN becomes None."""
        tables = ("per_class", "per_size")
        plain: dict[str, Any] = {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in self.__dict__.items()
            if name not in tables
        }
        for name in tables:
            table: pd.DataFrame = getattr(self, name)
            plain[name] = table.astype(object).where(table.notna(), None).to_dict("records")
        return plain


def coco_metrics(
    detections: pd.DataFrame, truth: pd.DataFrame, img_paths: Sequence[str], classes: Sequence[str]
) -> Metrics:
    """COCO metrics by faster-coco-eval (pycocotools' numbers at a fraction of its time).

    Args:
        detections: columns as ``detect`` returns; rows of other images are ignored.
        truth: columns img_path, object_class, x1, y1, x2, y2 (full-frame pixels).
        img_paths: all judged images, those without boxes too (their detections are false positives).
        classes: class names; a class without truth does not count in the means.

    Raises:
        DatasetError: no images, or a class that is not in ``classes``.
    """
    found, wanted = check_tables(detections, truth, img_paths, classes)
    images = len(set(img_paths))
    nothing = dict.fromkeys(CLASS_SCORES, np.nan)
    per_class = pd.DataFrame({"object_class": list(classes), **nothing})
    for title, table in (("truth", wanted), ("detections", found)):
        counts = table["object_class"].value_counts()
        per_class[title] = [int(counts.get(name, 0)) for name in classes]
    sizes = _sizes(wanted)
    per_size = pd.DataFrame(
        {"size": SIZES, "ap": np.nan, "ar": np.nan, "truth": [int((sizes == s).sum()) for s in SIZES]}
    )
    if len(wanted) and len(found):
        stats = _fill(per_class, per_size, *_coco(found, wanted, list(dict.fromkeys(img_paths)), classes))
    elif len(wanted):
        present = pd.crosstab(wanted["object_class"], sizes)
        for name, row in present.iterrows():
            held = per_class["object_class"] == name
            per_class.loc[held, ["ap", "ap50", "ap75", "ar"]] = 0.0
            per_class.loc[held, [f"ap_{size}" for size in row[row > 0].index]] = 0.0
        per_size.loc[per_size["truth"] > 0, ["ap", "ar"]] = 0.0
        stats = {"ap": 0.0, "ap50": 0.0, "ap75": 0.0, "ar": 0.0}
    else:
        stats = dict.fromkeys(("ap", "ap50", "ap75", "ar"), float("nan"))
    by_size = {f"ap_{size}": float(ap) for size, ap in zip(per_size["size"], per_size["ap"], strict=True)}
    return Metrics(
        **stats,
        **by_size,
        per_class=per_class,
        images=images,
        truth=len(wanted),
        detections=len(found),
        per_size=per_size,
    )


def check_tables(
    detections: pd.DataFrame, truth: pd.DataFrame, img_paths: Sequence[str], classes: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Detections and truth of the judged images alone.

    Raises:
        DatasetError: no images, or a class that is not in ``classes``.
    """
    judged = set(img_paths)
    if not judged:
        raise DatasetError("metrics need at least one image; the list is empty")
    found, wanted = (table[table["img_path"].isin(judged)] for table in (detections, truth))
    for title, table in (("detections", found), ("truth", wanted)):
        foreign = sorted(set(table["object_class"]) - set(classes))
        if foreign:
            raise DatasetError(
                f"{title} hold classes {foreign} that are not among {list(classes)}; judge a detector on the snapshot "
                "whose classes it was trained with"
            )
    return found, wanted


def _sizes(table: pd.DataFrame) -> pd.Series:
    areas = (table["x2"] - table["x1"]).astype(float) * (table["y2"] - table["y1"]).astype(float)
    return pd.cut(areas, [-np.inf, *SIZE_LIMITS, np.inf], labels=list(SIZES), right=False).astype(object)


def _fill(
    per_class: pd.DataFrame, per_size: pd.DataFrame, precision: NDArray[np.float64], recall: NDArray[np.float64]
) -> dict[str, float]:
    """Means of COCO's arrays into the tables; returns those over all classes.

    Args:
        precision: (IoU, recall, class, size, most boxes), -1 where nothing is known. recall: the same without recall.
    """
    whole, reached = precision[..., _ANY_SIZE, _MOST_BOXES], recall[..., _ANY_SIZE, _MOST_BOXES]
    for k in range(len(per_class)):
        scores = [whole[:, :, k], whole[_IOU50, :, k], whole[_IOU75, :, k], reached[:, k]]
        scores += [precision[:, :, k, size, _MOST_BOXES] for size in (1, 2, 3)]
        per_class.loc[k, list(CLASS_SCORES)] = [_mean(values) for values in scores]
    for size in range(len(SIZES)):
        per_size.loc[size, "ap"] = _mean(precision[..., size + 1, _MOST_BOXES])
        per_size.loc[size, "ar"] = _mean(recall[..., size + 1, _MOST_BOXES])
    means = {"ap": whole, "ap50": whole[_IOU50], "ap75": whole[_IOU75], "ar": reached}
    return {name: _mean(values) for name, values in means.items()}


def _mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _coco(
    found: pd.DataFrame, wanted: pd.DataFrame, img_paths: Sequence[str], classes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COCO's precision (IoU, recall, class, size, most boxes) and recall (IoU, class, size, most boxes)."""
    with _no_collection():
        images = [{"id": number, "file_name": name} for number, name in enumerate(img_paths, 1)]
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        annotations = _rows(wanted, img_paths, classes, {"iscrowd": [0] * len(wanted)})
        truth = COCO({"info": {}, "images": images, "annotations": annotations, "categories": categories})
        scores = {"score": found["score"].to_numpy(np.float64).tolist()}
        detected = truth.loadRes(_rows(found, img_paths, classes, scores))
        judge = COCOeval_faster(truth, detected, "bbox", print_function=logger.debug)
        judge.params.maxDets = [MOST_BOXES]  # its other limits, 1 and 10, would be counted and never read
        judge.evaluate()
        judge.accumulate()
    return np.asarray(judge.eval["precision"]), np.asarray(judge.eval["recall"])


def _rows(
    table: pd.DataFrame, img_paths: Sequence[str], classes: Sequence[str], extra: dict[str, list[Any]]
) -> list[dict[str, Any]]:
    boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float64, copy=True)
    boxes[:, 2:] -= boxes[:, :2]
    images = (pd.Index(img_paths).get_indexer(pd.Index(table["img_path"])) + 1).tolist()
    labels = (pd.Index(classes).get_indexer(pd.Index(table["object_class"])) + 1).tolist()
    areas = (boxes[:, 2] * boxes[:, 3]).tolist()
    names = ("id", "image_id", "category_id", "bbox", "area", *extra)
    columns = (range(1, len(table) + 1), images, labels, boxes.tolist(), areas, *extra.values())
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's cycle collector looks through every dictionary made so far again and again; here are none to find."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
