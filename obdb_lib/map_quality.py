"""How far a map may be trusted: what it invents, what it loses, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.cache import artefact_arrays
from obdb_lib.errors import DatasetError
from obdb_lib.progress import Progress, track
from obdb_lib.reduction import chunks, neighbours, vectors_hash

DEFAULT_K = 15
"""Neighbours that count: about as many as a person takes in as "beside it" on a map."""
TRUST_SAMPLE = 2000
"""Trustworthiness ranks all crops from so many of them, drawn by seed; the standard error is then below 0.003."""
RANK_ROWS = 64
"""Points ranked at a time: 50 MB at 100,000 crops."""


@dataclass(frozen=True)
class MapQuality:
    """Numbers to stand beside a map.

    Attributes:
        trustworthiness: 0..1, 1 best. Falls when neighbours on the map are no neighbours among the vectors, by how far
            down the ranking they are (Venna & Kaski 2001, "Neighborhood preservation in nonlinear projection methods").
        knn_recall: 0..1, 1 best, about k / N for a random map. Share of the k nearest vectors that are among the k
            nearest on the map (Q_NX(k) of Lee & Verleysen 2009, "Quality assessment of dimensionality reduction").
        distortion: (N,) float32, 0..1 for each crop, 1 worst: share of its k nearest vectors that the map puts
            elsewhere, the pointwise form of the recall (as in ZADU, Jeon et al. 2023).
        k: neighbours that counted.
        sampled: crops that trustworthiness was measured at; recall and distortion take all.
    """

    trustworthiness: float
    knn_recall: float
    distortion: FloatArray = field(repr=False)
    k: int
    sampled: int

    def __str__(self) -> str:
        return (
            f"trustworthiness {self.trustworthiness:.3f} (1: no false neighbours on the map), "
            f"{self.k}-NN recall {self.knn_recall:.2f} (share of true neighbours that the map keeps)"
        )


def map_quality(
    vectors: FloatArray, xy: FloatArray, *, k: int = DEFAULT_K, seed: int = 0, progress: Progress | None = None
) -> MapQuality:
    """Judge the map ``xy`` (N, 2) of ``vectors`` (N, D); read back from the cache the second time.

    Give what the map was made from (``projection.reduced``) or the full vectors, which is stricter and slower. Takes
    N x N distances but never holds them.

    Args:
        k: at least 1; lowered to (N - 1) // 2 where there are fewer crops.
        seed: which crops trustworthiness is measured at.

    Raises:
        DatasetError: fewer than 4 crops, k below 1, or a map of other crops.
    """
    count = len(vectors)
    if len(xy) != count or xy.ndim != 2:
        raise DatasetError(f"the map has shape {xy.shape} but there are {count} vectors; give the map of these vectors")
    if count < 4 or k < 1:
        raise DatasetError(f"judging a map needs at least 4 crops and k of at least 1; got {count} crops and k={k}")
    k = min(k, (count - 1) // 2)
    inputs: dict[str, object] = {"vectors": vectors_hash(vectors), "xy": vectors_hash(xy), "k": k, "seed": seed}
    inputs["sample"] = TRUST_SAMPLE
    arrays = artefact_arrays("map_quality", inputs, lambda: _measure(vectors, xy, k, seed, progress))
    distortion = cast(FloatArray, arrays["distortion"])
    recall = float(1 - distortion.mean(dtype=np.float64))
    return MapQuality(float(arrays["trustworthiness"]), recall, distortion, k, min(count, TRUST_SAMPLE))


def _measure(
    vectors: FloatArray, xy: FloatArray, k: int, seed: int, progress: Progress | None
) -> dict[str, np.ndarray]:
    near, _ = neighbours(vectors, k, progress=progress)
    near_on_map, _ = neighbours(xy, k, progress=progress)
    kept = np.zeros(len(vectors), dtype=np.int64)
    for column in range(k):
        kept += (near == near_on_map[:, column, None]).any(axis=1)
    chosen = np.arange(len(vectors))
    if len(vectors) > TRUST_SAMPLE:
        chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), TRUST_SAMPLE, replace=False))
    trust = _trustworthiness(vectors, near_on_map, chosen, k, progress)
    return {"distortion": (1 - kept / k).astype(np.float32), "trustworthiness": np.array(trust)}


def _trustworthiness(
    vectors: FloatArray, near_on_map: IntArray, chosen: IntArray, k: int, progress: Progress | None
) -> float:
    """Ranks only of the k points that are near on the map: count the vectors that are nearer than each."""
    count = len(vectors)
    squares = np.empty(count, dtype=np.float32)
    for rows in chunks(count):
        part = np.asarray(vectors[rows], dtype=np.float32)
        squares[rows] = np.einsum("ij,ij->i", part, part)
    penalty = 0
    with track(progress, "trustworthiness", len(chosen)) as task:
        for rows in chunks(len(chosen), RANK_ROWS):
            own = chosen[rows]
            distances = squares - 2 * (np.asarray(vectors[own], dtype=np.float32) @ vectors.T)
            distances[np.arange(len(own)), own] = -np.inf
            shown = np.take_along_axis(distances, near_on_map[own], axis=1)
            for column in range(k):
                rank = (distances < shown[:, column, None]).sum(
                    axis=1
                )  # the point itself counts: rank 1 is the nearest
                penalty += int(np.maximum(rank - k, 0).sum())
            task.advance(len(own))
    return 1 - 2 * penalty / (len(chosen) * k * (2 * count - 3 * k - 1))
