"""``frames.csv`` beside label files: what YOLO and VOC have no place for (a frame's own name, size, task and order)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from obdb_lib.cells import guarded, unguarded
from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared

FRAMES_TABLE = "frames.csv"
COLUMNS = ("file", "img_path", "width", "height", "task_name")
MOST_DIGITS = 9
"""Of a width or height; no frame is a thousand million pixels wide."""


@dataclass(frozen=True)
class FrameRow:
    """One frame: its file below the data set's folder, its name as the store knows it, its size in pixels, its task."""

    file: str
    img_path: str
    width: int
    height: int
    task_name: str


def table_text(rows: Sequence[FrameRow]) -> str:
    """The table as CSV; no cell begins like a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        names = [guarded(value) for value in (row.file, row.img_path)]
        writer.writerow([*names, row.width, row.height, guarded(row.task_name)])
    return text.getvalue()


def is_ours(path: Path) -> bool:
    """Whether there is such a table with our columns; a ``frames.csv`` of somebody else's is not one."""
    if not path.is_file():
        return False
    first = _shared.read_bytes(path, may_be_empty=True).partition(b"\n")[0]
    return first.decode("utf-8-sig", "replace").strip().split(",") == list(COLUMNS)


def read_table(path: Path) -> list[FrameRow]:
    """Rows of a frames.csv.

    Raises:
        FormatError: it cannot be read, lacks a column, or a row has no file, name or size.
    """
    text = _shared.decode_text(_shared.read_bytes(path), path)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise FormatError(
                f"{path} lacks the columns {', '.join(missing)}. Delete it, or export the data set again."
            )
        rows = [_row(row, path, reader.line_num) for row in reader]
    except csv.Error as error:
        raise FormatError(f"{path} is not readable CSV ({error}). Delete it, or export the data set again.") from error
    return rows


def _row(row: dict[str, str | None], path: Path, line: int) -> FrameRow:
    file, img_path, width, height, task_name = (row[column] or "" for column in COLUMNS)
    sizes = [int(size) for size in (width, height) if size.isascii() and size.isdigit() and len(size) <= MOST_DIGITS]
    if not file or not img_path or len(sizes) != 2:
        raise FormatError(
            f"{path}, line {line}: wanted a file, an img_path, and width and height as whole numbers; got "
            f"{(file, img_path, width, height)!r:.120}. Mend the line or delete the file."
        )
    return FrameRow(unguarded(file), unguarded(img_path), sizes[0], sizes[1], unguarded(task_name))
