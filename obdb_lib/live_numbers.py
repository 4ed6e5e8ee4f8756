"""Balance and leaks of a split that is being edited: arrays are laid out once, each count is a few passes over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from obdb_lib.boxes import IntArray
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import PARTS

TRAIN, VAL, TEST = (PARTS.index(name) for name in ("train", "val", "test"))


@dataclass(frozen=True)
class Balance:
    """Boxes of each class, or of each cluster, in each part.

    Attributes:
        labels: (L,) names, sorted.
        boxes: (L, 4) int64 counts, parts in the order of PARTS.
    """

    labels: tuple[object, ...]
    boxes: IntArray

    @property
    def val_share(self) -> NDArray[np.float64]:
        """(L,) share of the boxes of train and val that is in val, 0..1; 0 where there are none."""
        both = self.boxes[:, TRAIN] + self.boxes[:, VAL]
        return np.asarray(self.boxes[:, VAL] / np.maximum(both, 1), dtype=np.float64)

    @property
    def test_share(self) -> NDArray[np.float64]:
        """(L,) share of the boxes of train, val and test that is in test, 0..1."""
        return np.asarray(
            self.boxes[:, TEST] / np.maximum(self.boxes[:, [TRAIN, VAL, TEST]].sum(axis=1), 1), np.float64
        )

    @property
    def jsd(self) -> float:
        """Jensen-Shannon divergence of val's mix from that of train, in bit (base 2; 0 is the same mix)."""
        train, val = self.boxes[:, TRAIN].astype(float), self.boxes[:, VAL].astype(float)
        if not train.sum() or not val.sum():
            return 1.0
        distance: float = jensenshannon(train, val, base=2)
        return float(distance**2)

    def table(self) -> pd.DataFrame:
        """One row a label: boxes by part and the share in val."""
        table = pd.DataFrame(self.boxes, index=pd.Index(self.labels), columns=list(PARTS))
        return table.assign(val_share=self.val_share)


@dataclass(frozen=True)
class SplitNumbers:
    """What a split is worth, as ``leaks.report`` tells it; rates are shares of the val frames, 0..1.

    Attributes:
        frames, boxes: counts by part.
        classes: boxes per class and part.
        clusters: boxes per cluster and part; None without clusters.
        shared_videos: val frames whose video is also in train; None where names do not tell videos.
        adjacent_leak: val frames whose neighbouring keyframe of the same video is in train; None likewise.
        near_duplicate_leak: val frames with a proven near twin in train; None where nobody looked for twins.
        group_overlap: val frames whose group is also in train; None where the draft has no groups.
    """

    frames: dict[str, int]
    boxes: dict[str, int]
    classes: Balance
    clusters: Balance | None
    shared_videos: float | None
    adjacent_leak: float | None
    near_duplicate_leak: float | None
    group_overlap: float | None

    @property
    def smallest_class_share(self) -> float:
        """Smallest share in val of any class; 0 means a class that val never shows."""
        return float(self.classes.val_share.min(initial=1.0)) if len(self.classes.labels) else 0.0

    @property
    def leak(self) -> float:
        """The larger of the two leak rates that could be measured."""
        return max(self.adjacent_leak or 0.0, self.near_duplicate_leak or 0.0)


class LiveCounter:
    """Counts ``SplitNumbers`` for any assignment of the same frames.

    Args:
        paths: the frames, in the order of the codes given to ``count``; each must be in ``snapshot``.
        groups: (F,) group number per frame.
    """

    def __init__(
        self,
        paths: pd.Index,
        snapshot: Snapshot,
        duplicates: DuplicateGroups | None,
        clusters: pd.Series | None,
        groups: IntArray,
    ) -> None:
        boxes = snapshot.annotations
        frame_of_box = paths.get_indexer(pd.Index(boxes["img_path"]))
        boxes, self._frame_of_box = boxes[frame_of_box >= 0], frame_of_box[frame_of_box >= 0]
        self._class_codes, self._classes = _sorted_codes(boxes["object_class"])
        self._cluster_codes: IntArray | None = None
        self._clusters: tuple[object, ...] = ()
        if clusters is not None:
            self._cluster_codes, self._clusters = _sorted_codes(boxes["annotation_id"].map(clusters))
        self._groups = groups
        self._has_groups = len(groups) > 0 and int(groups.max()) + 1 < len(groups)
        self._lay_out_videos(paths, snapshot.frames)
        self._pairs = None if duplicates is None else _pair_rows(paths, duplicates.pairs)

    def count(self, codes: NDArray[np.int8]) -> SplitNumbers:
        """Numbers of the assignment ``codes`` ((F,) index into PARTS)."""
        val, train = codes == VAL, codes == TRAIN
        part_of_box = codes[self._frame_of_box].astype(np.int64)
        return SplitNumbers(
            frames=_by_part(codes),
            boxes=_by_part(part_of_box),
            classes=_balance(self._class_codes, self._classes, part_of_box),
            clusters=(
                None if self._cluster_codes is None else _balance(self._cluster_codes, self._clusters, part_of_box)
            ),
            shared_videos=_overlap(self._videos, val, train) if self._knows_videos else None,
            adjacent_leak=self._adjacent(val, train) if self._knows_numbers else None,
            near_duplicate_leak=None if self._pairs is None else _paired(self._pairs, val, train),
            group_overlap=_overlap(self._groups, val, train) if self._has_groups else None,
        )

    def _lay_out_videos(self, paths: pd.Index, frames: pd.DataFrame) -> None:
        """Frames in the order of their videos, as keys in which a step within a video is a step in frame numbers."""
        self._knows_videos = bool((frames["video"] != "").any())
        self._gap = _keyframe_step(frames)
        table = frames.set_index("img_path").loc[paths]
        self._videos = pd.factorize(table["video"].replace("", np.nan))[0].astype(np.int64)
        known = (self._videos >= 0) & table["frame_number"].notna().to_numpy(bool)
        self._knows_numbers = bool(((frames["video"] != "") & frames["frame_number"].notna()).any())
        numbers = table["frame_number"].fillna(0).to_numpy(np.int64)
        room = (int(numbers.max(initial=0)) - int(numbers.min(initial=0))) + self._gap + 1
        keys = self._videos * room + numbers
        rows = np.flatnonzero(known)
        self._walk = rows[np.argsort(keys[rows], kind="stable")]
        self._keys = keys[self._walk].astype(np.float64)

    def _adjacent(self, val: NDArray[np.bool_], train: NDArray[np.bool_]) -> float:
        asks, answers = val[self._walk], train[self._walk]
        if not asks.any():
            return 0.0
        before = np.maximum.accumulate(np.where(answers, self._keys, -np.inf))
        after = np.minimum.accumulate(np.where(answers, self._keys, np.inf)[::-1])[::-1]
        near = np.minimum(self._keys - before, after - self._keys) <= self._gap
        return float((near & asks).sum() / asks.sum())


def _keyframe_step(frames: pd.DataFrame) -> int:
    """The smallest step between two frame numbers of one video anywhere in the data; 1 when there is none."""
    known = frames[(frames["video"] != "") & frames["frame_number"].notna()].sort_values(["video", "frame_number"])
    steps = known["frame_number"].to_numpy(np.int64)[1:] - known["frame_number"].to_numpy(np.int64)[:-1]
    same = known["video"].to_numpy(object)[1:] == known["video"].to_numpy(object)[:-1]
    return int(steps[same & (steps > 0)].min(initial=np.iinfo(np.int64).max)) if (same & (steps > 0)).any() else 1


def _sorted_codes(values: pd.Series) -> tuple[IntArray, tuple[object, ...]]:
    codes, labels = pd.factorize(values, sort=True)
    return np.asarray(codes, dtype=np.int64), tuple(labels)


def _by_part(codes: NDArray[np.integer]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=len(PARTS))
    return {part: int(count) for part, count in zip(PARTS, counts, strict=True)}


def _balance(codes: IntArray, labels: tuple[object, ...], part_of_box: IntArray) -> Balance:
    known = codes >= 0
    if not known.all():
        codes, part_of_box = codes[known], part_of_box[known]
    counts = np.bincount(codes * len(PARTS) + part_of_box, minlength=len(labels) * len(PARTS))
    return Balance(labels, counts.reshape(len(labels), len(PARTS)).astype(np.int64))


def _overlap(groups: IntArray, val: NDArray[np.bool_], train: NDArray[np.bool_]) -> float:
    """Share of val frames (those in a group) whose group has a train frame; frames of group -1 do not count."""
    counted = val & (groups >= 0)
    if not counted.any():
        return 0.0
    has_train = np.zeros(int(groups.max()) + 1, dtype=bool)
    has_train[groups[train & (groups >= 0)]] = True
    return float(has_train[groups[counted]].mean())


def _pair_rows(paths: pd.Index, pairs: pd.DataFrame) -> IntArray:
    rows = np.stack([paths.get_indexer(pd.Index(pairs[side])) for side in ("first", "second")], axis=1)
    return np.asarray(rows[(rows >= 0).all(axis=1)], dtype=np.int64)


def _paired(pairs: IntArray, val: NDArray[np.bool_], train: NDArray[np.bool_]) -> float:
    total = int(val.sum())
    if not total:
        return 0.0
    first, second = pairs[:, 0], pairs[:, 1]
    leaking = np.zeros(len(val), dtype=bool)
    leaking[first[val[first] & train[second]]] = True
    leaking[second[val[second] & train[first]]] = True
    return float(leaking.sum() / total)
