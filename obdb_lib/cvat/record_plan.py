"""Whole annotated tasks that are about to become CVAT tasks: frames, labels with attributes, shapes, checked first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from obdb_lib.cache import content_hash
from obdb_lib.cvat.labels import match_labels
from obdb_lib.cvat.names import hashed_name, upload_name
from obdb_lib.cvat.push_plan import MAX_TASK_NAME, PlannedFrame
from obdb_lib.cvat.push_shapes import DECIMALS, some
from obdb_lib.errors import CvatError, FrameError
from obdb_lib.frames import FrameStore
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.records import Document, Problem, TaskRecord
from obdb_lib.store import with_ids

SOURCES = ("auto", "semi-auto", "manual", "file", "consensus")
"""What CVAT takes as ``source``; anything else is sent as manual."""
INPUT_TYPES = ("checkbox", "radio", "number", "text", "select")
YES = ("true", "1", "yes")


@dataclass(frozen=True)
class RecordTask:
    """One task to make.

    Attributes:
        push_id: content hash of all that is sent, by which a repeat finds its own beginnings in the journal.
        labels: as CVAT takes them, with colour and attributes.
        shapes: id -> annotation document (see ``records.TaskRecord``).
    """

    push_id: str
    name: str
    frames: tuple[PlannedFrame, ...]
    labels: tuple[Document, ...]
    shapes: dict[str, Document]
    attribute_names: dict[int, str]

    def values(self, shape: Document) -> dict[str, str]:
        """Attributes of an annotation by name; XML has them so, CVAT by the id of the label's attribute."""
        given = shape.get("attributes") or {}
        if isinstance(given, dict):
            return {str(name): str(value) for name, value in given.items()}
        named = [(self.attribute_names.get(int(one["spec_id"])), str(one["value"])) for one in given]
        return {name: value for name, value in named if name}


@dataclass(frozen=True)
class RecordPlan:
    """All that an upload of annotated tasks would send; ``problems`` were mended or set aside on the way."""

    tasks: tuple[RecordTask, ...]
    problems: tuple[Problem, ...] = ()

    def table(self) -> pd.DataFrame:
        """One row a task: task, frames, shapes, labels."""
        rows = [(task.name, len(task.frames), len(task.shapes), len(task.labels)) for task in self.tasks]
        return pd.DataFrame(rows, columns=["task", "frames", "shapes", "labels"])

    def summary(self) -> str:
        frames, shapes = (sum(len(getattr(task, name)) for task in self.tasks) for name in ("frames", "shapes"))
        lines = [f"{shapes} shapes on {frames} frames as {len(self.tasks)} tasks"]
        return "\n".join([*lines, *(f"- {problem}" for problem in self.problems)])


def plan_records(
    records: Sequence[TaskRecord],
    frames: FrameStore,
    *,
    labels: Sequence[str] = (),
    problems: Sequence[Problem] = (),
) -> RecordPlan:
    """Plan the upload of whole tasks; nothing is sent.

    Args:
        records: checked tasks (``records.check_task``); each becomes a CVAT task of its name.
        frames: where their images are.
        labels: names of the labels that the tasks get; each task's own when empty.
        problems: met while reading, told again in the plan.

    Raises:
        CvatError: a name that CVAT does not take or that stands twice, a class without a label, an image that is
            missing, unreadable, or of another size than annotated; all of a kind at once.
    """
    names = [record.name for record in records]
    twice = [name for name, count in Counter(names).items() if count > 1]
    wrong = [name for name in names if not name.strip() or len(name) > MAX_TASK_NAME]
    if twice or wrong:
        raise CvatError(
            f"tasks cannot be made of these names: {some([repr(name) for name in [*twice, *wrong]])}. CVAT takes "
            f"1 to {MAX_TASK_NAME} characters, and each name here must stand once"
        )
    missing: list[str] = []
    other_size: list[str] = []
    tasks = []
    for record in records:
        planned = _frames(record, frames, missing, other_size)
        tasks.append(_task(record, planned, labels))
    if missing:
        raise CvatError(
            f"{len(missing)} images cannot be read: {some(missing)}. Name their folder as dataset_dir in the settings "
            "or put them beside the annotations; nothing was sent."
        )
    if other_size:
        raise CvatError(
            f"{len(other_size)} images have another size than when they were annotated, so shapes would land in wrong "
            f"places: {some(other_size)}. Name the folder of the right images; nothing was sent."
        )
    return RecordPlan(tuple(tasks), tuple(problems))


def _frames(
    record: TaskRecord, frames: FrameStore, missing: list[str], other_size: list[str]
) -> tuple[PlannedFrame, ...]:
    planned: dict[str, PlannedFrame] = {}
    for place in record.meta["frames"]:
        img_path, wanted = str(place["name"]), (place.get("width"), place.get("height"))
        try:
            file = frames.path(img_path)
            size = upright_size(file)
        except (FrameError, *UNREADABLE) as error:
            missing.append(f"{img_path} ({error})")
            continue
        if all(wanted) and size != wanted:
            other_size.append(f"{file} is {size[0]} x {size[1]}, annotated as {wanted[0]} x {wanted[1]}")
            continue
        name = upload_name(img_path)
        name = hashed_name(img_path) if name in planned else name
        planned[name] = PlannedFrame(img_path, file, name, *size)
    return tuple(planned.values())


def _task(record: TaskRecord, planned: tuple[PlannedFrame, ...], labels: Sequence[str]) -> RecordTask:
    own = {str(label["name"]): label for label in record.task.get("labels", [])}
    names = list(labels) or list(own)
    used = {str(one["object_class"]) for one in record.annotations}
    listed = [{"id": number, "name": name} for number, name in enumerate(names)]
    match_labels(used, listed, where=f"the list of labels for task {record.name!r}")
    described = tuple(_label(name, own.get(name, {})) for name in dict.fromkeys(names))
    attributes = [one for label in own.values() for one in label.get("attributes") or [] if "id" in one]
    shapes = {str(one["_id"]): one for one in with_ids(record.annotations)}
    places = [[frame.img_path, frame.width, frame.height] for frame in planned]
    drawn = [[key, one["object_class"], one["points"], one.get("attributes")] for key, one in shapes.items()]
    push_id = content_hash("records", record.name, described, places, drawn)
    ids = {int(one["id"]): str(one["name"]) for one in attributes}
    return RecordTask(push_id, record.name, planned, described, shapes, ids)


def _label(name: str, described: Document) -> Document:
    label: Document = {"name": name, "attributes": [_attribute(one) for one in described.get("attributes") or []]}
    return {**label, "color": described["color"]} if described.get("color") else label


def _attribute(given: Document) -> Document:
    """An attribute as CVAT takes it; XML has its switch as a word and its values as lines."""
    values = given.get("values") or []
    kind = str(given.get("input_type") or "text")
    return {
        "name": str(given["name"]),
        "mutable": str(given.get("mutable", "")).lower() in YES,
        "input_type": kind if kind in INPUT_TYPES else "text",
        "default_value": str(given.get("default_value") or ""),
        "values": values.split("\n") if isinstance(values, str) else [str(value) for value in values],
    }


def shape_document(task: RecordTask, shape: Document, frame: int, label: Document) -> Document:
    """One shape as CVAT takes it.

    Args:
        frame: CVAT's number of its image.
        label: as the server lists it: id, and attributes with their ids.
    """
    source = str(shape.get("source") or "manual")
    ids = {str(one["name"]): int(one["id"]) for one in label.get("attributes") or []}
    return {
        "type": "polygon" if shape.get("shape_types") == "polygon" else "rectangle",
        "frame": frame,
        "label_id": int(label["id"]),
        "points": [round(float(value), DECIMALS) for value in shape["points"]],
        "source": source if source in SOURCES else "manual",
        "occluded": bool(shape.get("occluded")),
        "z_order": 0,
        "attributes": [{"spec_id": ids[n], "value": v} for n, v in task.values(shape).items() if n in ids],
        **({"score": float(shape["score"])} if "score" in shape else {}),
    }
