"""Ids of annotations that stay: made from where a box comes from, or from its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId

from obdb_lib.records import Document

CONTENT = ("task_name", "frame", "img_path", "shape_types", "object_class", "points")
MOST_SHAPES = 2**64


def with_ids(annotations: Sequence[Document]) -> list[Document]:
    """Annotations with an ``_id`` each: their own, else one made from their place on CVAT (``cvat_id``), which stays
    when a box is moved, else one made from their content, so that importing twice is the same as once. Exact copies
    within a task are told apart by a running number."""
    seen: dict[str, int] = {}
    used: set[ObjectId] = set()
    starts: dict[tuple[object, ...], bytes] = {}
    documents = []
    for annotation in annotations:
        if "_id" in annotation:
            documents.append(annotation)
            continue
        number = _shape_id(annotation, starts)
        if number is None or number in used:
            number = _hashed_id(annotation, seen)
        used.add(number)
        documents.append({"_id": number, **annotation})
    return documents


def _shape_id(annotation: Document, starts: dict[tuple[object, ...], bytes]) -> ObjectId | None:
    """Four bytes of a hash of the task, then the shape's number on CVAT; None where it has none.

    Args:
        starts: the hashes made before, by what they are made of.
    """
    place = annotation.get("cvat_id")
    shape = place.get("shape") if isinstance(place, Mapping) else None
    if place is None or type(shape) is not int or not 0 <= shape < MOST_SHAPES:
        return None
    key = (annotation.get("task_name"), place.get("task"), "track" in place)  # keyframes are counted for themselves
    start = starts.get(key)
    if start is None:
        start = starts[key] = hashlib.sha256(repr(key).encode()).digest()[:4]
    return ObjectId(start + shape.to_bytes(8, "big"))


def _hashed_id(annotation: Document, seen: dict[str, int]) -> ObjectId:
    key = cvat_key(annotation)
    content = repr((annotation.get("task_name"), key)) if key else json.dumps([annotation.get(n) for n in CONTENT])
    seen[content] = seen.get(content, 0) + 1
    return ObjectId(hashlib.sha256(f"{content}#{seen[content]}".encode()).digest()[:12])


def cvat_key(annotation: Mapping[str, Any]) -> tuple[object, ...] | None:
    """What an annotation is on its CVAT server whatever is edited there; None when it does not come from one.

    A box that CVAT draws between two keyframes of a track has no id there; its track and frame stand for it.
    """
    place = annotation.get("cvat_id")
    if not isinstance(place, Mapping):
        return None
    task, track, shape = place.get("task"), place.get("track"), place.get("shape")
    if shape is not None:
        return "cvat", task, track is not None, shape
    return None if track is None else ("cvat", task, track, "between", place.get("frame"))


def keep_known_ids(documents: Sequence[Document], known: Mapping[Any, Document]) -> list[Document]:
    """The documents, each under the id that ``known`` (by id) has for the same annotation of CVAT.

    An annotation that was stored under another id (by a version of this lab that made ids otherwise) keeps it.
    """
    if not known or all(document["_id"] in known for document in documents):
        return list(documents)
    taken = {document["_id"] for document in documents}
    ids = {key: number for number, old in known.items() if number not in taken and (key := cvat_key(old))}
    kept = []
    for document in documents:
        key = None if document["_id"] in known else cvat_key(document)
        kept.append({**document, "_id": ids.pop(key)} if key in ids else document)
    return kept
