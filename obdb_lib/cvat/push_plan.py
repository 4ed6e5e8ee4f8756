"""What a push would send: accepted suggestions as new CVAT tasks, checked whole before anything leaves the machine."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from obdb_lib.cache import content_hash
from obdb_lib.candidates import BAD_LOCATION, MISSING, SPURIOUS, SWAPPED_CLASS
from obdb_lib.cvat.labels import match_labels
from obdb_lib.cvat.names import hashed_name, upload_name
from obdb_lib.cvat.push_once import sent_once
from obdb_lib.cvat.push_shapes import DECIMALS, some
from obdb_lib.errors import CvatError, FrameError
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.records import Document, Problem, TaskRecord, check_task, make_annotation, make_task

if TYPE_CHECKING:
    from obdb_lib.frames import FrameStore
    from obdb_lib.snapshots import Snapshot

MAX_TASK_NAME = 256
"""CVAT's limit."""


@dataclass(frozen=True)
class PlannedFrame:
    """One image to upload: ``img_path`` as in the snapshot, local ``file``, name on CVAT, size in pixels."""

    img_path: str
    file: Path
    upload_name: str
    width: int
    height: int


@dataclass(frozen=True)
class PlannedShape:
    """One rectangle: ``points`` x1, y1, x2, y2 in pixels of the full frame, ``score`` 0..1."""

    suggestion_id: str
    img_path: str
    object_class: str
    points: tuple[float, float, float, float]
    score: float

    def __str__(self) -> str:
        return f"{self.object_class} at {list(self.points)} on {self.img_path} (suggestion {self.suggestion_id})"


@dataclass(frozen=True)
class PlannedTask:
    """One CVAT task to make: only the frames of ``source_task`` that carry accepted boxes."""

    name: str
    source_task: str
    frames: tuple[PlannedFrame, ...]
    shapes: tuple[PlannedShape, ...]


@dataclass(frozen=True)
class PushPlan:
    """All that a push would send.

    Attributes:
        push_id: content hash of what is sent, whenever it is planned: a repeat finds its own beginnings by it.
        classes: labels of the new tasks.
        problems: boxes that were mended (cut at the border) or set aside.
        corrections: accepted suggestions that change or remove an annotation; a push only adds boxes, so these are for
            a person, each with what to do.
    """

    push_id: str
    model: str
    snapshot_id: str
    classes: tuple[str, ...]
    tasks: tuple[PlannedTask, ...]
    problems: list[Problem] = field(default_factory=list)
    corrections: list[Problem] = field(default_factory=list)

    @property
    def boxes(self) -> int:
        return sum(len(task.shapes) for task in self.tasks)

    @property
    def frames(self) -> int:
        return sum(len(task.frames) for task in self.tasks)

    def table(self) -> pd.DataFrame:
        """One row per task: task, source_task, frames, boxes, and one column of counts per class."""
        rows = []
        for task in self.tasks:
            counts = Counter(shape.object_class for shape in task.shapes)
            row: dict[str, object] = {"task": task.name, "source_task": task.source_task}
            row |= {"frames": len(task.frames), "boxes": len(task.shapes)}
            rows.append(row | {name: counts[name] for name in self.classes})
        return pd.DataFrame(rows, columns=["task", "source_task", "frames", "boxes", *self.classes])

    def records(self) -> list[Document]:
        """The boxes in the form of suggestions, for pictures: _id, img_path, task_name, object_class, points, score."""
        return [
            {
                "_id": shape.suggestion_id,
                "img_path": shape.img_path,
                "task_name": task.source_task,
                "object_class": shape.object_class,
                "points": list(shape.points),
                "score": shape.score,
            }
            for task in self.tasks
            for shape in task.shapes
        ]

    def summary(self) -> str:
        """One sentence, a line for each problem, and the first corrections that are not sent."""
        head = f"{self.boxes} boxes on {self.frames} frames as {len(self.tasks)} new tasks (push {self.push_id})"
        lines = [head, *(f"- {problem}" for problem in self.problems)]
        if self.corrections:
            lines.append(
                f"{len(self.corrections)} accepted corrections of existing annotations are not sent (a push only adds "
                f"boxes): {some([str(correction) for correction in self.corrections])}"
            )
        return "\n".join(lines)


def plan_push(
    suggestions: Sequence[Document],
    decisions: Mapping[str, Document],
    snapshot: Snapshot,
    frames: FrameStore,
    *,
    model: str,
    classes: Sequence[str],
    task_prefix: str = "auto_annotation",
    now: datetime | None = None,
    already_pushed: Collection[str] = (),
    pushed_places: Sequence[Document] = (),
) -> PushPlan:
    """Plan the push of accepted suggestions; nothing is sent.

    Args:
        suggestions: documents of ``suggestions``; only those of kind "missing" (or without a kind) are sent, accepted
            ones of other kinds are listed under ``corrections``.
        decisions: the standing decision of each suggestion id; only ``verdict: "accept"`` counts, and its
            ``object_class`` and ``points`` stand in for the suggestion's.
        snapshot: sizes and tasks of the frames.
        model: variant name, part of the tasks' names: ``<task_prefix>_<model>_<date>_<source task>``.
        classes: labels of the new tasks, in order.
        now: date in the names (UTC); default is this moment.
        already_pushed: suggestion ids to leave out, because another push has sent them.
        pushed_places: where boxes were sent before, whatever the id (``push_once.pushed_places``); accepted ones there
            are not sent and become problems.

    Raises:
        CvatError: a class without a label, an unknown or missing image, an image of another size than annotated, or a
            name that is too long; all of a kind are listed at once.
    """
    every = _accepted(suggestions, decisions, already_pushed)
    problems: list[Problem] = []
    accepted = _sorted(sent_once([item for item in every if _kind(item) == MISSING], pushed_places, problems))
    corrections = [_correction(item) for item in _sorted(every) if _kind(item) != MISSING]
    match_labels(
        (str(item["object_class"]) for item in accepted),
        [{"id": number, "name": name} for number, name in enumerate(classes)],
        where="the list of classes for the push",
    )
    places = _places(accepted, snapshot)
    groups: dict[str, list[Document]] = defaultdict(list)
    for item in accepted:
        groups[str(item.get("task_name") or places[item["img_path"]][0])].append(item)
    date = (now or datetime.now(UTC)).strftime("%Y_%m_%d_%H_%M_%S")
    tasks = []
    for source in sorted(groups):
        shapes = _shapes(groups[source], places, classes, problems)
        if shapes:
            used = sorted({shape.img_path for shape in shapes})
            name = _task_name(f"{task_prefix}_{model}_{date}_{source}")
            tasks.append(PlannedTask(name, source, _frames(used, places, frames), tuple(shapes)))
    content = [
        [task.source_task, [[s.suggestion_id, s.img_path, s.object_class, s.points, s.score] for s in task.shapes]]
        for task in tasks
    ]
    push_id = content_hash("push", task_prefix, model, snapshot.id, list(classes), content)
    return PushPlan(push_id, model, snapshot.id, tuple(classes), tuple(tasks), problems, corrections)


def _accepted(
    suggestions: Sequence[Document], decisions: Mapping[str, Document], already_pushed: Collection[str]
) -> list[Document]:
    """Accepted suggestions with what the reviewer changed, one per id, in the order given."""
    found: dict[str, Document] = {}
    for suggestion in suggestions:
        number = str(suggestion["_id"])
        decision = decisions.get(number)
        if decision is None or decision.get("verdict") != "accept" or number in already_pushed:
            continue
        changed = {key: decision[key] for key in ("object_class", "points") if decision.get(key) is not None}
        found[number] = {**suggestion, **changed, "_id": number, "suggested": suggestion}
    return list(found.values())


def _sorted(items: Sequence[Document]) -> list[Document]:
    """By image and id."""
    return sorted(items, key=lambda item: (str(item["img_path"]), item["_id"]))


def _kind(item: Document) -> str:
    """Suggestions made before there were kinds are missing boxes."""
    return str(item.get("kind") or MISSING)


def _correction(item: Document) -> Problem:
    """What a person has to do in CVAT for an accepted suggestion that is no missing box, and where to find it."""
    annotation = f"annotation {item.get('annotation_id') or '?'} ({item.get('annotation_class') or 'class unknown'})"
    points = [round(float(value), DECIMALS) for value in item["points"]]
    kind, suggested = _kind(item), item["suggested"]
    name, place = f"be {item['object_class']}", f"lie at {points}"
    # As in a repair: a swapped class leaves the box alone and a bad location the class, unless a person changed both.
    moved = list(item["points"]) != list(suggested["points"])
    relabelled = item["object_class"] != suggested.get("object_class")
    todo = {
        SWAPPED_CLASS: f"{annotation} should {name}" + (f" and {place}" if moved else ""),
        BAD_LOCATION: f"{annotation} should {place}" + (f" and {name}" if relabelled else ""),
        SPURIOUS: f"{annotation} at {points} should be removed",
    }
    what = todo.get(kind, f"{annotation}: a suggestion of kind {kind!r}, which this version cannot send")
    frame = "?" if item.get("frame") is None else item["frame"]
    where = f"task {item.get('task_name') or '?'}, frame {frame} ({item['img_path']}), suggestion {item['_id']}"
    return Problem(where, what)


def _places(accepted: Sequence[Document], snapshot: Snapshot) -> dict[str, tuple[str, int, int]]:
    """Task name, width and height of each image that is needed."""
    needed = {str(item["img_path"]) for item in accepted}
    table = snapshot.frames[snapshot.frames["img_path"].isin(needed)]
    columns = (table["img_path"], table["task_name"], table["width"], table["height"])
    places = {str(path): (str(task), int(w), int(h)) for path, task, w, h in zip(*columns, strict=True)}
    unknown = sorted(needed - set(places))
    if unknown:
        raise CvatError(
            f"{len(unknown)} images with accepted suggestions are not in snapshot {snapshot.id}: {some(unknown)}. The "
            "suggestions belong to another snapshot; make them again for this one."
        )
    return places


def _shapes(
    items: Sequence[Document],
    places: Mapping[str, tuple[str, int, int]],
    classes: Sequence[str],
    problems: list[Problem],
) -> list[PlannedShape]:
    """Checked rectangles: CVAT itself takes inverted, empty and out-of-image boxes without a word."""
    shapes = []
    for item in items:
        img_path = str(item["img_path"])
        record = make_task("", classes, [(img_path, *places[img_path][1:])])
        box = make_annotation(record, 0, str(item["object_class"]), item["points"])
        checked, found = check_task(TaskRecord(record.task, record.meta, [box]))
        problems += [Problem(f"suggestion {item['_id']} on {img_path}", problem.what) for problem in found]
        for good in checked.annotations:
            x1, y1, x2, y2 = (round(float(value), DECIMALS) for value in good["points"])
            score = round(min(max(float(item.get("score", 1.0)), 0.0), 1.0), 4)
            shapes.append(PlannedShape(item["_id"], img_path, str(item["object_class"]), (x1, y1, x2, y2), score))
    return shapes


def _frames(
    img_paths: Sequence[str], places: Mapping[str, tuple[str, int, int]], frames: FrameStore
) -> tuple[PlannedFrame, ...]:
    planned: dict[str, PlannedFrame] = {}
    missing, other_size = [], []
    for img_path in img_paths:
        _, width, height = places[img_path]
        try:
            file = frames.path(img_path)
            size = upright_size(file)
        except (FrameError, *UNREADABLE) as error:
            missing.append(f"{img_path} ({error})")
            continue
        if width and height and size != (width, height):
            other_size.append(f"{file} is {size[0]} x {size[1]}, annotated as {width} x {height}")
            continue
        name = upload_name(img_path)
        name = hashed_name(img_path) if name in planned else name
        planned[name] = PlannedFrame(img_path, file, name, *size)
    if missing:
        raise CvatError(f"{len(missing)} images to push cannot be read: {some(missing)}. Nothing was sent.")
    if other_size:
        raise CvatError(
            f"{len(other_size)} images have another size than when they were annotated, so boxes would land in wrong "
            f"places: {some(other_size)}. Point the image folders to the original images."
        )
    return tuple(planned.values())


def _task_name(name: str) -> str:
    if len(name) > MAX_TASK_NAME:
        raise CvatError(
            f"CVAT takes task names of up to {MAX_TASK_NAME} characters; {name!r} has {len(name)}. Use a shorter "
            "task_prefix or model name."
        )
    return name
