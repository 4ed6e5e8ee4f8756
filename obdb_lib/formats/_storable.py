"""What a file may say and MongoDB cannot hold: set aside before the import begins, so that no import stops half-way.

JSON knows numbers of any length, halves of characters (``"\\ud800"``) and nesting without end; BSON has integers of 64
bits, text in UTF-8, names of fields without NUL, documents of at most 16 MiB, and MongoDB at most 100 levels.
"""

from __future__ import annotations

from typing import Any

import bson
from bson.errors import BSONError

from obdb_lib.records import Document, Problem, TaskRecord

MOST_LEVELS = 50
"""Levels of nesting that are kept; MongoDB's limit of 100 counts those of its own commands, too."""
UNKNOWN_SIZE = {"width": 0, "height": 0}
MOST_BYTES = 15 << 20
"""Of one document; MongoDB's limit is 16 MiB."""


def storable(record: TaskRecord) -> tuple[list[TaskRecord], list[Problem]]:
    """The record (in a list; none when it cannot be kept at all) with what MongoDB can hold, and what was set aside.

    A field that cannot be kept is left out of its annotation, frame or task; an annotation whose own class, frame or
    image cannot be kept is set aside; so is a task whose name or frames cannot.
    """
    where = f"task {ascii(record.name)[:80]}"
    problems: list[Problem] = []
    labels = [label for label in record.task.get("labels", []) if not _fault({"label": label})]
    if len(labels) != len(record.task.get("labels", [])):
        problems.append(Problem(where, "labels whose name or attributes MongoDB cannot hold are left out"))
    task = _kept({**record.task, "labels": labels}, where, problems)
    frames = [
        frame if not _fault(frame) else {**UNKNOWN_SIZE, **_kept(frame, f"{where}, frame {number}", problems)}
        for number, frame in enumerate(record.meta["frames"])
    ]
    meta = _kept({**record.meta, "frames": []}, where, problems) | {"frames": frames}
    broken = "name" not in task or "task_name" not in meta or any("name" not in frame for frame in frames)
    if broken or _fault(meta):
        why = "its name or the name of a frame holds half a character" if broken else _fault(meta)
        return [], [*problems, Problem(where, f"set aside as a whole: {why}; MongoDB cannot hold it")]
    annotations = []
    for number, one in enumerate(record.annotations):
        place = f"{where}, annotation {number}"
        kept = _kept(one, place, problems)
        if {"object_class", "img_path", "points", "frame"} <= kept.keys():
            frame = frames[kept["frame"]]
            filled = {"label_id": 0, "img_width": frame["width"], "img_height": frame["height"]}
            annotations.append(one if kept is one else {**filled, **kept})
        else:
            problems.append(Problem(place, "set aside: its class or image cannot be held by MongoDB"))
    return [TaskRecord(task, meta, annotations)], problems


def _kept(document: Document, where: str, problems: list[Problem]) -> Document:
    """The document itself when nothing is wrong, else without the fields that cannot be kept."""
    if not _fault(document):
        return document
    kept: Document = {}
    for field, value in document.items():
        fault = _fault({field: value})
        if fault:
            problems.append(Problem(where, f"its field {ascii(field)[:60]} is left out: {fault}"))
        else:
            kept[field] = value
    return kept


def _fault(document: Document) -> str:
    """Why MongoDB could not hold it, or ""."""
    if any(not isinstance(field, str) or field.startswith("$") for field in document):
        return "a name of a field begins with $, or is no text"
    if _too_deep(document, MOST_LEVELS):
        return f"it is nested more than {MOST_LEVELS} levels deep"
    try:
        size = len(bson.encode(document))
    except (BSONError, OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        return f"it is no value for a database ({str(error)[:80]})"
    return f"it is larger than {MOST_BYTES:,} bytes" if size > MOST_BYTES else ""


def _too_deep(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_too_deep(item, levels - 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return levels == 0 or any(
            _too_deep(item, levels - 1) for item in value if isinstance(item, (dict, list, tuple))
        )
    return False
