"""COCO metrics against pycocotools: the same numbers, in how much of its CPU time.

``python -m tests.benchmarks.evaluate --json``: 10,000 images with 20 annotations and 20 detections each, five classes,
in one run; both sides begin with the same two tables in memory and end with their numbers. pycocotools' time does not
include turning the tables into its own records, ours does. ``--quick`` measures the same bars on 1,500 images. The note
of the second bar tells what 1,000 resamples of 1,000 images take for the intervals.
"""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.evaluation import Metrics, coco_metrics
from obdb_lib.intervals import group_intervals
from obdb_lib.matches import match_detections
from tests.benchmarks._bars import Bar, arguments, bar, report
from tests.judging_world import random_tables

CLASSES = ("Cleavers", "Dandelion", "Fat hen", "Rape", "Scentless Mayweed")
IMAGES, QUICK_IMAGES, BOXES = 10_000, 1_500, 20
RESAMPLED = 1_000
FRAMES_A_GROUP = 10


def records(table: pd.DataFrame, img_paths: list[str]) -> list[dict[str, Any]]:
    """The table as pycocotools wants it."""
    boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float64, copy=True)
    boxes[:, 2:] -= boxes[:, :2]
    images = pd.Index(img_paths).get_indexer(pd.Index(table["img_path"])) + 1
    labels = pd.Index(CLASSES).get_indexer(pd.Index(table["object_class"])) + 1
    scores = table["score"] if "score" in table else pd.Series(1.0, index=table.index)
    return [
        {
            **{"id": number, "image_id": int(image), "category_id": int(label), "bbox": box.tolist()},
            **{"area": float(box[2] * box[3]), "iscrowd": 0, "score": float(score)},
        }
        for number, (image, label, box, score) in enumerate(zip(images, labels, boxes, scores, strict=True), 1)
    ]


def pycocos(detections: pd.DataFrame, truth: pd.DataFrame, img_paths: list[str]) -> tuple[np.ndarray, float]:
    """Its numbers (AP, AP50, AP75, small, medium, large, ..., AR at 8) and CPU seconds."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    wanted, found = records(truth, img_paths), records(detections, img_paths)
    with contextlib.redirect_stdout(io.StringIO()):
        started = time.process_time()
        given = COCO()
        given.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(1, len(img_paths) + 1)],
            "annotations": wanted,
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
        }
        given.createIndex()
        judge = COCOeval(given, given.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        spent = time.process_time() - started
    return np.asarray(judge.stats), spent


def largest_difference(ours: Metrics, theirs: np.ndarray) -> float:
    """Over AP, AP50, AP75, AP and AR by size, and AR."""
    mine = [ours.ap, ours.ap50, ours.ap75, ours.ap_small, ours.ap_medium, ours.ap_large, ours.ar, *ours.per_size["ar"]]
    return float(np.abs(np.array(mine) - theirs[[0, 1, 2, 3, 4, 5, 8, 9, 10, 11]]).max())


def interval_seconds() -> float:
    """CPU seconds of matching and 1,000 resamples on 1,000 images."""
    detections, truth, img_paths = random_tables(RESAMPLED, BOXES, classes=CLASSES, seed=1)
    groups = pd.Series(np.arange(RESAMPLED) // FRAMES_A_GROUP, index=img_paths)
    started = time.process_time()
    group_intervals(match_detections(detections, truth, img_paths, CLASSES), groups, resamples=1_000)
    return time.process_time() - started


def measure(images: int) -> list[Bar]:
    detections, truth, img_paths = random_tables(images, BOXES, classes=CLASSES)
    coco_metrics(detections.head(50), truth, img_paths[:20], CLASSES)  # both are loaded before the clock starts
    started = time.process_time()
    ours = coco_metrics(detections, truth, img_paths, CLASSES)
    spent = time.process_time() - started
    told = f"{images} images x {BOXES} boxes"
    try:
        theirs, their_time = pycocos(detections, truth, img_paths)
    except ImportError as error:
        missing = f"pycocotools is not installed ({error}); pip install pycocotools==2.0.11"
        return [bar("largest difference", None, "<= 1e-6", missing), bar("CPU time share", None, "<= 0.25", missing)]
    gap = largest_difference(ours, theirs)
    drawn = f"1,000 resamples of 1,000 images {interval_seconds():.1f} s"
    seconds = f"ours {spent:.2f} s, pycocotools {their_time:.2f} s; {drawn}"
    return [
        bar("largest difference from pycocotools", gap, "<= 1e-6", f"{told}, AP {ours.ap:.4f}, difference {gap:.1e}"),
        bar("share of pycocotools' CPU time", spent / their_time, "<= 0.25", seconds),
    ]


def main() -> None:
    options = arguments(__doc__)
    report("evaluate", measure(QUICK_IMAGES if options.quick else IMAGES), only_json=options.json)


if __name__ == "__main__":
    main()
