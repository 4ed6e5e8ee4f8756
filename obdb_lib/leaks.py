"""What a split is worth: what leaks from train into the parts that judge, and how fair these are. For any split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.borders import BORDERS, LEVELS, Border, keyframe_step, look_across, nearest_gaps, twin_pairs
from obdb_lib.boxes import IntArray
from obdb_lib.clusters import Clusters
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.fairness import USED, Counts, Fairness, Sizes, count_by_part, fairness, measure_boxes, size_histogram
from obdb_lib.findings import compare as compare
from obdb_lib.findings import findings
from obdb_lib.nearest import Crops, nearest_across
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import PARTS, Split, default_grouping, frame_groups

Groups = pd.Series | IntArray
"""Group of each frame: a Series img_path -> group, or one number for each row of ``snapshot.frames``."""


@dataclass(frozen=True)
class SplitReport:
    """Numbers of one split; shares and rates are 0..1, divergences in bit (Jensen-Shannon, base 2, 0 = the same mix).

    Attributes:
        frames, boxes: number by part: train and val always, test and excluded where they have frames. Frames that the
            split does not name are in no part.
        val_share_by_class: val's share of each class's boxes in train and val (fairness counts test, too).
        smallest_class_share: the smallest of these; 0 means a class that val never shows.
        class_jsd, cluster_jsd: divergence of the class (cluster) mix of val from that of train.
        shared_videos: val frames whose video is also in train, as a rate.
        adjacent_leak: val frames whose neighbouring keyframe of the same video is in train, as a rate; None where names
            do not tell videos.
        near_duplicate_leak: val frames with a proven near twin in train, as a rate; None where nobody looked for twins.
        borders: "val/train" and, with a test part, "test/train" and "test/val": all that crosses (see borders.Border).
        fairness: val and test against train (see fairness.Fairness).
        classes, clusters: boxes of each class (cluster) by part; clusters is None where none were given.
        sizes: histogram of box sizes by part.
        single_video_classes: classes that one video alone shows: no split by videos can have them on both sides.
        missing_frames: frames of the split that the snapshot does not have (a sign of old data; see manifest.check).
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
    borders: dict[str, Border] = field(default_factory=dict)
    fairness: dict[str, Fairness] = field(default_factory=dict)
    classes: Counts = field(default_factory=dict)
    clusters: Counts | None = None
    sizes: Sizes | None = None
    single_video_classes: list[str] = field(default_factory=list)
    missing_frames: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: all attributes, the leak, the rates of each border, and the findings as sentences."""
        values = asdict(self)
        for name, border in self.borders.items():
            told: dict[str, Any] = values["borders"][name]
            told["adjacent_rate"] = border.adjacent_rate
            told["near_duplicate_rate"] = border.near_duplicate_rate
            for level, shared in border.shared.items():
                told["shared"][level]["rate"] = shared.rate
        values |= {"leak": self.leak, "largest_leak": self.largest_leak}
        return {**values, "findings": [asdict(one) for one in findings(self)]}

    @property
    def leak(self) -> float:
        """The larger of the two leak rates from train into val that could be measured."""
        return max(self.adjacent_leak or 0.0, self.near_duplicate_leak or 0.0)

    @property
    def largest_leak(self) -> float:
        """The largest leak rate that could be measured at any border, into test from train and val, too."""
        rates = [rate or 0.0 for b in self.borders.values() for rate in (b.adjacent_rate, b.near_duplicate_rate)]
        return max(rates, default=0.0)


def report(
    split: Split,
    snapshot: Snapshot,
    *,
    duplicates: DuplicateGroups | None = None,
    clusters: pd.Series | Clusters | None = None,
    embeddings: Embeddings | None = None,
    groups: Groups | None = None,
    seed: int = 0,
) -> SplitReport:
    """Balance and leaks of any split, whoever made it.

    Args:
        duplicates: proven twins, for their leak.
        clusters: annotation_id -> cluster, for the mix and coverage of clusters.
        embeddings: of crops, for nearest neighbours across the borders.
        groups: what should not be torn apart (what the split was built by, say): their overlap is reported as level
            ``group``, and they are the yardstick of nearest neighbours. Else that is video and twins, where known.
        seed: of the crops that ask for their nearest neighbours where there are many.
    """
    parts = split.parts()
    frames = snapshot.frames.assign(part=snapshot.frames["img_path"].map(parts).fillna(""))
    boxes = measure_boxes(snapshot, parts)
    classes = count_by_part(boxes["object_class"], boxes["part"])
    labels = clusters.labels if isinstance(clusters, Clusters) else clusters
    cluster_counts = None
    if labels is not None:
        cluster_counts = count_by_part(boxes["annotation_id"].map(labels).astype("Int64"), boxes["part"])
    frame_counts = {part: int((frames["part"] == part).sum()) for part in PARTS}
    borders = _borders(frames, snapshot, boxes, duplicates, embeddings, groups, seed)
    shares = split.parameters.get("shares")
    targets = shares if isinstance(shares, dict) else {}
    judged = {
        part: fairness(part, boxes, classes, cluster_counts, frame_counts, targets.get(part))
        for part in ("val", "test")
        if part == "val" or frame_counts[part]
    }
    val, across = judged["val"], borders["val/train"]
    share = {name: row["val"] / max(row["train"] + row["val"], 1) for name, row in classes.items()}
    shown = [part for part in PARTS if part in ("train", "val") or frame_counts[part]]
    return SplitReport(
        split_id=split.id,
        strategy=split.strategy,
        frames={part: frame_counts[part] for part in shown},
        boxes={part: int((boxes["part"] == part).sum()) for part in shown},
        val_share_by_class=share,
        smallest_class_share=min(share.values(), default=0.0),
        class_jsd=val.class_jsd,
        cluster_jsd=val.cluster_jsd,
        shared_videos=across.shared["video"].rate if (snapshot.frames["video"] != "").any() else None,
        adjacent_leak=across.adjacent_rate,
        near_duplicate_leak=across.near_duplicate_rate,
        borders=borders,
        fairness=judged,
        classes=classes,
        clusters=cluster_counts,
        sizes=size_histogram(boxes),
        single_video_classes=_single_video_classes(snapshot, boxes),
        missing_frames=int((~parts.index.isin(snapshot.frames["img_path"])).sum()),
    )


def _borders(
    frames: pd.DataFrame,
    snapshot: Snapshot,
    boxes: pd.DataFrame,
    duplicates: DuplicateGroups | None,
    embeddings: Embeddings | None,
    groups: Groups | None,
    seed: int,
) -> dict[str, Border]:
    levels = {name: frames[column] for name, column in LEVELS.items()}
    if duplicates is not None:
        levels["duplicate_group"] = frames["img_path"].map(duplicates.groups)
    given = None
    if groups is not None:
        given = frames["img_path"].map(groups) if isinstance(groups, pd.Series) else pd.Series(groups, frames.index)
        levels["group"] = given
    wanted = [(judging, known) for judging, known in BORDERS if judging != "test" or (frames["part"] == "test").any()]
    nearest = {}
    if embeddings is not None:
        yardstick = _yardstick(snapshot, duplicates) if given is None else given
        crops = _crops(frames, snapshot, boxes, embeddings, yardstick)
        nearest = nearest_across(crops, wanted, seed=seed)
    return {
        f"{judging}/{known}": look_across(judging, known, frames, levels, duplicates, nearest.get((judging, known)))
        for judging, known in wanted
    }


def _yardstick(snapshot: Snapshot, duplicates: DuplicateGroups | None) -> pd.Series | None:
    """Groups by video and twins, as far as they are known."""
    group_by = [name for name in default_grouping(snapshot) if name != "duplicate_group" or duplicates is not None]
    if not group_by:
        return None
    return pd.Series(frame_groups(snapshot.frames, group_by, duplicates), snapshot.frames.index)


def _crops(
    frames: pd.DataFrame,
    snapshot: Snapshot,
    boxes: pd.DataFrame,
    embeddings: Embeddings,
    groups: pd.Series | None,
) -> Crops:
    """The embedded crops with their frame, group and part; a crop that the snapshot does not have is in no part."""
    row_of_frame = pd.Series(np.arange(len(frames)), index=frames["img_path"])
    frame_of = pd.Series(snapshot.annotations["img_path"].to_numpy(), index=snapshot.annotations["annotation_id"])
    rows = pd.Series(embeddings.ids).map(frame_of).map(row_of_frame).to_numpy(float)
    known = np.isfinite(rows)
    places = np.where(known, rows, 0).astype(np.int64)
    parts = np.where(known, frames["part"].to_numpy(object)[places], "excluded").astype(object)
    numbers = None
    if groups is not None:
        codes = pd.factorize(groups)[0].astype(np.int64)
        # A frame of no known group is a group of its own.
        codes = np.where(codes < 0, len(codes) + np.arange(len(codes)), codes)
        numbers = codes[places]
    return Crops(embeddings.vectors, places, numbers, parts)


def _single_video_classes(snapshot: Snapshot, boxes: pd.DataFrame) -> list[str]:
    video = snapshot.annotations["img_path"].map(snapshot.frames.set_index("img_path")["video"])
    known = (video != "") & boxes["part"].isin(USED).to_numpy(bool)
    counts = video[known].groupby(boxes.loc[known.to_numpy(bool), "object_class"].to_numpy()).nunique()
    return sorted(str(name) for name in counts.index[counts == 1])


def leaking_frames(
    split: Split, snapshot: Snapshot, *, duplicates: DuplicateGroups | None = None, max_gap: int | None = None
) -> pd.DataFrame:
    """Frames of val and test that leak, one row a frame and border, the worst first.

    Args:
        max_gap: frame numbers within which a frame of the same video counts; None is one keyframe (see adjacent_leak).

    Returns:
        Columns img_path, part, known (the part it leaks from), gap (frame numbers; NaN where not near), neighbour,
        correlation (NaN where there is no twin), twin.
    """
    frames = snapshot.frames.assign(part=snapshot.frames["img_path"].map(split.parts()).fillna("excluded"))
    step = keyframe_step(frames) if max_gap is None else max_gap
    tables = []
    for judging, known in BORDERS:
        near = nearest_gaps(frames, judging, known)
        near = near[near["gap"] <= step]
        if duplicates is not None:
            twins = twin_pairs(frames.set_index("img_path")["part"], duplicates, judging, known)
            near = near.merge(twins.drop_duplicates("img_path"), on="img_path", how="outer")
        else:
            near = near.assign(twin=None, correlation=np.nan)
        tables.append(near.assign(part=judging, known=known))
    columns = ["img_path", "part", "known", "gap", "neighbour", "correlation", "twin"]
    table = pd.concat(tables, ignore_index=True)[columns]
    return table.sort_values(["correlation", "gap", "img_path"], ascending=[False, True, True], ignore_index=True)


def adjacent_leak(parts: pd.Series, frames: pd.DataFrame, *, max_gap: int | None = None) -> float | None:
    """Share of val frames with a train frame of the same video at most ``max_gap`` frame numbers away.

    ``max_gap`` None means the smallest step between two frames of a video anywhere in the data: one keyframe.
    """
    table = frames.assign(part=frames["img_path"].map(parts))
    if not ((table["video"] != "") & table["frame_number"].notna()).any():
        return None
    nearest = nearest_gaps(table, "val", "train")
    limit = keyframe_step(table) if max_gap is None else max_gap
    return float((nearest["gap"] <= limit).mean()) if len(nearest) else 0.0


def near_duplicate_leak(parts: pd.Series, duplicates: DuplicateGroups) -> float:
    """Share of val frames that form a proven pair with a train frame."""
    frames = int((parts == "val").sum())
    return int(twin_pairs(parts, duplicates, "val", "train")["img_path"].nunique()) / frames if frames else 0.0


def class_counts(splits: Sequence[Split], snapshot: Snapshot) -> pd.DataFrame:
    """Boxes of each class in each part under each split: columns strategy, part, object_class, boxes."""
    tables = []
    for split in splits:
        boxes = snapshot.annotations.assign(part=snapshot.annotations["img_path"].map(split.parts()))
        counts = boxes.groupby(["part", "object_class"]).size().rename("boxes").reset_index()
        tables.append(counts.assign(strategy=split.strategy))
    return pd.concat(tables, ignore_index=True)
