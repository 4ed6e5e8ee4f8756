"""Which frames may be twins: the nearest ones by their aggregated features, upright and mirrored.

VLAD (H. Jegou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010), with the square
root and per-centre normalisation of R. Arandjelovic and A. Zisserman, "All about VLAD", CVPR 2013. Turned and zoomed
features keep their description, so copies stay near however they were turned, zoomed, shifted or lit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.frame_features import FeatureTable
from obdb_lib.frame_match import MIRROR
from obdb_lib.progress import Progress, track

WORDS = 64
"""Centres that features are told apart by."""
DIMENSIONS = 32
"""Main components kept of a feature's 128 numbers."""
SAMPLE = 30_000
"""Features, of frames drawn at random, that centres and components are fitted to."""
CHUNK = 512
"""Frames whose likeness to all others is held in memory at a time."""
_SAMPLE_FRAMES = 1_000


@dataclass(frozen=True)
class _Vocabulary:
    mean: FloatArray
    components: FloatArray
    centres: FloatArray

    def vector(self, descriptors: FloatArray) -> FloatArray:
        """(WORDS * DIMENSIONS,) float32, length 1 (0 where there are no features)."""
        reduced = (descriptors - self.mean) @ self.components
        word = (reduced @ self.centres.T - (self.centres**2).sum(axis=1) / 2).argmax(axis=1)
        chosen = np.zeros((len(word), len(self.centres)), dtype=np.float32)
        chosen[np.arange(len(word)), word] = 1
        sums = chosen.T @ reduced - chosen.sum(axis=0)[:, None] * self.centres
        sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        vector = np.sign(sums).ravel() * np.sqrt(np.abs(sums).ravel())
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), dtype=np.float32)


def candidate_pairs(
    table: FeatureTable, numbers: IntArray, count: int, *, seed: int = 0, progress: Progress | None = None
) -> dict[tuple[int, int], set[bool]]:
    """Pairs (smaller, larger number) to prove, each with the orientations (mirrored or not) to try.

    Args:
        numbers: frames to compare, positions in ``table``.
        count: nearest neighbours a frame is given, upright and mirrored ones together.
    """
    numbers = np.array([number for number in numbers.tolist() if table.row(number)["count"]], dtype=np.int64)
    if len(numbers) < 2:
        return {}
    upright, mirrored = _vectors(table, numbers, seed, progress)
    pairs: dict[tuple[int, int], set[bool]] = {}
    for start, likeness in _likeness(upright, mirrored):
        wanted = min(count, likeness.shape[1] - 2)
        nearest = np.argpartition(-likeness, wanted - 1, axis=1)[:, :wanted]
        for row, columns in enumerate(nearest):
            for column in columns.tolist():
                other = column % len(numbers)
                if other == start + row:
                    continue
                pair = sorted((int(numbers[start + row]), int(numbers[other])))
                pairs.setdefault((pair[0], pair[1]), set()).add(column >= len(numbers))
    return pairs


def _likeness(upright: NDArray[np.float16], mirrored: NDArray[np.float16]) -> Iterator[tuple[int, FloatArray]]:
    """Rows of likeness to all upright, then to all mirrored frames, chunk by chunk; a frame is not like itself."""
    total = len(upright)
    for start in range(0, total, CHUNK):
        rows = upright[start : start + CHUNK].astype(np.float32)
        likeness = np.empty((len(rows), 2 * total), dtype=np.float32)
        for first in range(0, total, CHUNK):
            block = slice(first, min(first + CHUNK, total))
            likeness[:, block] = rows @ upright[block].astype(np.float32).T
            likeness[:, total + first : total + block.stop] = rows @ mirrored[block].astype(np.float32).T
        own = np.arange(len(rows))
        likeness[own, start + own] = likeness[own, total + start + own] = -2.0
        yield start, likeness


def _vectors(
    table: FeatureTable, numbers: IntArray, seed: int, progress: Progress | None
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    from threadpoolctl import threadpool_limits

    vocabulary = _fitted(table, numbers, seed)
    shape = (len(numbers), WORDS * DIMENSIONS)
    upright, mirrored = np.empty(shape, np.float16), np.empty(shape, np.float16)
    # Small products are slower when BLAS splits them among threads that wait for each other.
    with threadpool_limits(1, user_api="blas"), track(progress, "describe frames", len(numbers)) as task:
        for row, number in enumerate(numbers.tolist()):
            descriptors = table.get(number).descriptors
            upright[row] = vocabulary.vector(descriptors)
            mirrored[row] = vocabulary.vector(descriptors[:, MIRROR])
            task.advance()
    return upright, mirrored


def _fitted(table: FeatureTable, numbers: IntArray, seed: int) -> _Vocabulary:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    rng = np.random.default_rng(seed)
    chosen = rng.permutation(numbers)[:_SAMPLE_FRAMES]
    each = -(-SAMPLE // len(chosen))
    drawn: list[Any] = []
    for number in chosen.tolist():
        descriptors = table.get(number).descriptors
        drawn.append(rng.permutation(descriptors)[:each])
    # Mirrored features are looked up, too, so the fit sees both kinds.
    features = np.concatenate([*drawn, *(part[:, MIRROR] for part in drawn)])
    mean = features.mean(axis=0)
    _, _, directions = np.linalg.svd(np.cov(features - mean, rowvar=False))
    components = directions[:DIMENSIONS].T.astype(np.float32)
    reduced = (features - mean) @ components
    words = min(WORDS, len(reduced))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = MiniBatchKMeans(words, random_state=seed, n_init=1, batch_size=4096, max_iter=30).fit(reduced)
    centres = np.zeros((WORDS, DIMENSIONS), dtype=np.float32)
    centres[:words] = means.cluster_centers_
    centres[words:] = 1e3  # unused places lie out of every feature's reach
    return _Vocabulary(mean.astype(np.float32), components, centres)
