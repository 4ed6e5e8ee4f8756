"""What lies in a YOLO data set: its classes, its images with their sizes, and the label file of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._file_names import ENDINGS, label_path
from obdb_lib.formats._frames_table import FRAMES_TABLE, FrameRow, is_ours, read_table
from obdb_lib.records import Problem

YAML_FILES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
CLASS_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
PART_KEYS = ("train", "val", "valid", "test")
MAX_YAML_BYTES = 1 << 18
"""Largest data.yaml that is read (256 KiB; 80 classes take 2 KB): YAML is slow to read."""
MAX_YAML_LEVELS = 20
MAX_CLASSES = 100_000
MAX_IMAGES = 1_000_000
"""Files of a data set that are looked at; a larger one is read part by part."""
NOT_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt", "valid.txt", "obj.names", "readme.txt"}


@dataclass(frozen=True)
class YoloImage:
    """One frame: its name, size in pixels, task ("" when nothing says it) and label file (None: not annotated)."""

    img_path: str
    width: int
    height: int
    task_name: str
    labels: Path | None


def yaml_of(folder: Path) -> Path | None:
    """The folder's data.yaml (or another usual name), None when it has none."""
    return next((folder / name for name in YAML_FILES if (folder / name).is_file()), None)


def looks_like_yolo(folder: Path) -> bool:
    """Whether the folder has a list of classes as YOLO tools write it."""
    return yaml_of(folder) is not None or any((folder / name).is_file() for name in CLASS_FILES)


def _settings(path: Path) -> dict[str, Any]:
    text = _shared.decode_text(_shared.read_bytes(path, MAX_YAML_BYTES), path)
    try:
        _refuse_costly(text)
        found = yaml.safe_load(text)  # in Python: libyaml's loader could overflow the stack on deep nesting
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError) as error:
        raise FormatError(f"{path} is not readable YAML ({str(error)[:160]}). Write it again.") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} should hold 'names' and 'train'; it holds a {type(found).__name__}.")
    return found


def _refuse_costly(text: str) -> None:
    """Raise ValueError for YAML that grows when it is read, or that takes PyYAML a time without end."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_LEVELS:
            raise ValueError(f"nested more than {MAX_YAML_LEVELS} levels deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("an alias, which no data set needs, could stand for a thousand million values")


def class_names(path: Path, folder: Path) -> list[str]:
    """Names of the classes by number.

    Raises:
        FormatError: no list of classes, or one with gaps or without names.
    """
    source = path if path.is_file() and path.suffix.lower() in (".yaml", ".yml") else yaml_of(folder)
    if source is not None:
        names: Any = _settings(source).get("names")
        if isinstance(names, dict):
            keys = [_shared.whole(key) for key in names]
            if sorted(key for key in keys if key is not None) != list(range(len(names))):
                raise FormatError(f"{source}: the numbers of 'names' should be 0, 1, 2, ... without a gap.")
            names = [name for _, name in sorted(zip(keys, names.values(), strict=True), key=lambda pair: pair[0] or 0)]
    else:
        source = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
        if source is None:
            raise FormatError(f"{folder} has no {', '.join((YAML_FILES[0], *CLASS_FILES[:2]))}: which class is 0?")
        names = _shared.decode_text(_shared.read_bytes(source, MAX_YAML_BYTES), source).split("\n")
        names = [name.rstrip("\r") for name in names]
        while names and not names[-1].strip():
            names.pop()
    whole = isinstance(names, list) and 0 < len(names) <= MAX_CLASSES
    plain = [str(name) for name in names if _is_name(name)] if whole else []
    if not whole or len(plain) != len(names):
        raise FormatError(f"{source}: 'names' should list the name of every class, as text. Write it again.")
    return plain


def _is_name(name: object) -> bool:
    return isinstance(name, (str, int)) and not isinstance(name, bool) and str(name) != ""


def yaml_text(names: Sequence[str], parts: Sequence[str]) -> str:
    """data.yaml: paths are relative to its own folder, wherever that is moved."""
    content = {**{part: f"{part}.txt" for part in parts}, "nc": len(names), "names": dict(enumerate(names))}
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000))


def find_images(path: Path, folder: Path, image_root: Path | None, problems: list[Problem]) -> list[YoloImage]:
    """Frames of the data set: those of frames.csv, else those that data.yaml lists, else all below the folder."""
    table = folder / FRAMES_TABLE
    if table.is_file() and not is_ours(table):
        problems.append(Problem(str(table), "not used: its columns are not those of this lab's table of frames"))
    elif table.is_file():
        rows = [(row, _size(row, folder, image_root)) for row in read_table(table)]
        return [
            YoloImage(row.img_path, *size, row.task_name, _labels_of(folder, f"images/{row.file}"))
            for row, size in rows
        ]
    files = list(dict.fromkeys(_listed(path, folder, problems)))
    if not files:
        files = sorted(_below(folder, problems))
    images = []
    for file in files:
        labels = _labels_of(folder, file)
        size = _shared.image_size(file, folder) or (image_root and _shared.image_size(file, image_root))
        if size:
            images.append(YoloImage(file, *size, "", labels))
        elif ENDINGS.search(file) or labels is not None:
            problems.append(
                Problem(file, "set aside: its image is not there or cannot be read, and YOLO needs its size")
            )
    return images


def _size(row: FrameRow, folder: Path, image_root: Path | None) -> tuple[int, int]:
    """As the table tells it; where it does not, that of the image, else (0, 0)."""
    if row.width and row.height:
        return row.width, row.height
    found = _shared.image_size(f"images/{row.file}", folder)
    return found or (_shared.image_size(row.img_path, image_root) if image_root else None) or (0, 0)


def _labels_of(folder: Path, image: str) -> Path | None:
    """The label file of an image: ``images`` read as ``labels`` (its last one), else beside the image."""
    parts = list(PurePosixPath(label_path(image)).parts)
    beside = folder.joinpath(*parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[:-1][::-1].index("images")] = "labels"
    for candidate in (folder.joinpath(*parts), beside):
        file = candidate.with_name(f"{candidate.name}.txt")
        try:
            if _shared.leads_below(image) and file.is_file():
                return file
        except (OSError, ValueError):
            continue
    return None


def _listed(path: Path, folder: Path, problems: list[Problem]) -> Iterator[str]:
    """Images of the parts of data.yaml, relative to the folder; nothing outside of it is looked at."""
    source = path if path.is_file() else yaml_of(folder)
    settings = _settings(source) if source is not None and source.suffix.lower() in (".yaml", ".yml") else {}
    below = settings.get("path")
    base = str(below) if isinstance(below, str) and not Path(below).is_absolute() else ""
    for part in PART_KEYS:
        values = settings.get(part)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str) and value:
                target = _within(folder, f"{base}/{value}") or _within(folder, value)
                if target is None:
                    problems.append(Problem(str(source), f"{part}: {value[:80]!r} is not in the data set's folder"))
                elif target.is_dir():
                    yield from sorted(_images_below(target, folder))
                else:
                    yield from _lines(target, folder)


def _within(folder: Path, name: str) -> Path | None:
    """What ``name`` means in the folder, if it is there; the ``..`` that some exporters write are taken off."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    try:
        target = folder.joinpath(*parts)
        there = "\0" not in name and target.exists()
    except (OSError, ValueError):
        return None
    return target if there else None


def _lines(path: Path, folder: Path) -> Iterator[str]:
    text = _shared.decode_text(_shared.read_bytes(path, may_be_empty=True), path)
    for line in text.splitlines():
        name = line.strip().replace("\\", "/").removeprefix("./")
        if name and "\0" not in name:
            yield name.removeprefix(f"{folder.as_posix()}/")


def _images_below(target: Path, folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(target):
        for name in names:
            if ENDINGS.search(name):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _below(folder: Path, problems: list[Problem]) -> Iterator[str]:
    """Images below the folder, and names of images that only their label files tell of."""
    seen: set[str] = set()
    labels: list[str] = []
    for number, name in enumerate(_all_files(folder)):
        if number >= MAX_IMAGES:
            problems.append(Problem(str(folder), f"holds more than {MAX_IMAGES:,} files; the rest is not looked at"))
            break
        if ENDINGS.search(name):
            seen.add(label_path(name))
            yield name
        elif name.lower().endswith(".txt") and PurePosixPath(name).name.lower() not in NOT_LABELS:
            labels.append(label_path(name))
    for label in labels:
        parts = ["images" if part == "labels" else part for part in PurePosixPath(label).parts]
        if label not in seen and "/".join(parts) not in seen and "labels" in PurePosixPath(label).parts:
            problems.append(Problem(f"{label}.txt", "set aside: its image is not there, and YOLO needs its size"))


def _all_files(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield (Path(place) / name).relative_to(folder).as_posix()
