"""Which embedder tells the user's classes apart best, measured by neighbours and not believed.

Each crop is classed by its nearest neighbours (cosine, Cover and Hart 1967): once among all other frames, once among
all other groups. Where the first number is much better than the second, neighbours are twins of the same video or
photograph: the leak that a random split would have. The second number is the honest one, and it decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.crops import DEFAULT_MARGIN
from obdb_lib.embedders import DEFAULT_EMBEDDERS, Embedder
from obdb_lib.embeddings import Embeddings, embed_crops
from obdb_lib.errors import DatasetError
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress, tracked
from obdb_lib.snapshots import Snapshot

NEIGHBOURS = 10
"""Crops that vote on the class of one; one vote each, ties go to the nearest."""
MOST_CROPS = 10_000
"""More crops than this are drawn from at random: the number moves by less than 0.01 and stays quick."""
CHUNK = 1024
EMBEDDER, FRAME_OUT, GROUP_OUT, LEAK, DIMENSIONS = ("embedder", "frame out", "group out", "leak", "dimensions")


@dataclass(frozen=True)
class EmbedderChoice:
    """Embedders compared.

    Attributes:
        table: one row for each, best first: embedder, ``frame out`` and ``group out`` (balanced accuracy 0..1, higher
            is better, chance is 1 / number of classes), ``leak`` (their difference), dimensions.
        proposed: name of the best by ``group out``; of equals the one with fewer dimensions.
        left_out: classes that lie in a single group, so that no other group could know them; not in ``group out``.
    """

    table: pd.DataFrame
    proposed: str
    left_out: tuple[str, ...] = ()


def compare_embedders(
    snapshot: Snapshot,
    frames: FrameStore,
    embedders: Sequence[str | Embedder | Embeddings] = DEFAULT_EMBEDDERS,
    *,
    groups: pd.Series | None = None,
    neighbours: int = NEIGHBOURS,
    margin: float = DEFAULT_MARGIN,
    seed: int = 0,
    progress: Progress | None = None,
) -> EmbedderChoice:
    """How well each embedder's neighbours know a crop's class.

    Args:
        embedders: names, Embedders, or Embeddings made elsewhere (own_vectors).
        groups: img_path -> group that may not be torn apart (video, duplicate group); the snapshot's videos without it,
            and where names do not tell those, the tasks.
        neighbours: crops that vote.
        seed: of the draw where there are more than MOST_CROPS.

    Raises:
        DatasetError: fewer than two classes, or fewer than two groups, or no embedders.
    """
    if not embedders:
        raise DatasetError("name at least one embedder to compare")
    annotations = snapshot.annotations.set_index("annotation_id")
    of_frame = groups if groups is not None else _videos(snapshot)
    group = annotations["img_path"].map(of_frame).astype(object)
    group = group.where(group.notna(), annotations["img_path"])  # a frame that no group names stands for itself
    if annotations["object_class"].nunique() < 2 or group.nunique() < 2:
        raise DatasetError(
            "embedders are compared by the classes of crops in other groups: at least two classes and two groups are "
            f"needed; got {annotations['object_class'].nunique()} and {group.nunique()}"
        )
    rows: list[dict[str, object]] = []
    left_out: tuple[str, ...] = ()
    for one in tracked(embedders, progress, "compare embedders"):
        if isinstance(one, Embeddings):
            found = one
        else:
            found = embed_crops(snapshot, frames, embedder=one, margin=margin, progress=progress)
        numbers, left_out = _judge(found, annotations.assign(group=group), neighbours, seed)
        rows.append({EMBEDDER: found.embedder, **numbers, DIMENSIONS: found.vectors.shape[1]})
    table = pd.DataFrame(rows).sort_values([GROUP_OUT, DIMENSIONS], ascending=[False, True], ignore_index=True)
    return EmbedderChoice(table, str(table[EMBEDDER].iloc[0]), left_out)


def _judge(
    found: Embeddings, annotations: pd.DataFrame, neighbours: int, seed: int
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The numbers of one embedder and the classes that only one group has."""
    drawn = _draw(len(found), seed)
    known = annotations.reindex(found.ids[drawn])
    labels, classes = pd.factorize(known["object_class"], sort=True)
    frame, group = pd.factorize(known["img_path"])[0], pd.factorize(known["group"])[0]
    spread = pd.Series(group).groupby(labels).nunique()
    alone = spread.index[spread < 2].to_numpy()
    frame_out = _balanced(labels, _votes(found.vectors[drawn], labels, frame, neighbours))
    group_out = _balanced(labels, _votes(found.vectors[drawn], labels, group, neighbours), without=alone)
    return {FRAME_OUT: frame_out, GROUP_OUT: group_out, LEAK: frame_out - group_out}, tuple(classes[alone])


def _videos(snapshot: Snapshot) -> pd.Series:
    frames = snapshot.frames.set_index("img_path")
    return frames["video"].where(frames["video"] != "", frames["task_name"])


def _draw(count: int, seed: int) -> IntArray:
    if count <= MOST_CROPS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MOST_CROPS, replace=False))


def _votes(vectors: FloatArray, labels: IntArray, group: IntArray, neighbours: int) -> IntArray:
    """Class each crop gets from its nearest neighbours outside its own group, (N,); -1 where there are none."""
    result = np.full(len(labels), -1, dtype=np.int64)
    classes = int(labels.max()) + 1
    count = min(neighbours, len(labels) - 1)
    for start in range(0, len(labels), CHUNK):
        rows = slice(start, start + CHUNK)
        likeness = vectors[rows] @ vectors.T
        likeness[group[rows, None] == group[None]] = -np.inf
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        value = np.take_along_axis(likeness, nearest, axis=1)
        there = np.isfinite(value)
        votes = np.zeros((len(nearest), classes))
        # A vote counts one; the likeness only breaks ties (it is at most 1, so ten of them weigh less than a vote).
        weight = np.where(there, 1 + np.where(there, value, 0) / (10 * neighbours), 0)
        np.add.at(votes, (np.arange(len(nearest))[:, None], labels[nearest]), weight)
        result[rows] = np.where(there.any(axis=1), votes.argmax(axis=1), -1)
    return result


def _balanced(labels: IntArray, votes: IntArray, *, without: Sequence[int] | IntArray = ()) -> float:
    """Mean over the classes of the share of their crops that were classed rightly; NaN when none is left."""
    kept = ~np.isin(labels, np.asarray(without, dtype=np.int64))
    right = pd.Series(votes[kept] == labels[kept]).groupby(labels[kept]).mean()
    return float(right.mean())
