"""Maps: embeddings laid out in two dimensions for a person to look at. Nothing is measured on a map."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from obdb_lib.boxes import FloatArray
from obdb_lib.cache import artefact_arrays, content_hash
from obdb_lib.errors import DatasetError
from obdb_lib.progress import Progress, track

METHODS = ("tsne", "umap", "pca")
PCA_DIMENSIONS = 50
"""Features are reduced to this many principal components first: it removes noise and costs no neighbours."""
DEFAULT_PERPLEXITY = 30.0
DEFAULT_NEIGHBOURS = 15
_ITERATIONS = {"early": 250, "late": 500}


@dataclass(frozen=True)
class Projection:
    """A map.

    Attributes:
        xy: (N, 2) float32, in the order of the vectors.
        method: tsne, umap or pca.
        parameters: what it was made with.
        seconds: time it took; 0 when it was read back.
    """

    xy: FloatArray
    method: str
    parameters: Mapping[str, object]
    seconds: float


def project(
    vectors: FloatArray,
    *,
    method: str = "tsne",
    perplexity: float = DEFAULT_PERPLEXITY,
    n_neighbors: int = DEFAULT_NEIGHBOURS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Projection:
    """Lay out vectors (N, D) on a plane; the same input gives the same map, read back from the cache.

    Args:
        method: ``tsne`` (openTSNE, PCA start; Policar et al. 2019, van der Maaten 2008), ``umap`` (McInnes 2018) or
            ``pca``.
        perplexity: about how many neighbours count in t-SNE; lowered to (N - 1) / 3 for small N.
        n_neighbors: neighbours in UMAP; lowered to N - 1 for small N.

    Raises:
        DatasetError: unknown method or fewer than 3 vectors.
    """
    if method not in METHODS:
        raise DatasetError(f"unknown map {method!r}; there are {', '.join(METHODS)}")
    count = len(vectors)
    if count < 3:
        raise DatasetError(f"a map needs at least 3 crops; got {count}")
    parameters: dict[str, object] = {"method": method, "seed": seed, "n": count}
    if method == "tsne":
        parameters["perplexity"] = float(min(perplexity, (count - 1) / 3))
    if method == "umap":
        parameters["n_neighbors"] = int(min(n_neighbors, count - 1))
    if method == "umap" and count < 5:
        method = parameters["method"] = "pca"  # UMAP's spectral start needs more points than that
    started = time.monotonic()
    spent = 0.0

    def make() -> dict[str, np.ndarray]:
        nonlocal spent
        xy = _LAYOUTS[method](reduce(vectors, seed=seed), parameters, progress)
        spent = time.monotonic() - started
        return {"xy": xy.astype(np.float32)}

    inputs = {**parameters, "vectors": content_hash(np.ascontiguousarray(vectors).tobytes())}
    arrays = artefact_arrays("projections", inputs, make)
    return Projection(cast(FloatArray, arrays["xy"]), method, parameters, spent)


def reduce(vectors: FloatArray, *, dimensions: int = PCA_DIMENSIONS, seed: int = 0) -> FloatArray:
    """Principal components of vectors (N, D): (N, min(D, N, dimensions)) float32."""
    from sklearn.decomposition import PCA

    size = min(dimensions, *vectors.shape)
    return cast(FloatArray, PCA(size, random_state=seed).fit_transform(vectors).astype(np.float32))


def _pca(vectors: FloatArray, parameters: Mapping[str, Any], progress: Progress | None) -> FloatArray:
    flat = vectors[:, :2]
    return flat if flat.shape[1] == 2 else np.hstack([flat, np.zeros_like(flat)])


def _tsne(vectors: FloatArray, parameters: Mapping[str, Any], progress: Progress | None) -> FloatArray:
    from openTSNE import TSNE

    every = 50
    with track(progress, "t-SNE", sum(_ITERATIONS.values())) as task:
        embedding = TSNE(
            perplexity=parameters["perplexity"],
            initialization="pca",
            early_exaggeration_iter=_ITERATIONS["early"],
            n_iter=_ITERATIONS["late"],
            n_jobs=-1,
            random_state=parameters["seed"],
            callbacks=lambda iteration, error, embedding: task.advance(every, error=f"{error:.2f}"),
            callbacks_every_iters=every,
        ).fit(vectors)
    return np.asarray(embedding, dtype=np.float32)


def _umap(vectors: FloatArray, parameters: Mapping[str, Any], progress: Progress | None) -> FloatArray:
    with track(progress, "UMAP", None):
        return umap_coordinates(vectors, 2, int(parameters["n_neighbors"]), int(parameters["seed"]))


def umap_coordinates(
    vectors: FloatArray, dimensions: int, n_neighbors: int, seed: int, *, min_dist: float = 0.1
) -> FloatArray:
    """UMAP to ``dimensions``: (N, dimensions) float32, reproducible by seed."""
    import warnings

    from umap import UMAP  # takes seconds to import (numba)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*n_jobs value.*")
        reducer = UMAP(n_components=dimensions, n_neighbors=n_neighbors, min_dist=min_dist, random_state=seed)
        return cast(FloatArray, np.asarray(reducer.fit_transform(vectors), dtype=np.float32))


_LAYOUTS = {"tsne": _tsne, "umap": _umap, "pca": _pca}
