"""What a split is worth: balance of its parts, and how much of val has a twin in train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon

from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split


@dataclass(frozen=True)
class SplitReport:
    """Numbers of one split; shares and rates are 0..1, divergences in bit (Jensen-Shannon, base 2, 0 = the same mix).

    Attributes:
        frames, boxes: number in train and val.
        val_share_by_class: share of each class's boxes that is in val.
        smallest_class_share: the smallest of these; 0 means a class that val never shows.
        class_jsd, cluster_jsd: divergence of the class (cluster) mix of val from that of train.
        shared_videos: val frames whose video is also in train, as a rate.
        adjacent_leak: val frames whose neighbouring keyframe of the same video is in train, as a rate; None where names
            do not tell videos.
        near_duplicate_leak: val frames with a proven near twin in train, as a rate; None where nobody looked for twins.
    """

    split_id: str
    strategy: str
    frames: dict[str, int]
    boxes: dict[str, int]
    val_share_by_class: dict[str, float]
    smallest_class_share: float
    class_jsd: float
    cluster_jsd: float | None
    shared_videos: float | None
    adjacent_leak: float | None
    near_duplicate_leak: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def leak(self) -> float:
        """The larger of the two leak rates that could be measured."""
        return max(self.adjacent_leak or 0.0, self.near_duplicate_leak or 0.0)


def report(
    split: Split,
    snapshot: Snapshot,
    *,
    duplicates: DuplicateGroups | None = None,
    clusters: pd.Series | None = None,
) -> SplitReport:
    """Balance and leaks of any split, whoever made it."""
    parts = split.parts()
    boxes = snapshot.annotations.assign(part=snapshot.annotations["img_path"].map(parts))
    counts = pd.crosstab(boxes["object_class"], boxes["part"]).reindex(columns=["train", "val"], fill_value=0)
    share = (counts["val"] / counts.sum(axis=1).clip(lower=1)).to_dict()
    cluster_jsd = None
    if clusters is not None:
        mix = pd.crosstab(boxes["annotation_id"].map(clusters), boxes["part"])
        cluster_jsd = _jsd(mix.reindex(columns=["train", "val"], fill_value=0))
    return SplitReport(
        split_id=split.id,
        strategy=split.strategy,
        frames={part: int((parts == part).sum()) for part in ("train", "val")},
        boxes={part: int(counts[part].sum()) for part in ("train", "val")},
        val_share_by_class={str(name): float(value) for name, value in share.items()},
        smallest_class_share=float(min(share.values())) if share else 0.0,
        class_jsd=_jsd(counts),
        cluster_jsd=cluster_jsd,
        shared_videos=_shared_videos(parts, snapshot.frames),
        adjacent_leak=adjacent_leak(parts, snapshot.frames),
        near_duplicate_leak=None if duplicates is None else near_duplicate_leak(parts, duplicates),
    )


def adjacent_leak(parts: pd.Series, frames: pd.DataFrame, *, max_gap: int | None = None) -> float | None:
    """Share of val frames with a train frame of the same video at most ``max_gap`` frame numbers away.

    ``max_gap`` None means the smallest step between two frames of a video anywhere in the data: one keyframe.
    """
    table = frames.assign(part=frames["img_path"].map(parts))
    table = table[(table["video"] != "") & table["frame_number"].notna()].sort_values(["video", "frame_number"])
    if table.empty:
        return None
    if max_gap is None:
        steps = table.groupby("video")["frame_number"].diff().dropna()
        steps = steps[steps > 0]
        max_gap = int(steps.min()) if len(steps) else 1
    leaking = total = 0
    for _, rows in table.groupby("video"):
        numbers = rows["frame_number"].to_numpy(np.int64)
        train = numbers[(rows["part"] == "train").to_numpy(bool)]
        val = numbers[(rows["part"] == "val").to_numpy(bool)]
        total += len(val)
        if len(train):
            leaking += int((np.abs(val[:, None] - train[None, :]).min(axis=1) <= max_gap).sum())
    return leaking / total if total else 0.0


def near_duplicate_leak(parts: pd.Series, duplicates: DuplicateGroups) -> float:
    """Share of val frames that form a proven pair with a train frame."""
    val = set(parts.index[parts == "val"])
    train = set(parts.index[parts == "train"])
    pairs = duplicates.pairs
    leaking = {a for a, b in zip(pairs["first"], pairs["second"], strict=True) if a in val and b in train}
    leaking |= {b for a, b in zip(pairs["first"], pairs["second"], strict=True) if b in val and a in train}
    return len(leaking) / len(val) if val else 0.0


def compare(reports: list[SplitReport]) -> pd.DataFrame:
    """Reports side by side, one column each, for a person."""
    rows: dict[str, Callable[[SplitReport], str]] = {
        "frames train / val": lambda r: f"{r.frames['train']} / {r.frames['val']}",
        "boxes train / val": lambda r: f"{r.boxes['train']} / {r.boxes['val']}",
        "smallest share of a class in val": lambda r: _percent(r.smallest_class_share),
        "class mix, JSD in bit": lambda r: f"{r.class_jsd:.4f}",
        "cluster mix, JSD in bit": lambda r: "-" if r.cluster_jsd is None else f"{r.cluster_jsd:.4f}",
        "val frames whose video is in train": lambda r: _percent(r.shared_videos),
        "val frames with the adjacent keyframe in train": lambda r: _percent(r.adjacent_leak),
        "val frames with a near-duplicate in train": lambda r: _percent(r.near_duplicate_leak),
    }
    return pd.DataFrame({r.strategy: {title: show(r) for title, show in rows.items()} for r in reports})


def class_counts(splits: Sequence[Split], snapshot: Snapshot) -> pd.DataFrame:
    """Boxes of each class in each part under each split: columns strategy, part, object_class, boxes."""
    tables = []
    for split in splits:
        boxes = snapshot.annotations.assign(part=snapshot.annotations["img_path"].map(split.parts()))
        counts = boxes.groupby(["part", "object_class"]).size().rename("boxes").reset_index()
        tables.append(counts.assign(strategy=split.strategy))
    return pd.concat(tables, ignore_index=True)


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.1f} %"


def _jsd(counts: pd.DataFrame) -> float:
    train, val = counts["train"].to_numpy(float), counts["val"].to_numpy(float)
    if not train.sum() or not val.sum():
        return 1.0
    distance: float = jensenshannon(train, val, base=2)
    return float(distance**2)


def _shared_videos(parts: pd.Series, frames: pd.DataFrame) -> float | None:
    known = frames[frames["video"] != ""]
    if known.empty:
        return None
    part = known["img_path"].map(parts)
    train = set(known.loc[part == "train", "video"])
    val = known.loc[part == "val", "video"]
    return float(val.isin(train).mean()) if len(val) else 0.0
