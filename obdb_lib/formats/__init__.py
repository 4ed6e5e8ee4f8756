"""Import and export: one file a format, and one door that finds out which format a file or folder is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from obdb_lib.errors import FormatError
from obdb_lib.formats import (
    _shared,
    coco,
    cvat_xml,
    frame_lists,
    mongoexport,
    parquet,
    upstream_pickle,
    voc,
    yolo,
)
from obdb_lib.formats._writing import FOLDERS, FORMATS, Written, write
from obdb_lib.formats._yolo_folder import looks_like_yolo
from obdb_lib.records import Problem, ReadResult

__all__ = [
    "FOLDERS",
    "FORMATS",
    "Written",
    "coco",
    "cvat_xml",
    "detect_and_read",
    "frame_lists",
    "mongoexport",
    "parquet",
    "upstream_pickle",
    "voc",
    "write",
    "yolo",
]

COCO_FILES = re.compile(
    r"(^|_)(annotations|instances)[^/]*\.json(\.gz)?$|\.coco\.json(\.gz)?$|^coco[^/]*\.json(\.gz)?$"
)
XML_FILES = re.compile(r"\.xml(\.gz)?$", re.IGNORECASE)
PICKLE_FILES = re.compile(r"\.(pkl|pickle)(\.gz)?$", re.IGNORECASE)
PARQUET_FILES = re.compile(r"\.(parquet|pq)$", re.IGNORECASE)
YAML_FILES = re.compile(r"\.ya?ml$", re.IGNORECASE)
JSON_FILES = re.compile(r"\.(json|jsonl|ndjson)(\.gz)?$", re.IGNORECASE)
IMAGE_FILES = re.compile(r"\.(png|jpe?g|tiff?|bmp|webp)$", re.IGNORECASE)
MOST_LOOKED_AT = 10_000
"""Files of a folder without annotations that are looked at for a better message."""
WANTED = (
    "tasks/meta/annotation_data*.json[l][.gz] (mongoexport), *.parquet, *.xml (CVAT for images 1.1, or Pascal VOC, "
    "also in a subfolder Annotations/), annotations.json or instances_*.json, also in a subfolder annotations/ (COCO), "
    "data.yaml or classes.txt with labels/ (YOLO), *.pkl (upstream's tables)"
)


@dataclass(frozen=True)
class _Found:
    """Files of one format in a folder, and how to read one of them."""

    format_name: str
    files: list[Path]
    read: Callable[[Path], ReadResult]
    all_files: bool


def detect_and_read(path: Path, *, image_root: Path | None = None) -> ReadResult:
    """Read a file or a folder in whichever supported format it is, and check every task.

    A folder with several formats is read once, by this preference: mongoexport, Parquet, CVAT XML, COCO, YOLO, VOC,
    pickle; a problem names what was left. All XML files of a folder are read, one task or project each (VOC: one image
    each); of the other formats one file.

    Args:
        path: file or folder.
        image_root: folder that image names are relative to, looked at only where a format leaves out image sizes.

    Returns:
        Tasks whose annotations all hold (see ``records.check_task``), and every problem met.

    Raises:
        FormatError: nothing fits, or the file is malformed.
        PickleRefusedError: a pickle asks for more than a plain table.
    """
    path = Path(path)
    if path.is_dir():
        return _shared.clean(_read_folder(path, image_root))
    if not path.exists():
        raise FormatError(f"{path} does not exist. Give a file or a folder with {WANTED}.")
    return _shared.clean(_read_file(path, image_root))


def _read_file(path: Path, image_root: Path | None) -> ReadResult:
    if mongoexport.FILE_NAME.match(path.name):
        return mongoexport.read(path)
    if XML_FILES.search(path.name):
        read = voc.read if voc.is_voc(path) else cvat_xml.read
        return read(path, image_root=image_root)
    if PARQUET_FILES.search(path.name):
        return parquet.read(path, image_root=image_root)
    if YAML_FILES.search(path.name):
        return yolo.read(path, image_root=image_root)
    if PICKLE_FILES.search(path.name):
        return upstream_pickle.read(path)
    if JSON_FILES.search(path.name):
        return coco.read(path, image_root=image_root)
    hint = "Unzip it first" if path.suffix.lower() == ".zip" else "Rename it after its format, or give its folder"
    raise FormatError(f"{path} is of no known format; looked for {WANTED}. {hint}.")


def _read_folder(folder: Path, image_root: Path | None) -> ReadResult:
    found = _look(folder, image_root or folder)
    if not found:
        images = sum(bool(IMAGE_FILES.search(path.name)) for path in islice(folder.rglob("*"), MOST_LOOKED_AT))
        if images:
            raise FormatError(
                f"{folder} holds {images} image{'s' * (images > 1)} but no annotations; looked for {WANTED}. "
                "Put the export beside the images, or name its file and give this folder as an image root."
            )
        raise FormatError(f"{folder} holds nothing to import; looked for {WANTED}.")
    chosen, *others = found
    result = ReadResult()
    for file in chosen.files if chosen.all_files else chosen.files[:1]:
        part = chosen.read(file)
        result.tasks.extend(part.tasks)
        result.problems.extend(part.problems)
    left = [] if chosen.all_files else [(chosen.format_name, file) for file in chosen.files[1:]]
    left += [(other.format_name, file) for other in others for file in other.files]
    for format_name, file in left:
        what = (
            f"not read: {format_name}, and {chosen.files[0].name} ({chosen.format_name}) was; import it by its own path"
        )
        result.problems.append(Problem(str(file), what))
    return result


def _look(folder: Path, image_root: Path) -> list[_Found]:
    """Formats that the folder holds, the preferred one first."""
    try:
        here = sorted(path for path in folder.iterdir() if path.is_file())
        below = sorted(path for path in folder.glob("annotations/*") if path.is_file())
        exported = mongoexport.find_collections(folder)
    except OSError as error:
        raise FormatError(f"{folder} cannot be listed: {error.strerror or error}. Check its permissions.") from error
    xml_files = [path for path in here if XML_FILES.search(path.name)]
    its_voc = [path for path in xml_files if voc.is_voc(path)]
    has_voc = bool(its_voc) or ((folder / voc.FOLDER).is_dir() and bool(voc.find_files(folder)))
    coco_files = [path for path in here if COCO_FILES.search(path.name)]
    coco_files += [path for path in below if JSON_FILES.search(path.name)]
    formats = [
        _Found("mongoexport", [folder] if exported else [], mongoexport.read, all_files=False),
        _Found(
            "Parquet",
            [path for path in here if PARQUET_FILES.search(path.name)],
            lambda file: parquet.read(file, image_root=image_root),
            all_files=False,
        ),
        _Found(
            "CVAT XML",
            [path for path in xml_files if path not in set(its_voc)],
            lambda file: cvat_xml.read(file, image_root=image_root),
            all_files=True,
        ),
        _Found("COCO", coco_files, lambda file: coco.read(file, image_root=image_root), all_files=False),
        _Found(
            "YOLO",
            [folder] if looks_like_yolo(folder) else [],
            lambda file: yolo.read(file, image_root=image_root),
            all_files=False,
        ),
        _Found("VOC", [folder] if has_voc else [], lambda file: voc.read(file, image_root=image_root), all_files=False),
        _Found(
            "pickle",
            [path for path in here if PICKLE_FILES.search(path.name)],
            upstream_pickle.read,
            all_files=False,
        ),
    ]
    return [found for found in formats if found.files]
