"""Vectors on disk: append-only shards that any number of kernels may write at once.

A shard is two files: ``<name>.npy`` (n, D) float16 and ``<name>.keys.npy`` (n,) of the keys. The vectors are written
first and the keys last, each atomically, so a shard without keys does not exist for a reader. No file is ever changed;
each writer makes names of its own, so writers cannot meet. Small shards are merged under a lock, the sum before the
parts go.
"""

from __future__ import annotations

import fcntl
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray
from obdb_lib.cache import atomic_writer
from obdb_lib.errors import CacheError

logger = logging.getLogger(__name__)

KEY_LENGTH = 24
"""Characters of a key (hexadecimal)."""
FLUSH_ROWS = 4096
"""Vectors held back before a shard is written: a crash loses at most these, an interrupt none."""
MANY_SHARDS = 24
"""More small shards than this are merged."""
SMALL_ROWS, LARGE_ROWS = 16384, 65536
"""A shard below the first number counts as small; a merged one has at most the second (160 MB at 1280 values)."""

Keys = NDArray[np.bytes_]


class VectorStore:
    """Unit vectors of one embedder by key, in ``folder``.

    Stored as float16 and given out as float32 of length 1; the rounding moves a vector by less than 0.001.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: list[Path] = []
        self._keys: Keys = np.empty(0, dtype=f"S{KEY_LENGTH}")
        self._places: NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)
        self._new_keys: list[str] = []
        self._new: list[NDArray[np.float16]] = []
        self._written = False
        self.refresh()

    def refresh(self) -> None:
        """Look again at what is on disk, other kernels' shards included."""
        known: list[Keys] = []
        self._shards = []
        for path in sorted(self.folder.glob("*.keys.npy")):
            keys = _keys_of(path)
            if keys is not None:
                known.append(keys)
                self._shards.append(_vectors_path(path))
        places = [np.stack([np.full(len(keys), n), np.arange(len(keys))], axis=1) for n, keys in enumerate(known)]
        if known:
            self._keys, first = np.unique(np.concatenate(known), return_index=True)
            self._places = np.concatenate(places)[first]
        else:
            self._keys, self._places = self._keys[:0], self._places[:0]

    def __len__(self) -> int:
        return len(self._keys)

    def found(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(len(keys),) True where the vector is on disk (as of the last ``refresh`` or ``save``)."""
        if not len(self._keys) or not keys:
            return np.zeros(len(keys), dtype=bool)
        wanted = np.array(keys, dtype=self._keys.dtype)
        return np.asarray(self._keys[self._where(wanted)] == wanted, dtype=bool)

    def add(self, keys: Sequence[str], vectors: FloatArray) -> None:
        """Keep vectors (n, D); written as a shard once there are FLUSH_ROWS of them, or by ``save``."""
        self._new_keys.extend(keys)
        self._new.append(vectors.astype(np.float16))
        if len(self._new_keys) >= FLUSH_ROWS:
            self._write()

    def save(self) -> None:
        """Write what ``add`` held back and take in what others wrote.

        Raises:
            CacheError: the disk is full or the folder cannot be written.
        """
        if self._new_keys:
            self._write()
        if self._written:
            self._written = False
            self._merge()
            self.refresh()

    def get(self, keys: Sequence[str]) -> FloatArray:
        """Vectors (len(keys), D) float32 of length 1; each shard is mapped into memory, read and let go.

        Raises:
            KeyError: one of the keys is not there.
        """
        if not keys:
            return np.empty((0, 0), dtype=np.float32)
        if not self.found(keys).all():
            raise KeyError("not every key has a vector; ask found() first")
        try:
            return self._read(keys)
        except FileNotFoundError:  # another kernel merged the shards since we looked
            self.refresh()
            return self._read(keys)

    def _read(self, keys: Sequence[str]) -> FloatArray:
        places = self._places[self._where(np.array(keys, dtype=self._keys.dtype))]
        vectors: FloatArray | None = None
        for number in np.unique(places[:, 0]):
            rows = np.flatnonzero(places[:, 0] == number)
            shard: NDArray[np.float16] = np.load(self._shards[number], mmap_mode="r")
            if vectors is None:
                vectors = np.empty((len(keys), shard.shape[1]), dtype=np.float32)
            for part in np.array_split(rows, len(rows) // FLUSH_ROWS + 1):
                values = shard[places[part, 1]].astype(np.float32)
                vectors[part] = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        assert vectors is not None
        return vectors

    def _where(self, wanted: Keys) -> NDArray[np.int64]:
        return np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)

    def _write(self) -> None:
        keys = np.array(self._new_keys, dtype=self._keys.dtype)
        _write_shard(self.folder, keys, np.concatenate(self._new))
        self._new_keys, self._new, self._written = [], [], True

    def _merge(self) -> None:
        """Make few large shards of many small ones, so that a lab used for months opens as fast as a new one."""
        with _only_one(self.folder) as alone:
            if not alone:
                return
            small = [path for path in sorted(self.folder.glob("*.keys.npy")) if _rows(path) < SMALL_ROWS]
            if len(small) <= MANY_SHARDS:
                return
            for group in _groups(small):
                keys = np.concatenate([np.load(path) for path in group])
                vectors = np.concatenate([np.load(_vectors_path(path)) for path in group])
                keys, first = np.unique(keys, return_index=True)
                _write_shard(self.folder, keys, vectors[first])
                for path in group:
                    path.unlink(missing_ok=True)
                for path in group:
                    _vectors_path(path).unlink(missing_ok=True)


def _write_shard(folder: Path, keys: Keys, vectors: NDArray[np.float16]) -> None:
    name = uuid.uuid4().hex
    with atomic_writer(folder / f"{name}.npy") as file:
        np.save(file, vectors, allow_pickle=False)
    with atomic_writer(folder / f"{name}.keys.npy") as file:
        np.save(file, keys, allow_pickle=False)


def _vectors_path(keys_path: Path) -> Path:
    return keys_path.with_name(keys_path.name.removesuffix(".keys.npy") + ".npy")


def _keys_of(path: Path) -> Keys | None:
    """Keys of a shard whose two files fit; None, with a warning, when it is damaged: its vectors are made again."""
    try:
        keys: Keys = np.load(path, allow_pickle=False)
        vectors = np.load(_vectors_path(path), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:  # merged away between listing and reading
        return None
    except (OSError, ValueError, EOFError) as error:
        logger.warning("%s cannot be read back (%s); its vectors are made again", path, error)
        return None
    fits = keys.dtype == f"S{KEY_LENGTH}" and vectors.dtype == np.float16 and vectors.shape[:1] == keys.shape
    if not fits:
        logger.warning("%s does not fit its vectors; they are made again", path)
    return keys if fits else None


def _rows(path: Path) -> int:
    keys = _keys_of(path)
    return LARGE_ROWS if keys is None else len(keys)  # a damaged shard is left alone


def _groups(paths: Sequence[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    rows = 0
    for path in paths:
        count = _rows(path)
        if rows + count > LARGE_ROWS:
            yield group
            group, rows = [], 0
        group.append(path)
        rows += count
    if len(group) > 1:
        yield group


@contextmanager
def _only_one(folder: Path) -> Iterator[bool]:
    """True for the one process that may merge now; False while another one does."""
    try:
        with (folder / ".merge.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
    except OSError as error:
        raise CacheError(f"the shards in {folder} cannot be merged: {error}") from error
