"""Embeddings: one feature vector for each crop, computed once and kept.

Vectors are stored by content (image file, box, margin, embedder), so a moved box is computed anew and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obdb_lib import paths
from obdb_lib.boxes import FloatArray
from obdb_lib.cache import content_hash
from obdb_lib.crops import DEFAULT_MARGIN, cut
from obdb_lib.embedders import Embedder, find_embedders
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.flow import Reader, computed
from obdb_lib.frames import FrameStore
from obdb_lib.networks import PRECISIONS, Images, kept_threads, unit
from obdb_lib.progress import Progress, track
from obdb_lib.records import Problem
from obdb_lib.snapshots import BOX, Snapshot
from obdb_lib.vector_store import KEY_LENGTH, VectorStore


@dataclass(frozen=True)
class Embeddings:
    """Feature vectors.

    Attributes:
        ids: (N,) object array of annotation ids.
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
    embedder: str | Embedder = "mobilenet_v2",
    margin: float = DEFAULT_MARGIN,
    progress: Progress | None = None,
) -> Embeddings:
    """Vectors of all annotation crops of a snapshot, in its order.

    Crops computed before are read back, and then no network is loaded. An interrupt keeps what was computed.

    Args:
        embedder: a name of embedders.find_embedders, or an Embedder (detector_embedder makes one of a checkpoint). Of
            names joined by ``+`` each is computed and kept for itself.
        margin: share of the box's longer side added around it.

    Raises:
        DatasetError: unknown embedder, its weights cannot be had, or not one crop could be read.
    """
    if isinstance(embedder, str):
        parts = find_embedders(embedder)
        return _side_by_side(
            [embed_crops(snapshot, frames, embedder=part, margin=margin, progress=progress) for part in parts]
        )
    table = snapshot.annotations
    boxes = table[BOX].to_numpy(np.float32)
    img_paths = table["img_path"].tolist()
    stamps = {img_path: _stamp(frames, img_path) for img_path in dict.fromkeys(img_paths)}
    keys = [_key(stamps[name], margin, box) for name, box in zip(img_paths, boxes.tolist(), strict=True)]

    def read(img_path: str, rows: Sequence[int]) -> Images:
        frame = frames.load(img_path)
        return np.stack([cut(frame, boxes[row], embedder.size, margin) for row in rows])

    ids = table["annotation_id"].to_numpy(object)
    return _embed(_Wanted(ids, keys, img_paths, read), embedder, "embed crops", progress)


def _side_by_side(parts: Sequence[Embeddings]) -> Embeddings:
    """Vectors of several embedders one after another with the same weight; the whole has length 1."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    if any(not np.array_equal(first.ids, part.ids) for part in parts):
        raise DatasetError(
            "a frame could be read for one embedder and not for the next; check the disk that holds the images and run "
            "this step again (what was computed is kept)"
        )
    vectors = np.hstack([part.vectors for part in parts])
    vectors /= np.float32(np.sqrt(len(parts)))
    return Embeddings(first.ids, vectors, "+".join(part.embedder for part in parts), first.problems)


@dataclass(frozen=True)
class _Wanted:
    """Pictures that are to have a vector: their ids, cache keys, frames, and how a frame's pictures are read."""

    ids: NDArray[np.object_]
    keys: list[str]
    img_paths: list[str]
    read: Reader


def _embed(wanted: _Wanted, embedder: Embedder, title: str, progress: Progress | None) -> Embeddings:
    folder = _folder(embedder)
    stores = {precision: VectorStore(folder / precision) for precision in PRECISIONS}
    # Where everything is there, no device is asked: torch takes seconds to import.
    store = max(stores.values(), key=lambda one: int(one.found(wanted.keys).sum()))
    missing = _missing(wanted, store)
    problems, readable = _look_for_one(missing, wanted.read)
    if readable:
        network = embedder.load()
        store = stores[network.precision]
        missing = _missing(wanted, store)
        look = replace(network, embed=lambda images: unit(network.embed(images)))
        with track(progress, title, sum(map(len, missing.values()))) as task, kept_threads():
            try:
                with closing(computed(missing, wanted.read, look, embedder.size, problems)) as done:
                    for rows, vectors in done:
                        store.add([wanted.keys[row] for row in rows], vectors)
                        task.advance(len(rows))
            finally:
                store.save()
    found = store.found(wanted.keys)
    if len(wanted.ids) and not found.any():
        told = problems[0] if problems else "?"
        raise DatasetError(f"none of the {len(wanted.ids)} pictures could be read; first: {told}")
    kept = [key for key, there in zip(wanted.keys, found, strict=True) if there]
    return Embeddings(wanted.ids[found], store.get(kept), embedder.name, problems)


def _missing(wanted: _Wanted, store: VectorStore) -> dict[str, list[int]]:
    """Rows without a vector by their frame; a picture wanted twice is computed once."""
    frames: dict[str, list[int]] = {}
    seen: set[str] = set()
    for row in np.flatnonzero(~store.found(wanted.keys)):
        if wanted.keys[row] not in seen:
            seen.add(wanted.keys[row])
            frames.setdefault(wanted.img_paths[row], []).append(int(row))
    return frames


def _look_for_one(frames: Mapping[str, Sequence[int]], read: Reader) -> tuple[list[Problem], bool]:
    """([], True) as soon as one frame can be read; else what is wrong with each: no network is loaded for those."""
    problems = []
    for img_path, rows in frames.items():
        try:
            read(img_path, rows[:1])
        except FrameError as error:
            problems.append(Problem("embeddings", str(error)))
        else:
            return [], True
    return problems, False


def _folder(embedder: Embedder) -> Path:
    plain = re.sub(r"[^\w.+-]+", "_", Path(embedder.name).name)
    return paths.data_cache() / "embeddings" / f"{plain}-{content_hash(embedder.identity, embedder.size, length=8)}"


def _stamp(frames: FrameStore, img_path: str) -> str:
    """What tells an image from another version of it, wherever the images lie; cheaper than reading it."""
    try:
        status = frames.path(img_path).stat()
    except (FrameError, OSError):
        return f"{img_path}|missing"
    return f"{img_path}|{status.st_size}|{status.st_mtime_ns}"


def _key(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=KEY_LENGTH // 2).hexdigest()
