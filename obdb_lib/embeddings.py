"""Embeddings: one feature vector for each crop or frame, computed once and kept.

Vectors are stored by content (image file, box, margin, embedder), so a moved box is computed anew and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from obdb_lib import paths
from obdb_lib.boxes import FloatArray
from obdb_lib.cache import content_hash, load_arrays, save_arrays, write_note
from obdb_lib.crops import DEFAULT_MARGIN, iterate_crops
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress, track
from obdb_lib.records import Problem
from obdb_lib.snapshots import BOX, Snapshot

if TYPE_CHECKING:
    import torch

CROP_SIZE = 96
FRAME_SIZE = 160
"""Side in pixels of the pictures shown to the network; larger sees finer leaves and costs its square in time."""
BATCH = 64

Images = NDArray[np.uint8]
Embedder = Callable[[Images], FloatArray]


@dataclass(frozen=True)
class Embeddings:
    """Feature vectors.

    Attributes:
        ids: (N,) object array: annotation ids, or img_paths for whole frames.
        vectors: (N, D) float32, length 1 each.
        embedder: name of what made them.
        problems: crops that have no vector because their frame is unreadable (they are not in ``ids``).
    """

    ids: NDArray[np.object_]
    vectors: FloatArray
    embedder: str
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


def embed_crops(
    snapshot: Snapshot,
    frames: FrameStore,
    *,
    embedder: str = "mobilenet_v2",
    margin: float = DEFAULT_MARGIN,
    progress: Progress | None = None,
) -> Embeddings:
    """Vectors of all annotation crops of a snapshot, in its order.

    Crops computed before are read back. An interrupt keeps what was computed.

    Raises:
        DatasetError: unknown embedder, or not one crop could be read.
    """
    table = snapshot.annotations
    stamps = {img_path: _stamp(frames, img_path) for img_path in table["img_path"].unique()}
    keys = [
        _key(stamps[row.img_path], [row.x1, row.y1, row.x2, row.y2], margin, CROP_SIZE)
        for row in table[["img_path", *BOX]].itertuples()
    ]

    def read(missing: list[int]) -> Iterable[tuple[list[int], Images | FrameError]]:
        part = table.iloc[missing]
        for rows, crops in iterate_crops(part, frames, CROP_SIZE, margin):
            yield [missing[row] for row in rows], crops

    ids = table["annotation_id"].to_numpy(object)
    return _embed(ids, keys, read, embedder, "embed crops", progress)


def embed_frames(
    frames: FrameStore, img_paths: Iterable[str], *, embedder: str = "mobilenet_v2", progress: Progress | None = None
) -> Embeddings:
    """Vectors of whole frames, the mean over the frame and its three flips, so that flipped copies lie close.

    Raises:
        DatasetError: unknown embedder, or not one frame could be read.
    """
    names = list(img_paths)
    keys = [_key(_stamp(frames, name), "whole frame, four flips", FRAME_SIZE) for name in names]

    def read(missing: list[int]) -> Iterable[tuple[list[int], Images | FrameError]]:
        for position in missing:
            try:
                image = Image.fromarray(frames.load(names[position]))
            except FrameError as error:
                yield [position], error
                continue
            small = np.asarray(image.resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.BOX), dtype=np.uint8)
            yield [position], small[None]

    return _embed(np.array(names, dtype=object), keys, read, embedder, "embed frames", progress, flips=True)


def _embed(
    ids: NDArray[np.object_],
    keys: list[str],
    read: Callable[[list[int]], Iterable[tuple[list[int], Images | FrameError]]],
    embedder: str,
    title: str,
    progress: Progress | None,
    *,
    flips: bool = False,
) -> Embeddings:
    memory = _VectorFile(embedder)
    missing = [position for position, key in enumerate(keys) if key not in memory]
    problems: list[Problem] = []
    if missing:
        network = make_embedder(embedder)
        try:
            with track(progress, title, len(missing)) as task:
                for positions, images in _batches(read(missing), problems, task.advance):
                    memory.add([keys[position] for position in positions], _vectors(network, images, flips))
                    task.advance(len(positions))
        finally:
            memory.save()
    found = np.array([key in memory for key in keys], dtype=bool)
    if len(ids) and not found.any():
        raise DatasetError(f"none of the {len(ids)} pictures could be read; first: {problems[0] if problems else '?'}")
    kept = [key for key, there in zip(keys, found, strict=True) if there]
    return Embeddings(ids[found], memory.get(kept), embedder, problems)


def _batches(
    groups: Iterable[tuple[list[int], Images | FrameError]],
    problems: list[Problem],
    skipped: Callable[[int], None],
) -> Iterable[tuple[list[int], Images]]:
    positions: list[int] = []
    images: list[Images] = []
    for rows, crops in groups:
        if isinstance(crops, FrameError):
            problems.append(Problem("embeddings", str(crops)))
            skipped(len(rows))
            continue
        positions.extend(rows)
        images.extend(crops)
        if len(images) >= BATCH:
            yield positions, np.stack(images)
            positions, images = [], []
    if images:
        yield positions, np.stack(images)


def _vectors(network: Embedder, images: Images, flips: bool) -> FloatArray:
    vectors = network(images)
    if flips:
        for axes in ((1,), (2,), (1, 2)):
            vectors = vectors + network(np.ascontiguousarray(np.flip(images, axes)))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def make_embedder(name: str) -> Embedder:
    """Function from pictures (N, S, S, 3) uint8 RGB to features (N, D) float32.

    ``mobilenet_v2``: ImageNet features, mean over the last map (D = 1280). ``colour_histogram``: 4 x 4 x 4 RGB bins,
    square root (D = 64), the baseline any network has to beat.

    Raises:
        DatasetError: another name.
    """
    if name == "colour_histogram":
        return _colour_histogram
    if name != "mobilenet_v2":
        raise DatasetError(f"unknown embedder {name!r}; there are mobilenet_v2 and colour_histogram")
    import torch

    from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD, mobilenet_v2_backbone

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, _ = mobilenet_v2_backbone()
    features = cast(torch.nn.Module, network.features).eval().to(device).to(memory_format=torch.channels_last)
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)

    def embed(images: Images) -> FloatArray:
        with torch.inference_mode():
            pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)
            found: torch.Tensor = features((pixels - mean) / std).mean(dim=(2, 3))
            return found.cpu().numpy().astype(np.float32)

    return embed


def _colour_histogram(images: Images) -> FloatArray:
    bins = (images >> 6).astype(np.int64)
    codes = (bins[..., 0] * 16 + bins[..., 1] * 4 + bins[..., 2]).reshape(len(images), -1)
    counts = np.stack([np.bincount(row, minlength=64) for row in codes])
    return np.asarray(np.sqrt(counts / counts.sum(axis=1, keepdims=True)), dtype=np.float32)


def _stamp(frames: FrameStore, img_path: str) -> str:
    try:
        path = frames.path(img_path)
        status = path.stat()
    except (FrameError, OSError):
        return f"{img_path}|missing"
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"


def _key(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


class _VectorFile:
    """All vectors of one embedder: ``data_cache/embeddings/<embedder>-<hash>.npz`` with keys and vectors."""

    def __init__(self, embedder: str) -> None:
        self.embedder = embedder
        name = f"{embedder}-{content_hash(embedder, CROP_SIZE, FRAME_SIZE, length=6)}.npz"
        self.path: Path = paths.data_cache() / "embeddings" / name
        self.rows: dict[str, FloatArray] = {}
        self.added = 0
        if self.path.exists():
            stored = load_arrays(self.path) or {}
            if {"keys", "vectors"} <= set(stored):
                self.rows = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def add(self, keys: list[str], vectors: FloatArray) -> None:
        self.rows.update(zip(keys, vectors, strict=True))
        self.added += len(keys)

    def get(self, keys: list[str]) -> FloatArray:
        return np.stack([self.rows[key] for key in keys]) if keys else np.empty((0, 0), dtype=np.float32)

    def save(self) -> None:
        if not self.added:
            return
        keys = list(self.rows)
        save_arrays(self.path, {"keys": np.array(keys), "vectors": self.get(keys)})
        write_note(self.path, {"embedder": self.embedder, "vectors": len(keys)}, seconds=0)
        self.added = 0
