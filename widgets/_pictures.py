"""Pictures for the browser: JPEG bytes, cuts around a box, and decoded frames kept ready for the next step."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from obdb_lib.errors import FrameError

Pixels = NDArray[np.uint8]
Rect = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the full frame."""

JPEG_QUALITY = 88
FRAME_WIDTH_PX = 1600
"""A frame is sent at most this wide; the cut around the candidate comes from the full resolution."""

KEPT_FRAMES = 4
"""Decoded frames kept; a 4K frame takes 25 MB."""


def jpeg(picture: Image.Image, quality: int = JPEG_QUALITY) -> bytes:
    """Encode an RGB picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def shrink(picture: Image.Image, max_width: int, max_height: int) -> Image.Image:
    """The same picture, not larger than the given size, never enlarged."""
    factor = min(max_width / picture.width, max_height / picture.height, 1.0)
    if factor == 1.0:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def around(points: Sequence[float], scale: float, least: float, width: int, height: int) -> Rect:
    """A square ``scale`` times the longer side of the box (at least ``least`` px), cut at the frame's border."""
    x1, y1, x2, y2 = points
    half = max((x2 - x1) * scale, (y2 - y1) * scale, least) / 2
    middle_x = min(max((x1 + x2) / 2, 0), width)
    middle_y = min(max((y1 + y2) / 2, 0), height)
    return (
        float(np.floor(max(middle_x - half, 0))),
        float(np.floor(max(middle_y - half, 0))),
        float(np.ceil(min(middle_x + half, width))),
        float(np.ceil(min(middle_y + half, height))),
    )


def cut(pixels: Pixels, rect: Rect) -> Image.Image:
    """The part of a frame (H, W, 3) inside ``rect``."""
    x1, y1, x2, y2 = (int(value) for value in rect)
    return Image.fromarray(np.ascontiguousarray(pixels[y1:y2, x1:x2]))


@dataclass(frozen=True)
class ReadyFrame:
    """A decoded frame and its smaller JPEG.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, full resolution.
        picture: JPEG bytes, at most ``FRAME_WIDTH_PX`` wide.
    """

    pixels: Pixels
    picture: bytes

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


def checked_frame(img_path: str, load_frame: Callable[[str], Pixels]) -> Pixels:
    """Load one frame; FrameError when what comes is not an RGB picture."""
    pixels = np.asarray(load_frame(img_path))
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise FrameError(
            f"frame {img_path} must be (H, W, 3) uint8; load_frame gave shape {pixels.shape}, dtype {pixels.dtype}"
        )
    return pixels


def ready(img_path: str, load_frame: Callable[[str], Pixels]) -> ReadyFrame:
    """Load and encode one frame; FrameError when what comes is not an RGB picture."""
    pixels = checked_frame(img_path, load_frame)
    return ReadyFrame(pixels, jpeg(shrink(Image.fromarray(pixels), FRAME_WIDTH_PX, FRAME_WIDTH_PX)))


class FrameQueue:
    """Frames by path, the last few kept; the next one is loaded in the background while a person looks at this one."""

    def __init__(self, load_frame: Callable[[str], Pixels]) -> None:
        self._load_frame = load_frame
        self._frames: OrderedDict[str, Future[ReadyFrame]] = OrderedDict()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="obdb-frames")

    def prefetch(self, img_path: str) -> None:
        """Begin to load a frame without waiting for it."""
        if img_path in self._frames:
            self._frames.move_to_end(img_path)
            return
        self._frames[img_path] = self._worker.submit(ready, img_path, self._load_frame)
        while len(self._frames) > KEPT_FRAMES:
            self._frames.popitem(last=False)[1].cancel()

    def get(self, img_path: str) -> ReadyFrame:
        """The frame; raises what ``load_frame`` raised. A failure is not kept, so that the next visit tries again."""
        self.prefetch(img_path)
        try:
            return self._frames[img_path].result()
        except Exception:
            self._frames.pop(img_path, None)
            raise
