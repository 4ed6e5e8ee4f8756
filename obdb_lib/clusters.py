"""Clusters of crops and how far each crop stands alone, found in embedding space and never on the map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.cache import artefact_arrays
from obdb_lib.diffusion import diffusion_coordinates
from obdb_lib.embeddings import Embeddings
from obdb_lib.errors import DatasetError
from obdb_lib.progress import Progress, track
from obdb_lib.reduction import neighbours, reduce, vectors_hash

METHODS = ("hdbscan", "kmeans")
OUTLIER = -1
MIN_CLUSTER_SHARE = 0.01
MIN_CLUSTER_SIZE = 8
"""A cluster has at least this share of all crops and at least this many; larger gives fewer, broader clusters."""
MIN_SAMPLES = 10
"""Neighbours that make a place dense (HDBSCAN); larger calls more crops outliers. At most the cluster size."""
FIT_LIMIT = 20_000
"""HDBSCAN's time grows with the square of the crops: of more, so many (drawn by seed) are clustered and the rest take
the label that most of their ``VOTES`` nearest have."""
VOTES = 5
KMEANS_STARTS = 4
OUTLIER_NEIGHBOURS = 10
"""Neighbours whose mean distance tells how far a crop stands alone."""


@dataclass(frozen=True)
class Clusters:
    """Cluster of each crop.

    Attributes:
        labels: Series annotation_id -> cluster number (0 is the largest), OUTLIER for crops in none.
        outlier_scores: Series annotation_id -> 0..1, float32: the share of all crops that stand less alone, by mean
            distance to the 10 nearest vectors (Ramaswamy, Rastogi & Shim 2000); 1 is the loneliest.
        centrality: Series annotation_id -> -1..1, float32: cosine to the mean vector of its cluster; the most typical
            crops have the highest. NaN for outliers.
        method: hdbscan or kmeans, or "own" for labels from elsewhere (these need no scores).
        parameters: what they were found with.
    """

    labels: pd.Series
    outlier_scores: pd.Series = field(default_factory=lambda: pd.Series(dtype=np.float32))
    centrality: pd.Series = field(default_factory=lambda: pd.Series(dtype=np.float32), repr=False)
    method: str = "own"
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of clusters, outliers not counted."""
        return int(self.labels[self.labels != OUTLIER].nunique())

    def table(self, classes: pd.Series) -> pd.DataFrame:
        """Clusters (rows) x classes (columns): number of crops. ``classes``: annotation_id -> class name."""
        return pd.crosstab(self.labels.rename("cluster"), classes.reindex(self.labels.index).rename("object_class"))

    def long_table(self, annotations: pd.DataFrame, parts: pd.Series | None = None) -> pd.DataFrame:
        """Crops by cluster, object_class, task_name and part; only combinations that occur.

        Args:
            annotations: a snapshot's, with annotation_id, object_class, task_name and img_path.
            parts: img_path -> part of a split (``split.frames.set_index("img_path")["part"]``); ``excluded`` where it
                has none. Without it every crop's part is ``all``.

        Raises:
            DatasetError: a column is missing, or a crop is not among the annotations.
        """
        needed = {"annotation_id", "object_class", "task_name", "img_path"}
        if lacking := needed - set(annotations.columns):
            raise DatasetError(
                f"a table of clusters needs the columns {', '.join(sorted(needed))}; "
                f"missing: {', '.join(sorted(lacking))}"
            )
        known = annotations.set_index("annotation_id")
        if len(lost := self.labels.index.difference(known.index)):
            raise DatasetError(
                f"{len(lost)} crops, the first {lost[0]}, are not among these annotations; give the snapshot that the "
                "clusters were found in"
            )
        table = known.loc[self.labels.index, ["object_class", "task_name"]].assign(cluster=self.labels)
        table["part"] = "all" if parts is None else known["img_path"].reindex(table.index).map(parts).fillna("excluded")
        keys = ["cluster", "object_class", "task_name", "part"]
        return table.groupby(keys, observed=True).size().rename("crops").reset_index()

    def wide_table(
        self, annotations: pd.DataFrame, by: str = "object_class", *, parts: pd.Series | None = None
    ) -> pd.DataFrame:
        """``long_table`` with one row a cluster and one column a value of ``by`` (object_class, task_name or part).

        Raises:
            DatasetError: as there, or another ``by``.
        """
        if by not in ("object_class", "task_name", "part"):
            raise DatasetError(f"clusters are shown by object_class, task_name or part; got {by!r}")
        long = self.long_table(annotations, parts)
        return long.pivot_table(index="cluster", columns=by, values="crops", aggfunc="sum", fill_value=0)


def find_clusters(
    embeddings: Embeddings,
    *,
    method: str = "hdbscan",
    min_cluster_size: int | None = None,
    n_clusters: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Clusters:
    """Group crops that look alike; the same input and seed give the same clusters, read back from the cache.

    Args:
        method: ``hdbscan`` (Campello, Moulavi & Sander 2013) on diffusion coordinates of the features
            (``diffusion_coordinates``): finds the number of clusters and leaves outliers out. ``kmeans``: exactly
            ``n_clusters`` round ones, no outliers.
        min_cluster_size: hdbscan only; None takes 1 % of the crops, at least 8. Fewer crops than two such clusters hold
            are all outliers.
        n_clusters: kmeans only, and needed there.
        seed: of k-means' starts, and of which crops are clustered where there are more than ``FIT_LIMIT``.

    Raises:
        DatasetError: unknown method, or a size or number that cannot be.
    """
    count = len(embeddings)
    parameters = _parameters(count, method, min_cluster_size, n_clusters, seed)
    vectors = embeddings.vectors

    def make() -> dict[str, np.ndarray]:
        reduced = reduce(vectors) if count else np.empty((0, 1), dtype=np.float32)
        labels = _by_size(_find(reduced, parameters, progress))
        return {"labels": labels, "alone": _alone(reduced), "centrality": _centrality(vectors, labels)}

    arrays = artefact_arrays("clusters", {**parameters, "vectors": vectors_hash(vectors)}, make)
    ids = pd.Index(embeddings.ids, name="annotation_id")
    return Clusters(
        pd.Series(arrays["labels"], index=ids, name="cluster"),
        pd.Series(arrays["alone"], index=ids, name="outlier_score"),
        pd.Series(arrays["centrality"], index=ids, name="centrality"),
        method,
        parameters,
    )


def _parameters(
    count: int, method: str, min_cluster_size: int | None, n_clusters: int | None, seed: int
) -> dict[str, object]:
    if method not in METHODS:
        raise DatasetError(f"unknown way to find clusters {method!r}; there are {' and '.join(METHODS)}")
    if method == "kmeans":
        if n_clusters is None or not 1 <= n_clusters <= count:
            raise DatasetError(f"kmeans needs n_clusters between 1 and the number of crops, {count}; got {n_clusters}")
        return {"method": method, "n_clusters": n_clusters, "seed": seed, "starts": KMEANS_STARTS}
    if n_clusters is not None:
        raise DatasetError("hdbscan finds the number of clusters itself; leave n_clusters out or use method='kmeans'")
    size = max(MIN_CLUSTER_SIZE, round(MIN_CLUSTER_SHARE * count)) if min_cluster_size is None else min_cluster_size
    if size < 2:
        raise DatasetError(f"a cluster needs at least 2 crops; got min_cluster_size={size}")
    return {
        "method": method,
        "min_cluster_size": size,
        "min_samples": min(MIN_SAMPLES, size),
        "seed": seed if count > FIT_LIMIT else 0,
        "fit_limit": FIT_LIMIT,
    }


def _find(reduced: FloatArray, parameters: Mapping[str, object], progress: Progress | None) -> IntArray:
    """Raw labels of reduced vectors (N, d)."""
    from sklearn.cluster import HDBSCAN, KMeans

    count = len(reduced)
    seed = cast(int, parameters["seed"])
    if parameters["method"] == "kmeans":
        with track(progress, "k-means", None):
            search = KMeans(cast(int, parameters["n_clusters"]), n_init=KMEANS_STARTS, random_state=seed)
            return cast(IntArray, search.fit_predict(reduced).astype(np.int64))
    size, samples = cast(int, parameters["min_cluster_size"]), cast(int, parameters["min_samples"])
    if count < 2 * size:
        return np.full(count, OUTLIER, dtype=np.int64)
    chosen = np.arange(count)
    if count > FIT_LIMIT:
        chosen = np.sort(np.random.default_rng(seed).choice(count, FIT_LIMIT, replace=False))
        size = max(2, round(size * FIT_LIMIT / count))
    compact = diffusion_coordinates(reduced[chosen], progress=progress)
    with track(progress, "find clusters", None):
        found = HDBSCAN(min_cluster_size=size, min_samples=min(samples, size), copy=True).fit_predict(compact)
    if len(chosen) == count:
        return cast(IntArray, found.astype(np.int64))
    return _vote(reduced, chosen, found.astype(np.int64), progress)


def _vote(reduced: FloatArray, chosen: IntArray, found: IntArray, progress: Progress | None) -> IntArray:
    """Labels of all from those of the chosen: the commonest among the nearest; of ties the smallest number."""
    labels = np.full(len(reduced), OUTLIER, dtype=np.int64)
    labels[chosen] = found
    rest = np.setdiff1d(np.arange(len(reduced)), chosen)
    near, _ = neighbours(reduced[chosen], VOTES, queries=reduced[rest], progress=progress)
    votes = found[near]
    counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
    best = np.where(counts == counts.max(axis=1, keepdims=True), votes, np.iinfo(np.int64).max)
    labels[rest] = best.min(axis=1)
    return labels


def _alone(reduced: FloatArray) -> FloatArray:
    """(N,) float32: rank of each crop's mean distance to its nearest, 0..1."""
    count = len(reduced)
    if count < 2:
        return np.zeros(count, dtype=np.float32)
    _, distances = neighbours(reduced, min(OUTLIER_NEIGHBOURS, count - 1))
    ranks = pd.Series(distances.mean(axis=1, dtype=np.float64)).rank(method="average").to_numpy() - 1
    return cast(FloatArray, (ranks / (count - 1)).astype(np.float32))


def _centrality(vectors: FloatArray, labels: IntArray) -> FloatArray:
    cosine = np.full(len(labels), np.nan, dtype=np.float32)
    for label in range(int(labels.max(initial=OUTLIER)) + 1):
        members = np.flatnonzero(labels == label)
        own = np.asarray(vectors[members], dtype=np.float32)
        mean = own.mean(axis=0)
        lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(mean)
        cosine[members] = own @ mean / np.maximum(lengths, 1e-12)
    return cosine


def _by_size(labels: IntArray) -> IntArray:
    """Renumber so that 0 is the largest cluster; ties by first member."""
    names, first, counts = np.unique(labels[labels != OUTLIER], return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    renamed = {int(names[old]): new for new, old in enumerate(order)}
    return np.array([renamed.get(int(label), OUTLIER) for label in labels], dtype=np.int64)
