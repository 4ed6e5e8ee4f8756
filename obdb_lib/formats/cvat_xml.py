"""CVAT's own XML, "CVAT for images 1.1": reader and writer, of one task or of a whole project.

The XML may come from anyone: a document type (the door to entity bombs and outside files) is refused outright, as CVAT
never writes one. Coordinates have two decimals, as CVAT writes them.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element

from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._cvat_xml_writer import LABEL_ATTRIBUTE_FIELDS, write
from obdb_lib.formats._safe_xml import parse
from obdb_lib.formats._turned import turned_box
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, make_annotation, make_task

__all__ = ["read", "write"]

MIN_POLYGON_POINTS = 3
SHAPES = ("box", "polygon")


def read(path: Path, *, image_root: Path | None = None) -> ReadResult:
    """Tasks of a CVAT XML file: boxes and polygons, with occlusion, source and attributes.

    Frames are ordered by the image's ``id``; a rotated box becomes the polygon of its corners (``rotation`` is kept);
    tags are kept with their frame (``tags``: a list of ``{name, attributes}``). Polylines, points,
    masks, skeletons, ellipses, cuboids and tracks are set aside, each with its reason.

    Args:
        path: the XML file (gzip is understood).
        image_root: folder that image names are relative to, looked at only for images without width and height.

    Returns:
        Tasks not yet checked by ``records.check_task``, and what was set aside.

    Raises:
        FormatError: not XML, not CVAT's, with a document type, or with tracks only.
    """
    root = parse(_shared.read_bytes(path), path)
    if root.tag != "annotations":
        raise FormatError(
            f"{path} is not CVAT XML: wanted the root <annotations>, got <{root.tag[:60]}>. In CVAT choose the export "
            "format 'CVAT for images 1.1'."
        )
    images, tracks = root.findall("image"), root.findall("track")
    if tracks and not images:
        raise FormatError(
            f"{path} holds {len(tracks)} tracks and no images: it is 'CVAT for video'. In CVAT choose the "
            "export format 'CVAT for images 1.1'."
        )
    result = ReadResult()
    for track in tracks:
        what = "set aside: a track; export the task as 'CVAT for images 1.1' to get it frame by frame"
        result.problems.append(Problem(f"{path.name}, track {track.get('id')}", what))
    for head, its_images in _split_by_task(root, images, path, result.problems):
        result.tasks.append(_task(head, its_images, path, image_root or path.parent, result.problems))
    return result


class _Head:
    """What the <meta> says of one task."""

    def __init__(self, element: Element | None, labels: Element | None, name: str) -> None:
        self.name = (element.findtext("name") if element is not None else None) or name
        self.created = element.findtext("created") if element is not None else None
        self.updated = element.findtext("updated") if element is not None else None
        self.labels = [_label(label) for label in labels.iterfind("label")] if labels is not None else []
        self.size = (element.findtext("size") or "").strip() if element is not None else ""


def _label(label: Element) -> Document:
    attributes = [
        {name: attribute.findtext(name) or "" for name in LABEL_ATTRIBUTE_FIELDS}
        for attribute in label.iterfind("attributes/attribute")
    ]
    return {"name": label.findtext("name") or "", "color": label.findtext("color") or "", "attributes": attributes}


def _split_by_task(
    root: Element, images: list[Element], path: Path, problems: list[Problem]
) -> list[tuple[_Head, list[Element]]]:
    """Each task's head with its images: one task, or all of a project by the images' ``task_id``."""
    project = root.find("meta/project")
    if project is None:
        element = root.find("meta/task")
        if element is None:
            element = root.find("meta/job")
            problems.append(Problem(path.name, f"names no task; the task is called {path.stem!r} after the file"))
        labels = element.find("labels") if element is not None else None
        return [(_Head(element, labels, path.stem), images)]
    labels = project.find("labels")
    heads: dict[str, tuple[_Head, list[Element]]] = {}
    for element in project.iterfind("tasks/task"):
        task_id = (element.findtext("id") or "").strip()
        own = element.find("labels")
        heads[task_id] = (_Head(element, own if own is not None else labels, f"{path.stem}_{task_id}"), [])
    for image in images:
        task_id = image.get("task_id", "")
        if task_id not in heads:
            problems.append(
                Problem(path.name, f"the project lists no task {task_id!r}; its images form a task of their own")
            )
            heads[task_id] = (_Head(None, labels, f"{path.stem}_{task_id}"), [])
        heads[task_id][1].append(image)
    return list(heads.values())


def _task(head: _Head, images: list[Element], path: Path, root: Path, problems: list[Problem]) -> TaskRecord:
    frames: list[tuple[str, int, int]] = []
    usable: list[Element] = []
    for image in sorted(images, key=_image_id):
        name = image.get("name") or ""
        size = _shared.frame_size(_number(image.get("width")), _number(image.get("height")), name, root)
        where = f"{path.name}, task {head.name!r}, image {image.get('id')}"
        if not name:
            problems.append(Problem(where, "set aside with its annotations: it has no name"))
        elif size is None:
            problems.append(Problem(where, f"set aside with its annotations: {name!r} has no width and height"))
        else:
            frames.append((name, *size))
            usable.append(image)
    if head.size.isdecimal() and len(head.size) < 10 and int(head.size) > len(images):
        what = f"holds {len(images)} of the task's {int(head.size)} images; the others are unknown here"
        problems.append(Problem(f"{path.name}, task {head.name!r}", what))
    names = [label["name"] for label in head.labels] or sorted(
        {shape.get("label") or "" for image in usable for shape in image if shape.tag in SHAPES} - {""}
    )
    created = _shared.iso_date(head.created, _shared.file_date(path))
    updated = _shared.iso_date(head.updated, created)
    record = make_task(head.name, names, frames, created=created, updated=updated)
    for label, described in zip(record.task["labels"], head.labels, strict=False):
        label.update(described)
    for frame, image in enumerate(usable):
        tags = [_tag(tag) for tag in image.iterfind("tag") if tag.get("label")]
        if tags:
            record.meta["frames"][frame]["tags"] = tags
        for number, shape in enumerate(image):
            if shape.tag == "tag" and shape.get("label"):
                continue
            where = f"{path.name}, task {head.name!r}, image {image.get('name')!r}, shape {number}"
            _add_shape(record, frame, shape, where, problems)
    return record


def _tag(tag: Element) -> Document:
    """A tag of a whole frame."""
    source = tag.get("source") or "manual"
    more: Document = {} if source == "manual" else {"source": source}
    return {"name": tag.get("label"), "attributes": _attributes(tag), **more}


def _attributes(element: Element) -> dict[str, str]:
    return {item.get("name") or "": item.text or "" for item in element.iterfind("attribute")}


def _image_id(image: Element) -> float:
    number = _number(image.get("id"))
    return math.inf if number is None else number


def _number(text: str | None) -> float | None:
    try:
        return _shared.finite(float(text)) if text is not None else None
    except ValueError:
        return None


def _add_shape(record: TaskRecord, frame: int, shape: Element, where: str, problems: list[Problem]) -> None:
    if shape.tag not in SHAPES:
        what = f"set aside: <{shape.tag[:60]}> is no box or polygon"
        problems.append(Problem(where, what))
        return
    points = _box_points(shape) if shape.tag == "box" else _polygon_points(shape)
    if points is None:
        problems.append(Problem(where, f"set aside: the <{shape.tag}> lacks finite coordinates (or three points)"))
        return
    rotation = _number(shape.get("rotation")) or 0.0
    turned = shape.tag == "box" and rotation % 360 != 0
    if turned:
        points = turned_box(points, rotation)
        problems.append(
            Problem(where, f"the box is rotated by {rotation:g} degrees; kept as the polygon of its corners")
        )
    document = make_annotation(
        record,
        frame,
        shape.get("label") or "",
        points,
        shape_type="polygon" if turned or shape.tag == "polygon" else "rectangle",
        occluded=shape.get("occluded") == "1",
        source=shape.get("source") or "manual",
    )
    if attributes := _attributes(shape):
        document["attributes"] = attributes
    if turned:
        document["rotation"] = rotation
    if z_order := _shared.whole(_number(shape.get("z_order"))):
        document["z_order"] = z_order
    record.annotations.append(document)


def _box_points(shape: Element) -> list[float] | None:
    numbers = [_number(shape.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
    points = [number for number in numbers if number is not None]
    return points if len(points) == len(numbers) else None


def _polygon_points(shape: Element) -> list[float] | None:
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
    numbers = [_number(text) for pair in pairs for text in pair]
    points = [number for number in numbers if number is not None]
    complete = len(points) == len(numbers) and all(len(pair) == 2 for pair in pairs)
    return points if complete and len(pairs) >= MIN_POLYGON_POINTS else None
