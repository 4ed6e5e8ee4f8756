"""MongoDB: collections in and out. With ``mongo``, the only module that talks to pymongo.

The three upstream collections (``tasks``, ``meta``, ``annotation_data``) keep their documents as they are. Decisions
and the push journal are append-only. Every write is acknowledged only once it is on disk (``j=True``).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bson import ObjectId
from pymongo import ASCENDING, MongoClient, ReplaceOne, ReturnDocument
from pymongo.errors import ConfigurationError, DuplicateKeyError, PyMongoError

from obdb_lib import mongod, paths, whole_tasks
from obdb_lib.box_ids import with_ids
from obdb_lib.errors import StoreError, TakenError
from obdb_lib.mongo import INDEXES, guarded, short_reason, without_password
from obdb_lib.progress import Progress, tracked
from obdb_lib.records import Document, TaskRecord
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.task_change import TaskChange, counts_of
from obdb_lib.whole_tasks import BULK, Import

__all__ = ["Store", "open_store", "with_ids"]
logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_MS = 5000
SNAPSHOT_FIELDS = dict.fromkeys(
    ("img_path", "points", "task_name", "frame", "object_class", "shape_types", "occluded", "source"), True
)


class Store:
    """The lab's collections in one database."""

    def __init__(self, uri: str | None = None, database: str | None = None) -> None:
        """Connect to ``uri``, else ``MONGODB_URI``, else the embedded server (started when needed).

        Raises:
            StoreError: the server cannot be reached or refuses; the address is named without its password.
        """
        self._database = database or paths.database_name()
        own = uri or paths.mongodb_uri()
        self._embedded = own is None
        self._connect(own or mongod.ensure_running())

    def _connect(self, address: str) -> None:
        try:
            # Acknowledged only when it is in the journal on disk: no write may be lost to kill -9 of anything.
            self._client: MongoClient[Document] = MongoClient(
                address,
                serverSelectionTimeoutMS=CONNECT_TIMEOUT_MS,
                tz_aware=True,
                appname="obdb-lab",
                w=1,
                journal=True,
            )
            self._client.admin.command("ping")
            self._db = self._client[self._database]
            self._ensure_indexes()
        except (PyMongoError, ConfigurationError) as error:
            raise StoreError(
                f"MongoDB at {without_password(address)} cannot be used: {short_reason(error)}. Check MONGODB_URI and "
                "that the server runs, or unset it to use the embedded server."
            ) from error
        self._address = address

    def revive(self) -> bool:
        """Start the embedded server again if it ended; False for a server of the user's own."""
        if not self._embedded:
            return False
        address = mongod.ensure_running()
        if address != self._address:  # it comes back on its old port unless that was taken meanwhile
            self._client.close()
            self._connect(address)
        return True

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ensure_indexes(self) -> None:
        for collection, indexes in INDEXES.items():
            for keys in indexes:
                self._db[collection].create_index([(key, ASCENDING) for key in keys])

    # -- tasks, frames, annotations ------------------------------------------------------------------------------

    def import_tasks(self, records: Sequence[TaskRecord], *, progress: Progress | None = None) -> dict[str, int]:
        """Put whole tasks in place; see ``put_tasks``.

        Returns:
            Numbers of ``tasks``, ``frames``, ``annotations`` now in place for these tasks.
        """
        return counts_of(self.put_tasks(records, progress=progress))

    def put_tasks(self, records: Sequence[TaskRecord], *, progress: Progress | None = None) -> list[TaskChange]:
        """Put whole tasks in place; a task of the same name is replaced.

        Each changes as a whole or not at all: at whatever moment this process is killed, readers see the old task or
        the new one. Repeating changes nothing, and annotations that stay keep their ``_id``. Processes that put the
        same task take turns.

        Returns:
            What was changed, a TaskChange a record.

        Raises:
            StoreError: a document cannot be stored, or the server fails; tasks before it are in place.
        """
        return [self._put_task(record, Import()) for record in tracked(records, progress, "store tasks")]

    @guarded
    def _put_task(self, record: TaskRecord, job: Import) -> TaskChange:
        return whole_tasks.put_task(self._db, record, job)

    def remove_tasks(self, names: Sequence[str]) -> list[TaskChange]:
        """Take whole tasks out, each as a whole or not at all; names that are not there are passed over."""
        changes = [self._remove_task(name, Import()) for name in names]
        return [change for change in changes if change is not None]

    @guarded
    def _remove_task(self, name: str, job: Import) -> TaskChange | None:
        return whole_tasks.remove_task(self._db, name, job)

    @guarded
    def task_names(self) -> list[str]:
        """Sorted names of all tasks."""
        whole_tasks.settle(self._db)
        return sorted(self._db.tasks.distinct("name"))

    @guarded
    def tasks(self, names: Sequence[str] | None = None) -> list[Document]:
        """Documents of ``tasks``; all, or those of the given names."""
        whole_tasks.settle(self._db, names)
        return list(self._db.tasks.find(_named("name", names)).sort("name"))

    @guarded
    def record(self, task_name: str) -> TaskRecord:
        """One task with its frames and annotations.

        Raises:
            StoreError: there is no such task, or an earlier version of this lab was killed in its import.
        """
        return whole_tasks.read_whole(self._db, [task_name], self._record)[task_name]

    def _record(self, names: Sequence[str]) -> dict[str, TaskRecord]:
        [name] = names
        found_tasks, meta = self.tasks(names), self._db.meta.find_one({"task_name": name})
        _refuse_half(found_tasks)
        if not found_tasks or meta is None:
            raise StoreError(f"there is no task {name!r}; tasks in the store: {_some(self.task_names())}")
        boxes = self._db.annotation_data.find({"task_name": name}).sort([("frame", 1), ("_id", 1)])
        return {name: TaskRecord(found_tasks[0], meta, list(boxes))}

    @guarded
    def frame_names(self) -> list[str]:
        """``img_path`` of every frame, in the order of tasks and frames; annotations are not read."""
        known = {"task_name": {"$in": self.task_names()}}
        metas = self._db.meta.find(known, {"frames.name": 1}).sort([("task_name", 1), ("_id", 1)])
        return [frame["name"] for meta in metas for frame in meta.get("frames", [])]

    @guarded
    def frames_of_task(self, task_name: str) -> list[Document]:
        """Entries of ``meta`` for the frames of one task; empty when there is no such task."""
        return list((self._db.meta.find_one({"task_name": task_name}) or {}).get("frames", []))

    @guarded
    def counts(self, names: Sequence[str]) -> dict[str, int]:
        """Numbers of ``tasks``, ``frames`` and ``annotations`` of some tasks."""
        whole_tasks.settle(self._db, names)
        frames = sum(len(meta.get("frames", [])) for meta in self._db.meta.find({"task_name": {"$in": list(names)}}))
        boxes = self._db.annotation_data.count_documents({"task_name": {"$in": list(names)}})
        return {"tasks": len(names), "frames": frames, "annotations": boxes}

    @guarded
    def snapshot(self, tasks: Sequence[str] | None = None, *, naming_pattern: str | None = None) -> str:
        """Record the annotations now in use and return their content hash.

        Args:
            tasks: task names; all tasks of the store when None.
            naming_pattern: see naming.parse_recording.

        Raises:
            StoreError: a task is unknown or its import was interrupted, or nothing was imported yet.
        """
        snapshot = self._tables(tasks, naming_pattern)
        document = {
            "_id": snapshot.id,
            "tasks": list(snapshot.task_names),
            "naming_pattern": naming_pattern,
            "classes": list(snapshot.classes),
            "frames": len(snapshot.frames),
            "annotations": len(snapshot.annotations),
            "created": datetime.now(UTC),
        }
        self._db.snapshots.update_one({"_id": snapshot.id}, {"$setOnInsert": document}, upsert=True)
        return snapshot.id

    @guarded
    def snapshot_with(self, snapshot_id: str, tasks: Sequence[str]) -> str:
        """A recorded snapshot with further tasks, as ``snapshot`` would take it now; its content hash."""
        document = self._db.snapshots.find_one({"_id": snapshot_id}) or {}
        names = dict.fromkeys([*document.get("tasks", []), *tasks])
        return self.snapshot(list(names), naming_pattern=document.get("naming_pattern"))

    @guarded
    def load(self, snapshot_id: str) -> Snapshot:
        """Tables of a recorded snapshot.

        Raises:
            StoreError: it is unknown, or the annotations were changed since (the new data needs a new snapshot).
        """
        document = self._db.snapshots.find_one({"_id": snapshot_id})
        if document is None:
            raise StoreError(f"there is no snapshot {snapshot_id!r}; run notebook 01 to take one")
        snapshot = self._tables(document["tasks"], document.get("naming_pattern"))
        if snapshot.id != snapshot_id:
            raise StoreError(
                f"the annotations changed since snapshot {snapshot_id} was taken ({document['annotations']} then, "
                f"{len(snapshot.annotations)} now): run notebook 01 again and go on with the new snapshot {snapshot.id}"
            )
        return snapshot

    def _tables(self, tasks: Sequence[str] | None, naming_pattern: str | None) -> Snapshot:
        documents = self.tasks(tasks)
        known = {document["name"] for document in documents}
        if not known and not tasks:
            raise StoreError("the store holds no tasks yet; run notebook 01 to import annotations")
        unknown = sorted(set(tasks or []) - known)
        if unknown:
            raise StoreError(f"unknown tasks {_some(unknown)}; in the store: {_some(self.task_names())}")
        _refuse_half(documents)
        found = whole_tasks.read_whole(self._db, sorted(known), self._frames_and_boxes)
        metas = [meta for metas, _ in found.values() for meta in metas]
        return build_snapshot(
            metas, (box for _, boxes in found.values() for box in boxes), naming_pattern=naming_pattern
        )

    def _frames_and_boxes(self, names: Sequence[str]) -> dict[str, tuple[list[Document], list[Document]]]:
        """Documents of ``meta`` and ``annotation_data`` by task, of the latter what a snapshot needs."""
        found: dict[str, tuple[list[Document], list[Document]]] = {name: ([], []) for name in names}
        for meta in self._db.meta.find({"task_name": {"$in": list(names)}}):
            found[meta["task_name"]][0].append(meta)
        for box in self._db.annotation_data.find({"task_name": {"$in": list(names)}}, SNAPSHOT_FIELDS):
            found[box["task_name"]][1].append(box)
        return found

    def add_image_roots(self, roots: Iterable[Path | str]) -> None:
        """Remember folders that hold images, for later notebooks."""
        for root in roots:
            self._add_image_root(str(Path(root).expanduser().resolve()))

    @guarded
    def _add_image_root(self, path: str) -> None:
        self._db.image_roots.update_one({"_id": path}, {"$set": {"added": datetime.now(UTC)}}, upsert=True)

    @guarded
    def image_roots(self) -> list[Path]:
        """Remembered folders, newest first."""
        return [Path(document["_id"]) for document in self._db.image_roots.find().sort("added", -1)]

    # -- splits, runs ---------------------------------------------------------------------------------------------

    @guarded
    def save_split(self, document: Document, frames: Sequence[Document]) -> None:
        """Store a split and its frames; frames first, so that a split that can be found is whole."""
        split_id = document["_id"]
        stored = [{**frame, "_id": f"{split_id}:{frame['img_path']}", "split_id": split_id} for frame in frames]
        for start in range(0, len(stored), BULK):
            part = stored[start : start + BULK]
            self._db.split_frames.bulk_write([ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in part])
        self._db.splits.replace_one({"_id": split_id}, document, upsert=True)

    @guarded
    def split(self, split_id: str) -> tuple[Document, list[Document]]:
        """A split and its frames.

        Raises:
            StoreError: there is no such split.
        """
        document = self._db.splits.find_one({"_id": split_id})
        if document is None:
            raise StoreError(f"there is no split {split_id!r} in the store; notebook 02 makes and saves them")
        return document, list(self._db.split_frames.find({"split_id": split_id}).sort("img_path"))

    @guarded
    def save_run(self, document: Document) -> None:
        """Store a training run (``_id`` is the run id); a run of the same id is replaced."""
        self._db.runs.replace_one({"_id": document["_id"]}, document, upsert=True)

    @guarded
    def runs(self, snapshot_id: str | None = None) -> list[Document]:
        """Training runs, newest first."""
        query = {"snapshot_id": snapshot_id} if snapshot_id else {}
        return list(self._db.runs.find(query).sort("created", -1))

    # -- suggestions, decisions, pushes ------------------------------------------------------------------------------

    @guarded
    def save_suggestions(self, documents: Sequence[Document]) -> None:
        """Store suggestions; one of the same ``_id`` is replaced."""
        for start in range(0, len(documents), BULK):
            part = documents[start : start + BULK]
            self._db.suggestions.bulk_write([ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in part])

    @guarded
    def suggestions(self, snapshot_id: str, run_id: str | None = None) -> list[Document]:
        """Suggestions of a snapshot (of one run, when given), the most certain first."""
        query = {"snapshot_id": snapshot_id} | ({"run_id": run_id} if run_id else {})
        return list(self._db.suggestions.find(query).sort([("score", -1), ("_id", 1)]))

    @guarded
    def suggestions_by_id(self, suggestion_ids: Sequence[str]) -> list[Document]:
        """Suggestions of any snapshot and run, those that there are."""
        found: list[Document] = []
        for start in range(0, len(suggestion_ids), BULK):
            part = list(suggestion_ids[start : start + BULK])
            found += self._db.suggestions.find({"_id": {"$in": part}}).sort("_id", 1)
        return found

    def append_decision(self, document: Document) -> Document:
        """Add one decision to the journal; returns it, ``_id`` and time included, once it is safe on disk.

        Raises TakenError when the document brought an ``_id`` that another entry has.
        """
        return self._append("decisions", document)

    @guarded
    def decisions(
        self, suggestion_ids: Sequence[str] | None = None, *, since: datetime | None = None
    ) -> list[Document]:
        """The journal in the order it was written; of some suggestions, or whole; from a time on, when given."""
        query = _named("suggestion_id", suggestion_ids) | ({} if since is None else {"when": {"$gte": since}})
        return list(self._db.decisions.find(query).sort([("when", 1), ("seq", 1), ("_id", 1)]))

    def append_push(self, document: Document) -> Document:
        """Add one entry to the push journal."""
        return self._append("pushes", document)

    @guarded
    def pushes(self, source_task: str | None = None) -> list[Document]:
        """Entries of all pushes, or of those from one task, in the order they were written."""
        query = {} if source_task is None else {"source_task": source_task}
        return list(self._db.pushes.find(query).sort([("when", 1), ("_id", 1)]))

    def _append(self, collection: str, document: Document) -> Document:
        stored = self._put_new(collection, {"_id": ObjectId(), **document})
        # The same entry can be there already from a first try whose answer was lost; another one is somebody else's.
        if "_id" in document and {key: stored.get(key) for key in document} != document:
            raise TakenError(f"another entry has the id {document['_id']!r} in {collection}; read it and try again")
        return stored

    @guarded
    def _put_new(self, collection: str, entry: Document) -> Document:
        """Add ``entry`` unless its ``_id`` is there; returns what is there now."""
        # The time is the server's: entries that people write at several machines then have one order.
        made = {"$mergeObjects": [{"when": "$$NOW"}, {"$literal": entry}]}
        is_new = {"$eq": [{"$type": "$when"}, "missing"]}
        change = [{"$replaceWith": {"$cond": [is_new, made, "$$ROOT"]}}]
        find = functools.partial(self._db[collection].find_one_and_update, return_document=ReturnDocument.AFTER)
        try:
            stored = find({"_id": entry["_id"]}, change, upsert=True)
        except DuplicateKeyError:  # two made it in the same moment: now it is there
            stored = find({"_id": entry["_id"]}, change)
        return dict(stored or {})  # never None: what was upserted is there


def open_store() -> Store:
    """The store of this lab: ``MONGODB_URI`` or the embedded server."""
    return Store()


def _named(key: str, names: Sequence[str] | None) -> Document:
    return {} if names is None else {key: {"$in": list(names)}}


def _refuse_half(tasks: Iterable[Document]) -> None:
    half = sorted({str(document["name"]) for document in tasks if document.get("importing")})
    if half:
        raise StoreError(f"the import of {_some(half)} was interrupted; import these tasks again, nothing is lost")


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "") if names else "none"
