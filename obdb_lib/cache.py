"""Files that appear whole or not at all, and artefacts with a JSON note beside them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from obdb_lib import __version__, paths
from obdb_lib.errors import CacheError

logger = logging.getLogger(__name__)


@contextmanager
def atomic_writer(path: Path | str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Write to a temporary name beside ``path`` and put it in place only when the block ended well.

    Raises:
        CacheError: the disk is full or the folder cannot be written; the old file, if any, is untouched.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # mkstemp makes files for their owner alone; others of the group may read results, as the umask says.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise CacheError(
            f"cannot write {path}: {error.strerror or error}. {_way_out(path)}, then run this step again; nothing was "
            "left half-written."
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _way_out(path: Path) -> str:
    if path.is_relative_to(paths.data_cache()):
        return "Free some space or set OBDB_DATA_CACHE to a folder on another disk"
    return "Free some space or name another folder"


def require_writable(folder: Path | str, named_by: str) -> None:
    """Make ``folder`` and see that it takes a file, so that long work does not end at its last step.

    Args:
        named_by: the setting or option that names the folder, for the message.

    Raises:
        CacheError: it cannot be made or written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CacheError(
            f"{named_by}: {folder} cannot be written ({error.strerror or error}); name a folder that can"
        ) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_json(path: Path | str, value: object) -> None:
    """Write ``value`` as readable JSON, atomically. Numpy scalars and arrays, dates and paths are understood."""
    with atomic_writer(path, "w") as file:
        json.dump(value, file, indent=1, default=_to_plain, ensure_ascii=False)
        file.write("\n")


def read_json(path: Path | str) -> Any:
    """Read JSON; a missing, unreadable or malformed file is a CacheError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CacheError(f"{path} does not exist") from error
    except OSError as error:
        raise CacheError(
            f"{path} cannot be read ({error.strerror or error}); check what it is and who may read it"
        ) from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number too long, nested too deep
        raise CacheError(f"{path} is not valid JSON ({error}); delete it and run the step that writes it") from error


def _to_plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(cast("tuple[object, ...]", value))
    return str(value)


def content_hash(*parts: object, length: int = 16) -> str:
    """Hex digest of JSON-able parts (bytes are taken as they are): the same content gives the same name."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=_to_plain).encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:length]


def artefact_arrays(
    kind: str, inputs: dict[str, object], make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays of ``data_cache/<kind>/<hash of inputs>.npz``, made by ``make`` when they are not there.

    The JSON note beside the file tells inputs, code version, date and seconds taken. A file that cannot be read back is
    made again.
    """
    path = paths.data_cache() / kind / f"{content_hash(inputs)}.npz"
    if path.exists():
        stored = load_arrays(path)
        if stored is not None:
            return stored
    started = time.monotonic()
    arrays = make()
    save_arrays(path, arrays)
    write_note(path, inputs, seconds=time.monotonic() - started)
    return arrays


def load_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Arrays of an .npz file; None, with a warning, when it is damaged (cut off, empty, not an archive)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read back (%s); it is made again", path, error)
        return None


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as .npz, atomically and without pickle."""
    with atomic_writer(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def write_note(path: Path, inputs: dict[str, object], *, seconds: float) -> None:
    """Write the JSON note of an artefact beside it: ``<name>.json``."""
    write_json(
        path.with_suffix(".json"),
        {
            "artefact": path.name,
            "inputs": inputs,
            "code_version": __version__,
            "created": datetime.now(UTC).isoformat(),
            "seconds": round(seconds, 2),
        },
    )
