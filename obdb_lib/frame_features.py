"""What is kept of a frame to find it again: a small grey picture and its strongest SIFT features.

D. G. Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, as OpenCV computes them, with
the square root of R. Arandjelovic and A. Zisserman, "Three things everyone should know to improve object retrieval",
CVPR 2012, section 2. Each frame is decoded once, JPEG at the smallest scale its coder offers. What was computed lies in
``data_cache/frame_features`` by content, about 36 kB a frame, and is read back by memory map.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image, ImageOps

from obdb_lib import paths
from obdb_lib.boxes import FloatArray
from obdb_lib.cache import atomic_writer, content_hash, logger, write_note
from obdb_lib.errors import FrameError
from obdb_lib.frames import FrameStore
from obdb_lib.images import UNREADABLE, open_image
from obdb_lib.progress import Progress, track
from obdb_lib.records import Problem

Grey = NDArray[np.uint8]

VERSION = 1
"""Counts changes of what a row holds; a new number makes all rows anew."""
SIDE = 256
"""Longer side in pixels of the grey picture whose features are taken; larger finds more and costs its square."""
SMALL = 96
"""Longer side in pixels of the grey picture that is kept to prove pairs by correlation."""
FEATURES = 200
"""Strongest features kept of a frame; more finds smaller overlaps and costs disk and time in proportion."""
MIN_CONTRAST = 0.015
"""SIFT's contrast threshold (its own default is 0.04): blurred, evenly lit soil has faint features only."""
SHARD = 256
"""Frames a file; so many are at risk when a run is interrupted."""
_POINT_UNIT = 128.0  # points are kept in 1/128 px
_ROOT_UNIT = 512.0  # square roots of a SIFT histogram of sum 1 stay below 0.5

ROW = np.dtype(
    [
        ("key", "S24"),
        ("size", "u4", (2,)),
        ("small", "u2", (2,)),
        ("count", "u2"),
        ("points", "u2", (FEATURES, 2)),
        ("descriptors", "u1", (FEATURES, 128)),
        ("picture", "u1", (SMALL * SMALL,)),
    ]
)


@dataclass(frozen=True)
class Features:
    """One frame.

    Attributes:
        size: (width, height) of the upright frame in pixels.
        points: (n, 2) float32 x, y in pixels of the picture enlarged or reduced to ``SIDE``.
        descriptors: (n, 128) float32, length 1 each.
        picture: (h, w) uint8 grey, longer side ``SMALL``.
    """

    size: tuple[int, int]
    points: FloatArray
    descriptors: FloatArray
    picture: Grey


def stamp(frames: FrameStore, img_path: str) -> str:
    """Changes when the frame's file does: where it lies, its size and its time."""
    try:
        path = frames.path(img_path)
        status = path.stat()
    except (FrameError, OSError):
        return f"{img_path}|missing"
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"


class FeatureTable:
    """Rows of many frames, opened from disk as they are asked for.

    Attributes:
        problems: frames that cannot be read; they have no row.
    """

    def __init__(self, names: Sequence[str], keys: Sequence[str], problems: list[Problem]) -> None:
        self.names = list(names)
        self.problems = problems
        shards = [np.load(path, mmap_mode="r") for path in sorted(_folder().glob("*.npy"))]
        places: dict[bytes, NDArray[Any]] = {}
        wanted = {key.encode() for key in keys}
        for shard in shards:
            for row, key in enumerate(shard["key"].tolist()):
                if key in wanted:
                    places[key] = shard[row]
        self._rows = [places.get(key.encode()) for key in keys]

    def readable(self) -> NDArray[np.int64]:
        """Positions of the frames that have a row."""
        return np.array([number for number, row in enumerate(self._rows) if row is not None], dtype=np.int64)

    def row(self, number: int) -> NDArray[Any]:
        """The stored row (dtype ROW) of frame ``number``."""
        row = self._rows[number]
        if row is None:
            raise FrameError(f"image {self.names[number]!r} could not be read and has no features; leave it out")
        return row

    def get(self, number: int) -> Features:
        """Features of frame ``number``."""
        row = self.row(number)
        count, (height, width) = int(row["count"]), row["small"].tolist()
        roots = row["descriptors"][:count].astype(np.float32)
        roots /= np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-6)
        points = row["points"][:count].astype(np.float32) / np.float32(_POINT_UNIT)
        picture = np.array(row["picture"][: height * width]).reshape(height, width)
        return Features((int(row["size"][0]), int(row["size"][1])), points, roots, picture)


def frame_features(frames: FrameStore, names: Sequence[str], progress: Progress | None = None) -> FeatureTable:
    """Features of all frames, computed where they are not there yet. An interrupt keeps the finished files.

    Raises:
        CacheError: data_cache cannot be written.
    """
    keys = [content_hash(stamp(frames, name), length=24) for name in names]
    known = _known_keys()
    missing = {key: name for key, name in zip(keys, names, strict=True) if key not in known}
    problems = []
    rows: list[NDArray[Any]] = []
    started = time.monotonic()
    try:
        with track(progress, "read frames", len(missing)) as task:
            for row in _computed(frames, missing):
                task.advance()
                if isinstance(row, Problem):
                    problems.append(row)
                    continue
                rows.append(row)
                if len(rows) == SHARD:
                    _write(rows, started)
                    rows, started = [], time.monotonic()
    finally:
        _write(rows, started)
    return FeatureTable(names, keys, problems)


def _computed(frames: FrameStore, missing: dict[str, str]) -> Iterator[NDArray[Any] | Problem]:
    """Rows in the order of ``missing``, a few at a time in threads, so that an interrupt is heard."""
    items = list(missing.items())
    with ThreadPoolExecutor(psutil.cpu_count() or 1) as pool:
        for start in range(0, len(items), 32):
            yield from pool.map(lambda item: _row(frames, *item), items[start : start + 32])


def _row(frames: FrameStore, key: str, name: str) -> NDArray[Any] | Problem:
    try:
        size, picture = grey_picture(frames, name)
    except FrameError as error:
        return Problem("duplicates", str(error))
    row = np.zeros((), dtype=ROW)
    points, roots = sift(picture)
    count = len(points)
    small = _resized(Image.fromarray(picture), SMALL)
    row["key"], row["size"], row["small"], row["count"] = key.encode(), size, small.shape, count
    row["points"][:count] = np.round(points * _POINT_UNIT)
    row["descriptors"][:count] = np.round(np.minimum(roots * _ROOT_UNIT, 255))
    row["picture"][: small.size] = small.ravel()
    return row


def grey_picture(frames: FrameStore, name: str) -> tuple[tuple[int, int], Grey]:
    """(width, height) of the upright frame, and its grey picture with a longer side of ``SIDE``.

    Raises:
        FrameError: missing, or not a readable image.
    """
    path = frames.path(name)
    try:
        with open_image(path) as image:
            width, height = image.size
            image.draft("L", (SIDE, SIDE))  # JPEG alone; the coder reduces by 2, 4 or 8
            upright = ImageOps.exif_transpose(image)
            if (width >= height) != (upright.width >= upright.height):
                width, height = height, width
            return (width, height), _resized(upright.convert("L"), SIDE)
    except UNREADABLE as error:
        raise FrameError(f"image {path} cannot be read ({error}); replace the file or leave it out") from error


def _resized(image: Image.Image, side: int) -> Grey:
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    filtering = Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC
    return np.asarray(image.resize(size, filtering), dtype=np.uint8)


def sift(picture: Grey) -> tuple[FloatArray, FloatArray]:
    """Points (n, 2) and square roots of the normalised SIFT histograms (n, 128) of a grey picture, n <= FEATURES."""
    import cv2

    finder = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=MIN_CONTRAST)
    keypoints, histograms = finder.detectAndCompute(picture, None)
    if histograms is None or not len(keypoints):
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    points = np.array([point.pt for point in keypoints[:FEATURES]], dtype=np.float32).clip(0)
    histograms = histograms[:FEATURES]
    roots = np.sqrt(histograms / np.maximum(histograms.sum(axis=1, keepdims=True), 1e-6))
    return points, np.asarray(roots, dtype=np.float32)


def _folder() -> Path:
    return paths.data_cache() / "frame_features" / content_hash(VERSION, SIDE, SMALL, FEATURES, MIN_CONTRAST, length=8)


def _known_keys() -> set[str]:
    known: set[str] = set()
    for path in sorted(_folder().glob("*.npy")):
        try:
            shard = np.load(path, mmap_mode="r")
            if shard.dtype != ROW:
                raise ValueError(f"rows of {shard.dtype.itemsize} bytes")
            known.update(key.decode() for key in shard["key"].tolist())
        except (OSError, ValueError, EOFError) as error:
            logger.warning("%s cannot be read back (%s); its frames are read again", path, error)
            path.unlink(missing_ok=True)
    return known


def _write(rows: list[NDArray[Any]], started: float) -> None:
    if not rows:
        return
    table = np.stack(rows)
    path = _folder() / f"{content_hash(table['key'].tobytes())}.npy"
    with atomic_writer(path) as file:
        np.save(file, table, allow_pickle=False)
    inputs: dict[str, object] = {"frames": len(rows), "side": SIDE, "features": FEATURES, "min_contrast": MIN_CONTRAST}
    write_note(path, inputs, seconds=time.monotonic() - started)
