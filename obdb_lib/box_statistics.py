"""What the boxes of a data set are like: number, size, shape and place by class, and by part of a split."""

from __future__ import annotations

import numpy as np
import pandas as pd

from obdb_lib.fairness import measure_boxes
from obdb_lib.snapshots import BOX, Snapshot
from obdb_lib.splits import Split

SMALL_PX, LARGE_PX = 32.0, 96.0
"""COCO's limits of small, medium and large objects, as the root of the area (Lin et al. 2014)."""
ALL = "all classes"


def box_statistics(snapshot: Snapshot, split: Split | None = None) -> pd.DataFrame:
    """Numbers of the boxes of each class, and of all, the most frequent class first.

    Args:
        split: one row a class and part instead of one a class; excluded frames are left out, and so are parts without
            a box of the class.

    Returns:
        Index object_class (and part). Columns: boxes, frames and videos (that show the class; videos only where names
        tell them), share (of all boxes of the part, 0..1), boxes_per_frame (mean over frames that show it), size_p5,
        size_median, size_p95 (root of the area, px), small, large (shares below SMALL_PX and from LARGE_PX), aspect_p5,
        aspect_median, aspect_p95 (width by height), x_median, y_median, x_spread, y_spread (centres, 0..1 of the frame;
        spread is the standard deviation), occluded (share).
    """
    frames = snapshot.frames.set_index("img_path")
    parts = pd.Series("all", index=frames.index) if split is None else split.parts()
    table = measure_boxes(snapshot, parts)
    sides = snapshot.annotations[BOX].to_numpy(np.float64)
    table["aspect"] = (sides[:, 2] - sides[:, 0]) / np.maximum(sides[:, 3] - sides[:, 1], 1e-6)
    table["img_path"] = snapshot.annotations["img_path"]
    table["video"] = table["img_path"].map(frames["video"]).replace("", pd.NA)
    table["occluded"] = snapshot.annotations["occluded"].astype(bool)
    table = table[table["part"].notna() & (table["part"] != "excluded")]
    both = pd.concat([table.assign(object_class=ALL), table], ignore_index=True)
    if both.empty:
        return pd.DataFrame(columns=["boxes"])
    rows = pd.DataFrame(both.groupby(["object_class", "part"], sort=False).apply(_row))
    whole = rows["boxes"].xs(ALL, level="object_class")
    rows.insert(3, "share", rows["boxes"].to_numpy() / whole.loc[rows.index.get_level_values("part")].to_numpy())
    order = both["object_class"].value_counts()
    names = sorted(order.index, key=lambda name: (name != ALL, -int(order[name]), name))
    rows = rows.reindex(pd.MultiIndex.from_product([names, ["all", "train", "val", "test"]], names=rows.index.names))
    rows = rows.dropna(subset=["boxes"]).astype({"boxes": int, "frames": int, "videos": int})
    return rows.droplevel("part") if split is None else rows


def frame_statistics(snapshot: Snapshot, split: Split | None = None) -> pd.DataFrame:
    """Frames by part: frames, without_boxes (negatives), tasks, sessions, cameras, videos, boxes, boxes_per_frame."""
    frames = snapshot.frames.assign(part="all")
    if split is not None:
        frames["part"] = frames["img_path"].map(split.parts()).fillna("excluded")
    frames["boxes"] = frames["img_path"].map(snapshot.annotations["img_path"].value_counts()).fillna(0).astype(int)
    for name in ("session", "camera", "video"):
        frames[name] = frames[name].replace("", pd.NA)
    rows = frames.groupby("part").agg(
        frames=("img_path", "size"),
        without_boxes=("boxes", lambda counts: int((counts == 0).sum())),
        tasks=("task_name", "nunique"),
        sessions=("session", "nunique"),
        cameras=("camera", "nunique"),
        videos=("video", "nunique"),
        boxes=("boxes", "sum"),
    )
    rows["boxes_per_frame"] = rows["boxes"] / rows["frames"]
    order = ["all", "train", "val", "test", "excluded"]
    return rows.reindex([part for part in order if part in rows.index])


def _row(rows: pd.DataFrame) -> pd.Series:
    frames = rows["img_path"].nunique()
    values: dict[str, float] = {"boxes": len(rows), "frames": frames, "videos": rows["video"].nunique()}
    values["boxes_per_frame"] = len(rows) / frames
    for name in ("size", "aspect"):
        low, middle, high = np.percentile(rows[name], (5, 50, 95))
        values |= {f"{name}_p5": low, f"{name}_median": middle, f"{name}_p95": high}
    values |= {"small": (rows["size"] < SMALL_PX).mean(), "large": (rows["size"] >= LARGE_PX).mean()}
    for axis in ("x", "y"):
        values |= {f"{axis}_median": rows[axis].median(), f"{axis}_spread": rows[axis].std(ddof=0)}
    values["occluded"] = rows["occluded"].mean()
    return pd.Series(values)
