"""A snapshot: the annotations in use at one moment, as tables, with a content hash as its name.

The same annotations and frames give the same id on every machine, whatever the order or the database they come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from obdb_lib.boxes import BoxSet
from obdb_lib.cache import content_hash
from obdb_lib.naming import frame_number, parse_recording
from obdb_lib.records import Document, Problem, bounding_box

FRAME_COLUMNS = ("img_path", "task_name", "frame", "width", "height", "session", "camera", "video", "frame_number")
ANNOTATION_COLUMNS = (
    *("annotation_id", "img_path", "task_name", "frame", "object_class"),
    *("x1", "y1", "x2", "y2", "shape_type", "occluded", "source"),
)
BOX = ["x1", "y1", "x2", "y2"]


@dataclass(frozen=True)
class Snapshot:
    """Annotations and frames of some tasks.

    Attributes:
        id: content hash over all that follows.
        task_names: sorted names of the tasks.
        classes: sorted names of the classes that have at least one annotation.
        frames: one row per distinct image, columns FRAME_COLUMNS; ``video`` is ``session/camera/video``, "" when the
            names do not tell; ``frame_number`` is Int64 with NA.
        annotations: one row per annotation, columns ANNOTATION_COLUMNS; x1..y2 float32, pixels of the full frame.
        problems: documents of the database that could not be used, and why.
    """

    id: str
    task_names: tuple[str, ...]
    classes: tuple[str, ...]
    frames: pd.DataFrame
    annotations: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)

    def boxes(self, img_path: str) -> BoxSet:
        """Annotations of one image, with classes and ids; empty when it has none."""
        rows = self._rows().get(img_path)
        if rows is None:
            return BoxSet(np.empty((0, 4), dtype=np.float32))
        part = self.annotations.iloc[rows]
        return BoxSet(
            part[BOX].to_numpy(np.float32),
            part["object_class"].to_numpy(object),
            ids=part["annotation_id"].to_numpy(object),
        )

    def _rows(self) -> dict[str, list[int]]:
        index: dict[str, list[int]] | None = self.__dict__.get("_index")
        if index is None:
            index = {}
            for row, img_path in enumerate(self.annotations["img_path"]):
                index.setdefault(img_path, []).append(row)
            self.__dict__["_index"] = index
        return index


def build_snapshot(
    metas: Iterable[Document], annotations: Iterable[Document], *, naming_pattern: str | None = None
) -> Snapshot:
    """Tables and hash from documents of ``meta`` and ``annotation_data`` (see records.TaskRecord).

    An image that stands in two tasks is one frame, named after the first of them in sorted order, with the annotations
    of both. A document without usable points or without its frame is listed under ``problems``.
    """
    problems: list[Problem] = []
    frames: dict[str, tuple[object, ...]] = {}
    task_names = set()
    for meta in sorted(metas, key=lambda document: str(document["task_name"])):
        task_name = str(meta["task_name"])
        task_names.add(task_name)
        for number, place in enumerate(meta.get("frames", [])):
            recording = parse_recording(place["name"], task_name, naming_pattern)
            row = (
                *(place["name"], task_name, number, int(place.get("width") or 0), int(place.get("height") or 0)),
                *(recording.session, recording.camera, recording.key, frame_number(place["name"])),
            )
            frames.setdefault(place["name"], row)
    rows = []
    for document in annotations:
        row_or_problem = _annotation_row(document, frames)
        if isinstance(row_or_problem, Problem):
            problems.append(row_or_problem)
        else:
            rows.append(row_or_problem)
    rows.sort(key=lambda row: (row[1], row[4], row[5], row[6], row[0]))
    frame_table = pd.DataFrame(sorted(frames.values(), key=lambda r: str(r[0])), columns=list(FRAME_COLUMNS))
    frame_table["frame_number"] = frame_table["frame_number"].astype("Int64")
    table = pd.DataFrame(rows, columns=list(ANNOTATION_COLUMNS))
    return _named(tuple(sorted(task_names)), frame_table, table, problems)


def with_annotations(snapshot: Snapshot, annotations: pd.DataFrame) -> Snapshot:
    """The same frames with other annotations, under the id that ``build_snapshot`` would give them.

    Args:
        annotations: columns ANNOTATION_COLUMNS, in any order of rows.
    """
    order = ["img_path", "object_class", "x1", "y1", "annotation_id"]
    table = annotations[list(ANNOTATION_COLUMNS)].sort_values(order, ignore_index=True)
    return _named(snapshot.task_names, snapshot.frames, table, snapshot.problems)


def _named(
    task_names: tuple[str, ...], frames: pd.DataFrame, annotations: pd.DataFrame, problems: list[Problem]
) -> Snapshot:
    annotations[BOX] = annotations[BOX].astype(np.float32)
    return Snapshot(
        id=_snapshot_id(frames, annotations),
        task_names=task_names,
        classes=tuple(sorted(annotations["object_class"].unique())),
        frames=frames,
        annotations=annotations,
        problems=problems,
    )


def _annotation_row(document: Document, frames: dict[str, tuple[object, ...]]) -> tuple[object, ...] | Problem:
    where = f"annotation {document.get('_id')} of task {document.get('task_name')!r}"
    img_path, points = document.get("img_path"), document.get("points")
    if img_path not in frames:
        return Problem(where, f"left out: its image {img_path!r} is not a frame of any task in use")
    if (
        not isinstance(points, Sequence)
        or len(points) < 4
        or len(points) % 2
        or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in points)
    ):
        return Problem(where, f"left out: its points are not finite numbers in pairs: {points!r}")
    return (
        *(str(document["_id"]), img_path, str(document["task_name"]), int(document.get("frame", 0))),
        str(document.get("object_class", "")),
        *bounding_box(points),
        str(document.get("shape_types", "rectangle")),
        bool(document.get("occluded", False)),
        str(document.get("source", "manual")),
    )


def frame_stamps(snapshot: Snapshot) -> pd.Series:
    """What a split rests on, by frame: Series img_path -> ``<hash> <boxes>`` over its size and all its annotations.

    Two snapshots have the same id when, and only when, they have the same frames with the same stamps.
    """
    lines = pd.Series(_annotation_lines(snapshot.annotations), dtype=object)
    drawn = lines.groupby(snapshot.annotations["img_path"].to_numpy(object)).agg(sorted).to_dict()
    stamps = {}
    for img_path, width, height in snapshot.frames[["img_path", "width", "height"]].itertuples(index=False):
        its = drawn.get(img_path, [])
        stamps[img_path] = f"{content_hash(f'{width}x{height}', its, length=12)} {len(its)}"
    return pd.Series(stamps, dtype=object, name="stamp").rename_axis("img_path")


def _snapshot_id(frames: pd.DataFrame, annotations: pd.DataFrame) -> str:
    # Ids of the database are left out: the same drawing gives the same hash wherever it was imported.
    places = sorted(f"{row.img_path}|{row.width}x{row.height}" for row in frames.itertuples())
    return content_hash(sorted(_annotation_lines(annotations)), places)


def _annotation_lines(annotations: pd.DataFrame) -> list[str]:
    boxes = [",".join(row) for row in annotations[BOX].round(2).astype(str).to_numpy(object)]
    return [
        "|".join(parts)
        for parts in zip(
            annotations["task_name"],
            annotations["img_path"],
            annotations["object_class"],
            annotations["shape_type"],
            annotations["occluded"].astype(str),
            annotations["source"],
            boxes,
            strict=True,
        )
    ]
