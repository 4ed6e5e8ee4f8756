"""Crops: the picture inside an annotation, with a margin around it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from obdb_lib.errors import FrameError
from obdb_lib.frames import FrameStore
from obdb_lib.snapshots import BOX, Snapshot

DEFAULT_MARGIN = 0.15
"""Share of the box's longer side added on each side: enough soil to see the outline, little enough to see the plant."""


def crop_box(
    box: Sequence[float] | NDArray[np.float32], width: int, height: int, margin: float = DEFAULT_MARGIN
) -> tuple[float, float, float, float]:
    """Square window around a box, moved (and at last shrunk) to lie inside the frame: x1, y1, x2, y2 in pixels."""
    x1, y1, x2, y2 = (float(value) for value in box)
    side = max(x2 - x1, y2 - y1) * (1 + 2 * margin)
    side = max(side, 2.0)
    side_x, side_y = min(side, width), min(side, height)
    left = min(max((x1 + x2) / 2 - side_x / 2, 0), width - side_x)
    top = min(max((y1 + y2) / 2 - side_y / 2, 0), height - side_y)
    return left, top, left + side_x, top + side_y


def cut(
    frame: NDArray[np.uint8],
    box: Sequence[float] | NDArray[np.float32],
    size: int,
    margin: float = DEFAULT_MARGIN,
) -> NDArray[np.uint8]:
    """One crop of a frame (H, W, 3): (size, size, 3) uint8 RGB."""
    x1, y1, x2, y2 = crop_box(box, frame.shape[1], frame.shape[0], margin)
    # Only the pixels around the window are handed to Pillow: the whole frame would be copied for each crop.
    pad = math.ceil((x2 - x1) / size) + 1
    left, top = max(math.floor(x1) - pad, 0), max(math.floor(y1) - pad, 0)
    part = np.ascontiguousarray(frame[top : math.ceil(y2) + pad, left : math.ceil(x2) + pad])
    window = (x1 - left, y1 - top, x2 - left, y2 - top)
    image = Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=window, reducing_gap=2.0)
    return np.asarray(image, dtype=np.uint8)


def iterate_crops(
    annotations: pd.DataFrame, frames: FrameStore, size: int, margin: float = DEFAULT_MARGIN
) -> Iterator[tuple[list[int], NDArray[np.uint8] | FrameError]]:
    """Crops frame by frame, each frame decoded once.

    Yields:
        Row positions in ``annotations`` and their crops (n, size, size, 3) uint8, or the error of an unreadable frame.
    """
    positions: dict[str, list[int]] = {}
    for position, img_path in enumerate(annotations["img_path"]):
        positions.setdefault(img_path, []).append(position)
    boxes = annotations[BOX].to_numpy(np.float32)
    for img_path, rows in positions.items():
        try:
            frame = frames.load(img_path)
        except FrameError as error:
            yield rows, error
            continue
        yield rows, np.stack([cut(frame, boxes[row], size, margin) for row in rows])


def jpeg_crops(snapshot: Snapshot, frames: FrameStore, ids: Sequence[str], size: int = 96) -> list[bytes]:
    """JPEG bytes of some annotations' crops, in the order of ``ids``; a grey square where the image is unreadable."""
    wanted = snapshot.annotations[snapshot.annotations["annotation_id"].isin(list(ids))]
    names = wanted["annotation_id"].to_numpy(object)
    grey = np.full((size, size, 3), 160, dtype=np.uint8)
    found: dict[str, bytes] = {}
    for rows, crops in iterate_crops(wanted, frames, size):
        for number, row in enumerate(rows):
            found[names[row]] = encode_jpeg(grey if isinstance(crops, FrameError) else crops[number])
    return [found.get(name) or encode_jpeg(grey) for name in ids]


def encode_jpeg(image: NDArray[np.uint8], quality: int = 85) -> bytes:
    """JPEG bytes of an RGB image (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
