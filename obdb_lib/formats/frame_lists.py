"""Lists of frames: upstream's ``.npy``, a path a line, a CSV with columns img_path and part, JSON with a list a part.

A list is names as somebody wrote them; ``given`` finds the frames that they mean.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from obdb_lib.cache import atomic_writer
from obdb_lib.cells import guarded, unguarded
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
    try:
        return _csv_parts(csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True), path)
    except csv.Error as error:
        raise FormatError(f"{path} is not readable CSV ({error}). Export it again.") from error


def _csv_parts(rows: csv.DictReader[str], path: Path) -> dict[str, list[str]]:
    there = [name.strip() for name in rows.fieldnames or []]
    if not set(CSV_COLUMNS) <= set(there):
        raise FormatError(
            f"{path} needs a first line with the columns {', '.join(CSV_COLUMNS)}; it begins with "
            f"{', '.join(there)[:80]!r}. For one list a part, pass {{'train': path, 'val': path}} instead."
        )
    rows.fieldnames = there
    parts: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 2):
        name, part = (unguarded(str(row[column] or "")).strip() for column in CSV_COLUMNS)
        if not name or not part:
            got = f"{name[:80]!r} and {part[:80]!r}"
            raise FormatError(f"{path}, line {number}: needs an img_path and a part; got {got}")
        parts.setdefault(part, []).append(name)
    if not parts:
        raise FormatError(f"{path} lists no frame below its first line. Export it again.")
    return parts


def _npy_values(data: bytes, path: Path) -> list[Any]:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _order, dtype = header(file)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize != len(data) - file.tell():
            raise ValueError(f"it claims {math.prod(shape):,} values, and holds {len(data) - file.tell():,} bytes")
        if dtype.hasobject:
            return load_objects(data[file.tell() :], path)
        return list(np.load(io.BytesIO(data), allow_pickle=False).ravel().tolist())
    except FormatError:
        raise
    except Exception as error:  # numpy parses the header as Python, and passes on what its parsers raise
        raise FormatError(f"{path} is not a whole .npy file ({str(error)[:120]}). Copy or export it again.") from error


def _names(values: Sequence[Any], path: Path) -> list[str]:
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise FormatError(f"{path} should list names of frames; entry {number} is {str(value)[:60]!r}")
    if not values:
        raise FormatError(f"{path} lists no frame at all. Export it again.")
    return list(values)


def write_list(names: Sequence[str], path: Path) -> None:
    """Write one list: ``.npy`` as upstream's (text, which needs no pickle to read back), else text, one name a line.

    Raises:
        FormatError: a name that such a list cannot hold (empty, with a line's end, NUL, spaces around, # in front).
        CacheError: the file cannot be written; an older one is untouched.
    """
    path = Path(path)
    _names(names, path)
    is_array = path.suffix.lower() == ".npy"
    for name in names:
        odd = name.endswith("\0") if is_array else name != name.strip() or len(name.splitlines()) != 1 or name[0] == "#"
        if odd:
            raise FormatError(f"{path} was not written: {name!r} cannot stand in it. Write a .npy list, or rename it.")
    with atomic_writer(path, "wb" if is_array else "w") as file:
        if is_array:
            np.save(file, np.array(names, dtype=np.str_), allow_pickle=False)
        else:
            file.writelines(f"{name}\n" for name in names)


def write_parts(parts: Mapping[str, Sequence[str]], path: Path) -> None:
    """Write lists of several parts in one file: ``.json``, else CSV with columns img_path and part.

    No cell of the CSV begins like a formula (see ``cells.guarded``; ``read_parts`` takes the guard off).

    Raises:
        FormatError: a name that such a list cannot hold.
        CacheError: the file cannot be written; an older one is untouched.
    """
    path = Path(path)
    for names in parts.values():
        _names(names, path)
    if path.suffix.lower() == ".json":
        text = json.dumps({part: list(names) for part, names in parts.items()}, ensure_ascii=False, indent=1)
    else:
        memory = io.StringIO()
        writer = csv.writer(memory, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for part, names in parts.items():
            for name in names:
                if name != name.strip() or part != part.strip():
                    raise FormatError(f"{path} was not written: spaces around {name!r} would be lost. Write .json.")
                writer.writerow([guarded(name), guarded(part)])
        text = memory.getvalue()
    with atomic_writer(path, "w") as file:
        file.write(text)
