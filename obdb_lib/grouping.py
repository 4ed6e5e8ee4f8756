"""What may not be torn apart, and what is balanced: groups of frames, and their counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from obdb_lib.balance_problem import Matrix
from obdb_lib.boxes import IntArray
from obdb_lib.duplicates import DuplicateGroups, connected
from obdb_lib.errors import SplitError

GROUPINGS = ("task", "video", "session", "camera", "time_block", "duplicate_group", "cluster", "given")
SIZE_BINS = 5
"""Bins of box size (square root of the area), each with as many boxes; more bins balance sizes finer."""
_OUTLIER = -1
_TABLE_COLUMN = {"task": "task_name", "video": "video", "session": "session", "camera": "camera"}

Keys = list[tuple[int, str]]
"""Pairs (row of the table, name of what the frame belongs to)."""


@dataclass(frozen=True)
class GroupSources:
    """Where the groupings that the table of frames does not hold come from.

    Attributes:
        duplicates: for ``duplicate_group``.
        boxes: annotations (columns annotation_id, img_path) and clusters (annotation_id -> cluster, -1 in none), for
            ``cluster``: a frame belongs to the cluster of each of its crops.
        given: img_path -> name of the user's own group, for ``given``; frames left out or with "" are in none.
        block_frames, buffer_frames: for ``time_block``, in frame numbers of the video.
    """

    duplicates: DuplicateGroups | None = None
    boxes: pd.DataFrame | None = None
    clusters: pd.Series | None = None
    given: Mapping[str, object] | None = None
    block_frames: int | None = None
    buffer_frames: int = 0


def frame_groups(
    table: pd.DataFrame,
    group_by: Sequence[str],
    duplicates: DuplicateGroups | None = None,
    *,
    sources: GroupSources | None = None,
) -> IntArray:
    """Group number of each row of ``table``: frames that share any of ``group_by`` are in one group.

    Args:
        table: columns of Snapshot.frames.
        group_by: of GROUPINGS. Beware of ``cluster``: frames with crops of a common cluster are joined, and so are all
            that these share another cluster with; on field video, where a frame shows many looks, a few large clusters
            join everything into one group. It suits sets with one plant a frame.
        duplicates: for ``duplicate_group``; the same as in ``sources``.

    Returns:
        (N,) int64, numbered from 0. A frame of which nothing is known is a group of its own.

    Raises:
        SplitError: an unknown grouping, or one whose source is missing.
    """
    unknown = [name for name in group_by if name not in GROUPINGS]
    if unknown or not group_by:
        raise SplitError(f"group_by must name one or more of {', '.join(GROUPINGS)}; got {list(group_by)}")
    sources = sources or GroupSources(duplicates=duplicates)
    pairs: list[tuple[int, int]] = []
    for name in group_by:
        first: dict[str, int] = {}
        pairs += [(first.setdefault(key, row), row) for row, key in _keys(table, name, sources) if key]
    return connected(len(table), np.array(pairs, dtype=np.int64).reshape(-1, 2))


def in_buffer(table: pd.DataFrame, block_frames: int, buffer_frames: int) -> np.ndarray:
    """(N,) bool: the frame lies between two time blocks of its video, and so belongs to no part.

    A period is ``block_frames`` + ``buffer_frames`` numbers long and starts at number 0; its last ``buffer_frames`` are
    the buffer, so that frames of two blocks are more than ``buffer_frames`` numbers apart.

    Raises:
        SplitError: a block of no frames, or a negative buffer.
    """
    if block_frames < 1 or buffer_frames < 0:
        raise SplitError(
            f"a time block needs block_frames of 1 or more and buffer_frames of 0 or more; got {block_frames} and "
            f"{buffer_frames}"
        )
    number = table["frame_number"].astype("Int64")
    place = number % (block_frames + buffer_frames)
    known = (table["video"] != "") & number.notna()
    return np.asarray((known & (place >= block_frames)).fillna(False).to_numpy(bool))


def _keys(table: pd.DataFrame, name: str, sources: GroupSources) -> Iterable[tuple[int, str]]:
    if name in _TABLE_COLUMN:
        return enumerate(table[_TABLE_COLUMN[name]].astype(str))
    if name == "duplicate_group":
        if sources.duplicates is None:
            raise SplitError("grouping by duplicate_group needs duplicates.find_duplicates first")
        numbers = table["img_path"].map(sources.duplicates.groups)
        return enumerate("" if pd.isna(number) else str(int(number)) for number in numbers)
    if name == "time_block":
        return enumerate(_block_names(table, sources))
    if name == "given":
        if sources.given is None:
            raise SplitError("grouping by given needs given={img_path: name of its group}")
        return [(row, str(sources.given.get(path, "") or "")) for row, path in enumerate(table["img_path"])]
    if sources.clusters is None or sources.boxes is None:
        raise SplitError("grouping by cluster needs clusters=clusters.find_clusters(...).labels")
    rows = {path: row for row, path in enumerate(table["img_path"])}
    numbers = sources.boxes["annotation_id"].map(sources.clusters)
    found = zip(sources.boxes["img_path"], numbers, strict=True)
    return [(rows[path], str(int(n))) for path, n in found if path in rows and not pd.isna(n) and n != _OUTLIER]


def _block_names(table: pd.DataFrame, sources: GroupSources) -> list[str]:
    if sources.block_frames is None:
        raise SplitError("grouping by time_block needs block_frames, the length of a block in frame numbers")
    buffered = in_buffer(table, sources.block_frames, sources.buffer_frames)
    period = sources.block_frames + sources.buffer_frames
    rows = zip(table["video"], table["frame_number"], buffered, strict=True)
    return [
        "" if not video or pd.isna(number) or inside else f"{video}#{int(number) // period}"
        for video, number, inside in rows
    ]


@dataclass(frozen=True)
class GroupCounts:
    """What is balanced.

    Attributes:
        counts: (G, F) float64 counts of each group; no empty column.
        kinds: of each column, "frames", "classes", "clusters" or "sizes".
        names: of each column: the class, "cluster 3", "size 12-31 px".
    """

    counts: Matrix
    kinds: tuple[str, ...]
    names: tuple[str, ...]


def group_counts(
    table: pd.DataFrame, groups: IntArray, annotations: pd.DataFrame, clusters: pd.Series | None
) -> GroupCounts:
    """Frames, boxes per class, crops per cluster (when given) and boxes per size of each group."""
    count = int(groups.max()) + 1
    group_of = pd.Series(groups, index=table["img_path"])
    boxes = annotations[annotations["img_path"].isin(group_of.index)]
    box_groups = boxes["img_path"].map(group_of).to_numpy(np.int64)
    labels: list[tuple[str, pd.Series]] = [("classes", boxes["object_class"])]
    if clusters is not None:
        numbers = boxes["annotation_id"].map(clusters)
        names = "cluster " + numbers.fillna(_OUTLIER).astype(int).astype(str)
        labels.append(("clusters", names.where(numbers.notna() & (numbers != _OUTLIER))))
    if len(boxes):
        labels.append(("sizes", size_bins(boxes)))
    blocks, kinds, titles = [np.bincount(groups, minlength=count)[:, None]], ["frames"], ["frames"]
    for kind, label in labels:
        codes, values = pd.factorize(label, sort=True)
        known = codes >= 0
        cells = np.bincount(box_groups[known] * len(values) + codes[known], minlength=count * len(values))
        blocks.append(cells.reshape(count, len(values)))
        kinds += [kind] * len(values)
        titles += [str(value) for value in values]
    return GroupCounts(np.hstack(blocks).astype(np.float64), tuple(kinds), tuple(titles))


def size_bins(boxes: pd.DataFrame) -> pd.Series:
    """Name of each box's bin of size: the square root of its area in pixels, by quantiles of all boxes."""
    size = np.sqrt((boxes["x2"] - boxes["x1"]).clip(lower=0) * (boxes["y2"] - boxes["y1"]).clip(lower=0))
    edges = np.unique(np.quantile(size.to_numpy(np.float64), np.linspace(0, 1, SIZE_BINS + 1)))
    bins = np.clip(np.searchsorted(edges[1:-1], size, side="right"), 0, max(len(edges) - 2, 0))
    names = [f"size {low:.0f}-{high:.0f} px" for low, high in pairwise(edges)] or ["size"]
    return pd.Series([f"{code}: {names[code]}" for code in bins], index=boxes.index)
