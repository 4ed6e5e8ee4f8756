"""A task changes as a whole or not at all: whatever is broken off, readers see the old one or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from obdb_lib import roll_forward, whole_tasks
from obdb_lib.box_ids import with_ids
from obdb_lib.cache import read_json
from obdb_lib.errors import StoreError
from obdb_lib.mongo import lease
from obdb_lib.records import Document, TaskRecord
from obdb_lib.store import Store
from tests.conftest import PROJECT
from tests.helpers import task
from tests.one_database import emptied_store, one_database  # noqa: F401 - fixtures

WRITES = ("insert_many", "insert_one", "bulk_write", "replace_one", "update_one", "delete_many", "aggregate")
STAYS, MOVES, GOES = ("Fat hen", [1, 2, 30, 40]), ("Fat hen", [5, 5, 25, 30]), ("Dandelion", [40, 10, 70, 50])
OLD = task(boxes={0: [STAYS, GOES], 2: [MOVES]})
NEW = task(frames=4, boxes={0: [STAYS], 1: [("Dandelion", [3, 3, 20, 20])], 3: [("Fat hen", [8, 8, 30, 30])]})


class Broken(BaseException):
    """As a kill: nothing catches it."""


@dataclass
class Breaker:
    """Breaks off at the n-th write, before or after it was carried out; counts them all."""

    at: int = -1
    after: bool = False
    error: type[BaseException] = Broken
    seen: int = 0

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def call(collection: Collection[Document], *arguments: Any, **named: Any) -> Any:
            if collection.name == "import_locks":
                return write(collection, *arguments, **named)
            number, self.seen = self.seen, self.seen + 1
            if number == self.at and not self.after:
                raise self.error
            result = write(collection, *arguments, **named)
            if number == self.at:
                raise self.error
            return result

        return call


@pytest.fixture
def breaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``breaker(at, after, error)``: writes from now on break off there."""
    originals = {name: getattr(Collection, name) for name in WRITES}

    def use(at: int = -1, after: bool = False, error: type[BaseException] = Broken) -> Breaker:
        made = Breaker(at, after, error)
        for name, write in originals.items():
            monkeypatch.setattr(Collection, name, made.around(write))
        return made

    yield use
    for name, write in originals.items():
        monkeypatch.setattr(Collection, name, write)


def content(record: TaskRecord) -> tuple[Any, ...]:
    boxes = sorted((a["frame"], a["object_class"], tuple(a["points"])) for a in record.annotations)
    return [frame["name"] for frame in record.meta["frames"]], boxes


def seen(store: Store, name: str = OLD.name) -> tuple[Any, ...] | None:
    return content(store.record(name)) if name in store.task_names() else None


@pytest.mark.parametrize("after", [False, True], ids=["before a write", "after a write"])
@pytest.mark.parametrize("kind", ["replace", "first", "remove"])
def test_broken_off_at_every_write__old_or_new_whole(store: Store, breaker: Any, kind: str, after: bool) -> None:
    def act() -> None:
        _ = store.remove_tasks([OLD.name]) if kind == "remove" else store.put_tasks([NEW])

    def restart() -> None:
        breaker()
        store.remove_tasks([OLD.name])
        if kind != "first":
            store.put_tasks([OLD])

    old, new = (None if kind == "first" else content(OLD)), (None if kind == "remove" else content(NEW))
    restart()
    counter = breaker()
    act()
    assert counter.seen > 3
    outcomes = []
    for number in range(counter.seen):
        restart()
        breaker(number, after)
        with pytest.raises(Broken):
            act()
        breaker()
        outcomes.append(seen(store))
        assert outcomes[-1] in (old, new), f"write {number}"
        assert seen(store) == outcomes[-1]
        act()
        assert seen(store) == new
        assert store._db.import_staging.count_documents({}) == 0
        left = store._db.annotation_data.count_documents({})
        assert left == (0 if new is None else len(new[1])), f"write {number} left documents behind"
    first, last = (new if kind == "remove" and after else old), new  # a removal is decided with its first write
    assert (outcomes[0], outcomes[-1]) == (first, last), "each of the two was seen"


def test_a_broken_connection_at_every_write__the_second_try_says_what_was_changed(
    store: Store, breaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "revive", lambda self: True)
    for first in (True, False):
        store.remove_tasks([OLD.name])
        _ = None if first else store.put_tasks([OLD])
        counter = breaker()
        [undisturbed] = store.put_tasks([NEW])
        for number in range(counter.seen):
            for after in (False, True):
                breaker()
                store.remove_tasks([OLD.name])
                _ = None if first else store.put_tasks([OLD])
                breaker(number, after, AutoReconnect)
                assert store.put_tasks([NEW]) == [undisturbed], (number, after)
                assert seen(store) == content(NEW)


def test_what_was_changed_is_told_by_stable_ids(store: Store) -> None:
    [first] = store.put_tasks([OLD])
    assert (first.kind, first.frames, first.boxes, len(first.boxes_added)) == ("added", 3, 3, 3)
    ids = {tuple(a["points"]): str(a["_id"]) for a in store.record(OLD.name).annotations}
    [again] = store.put_tasks([OLD])
    assert (again.kind, str(again)) == ("unchanged", f"{OLD.name}: unchanged")
    [change] = store.put_tasks([NEW])
    after = {tuple(a["points"]): str(a["_id"]) for a in store.record(OLD.name).annotations}
    assert after[1, 2, 30, 40] == ids[1, 2, 30, 40], "a box that stays keeps its id"
    assert set(change.boxes_removed) == {ids[40, 10, 70, 50], ids[5, 5, 25, 30]}
    assert set(change.boxes_added) == set(after.values()) - set(ids.values())
    assert change.frames_added == (NEW.meta["frames"][3]["name"],)
    assert str(change).endswith("changed (1 frames added, 2 boxes added, 2 boxes removed)")
    [removed] = store.remove_tasks([OLD.name])
    assert (removed.kind, len(removed.frames_removed), len(removed.boxes_removed)) == ("removed", 4, 3)
    assert store.remove_tasks([OLD.name]) == []


def test_a_box_of_cvat_keeps_its_id_when_it_is_moved(store: Store) -> None:
    def drawn(*points: float, **place: Any) -> TaskRecord:
        record = task(boxes={0: [("Fat hen", points)]})
        record.annotations[0]["cvat_id"] = {"task": 7, "frame": 0, "shape": 31, **place}
        return record

    store.put_tasks([drawn(1, 1, 9, 9)])
    [before] = store.record(OLD.name).annotations
    [change] = store.put_tasks([drawn(2, 2, 9, 9)])
    [moved] = store.record(OLD.name).annotations
    assert moved["_id"] == before["_id"]
    assert moved["points"] == [2, 2, 9, 9]
    assert change.boxes_changed == (str(before["_id"]),)
    assert not change.boxes_added
    assert not change.boxes_removed
    # Stored by a version that made ids of the content: that id stays, and repeating changes nothing.
    store._db.annotation_data.delete_many({})
    store._db.annotation_data.insert_one({**moved, "_id": ObjectId("0" * 24)})
    for kind in ("changed", "unchanged"):
        [change] = store.put_tasks([drawn(3, 3, 9, 9)])
        assert change.kind == kind
        assert [a["_id"] for a in store.record(OLD.name).annotations] == [ObjectId("0" * 24)]
    between = [with_ids(drawn(1, 1, 9, 9, shape=None, track=4, frame=frame).annotations)[0] for frame in (0, 1)]
    assert between[0]["_id"] != between[1]["_id"], "boxes between keyframes are told apart by their frame"


def test_upstreams_collections_stay_plain(store: Store) -> None:
    store.put_tasks([OLD])
    store.put_tasks([NEW])
    for document, given in ((store._db.tasks.find_one(), NEW.task), (store._db.meta.find_one(), NEW.meta)):
        assert document is not None
        assert {key: value for key, value in document.items() if key != "_id"} == given
    stored = list(store._db.annotation_data.find({}, {"_id": 0}))
    assert sorted(stored, key=str) == sorted(NEW.annotations, key=str)


def test_only_what_differs_is_written(store: Store, breaker: Any) -> None:
    store.put_tasks([OLD])
    counter = breaker()
    store.put_tasks([OLD])
    assert counter.seen == 0
    store.put_tasks([TaskRecord({**OLD.task, "updated_date": "2027"}, OLD.meta, OLD.annotations)])
    assert counter.seen == 2  # the task's document, and others of its name
    assert store.record(OLD.name).task["updated_date"] == "2027"


def test_many_boxes_go_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_forward, "BULK", 7)
    monkeypatch.setattr(roll_forward, "PACK", 6)
    monkeypatch.setattr(roll_forward, "PACK_BYTES", 1500)  # of some four boxes
    first = task(boxes={0: [("Fat hen", [i, 1, i + 5, 9]) for i in range(40)]})
    second = task(boxes={0: [("Fat hen", [i, 1, i + 5, 9]) for i in range(20, 60)]})
    for record in (first, second):
        store.put_tasks([record])
        assert seen(store) == content(record)


def test_a_first_import_that_broke_off_is_gone_on_with(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes without a task, as a kill leaves them: some stay, some were moved meanwhile, some went, some are new."""
    monkeypatch.setattr(roll_forward, "BULK", 4)

    def drawn(numbers: range, moved: range) -> TaskRecord:
        record = task(boxes={0: [("Fat hen", [i + (i in moved), 1, i + 9, 9]) for i in numbers]})
        for number, box in zip(numbers, record.annotations, strict=True):
            box["cvat_id"] = {"task": 7, "frame": 0, "shape": number}
        return record

    store.put_tasks([drawn(range(20), range(0))])
    store._db.tasks.delete_many({})
    record = drawn(range(5, 30), range(10, 20))
    [change] = store.put_tasks([record])
    assert (change.kind, len(change.boxes_added)) == ("added", 25), "nobody saw what was there before"
    assert seen(store) == content(record)


def test_readers_beside_a_writer_never_see_a_mixture(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each version has boxes of one size only; a reader that saw two sizes, or another number, saw a mixture."""
    monkeypatch.setattr("obdb_lib.mongo.LOCK_POLL_S", 0.002)
    versions = [task(boxes={0: [("Fat hen", [i, 1, i + size, 9]) for i in range(30)]}) for size in (5, 7)]
    store.put_tasks(versions[:1])
    stop, at_work = threading.Event(), threading.Event()

    def write() -> None:
        with Store(database=store._db.name) as own:
            while not stop.is_set():
                own.put_tasks(versions[1:])
                at_work.set()
                own.put_tasks(versions[:1])

    writer = threading.Thread(target=write)
    writer.start()
    sizes: list[set[float]] = []
    try:
        assert at_work.wait(60)
        while len(sizes) < 120 or (set.union(*sizes) != {5, 7} and len(sizes) < 300):
            boxes = store.record(OLD.name).annotations
            table = store._tables(None, None).annotations
            assert len(boxes) == len(table) == 30
            sizes += [{a["points"][2] - a["points"][0] for a in boxes}, set((table["x2"] - table["x1"]).tolist())]
    finally:
        stop.set()
        writer.join()
    assert {len(one) for one in sizes} == {1}
    assert set.union(*sizes) == {5, 7}, "the writer was really at work"


@pytest.mark.slow
def test_kill_9_of_the_server_in_the_middle_of_imports(tmp_path: Path) -> None:
    """Writes that did not wait for the disk may be lost, but never one before another that is there."""
    versions = [task(boxes={0: [("Fat hen", [i, 1, i + size, 9]) for i in range(40)]}) for size in (5, 7)]
    script = textwrap.dedent(
        """
        from obdb_lib.store import Store
        from tests.helpers import task
        versions = [task(boxes={0: [("Fat hen", [i, 1, i + size, 9]) for i in range(40)]}) for size in (5, 7)]
        store = Store(database="killed")
        for number in range(1_000_000):
            store.put_tasks([versions[number % 2]])
            print(number, flush=True)
        """
    )
    environment = {**os.environ, "OBDB_DATA_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", script]
    for number in range(2):
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT)
        assert writer.stdout is not None
        for _ in range(3 + 4 * number):
            next(writer.stdout)
        time.sleep(0.007 * number)
        server = read_json(tmp_path / "mongodb" / "server.json")["pid"]
        writer.kill()
        os.kill(server, signal.SIGKILL)
        writer.wait(30)
        look = "from obdb_lib.store import Store; r = Store(database='killed').record(input()); "
        look += "print(*(a['points'][2] - a['points'][0] for a in r.annotations))"
        run = [sys.executable, "-c", look]
        found = subprocess.run(run, input=OLD.name, capture_output=True, text=True, env=environment, check=True)
        sizes = found.stdout.split()
        assert len(sizes) == len(versions[0].annotations)
        assert len(set(sizes)) == 1
    os.kill(read_json(tmp_path / "mongodb" / "server.json")["pid"], signal.SIGTERM)


def test_a_task_that_is_written_all_the_time_is_said(store: Store) -> None:
    store.put_tasks([OLD])
    flip = iter([NEW, OLD] * 5)

    def read(names: Any) -> dict[str, int]:
        store.put_tasks([next(flip)])
        return dict.fromkeys(names, 1)

    with pytest.raises(StoreError, match=r"'FieldData .*' is written all the time by another process"):
        whole_tasks.read_whole(store._db, [OLD.name], read, tries=3)


def test_what_cannot_be_stored_changes_nothing(store: Store) -> None:
    for earlier in (None, OLD, NEW):  # into an empty store, over a box that stays, over others
        if earlier is not None:
            store.put_tasks([earlier])
        for place in ("annotations", "task", "meta"):
            huge = task(boxes={0: [STAYS]})
            value = [{"spec_id": 10**30, "value": "x"}]
            (huge.annotations[0] if place == "annotations" else getattr(huge, place))["attributes"] = value
            with pytest.raises(StoreError, match=r"'FieldData .*' cannot be stored: .*8-byte.*Nothing was changed"):
                store.put_tasks([huge])
            assert seen(store) == (content(earlier) if earlier else None)


def test_tuples_are_no_change(store: Store) -> None:
    store.put_tasks([OLD])
    as_tuples = [{**box, "points": tuple(box["points"])} for box in OLD.annotations]
    [change] = store.put_tasks([TaskRecord(OLD.task, OLD.meta, as_tuples)])
    assert change.kind == "unchanged"


def test_an_id_that_another_task_has_is_taken_over(store: Store) -> None:
    """As mongoexport files give it when a task was renamed: the document moves to the name that came last."""
    renamed = task("FieldData 20200520145736 1L renamed", boxes={0: [STAYS]})
    store.put_tasks([OLD])
    renamed.annotations[0]["_id"] = store.record(OLD.name).annotations[0]["_id"]
    store.put_tasks([renamed])
    assert len(store.record(renamed.name).annotations) == 1


def test_the_lock_of_a_dead_process_of_this_machine_is_opened_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = store._db.import_locks
    monkeypatch.setattr("obdb_lib.mongo.LOCK_TIMEOUT_S", 0.3)
    held = lease(locks, "a", ObjectId())
    held.__enter__()
    with pytest.raises(StoreError, match="still written"), lease(locks, "a", ObjectId()):
        pass  # its holder, this process, lives
    locks.update_one({"_id": "a"}, {"$set": {"holder.machine": "another"}})
    locks.update_one({"_id": "a"}, {"$set": {"holder.started": 1.0}})
    with pytest.raises(StoreError, match="still written"), lease(locks, "a", ObjectId()):
        pass  # who knows what lives elsewhere
    monkeypatch.setattr("obdb_lib.mongo._machine", lambda: "another")
    with lease(locks, "a", ObjectId()):
        pass  # a process of that id and another start is another process
