"""Columns of a Parquet file that may be foreign, as lists of plain Python values, and rows of them.

pyarrow decodes; nothing in a Parquet file can run. Guards: the format's mark, the sizes that its footer claims, the
types of the columns that are read (no others are touched), and a count of the bytes that really come out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.records import Document

MAGIC = b"PAR1"
COLUMNS = ("img_path", "bboxes", "labels")
FLAT_COLUMNS = ("img_path", "object_class")
BOX = ("x1", "y1", "x2", "y2")
WANTED = (
    *("img_path", "img_width", "img_height", "task_name", "bboxes", "labels", "shape_types", "points"),
    *("occluded", "source", "more", "frame_more", "object_class", "shape_type", *BOX, "width", "height"),
)
MAX_ROWS = 5_000_000
MAX_COLUMNS = 1_000
"""Columns that a file may have in all; upstream's tables have 10."""
MAX_BYTES = 1 << 29
"""Largest that the read columns may be in memory (512 MiB; 12,000 4K frames take 20 MiB)."""
BATCH_ROWS = 4096


def columns_of(data: bytes, path: Path, key: bytes) -> tuple[dict[str, list[Any]], bytes]:
    """The known columns as lists of Python values, and the file's note under ``key`` (b"" for none).

    Raises:
        FormatError: damaged, or more than MAX_ROWS, MAX_COLUMNS or MAX_BYTES.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (data.startswith(MAGIC) and data.endswith(MAGIC)):
        raise FormatError(f"{path} is not a whole Parquet file: it should begin and end with PAR1. Copy it again.")
    columns: dict[str, list[Any]] = {}
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        _refuse_large(file.metadata, path)
        schema = file.schema_arrow
        wanted = [name for name in WANTED if schema.names.count(name) == 1 and _is_plain(schema.field(name).type)]
        note = (schema.metadata or {}).get(key, b"")
        columns = {name: [] for name in wanted}
        size = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False):
            size += batch.nbytes
            if size > MAX_BYTES:
                raise FormatError(f"{path} holds more than {MAX_BYTES:,} bytes. Write fewer tasks at a time.")
            for name in wanted:
                columns[name] += batch.column(name).to_pylist()
    except FormatError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise FormatError(f"{path} is not readable Parquet ({str(error)[:120]}). Copy or export it again.") from error
    return columns, note


def _refuse_large(metadata: Any, path: Path) -> None:
    rows, columns = int(metadata.num_rows), int(metadata.num_columns)
    claimed = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
    if not 0 <= rows <= MAX_ROWS or columns > MAX_COLUMNS or not 0 <= claimed <= _shared.MAX_FILE_BYTES:
        raise FormatError(
            f"{path} claims {rows:,} rows, {columns:,} columns and {claimed:,} bytes; the most that is read are "
            f"{MAX_ROWS:,}, {MAX_COLUMNS:,} and {_shared.MAX_FILE_BYTES:,}. Write fewer tasks at a time."
        )


def _is_plain(kind: Any, depth: int = 0) -> bool:
    """Text, numbers, booleans, or lists of such, at most two deep."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return depth < 2 and _is_plain(kind.value_type, depth + 1)
    plain = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    dictionary = types.is_dictionary(kind) and types.is_string(kind.value_type)  # what pandas makes of categories
    return dictionary or any(is_kind(kind) for is_kind in plain)


def rows_of(columns: dict[str, list[Any]], *, flat: bool) -> Iterator[Document]:
    """Rows as dictionaries; those of a table with a row an annotation take the form of the others."""
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        yield _as_image(row) if flat else row


def _as_image(row: Document) -> Document:
    box = [row.get(key) for key in BOX]
    points = row.get("points") if isinstance(row.get("points"), list) else box
    shape = row.get("shape_types") or row.get("shape_type") or "rectangle"
    image = {key: row.get(key) for key in ("img_path", "task_name", "occluded", "source", "more", "frame_more")}
    lists = {key: [image.pop(key)] for key in ("occluded", "source", "more")}
    drawn = row.get("object_class") is not None
    lists |= {"bboxes": [box if None not in box else points], "labels": [row.get("object_class")]}
    lists |= {"shape_types": [shape], "points": [points]}
    width, height = row.get("img_width") or row.get("width"), row.get("img_height") or row.get("height")
    return {**image, "img_width": width, "img_height": height, **(lists if drawn else {})}
