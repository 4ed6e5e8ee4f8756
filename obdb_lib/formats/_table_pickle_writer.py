"""A plain table as a pickle that pandas of 2021 and of today read alike, and that ``_table_pickle`` reads, too.

``DataFrame.to_pickle`` names whatever inner parts the pandas at hand has (numpy 2's are unknown to numpy 1, string
columns of pandas 3 to pandas 1). So the program is written here, with the names and the shape that upstream's own files
have. Opcodes: Python's pickletools, protocol 4.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_NONE, _TRUE, _FALSE = b"N", b"\x88", b"\x89"
BLOCKS = {int: ("i8", "<"), float: ("f8", "<")}
"""numpy's code and byte order of a column whose values all are of that type; other columns hold objects."""
LARGEST_INT = 2**63 - 1


def table_pickle(columns: Mapping[str, Sequence[object]]) -> bytes:
    """The program that makes a DataFrame of equally long columns (text, numbers, booleans, None, lists of such)."""
    rows = len(next(iter(columns.values()), ()))
    blocks = [_block(values, place) for place, values in enumerate(columns.values())]
    names = _call(
        _name("pandas.core.indexes.base", "_new_Index"),
        _tuple(
            _name("pandas.core.indexes.base", "Index"),
            _dict({"data": _array("O8", "|", (len(columns),), _value(list(columns))), "name": _NONE}),
        ),
    )
    numbers = {"name": _NONE, "start": _value(0), "stop": _value(rows), "step": _value(1)}
    index = _call(
        _name("pandas.core.indexes.base", "_new_Index"),
        _tuple(_name("pandas.core.indexes.range", "RangeIndex"), _dict(numbers)),
    )
    manager = _call(
        _name("pandas.core.internals.managers", "BlockManager"), _tuple(_tuple(*blocks), _list([names, index]))
    )
    state = {"_mgr": manager, "_typ": _value("dataframe"), "_metadata": b"]", "attrs": b"}"}
    state["_flags"] = _dict({"allows_duplicate_labels": _TRUE})
    frame = _name("pandas.core.frame", "DataFrame") + b")\x81" + _dict(state) + b"b"  # NEWOBJ, then BUILD
    return b"\x80\x04" + frame + b"."


def _block(values: Sequence[object], place: int) -> bytes:
    kind = type(values[0]) if values and len({type(value) for value in values}) == 1 else object
    if kind in BLOCKS:
        code, order = BLOCKS[kind]
        data = struct.pack(f"<{len(values)}{'q' if kind is int else 'd'}", *values)
        array = _array(code, order, (1, len(values)), _bytes(data))
    else:
        array = _array("O8", "|", (1, len(values)), _value(list(values)))
    where = _call(_name("builtins", "slice"), _tuple(_value(place), _value(place + 1), _value(1)))
    return _call(_name("pandas._libs.internals", "_unpickle_block"), _tuple(array, where, _value(2)))


def _array(code: str, order: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """numpy's _reconstruct, filled by its state: version, shape, dtype, Fortran order, data."""
    empty = _call(
        _name("numpy.core.multiarray", "_reconstruct"), _tuple(_name("numpy", "ndarray"), _value((0,)), _bytes(b"b"))
    )
    dtype = _call(_name("numpy", "dtype"), _tuple(_value(code), _FALSE, _TRUE))
    flags = _value(63 if order == "|" else 0)
    its_state = _tuple(_value(3), _value(order), _NONE, _NONE, _NONE, _value(-1), _value(-1), flags)
    return empty + _tuple(_value(1), _value(shape), dtype + its_state + b"b", _FALSE, data) + b"b"


def _value(value: object) -> bytes:
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int):
        if not -LARGEST_INT <= value <= LARGEST_INT:
            raise ValueError(f"{str(value)[:30]} is too large a number")
        return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return _tuple(*map(_value, value))
    if isinstance(value, list):
        return _list(list(map(_value, value)))
    raise ValueError(f"a {type(value).__name__} has no place in a plain table")


def _bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _list(items: Sequence[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def _dict(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(_value(key) + item for key, item in items.items()) + b"u"


def _name(module: str, name: str) -> bytes:
    return _value(module) + _value(name) + b"\x93"


def _call(function: bytes, arguments: bytes) -> bytes:
    return function + arguments + b"R"
