"""Clusters of crops, found in embedding space and never on the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.cache import artefact_arrays, content_hash
from obdb_lib.embeddings import Embeddings
from obdb_lib.progress import Progress, track
from obdb_lib.projection import reduce, umap_coordinates

OUTLIER = -1
MIN_CLUSTER_SHARE = 0.01
MIN_CLUSTER_SIZE = 8
"""A cluster has at least this share of all crops and at least this many; larger gives fewer, broader clusters."""
UMAP_DIMENSIONS = 5
"""HDBSCAN runs on a 5-dimensional UMAP of the features, where it finds true clusters best (it needs density, which 50
dimensions do not have); these are not the coordinates of the map."""


@dataclass(frozen=True)
class Clusters:
    """Cluster of each crop.

    Attributes:
        labels: Series annotation_id -> cluster number (0 is the largest), OUTLIER for crops in none.
    """

    labels: pd.Series

    @property
    def count(self) -> int:
        """Number of clusters, outliers not counted."""
        return int(self.labels[self.labels != OUTLIER].nunique())

    def table(self, classes: pd.Series) -> pd.DataFrame:
        """Clusters (rows) x classes (columns): number of crops. ``classes``: annotation_id -> class name."""
        return pd.crosstab(self.labels.rename("cluster"), classes.reindex(self.labels.index).rename("object_class"))


def find_clusters(
    embeddings: Embeddings, *, min_cluster_size: int | None = None, seed: int = 0, progress: Progress | None = None
) -> Clusters:
    """HDBSCAN (Campello et al. 2013) on embeddings; fewer crops than one cluster needs are all outliers."""
    count = len(embeddings)
    size = min_cluster_size or max(MIN_CLUSTER_SIZE, round(MIN_CLUSTER_SHARE * count))
    inputs: dict[str, object] = {
        "vectors": content_hash(np.ascontiguousarray(embeddings.vectors).tobytes()),
        "min_cluster_size": size,
        "seed": seed,
    }
    with track(progress, "find clusters", None):
        arrays = artefact_arrays("clusters", inputs, lambda: {"labels": _labels(embeddings.vectors, size, seed)})
    ids = pd.Index(embeddings.ids, name="annotation_id")
    return Clusters(pd.Series(arrays["labels"], index=ids, name="cluster"))


def _labels(vectors: FloatArray, size: int, seed: int) -> IntArray:
    from sklearn.cluster import HDBSCAN

    if len(vectors) < max(2 * size, UMAP_DIMENSIONS + 3):
        return np.full(len(vectors), OUTLIER, dtype=np.int64)
    reduced = reduce(vectors, seed=seed)
    compact = umap_coordinates(reduced, UMAP_DIMENSIONS, min(15, len(vectors) - 1), seed, min_dist=0.0)
    found = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(compact)
    return _by_size(found)


def _by_size(labels: IntArray) -> IntArray:
    """Renumber so that 0 is the largest cluster; ties by first member."""
    names, first, counts = np.unique(labels[labels != OUTLIER], return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    renamed = {int(names[old]): new for new, old in enumerate(order)}
    return np.array([renamed.get(int(label), OUTLIER) for label in labels], dtype=np.int64)
