"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from obdb_lib.errors import CacheError, FormatError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` to write into; it takes that name once the block ended well.

    Raises:
        FormatError: ``folder`` is a file, or holds something; nothing is ever overwritten.
        CacheError: it cannot be made.
    """
    folder = Path(folder)
    temporary: Path | None = None
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "holds files already" if folder.is_dir() else "is a file"
            raise FormatError(f"{folder} {what}; name a folder that does not exist yet (nothing is overwritten)")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        yield temporary
        temporary.chmod(0o777 & ~_umask_of(folder.parent))
        temporary.replace(folder)
        temporary = None
    except OSError as error:
        raise CacheError(f"cannot write {folder}: {error.strerror or error}. Name another folder.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def put(path: Path, content: str | bytes) -> None:
    """One file of a folder that is being made; what is half-written there is never seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def _umask_of(parent: Path) -> int:
    """What a folder made here the usual way would not allow (mkdtemp's is for its owner alone)."""
    probe = Path(tempfile.mkdtemp(dir=parent)) / "probe"
    try:
        probe.mkdir()
        return 0o777 & ~probe.stat().st_mode
    finally:
        shutil.rmtree(probe.parent, ignore_errors=True)
