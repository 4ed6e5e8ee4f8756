"""Documents of upstream's three collections put together, task by task, with every gap and contradiction reported."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from obdb_lib.formats import _shared
from obdb_lib.records import Document, Problem, TaskRecord

FRAME_SIZES = ("width", "height")


def join_collections(
    tasks: list[Document], meta: list[Document], annotations: list[Document], date: str, problems: list[Problem]
) -> list[TaskRecord]:
    """Tasks with their frames and annotations; what belongs nowhere is set aside.

    Args:
        date: used for tasks that have none, in upstream's notation.
        problems: grows by what was mended or set aside.
    """
    by_task: dict[str, list[Document]] = {}
    for number, annotation in enumerate(annotations):
        mended = _annotation(annotation)
        if isinstance(mended, str):
            problems.append(Problem(f"annotation_data, document {number}", f"set aside: {mended}"))
        else:
            by_task.setdefault(mended["task_name"], []).append(mended)
    frames = _frames_by_task(meta, problems)
    records = [_with_frames(task, frames, by_task, problems) for task in _tasks(tasks, frames, by_task, date, problems)]
    return records


def _annotation(annotation: Document) -> Document | str:
    """The annotation without ``_id`` and with upstream's defaults, or why it cannot be used."""
    frame = _shared.whole(annotation.get("frame"))
    for name in ("task_name", "object_class"):
        if not _shared.text_of(annotation.get(name)):
            return f"it has no {name}"
    if frame is None:
        return "it has no frame number"
    points = annotation.get("points")
    values = [_shared.finite(value) for value in points] if isinstance(points, list) else []
    if len(values) < 4 or len(values) % 2 or any(value is None for value in values):
        return "its points are not at least four finite numbers in pairs"
    mended = {key: value for key, value in annotation.items() if key != "_id"}
    mended.setdefault("type", "annotation")
    mended.update(
        frame=frame,
        points=[value for value in values if value is not None],
        shape_types=_shared.text_of(annotation.get("shape_types")) or "rectangle",
        occluded=bool(annotation.get("occluded")),
        source=_shared.text_of(annotation.get("source")) or "manual",
    )
    return mended


def _frames_by_task(meta: list[Document], problems: list[Problem]) -> dict[str, Document]:
    """Document of ``meta`` by task name; one whose frames cannot be told apart is set aside."""
    found: dict[str, Document] = {}
    for number, document in enumerate(meta):
        where = f"meta, document {number}"
        name, frames = _shared.text_of(document.get("task_name")), document.get("frames")
        if not name or not isinstance(frames, list):
            problems.append(Problem(where, "set aside: needs a task_name and a list of frames"))
        elif not all(isinstance(frame, dict) and _shared.text_of(frame.get("name")) for frame in frames):
            problems.append(Problem(where, f"set aside: a frame of task {name!r} has no name"))
        elif name in found:
            problems.append(Problem(where, f"set aside: task {name!r} has its frames already"))
        else:
            kept = {key: value for key, value in document.items() if key != "_id"}
            found[name] = {**kept, "frames": [dict(frame) for frame in frames]}
    return found


def _tasks(
    tasks: list[Document],
    frames: dict[str, Document],
    by_task: dict[str, list[Document]],
    date: str,
    problems: list[Problem],
) -> list[Document]:
    """Documents of ``tasks``, one a name (the newest), and one made up for each name that only the others know."""
    found: dict[str, Document] = {}
    for number, document in enumerate(tasks):
        name = _shared.text_of(document.get("name"))
        if not name:
            problems.append(Problem(f"tasks, document {number}", "set aside: it has no name"))
            continue
        task = {key: value for key, value in document.items() if key != "_id"}
        for key in ("created_date", "updated_date"):
            value = task.get(key)
            task[key] = _shared.iso_date(value, date) if isinstance(value, datetime) else _shared.text_of(value) or date
        task["labels"] = _labels(task.get("labels"), by_task.get(name, []), name, problems)
        if name in found:
            problems.append(Problem(f"tasks, document {number}", f"task {name!r} occurs twice; the newest is kept"))
            task = max(found[name], task, key=lambda one: str(one["updated_date"]))
        found[name] = task
    for name in [*frames, *by_task]:
        if name not in found:
            problems.append(Problem(f"task {name!r}", "is not in tasks; its labels are the classes of its annotations"))
            labels = _labels(None, by_task.get(name, []), name, [])
            dates = {"created_date": date, "updated_date": date}
            found[name] = {"type": "task_data", "name": name, "labels": labels, **dates}
    return list(found.values())


def _labels(labels: object, annotations: list[Document], task_name: str, problems: list[Problem]) -> list[Document]:
    """The task's labels as they are, else one for each class of its annotations in sorted order."""
    usable = (
        [dict(label) for label in labels if isinstance(label, dict) and _shared.text_of(label.get("name"))]
        if isinstance(labels, list)
        else []
    )
    if usable:
        return [{"id": number, "color": "", "attributes": [], **label} for number, label in enumerate(usable, 1)]
    if annotations:
        problems.append(Problem(f"task {task_name!r}", "has no labels; taken from the classes of its annotations"))
    names = sorted({str(annotation["object_class"]) for annotation in annotations})
    return [{"id": number, "name": name, "color": "", "attributes": []} for number, name in enumerate(names, 1)]


def _with_frames(
    task: Document, frames: dict[str, Document], by_task: dict[str, list[Document]], problems: list[Problem]
) -> TaskRecord:
    name = str(task["name"])
    annotations = by_task.get(name, [])
    meta = frames.get(name)
    if meta is None:
        meta, annotations = _frames_from(name, annotations)
        if annotations:
            what = f"has no meta; its {len(meta['frames'])} frames are those with annotations (empty ones are unknown)"
            problems.append(Problem(f"task {name!r}", what))
    _mend_sizes(name, meta["frames"], annotations, problems)
    return TaskRecord(task, meta, _on_their_frames(name, meta["frames"], annotations, problems))


def _frames_from(name: str, annotations: list[Document]) -> tuple[Document, list[Document]]:
    """Frames as the annotations name them, in the order of their numbers; frames are numbered anew from 0."""
    usable = [one for one in annotations if _shared.text_of(one.get("img_path"))]
    paths = dict.fromkeys(one["img_path"] for one in sorted(usable, key=lambda one: int(one["frame"])))
    order = {path: number for number, path in enumerate(paths)}
    frames: list[Document] = [{"name": path, "width": None, "height": None} for path in paths]
    return {"task_name": name, "frames": frames}, [{**one, "frame": order[one["img_path"]]} for one in usable]


def _mend_sizes(name: str, frames: list[Document], annotations: list[Document], problems: list[Problem]) -> None:
    """Frames without a usable size take that of their annotations, else 0 (unknown)."""
    told = {
        (one.get("img_path"), key): _shared.whole(one.get(f"img_{key}")) for one in annotations for key in FRAME_SIZES
    }
    for frame in frames:
        for key in FRAME_SIZES:
            size = _shared.whole(frame.get(key)) or told.get((frame["name"], key)) or 0
            frame[key] = max(size, 0)
            if frame[key] == 0:
                what = f"{key} is unknown; boxes of this frame are not checked against its border"
                problems.append(Problem(f"task {name!r}, frame {frame['name']!r}", what))


def _on_their_frames(
    name: str, frames: list[Document], annotations: list[Document], problems: list[Problem]
) -> list[Document]:
    """Annotations whose frame number and image agree: the image's own place wins, else the frame number does."""
    order = {frame["name"]: number for number, frame in reversed(list(enumerate(frames)))}
    mended: list[Document] = []
    changes: Counter[str] = Counter()
    for one in annotations:
        number, path = int(one["frame"]), one.get("img_path")
        if 0 <= number < len(frames):
            if frames[number]["name"] != path:
                if isinstance(path, str) and path in order:
                    number = order[path]
                    changes["frame number corrected by the image's name"] += 1
                else:
                    changes["image's name is not among the task's frames; taken from the frame number"] += 1
            place = frames[number]
            one = {**one, "frame": number, "img_path": place["name"]}
            one |= {"img_width": place["width"], "img_height": place["height"]}
        mended.append(one)
    problems.extend(Problem(f"task {name!r}", f"{count} annotations: {what}") for what, count in changes.items())
    return mended
