"""UMAP (McInnes, Healy & Melville 2018): the fit, stoppable, and new crops on an existing map.

``import umap`` compiles for seconds, so nothing else in the library may need it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

import numpy as np

from obdb_lib.boxes import FloatArray
from obdb_lib.progress import Progress, track
from obdb_lib.tsne import StoppedError

if TYPE_CHECKING:
    from umap import UMAP

DEFAULT_NEIGHBOURS = 15
LEAST_CROPS = 5
"""UMAP's spectral start needs at least so many."""
EPOCHS_SMALL, EPOCHS_LARGE, LARGE_FROM = 500, 200, 10_000
"""UMAP's own numbers of epochs, up to and above so many crops."""


def fit(reduced: FloatArray, n_neighbors: int, seed: int, progress: Progress | None = None) -> FloatArray:
    """Lay out reduced vectors (N, d) in the plane: (N, 2) float32, reproducible by seed.

    Raises:
        StoppedError: an interrupt (KeyboardInterrupt) came; it carries the map so far.
    """
    from umap.layouts import optimize_layout_euclidean
    from umap.umap_ import make_epochs_per_sample

    xy = np.ascontiguousarray(reduced[:, :2])
    try:
        with track(progress, "UMAP", None):
            model = _graph(reduced, n_neighbors, seed)
            xy = np.ascontiguousarray(model.embedding_, dtype=np.float32)
            epochs = EPOCHS_SMALL if len(reduced) <= LARGE_FROM else EPOCHS_LARGE
            graph = model.graph_.tocoo()
            keep = graph.data >= graph.data.max() / epochs  # an edge sampled less than once pulls nothing
            draw = np.random.RandomState(seed).randint(-(2**31) + 1, 2**31 - 1, 3).astype(np.int64)
            # Our own array, changed in place: UMAP's fit would keep the unfinished map to itself.
            optimize_layout_euclidean(
                head_embedding=xy,
                tail_embedding=xy,
                head=graph.row[keep],
                tail=graph.col[keep],
                n_epochs=epochs,
                n_vertices=len(reduced),
                epochs_per_sample=make_epochs_per_sample(graph.data[keep], epochs),
                a=model._a,
                b=model._b,
                rng_state=draw,
                densmap_kwds={},
                tqdm_kwds={"disable": True},
                move_other=True,
            )
    except KeyboardInterrupt as stop:
        raise StoppedError(xy, 0) from stop
    return xy


def place(new: FloatArray, reduced: FloatArray, xy: FloatArray, n_neighbors: int, seed: int) -> FloatArray:
    """Positions (M, 2) float32 of new reduced vectors (M, d) on the map ``xy`` (N, 2) of ``reduced`` (N, d).

    The graph is built anew from the reduced vectors, the layout is taken from the map.
    """
    model = _graph(reduced, n_neighbors, seed)
    model.embedding_ = np.ascontiguousarray(xy, dtype=np.float32)
    model.n_epochs = None
    return cast(FloatArray, np.asarray(model.transform(new), dtype=np.float32))


def _graph(reduced: FloatArray, n_neighbors: int, seed: int) -> UMAP:
    """A UMAP with its graph and its start, not laid out."""
    from umap import UMAP

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*n_jobs value.*")
        model = UMAP(n_neighbors=n_neighbors, n_epochs=0, random_state=seed, transform_seed=seed)
        return model.fit(reduced)
