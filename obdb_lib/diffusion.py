"""Diffusion coordinates: the few directions in which a crowd of vectors falls apart into groups."""

from __future__ import annotations

from typing import cast

import numpy as np

from obdb_lib.boxes import FloatArray
from obdb_lib.progress import Progress
from obdb_lib.reduction import neighbours

DIMENSIONS = 10
"""Of 5 to 30, 10 found the true groups best, by adjusted mutual information over nine sets of crops and blobs."""
PERPLEXITY = 30.0
"""About how many neighbours a walker may step to; fewer break long clusters into pieces."""
LARGEST_EIGENVALUE = 1 - 1e-6
"""Parts of the graph without a link have eigenvalue 1, infinitely far apart; this caps how far."""


def diffusion_coordinates(
    vectors: FloatArray, dimensions: int = DIMENSIONS, *, progress: Progress | None = None
) -> FloatArray:
    """Multiscale diffusion map (Coifman & Lafon 2006; the scale x / (1 - x) as in Setty et al. 2019, Palantir).

    A walker steps between vectors (N, d) by their t-SNE affinities. Two vectors are close when walks of any length from
    them meet; in such coordinates groups are dense, which HDBSCAN needs and 50 principal components do not give. On
    this project's sample, on sesame and on blobs it found true groups as well as a 5-dimensional UMAP (mean adjusted
    mutual information .807 against .801) in a tenth of the time and without numba's compilation.

    Returns:
        (N, min(dimensions, N - 2)) float32; deterministic.
    """
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors
    from scipy.sparse import diags
    from scipy.sparse.linalg import eigsh

    count = len(vectors)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    found, distances = neighbours(vectors, min(count - 1, int(3 * perplexity)), progress=progress)
    graph = PerplexityBasedNN(knn_index=PrecomputedNeighbors(found, distances), perplexity=perplexity).P.tocsr()
    scale = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    start = np.random.default_rng(0).normal(size=count)
    size = min(dimensions, count - 2)
    values, functions = eigsh(scale @ graph @ scale, size + 1, which="LA", v0=start, tol=1e-4)
    order = np.argsort(-values)[1:]  # the first is the same everywhere
    values = np.clip(values[order], 0, LARGEST_EIGENVALUE)
    return cast(FloatArray, (scale @ functions[:, order] * (values / (1 - values))).astype(np.float32))
