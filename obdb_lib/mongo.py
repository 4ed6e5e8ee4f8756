"""What the store needs round pymongo: errors as one sentence, a second try, and a lock between processes."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import psutil
from bson import ObjectId
from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, DuplicateKeyError, PyMongoError

from obdb_lib.errors import StoreError

logger = logging.getLogger(__name__)

LEASE_S = 15
"""How long a lock outlives a holder that was killed on another machine; a holder at work renews it with each step. Of a
holder on this machine it is known at once that it is gone."""
BOOT_ID, PROCESS_SPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
LOCK_TIMEOUT_S = 600.0
LOCK_POLL_S = 0.05
REASON_LENGTH = 200
NOISE = (" (configured timeouts", ", Timeout: ", ", Topology Description", ", full error: ")


INDEXES: dict[str, list[list[str]]] = {
    "tasks": [["name"]],
    "meta": [["task_name"]],
    "annotation_data": [["task_name", "frame"], ["img_path"], ["object_class"]],
    "snapshots": [["created"]],
    "splits": [["snapshot_id"], ["created"]],
    "split_frames": [["split_id", "part"], ["img_path"]],
    "runs": [["snapshot_id"], ["created"]],
    "suggestions": [["snapshot_id", "run_id"], ["img_path"]],
    "decisions": [["suggestion_id", "when"], ["snapshot_id"], ["when"]],
    "pushes": [["source_task", "when"]],
    "image_roots": [],
    "import_locks": [],
    "import_states": [["pending"]],
    "import_staging": [["import", "part"], ["task"]],
}


class Revivable(Protocol):
    """Something on a server that it may be able to start again."""

    def revive(self) -> bool: ...


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Revivable)


def short_reason(error: Exception) -> str:
    """What MongoDB said, without timeouts, topology and raw replies."""
    text = str(error)
    for noise in NOISE:
        text = text.split(noise)[0]
    return text[:REASON_LENGTH]


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method that may be called twice: when the connection broke and ``revive`` brought the server back, it is.

    Raises:
        StoreError: in place of any error of pymongo.
    """

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            try:
                return method(self, *args, **kwargs)
            except AutoReconnect as error:
                if not self.revive():
                    raise
                logger.warning("the database was gone (%s) and was started again", short_reason(error))
                return method(self, *args, **kwargs)
        except PyMongoError as error:
            raise StoreError(
                f"MongoDB failed in {method.__name__.strip('_')}: {short_reason(error)}. Check that the server runs "
                "and its disk has room, then run this step again; what was saved before is safe."
            ) from error

    return call


@contextmanager
def lease(locks: Collection[dict[str, Any]], name: str, owner: ObjectId) -> Iterator[Callable[[], None]]:
    """Hold the lock ``name`` among all processes on this server; yields a function that renews it.

    Times are the server's, so the clocks of two machines need not agree. ``owner`` may take it again while it holds it
    (a second try after the server broke down in the first).

    Raises:
        StoreError: someone else holds it for too long, or took it over because it was not renewed in time.
    """
    locks = locks.with_options(write_concern=WriteConcern(w=1, j=False))  # a lock need not outlive the server
    with suppress(DuplicateKeyError):  # someone else made it in the same moment
        locks.update_one({"_id": name}, {"$setOnInsert": {"until": datetime(1970, 1, 1, tzinfo=UTC)}}, upsert=True)
    until = {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": LEASE_S}}
    take = [{"$set": {"owner": owner, "until": until, "holder": {"$literal": _holder()}}}]

    def renew() -> None:
        if not locks.update_one({"_id": name, "owner": owner}, take).matched_count:
            raise StoreError(f"{name!r} is written by another process at the same time; run this step again")

    free = {"_id": name, "$or": [{"owner": owner}, {"$expr": {"$lte": ["$until", "$$NOW"]}}]}
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not locks.update_one(free, take).matched_count:
        if time.monotonic() > deadline:
            raise StoreError(f"{name!r} is still written by another process after {LOCK_TIMEOUT_S:.0f} s; wait for it")
        if not _free_of_dead(locks, name):
            time.sleep(LOCK_POLL_S)
    try:
        yield renew
    finally:
        with suppress(PyMongoError):  # it runs out by itself
            locks.update_one({"_id": name, "owner": owner}, {"$set": {"until": datetime(1970, 1, 1, tzinfo=UTC)}})


def _free_of_dead(locks: Collection[dict[str, Any]], name: str) -> bool:
    """Open the lock of a process of this machine that is gone; False when it is alive, or elsewhere."""
    found = locks.find_one({"_id": name}) or {}
    holder = found.get("holder") or {}
    if not holder.get("machine") or holder["machine"] != _machine() or _alive(holder):
        return False
    logger.info("%r was written by process %s, which is gone", name, holder.get("pid"))
    gone = {"_id": name, "owner": found["owner"]}
    return bool(locks.update_one(gone, {"$set": {"until": datetime(1970, 1, 1, tzinfo=UTC)}}).matched_count)


def _holder() -> dict[str, Any]:
    return {"machine": _machine(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _alive(holder: dict[str, Any]) -> bool:
    try:
        return bool(psutil.Process(int(holder["pid"])).create_time() == holder["started"])
    except psutil.Error:
        return False


@functools.cache
def _machine() -> str:
    """What process ids mean something in: this start of this machine, and this container; "" where it is not told."""
    try:
        return f"{BOOT_ID.read_text().strip()} {PROCESS_SPACE.readlink()}"
    except OSError:
        return ""


def without_password(uri: str) -> str:
    """An address that may be shown: user and password are taken out."""
    head, at, tail = uri.rpartition("@")
    return f"{head.split('://')[0]}://...@{tail}" if at else uri
