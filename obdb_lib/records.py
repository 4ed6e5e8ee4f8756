"""What crosses between importers, the store and the CVAT bridge: one task with its frames and annotations.

The dictionaries keep upstream's field names, so a ``mongoimport`` of the public OBDB files and our own importers give
the same documents. ``check_task`` is the one place where bad boxes are mended or set aside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]

MIN_BOX_SIDE_PX = 1.0
"""A box thinner than this in either direction holds no plant and is set aside."""


MAX_COORDINATE_PX = 1e7
"""No frame is this large; a coordinate beyond is damage."""


@dataclass(frozen=True)
class Problem:
    """One thing in the input that was mended or set aside: where it is, what is wrong, what was done."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class TaskRecord:
    """One CVAT task as upstream stores it.

    Attributes:
        task: document of ``tasks``: ``{type: "task_data", name, labels, created_date, updated_date}``.
        meta: document of ``meta``: ``{task_name, frames: [{name, width, height}]}``.
        annotations: documents of ``annotation_data``: ``{type: "annotation", task_name, shape_types, occluded, points,
            frame, label_id, source, object_class, img_path, img_height, img_width}``; points of a rectangle are
            ``[x1, y1, x2, y2]`` in pixels of the full frame.
    """

    task: Document
    meta: Document
    annotations: list[Document]

    @property
    def name(self) -> str:
        return str(self.task["name"])


@dataclass
class ReadResult:
    """What a reader found: whole tasks, and the problems met on the way."""

    tasks: list[TaskRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def import_report(problems: Sequence[Problem], limit: int = 20) -> str:
    """Problems as text, one a line, the first ``limit`` of them."""
    lines = [str(problem) for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"... and {len(problems) - limit} more")
    return "\n".join(lines)


def make_task(
    name: str,
    labels: Sequence[str],
    frames: Sequence[tuple[str, int, int]],
    *,
    created: str | None = None,
    updated: str | None = None,
) -> TaskRecord:
    """An empty task: label ids count from 1 in the order given; ``frames`` are (name, width, height) in order."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return TaskRecord(
        task={
            "type": "task_data",
            "name": name,
            "labels": [{"id": i, "name": label, "color": "", "attributes": []} for i, label in enumerate(labels, 1)],
            "created_date": created or now,
            "updated_date": updated or created or now,
        },
        meta={
            "task_name": name,
            "frames": [{"name": frame, "width": width, "height": height} for frame, width, height in frames],
        },
        annotations=[],
    )


def make_annotation(
    record: TaskRecord,
    frame: int,
    object_class: str,
    points: Sequence[float],
    *,
    shape_type: str = "rectangle",
    occluded: bool = False,
    source: str = "manual",
    **more: object,
) -> Document:
    """An annotation document of ``record`` (not yet appended to it)."""
    place = record.meta["frames"][frame]
    label_ids = {label["name"]: label["id"] for label in record.task["labels"]}
    return {
        "type": "annotation",
        "task_name": record.name,
        "shape_types": shape_type,
        "occluded": occluded,
        "points": [float(value) for value in points],
        "frame": frame,
        "label_id": label_ids.get(object_class, 0),
        "source": source,
        "object_class": object_class,
        "img_path": place["name"],
        "img_height": place["height"],
        "img_width": place["width"],
        **more,
    }


def bounding_box(points: Sequence[float], shape_type: str = "rectangle") -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 around any shape's points (``[x, y, x, y, ...]``), ordered."""
    xs, ys = list(points[0::2]), list(points[1::2])
    return min(xs), min(ys), max(xs), max(ys)


def check_task(record: TaskRecord) -> tuple[TaskRecord, list[Problem]]:
    """Mend what can be mended (inverted corners, parts outside the frame) and set aside what cannot.

    Returns the task with the annotations that hold, and one problem for each that was changed or set aside. An unknown
    class (no such label in the task) is set aside; nothing is guessed.
    """
    known = {label["name"] for label in record.task.get("labels", [])}
    frames = record.meta.get("frames", [])
    good: list[Document] = []
    problems: list[Problem] = []
    if not frames:
        problems.append(Problem(f"task {record.name!r}", "has no frames; it is kept but adds nothing to the data"))
    for number, annotation in enumerate(record.annotations):
        if _plainly_good(annotation, frames, known):
            good.append(annotation)
            continue
        mended, what = _check_annotation(annotation, frames, known)
        if what:
            where = f"task {record.name!r}, frame {annotation.get('frame')}, annotation {number}"
            problems.append(Problem(where, what))
        if mended is not None:
            good.append(mended)
    return TaskRecord(record.task, record.meta, good), problems


def _plainly_good(annotation: Document, frames: list[Document], known: set[str]) -> bool:
    """Whether this is a rectangle with nothing to mend: nearly all are, and the long way costs ten times as much."""
    points, frame = annotation.get("points"), annotation.get("frame")
    if type(points) is not list or [type(value) for value in points] != [float] * 4:
        return False
    if type(frame) is not int or not 0 <= frame < len(frames):
        return False
    if annotation.get("shape_types", "rectangle") != "rectangle" or (
        known and annotation.get("object_class") not in known
    ):
        return False
    x1, y1, x2, y2 = points
    width, height = frames[frame].get("width") or math.inf, frames[frame].get("height") or math.inf
    fits = x1 >= 0 and x1 + MIN_BOX_SIDE_PX <= x2 <= width and y1 >= 0 and y1 + MIN_BOX_SIDE_PX <= y2 <= height
    return bool(fits and x2 < MAX_COORDINATE_PX and y2 < MAX_COORDINATE_PX)


def _check_annotation(annotation: Document, frames: list[Document], known: set[str]) -> tuple[Document | None, str]:
    """The annotation to keep (or None) and what was wrong with it ("" for nothing)."""
    frame = annotation.get("frame")
    if not isinstance(frame, int) or not 0 <= frame < len(frames):
        return None, f"set aside: frame {frame!r} is not one of the task's {len(frames)} frames"
    if known and annotation.get("object_class") not in known:
        return None, (
            f"set aside: class {annotation.get('object_class')!r} is not a label of the task "
            f"({', '.join(sorted(known))}); add the label to the task and import again"
        )
    points = annotation.get("points") or []
    if len(points) < 4 or len(points) % 2 or not all(_is_number(value) for value in points):
        return None, f"set aside: points must be at least four finite numbers in pairs; got {points!r}"
    place = frames[frame]
    width, height = float(place.get("width") or math.inf), float(place.get("height") or math.inf)
    x1, y1, x2, y2 = bounding_box(points)
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return None, f"set aside: lies outside the frame of {width:g} x {height:g} ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    clipped = [min(max(v, 0.0), height if i % 2 else width) for i, v in enumerate(map(float, points))]
    x1, y1, x2, y2 = bounding_box(clipped)
    if x2 - x1 < MIN_BOX_SIDE_PX or y2 - y1 < MIN_BOX_SIDE_PX:
        return None, f"set aside: has no area ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    notes = []
    if clipped != [float(value) for value in points]:
        notes.append("cut at the frame's border")
    if annotation.get("shape_types", "rectangle") == "rectangle" and clipped != [x1, y1, x2, y2]:
        notes.append("corners put in order")
        clipped = [x1, y1, x2, y2]
    return {**annotation, "points": clipped}, ", ".join(notes)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < MAX_COORDINATE_PX  # false for NaN, infinity and integers beyond any float
