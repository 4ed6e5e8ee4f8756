"""Upstream's pickled pandas tables (``pd_val_full_hd.pkl``): written as its pandas reads them, and read without running
anything that the file asks for.

A pickle is a program. Here the few names that a plain table needs stand for inert holders of our own (no pandas or
numpy code sees a value of the file); any other name ends the reading before it is looked up, let alone called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obdb_lib.cache import atomic_writer
from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._grouping import task_of_recording
from obdb_lib.formats._losses import losses
from obdb_lib.formats._table_pickle import load_table
from obdb_lib.formats._table_pickle_writer import table_pickle
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, bounding_box, make_annotation, make_task

MAX_PICKLE_BYTES = 1 << 28
"""Largest pickle that is read (256 MiB; upstream's largest has about 2 MB a thousand rows)."""
UPSTREAM_PREFIX = "/weed_data/"
COLUMNS = ("img_path", "img_width", "img_height", "bboxes", "labels")
OPTIONAL_COLUMNS = ("task_name", "shape_types", "points")
OUTLINE_TOLERANCE_PX = 0.5
"""How far an outline in ``points`` may reach from its box (which upstream kept as float32) and still be this box's."""
NO_CROP = 0.0
"""Upstream's ``height_crop`` and ``side_crop``: shares of a frame that its own cutting of 4K frames took away."""


def read(path: Path, *, strip_prefix: str = UPSTREAM_PREFIX) -> ReadResult:
    """Tasks of one pickled table: a row an image, its ``bboxes`` (x1, y1, x2, y2 in pixels) and ``labels`` as lists.

    The tables lack what the collections have: occluded is filled in as False, source as "manual", label ids count
    from 1 in the sorted order of all class names, dates are the file's. Outlines of polygons are read where ``points``
    has each box's own. Upstream's tables have but the last one of each image: there they are kept as boxes, and
    ``upstream_shape_types`` tells what they were.

    Args:
        path: the pickle (gzip is understood).
        strip_prefix: taken off the front of every ``img_path`` that has it.

    Returns:
        Tasks by the rows' task name (else by recording, else by folder), not yet checked by ``records.check_task``.

    Raises:
        PickleRefusedError: the pickle asks for anything other than a plain table.
        FormatError: it is damaged, too large, or lacks a column.
    """
    table = load_table(_shared.read_bytes(path, MAX_PICKLE_BYTES), path)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        there = ", ".join(name[:40] for name in list(table)[:20] if isinstance(name, str))
        raise FormatError(
            f"{path} is not one of upstream's tables: it lacks {', '.join(missing)} among its columns ({there}). Pass "
            "a table written by weed_training."
        )
    columns = {name: table[name] for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in table}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return _tasks(rows, strip_prefix, path)


def _tasks(rows: list[Document], strip_prefix: str, path: Path) -> ReadResult:
    result = ReadResult()
    usable: dict[str, list[tuple[int, Document]]] = {}
    for number, row in enumerate(rows):
        name, width, height = row["img_path"], _shared.whole(row["img_width"]), _shared.whole(row["img_height"])
        if not isinstance(name, str) or not name or not width or not height or min(width, height) <= 0:
            what = "set aside: needs an img_path, and img_width and img_height as positive whole numbers"
            result.problems.append(Problem(f"{path.name}, row {number}", what))
            continue
        row["img_path"] = name.removeprefix(strip_prefix) or name
        usable.setdefault(_task_name(row), []).append((number, row))
    classes = sorted({label for row in rows for label in _items(row["labels"]) if isinstance(label, str) and label})
    date = _shared.file_date(path)
    for task_name, its_rows in usable.items():
        frames = {row["img_path"]: (int(row["img_width"]), int(row["img_height"])) for _, row in reversed(its_rows)}
        order = {name: frame for frame, name in enumerate(dict.fromkeys(row["img_path"] for _, row in its_rows))}
        record = make_task(task_name, classes, [(name, *frames[name]) for name in order], created=date)
        for number, row in its_rows:
            where = f"{path.name}, row {number}"
            _add_boxes(record, order[row["img_path"]], row, where, result.problems)
        result.tasks.append(record)
    return result


def _task_name(row: Document) -> str:
    name = str(row["img_path"])
    folder = name.rpartition("/")[0]
    return _shared.text_of(row.get("task_name")) or task_of_recording(name) or folder or "pickle"


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _add_boxes(record: TaskRecord, frame: int, row: Document, where: str, problems: list[Problem]) -> None:
    boxes, labels, shapes = _items(row["bboxes"]), _items(row["labels"]), _items(row.get("shape_types"))
    if len(boxes) != len(labels):
        what = f"set aside all its boxes: {len(boxes)} boxes but {len(labels)} labels, so nobody knows which is which"
        problems.append(Problem(where, what))
        return
    outlines = _items(row.get("points"))
    lost = 0
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        values = [_shared.finite(value) for value in _items(box)]
        points = [value for value in values if value is not None]
        if len(points) != 4 or len(values) != 4 or not isinstance(label, str) or not label:
            problems.append(Problem(f"{where}, box {number}", "set aside: needs four finite numbers and a class name"))
            continue
        shape = shapes[number] if len(shapes) == len(boxes) else "rectangle"
        outline = _outline(outlines[number], points) if len(outlines) == len(boxes) and shape == "polygon" else []
        document = make_annotation(
            record, frame, label, outline or points, shape_type="polygon" if outline else "rectangle"
        )
        if isinstance(shape, str) and shape != "rectangle" and not outline:
            document["upstream_shape_types"] = shape
            lost += 1
        record.annotations.append(document)
    if lost:
        what = f"{lost} outlines (polygon or points) kept as boxes: the table holds only an image's last outline"
        problems.append(Problem(where, what))


def _outline(values: Any, box: Sequence[float]) -> list[float]:
    """An outline that this box was drawn around, else []."""
    points = [number for value in _items(values) if (number := _shared.finite(value)) is not None]
    if len(points) != len(_items(values)) or len(points) < 6 or len(points) % 2:
        return []
    pairs = zip(bounding_box(points), box, strict=True)
    return points if all(abs(own - given) <= OUTLINE_TOLERANCE_PX for own, given in pairs) else []


def write(
    tasks: Sequence[TaskRecord], path: Path, *, prefix: str = UPSTREAM_PREFIX, empty: bool = True
) -> list[Problem]:
    """Write upstream's table: a row an image, ``points`` with the outline of every shape.

    Args:
        prefix: put before every ``img_path`` that is not absolute.
        empty: write frames without annotations, too. Upstream leaves them out of its tables, and its training cannot
            take them (its loader makes a tensor without columns of them).

    Returns:
        What the table cannot hold.

    Raises:
        FormatError: a value has no place in a plain table.
        CacheError: the file cannot be written; an older one is untouched.
    """
    classes = sorted({str(one["object_class"]) for task in tasks for one in task.annotations})
    problems = losses(tasks, "pickle", ("polygon", "upstream_shape_types"), labels=classes)
    rows: list[Document] = []
    left = 0
    for task in tasks:
        drawn: dict[int, list[Document]] = {}
        for one in task.annotations:
            drawn.setdefault(int(one["frame"]), []).append(one)
        for number, frame in enumerate(task.meta["frames"]):
            if number in drawn or empty:
                rows.append(_row(task, frame, drawn.get(number, []), prefix))
            left += number not in drawn and not empty
    blank = sum(not row["bboxes"] for row in rows)
    if blank:
        what = f"{blank} frames without annotations are rows with empty lists; upstream's own training wants none such"
        problems.append(Problem("pickle", f"{what} (empty=False, --drop-empty)"))
    if left:
        problems.append(Problem("pickle", f"{left} frames without annotations were left out, as asked for"))
    stripped = sum(str(frame["name"]).startswith(UPSTREAM_PREFIX) for task in tasks for frame in task.meta["frames"])
    if stripped:
        problems.append(
            Problem("pickle", f"{stripped} frames have {UPSTREAM_PREFIX} in their name; reading takes it off")
        )
    columns = {name: [row[name] for row in rows] for name in ROW_COLUMNS}
    try:
        data = table_pickle(columns)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path} was not written: {error}. Run records.check_task first.") from error
    with atomic_writer(path) as file:
        file.write(data)
    return problems


ROW_COLUMNS = (
    *("img_path", "img_width", "img_height", "task_name", "height_crop", "side_crop"),
    *("bboxes", "labels", "shape_types", "points"),
)


def _shape(one: Document) -> str:
    """As upstream had it, also where but the box of an outline is left."""
    return str(one.get("upstream_shape_types") or one.get("shape_types", "rectangle"))


def _row(task: TaskRecord, frame: Document, annotations: Sequence[Document], prefix: str) -> Document:
    name = str(frame["name"])
    return {
        "img_path": name if name.startswith("/") else f"{prefix}{name}",
        **{"img_width": int(frame["width"] or 0), "img_height": int(frame["height"] or 0), "task_name": task.name},
        **{"height_crop": NO_CROP, "side_crop": NO_CROP},
        "bboxes": [[float(value) for value in bounding_box(one["points"])] for one in annotations],
        "labels": [str(one["object_class"]) for one in annotations],
        "shape_types": [
            str(one.get("upstream_shape_types") or one.get("shape_types", "rectangle")) for one in annotations
        ],
        "points": [[float(value) for value in one["points"]] for one in annotations],
    }
