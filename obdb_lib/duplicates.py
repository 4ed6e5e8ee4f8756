"""Near-duplicate frames: the same ground seen twice, whether by a moving camera or by augmentation.

Candidates come from frame embeddings; each candidate pair is then proved by pixels: the highest normalised
cross-correlation over all shifts and four flips (J. P. Lewis, "Fast Normalized Cross-Correlation", 1995, by FFT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, sparse
from scipy.ndimage import gaussian_filter
from sklearn.neighbors import NearestNeighbors

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.cache import artefact_arrays
from obdb_lib.embeddings import Embeddings
from obdb_lib.errors import FrameError
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress, track

MIN_CORRELATION = 0.45
"""Frames correlating at least this well show the same ground. Unrelated field frames stay below 0.35, shifted or
flipped copies lie mostly above 0.8 (739 sesame photographs); lower it to catch fainter twins at the price of false
ones."""
MIN_OVERLAP = 0.4
"""Share of the frame that has to overlap for a shift to count; small overlaps correlate by chance."""
CANDIDATES = 15
"""Nearest frames in embedding space that are checked by pixels."""
SIDE = 64
_DETAIL_SIGMA = 8.0  # structure wider than this is light and vignette, which every frame of a camera shares


@dataclass(frozen=True)
class DuplicateGroups:
    """Which frames show the same ground.

    Attributes:
        groups: Series img_path -> group number; a frame without a twin is a group of its own.
        pairs: columns first, second (img_path), correlation (float32, 0..1): the pairs that were proved.
    """

    groups: pd.Series
    pairs: pd.DataFrame

    @property
    def count(self) -> int:
        """Number of groups of two or more frames."""
        return int((self.groups.value_counts() > 1).sum())


def find_duplicates(
    embeddings: Embeddings,
    frames: FrameStore,
    *,
    min_correlation: float = MIN_CORRELATION,
    candidates: int = CANDIDATES,
    progress: Progress | None = None,
) -> DuplicateGroups:
    """Near-duplicate pairs and groups of whole frames.

    Args:
        embeddings: of frames (embeddings.embed_frames); its ids are the img_paths looked at.
    """
    names = [str(name) for name in embeddings.ids]
    inputs: dict[str, object] = {
        "frames": names,
        "vectors": float(embeddings.vectors.sum()),
        "min_correlation": min_correlation,
        "candidates": candidates,
    }
    arrays = artefact_arrays(
        "duplicates", inputs, lambda: _find(embeddings, frames, min_correlation, candidates, progress)
    )
    pairs = pd.DataFrame(
        {
            "first": [names[i] for i in arrays["pairs"][:, 0]],
            "second": [names[i] for i in arrays["pairs"][:, 1]],
            "correlation": arrays["correlations"],
        }
    )
    labels = connected(len(names), arrays["pairs"])
    return DuplicateGroups(pd.Series(labels, index=pd.Index(names, name="img_path"), name="duplicate_group"), pairs)


def connected(count: int, pairs: IntArray) -> IntArray:
    """Component number of each of ``count`` items joined by ``pairs`` (P, 2)."""
    ones = np.ones(len(pairs), dtype=np.int8)
    graph = sparse.coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    return cast(IntArray, labels.astype(np.int64))


def _find(
    embeddings: Embeddings, frames: FrameStore, min_correlation: float, candidates: int, progress: Progress | None
) -> dict[str, np.ndarray]:
    count = len(embeddings)
    if count < 2:
        return {"pairs": np.empty((0, 2), np.int64), "correlations": np.empty(0, np.float32)}
    neighbours = NearestNeighbors(n_neighbors=min(candidates + 1, count)).fit(embeddings.vectors)
    nearest: IntArray = neighbours.kneighbors(embeddings.vectors, return_distance=False)
    correlator = _Correlator([str(name) for name in embeddings.ids], frames)
    pairs: list[tuple[int, int]] = []
    values: list[float] = []
    with track(progress, "compare frames", count) as task:
        for first in range(count):
            others = [second for second in nearest[first] if second > first or first not in nearest[second]]
            others = [second for second in others if second != first]
            if others:
                found = correlator.best(first, others)
                keep = [(second, value) for second, value in zip(others, found, strict=True)]
                pairs += [(min(first, s), max(first, s)) for s, value in keep if value >= min_correlation]
                values += [float(value) for _, value in keep if value >= min_correlation]
            task.advance()
    return {
        "pairs": np.array(pairs, dtype=np.int64).reshape(-1, 2),
        "correlations": np.array(values, dtype=np.float32),
    }


class _Correlator:
    """Highest normalised cross-correlation of small grey pictures over shifts and flips."""

    def __init__(self, names: Sequence[str], frames: FrameStore) -> None:
        self.pictures = np.stack([_detail(name, frames) for name in names])
        self.shape = (2 * SIDE, 2 * SIDE)
        self.transforms = fft.rfft2(self.pictures, self.shape)
        self.energies = fft.rfft2(self.pictures**2, self.shape)
        window = fft.rfft2(np.ones((SIDE, SIDE), np.float32), self.shape)
        self.window = window
        overlap = fft.irfft2(window * np.conj(window), self.shape)
        self.allowed = overlap >= MIN_OVERLAP * SIDE * SIDE

    def best(self, first: int, others: Sequence[int]) -> FloatArray:
        """(len(others),) float32, at most 1."""
        best = np.zeros(len(others), dtype=np.float32)
        energy_first = fft.irfft2(self.energies[first] * np.conj(self.window), self.shape)
        for flip in ((), (1,), (2,), (1, 2)):
            turned = np.flip(self.pictures[list(others)], flip)
            product = fft.irfft2(self.transforms[first] * np.conj(fft.rfft2(turned, self.shape)), self.shape)
            energy = fft.irfft2(self.window * np.conj(fft.rfft2(turned**2, self.shape)), self.shape)
            scale = np.sqrt(np.maximum(energy_first, 1e-3) * np.maximum(energy, 1e-3))
            value = np.where(self.allowed, product / scale, 0).reshape(len(others), -1).max(axis=1)
            best = np.maximum(best, value.astype(np.float32))
        return best


def _detail(name: str, frames: FrameStore) -> NDArray[np.float32]:
    try:
        grey = Image.fromarray(frames.load(name)).convert("L")
    except FrameError:
        return np.zeros((SIDE, SIDE), dtype=np.float32)
    pixels = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    pixels = pixels - gaussian_filter(pixels, _DETAIL_SIGMA)
    return cast(NDArray[np.float32], pixels / np.sqrt((pixels**2).mean() + 1e-6))
