"""Lists of frames: upstream's ``.npy``, a path a line, a CSV with columns img_path and part, JSON with a list a part.

A list is names as somebody wrote them; ``given`` finds the frames that they mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._table_pickle import load_objects

CSV_COLUMNS = ("img_path", "part")
NPY_MAGIC = b"\x93NUMPY"


def read_list(path: Path) -> list[str]:
    """Names of one list: ``.npy`` (of text or of objects, nothing in it is run) or text, one name a line.

    Empty lines and lines that begin with # are skipped.

    Raises:
        FormatError: it cannot be read, is empty or holds something other than names.
        PickleRefusedError: an array of objects asks for anything other than plain text.
    """
    path = Path(path)
    data = _shared.read_bytes(path)
    if data.startswith(NPY_MAGIC):
        return _names(_npy_values(data, path), path)
    lines = [line.strip() for line in _shared.decode_text(data, path).splitlines()]
    return _names([line for line in lines if line and not line.startswith("#")], path)


def read_parts(path: Path) -> dict[str, list[str]]:
    """Lists of several parts in one file: CSV with columns img_path and part, or JSON ``{"train": [...], ...}``.

    The names of the parts are as written.

    Raises:
        FormatError: it cannot be read, or is neither.
    """
    path = Path(path)
    text = _shared.decode_text(_shared.read_bytes(path), path)
    if text.lstrip().startswith("{"):
        found = _shared.parse_json(text, path)
        lists = {str(part): names for part, names in found.items() if isinstance(names, list)}
        if not lists:
            raise FormatError(f'{path} has no list of frames; wanted JSON such as {{"train": [...], "val": [...]}}')
        return {part: _names(names, path) for part, names in lists.items()}
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    there = [name.strip() for name in rows.fieldnames or []]
    if not set(CSV_COLUMNS) <= set(there):
        raise FormatError(
            f"{path} needs a first line with the columns {', '.join(CSV_COLUMNS)}; it begins with "
            f"{', '.join(there)[:80]!r}. For one list a part, pass {{'train': path, 'val': path}} instead."
        )
    rows.fieldnames = there
    parts: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 2):
        name, part = (str(row[column] or "").strip() for column in CSV_COLUMNS)
        if not name or not part:
            raise FormatError(f"{path}, line {number}: needs an img_path and a part; got {name!r} and {part!r}")
        parts.setdefault(part, []).append(name)
    if not parts:
        raise FormatError(f"{path} lists no frame below its first line. Export it again.")
    return parts


def _npy_values(data: bytes, path: Path) -> list[Any]:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        _shape, _order, dtype = header(file)
        if dtype.hasobject:
            return load_objects(data[file.tell() :], path)
        return list(np.load(io.BytesIO(data), allow_pickle=False).ravel().tolist())
    except (ValueError, EOFError, KeyError, MemoryError) as error:
        raise FormatError(f"{path} is not a whole .npy file ({str(error)[:120]}). Copy or export it again.") from error


def _names(values: Sequence[Any], path: Path) -> list[str]:
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise FormatError(f"{path} should list names of frames; entry {number} is {str(value)[:60]!r}")
    if not values:
        raise FormatError(f"{path} lists no frame at all. Export it again.")
    return list(values)
