"""COCO detection JSON: reader and writer.

COCO knows images, not tasks. Images are grouped by what says most: a ``task_name`` (or ``task``) field of the image,
else upstream's path rule (one task a video), else the folder of the file, else runs of 50 files in name order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obdb_lib.cache import atomic_writer
from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._attributes import named_attributes
from obdb_lib.formats._grouping import dataset_name, group_by_task
from obdb_lib.formats._losses import common_labels, losses
from obdb_lib.formats._turned import turned_box
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, bounding_box, make_annotation, make_task

MIN_POLYGON_NUMBERS = 6


@dataclass(frozen=True)
class _Image:
    name: str
    width: int
    height: int
    task: str
    frame: int = -1


def read(path: Path, *, image_root: Path | None = None) -> ReadResult:
    """Tasks of a COCO file; images without annotations are kept as negatives.

    Args:
        path: the JSON file (gzip is understood).
        image_root: folder that ``file_name`` is relative to, looked at only for images without width and height
            (default: the file's own folder).

    Returns:
        Tasks not yet checked by ``records.check_task``, and what was set aside: crowd annotations, unknown images and
        categories, images of unknown size.

    Raises:
        FormatError: the file is not JSON, or is not COCO.
    """
    data = _shared.parse_json(_shared.decode_text(_shared.read_bytes(path), path), path)
    if isinstance(data, dict) and "images" in data:
        for key in _LISTS:
            if not isinstance(data.get(key, []), list):
                raise FormatError(
                    f"{path} is not COCO: wanted a list under {key!r}, got {_kind(data[key])}. "
                    "Choose the annotation file of the export."
                )
    if not looks_like_coco(data):
        raise FormatError(
            f"{path} is not COCO: wanted an object with the lists 'images', 'annotations' and 'categories', got "
            f"{_describe(data)}. Choose the annotation file of the export."
        )
    result = ReadResult()
    categories = _categories(data, path, result.problems)
    images = _images(data, path, image_root or path.parent, result.problems)
    records, places = _tasks(images, list(dict.fromkeys(categories.values())), path, result.problems)
    boxed = 0
    for number, annotation in enumerate(data.get("annotations") or []):
        where = f"{path.name}, annotation {number}"
        try:
            record, document, lost_outline = _annotation(annotation, places, categories)
        except _SetAsideError as reason:
            result.problems.append(Problem(where, f"set aside: {reason}"))
            continue
        boxed += lost_outline
        record.annotations.append(document)
    if boxed:
        result.problems.append(
            Problem(str(path), f"{boxed} annotations outlined by a mask or several polygons are kept as their boxes")
        )
    result.tasks = list(records.values())
    return result


def looks_like_coco(data: object) -> bool:
    """Whether decoded JSON has COCO's shape."""
    return isinstance(data, dict) and all(isinstance(data.get(key, []), list) for key in _LISTS) and "images" in data


_LISTS = ("images", "annotations", "categories")


class _SetAsideError(Exception):
    """Why one annotation cannot be used."""


def _describe(data: object) -> str:
    if isinstance(data, dict):
        return f"an object with {', '.join(repr(str(key)[:40]) for key in list(data)[:6]) or 'nothing in it'}"
    return f"a {type(data).__name__}"


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _key(value: object) -> int | str | None:
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _categories(data: Document, path: Path, problems: list[Problem]) -> dict[int | str, str]:
    """Category name of each id."""
    names: dict[int | str, str] = {}
    for number, category in enumerate(data.get("categories") or []):
        key = _key(category.get("id")) if isinstance(category, dict) else None
        name = _shared.text_of(category.get("name")) if isinstance(category, dict) else ""
        if key is None or not name:
            problems.append(Problem(f"{path.name}, category {number}", "set aside: needs an 'id' and a 'name'"))
        elif key in names:
            problems.append(
                Problem(f"{path.name}, category {number}", f"set aside: id {key!r} is {names[key]!r} already")
            )
        else:
            names[key] = name
    return names


def _images(data: Document, path: Path, root: Path, problems: list[Problem]) -> dict[int | str, _Image]:
    """Usable images by id, in the order of the file."""
    images: dict[int | str, _Image] = {}
    for number, image in enumerate(data["images"]):
        where = f"{path.name}, image {number}"
        key = _key(image.get("id")) if isinstance(image, dict) else None
        name = _shared.text_of(image.get("file_name")) if isinstance(image, dict) else ""
        if key is None or not name:
            problems.append(Problem(where, "set aside: needs an 'id' and a 'file_name'"))
            continue
        if key in images:
            problems.append(Problem(where, f"set aside: id {key!r} belongs to {images[key].name!r} already"))
            continue
        size = _shared.frame_size(image.get("width"), image.get("height"), name, root)
        if size is None:
            problems.append(
                Problem(where, f"set aside with its annotations: {name!r} has no width and height, and {root} lacks it")
            )
            continue
        task = _shared.text_of(image.get("task_name")) or _shared.text_of(image.get("task"))
        images[key] = _Image(name, *size, task)
    return images


def _tasks(
    images: dict[int | str, _Image], labels: Sequence[str], path: Path, problems: list[Problem]
) -> tuple[dict[str, TaskRecord], dict[int | str, tuple[TaskRecord, int]]]:
    """Empty tasks by name, and (task, frame) of each image id."""
    groups = group_by_task({key: (image.name, image.task) for key, image in images.items()}, dataset_name(path))
    records: dict[str, TaskRecord] = {}
    places: dict[int | str, tuple[TaskRecord, int]] = {}
    date = _shared.file_date(path)
    for task_name, keys in groups.items():
        frames: dict[str, int] = {}
        for key in keys:
            if images[key].name in frames:
                problems.append(
                    Problem(f"task {task_name!r}", f"{images[key].name!r} is listed twice; kept as one frame")
                )
            frames.setdefault(images[key].name, len(frames))
        sizes = {images[key].name: (images[key].width, images[key].height) for key in reversed(keys)}
        records[task_name] = make_task(task_name, labels, [(name, *sizes[name]) for name in frames], created=date)
        places.update({key: (records[task_name], frames[images[key].name]) for key in keys})
    return records, places


def _annotation(
    annotation: object, places: dict[int | str, tuple[TaskRecord, int]], categories: dict[int | str, str]
) -> tuple[TaskRecord, Document, bool]:
    """The task it belongs to, its document, and whether an outline was given up for its box."""
    if not isinstance(annotation, dict):
        raise _SetAsideError(f"it is a {type(annotation).__name__}, not an object")
    if annotation.get("iscrowd") in (1, True, "1"):
        raise _SetAsideError("it marks a crowd (iscrowd), not one plant")
    image, category = _key(annotation.get("image_id")), _key(annotation.get("category_id"))
    if image not in places or image is None:
        raise _SetAsideError(f"no usable image has the id {_brief(annotation.get('image_id'))}")
    if category not in categories or category is None:
        raise _SetAsideError(f"no category has the id {_brief(annotation.get('category_id'))}")
    record, frame = places[image]
    polygon, lost_outline = _polygon(annotation.get("segmentation"))
    points = polygon or _corners(annotation.get("bbox"))
    more = dict(_shared.mapping(annotation.get("attributes")))
    occluded = more.pop("occluded", annotation.get("occluded")) in (True, 1, "1", "true", "True")
    rotation = _shared.finite(more.get("rotation")) or 0.0  # CVAT writes it among the attributes, beside an upright box
    if rotation % 360:
        del more["rotation"]
        points = polygon = polygon or turned_box(points, rotation)
    elif rotation == 0 and more.get("rotation") in (0, 0.0):
        del more["rotation"]
    document = make_annotation(
        record,
        frame,
        categories[category],
        points,
        shape_type="polygon" if polygon else "rectangle",
        occluded=occluded,
        source=_shared.text_of(annotation.get("source")) or "manual",
    )
    score = _shared.finite(annotation.get("score"))
    if more:
        document["attributes"] = more
    if rotation % 360:
        document["rotation"] = rotation
    if score is not None:
        document["score"] = score
    return record, document, lost_outline


def _brief(value: object) -> str:
    """A foreign value for a message, short whatever it is."""
    return repr(value)[:60] if isinstance(value, (int, float, str, type(None))) else f"a {type(value).__name__}"


def _polygon(segmentation: Any) -> tuple[list[float], bool]:
    """Points of the one polygon ([] when there is none), and whether an outline exists that is not one polygon."""
    if not segmentation:
        return [], False
    if not isinstance(segmentation, list) or len(segmentation) != 1 or not isinstance(segmentation[0], list):
        return [], True
    points = [number for value in segmentation[0] if (number := _shared.finite(value)) is not None]
    usable = len(points) == len(segmentation[0]) >= MIN_POLYGON_NUMBERS and len(points) % 2 == 0
    return (points, False) if usable else ([], True)


def _corners(bbox: object) -> list[float]:
    """COCO's x, y, width, height as x1, y1, x2, y2."""
    numbers = [_shared.finite(value) for value in bbox] if isinstance(bbox, list) else []
    if len(numbers) != 4 or any(number is None for number in numbers):
        raise _SetAsideError("its 'bbox' must be four finite numbers x, y, width, height")
    x, y, width, height = (number for number in numbers if number is not None)
    return [x, y, x + width, y + height]


HOLDS = ("polygon", "occluded", "source", "attributes", "rotation", "box", "score")


def write(tasks: Sequence[TaskRecord], path: Path) -> list[Problem]:
    """Write tasks as one COCO file that ``read`` gives back (frames with their task's name, boxes, single polygons).

    Returns:
        What the format cannot hold.

    Raises:
        FormatError: a coordinate is not a finite number.
        CacheError: the file cannot be written; an older one is untouched.
    """
    problems = losses(tasks, "COCO", HOLDS)
    names = common_labels(tasks)
    categories = {name: number for number, name in enumerate(names, 1)}
    images: list[Document] = []
    annotations: list[Document] = []
    for task in tasks:
        first = len(images) + 1
        for number, frame in enumerate(task.meta["frames"]):
            size = {"width": frame["width"], "height": frame["height"]}
            images.append({"id": first + number, "file_name": frame["name"], **size, "task_name": task.name})
        for one in task.annotations:
            annotations.append(
                _coco_annotation(one, task, len(annotations) + 1, first + one["frame"], categories[one["object_class"]])
            )
    data = {
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "images": images,
        "annotations": annotations,
    }
    with atomic_writer(path, "w") as file:
        try:
            json.dump(data, file, allow_nan=False)
        except ValueError as error:
            raise FormatError(
                f"{path} was not written: a coordinate is not finite. Run records.check_task first."
            ) from error
    return problems


def _coco_annotation(one: Document, task: TaskRecord, key: int, image: int, category: int) -> Document:
    x1, y1, x2, y2 = bounding_box(one["points"])
    polygon = one.get("shape_types") == "polygon"
    found = one.get("attributes")
    attributes = found if isinstance(found, dict) else named_attributes(one, task)
    more = {"rotation": one["rotation"]} if one.get("rotation") else {}
    return {
        **({"score": one["score"]} if one.get("score") is not None else {}),
        "id": key,
        "image_id": image,
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": _area(one["points"]) if polygon else (x2 - x1) * (y2 - y1),
        "segmentation": [one["points"]] if polygon else [],
        "iscrowd": 0,
        "source": one.get("source", "manual"),
        "attributes": {**attributes, **more, "occluded": bool(one.get("occluded"))},
    }


def _area(points: Sequence[float]) -> float:
    """Area of a simple polygon in square pixels (the shoelace formula)."""
    xs, ys = points[0::2], points[1::2]
    following = [*range(1, len(xs)), 0]
    return abs(math.fsum(xs[i] * ys[j] - xs[j] * ys[i] for i, j in enumerate(following))) / 2
