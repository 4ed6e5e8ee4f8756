"""What a training shows in TensorBoard: losses, mAP, and a few val images with boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torchvision.utils import draw_bounding_boxes

from obdb_lib.dataset import DetectionDataset

SHOWN_IMAGES = 4
SHOWN_SCORE = 0.5
"""Detections from this score on are drawn."""
TIMINGS = ("seconds", "step_s", "wait_s", "wait_share", "images_per_s", "memory_mb", "judge_s")


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

    def val(self, epoch: int, val: DetectionDataset, detections: pd.DataFrame) -> None:
        """Pictures of the first val frames."""
        self.images(epoch, val, detections)

    def images(self, epoch: int, val: DetectionDataset, detections: pd.DataFrame) -> None:
        """The first val frames with their truth (green) and the sure detections (yellow)."""
        if self._writer is None:
            return
        for index, img_path in enumerate(val.img_paths[:SHOWN_IMAGES]):
            image, target = val[index]
            picture = (image * 255).to(torch.uint8)
            names = [val.classes[label - 1] for label in target["labels"].tolist()]
            if names:
                picture = draw_bounding_boxes(picture, target["boxes"], names, colors="lime")
            found = detections[(detections["img_path"] == img_path) & (detections["score"] >= SHOWN_SCORE)]
            if len(found):
                x, y = val.factors(index)
                boxes = torch.tensor(found[["x1", "y1", "x2", "y2"]].to_numpy()) * torch.tensor([x, y, x, y])
                words = [f"{row.object_class} {row.score:.2f}" for row in found.itertuples()]
                picture = draw_bounding_boxes(picture, boxes, words, colors="yellow")
            self._writer.add_image(f"val/{index}", picture, epoch)
