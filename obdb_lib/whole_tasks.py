"""A task of the store changes as a whole or not at all, on any MongoDB, with or without transactions.

New documents wait in ``import_staging``. One write to ``import_states`` (a document a task) is the moment at which the
new version counts; what follows is a roll-forward from the staging to upstream's three collections that any process can
repeat or finish: the importer itself, the next importer, or the next reader, whoever comes first after a kill -9. A
reader compares a task's version before and after it read, and reads again when it changed in between.

A task that nobody can see yet (it has no document in ``tasks``) needs no staging: its document in ``tasks`` is written
last, and without it readers of this lab do not see the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import bson
from bson import ObjectId
from bson.errors import BSONError

from obdb_lib.box_ids import keep_known_ids, with_ids
from obdb_lib.collector import cycles_later
from obdb_lib.errors import StoreError
from obdb_lib.mongo import lease
from obdb_lib.records import Document, TaskRecord
from obdb_lib.roll_forward import (
    BULK,
    Db,
    NewVersion,
    commit,
    replace_task,
    roll_forward,
    stage,
    state_of,
    unhurried,
    without_id,
    write_unseen,
)
from obdb_lib.task_change import ADDED, CHANGED, REMOVED, UNCHANGED, FrameChange, TaskChange, compare_frames

__all__ = ["BULK", "Import", "put_task", "read_whole", "remove_task", "settle"]
logger = logging.getLogger(__name__)

READ_TRIES = 50
"""How often a reader reads a task again that was changed under its eyes; it was whole each time in between."""

T = TypeVar("T")


@dataclass
class Import:
    """One import, which may be tried again after a broken connection: its id, and what it was found to change."""

    number: ObjectId = field(default_factory=ObjectId)
    change: TaskChange | None = None


def put_task(db: Db, record: TaskRecord, job: Import) -> TaskChange:
    """Put a task in place of the one of its name. Processes that write the same task take turns.

    Raises:
        StoreError: a document cannot be stored (a number beyond 64 bits), or another process holds the task.
    """
    name = record.name
    with _storable(name), lease(db.import_locks, name, job.number) as renew:
        state = state_of(db, name)
        roll_forward(db, state, renew)
        if job.change is not None and state.get("import_id") == job.number:
            return job.change  # a second try, after the answer to the first was lost
        with cycles_later():
            old = _stored(db, name)
            new = _compare(old, record)
        job.change = new.change
        if not old.visible or new.put or new.gone or new.frames:
            write = stage if old.visible else write_unseen
            parts = write(unhurried(db), name, new, job.number, renew)
            commit(db, {"_id": name, "import_id": job.number, "parts": parts, "task": new.task}, renew)
            roll_forward(db, state_of(db, name), renew)
        elif [without_id(task) for task in old.tasks] != [new.task]:
            replace_task(db, name, new.task)
        return new.change


@contextmanager
def _storable(name: str) -> Iterator[None]:
    """Tells a value that MongoDB has no form for; none is met after an import is decided, so nothing is half done."""
    try:
        yield
    except (BSONError, OverflowError) as error:
        raise StoreError(
            f"task {name!r} cannot be stored: {error}. Nothing was changed; correct that value in its source"
        ) from error


def remove_task(db: Db, name: str, job: Import) -> TaskChange | None:
    """Take a task out, whole; None when there was none."""
    with lease(db.import_locks, name, job.number) as renew:
        state = state_of(db, name)
        roll_forward(db, state, renew)
        if job.change is not None and state.get("import_id") == job.number:
            return job.change
        old = _stored(db, name)
        if not old.tasks:
            return None
        frames, boxes = compare_frames(old.meta, {"frames": []}), tuple(map(str, old.boxes))
        job.change = TaskChange(name, REMOVED, 0, 0, frames_removed=frames.removed, boxes_removed=boxes)
        commit(db, {"_id": name, "import_id": job.number, "parts": 0, "task": None}, renew)
        roll_forward(db, state_of(db, name), renew)
        return job.change


# -- reading -------------------------------------------------------------------------------------------------------


def settle(db: Db, names: Collection[str] | None = None) -> None:
    """Finish the imports that were decided and not carried out, of some tasks or of all."""
    which = {"pending": True} | ({} if names is None else {"_id": {"$in": list(names)}})
    for found in list(db.import_states.find(which, {"_id": 1})):
        with lease(db.import_locks, found["_id"], ObjectId()) as renew:
            state = state_of(db, found["_id"])
            if state.get("pending"):
                logger.info("finishing the import of task %r", found["_id"])
            roll_forward(db, state, renew)


def read_whole(
    db: Db, names: Collection[str], read: Callable[[Sequence[str]], Mapping[str, T]], *, tries: int = READ_TRIES
) -> dict[str, T]:
    """What ``read`` gives for the tasks of the given names, each of them as it was at one moment.

    Args:
        read: gives a value for each name it is called with; it may be called again with some of them.

    Raises:
        StoreError: a task was changed during each of ``tries`` readings.
    """
    found: dict[str, T] = {}
    waiting = list(names)
    for _ in range(tries):
        settle(db, waiting)
        before = _versions(db, waiting)
        found.update(read(waiting))
        after = _versions(db, waiting)
        waiting = [name for name in waiting if before.get(name) != after.get(name) or after.get(name, (0, False))[1]]
        if not waiting:
            return found
    raise StoreError(f"task {waiting[0]!r} is written all the time by another process; wait for it and try again")


def _versions(db: Db, names: Sequence[str]) -> dict[str, tuple[Any, bool]]:
    states = db.import_states.find({"_id": {"$in": list(names)}}, {"import_id": 1, "pending": 1})
    return {state["_id"]: (state["import_id"], bool(state.get("pending"))) for state in states}


# -- comparing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """What the collections hold under a task's name; ``visible`` when readers take it for a task."""

    tasks: list[Document]
    meta: Document | None
    metas: int
    boxes: dict[Any, Document]

    @property
    def visible(self) -> bool:
        return bool(self.tasks) and not any(task.get("importing") for task in self.tasks)


def _stored(db: Db, name: str) -> _Stored:
    metas = list(db.meta.find({"task_name": name}))
    boxes = {box["_id"]: box for box in db.annotation_data.find({"task_name": name})}
    return _Stored(list(db.tasks.find({"name": name})), metas[0] if metas else None, len(metas), boxes)


def _compare(old: _Stored, record: TaskRecord) -> NewVersion:
    name = record.name
    boxes = {box["_id"]: box for box in keep_known_ids(with_ids(record.annotations), old.boxes)}
    put = [box for number, box in boxes.items() if not _same(box, old.boxes.get(number))]
    meta, task = without_id(_as_stored(record.meta)), without_id(_as_stored(record.task))
    fresh = {box["_id"] for box in put if box["_id"] not in old.boxes}
    gone = [number for number in old.boxes if number not in boxes]
    seen = old.tasks != []
    frames = compare_frames(old.meta if seen else None, meta)
    labels_changed = seen and old.tasks[0].get("labels") != task.get("labels")
    if not seen:
        kind, added, changed, removed = ADDED, list(boxes), [], []
    else:
        kind = CHANGED if put or gone or frames or labels_changed else UNCHANGED
        added = [box["_id"] for box in put if box["_id"] in fresh]
        changed, removed = [box["_id"] for box in put if box["_id"] not in fresh], gone
    change = TaskChange(
        *(name, kind, len(meta["frames"]), len(boxes), frames.added, frames.changed, frames.removed),
        *(_texts(added), _texts(changed), _texts(removed), labels_changed),
    )
    if old.metas > 1:  # of a mongoimport that ran twice
        frames = FrameChange(frames.added, frames.changed, frames.removed, other=True)
    return NewVersion(put, fresh, gone, meta, frames, task, change)


def _same(new: Document, old: Document | None) -> bool:
    """Whether storing ``new`` would change ``old``; tuples and the like are compared as the lists they come back as."""
    if old is None or len(new) != len(old):
        return False
    return new == old or all(
        key in old and (value == old[key] or _as_stored({key: value})[key] == old[key]) for key, value in new.items()
    )


def _as_stored(document: Document) -> Document:
    decoded: Document = bson.decode(bson.encode(document))
    return decoded


def _texts(ids: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, ids))
