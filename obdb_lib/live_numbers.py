"""Balance and leaks of a split that is being edited: arrays are laid out once, each count is a few passes over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from obdb_lib.borders import BORDERS, keyframe_step
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
class Leaks:
    """What crosses one border; rates are shares of the frames of the part that judges, 0..1.

    Attributes:
        shared_videos: frames whose video is also in the other part; None where names do not tell videos.
        adjacent_leak: frames whose neighbouring keyframe of the same video is in the other part; None likewise.
        near_duplicate_leak: frames with a proven near twin in the other part; None where nobody looked for twins.
        group_overlap: frames whose group is also in the other part; None where the draft has no groups.
    """

    shared_videos: float | None
    adjacent_leak: float | None
    near_duplicate_leak: float | None
    group_overlap: float | None


@dataclass(frozen=True)
class SplitNumbers:
    """What a split is worth, as ``leaks.report`` tells it.

    Attributes:
        frames, boxes: counts by part.
        classes: boxes per class and part.
        clusters: boxes per cluster and part; None without clusters.
        borders: "val/train" and, where test has frames, "test/train" and "test/val": what the first knows of the other.
    """

    frames: dict[str, int]
    boxes: dict[str, int]
    classes: Balance
    clusters: Balance | None
    borders: dict[str, Leaks]

    @property
    def val(self) -> Leaks:
        """What crosses from train into val."""
        return self.borders["val/train"]

    def empty_side(self, judging: str) -> str:
        """The part without frames for which no leak into ``judging`` can be told: itself, or else ``train``.

        "" where both sides of one of its borders have frames.
        """
        if not self.frames[judging]:
            return judging
        known = [border.split("/")[1] for border in self.borders if border.startswith(f"{judging}/")]
        return "" if any(self.frames[part] for part in known) else "train"

    def worst(self, judging: str, name: str) -> float | None:
        """The largest rate called ``name`` (an attribute of Leaks) at the borders of a part.

        None where it is not known, or where a side has no frames: 0 % of nothing is no good news.
        """
        if self.empty_side(judging):
            return None
        rates = [getattr(leaks, name) for border, leaks in self.borders.items() if border.startswith(f"{judging}/")]
        return max((rate for rate in rates if rate is not None), default=None)

    @property
    def smallest_class_share(self) -> float:
        """Smallest share in val of any class; 0 means a class that val never shows."""
        return float(self.classes.val_share.min(initial=1.0)) if len(self.classes.labels) else 0.0

    @property
    def leak(self) -> float:
        """The larger of the two leak rates from train into val that could be measured."""
        return max(self.val.adjacent_leak or 0.0, self.val.near_duplicate_leak or 0.0)


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
        part_of_box = codes[self._frame_of_box].astype(np.int64)
        clusters = None
        if self._cluster_codes is not None:
            clusters = _balance(self._cluster_codes, self._clusters, part_of_box)
        frames = _by_part(codes)
        return SplitNumbers(
            frames=frames,
            boxes=_by_part(part_of_box),
            classes=_balance(self._class_codes, self._classes, part_of_box),
            clusters=clusters,
            borders={
                f"{judging}/{known}": self._leaks(codes == PARTS.index(judging), codes == PARTS.index(known))
                for judging, known in BORDERS
                if judging != "test" or frames["test"]
            },
        )

    def _leaks(self, judging: NDArray[np.bool_], known: NDArray[np.bool_]) -> Leaks:
        return Leaks(
            shared_videos=_overlap(self._videos, judging, known) if self._knows_videos else None,
            adjacent_leak=self._adjacent(judging, known) if self._knows_numbers else None,
            near_duplicate_leak=None if self._pairs is None else _paired(self._pairs, judging, known),
            group_overlap=_overlap(self._groups, judging, known) if self._has_groups else None,
        )

    def _lay_out_videos(self, paths: pd.Index, frames: pd.DataFrame) -> None:
        """Frames in the order of their videos, as keys in which a step within a video is a step in frame numbers."""
        self._knows_videos = bool((frames["video"] != "").any())
        self._gap = keyframe_step(frames)
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

    def _adjacent(self, judging: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
        asks, answers = judging[self._walk], known[self._walk]
        if not asks.any():
            return 0.0
        before = np.maximum.accumulate(np.where(answers, self._keys, -np.inf))
        after = np.minimum.accumulate(np.where(answers, self._keys, np.inf)[::-1])[::-1]
        near = np.minimum(self._keys - before, after - self._keys) <= self._gap
        return float((near & asks).sum() / asks.sum())


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


def _overlap(groups: IntArray, judging: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """Share of judging frames (those in a group) whose group has a known frame; frames of group -1 do not count."""
    counted = judging & (groups >= 0)
    if not counted.any():
        return 0.0
    has_known = np.zeros(int(groups.max()) + 1, dtype=bool)
    has_known[groups[known & (groups >= 0)]] = True
    return float(has_known[groups[counted]].mean())


def _pair_rows(paths: pd.Index, pairs: pd.DataFrame) -> IntArray:
    rows = np.stack([paths.get_indexer(pd.Index(pairs[side])) for side in ("first", "second")], axis=1)
    return np.asarray(rows[(rows >= 0).all(axis=1)], dtype=np.int64)


def _paired(pairs: IntArray, judging: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    total = int(judging.sum())
    if not total:
        return 0.0
    first, second = pairs[:, 0], pairs[:, 1]
    leaking = np.zeros(len(judging), dtype=bool)
    leaking[first[judging[first] & known[second]]] = True
    leaking[second[judging[second] & known[first]]] = True
    return float(leaking.sum() / total)
