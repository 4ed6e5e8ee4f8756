"""CVAT both ways, with 20,000 shapes over 500 frames: requests of a push, and a pull beside one insert a box.

``python -m tests.benchmarks.cvat --json`` runs against the stand-in server and a real mongod. The pull is timed without
the network, that is from the bytes that the server answered to whole documents on disk, into a database that has
nothing of the task; images are not among it. A note says how long it takes with network and stand-in. The inserts go,
one a box, into the same mongod over the same connection (a write counts when it is on disk, as in all of the lab's
collections) and into the same collection. A note says how long inserts take that do not wait for the disk. Both are
measured in turn, several times. ``--quick`` inserts a tenth of the boxes one by one and counts them ten times.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from pymongo import ReplaceOne, WriteConcern

from obdb_lib import mongod
from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.pull import pull_into
from obdb_lib.cvat.push import plan_push, send
from obdb_lib.records import Document, TaskRecord
from obdb_lib.store import Store
from obdb_lib.whole_tasks import BULK
from tests.benchmarks._bars import Bar, arguments, bar, report
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import CLASSES, MemoryJournal, accept, log_in, make_images, make_snapshot, suggestion

SHAPES, FRAMES = 20_000, 500
MOST_SHAPES_A_REQUEST = 2000
PULL_FASTER = 20.0
STAGED_SLOWER = 2.0
"""Putting a changed task in place, staged, may take this many times as long as replacing each box where it stands."""
QUICK_PART = 10
ROUNDS = 3
TASK = "FieldData 20200520145736 1L GH020068"
SIZE = (640, 480)
COLUMNS = 8


@contextmanager
def fresh_store() -> Iterator[Store]:
    with Store(database=f"bench_{uuid.uuid4().hex[:12]}") as store:
        yield store
        store._client.drop_database(store._db.name)


def seconds(act: Callable[..., object], *given: object) -> float:
    started = time.perf_counter()
    act(*given)
    return time.perf_counter() - started


def push_all(server: StandIn, folder: Path) -> tuple[int, int, int]:
    """Push through the public calls; returns numbers of shapes stored, of requests with shapes, and of all requests."""
    names = [f"day/1L/GH1/frame{number:04d}.png" for number in range(FRAMES)]
    images = make_images(folder, names, SIZE)
    snapshot = make_snapshot([(name, TASK) for name in names], SIZE)
    found = []
    for number in range(SHAPES):
        row, column = divmod(number // FRAMES, COLUMNS)  # side by side: boxes that overlap are sent once
        x, y = column * 80 + number % 17, row * 90 + number % 40
        points = [x, y, x + 60.25, y + 40.5]
        classes = CLASSES[number % len(CLASSES)]
        found.append(suggestion(f"s{number}", names[number % FRAMES], points, task=TASK, object_class=classes))
    decisions = {item["_id"]: accept(item["_id"]) for item in found}
    plan = plan_push(found, decisions, snapshot, images, model="m", classes=CLASSES)
    client = log_in(server)
    server.log.clear()
    send(plan, client, journal=MemoryJournal(), confirm=True)
    with_shapes = sum(method == "PATCH" and "annotations" in path for method, path in server.log)
    stored = sum(len(job.shapes) for job in server.world.jobs.values())
    return stored, with_shapes, len(server.log)


def accept_all(server: StandIn) -> None:
    for job in server.world.jobs.values():
        job.stage, job.state = "acceptance", "completed"


class Recorded(CvatClient):
    """A client that answers each read with what the server said to the first of its kind."""

    answers: ClassVar[dict[str, Any]] = {}

    def send(self, method: str, path: str, body: Any, query: dict[str, object]) -> Any:
        key = repr((method, path, query))
        if key not in self.answers:
            self.answers[key] = super().send(method, path, body, query)
        return self.answers[key]


@dataclass
class Times:
    """Seconds for all boxes: a first pull without and with the network, one insert a box on disk and in memory."""

    pull: list[float] = field(default_factory=list)
    with_network: list[float] = field(default_factory=list)
    one_by_one: list[float] = field(default_factory=list)
    in_memory: list[float] = field(default_factory=list)


def timed(server: StandIn, rounds: int, part: int) -> Times:
    """Pulls and inserts in turn, so that a busy moment of the machine meets both."""
    times = Times()
    recorded = log_in(server)
    recorded.__class__ = Recorded
    for number in range(rounds + 1):
        with fresh_store() as store:
            client = log_in(server)
            times.with_network.append(seconds(pull_into, store, client))
        with fresh_store() as store:
            pulled = seconds(pull_into, store, recorded)
            documents = list(store._db.annotation_data.find())
            assert len(documents) == SHAPES
        if number == 0:  # the first one asked the server
            continue
        times.pull.append(pulled)
        chosen = documents[:: part * rounds]
        scale = len(documents) / len(chosen)
        with fresh_store() as store:
            plain = store._db.annotation_data
            quick = plain.with_options(write_concern=WriteConcern(w=1, j=False))
            times.one_by_one.append(scale * insert_each(plain, chosen))
            plain.delete_many({})
            times.in_memory.append(scale * insert_each(quick, chosen))
    return times


def insert_each(collection: Any, documents: list[Document]) -> float:
    return seconds(lambda: [collection.insert_one(document) for document in documents])


def timed_changes(server: StandIn) -> tuple[float, float, float]:
    """Seconds to put a wholly changed task in place, to do so with the old one half gone, and to pull no change."""
    with fresh_store() as store:
        client = log_in(server)
        pull_into(store, client)
        staged, in_place = [], []
        for step in range(1, ROUNDS + 1):
            record = moved(store, step)
            staged.append(seconds(store.put_tasks, [record]))
            record = moved(store, step + 0.5)
            in_place.append(seconds(replace_in_place, store, record))
        nothing = seconds(pull_into, store, client)
    return median(staged), median(in_place), nothing


def moved(store: Store, by: float) -> TaskRecord:
    record = store.record(store.task_names()[0])
    boxes = [{**box, "points": [value + by for value in box["points"]]} for box in record.annotations]
    return TaskRecord(record.task, record.meta, boxes)


def replace_in_place(store: Store, record: TaskRecord) -> None:
    """As the lab did before: each box is replaced where it stands, then what is left over is deleted."""
    boxes = store._db.annotation_data
    for start in range(0, len(record.annotations), BULK):
        part = record.annotations[start : start + BULK]
        boxes.bulk_write([ReplaceOne({"_id": box["_id"]}, box, upsert=True) for box in part], ordered=False)
    boxes.delete_many({"task_name": record.name, "_id": {"$nin": [box["_id"] for box in record.annotations]}})


def main() -> None:
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder, StandIn() as server:
        stored, with_shapes, requests = push_all(server, Path(folder))
        accept_all(server)
        times = timed(server, ROUNDS, QUICK_PART if given.quick else 1)
        staged_s, in_place_s, nothing_s = timed_changes(server)
    pull_s, one_by_one_s = median(times.pull), median(times.one_by_one)
    with_network_s, in_memory_s = median(times.with_network), median(times.in_memory)
    part = f" ({SHAPES // QUICK_PART} of them measured)" if given.quick else ""
    bars: list[Bar] = [
        bar("shapes stored by the push", stored, f">= {SHAPES}"),
        bar(
            "push: requests with shapes per 2,000 shapes",
            with_shapes / (SHAPES / MOST_SHAPES_A_REQUEST),
            "<= 1",
            f"{with_shapes} requests for {SHAPES} shapes; {requests} requests with task, images and checks",
        ),
        bar(
            "pull without network: times as fast as one insert a box",
            one_by_one_s / pull_s,
            f">= {PULL_FASTER:g}",
            f"{pull_s:.2f} s, with network and stand-in {with_network_s:.2f} s; inserts{part} on disk "
            f"{one_by_one_s:.1f} s, not waiting for the disk {in_memory_s:.1f} s ({in_memory_s / pull_s:.1f} times)",
        ),
        bar(
            "a changed task, whole or not at all: times as long as replacing its boxes in place",
            staged_s / in_place_s,
            f"<= {STAGED_SLOWER:g}",
            f"{staged_s:.2f} s; {in_place_s:.2f} s in place, which a kill leaves half done",
        ),
        bar(
            "pull of no change: times as long as the first pull",
            nothing_s / with_network_s,
            "<= 0.1",
            f"{nothing_s * 1000:.0f} ms",
        ),
    ]
    report("cvat", bars, only_json=given.json)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="obdb_cvat_") as cache:
        os.environ["OBDB_DATA_CACHE"] = cache
        try:
            main()
        finally:
            mongod.stop()
