"""Attributes of an annotation as name and text, in whichever form they came."""

from __future__ import annotations

from obdb_lib.formats import _shared
from obdb_lib.records import Document, TaskRecord


def named_attributes(annotation: Document, task: TaskRecord) -> dict[str, str]:
    """Name -> value as text.

    Attributes are ``{name: value}`` where a reader of a file made them, and a list of ``{spec_id, value}`` (CVAT's
    own, the name is in the task's label) or ``{name, value}`` where they came over the wire.
    """
    found = annotation.get("attributes")
    if isinstance(found, dict):
        return {str(name): text_of_value(value) for name, value in found.items()}
    named: dict[str, str] = {}
    if isinstance(found, list):
        specs = _names_of_specs(task, str(annotation.get("object_class")))
        for one in found:
            if isinstance(one, dict):
                name = _shared.text_of(one.get("name")) or specs.get(_hashable(one.get("spec_id")), "")
                named[name or str(one.get("spec_id"))] = text_of_value(one.get("value"))
    return named


def _names_of_specs(task: TaskRecord, object_class: str) -> dict[object, str]:
    return {
        _hashable(attribute.get("id")): _shared.text_of(attribute.get("name"))
        for label in task.task.get("labels", [])
        if label.get("name") == object_class
        for attribute in label.get("attributes") or []
        if isinstance(attribute, dict)
    }


def _hashable(value: object) -> object:
    return value if isinstance(value, (int, str)) else None


def text_of_value(value: object) -> str:
    """A value as CVAT's XML writes it: ``true``/``false`` for switches, everything else as it prints."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
