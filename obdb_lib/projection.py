"""Maps: embeddings laid out in two dimensions for a person to look at. Nothing is measured on a map.

``map_quality`` says how far a map may be trusted; clusters, duplicates and leaks are found among the vectors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from obdb_lib import tsne, umap_layout
from obdb_lib.boxes import FloatArray
from obdb_lib.cache import artefact_arrays
from obdb_lib.errors import DatasetError
from obdb_lib.progress import Progress
from obdb_lib.reduction import Components, principal_components, vectors_hash

logger = logging.getLogger(__name__)

METHODS = ("tsne", "umap", "pca")
LEAST_CROPS = 3


@dataclass(frozen=True)
class Projection:
    """A map.

    Attributes:
        xy: (N, 2) float32, in the order of the vectors.
        method: tsne, umap or pca.
        parameters: what it was made with.
        seconds: time it took; 0 when it was read back.
        partial: True when a person stopped the fit; such a map is not kept in the cache.
        components: turns vectors (M, D) into what the map was made from.
        reduced: (N, d) float32, what the map was made from; new crops find their neighbours here.
    """

    xy: FloatArray
    method: str
    parameters: Mapping[str, Any]
    seconds: float
    partial: bool = False
    components: Components = field(repr=False, kw_only=True)
    reduced: FloatArray = field(repr=False, kw_only=True)


def project(
    vectors: FloatArray,
    *,
    method: str = "tsne",
    perplexity: float = tsne.DEFAULT_PERPLEXITY,
    n_neighbors: int = umap_layout.DEFAULT_NEIGHBOURS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Projection:
    """Lay out vectors (N, D) on a plane; the same input gives the same map, read back from the cache.

    Stopping it (the stop button, KeyboardInterrupt) while it is being laid out gives the map so far, with
    ``partial=True``; the next call starts again.

    Args:
        vectors: float32, length 1; may be memory-mapped, it is read in chunks.
        method: ``tsne`` (``tsne.schedule`` says how, and by which papers), ``umap`` or ``pca``.
        perplexity: about how many neighbours count in t-SNE; lowered to (N - 1) / 3 for small N.
        n_neighbors: neighbours in UMAP; lowered to N - 1 for small N.
        seed: of UMAP; t-SNE and PCA draw nothing.

    Raises:
        DatasetError: unknown method, a number of neighbours below 1, or fewer than 3 vectors.
    """
    parameters = _parameters(len(vectors), method, perplexity, n_neighbors, seed)
    method = str(parameters["method"])
    started = time.monotonic()
    spent = 0.0
    components: Components | None = None
    reduced: FloatArray | None = None

    def make() -> dict[str, np.ndarray]:
        nonlocal spent, components, reduced
        components = principal_components(vectors)
        reduced = components(vectors)
        xy = _lay_out(reduced, parameters, progress)
        spent = time.monotonic() - started
        return {"xy": xy, "reduced": reduced, "mean": components.mean, "axes": components.axes}

    inputs = {**parameters, "vectors": vectors_hash(vectors)}
    try:
        arrays = artefact_arrays("projections", inputs, make)
    except tsne.StoppedError as stop:
        assert components is not None
        assert reduced is not None
        logger.warning("the map was stopped after %d iterations; it is shown as it was and not kept", stop.iterations)
        told = {**parameters, "iterations": stop.iterations}
        spent = time.monotonic() - started
        return Projection(stop.xy, method, told, spent, True, components=components, reduced=reduced)
    components = Components(cast(FloatArray, arrays["mean"]), cast(FloatArray, arrays["axes"]))
    xy, reduced = cast(FloatArray, arrays["xy"]), cast(FloatArray, arrays["reduced"])
    return Projection(xy, method, parameters, spent, components=components, reduced=reduced)


def place(vectors: FloatArray, projection: Projection, *, progress: Progress | None = None) -> FloatArray:
    """Positions (M, 2) float32 of new vectors (M, D) on an existing map, which stays as it is.

    Each lands among its neighbours of the map (t-SNE: Policar, Strazar & Zupan 2019; UMAP: its own transform; PCA:
    exactly). The map may come from the cache of an earlier kernel: all that is needed is stored with it. A new crop
    unlike any other lands somewhere, too: ask its outlier score, not the map.

    Raises:
        DatasetError: the vectors come from another embedder than the map's.
    """
    new = projection.components(vectors)
    if not len(new):
        return np.empty((0, 2), dtype=np.float32)
    if projection.method == "pca":
        return _flat(new)
    if projection.method == "tsne":
        return tsne.place(new, projection.reduced, projection.xy, progress)
    parameters = projection.parameters
    return umap_layout.place(
        new, projection.reduced, projection.xy, int(parameters["n_neighbors"]), int(parameters["seed"])
    )


def _parameters(count: int, method: str, perplexity: float, n_neighbors: int, seed: int) -> dict[str, Any]:
    if method not in METHODS:
        raise DatasetError(f"unknown map {method!r}; there are {', '.join(METHODS)}")
    if count < LEAST_CROPS:
        raise DatasetError(f"a map needs at least {LEAST_CROPS} crops; got {count}")
    if perplexity < 1 or n_neighbors < 2:
        raise DatasetError(
            f"a map needs a perplexity of at least 1 and n_neighbors of at least 2; got {perplexity} and {n_neighbors}"
        )
    if method == "umap" and count < umap_layout.LEAST_CROPS:
        method = "pca"
    parameters: dict[str, Any] = {"method": method, "n": count}
    if method == "tsne":
        parameters |= tsne.schedule(count, perplexity).as_dict()
    if method == "umap":
        parameters |= {"n_neighbors": int(min(n_neighbors, count - 1)), "seed": seed}
    return parameters


def _lay_out(reduced: FloatArray, parameters: Mapping[str, Any], progress: Progress | None) -> FloatArray:
    if not reduced[:, 0].std():
        return _flat(reduced)  # crops that are all alike have one place
    if parameters["method"] == "tsne":
        return tsne.fit(reduced, tsne.schedule(len(reduced), parameters["perplexity"]), progress)
    if parameters["method"] == "umap":
        return umap_layout.fit(reduced, parameters["n_neighbors"], parameters["seed"], progress)
    return _flat(reduced)


def _flat(reduced: FloatArray) -> FloatArray:
    flat = reduced[:, :2]
    return flat if flat.shape[1] == 2 else np.hstack([flat, np.zeros_like(flat)])
