"""File names on CVAT for frames, and the way back.

CVAT keeps only the base name of an uploaded file and breaks over two of the same, so the folders of a frame's path go
into the name: ``20200520/1L/GH02/frame7.png`` is uploaded as ``20200520__1L__GH02__frame7.png``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from obdb_lib import paths
from obdb_lib.cache import content_hash

SEPARATOR = "__"
REPLACED = ':"&'
MAX_NAME_BYTES = 200
"""Most file systems take 255 bytes; a longer name keeps its end behind a hash."""


def upload_name(img_path: str) -> str:
    """Base name under which a frame is uploaded; the same path gives the same name everywhere."""
    parts = [part for part in PurePosixPath(img_path.replace("\\", "/")).parts if part not in ("/", "//", ".", "..")]
    name = SEPARATOR.join(_plain(part) for part in parts)
    return name if len(name.encode()) <= MAX_NAME_BYTES else hashed_name(img_path)


def hashed_name(img_path: str) -> str:
    """A name that cannot be mistaken: hash of the whole path, then as much of its end as fits."""
    tail = PurePosixPath(img_path.replace("\\", "/")).name.encode()[-100:].decode(errors="ignore")
    return f"{content_hash(img_path)}{SEPARATOR}{_plain(tail)}"


def _plain(part: str) -> str:
    """Without what does not come through an upload as it was sent: quotes and control characters are written
    otherwise on the way, and the server reads ``&lt;`` as ``<``."""
    return "".join("_" if letter in REPLACED or not letter.isprintable() else letter for letter in part)


def paths_by_name(img_paths: Iterable[str]) -> dict[str, str]:
    """Path of each name that ``upload_name`` or ``hashed_name`` gives; names that two paths share are left out."""
    found: dict[str, str] = {}
    shared: set[str] = set()
    for img_path in img_paths:
        for name in {upload_name(img_path), hashed_name(img_path)}:
            if found.setdefault(name, img_path) != img_path:
                shared.add(name)
    return {name: img_path for name, img_path in found.items() if name not in shared}


def img_path_of(name: str, task_name: str) -> str:
    """Path of a frame by its name on CVAT: that name where it has folders, else with the task's name in front, because
    two tasks may well have different images of one name."""
    return name if "/" in name else f"{task_name.replace('/', '_')}/{name}"


def frame_names(name: str, task_name: str) -> set[str]:
    """All names that a push gives to an image which a task of this name has under ``name``."""
    img_paths = (name, img_path_of(name, task_name))
    return {name, *map(upload_name, img_paths), *map(hashed_name, img_paths)}


def last_part(name: str) -> str:
    """The image's own name, without folders of either writing: the weakest sign that two frames are one."""
    return name.rsplit("/", 1)[-1].rsplit(SEPARATOR, 1)[-1]


def named_files(files: Iterable[tuple[Path, str]], stack: ExitStack) -> list[Path]:
    """Files that really have the given names; others get a second name (or a copy) until ``stack`` is closed."""
    folder: Path | None = None
    named = []
    for path, name in files:
        file = path.resolve()  # the SDK resolves symbolic links, and the name behind is what it sends
        if file.name != name:
            if folder is None:
                made = tempfile.TemporaryDirectory(prefix="push-", dir=paths.data_cache())
                folder = Path(stack.enter_context(made))
            renamed = folder / name
            try:
                os.link(file, renamed)
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(file, renamed)
            file = renamed
        named.append(file)
    return named
