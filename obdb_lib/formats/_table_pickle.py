"""A pickled pandas table (or array of objects) as plain Python values, by an unpickler that knows inert holders only.

Guards, in order: every opcode is walked over before anything is built (a cut-off file, a memo index or a byte count
that the file cannot fill); ``find_class`` answers only names of ``ALLOWED`` and gives holders that keep their
arguments; arrays are made here, from plain dtypes, with a shape that fits the data.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from obdb_lib.errors import FormatError, PickleRefusedError

Columns = dict[Any, list[Any]]
PLAIN_DTYPES = ("O", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "M8", "m8")
MEMO_OPCODES = ("PUT", "BINPUT", "LONG_BINPUT")


class _Holder:
    """Keeps what the pickle would have called something with."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Holder):
    """pandas.DataFrame."""


class _Manager(_Holder):
    """pandas' BlockManager: (blocks, axes), or the older state that names both."""


class _Block(_Holder):
    """pandas._libs.internals._unpickle_block(values, placement, ndim)."""


class _NewIndex(_Holder):
    """pandas' _new_Index(class, fields)."""


class _Name(_Holder):
    """A class that is only passed along (ndarray, Index, RangeIndex)."""


class _Dtype(_Holder):
    """numpy.dtype(code, align, copy), with the byte order in its state."""

    def numpy_dtype(self) -> np.dtype[Any]:
        code = self.arguments[0] if self.arguments else None
        plain = code.replace("O8", "O").replace("O4", "O") if isinstance(code, str) else ""
        if plain not in PLAIN_DTYPES:
            raise ValueError(f"a column of type {str(code)[:20]!r}; plain numbers, dates and objects are read")
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "="
        unit = "[ns]" if plain in ("M8", "m8") else ""
        return np.dtype((order if order in ("<", ">") and plain != "O" else "") + plain + unit)


class _Encoded(_Holder):
    """_codecs.encode(text, "latin1"): how protocols 0 to 2 write bytes."""

    def as_bytes(self) -> bytes:
        return str(self.arguments[0]).encode("latin1")


class _Array(_Holder):
    """numpy's _reconstruct(ndarray, (0,), b"b"), filled by its state (version, shape, dtype, Fortran order, data)."""

    def values(self) -> np.ndarray[Any, Any]:
        _version, shape, dtype, fortran, data = self.state
        return _filled(data, dtype, shape, "F" if fortran else "C")


class _FromBuffer(_Array):
    """numpy's _frombuffer(buffer, dtype, shape, order)."""

    def values(self) -> np.ndarray[Any, Any]:
        data, dtype, shape, order = self.arguments
        return _filled(data, dtype, shape, order)


class _Scalar(_Holder):
    """numpy's scalar(dtype, bytes)."""

    def value(self) -> Any:
        dtype, data = self.arguments
        return _filled(data, dtype, (1,), "C").item()


def _filled(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """An array of plain values; its shape must fit the data, so a small file cannot claim a large array."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not all(isinstance(n, int) for n in shape):
        raise ValueError("an array without a plain dtype and shape")
    kind = dtype.numpy_dtype()
    if isinstance(data, _Encoded):
        data = data.as_bytes()
    if kind == np.dtype(object):
        if not isinstance(data, list):
            raise ValueError("an array of objects without its list")
        flat, order = np.empty(len(data), dtype=object), "C"  # numpy pickles objects in C order, whatever the layout
        for place, value in enumerate(data):
            flat[place] = value
    else:
        flat = np.frombuffer(data, dtype=kind)
    if math.prod(shape) != flat.size or any(n < 0 for n in shape):
        raise ValueError(f"an array of {flat.size} values that claims the shape {shape[:4]}")
    return flat.reshape(shape, order="F" if order == "F" else "C")


_NUMPY = ("numpy.core", "numpy._core")
ALLOWED: dict[tuple[str, str], type] = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas._libs.internals", "_unpickle_block"): _Block,
    ("pandas.core.indexes.base", "_new_Index"): _NewIndex,
    ("pandas.core.indexes.base", "Index"): _Name,
    ("pandas", "Index"): _Name,
    ("pandas.core.indexes.range", "RangeIndex"): _Name,
    ("pandas", "RangeIndex"): _Name,
    ("pandas.core.indexes.numeric", "Int64Index"): _Name,
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Dtype,
    ("builtins", "slice"): slice,
    ("__builtin__", "slice"): slice,
    ("_codecs", "encode"): _Encoded,
    **{(f"{core}.multiarray", "_reconstruct"): _Array for core in _NUMPY},
    **{(f"{core}.multiarray", "scalar"): _Scalar for core in _NUMPY},
    **{(f"{core}.numeric", "_frombuffer"): _FromBuffer for core in _NUMPY},
}
"""What a name of the pickle stands for. ``slice`` is the only real one; it holds three values and does nothing."""


class _TableUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(data))
        self.path = path

    def find_class(self, module: str, name: str, /) -> type:
        if (module, name) not in ALLOWED:
            asked = f"{module}.{name}"[:100]
            raise PickleRefusedError(
                f"{self.path} was refused: it asks for {asked}, which a plain table does not need and which could run "
                "code. Nothing of it was run. If you trust its maker, let them write the table again as "
                "df.astype(object).set_axis(df.columns.astype(object), axis=1).to_pickle(...), or as mongoexport JSON."
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise PickleRefusedError(
            f"{self.path} was refused: it refers to an object outside the file, which a plain table does not need. "
            "Nothing of it was run. Let its maker export the table again."
        )


def load_table(data: bytes, path: Path) -> Columns:
    """Columns of a pickled DataFrame as lists of plain Python values (arrays become lists, numpy scalars numbers).

    Raises:
        PickleRefusedError: the pickle names anything that is not in ``ALLOWED``; nothing was run.
        FormatError: it is damaged, or not a table.
    """
    _walk(data, path)
    try:
        frame = _TableUnpickler(data, path).load()
        if not isinstance(frame, _Frame):
            raise ValueError(f"a {type(frame).__name__} instead of a table")
        return _columns(frame)
    except PickleRefusedError:
        raise
    except Exception as error:  # damaged bytecode over inert holders can raise anything, and none of it is ours
        reason = str(error)[:200] or type(error).__name__
        raise FormatError(f"{path} is not a readable pickled table ({reason}). Export it again.") from error


def load_objects(data: bytes, path: Path) -> list[Any]:
    """Values of a pickled numpy array of objects, as ``np.save`` writes one after its header; arrays become lists.

    Raises:
        PickleRefusedError: the pickle names anything that is not in ``ALLOWED``; nothing was run.
        FormatError: it is damaged, or not an array.
    """
    _walk(data, path)
    try:
        return [_plain(value) for value in _array(_TableUnpickler(data, path).load()).ravel().tolist()]
    except PickleRefusedError:
        raise
    except Exception as error:  # as in load_table
        reason = str(error)[:200] or type(error).__name__
        raise FormatError(f"{path} is not a readable array of objects ({reason}). Save it again as text.") from error


def _walk(data: bytes, path: Path) -> None:
    """Go over the opcodes without building anything; a FormatError names the byte where they stop making sense."""
    place = 0
    try:
        for opcode, argument, position in pickletools.genops(data):
            place = position or 0
            if opcode.name in MEMO_OPCODES and not 0 <= int(argument or 0) <= len(data):
                raise ValueError(f"memo index {argument} in a file of {len(data)} bytes")
    except Exception as error:  # pickletools raises whatever the damaged argument gives
        raise FormatError(
            f"{path} is not a whole pickle: it makes no sense after byte {place:,} ({str(error)[:120]}). "
            "Was the copy cut off? Copy or export it again."
        ) from error


def _columns(frame: _Frame) -> Columns:
    state = frame.state if isinstance(frame.state, dict) else {}
    manager = state.get("_mgr", state.get("_data"))
    if not isinstance(manager, _Manager):
        raise ValueError("a table without its blocks")
    blocks, axes = _blocks_and_axes(manager)
    names = _index_values(axes[0])
    columns: Columns = {}
    for values, placement in blocks:
        places = range(*placement.indices(len(names))) if isinstance(placement, slice) else _array(placement)
        rows = _array(values)
        if rows.ndim != 2 or len(places) != len(rows):
            raise ValueError("a block that does not fit the table's columns")
        for place, row in zip(places, rows, strict=True):
            columns[names[int(place)]] = [_plain(value) for value in row.tolist()]
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("columns of different lengths")
    return {name: columns[name] for name in names if name in columns}


def _blocks_and_axes(manager: _Manager) -> tuple[list[tuple[Any, Any]], Any]:
    if manager.arguments:
        blocks, axes = manager.arguments[:2]
        return [block.arguments[:2] for block in blocks], axes
    older = manager.state[3]["0.14.1"]  # what pandas before 1.3 wrote, under the version that brought it
    return [(block["values"], block["mgr_locs"]) for block in older["blocks"]], older["axes"]


def _index_values(index: Any) -> list[Any]:
    if not isinstance(index, _NewIndex):
        raise ValueError("column names that are no plain index")
    fields = index.arguments[1]
    return [_plain(value) for value in _array(fields["data"]).tolist()]


def _array(value: Any) -> np.ndarray[Any, Any]:
    if not isinstance(value, _Array):
        raise ValueError(f"a {type(value).__name__} where a plain array belongs")
    return value.values()


def _plain(value: Any, depth: int = 0) -> Any:
    """Holders inside a cell as plain Python; lists in lists in lists and deeper are not upstream's."""
    if isinstance(value, _Array):
        return value.values().tolist()
    if isinstance(value, _Scalar):
        return value.value()
    if isinstance(value, (list, tuple)) and depth < 2:
        return [_plain(item, depth + 1) for item in value]
    return value
