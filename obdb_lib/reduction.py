"""Principal components and nearest neighbours of many vectors, in chunks: neither copies the vectors as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.errors import DatasetError
from obdb_lib.progress import Progress, track

PCA_DIMENSIONS = 50
"""Features are reduced to this many principal components first: it removes noise and costs no neighbours."""
CHUNK_ROWS = 8192
"""Rows worked on at a time: 40 MB of 1280 float32 features; larger is no faster, smaller is."""
NEIGHBOUR_ROWS = 2048
"""Rows whose neighbours are looked for in one call, which nothing can interrupt (about 1 s at 50,000 vectors)."""


@dataclass(frozen=True)
class Components:
    """Principal components, fitted once and used again for new vectors.

    Attributes:
        mean: (D,) float32.
        axes: (D, d) float32, columns of length 1, by falling variance; the largest entry of each is positive.
    """

    mean: FloatArray
    axes: FloatArray

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """(N, d) float32 coordinates of vectors (N, D).

        Raises:
            DatasetError: the vectors have another number of dimensions.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise DatasetError(
                f"these vectors have shape {vectors.shape}; wanted (N, {len(self.mean)}), as the map was made from. "
                "Use the embedder that the map was made with"
            )
        out = np.empty((len(vectors), self.axes.shape[1]), dtype=np.float32)
        shift = self.mean @ self.axes
        for rows in chunks(len(vectors)):
            out[rows] = np.asarray(vectors[rows], dtype=np.float32) @ self.axes - shift
        return out


def chunks(count: int, rows: int = CHUNK_ROWS) -> Iterator[slice]:
    """Slices that cover ``count`` rows."""
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def principal_components(vectors: FloatArray, dimensions: int = PCA_DIMENSIONS) -> Components:
    """Components of vectors (N, D): min(D, N, dimensions) of them, from the covariance, summed up chunk by chunk.

    Takes (D, D) float64 and one chunk of memory whatever N is, so that vectors may be memory-mapped.
    """
    count, width = vectors.shape
    total = np.zeros(width, dtype=np.float64)
    for rows in chunks(count):
        total += np.asarray(vectors[rows], dtype=np.float32).sum(axis=0, dtype=np.float64)
    mean = (total / count).astype(np.float32)
    covariance = np.zeros((width, width), dtype=np.float64)
    for rows in chunks(count):
        centred = np.asarray(vectors[rows], dtype=np.float32) - mean
        covariance += centred.T @ centred
    size = min(dimensions, count, width)
    axes = _leading(covariance, size)
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(size)])
    return Components(mean, np.ascontiguousarray(axes * signs, dtype=np.float32))


def _leading(covariance: np.ndarray, size: int) -> np.ndarray:
    """The ``size`` eigenvectors of the largest eigenvalues, as columns by falling eigenvalue."""
    from scipy.sparse.linalg import ArpackError, eigsh

    if size <= len(covariance) // 2:  # a few of many take a quarter of the time of all
        start = np.random.default_rng(0).normal(size=len(covariance))
        try:
            values, axes = eigsh(covariance, size, v0=start)
            return np.asarray(axes)[:, np.argsort(-values)]
        except ArpackError:  # no variance at all: crops that are all alike
            pass
    return np.linalg.eigh(covariance)[1][:, ::-1][:, :size]


def reduce(vectors: FloatArray, dimensions: int = PCA_DIMENSIONS) -> FloatArray:
    """Principal components of vectors (N, D): (N, min(D, N, dimensions)) float32."""
    return principal_components(vectors, dimensions)(vectors)


def neighbours(
    vectors: FloatArray, k: int, *, queries: FloatArray | None = None, progress: Progress | None = None
) -> tuple[IntArray, FloatArray]:
    """The k nearest of vectors (N, D) to each query (M, D), exactly: indices (M, k) int64 and distances (M, k) float32.

    Without queries, neighbours of the vectors among each other, none its own. In 50 dimensions the exact search in
    float32 beats openTSNE's approximate one up to at least 50,000 vectors, and it can be interrupted.
    """
    from sklearn.neighbors import NearestNeighbors

    alone = queries is None
    asked = vectors if queries is None else queries
    search = NearestNeighbors(algorithm="brute").fit(vectors)
    wanted = k + 1 if alone else k
    found = np.empty((len(asked), k), dtype=np.int64)
    distances = np.empty((len(asked), k), dtype=np.float32)
    with track(progress, "find neighbours", len(asked)) as task:
        for rows in chunks(len(asked), NEIGHBOUR_ROWS):
            far, near = search.kneighbors(asked[rows], n_neighbors=wanted)
            if alone:
                far, near = _without_self(far, near, np.arange(rows.start, rows.stop))
            found[rows], distances[rows] = near, far
            task.advance(rows.stop - rows.start)
    return found, distances


def _without_self(far: FloatArray, near: IntArray, own: IntArray) -> tuple[FloatArray, IntArray]:
    """Take each row's own index out; where copies crowded it out, the last one goes."""
    drop = near == own[:, None]
    drop[~drop.any(axis=1), -1] = True
    shape = (len(near), near.shape[1] - 1)
    return far[~drop].reshape(shape), near[~drop].reshape(shape)


def vectors_hash(vectors: np.ndarray) -> str:
    """Hex digest of an array's shape, dtype and content, without a copy of the whole."""
    digest = hashlib.sha256(repr((vectors.shape, vectors.dtype.str)).encode())
    for rows in chunks(len(vectors)):
        digest.update(np.ascontiguousarray(vectors[rows]).data)
    return digest.hexdigest()[:16]
