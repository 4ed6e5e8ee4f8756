"""Names of frames as files below a folder: they stay inside it on any system, and no two get in each other's way.

A frame's name comes from whoever wrote the annotations: it may be absolute, climb with ``..``, use backslashes or hold
characters that a file system refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from obdb_lib.cache import content_hash

NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')
MOST_BYTES = 180
"""Longest part of a path in bytes of UTF-8; file systems stop at 255, and temporary names are longer."""
ENDINGS = re.compile(r"\.(png|jpe?g|tiff?|bmp|webp)$", re.IGNORECASE)
RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def inside(name: str, *, without: str = "") -> str:
    """``name`` as a relative path with ``/`` that leads nowhere but below the folder it is put into.

    Args:
        without: folders of this name are left out (YOLO finds labels by the last ``images`` of a path).
    """
    parts = [NOT_IN_FILE_NAMES.sub("_", part).rstrip(". ") for part in re.split(r"[/\\]", name)]
    kept = [part for part in parts if part and part.lower() != without]
    kept = [f"_{part}" if RESERVED.match(part) or part.startswith(".") else part for part in kept]
    short = [part if len(part.encode()) <= MOST_BYTES else _shortened(part) for part in kept]
    return "/".join(short) or f"frame_{content_hash(name.encode('utf-8', 'replace'))}"


def _shortened(part: str) -> str:
    ending = ENDINGS.search(part)
    return content_hash(part.encode()) + (ending.group() if ending else "")


def label_path(file: str) -> str:
    """``file`` without its ending: what a label file beside it is called."""
    return str(PurePosixPath(file).with_suffix(""))


def unique_files(names: Iterable[str], *, without: str = "") -> dict[str, str]:
    """A file for each distinct name, in the order given; where two would share a label file or a folder's name, the
    later one is called after its hash."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    folders: set[str] = set()
    for name in dict.fromkeys(names):
        file = inside(name, without=without)
        label = label_path(file).lower()
        above = {str(parent) for parent in PurePosixPath(label).parents} - {"."}
        blocked = {label, f"{label}.txt", f"{label}.xml", file.lower()}
        if label in taken or above & taken or blocked & folders:
            file = f"renamed/{content_hash(name.encode('utf-8', 'replace'))}{PurePosixPath(file).suffix}"
            label = label_path(file).lower()
            blocked, above = {label, file.lower()}, {"renamed"}
        files[name] = file
        taken |= {label, f"{label}.txt", f"{label}.xml", file.lower()}
        folders |= above
    return files
