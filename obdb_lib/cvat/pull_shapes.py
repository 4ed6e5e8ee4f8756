"""Annotations of CVAT as documents of ``annotation_data``, and tags at the frames of ``meta``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from obdb_lib.cvat.pull_answers import Attribute, Shape, Tag
from obdb_lib.records import Document, Problem, TaskRecord

USED_SHAPES = ("rectangle", "polygon")


def annotation_documents(
    record: TaskRecord, shapes: Iterable[Shape], places: Mapping[int, int], names: Mapping[int, str]
) -> tuple[list[Document], list[Problem]]:
    """Documents of all shapes that can be used, and a count of the others by reason.

    A rectangle that is turned becomes the polygon of its corners and keeps ``rotation`` (degrees, clockwise) and
    ``box`` (x1, y1, x2, y2 before it was turned) beside. ``cvat_id`` tells where each lies on CVAT.

    Args:
        record: the task, its frames in place.
        places: row of the record's frames by CVAT's frame number; a frame that is not there is not used.
        names: label name by id.
    """
    unused: Counter[str] = Counter()
    documents = []
    frames = record.meta["frames"]
    for shape in shapes:
        place = places.get(shape.frame)
        if shape.type not in USED_SHAPES:
            unused[f"shapes of type {shape.type} left out: only rectangles and polygons are used"] += 1
        elif place is None:
            unused["shapes on deleted frames left out"] += 1
        elif shape.label_id not in names:
            unused["shapes of an unknown label left out"] += 1
        elif not shape.outside:
            documents.append(_document(record, shape, place, frames[place], names[shape.label_id]))
    where = f"task {record.name!r}"
    return documents, [Problem(where, f"{count} {what}") for what, count in unused.items()]


def _document(record: TaskRecord, shape: Shape, place: int, frame: Document, name: str) -> Document:
    shape_type, points = _upright(shape)
    ids: Document = {"task": record.task["cvat_id"], "frame": shape.frame, "shape": shape.id}
    if shape.track is not None:
        ids["track"] = shape.track
    document = {
        "type": "annotation",
        "task_name": record.name,
        "shape_types": shape_type,
        "occluded": shape.occluded,
        "points": points,
        "frame": place,
        "label_id": shape.label_id,
        "source": shape.source,
        "object_class": name,
        "img_path": frame["name"],
        "img_height": frame["height"],
        "img_width": frame["width"],
        "score": shape.score,
        "attributes": _plain(shape.attributes) if shape.attributes else [],
        "cvat_id": ids,
    }
    if shape_type != shape.type:
        document |= {"rotation": shape.rotation, "box": list(shape.points)}
    return document


def _plain(attributes: Iterable[Attribute]) -> list[Document]:
    return [{"spec_id": one.spec_id, "value": one.value} for one in attributes]


def _upright(shape: Shape) -> tuple[str, list[float]]:
    """Type and points; a rectangle turned on its centre becomes the polygon of its four corners."""
    if not shape.rotation or shape.type != "rectangle" or len(shape.points) != 4:
        return shape.type, shape.points
    angle = math.radians(shape.rotation)
    x1, y1, x2, y2 = shape.points
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    turned: list[float] = []
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        dx, dy = x - middle_x, y - middle_y
        turned.append(middle_x + dx * math.cos(angle) - dy * math.sin(angle))
        turned.append(middle_y + dx * math.sin(angle) + dy * math.cos(angle))
    return "polygon", turned


def put_tags(record: TaskRecord, tags: Iterable[Tag], places: Mapping[int, int], names: Mapping[int, str]) -> None:
    """Write the tags of each frame into its entry of ``meta`` as ``tags``: [{name, attributes}]; others get no key."""
    for place, tag in _placed(tags, places, names):
        frame = record.meta["frames"][place]
        frame.setdefault("tags", []).append({"name": names[tag.label_id], "attributes": _plain(tag.attributes)})


def _placed(tags: Iterable[Tag], places: Mapping[int, int], names: Mapping[int, str]) -> Iterator[tuple[int, Tag]]:
    for tag in tags:
        if tag.frame in places and tag.label_id in names:
            yield places[tag.frame], tag
