"""What the readers of all formats need: bytes of a file that may be foreign, checked numbers, dates, image sizes."""

from __future__ import annotations

import json
import math
import os
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from obdb_lib.errors import FormatError
from obdb_lib.formats._storable import storable
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.records import Problem, ReadResult, TaskRecord, check_task

MAX_FILE_BYTES = 1 << 30
"""Largest file that is read, counted after gunzip (1 GiB; 4K annotations of 12,000 frames are 0.03 GiB). It stops a
small archive that would fill the memory; split a larger export by task."""
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20
MOST_NUMBER_CHARACTERS = 400
"""Longest text that is read as a number; a float has at most 324 digits, and longer ones are there to waste time."""
UPSTREAM_DATE = "%Y-%m-%dT%H:%M:%S.%fZ"


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES, *, may_be_empty: bool = False) -> bytes:
    """The whole file, gunzipped when it begins like gzip (whatever its name is).

    Raises:
        FormatError: the file cannot be read, is empty (unless it may be), cut off inside its gzip stream, or larger
            than ``limit`` bytes.
    """
    try:
        if path.exists() and not path.is_file():
            raise FormatError(f"{path} is {'a folder' if path.is_dir() else 'no plain file'}. Give the file itself.")
        with path.open("rb") as file:
            # Never the limit at once: read() takes the memory that it is asked for, before it looks what is there.
            data = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"{path} cannot be read: {reason}. Check the path and its permissions.") from error
    if data.startswith(GZIP_MAGIC) and len(data) <= limit:
        data = _gunzip(data, path, limit)
    if len(data) > limit:
        raise FormatError(
            f"{path} holds more than {limit:,} bytes, the most that is read. Export fewer tasks at a time."
        )
    if not may_be_empty and not data.strip():
        raise FormatError(f"{path} is empty. Export it again.")
    return data


def _gunzip(data: bytes, path: Path, limit: int) -> bytes:
    """Unpack member after member, never more than ``limit`` + 1 bytes."""
    parts: list[bytes] = []
    size, rest = 0, data
    while rest and size <= limit:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            while not member.eof and size <= limit:
                part = member.decompress(rest, CHUNK_BYTES)
                rest = member.unconsumed_tail
                if not part and not rest and not member.eof:
                    raise FormatError(
                        f"{path} is cut off: its gzip stream ends after {len(data):,} bytes without an end mark. "
                        "Copy or export it again."
                    )
                parts.append(part)
                size += len(part)
        except zlib.error as error:
            place = len(data) - len(rest)
            raise FormatError(
                f"{path} is damaged: its gzip stream is wrong after byte {place:,} ({error}). Copy or export it again."
            ) from error
        rest = member.unused_data.lstrip(b"\0") if member.eof else rest
    return b"".join(parts)


def decode_text(data: bytes, path: Path) -> str:
    """UTF-8 text, with or without a byte order mark; anything else is a FormatError with the byte's place."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path} is not UTF-8 text: byte {error.start:,} is 0x{data[error.start]:02x}. Export it again as UTF-8."
        ) from error


def parse_json(text: str, path: Path) -> Any:
    """JSON of a whole file; a mistake is a FormatError with line and column."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}). "
            "Was the download cut off? Export it again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not usable JSON ({error}). Export it again.") from error


def finite(value: object) -> float | None:
    """``value`` as a float when it is a finite number (not a bool, not beyond a float), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def number_of(text: str) -> float | None:
    """A finite number written as text, else None."""
    try:
        return finite(float(text)) if len(text) <= MOST_NUMBER_CHARACTERS else None
    except ValueError:
        return None


def whole(value: object) -> int | None:
    """``value`` as an int when it is a whole number (``3`` or ``3.0``), else None."""
    number = finite(value)
    return int(number) if number is not None and number.is_integer() else None


def text_of(value: object) -> str:
    """``value`` when it is a string, else ""."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> dict[str, Any]:
    """``value`` when it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}


def leads_below(name: str) -> bool:
    """Whether a name from a file leads nowhere but below the folder it is put to (links that lie there are the
    user's own doing, and followed)."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def image_size(name: str, root: Path) -> tuple[int, int] | None:
    """(width, height) in pixels of an image below ``root``, upright as frames are loaded; None when it is not there."""
    try:
        path = root / name
        if not leads_below(name) or not path.is_file():
            return None
        return upright_size(path)
    except UNREADABLE:
        return None


def frame_size(width: object, height: object, name: str, root: Path) -> tuple[int, int] | None:
    """(width, height) in pixels as given when both are positive whole numbers, else from the image below ``root``."""
    wide, high = whole(width), whole(height)
    if wide is not None and high is not None and wide > 0 and high > 0:
        return wide, high
    return image_size(name, root)


def file_date(path: Path) -> str:
    """When the file was last changed, in upstream's notation: the same file gives the same date at every import."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime(UPSTREAM_DATE)


def iso_date(value: object, otherwise: str) -> str:
    """A date (datetime, or text in ISO notation) as upstream writes it; ``otherwise`` when it is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return otherwise
    if not isinstance(value, datetime):
        return otherwise
    try:
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).strftime(UPSTREAM_DATE)
    except (OverflowError, ValueError):
        return otherwise


def clean(result: ReadResult) -> ReadResult:
    """Every task checked by ``records.check_task`` and made fit for MongoDB, and one task a name: of two, the one
    updated last is kept."""
    problems = list(result.problems)
    newest: dict[str, TaskRecord] = {}
    for task in result.tasks:
        other = newest.get(task.name)
        if other is None:
            newest[task.name] = task
            continue
        kept, dropped = sorted((other, task), key=lambda one: str(one.task.get("updated_date")), reverse=True)
        described = [f"{one.task.get('updated_date')} ({len(one.annotations)} annotations)" for one in (kept, dropped)]
        newest[task.name] = kept
        problems.append(
            Problem(
                f"task {task.name!r}",
                f"occurs twice: kept the one updated {described[0]}, set aside the one updated {described[1]}; "
                "rename one in CVAT and export again if both are wanted",
            )
        )
    tasks = []
    for task in newest.values():
        checked, found = check_task(task)
        storable_, unfit = storable(checked)
        tasks += storable_
        problems += [*found, *unfit]
    return replace(result, tasks=tasks, problems=problems)
