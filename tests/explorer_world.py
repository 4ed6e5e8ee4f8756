"""A world for the split explorer, of any size, made in memory: frames of videos, boxes on them, clusters, a map."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.snapshots import ANNOTATION_COLUMNS, Snapshot

FRAMES_A_VIDEO = 25
STEP = 5
NAMES = ("Fat hen", "Dandelion", "Creeping thistle", "Broad-leaved dock", "Chickweed", "Cleavers", "Nettle", "Bindweed")
SHADES = ((70, 140, 60), (190, 170, 50), (110, 90, 150), (60, 110, 130), (150, 190, 120), (140, 100, 60))


@dataclass(frozen=True)
class ExplorerWorld:
    """What a split explorer needs; ``points`` has a blob for each cluster on a grid of step 10."""

    snapshot: Snapshot
    duplicates: DuplicateGroups
    clusters: pd.Series
    points: pd.DataFrame
    crops: Callable[[Sequence[str]], list[bytes]]


def explorer_world(
    boxes: int, frames: int, *, classes: Sequence[str] = NAMES[:4], clusters: int = 6, seed: int = 0
) -> ExplorerWorld:
    """Boxes on random frames; a cluster holds mostly one class; every 40th frame has a near copy in another video."""
    rng = np.random.default_rng(seed)
    table = _frames(frames)
    paths = table["img_path"].to_numpy(object)
    frame_of_box = np.sort(rng.integers(0, frames, boxes))
    cluster_of_box = rng.integers(0, clusters, boxes)
    class_of_box = np.where(
        rng.random(boxes) < 0.9, cluster_of_box % len(classes), rng.integers(0, len(classes), boxes)
    )
    marks = pd.DataFrame({"annotation_id": [f"a{number}" for number in range(boxes)]})
    marks["img_path"] = paths[frame_of_box]
    marks["object_class"] = np.array(classes, dtype=object)[class_of_box]
    marks[["x1", "y1"]] = rng.uniform(0, 900, size=(boxes, 2)).astype(np.float32)
    marks["x2"], marks["y2"] = marks["x1"] + 60, marks["y1"] + 50
    snapshot = Snapshot("world", ("t",), tuple(classes), table, marks.reindex(columns=list(ANNOTATION_COLUMNS)))
    first = np.arange(0, frames, 40)
    pairs = pd.DataFrame({"first": paths[first], "second": paths[(first + FRAMES_A_VIDEO + 3) % frames]})
    pairs["correlation"] = np.float32(0.9)
    twins = DuplicateGroups(_twin_groups(paths, first, (first + FRAMES_A_VIDEO + 3) % frames), pairs)
    side = int(np.ceil(np.sqrt(clusters)))
    middle = np.stack([cluster_of_box % side, cluster_of_box // side], axis=1) * 10.0
    outlier = rng.random(boxes) < 0.03
    xy = middle + rng.normal(0, 1.4, size=(boxes, 2)) + outlier[:, None] * rng.normal(0, 4, size=(boxes, 2))
    labels = pd.Series(np.where(outlier, -1, cluster_of_box), index=marks["annotation_id"], name="cluster")
    points = marks[["annotation_id", "img_path", "object_class"]].assign(
        x=xy[:, 0].astype(np.float32), y=xy[:, 1].astype(np.float32)
    )
    points["cluster"] = labels.astype(str).replace("-1", "outlier").to_numpy()
    points = points.merge(table[["img_path", "task_name", "session", "camera", "video"]], on="img_path")
    points["size"] = rng.normal(60, 14, boxes).clip(8).round(1)
    points["distortion"] = rng.random(boxes).astype(np.float32)
    return ExplorerWorld(snapshot, twins, labels, points, _pictures(class_of_box))


def _frames(count: int) -> pd.DataFrame:
    number = np.arange(count)
    video = number // FRAMES_A_VIDEO
    session, camera = video // 4, video % 2
    table = pd.DataFrame({"frame": number % FRAMES_A_VIDEO, "width": 1920, "height": 1080})
    table["session"] = [f"202005{1 + s % 28:02d}145736" for s in session]
    table["camera"] = [("1L", "2R")[c] for c in camera]
    names = [f"GH{v:06d}" for v in video]
    table["video"] = [f"{s}/{c}/{n}" for s, c, n in zip(table["session"], table["camera"], names, strict=True)]
    table["task_name"] = [
        f"FieldData {s} {c} {n}" for s, c, n in zip(table["session"], table["camera"], names, strict=True)
    ]
    table["frame_number"] = (table["frame"] * STEP).astype("Int64")
    table["img_path"] = [f"{v}frame{n:04d}.png" for v, n in zip(table["video"], table["frame_number"], strict=True)]
    return table.sort_values("img_path", ignore_index=True)


def _twin_groups(paths: np.ndarray, first: np.ndarray, second: np.ndarray) -> pd.Series:
    groups = np.arange(len(paths))
    groups[second] = groups[first]
    return pd.Series(groups, index=pd.Index(paths, name="img_path"))


def _pictures(class_of_box: np.ndarray) -> Callable[[Sequence[str]], list[bytes]]:
    rng = np.random.default_rng(1)
    pictures = []
    for shade in SHADES:
        pixels = (np.array(shade) + rng.normal(0, 14, (48, 48, 1)) + rng.normal(0, 6, (48, 48, 3))).clip(0, 255)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    return lambda ids: [pictures[class_of_box[int(name[1:])] % len(pictures)] for name in ids]
