"""What a detector finds, and how good that is.

``detect`` accounts for every image asked for: its frames are detected, or named in ``attrs["unreadable"]``. Boxes and
scores are in pixels of the full frame.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor

from obdb_lib.checkpoints import load_detector
from obdb_lib.dataset import DetectionDataset, Frames, resize_frame
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.models import Detector
from obdb_lib.progress import Progress, track

logger = logging.getLogger(__name__)

DETECTION_COLUMNS = ["img_path", "x1", "y1", "x2", "y2", "object_class", "score"]
DEFAULT_SCORE_THRESHOLD = 0.05
"""Detections below this score are dropped; lower it for complete precision-recall curves, raise it for fewer boxes."""
METRIC_SCORE_THRESHOLD = 0.01
"""For metrics nearly everything is kept: AP needs the low-score end of the curve."""
SIZE_LIMITS = (32.0**2, 96.0**2)
"""COCO's limits between small, medium and large boxes, square pixels of the full frame."""


@dataclass(frozen=True)
class Metrics:
    """COCO metrics, all 0..1; NaN where there is no truth to judge by.

    Attributes:
        ap: mean over classes and IoU .50:.05:.95. ap50, ap75: at one IoU. ar: recall with at most 100 boxes an image.
        ap_small, ap_medium, ap_large: ``ap`` of boxes below 32², up to 96², above (pixels of the full frame).
        per_class: one row a class: object_class, ap, ap50, truth (boxes), detections (boxes).
        images, truth, detections: counts.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON note; NaN becomes None."""
        plain: dict[str, Any] = {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in self.__dict__.items()
            if name != "per_class"
        }
        plain["per_class"] = self.per_class.astype(object).where(self.per_class.notna(), None).to_dict("records")
        return plain


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the first GPU, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def detect(
    model: Detector | Path | str,
    frames: Frames,
    img_paths: Sequence[str],
    *,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    batch: int = 8,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run a detector over frames.

    Args:
        model: a detector, or the path of a checkpoint.
        img_paths: any number of frames, odd ones too; order is kept.
        score_threshold: 0..1, detections below are dropped.

    Returns:
        Columns img_path, x1, y1, x2, y2 (float32, full-frame pixels), object_class, score (float32), best first within
        a frame. ``.attrs["unreadable"]`` maps img_path to the reason; ``.attrs["images"]`` counts the frames judged.

    Raises:
        TrainingError: the checkpoint cannot be used.
    """
    detector = model if isinstance(model, Detector) else load_detector(model)
    unreadable: dict[str, str] = {}

    def load() -> Iterator[tuple[str, Tensor, tuple[float, float]]]:
        for img_path in img_paths:
            try:
                sized = resize_frame(frames.load(img_path), detector.spec.image_size)
            except FrameError as error:
                unreadable[img_path] = str(error)
                logger.warning("left out: %s", error)
                continue
            image = torch.from_numpy(np.array(sized.pixels)).permute(2, 0, 1).float().div_(255)
            yield img_path, image, sized.factors

    table = _run(detector, load(), len(img_paths), score_threshold, batch, choose_device(device), progress)
    table.attrs.update(unreadable=unreadable, images=len(img_paths) - len(unreadable))
    return table


def detect_dataset(
    detector: Detector,
    dataset: DetectionDataset,
    *,
    score_threshold: float = METRIC_SCORE_THRESHOLD,
    batch: int = 8,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """``detect`` on a dataset's cached frames (no decoding); boxes are in pixels of the full frame all the same."""
    items = ((p, dataset[i][0], dataset.factors(i)) for i, p in enumerate(dataset.img_paths))
    return _run(detector, items, len(dataset), score_threshold, batch, choose_device(device), progress)


def _run(
    detector: Detector,
    items: Iterable[tuple[str, Tensor, tuple[float, float]]],
    total: int,
    score_threshold: float,
    batch: int,
    device: torch.device,
    progress: Progress | None,
) -> pd.DataFrame:
    was_training = detector.training
    restore = _with_score_threshold(detector, score_threshold)
    detector.to(device).eval()
    parts: list[pd.DataFrame] = []
    classes = np.array(["", *detector.spec.classes], dtype=object)
    try:
        with torch.inference_mode(), track(progress, "detect", total) as task:
            for group in _batches(items, batch):
                for (img_path, _, factors), output in zip(
                    group, detector([image.to(device) for _, image, _ in group]), strict=True
                ):
                    parts.append(_rows(img_path, factors, output, classes, score_threshold))
                task.advance(len(group))
    finally:
        restore()
        detector.train(was_training)
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else _rows("", (1.0, 1.0), _nothing(), classes, 0.0)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    group: list[Any] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _with_score_threshold(detector: Detector, threshold: float) -> Callable[[], None]:
    """Let the network itself drop low scores (faster NMS); returns what puts the old value back."""
    holder: Any = getattr(detector.network, "roi_heads", detector.network)
    before = holder.score_thresh
    holder.score_thresh = threshold

    def restore() -> None:
        holder.score_thresh = before

    return restore


def _nothing() -> dict[str, Tensor]:
    return {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0, dtype=torch.int64)}


def _rows(
    img_path: str,
    factors: tuple[float, float],
    output: dict[str, Tensor],
    classes: np.ndarray[Any, np.dtype[np.object_]],
    threshold: float,
) -> pd.DataFrame:
    scores = output["scores"].float().cpu().numpy()
    keep = np.flatnonzero(scores >= threshold)
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    x, y = factors
    boxes = output["boxes"].float().cpu().numpy()[keep] / np.array([x, y, x, y], dtype=np.float32)
    labels = output["labels"].cpu().numpy()[keep]
    columns = dict(zip(("x1", "y1", "x2", "y2"), boxes.astype(np.float32).T, strict=True))
    return pd.DataFrame(
        {"img_path": pd.Series([img_path] * len(keep), dtype=str), **columns, "object_class": classes[labels]}
    ).assign(score=scores[keep].astype(np.float32))[DETECTION_COLUMNS]


def coco_metrics(
    detections: pd.DataFrame, truth: pd.DataFrame, img_paths: Sequence[str], classes: Sequence[str]
) -> Metrics:
    """COCO metrics by faster-coco-eval (pycocotools' numbers at a fifth of its time).

    Args:
        detections: columns as ``detect`` returns; rows of other images are ignored.
        truth: columns img_path, object_class, x1, y1, x2, y2 (full-frame pixels).
        img_paths: all judged images, those without boxes too (their detections are false positives).
        classes: class names; a class without truth does not count in the means.

    Raises:
        DatasetError: no images, or a class that is not in ``classes``.
    """
    numbers = {img_path: number for number, img_path in enumerate(img_paths, 1)}
    if not numbers:
        raise DatasetError("metrics need at least one image; the list is empty")
    found, wanted = (table[table["img_path"].isin(numbers.keys())] for table in (detections, truth))
    ids = {name: number for number, name in enumerate(classes, 1)}
    for title, table in (("detections", found), ("truth", wanted)):
        foreign = sorted(set(table["object_class"]) - set(ids))
        if foreign:
            raise DatasetError(f"{title} hold classes {foreign} that are not among {list(classes)}")
    per_class = pd.DataFrame({"object_class": list(classes), "ap": np.nan, "ap50": np.nan})
    per_class["truth"] = [int((wanted["object_class"] == name).sum()) for name in classes]
    per_class["detections"] = [int((found["object_class"] == name).sum()) for name in classes]
    counts = len(numbers), len(wanted), len(found)
    nan = float("nan")
    if not len(wanted):
        return Metrics(nan, nan, nan, nan, nan, nan, nan, per_class, *counts)
    if not len(found):
        per_class.loc[per_class["truth"] > 0, ["ap", "ap50"]] = 0.0
        areas = (wanted["x2"] - wanted["x1"]) * (wanted["y2"] - wanted["y1"])
        limits = (0.0, *SIZE_LIMITS, float("inf"))
        small, medium, large = (
            0.0 if ((areas >= low) & (areas < high)).any() else nan for low, high in itertools.pairwise(limits)
        )
        return Metrics(0.0, 0.0, 0.0, 0.0, small, medium, large, per_class, *counts)
    stats, precision = _coco(found, wanted, numbers, ids)
    per_class["ap"] = [_mean(precision[:, :, k, 0, -1]) for k in range(len(ids))]
    per_class["ap50"] = [_mean(precision[0, :, k, 0, -1]) for k in range(len(ids))]
    ap, ap50, ap75, small, medium, large, _, _, ar = (nan if v < 0 else float(v) for v in stats[:9])
    return Metrics(ap, ap50, ap75, ar, small, medium, large, per_class, *counts)


def _mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _coco(
    found: pd.DataFrame, wanted: pd.DataFrame, numbers: dict[str, int], ids: dict[str, int]
) -> tuple[Sequence[float], np.ndarray[Any, np.dtype[np.float64]]]:
    """COCO's twelve numbers and the precision array (IoU, recall, class, size, most boxes)."""

    def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
        boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float64, copy=True)
        boxes[:, 2:] -= boxes[:, :2]
        images = table["img_path"].map(numbers).tolist()
        labels = table["object_class"].map(ids).tolist()
        return [
            {"id": i, "image_id": image, "category_id": label, "bbox": box.tolist(), "area": float(box[2] * box[3])}
            for i, (image, label, box) in enumerate(zip(images, labels, boxes, strict=True), 1)
        ]

    truth = COCO(
        {
            "info": {},
            "images": [{"id": number, "file_name": name} for name, number in numbers.items()],
            "annotations": [{**row, "iscrowd": 0} for row in rows(wanted)],
            "categories": [{"id": number, "name": name} for name, number in ids.items()],
        }
    )
    scores = found["score"].astype(float).tolist()
    detected = truth.loadRes([{**row, "score": score} for row, score in zip(rows(found), scores, strict=True)])
    judge = COCOeval_faster(truth, detected, "bbox", print_function=logger.debug)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return list(judge.stats), np.asarray(judge.eval["precision"])
