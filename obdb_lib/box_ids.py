"""Ids of annotations that stay: made from where a box comes from, or from its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId

from obdb_lib.records import Document

CONTENT = ("task_name", "frame", "img_path", "shape_types", "object_class", "points")


def with_ids(annotations: Sequence[Document]) -> list[Document]:
    """Annotations with an ``_id`` each: their own, else one made from their place on CVAT (``cvat_id``), which stays
    when a box is moved, else one made from their content, so that importing twice is the same as once. Exact copies
    within a task are told apart by a running number."""
    seen: dict[str, int] = {}
    documents = []
    for annotation in annotations:
        if "_id" in annotation:
            documents.append(annotation)
            continue
        key = cvat_key(annotation)
        content = repr((annotation.get("task_name"), key)) if key else json.dumps([annotation.get(n) for n in CONTENT])
        seen[content] = seen.get(content, 0) + 1
        digest = hashlib.sha256(f"{content}#{seen[content]}".encode()).hexdigest()
        documents.append({"_id": ObjectId(digest[:24]), **annotation})
    return documents


def cvat_key(annotation: Mapping[str, Any]) -> tuple[object, ...] | None:
    """What an annotation is on its CVAT server whatever is edited there; None when it does not come from one.

    A box that CVAT draws between two keyframes of a track has no id there; its track and frame stand for it.
    """
    place = annotation.get("cvat_id")
    if not isinstance(place, Mapping):
        return None
    task, track, shape = place.get("task"), place.get("track"), place.get("shape")
    if shape is not None:
        return "cvat", task, track, shape
    return None if track is None else ("cvat", task, track, None, place.get("frame"))


def keep_known_ids(documents: Sequence[Document], known: Mapping[Any, Document]) -> list[Document]:
    """The documents, each under the id that ``known`` (by id) has for the same annotation of CVAT.

    An annotation that was stored under another id (by a version of this lab that made ids otherwise) keeps it.
    """
    if all(document["_id"] in known for document in documents):
        return list(documents)
    taken = {document["_id"] for document in documents}
    ids = {key: number for number, old in known.items() if number not in taken and (key := cvat_key(old))}
    kept = []
    for document in documents:
        key = None if document["_id"] in known else cvat_key(document)
        kept.append({**document, "_id": ids.pop(key)} if key in ids else document)
    return kept
