"""CVAT's own XML, written: see ``cvat_xml``, which reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from obdb_lib.cache import atomic_writer
from obdb_lib.formats import _shared
from obdb_lib.formats._attributes import named_attributes
from obdb_lib.formats._losses import losses
from obdb_lib.formats._safe_xml import legal
from obdb_lib.formats._turned import upright_of
from obdb_lib.records import Document, Problem, TaskRecord

CVAT_VERSION = "1.1"
LABEL_ATTRIBUTE_FIELDS = ("name", "mutable", "input_type", "default_value", "values")
HOLDS = ("polygon", "occluded", "source", "attributes", "rotation", "box", "z_order", "labels", "dates")


def write(tasks: Sequence[TaskRecord], path: Path) -> list[Problem]:
    """Write one task as a task export, several as a project export; coordinates get two decimals, as CVAT writes them.

    A polygon that is a turned box (``rotation``) is written as CVAT's rotated box, tags with their frames, shapes of
    tracks one by one.

    Returns:
        What the format cannot hold, and how many coordinates were rounded.

    Raises:
        FormatError: a name holds a character that XML cannot (a control character).
        CacheError: the file cannot be written; an older one is untouched.
    """
    problems = losses([_plain(task) for task in tasks], "CVAT XML", HOLDS)
    changed: Counter[str] = Counter()
    root = Element("annotations")
    SubElement(root, "version").text = CVAT_VERSION
    meta = SubElement(root, "meta")
    if len(tasks) == 1:
        _write_head(SubElement(meta, "task"), tasks[0], 1)
    else:
        project = SubElement(meta, "project")
        SubElement(project, "name").text = legal(path.stem)
        heads = SubElement(project, "tasks")
        for task_id, task in enumerate(tasks, 1):
            _write_head(SubElement(heads, "task"), task, task_id)
    for task_id, task in enumerate(tasks, 1):
        _write_images(root, task, task_id, changed, of_project=len(tasks) != 1)
    indent(root)
    with atomic_writer(path) as file:
        ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    return problems + [Problem("CVAT XML", f"{count} {what}") for what, count in changed.items() if count]


def _plain(task: TaskRecord) -> TaskRecord:
    """The task without its frames' tags, which this format holds."""
    frames = [{key: value for key, value in frame.items() if key != "tags"} for frame in task.meta["frames"]]
    return TaskRecord(task.task, {**task.meta, "frames": frames}, task.annotations)


def _write_head(head: Element, task: TaskRecord, task_id: int) -> None:
    fields = {"id": task_id, "name": task.name, "size": len(task.meta["frames"]), "mode": "annotation"}
    fields |= {"created": task.task.get("created_date", ""), "updated": task.task.get("updated_date", "")}
    for name, value in fields.items():
        SubElement(head, name).text = legal(value)
    labels = SubElement(head, "labels")
    for label in task.task.get("labels", []):
        element = SubElement(labels, "label")
        SubElement(element, "name").text = legal(label["name"])
        SubElement(element, "color").text = legal(label.get("color", ""))
        attributes = SubElement(element, "attributes")
        for attribute in label.get("attributes", []):
            described = SubElement(attributes, "attribute")
            for name in LABEL_ATTRIBUTE_FIELDS:
                SubElement(described, name).text = legal(_as_text(attribute.get(name, "")))


def _write_images(root: Element, task: TaskRecord, task_id: int, changed: Counter[str], *, of_project: bool) -> None:
    images = []
    for number, frame in enumerate(task.meta["frames"]):
        more = {"task_id": str(task_id)} if of_project else {}
        size = {"width": str(frame["width"]), "height": str(frame["height"])}
        image = SubElement(root, "image", {"id": str(number), "name": legal(frame["name"]), **more, **size})
        images.append(image)
        for tag in frame.get("tags") or []:
            _write_tag(image, tag, task, changed)
    for one in task.annotations:
        shape = _write_shape(images[one["frame"]], one, changed)
        _write_attributes(shape, named_attributes(one, task))
        tracked = "track" in _shared.mapping(one.get("cvat_id"))
        changed["shapes of tracks are written one by one, as CVAT does in this format"] += tracked


def _write_tag(image: Element, tag: Document, task: TaskRecord, changed: Counter[str]) -> None:
    name = _shared.text_of(_shared.mapping(tag).get("name"))
    if not name:
        changed["tags without a name are left out"] += 1
        return
    shown = {"label": legal(name), "source": legal(tag.get("source", "manual"))}
    _write_attributes(SubElement(image, "tag", shown), named_attributes({**tag, "object_class": name}, task))


def _write_shape(image: Element, one: Document, changed: Counter[str]) -> Element:
    flags = {
        "label": legal(one["object_class"]),
        "source": legal(one.get("source", "manual")),
        "occluded": "1" if one.get("occluded") else "0",
    }
    z_order = {"z_order": str(int(one.get("z_order") or 0))}
    rotation = float(one.get("rotation") or 0) % 360
    upright = upright_of(one["points"], rotation) if rotation else None
    numbers = upright or one["points"]
    points = [f"{value:.2f}" for value in numbers]
    rounded = sum(float(text) != value for text, value in zip(points, numbers, strict=True))
    changed["coordinates are rounded to a hundredth of a pixel"] += rounded
    if one.get("shape_types") == "polygon" and not upright:
        changed["outlines lose their rotation: they are no turned rectangles any more"] += bool(rotation)
        text = ";".join(f"{x},{y}" for x, y in zip(points[0::2], points[1::2], strict=True))
        return SubElement(image, "polygon", {**flags, "points": text, **z_order})
    turned = {"rotation": f"{rotation:.2f}"} if rotation else {}
    corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), points, strict=True))
    return SubElement(image, "box", {**flags, **corners, **turned, **z_order})


def _write_attributes(element: Element, attributes: Mapping[str, str]) -> None:
    for name, value in attributes.items():
        SubElement(element, "attribute", {"name": legal(name)}).text = legal(value)


def _as_text(value: object) -> str:
    """A field of a label's attribute as CVAT's XML has it: the list of values a line each (over the wire it is one)."""
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(value)
