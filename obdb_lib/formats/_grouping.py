"""Which images form a task, for formats that know images only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

from obdb_lib.naming import parse_recording

Key = TypeVar("Key", int, str, int | str)

FRAMES_PER_RUN = 50
"""Frames a task gets when nothing says where they come from; more make fewer, longer tasks."""
GENERIC_STEMS = re.compile(r"^(_?annotations(\.coco)?|instances_\w+|coco|labels?|default)$", re.IGNORECASE)


def task_of_recording(img_path: str) -> str:
    """Upstream's task name of the video that a frame's path names, or ""."""
    recording = parse_recording(img_path)
    return f"FieldData {recording.session} {recording.camera} {recording.video}" if recording.video else ""


def dataset_name(path: Path) -> str:
    """The file's stem, or its folder's name when the stem is one that every export has."""
    stem = path.name.removesuffix(".gz").removesuffix(".json")
    folder = path.resolve().parent
    if folder.name.lower() == "annotations":
        folder = folder.parent
    return folder.name if GENERIC_STEMS.match(stem) and folder.name else stem


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``frame2`` before ``frame10``."""
    pieces = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return tuple(
        (len(digits.lstrip("0")), 0, digits.lstrip("0")) if digits else (0, 1, text) for digits, text in pieces
    )


def group_by_task(images: Mapping[Key, tuple[str, str]], dataset: str) -> dict[str, list[Key]]:
    """Image keys of each task, from (file name, task name or "") by key.

    Images with a task name keep the order given. The others are put in natural order of their names and grouped by
    upstream's path rule, else by folder; when one folder holds them all, in runs of ``FRAMES_PER_RUN`` called
    ``<dataset>_01``, ``<dataset>_02``, ...
    """
    groups: dict[str, list[Key]] = {}
    for key, (_, task) in images.items():
        if task:
            groups.setdefault(task, []).append(key)
    rest: list[Key] = []
    nameless = [key for key, (_, task) in images.items() if not task]
    for key in sorted(nameless, key=lambda one: natural_order(images[one][0])):
        task = task_of_recording(images[key][0])
        if task:
            groups.setdefault(task, []).append(key)
        else:
            rest.append(key)
    folders = {key: str(PurePosixPath(images[key][0]).parent) for key in rest}
    single = len(set(folders.values())) == 1
    digits = max(2, len(str(len(rest) // FRAMES_PER_RUN + 1)))
    for number, key in enumerate(rest):
        run = f"{dataset}_{number // FRAMES_PER_RUN + 1:0{digits}d}"
        folder = dataset if folders[key] == "." else folders[key]
        groups.setdefault(run if single else folder, []).append(key)
    return groups
