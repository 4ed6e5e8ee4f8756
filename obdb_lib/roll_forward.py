"""Carry a new version of a task out: staging, the one write that decides, and the steps after it that may be repeated.

Used by ``whole_tasks``, which says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne, WriteConcern
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from obdb_lib.records import Document
from obdb_lib.task_change import FrameChange, TaskChange

BULK = 5000
"""Documents per request: large enough for speed, small enough to stay far below MongoDB's 48 MB message limit."""
PACK, PACK_BYTES = 2000, 8_000_000
"""Annotations in one document of the staging; MongoDB takes documents of 16 MB."""
WRITERS = 2
"""Connections that fill a new task: while the server stores one part, the next one is made ready."""
DUPLICATE_KEY = 11000

Db = Database[Document]
Renew = Callable[[], None]
T = TypeVar("T")


@dataclass(frozen=True)
class NewVersion:
    """What is to be written: changed and new annotations, ids that go, and the other two documents."""

    put: list[Document]
    fresh: set[Any]
    gone: list[Any]
    meta: Document
    frames: FrameChange
    task: Document
    change: TaskChange


def write_unseen(db: Db, name: str, new: NewVersion, number: ObjectId, renew: Renew) -> int:
    """In place, without parts that wait: the task's own document comes last, and before it nobody sees the rest."""
    _side_by_side(lambda part: _insert(db, part, new.fresh), list(_parts(new.put)), renew)
    for ids in _parts(new.gone):
        renew()
        db.annotation_data.delete_many({"_id": {"$in": ids}, "task_name": name})
    renew()
    _replace_meta(db, name, new.meta)
    return 0


def _side_by_side(write: Callable[[T], object], parts: Sequence[T], renew: Renew) -> None:
    """``write`` each part, WRITERS at once."""
    if len(parts) == 1:
        write(parts[0])
        return
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="store") as pool:
        for _ in pool.map(write, parts):
            renew()


def _insert(db: Db, documents: Sequence[Document], fresh: Collection[Any]) -> None:
    known = [document for document in documents if document["_id"] not in fresh]
    new = [document for document in documents if document["_id"] in fresh]
    try:
        if new:
            db.annotation_data.insert_many(new, ordered=False)
    except BulkWriteError as error:
        failed = error.details["writeErrors"]
        if any(one["code"] != DUPLICATE_KEY for one in failed):
            raise
        known += [one["op"] for one in failed]  # there already, under another task's name
    if known:
        db.annotation_data.bulk_write([ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in known], ordered=False)


def stage(db: Db, name: str, new: NewVersion, number: ObjectId, renew: Renew) -> int:
    """Write down all that is to change; returns the number of parts with annotations."""
    staging = db.import_staging
    staging.delete_many({"task": name})  # what an import left that was killed before it was decided
    place = {"task": name, "import": number}
    parts = [{**place, "part": number, "put": pack} for number, pack in enumerate(_packs(new.put))]
    _side_by_side(staging.insert_one, parts, renew)
    for ids in _parts(new.gone):
        renew()
        staging.insert_one({**place, "gone": ids})
    if new.frames:
        staging.insert_one({**place, "meta": new.meta})
    return len(parts)


def _packs(documents: Sequence[Document]) -> Iterator[list[RawBSONDocument]]:
    """The documents in a few large ones: many small ones cost as much again to write and to delete."""
    pack: list[RawBSONDocument] = []
    size = 0
    for document in documents:
        raw = bson.encode(document)
        if pack and (len(pack) == PACK or size + len(raw) > PACK_BYTES):
            yield pack
            pack, size = [], 0
        pack.append(RawBSONDocument(raw))
        size += len(raw)
    if pack:
        yield pack


def commit(db: Db, state: Document, renew: Renew) -> None:
    """The moment from which on the new version counts."""
    renew()
    db.import_states.replace_one({"_id": state["_id"]}, {**state, "pending": True}, upsert=True)


def roll_forward(db: Db, state: Document, renew: Renew) -> None:
    """Carry out what was decided; every step may have been done before."""
    if not state.get("pending"):
        return
    closing, db = db.import_states, unhurried(db)
    name, mine, staging = state["_id"], {"import": state["import_id"]}, db.import_staging
    if state["task"] is None:
        for collection, key in ((db.tasks, "name"), (db.meta, "task_name"), (db.annotation_data, "task_name")):
            renew()
            collection.delete_many({key: name})
    else:
        into = {"into": "annotation_data", "on": "_id", "whenMatched": "replace", "whenNotMatched": "insert"}
        move: list[Document] = [{"$unwind": "$put"}, {"$replaceRoot": {"newRoot": "$put"}}, {"$merge": into}]
        chosen = [{"$match": {**mine, "part": part}} for part in range(state["parts"])]
        _side_by_side(lambda match: staging.aggregate([match, *move]), chosen, renew)
        for gone in staging.find({**mine, "gone": {"$exists": True}}):
            renew()
            db.annotation_data.delete_many({"_id": {"$in": gone["gone"]}, "task_name": name})
        meta = staging.find_one({**mine, "meta": {"$exists": True}})
        renew()
        if meta is not None:
            _replace_meta(db, name, meta["meta"])
        replace_task(db, name, state["task"])
    # The staging goes first: who comes after a kill in between finds nothing left to move, and closes the import.
    staging.delete_many(mine)
    closing.update_one({"_id": name, "import_id": state["import_id"]}, {"$set": {"pending": False, "task": None}})


def unhurried(db: Db) -> Db:
    """The database for writes that need not wait for the disk: the journal keeps its order, so that they are there as
    soon as the next write is that does wait."""
    return db.with_options(write_concern=WriteConcern(w=1, j=False))


def state_of(db: Db, name: str) -> Document:
    return db.import_states.find_one({"_id": name}) or {"_id": name}


def _replace_meta(db: Db, name: str, meta: Document) -> None:
    db.meta.replace_one({"_id": _identity(name)}, meta, upsert=True)
    db.meta.delete_many({"task_name": name, "_id": {"$ne": _identity(name)}})


def replace_task(db: Db, name: str, task: Document) -> None:
    db.tasks.replace_one({"_id": _identity(name)}, task, upsert=True)
    db.tasks.delete_many({"name": name, "_id": {"$ne": _identity(name)}})


def _identity(name: str) -> ObjectId:
    """Made of the name, so that no race can make two of one; documents of mongoimport have ids of their own."""
    return ObjectId(hashlib.sha256(name.encode()).hexdigest()[:24])


def _parts(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), BULK):
        yield list(items[start : start + BULK])


def without_id(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != "_id"}
