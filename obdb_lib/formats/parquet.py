"""Parquet: upstream's table of images, with all that the pickle has no place for. Reader and writer.

A row an image, with upstream's columns (``img_path``, ``img_width``, ``img_height``, ``task_name``, ``bboxes``,
``labels``, ``shape_types``, ``points``), so that ``pandas.read_parquet`` gives what ``pandas.read_pickle`` gave; and
``occluded``, ``source``, ``more`` (the other fields, JSON). Documents of the tasks stand in the file's metadata. A
plain table with a row an annotation is read, too. Unlike a pickle, such a file cannot run anything.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bson import json_util

from obdb_lib.cache import atomic_writer
from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._collections import join_collections
from obdb_lib.formats._grouping import task_of_recording
from obdb_lib.formats._parquet_rows import COLUMNS, FLAT_COLUMNS, columns_of, rows_of
from obdb_lib.formats.mongoexport import extended
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, bounding_box

METADATA_KEY = b"obdb_lab"
PER_SHAPE = ("bboxes", "labels", "shape_types", "points", "occluded", "source", "more")
MEANT = frozenset(
    {
        *("task_name", "img_path", "img_width", "img_height", "frame", "object_class", "shape_types", "points"),
        *("occluded", "source", "_id"),
    }
)
"""Fields of an annotation that have a column of their own (or follow from the row)."""


def read(path: Path, *, image_root: Path | None = None) -> ReadResult:
    """Tasks of a Parquet table with a row an image or a row an annotation.

    Args:
        path: the file.
        image_root: folder of the images, looked at only where a row has no size.

    Returns:
        Tasks not yet checked by ``records.check_task``, and what was set aside.

    Raises:
        FormatError: it is damaged, too large when unpacked, or lacks a column.
    """
    data = _shared.read_bytes(path)
    result = ReadResult()
    columns, metadata = columns_of(data, path, METADATA_KEY)
    flat = "bboxes" not in columns
    missing = [name for name in (FLAT_COLUMNS if flat else COLUMNS) if name not in columns]
    if missing:
        raise FormatError(
            f"{path} is no table of annotations: it lacks {', '.join(missing)} among its columns "
            f"({', '.join(name[:40] for name in list(columns)[:20])}). Wanted a row an image with {', '.join(COLUMNS)} "
            f"or a row an annotation with {', '.join(FLAT_COLUMNS)} and points, or x1, y1, x2, y2."
        )
    tasks, extra = _documents(metadata, path, result.problems)
    root = image_root or path.parent
    rows = rows_of(columns, flat=flat)
    frames: dict[str, dict[str, Document]] = {}
    orders: dict[str, dict[str, int]] = {}
    annotations: list[Document] = []
    for number, row in enumerate(rows):
        where = f"{path.name}, row {number}"
        place = _place(row, root, ours=bool(metadata))
        if isinstance(place, str):
            result.problems.append(Problem(where, place))
            continue
        task_name, frame = place
        its_frames = frames.setdefault(task_name, {})
        frame = its_frames.setdefault(frame["name"], frame)
        order = orders.setdefault(task_name, {}).setdefault(frame["name"], len(its_frames) - 1)
        annotations += _annotations(row, task_name, frame, order, where, result.problems)
    date = _shared.file_date(path)
    meta = [
        {**extra.get(name, {}), "task_name": name, "frames": list(found.values())} for name, found in frames.items()
    ]
    known = {_shared.text_of(task.get("name")) for task in tasks}
    tasks += [_made_up(name, annotations, date) for name in frames if name not in known]
    result.tasks = join_collections(tasks, meta, annotations, date, result.problems)
    return result


def _made_up(name: str, annotations: Sequence[Document], date: str) -> Document:
    """A task of a foreign table: its labels are all classes of the table, numbered from 1 as the pickle's are."""
    classes = sorted({one["object_class"] for one in annotations if isinstance(one["object_class"], str)} - {""})
    labels = [{"id": number, "name": one, "color": "", "attributes": []} for number, one in enumerate(classes, 1)]
    return {"type": "task_data", "name": name, "labels": labels, "created_date": date, "updated_date": date}


def _documents(text: bytes, path: Path, problems: list[Problem]) -> tuple[list[Document], dict[str, Document]]:
    """Documents of the tasks, and further fields of each task's ``meta`` by name; empty for a foreign table."""
    if not text:
        return [], {}
    found = _json(text.decode("utf-8", "replace"), path)
    tasks = found.get("tasks") if isinstance(found, dict) else None
    metas = found.get("meta") if isinstance(found, dict) else None
    if not isinstance(tasks, list) or not isinstance(metas, list):
        problems.append(Problem(path.name, "its note of tasks is not usable; labels are the classes of the table"))
        return [], {}
    extra = {
        _shared.text_of(meta.get("task_name")): {k: v for k, v in meta.items() if k != "frames"}
        for meta in metas
        if isinstance(meta, dict)
    }
    return [task for task in tasks if isinstance(task, dict)], extra


def _json(text: str, path: Path) -> Any:
    value = _shared.parse_json(text, path)
    try:
        return extended(value)
    except Exception as error:  # bson's hooks raise many types for a malformed {"$...": ...}
        raise FormatError(
            f"{path} holds extended JSON that is malformed ({str(error)[:120]}). Export again."
        ) from error


def _place(row: Document, root: Path, *, ours: bool) -> tuple[str, Document] | str:
    """Task's name and frame of a row, or why it is set aside."""
    name = row.get("img_path")
    if not isinstance(name, str) or not name:
        return "set aside: it has no img_path"
    size = _shared.frame_size(row.get("img_width"), row.get("img_height"), name, root)
    if size is None and not ours:  # our own files say so where a size is unknown
        return f"set aside: {name!r} has no img_width and img_height, and its image is not there"
    task = _shared.text_of(row.get("task_name")) or task_of_recording(name) or name.rpartition("/")[0] or "table"
    width, height = size or (0, 0)
    return task, {**_more(row.get("frame_more")), "name": name, "width": width, "height": height}


def _more(text: object) -> Document:
    """Further fields as written; {} for none or for text that is no JSON object."""
    if not isinstance(text, str) or not text:
        return {}
    try:
        found = extended(json.loads(text))
    except Exception:  # foreign text: anything that is no JSON object is no further field
        return {}
    return found if isinstance(found, dict) else {}


def _annotations(
    row: Document, task_name: str, frame: Document, number: int, where: str, problems: list[Problem]
) -> Iterator[Document]:
    lists = {key: row[key] for key in PER_SHAPE if isinstance(row.get(key), list)}
    counts = {len(values) for values in lists.values()}
    if len(counts) > 1:
        told = ", ".join(f"{len(values)} {key}" for key, values in lists.items())
        problems.append(Problem(where, f"set aside all its boxes: {told}, so nobody knows which is which"))
        return
    for place in range(counts.pop() if counts else 0):
        one = {key: values[place] for key, values in lists.items()}
        points = one.get("points")
        shape = _shared.text_of(one.get("shape_types")) or "rectangle"
        if not isinstance(points, list) or (shape != "rectangle" and len(points) < 6):
            points = one["bboxes"]
        if shape != "rectangle" and isinstance(points, list) and len(points) == 4:
            problems.append(
                Problem(f"{where}, box {place}", f"a {shape} whose points the table lacks; kept as its box")
            )
            shape = "rectangle"
        yield {
            **_more(one.get("more")),
            **{"task_name": task_name, "shape_types": shape, "points": points, "frame": number},
            **{"object_class": one["labels"], "img_path": frame["name"]},
            **{"img_width": frame["width"], "img_height": frame["height"]},
            **{"occluded": one.get("occluded") is True, "source": _shared.text_of(one.get("source")) or "manual"},
        }


def write(tasks: Sequence[TaskRecord], path: Path) -> list[Problem]:
    """Write one table of all tasks, whole or not at all; everything that the tasks hold is read back from it.

    Raises:
        FormatError: a field cannot be written as JSON.
        CacheError: the file cannot be written; an older one is untouched.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[Document] = []
    for task in tasks:
        drawn: dict[int, list[Document]] = {}
        for one in task.annotations:
            drawn.setdefault(int(one["frame"]), []).append(one)
        for number, frame in enumerate(task.meta["frames"]):
            rows.append(_row(task, frame, drawn.get(number, [])))
    note = {
        "tasks": [_without(task.task, {"_id"}) for task in tasks],
        "meta": [_without(task.meta, {"_id", "frames"}) for task in tasks],
    }
    floats, texts = pa.list_(pa.list_(pa.float64())), pa.list_(pa.string())
    kinds = {"img_path": pa.string(), "img_width": pa.int64(), "img_height": pa.int64(), "task_name": pa.string()}
    kinds |= {"bboxes": floats, "labels": texts, "shape_types": texts, "points": floats}
    kinds |= {"occluded": pa.list_(pa.bool_()), "source": texts, "more": texts, "frame_more": pa.string()}
    schema = pa.schema(kinds, metadata={METADATA_KEY: _text(note).encode()})
    try:
        table = pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise FormatError(f"{path} was not written ({str(error)[:120]}). Run records.check_task first.") from error
    memory = io.BytesIO()
    pq.write_table(table, memory, compression="zstd")
    with atomic_writer(path) as file:
        file.write(memory.getbuffer())
    return []


def _row(task: TaskRecord, frame: Document, annotations: Sequence[Document]) -> Document:
    further = _without(frame, {"name", "width", "height"})
    return {
        **{"img_path": frame["name"], "img_width": frame["width"], "img_height": frame["height"]},
        "task_name": task.name,
        "bboxes": [list(bounding_box(one["points"])) for one in annotations],
        "labels": [one["object_class"] for one in annotations],
        "shape_types": [one.get("shape_types", "rectangle") for one in annotations],
        "points": [one["points"] for one in annotations],
        "occluded": [bool(one.get("occluded")) for one in annotations],
        "source": [one.get("source", "manual") for one in annotations],
        "more": [_text(_without(one, MEANT)) for one in annotations],
        "frame_more": _text(further) if further else "",
    }


def _without(document: Document, fields: frozenset[str] | set[str]) -> Document:
    return {key: value for key, value in document.items() if key not in fields}


def _text(value: object) -> str:
    try:
        return str(json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError(f"a field cannot be written as JSON ({error}): {str(value)[:80]!r}") from error
