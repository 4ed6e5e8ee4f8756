"""What a training shows in TensorBoard: losses, mAP, precision-recall curves, ground truth beside detections."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from obdb_lib.boxes import BoxSet, iou_matrix
from obdb_lib.dataset import DetectionDataset

SHOWN_IMAGES = 4
SHOWN_SCORE = 0.5
"""Detections from this score on are drawn."""
MATCH_IOU = 0.5
"""A detection is right from this overlap on with a box of its class that no better detection has taken (as AP50)."""
THRESHOLDS = 101
"""Points of a precision-recall curve, scores 0..1."""
GAP_PX = 4
"""White between the two halves of a picture."""
TIMINGS = ("seconds", "step_s", "wait_s", "wait_share", "images_per_s", "memory_mb", "judge_s")
BOX = ["x1", "y1", "x2", "y2"]


class RunLog:
    """Writes into ``folder``; silent when that is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writer: Any = None

    def __enter__(self) -> RunLog:
        if self.folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # a second to import, so only when it is wanted

            self._writer = SummaryWriter(str(self.folder))
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def scalars(self, epoch: int, row: dict[str, float]) -> None:
        """One point in each curve: ``train/loss...``, ``val/ap50``, ``time/...``."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name == "epoch" or math.isnan(value):
                continue
            group = "val" if name.startswith("val_") else "time" if name in TIMINGS else "train"
            self._writer.add_scalar(f"{group}/{name.removeprefix('val_')}", value, epoch)
        self._writer.flush()  # TensorBoard beside the notebook shows an epoch as soon as it is over

    def val(self, epoch: int, val: DetectionDataset, detections: pd.DataFrame) -> None:
        """A precision-recall curve a class, and the first val frames: truth on the left, detections on the right."""
        if self._writer is None:
            return
        for name in val.classes:
            scores, right, boxes = graded(detections, val.truth, name)
            if boxes:
                self._curve(f"pr/{name}", epoch, scores, right, boxes)
        for index, img_path in enumerate(val.img_paths[:SHOWN_IMAGES]):
            found = detections[(detections["img_path"] == img_path) & (detections["score"] >= SHOWN_SCORE)]
            self._writer.add_image(f"val/{index}", side_by_side(val, index, found), epoch)

    def _curve(self, name: str, epoch: int, scores: NDArray[np.float64], right: NDArray[np.bool_], boxes: int) -> None:
        edges = np.linspace(0, 1, THRESHOLDS)
        kept = scores[None, :] >= edges[:, None]
        true = (kept & right).sum(1)
        false = (kept & ~right).sum(1)
        # With nothing found any more, nothing is wrong: the curve ends at full precision.
        precision = np.where(true + false > 0, true / np.maximum(true + false, 1), 1.0)
        self._writer.add_pr_curve_raw(
            name,
            true_positive_counts=true,
            false_positive_counts=false,
            true_negative_counts=np.zeros_like(true),
            false_negative_counts=boxes - true,
            precision=precision,
            recall=true / boxes,
            num_thresholds=THRESHOLDS,
            global_step=epoch,
        )


def graded(
    detections: pd.DataFrame, truth: pd.DataFrame, object_class: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """Which detections of a class are right, the surest first choosing its box.

    Returns:
        scores (N,) 0..1, right (N,) bool, and the number of true boxes.
    """
    found = detections[detections["object_class"] == object_class]
    wanted = truth[truth["object_class"] == object_class]
    by_image = {str(name): rows[BOX].to_numpy(np.float32) for name, rows in wanted.groupby("img_path", sort=False)}
    scores: list[float] = []
    right: list[bool] = []
    for img_path, rows in found.groupby("img_path", sort=False):
        rows = rows.sort_values("score", ascending=False, kind="stable")
        boxes = by_image.get(str(img_path), np.empty((0, 4), np.float32))
        overlaps = iou_matrix(BoxSet(rows[BOX].to_numpy(np.float32)), BoxSet(boxes))
        free = np.ones(len(boxes), dtype=bool)
        for line in overlaps:
            best = int(np.argmax(np.where(free, line, -1.0))) if free.any() else -1
            hit = best >= 0 and bool(line[best] >= MATCH_IOU)
            if hit:
                free[best] = False
            right.append(hit)
        scores += rows["score"].astype(float).tolist()
    return np.array(scores), np.array(right, dtype=bool), len(wanted)


def side_by_side(val: DetectionDataset, index: int, found: pd.DataFrame) -> Tensor:
    """A frame twice, (3, H, 2 W + gap) uint8: its truth in green, then the detections ``found`` in yellow."""
    image, target = val[index]
    picture = (image * 255).to(torch.uint8)
    left = right = picture
    names = [val.classes[label - 1] for label in target["labels"].tolist()]
    if names:
        left = draw_bounding_boxes(picture, target["boxes"], names, colors="lime", width=2)
    if len(found):
        x, y = val.factors(index)
        boxes = torch.tensor(found[BOX].to_numpy()) * torch.tensor([x, y, x, y])
        words = [f"{row.object_class} {row.score:.2f}" for row in found.itertuples()]
        right = draw_bounding_boxes(picture, boxes, words, colors="yellow", width=2)
    gap = torch.full((3, picture.shape[1], GAP_PX), 255, dtype=torch.uint8)
    return torch.cat([left, gap, right], dim=2)
