"""One door to all writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from obdb_lib.errors import FormatError
from obdb_lib.formats import coco, cvat_xml, frame_lists, mongoexport, parquet, upstream_pickle, voc, yolo
from obdb_lib.records import Document, Problem, TaskRecord, check_task

FORMATS = {
    "coco": "COCO detection JSON, a file (.json): boxes, single polygons, attributes",
    "cvat_xml": "CVAT for images 1.1, a file (.xml): all but further fields of the documents; two decimals",
    "frames": "names of the frames, a file (.npy, .txt, or .csv and .json with their parts): no annotations",
    "mongoexport": "the three MongoDB collections, a folder: everything",
    "parquet": "upstream's table with all further fields, a file (.parquet): everything",
    "pickle": "upstream's table as its pandas reads it, a file (.pkl): boxes, outlines",
    "voc": "Pascal VOC, a folder: boxes, occluded, attributes",
    "yolo": "YOLO as Ultralytics reads it, a folder: boxes, outlines, parts of a split",
}
FOLDERS = ("mongoexport", "voc", "yolo")
"""Formats whose path is a folder."""


@dataclass(frozen=True)
class Written:
    """What was written where, and what the format could not hold."""

    path: Path
    problems: list[Problem]


def write(
    records: Sequence[TaskRecord],
    path: Path | str,
    format_name: str,
    *,
    parts: Mapping[str, str] | None = None,
    outlines: bool = True,
    empty: bool = True,
) -> Written:
    """Write tasks in one of FORMATS.

    Args:
        records: whole tasks, as ``store.record`` gives them.
        path: the file, or the folder for those of FOLDERS (YOLO and VOC want one that is empty or not there).
        parts: img_path -> part of a split; used by ``yolo`` and ``frames``.
        outlines: False has ``yolo`` write boxes around outlines.
        empty: False has ``pickle`` leave out frames without annotations, which upstream's training cannot take.

    Returns:
        The path, and a problem for each kind of thing that the format cannot hold, with its count.

    Raises:
        FormatError: unknown format, or something in the tasks that cannot be written (a control character in XML, say).
        CacheError: the disk. Nothing half-written is left in either case.
    """
    path = Path(path).expanduser()
    if format_name not in FORMATS:
        raise FormatError(f"unknown format {format_name!r}; there are {', '.join(sorted(FORMATS))}")
    if not records:
        raise FormatError(f"there is no task to write to {path}. Name tasks that are in the source.")
    if parts is not None and format_name not in ("yolo", "frames"):
        raise FormatError(f"{format_name} has no place for the parts of a split; write yolo, or frames beside it")
    pairs = [_sound(record) for record in records]
    mended = [problem for _, found in pairs for problem in found]
    try:
        return Written(path, [*mended, *_write([one for one, _ in pairs], path, format_name, parts, outlines, empty)])
    except UnicodeEncodeError as error:
        around = error.object[max(error.start - 20, 0) : error.end + 20]
        raise FormatError(
            f"{path} was not written: {around!r} holds half a character (a lone surrogate), which no file can. Rename "
            "it in the source."
        ) from error
    except RecursionError as error:
        raise FormatError(f"{path} was not written: a field is nested too deep. Take it out of the source.") from error


def _sound(record: TaskRecord) -> tuple[TaskRecord, list[Problem]]:
    """The record with what every writer counts on: a database that others fill may hold anything."""
    labels = record.task.get("labels")
    named = [label for label in labels if _is_named(label)] if isinstance(labels, list) else []
    found = record.meta.get("frames")
    frames = [_sized(frame) for frame in found if _is_named(frame)] if isinstance(found, list) else []
    if isinstance(found, list) and len(frames) != len(found):
        raise FormatError(f"task {record.name!r} has a frame without a name; import it again before it is written")
    sound = TaskRecord({**record.task, "labels": named}, {**record.meta, "frames": frames}, record.annotations)
    checked, problems = check_task(sound)
    if isinstance(labels, list) and len(named) != len(labels):
        problems.append(Problem(f"task {record.name!r}", "labels without a name are left out"))
    return checked, problems


def _is_named(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("name"), str) and bool(document["name"])


def _sized(frame: Document) -> Document:
    """The frame with a width and a height; 0 where nobody knows them."""
    return frame if frame.get("width") and frame.get("height") else {**frame, "width": 0, "height": 0}


def _write(
    records: Sequence[TaskRecord],
    path: Path,
    format_name: str,
    parts: Mapping[str, str] | None,
    outlines: bool,
    empty: bool,
) -> list[Problem]:
    if format_name == "mongoexport":
        mongoexport.write(records, path)
        return []
    if format_name == "yolo":
        return yolo.write(records, path, parts=parts, outlines=outlines)
    if format_name == "frames":
        return _frames(records, path, parts)
    if format_name == "pickle":
        return upstream_pickle.write(records, path, empty=empty)
    writers = {
        "coco": coco.write,
        "cvat_xml": cvat_xml.write,
        "parquet": parquet.write,
        "voc": voc.write,
    }
    return writers[format_name](records, path)


def _frames(records: Sequence[TaskRecord], path: Path, parts: Mapping[str, str] | None) -> list[Problem]:
    """A list of frames: of one part (or none) as names, of several as CSV or JSON."""
    names = list(dict.fromkeys(str(frame["name"]) for record in records for frame in record.meta["frames"]))
    drawn = sum(len(record.annotations) for record in records)
    problems = [Problem("frames", f"{drawn} annotations are not written: a list of frames has names only")]
    if path.suffix.lower() not in (".csv", ".json"):
        chosen = [name for name in names if parts is None or name in parts]
        if parts is not None:
            problems.append(
                Problem("frames", f"a {path.suffix} lists names without their parts; .csv and .json tell them")
            )
        frame_lists.write_list(chosen, path)
        return problems
    lists: dict[str, list[str]] = {}
    for name in names:
        part = "all" if parts is None else parts.get(name)
        if part is not None:
            lists.setdefault(part, []).append(name)
    left = len(names) - sum(map(len, lists.values()))
    if left:
        problems.append(Problem("frames", f"{left} frames are in no part of the split and in none of the lists"))
    frame_lists.write_parts(lists, path)
    return problems
