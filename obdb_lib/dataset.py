"""The torch dataset: frames decoded once into files at training size, boxes beside them, light augmentation.

A frame costs its decoding once. Afterwards it lies in ``data_cache/training_frames`` as uint8 at training size, so an
epoch reads 0.1 ms a frame instead of decoding a PNG again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from obdb_lib import paths
from obdb_lib.augmentation import Augmentation, as_floats, transform_of
from obdb_lib.cache import atomic_writer, content_hash
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.progress import Progress, tracked

logger = logging.getLogger(__name__)

Target = dict[str, Tensor]
Sample = tuple[Tensor, Target]

HEADER = 4
"""uint32 numbers in front of the pixels of a cached frame: full width, full height, width, height."""


class Frames(Protocol):
    """What the dataset needs of ``obdb_lib.frames.FrameStore``."""

    def path(self, img_path: str) -> Path: ...

    def load(self, img_path: str) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class SizedFrame:
    """A frame at training size.

    Attributes:
        pixels: (height, width, 3) uint8 RGB, longest side = the training size.
        full_width, full_height: size of the frame as it lies on disk, pixels.
    """

    pixels: NDArray[np.uint8]
    full_width: int
    full_height: int

    @property
    def factors(self) -> tuple[float, float]:
        """(x, y): multiply full-frame pixels by these to get pixels of the sized frame."""
        return self.pixels.shape[1] / self.full_width, self.pixels.shape[0] / self.full_height


def resize_frame(image: NDArray[np.uint8], image_size: int) -> SizedFrame:
    """Scale a decoded frame (H, W, 3) so that its longest side is ``image_size`` pixels."""
    height, width = image.shape[:2]
    factor = image_size / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    if size == (width, height):
        return SizedFrame(np.array(image, order="C"), width, height)
    sized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    return SizedFrame(np.array(sized, dtype=np.uint8), width, height)


def sized_frame(frames: Frames, img_path: str, image_size: int, cache_dir: Path | None = None) -> SizedFrame:
    """A frame at training size, from the cache or decoded now and put there.

    The cached file is named by path, modification time and size of the image and the training size, so a replaced image
    is decoded again.

    Raises:
        FrameError: the frame is missing or unreadable.
        CacheError: the cache folder cannot be written.
    """
    path = frames.path(img_path)
    stat = path.stat()
    key = content_hash([str(path), stat.st_mtime_ns, stat.st_size, image_size])
    folder = cache_dir or paths.data_cache() / "training_frames"
    cached = folder / str(image_size) / key[:2] / f"{key}.npy"
    if cached.exists():
        stored = _read_cached(cached)
        if stored is not None:
            return stored
    sized = resize_frame(frames.load(img_path), image_size)
    height, width = sized.pixels.shape[:2]
    header = np.array([sized.full_width, sized.full_height, width, height], dtype=np.uint32)
    with atomic_writer(cached) as file:
        np.save(file, np.concatenate([header.view(np.uint8), sized.pixels.reshape(-1)]), allow_pickle=False)
    return sized


def _read_cached(path: Path) -> SizedFrame | None:
    """The cached frame, or None when the file is cut or foreign (it is then made again).

    It is read whole: mapping so small a file into memory takes longer.
    """
    try:
        flat = np.load(path, allow_pickle=False)
        full_width, full_height, width, height = (int(v) for v in flat[: HEADER * 4].view(np.uint32))
        return SizedFrame(flat[HEADER * 4 :].reshape(height, width, 3), full_width, full_height)
    except (OSError, ValueError, EOFError):
        logger.warning("%s is damaged and is made again", path)
        return None


class DetectionDataset(Dataset[Sample]):
    """Frames and boxes at training size.

    A sample is ``(image, target)``: image (3, H, W) float32 in 0..1, not normalised (the model does that, once);
    target ``boxes`` (N, 4) float32 xyxy in pixels of that image, ``labels`` (N,) int64 from 1, ``image_id`` (1,) int64.
    Frames without boxes are negatives with N = 0. Augmentation depends on ``seed``, epoch and index alone, so it is the
    same with any number of workers and after a resume.

    Args:
        frames: where images come from (``FrameStore``).
        img_paths: frames to use, each once, in order.
        annotations: columns img_path, object_class, x1, y1, x2, y2 (pixels of the full frame); rows of other frames are
            ignored.
        classes: class names; label = position + 1. Boxes of other classes are refused.
        image_size: longest side in pixels at training.
        augment: False for judging; True for training with the usual changes, or an ``Augmentation`` that says which.
        vertical_flip: of the usual changes: right for pictures taken straight down, wrong with a horizon.

    Attributes:
        img_paths: the frames that could be read.
        unreadable: img_path -> reason, for the frames left out.
        truth: the annotations of the readable frames (full-frame pixels).

    Raises:
        DatasetError: no frames at all, none readable, a frame twice, or a box of a class that is not in ``classes``.
    """

    def __init__(
        self,
        frames: Frames,
        img_paths: Sequence[str],
        annotations: pd.DataFrame,
        classes: Sequence[str],
        *,
        image_size: int,
        augment: bool | Augmentation = False,
        vertical_flip: bool = True,
        seed: int = 0,
        cache_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.frames, self.image_size = frames, image_size
        self.augment = Augmentation(vertical_flip=vertical_flip) if augment is True else augment or None
        self.classes, self.seed, self.cache_dir = tuple(classes), seed, cache_dir
        self.epoch = 0
        self.unreadable: dict[str, str] = {}
        self.img_paths: list[str] = []
        self._check(img_paths, annotations)
        self._factors: dict[str, tuple[float, float]] = {}
        for img_path in tracked(img_paths, progress, "frames at training size"):
            try:
                self._factors[img_path] = sized_frame(frames, img_path, image_size, cache_dir).factors
                self.img_paths.append(img_path)
            except (FrameError, OSError) as error:
                self.unreadable[img_path] = str(error)
                logger.warning("left out: %s", error)
        if not self.img_paths:
            raise DatasetError(
                f"none of the {len(img_paths)} frames can be read; the first: {next(iter(self.unreadable.values()))}"
            )
        self.truth = annotations[annotations["img_path"].isin(set(self.img_paths))].reset_index(drop=True)
        self._boxes = self._scaled_boxes()
        self._transform = transform_of(self.augment) if self.augment else None

    def _check(self, img_paths: Sequence[str], annotations: pd.DataFrame) -> None:
        if not len(img_paths):
            raise DatasetError("the dataset has no frames; make a split with frames in this part first")
        if len(set(img_paths)) != len(img_paths):
            raise DatasetError(f"{len(img_paths) - len(set(img_paths))} frames are listed twice; list each frame once")
        used = annotations.loc[annotations["img_path"].isin(set(img_paths)), "object_class"]
        foreign = sorted(set(used) - set(self.classes))
        if foreign:
            raise DatasetError(
                f"boxes of class {', '.join(map(repr, foreign))} are not among the classes {', '.join(self.classes)}; "
                "take the classes from the same snapshot as the annotations"
            )

    def _scaled_boxes(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
        label = {name: number for number, name in enumerate(self.classes, 1)}
        boxes: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
        for img_path, rows in self.truth.groupby("img_path", sort=False):
            x, y = self._factors[str(img_path)]
            scale = np.array([x, y, x, y], dtype=np.float32)
            xyxy = np.asarray(rows[["x1", "y1", "x2", "y2"]].to_numpy(np.float32) * scale, dtype=np.float32)
            whole = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
            labels = np.asarray(rows["object_class"].map(label), dtype=np.int64)
            boxes[str(img_path)] = xyxy[whole], labels[whole]
        return boxes

    def set_epoch(self, epoch: int) -> None:
        """Other augmentation for another epoch, the same for the same epoch."""
        self.epoch = epoch

    def factors(self, index: int) -> tuple[float, float]:
        """(x, y) factors from full-frame pixels to pixels of sample ``index``."""
        return self._factors[self.img_paths[index]]

    def __len__(self) -> int:
        return len(self.img_paths)

    def target(self, index: int) -> Target:
        """Boxes and labels of a frame as they are, without augmentation."""
        empty = np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.int64)
        xyxy, labels = self._boxes.get(self.img_paths[index], empty)
        return {"boxes": torch.from_numpy(xyxy.copy()), "labels": torch.from_numpy(labels.copy())}

    def __getitem__(self, index: int) -> Sample:
        pixels = sized_frame(self.frames, self.img_paths[index], self.image_size, self.cache_dir).pixels
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        target = self.target(index)
        if self._transform is None:
            image = as_floats(image)
        else:
            image, target = self._augmented(self._transform, image, target, index)
        target["image_id"] = torch.tensor([index])
        return image, target

    def _augmented(self, change: v2.Transform, image: Tensor, target: Target, index: int) -> Sample:
        size = (int(image.shape[1]), int(image.shape[2]))
        wrapped: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size),
            "labels": target["labels"],
        }
        with _dice(int(content_hash([self.seed, self.epoch, index]), 16) % 2**63):
            changed, wrapped = change(tv_tensors.Image(image), wrapped)
        boxes = wrapped["boxes"].as_subclass(Tensor)
        return changed.as_subclass(Tensor), {"boxes": boxes, "labels": wrapped["labels"]}


@contextmanager
def _dice(seed: int) -> Iterator[None]:
    """Within the block torch's dice on the CPU begin at ``seed``; afterwards they lie as before.

    ``torch.random.fork_rng`` with ``manual_seed`` does the same, and asks all other devices, too: a tenth of a
    millisecond for each frame.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def collate(samples: Sequence[Sample]) -> tuple[list[Tensor], list[Target]]:
    """Images may differ in size, so a batch is two lists."""
    return [image for image, _ in samples], [target for _, target in samples]
