"""Running a detector over frames, and its detections as a table.

``detect`` accounts for every image asked for: its frames are detected, or named in ``attrs["unreadable"]``. Boxes are
in pixels of the full frame. A second look at each frame, mirrored left to right, says how sure the detector
is beyond its score: it is not sure of what it finds in one picture only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from obdb_lib.checkpoints import load_detector
from obdb_lib.dataset import DetectionDataset, Frames, resize_frame, sized_frame
from obdb_lib.errors import FrameError
from obdb_lib.models import Detector
from obdb_lib.progress import Progress, track

logger = logging.getLogger(__name__)

DETECTION_COLUMNS = ["img_path", "x1", "y1", "x2", "y2", "object_class", "score"]
PLAIN, MIRRORED = "plain", "mirrored"
LOOKS = (PLAIN, MIRRORED)
"""Values of the column ``look``: the frame as it is, or mirrored left to right with its boxes mapped back."""
DEFAULT_SCORE_THRESHOLD = 0.05
"""Detections below this score are dropped; lower it for complete precision-recall curves, raise it for fewer boxes."""
METRIC_SCORE_THRESHOLD = 0.01
"""For metrics nearly everything is kept: AP needs the low-score end of the curve."""


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
    second_look: bool = False,
    cached: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run a detector over frames.

    Args:
        model: a detector, or the path of a checkpoint.
        img_paths: any number of frames, odd ones too; order is kept.
        score_threshold: 0..1, detections below are dropped.
        second_look: also look at each frame mirrored left to right, for twice the network's time and no more decoding.
        cached: take and leave frames at the network's size in ``data_cache/training_frames``, as training does; frames
            that are detected by several models are then decoded once.

    Returns:
        Columns img_path, x1, y1, x2, y2 (float32, full-frame pixels), object_class, score (float32), best first within
        a frame; with ``second_look`` also look, one of LOOKS, the plain look's rows of a frame before the mirrored
        one's, whose boxes are mapped back to the frame as it lies on disk.
        ``.attrs["unreadable"]`` maps img_path to the reason; ``.attrs["images"]`` counts the frames judged.

    Raises:
        TrainingError: the checkpoint cannot be used.
    """
    detector = model if isinstance(model, Detector) else load_detector(model)
    unreadable: dict[str, str] = {}

    def load() -> Iterator[tuple[str, Tensor, tuple[float, float]]]:
        for img_path in img_paths:
            try:
                size = detector.spec.image_size
                sized = sized_frame(frames, img_path, size) if cached else resize_frame(frames.load(img_path), size)
            except (FrameError, OSError) as error:
                unreadable[img_path] = str(error)
                logger.warning("left out: %s", error)
                continue
            image = torch.from_numpy(np.array(sized.pixels)).permute(2, 0, 1).float().div_(255)
            yield img_path, image, sized.factors

    items, total = load(), len(img_paths)
    table = _run(detector, items, total, score_threshold, batch, choose_device(device), progress, second_look)
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
    second_look: bool = False,
) -> pd.DataFrame:
    was_training = detector.training
    restore = _with_score_threshold(detector, score_threshold)
    detector.to(device).eval()
    parts: list[pd.DataFrame] = []
    classes = np.array(["", *detector.spec.classes], dtype=object)
    try:
        with torch.inference_mode(), track(progress, "detect", total) as task:
            for group in _batches(items, batch):
                images = [image.to(device) for _, image, _ in group]
                looks = [detector(images)]
                if second_look:
                    looks.append(_mirrored_look(detector, images))
                for (img_path, _, factors), *outputs in zip(group, *looks, strict=True):
                    for look, output in zip(LOOKS, outputs, strict=False):
                        rows = _rows(img_path, factors, output, classes, score_threshold)
                        parts.append(rows.assign(look=look) if second_look else rows)
                task.advance(len(group))
    finally:
        restore()
        detector.train(was_training)
    filled = [part for part in parts if len(part)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    nothing = _rows("", (1.0, 1.0), _nothing(), classes, 0.0)
    return nothing.assign(look=pd.Series(dtype=object)) if second_look else nothing


def _mirrored_look(detector: Detector, images: list[Tensor]) -> list[dict[str, Tensor]]:
    """What the detector finds in the images mirrored left to right, boxes in pixels of the images as they are."""
    found: list[dict[str, Tensor]] = detector([image.flip(-1) for image in images])
    for image, output in zip(images, found, strict=True):
        left, top, right, bottom = output["boxes"].unbind(dim=1)
        width = image.shape[-1]
        output["boxes"] = torch.stack([width - right, top, width - left, bottom], dim=1)
    return found


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
