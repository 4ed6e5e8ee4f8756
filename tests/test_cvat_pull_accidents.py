"""A pull that is cut off, by the network or by kill -9: readers see whole tasks, and repeating it ends well."""

from __future__ import annotations

import multiprocessing
import random
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.pull import pull_into
from obdb_lib.errors import ObdbError
from obdb_lib.store import Store
from tests.cvat_server import KINDS, Scene, StandIn, every_request
from tests.cvat_server.helpers import log_in
from tests.cvat_server.world import Label, Task, World
from tests.one_database import emptied_store, one_database  # noqa: F401 - fixtures
from tests.test_cvat_pull import make_cvat_task

Content = tuple[Any, ...]
NAMES = ("first", "second")
KILLS = 50


def draw_version(world: World, version: int, boxes: int = 3) -> None:
    """Another drawing of every task, and another frame deleted: as people would have worked there meanwhile."""
    for task in world.tasks.values():
        assert task.data is not None
        [job] = world.jobs_of(task.id)
        label = world.labels_of(task)[version % 2]
        stays = {**_shape(world, label, 0, [1, 1, 11, 11]), "id": 10_000 + task.id}
        moved = {**_shape(world, label, 0, [2 + version % 8, 2, 20, 30]), "id": 20_000 + task.id}
        job.shapes = [stays, moved]
        job.shapes += [_shape(world, label, 0, [version % 9, n % 20, 30 + n % 30, 40]) for n in range(boxes)]
        task.data.deleted = [version % 2 + 1]
        job.updated = task.updated = world.now()
        job.stage, job.state = "acceptance", "completed"


def _shape(world: World, label: Label, frame: int, points: list[float]) -> dict[str, Any]:
    common = {"label_id": label.id, "group": 0, "source": "manual", "frame": frame, "attributes": []}
    base = {"type": "rectangle", "occluded": False, "outside": False, "z_order": 0, "rotation": 0, "points": points}
    return {**base, "id": world.next_id("shapes"), **common, "score": 1, "elements": []}


def server_content(world: World, task: Task) -> Content:
    assert task.data is not None
    frames = [f"{task.name}/{f.name}" for n, f in enumerate(task.data.frames) if n not in task.data.deleted]
    names = {label.id: label.name for label in world.labels.values()}
    shapes = [shape for job in world.jobs_of(task.id) for shape in job.shapes]
    return frames, sorted((s["id"], names[s["label_id"]], tuple(map(float, s["points"]))) for s in shapes)


def store_content(store: Store, name: str) -> Content:
    record = store.record(name)
    frames = [frame["name"] for frame in record.meta["frames"]]
    return frames, sorted((a["cvat_id"]["shape"], a["object_class"], tuple(a["points"])) for a in record.annotations)


def _sizes(*contents: Content) -> str:
    return str([(frames, len(boxes), boxes[0], boxes[-1]) for frames, boxes in contents])


def arrange(server: StandIn, root: Path) -> CvatClient:
    client = log_in(server)
    for name in NAMES:
        make_cvat_task(client, root / "images" / name, name, "a.png", "b.png", "c.png")
    return client


def check_whole(store: Store, allowed: dict[str, list[Content]]) -> list[Content]:
    """Every task is one of its versions, also for a snapshot."""
    found = [store_content(store, name) for name in store.task_names()]
    for name, content in zip(store.task_names(), found, strict=True):
        assert content in allowed[name], f"task {name} is a mixture: {_sizes(content)} of {_sizes(*allowed[name])}"
    if found:
        snapshot = store._tables(None, None)  # as one is read, but recorded nowhere
        assert len(snapshot.annotations) == sum(len(content[1]) for content in found)
        assert len(snapshot.frames) == sum(len(content[0]) for content in found)
    return found


@pytest.mark.parametrize("first_pull", [True, False], ids=["into an empty store", "over an older version"])
def test_every_request_goes_wrong_once(store: Store, tmp_path: Path, first_pull: bool) -> None:
    tries: Counter[str] = Counter()

    def make(server: StandIn) -> Scene:
        for collection in store._db.list_collection_names():
            store._db[collection].delete_many({})
        down = tmp_path / uuid.uuid4().hex[:8]
        client = arrange(server, tmp_path)
        versions = []
        for version in (0, 1):
            draw_version(server.world, version)
            versions.append({t.name: server_content(server.world, t) for t in server.world.tasks.values()})
            if version == 0 and not first_pull:
                pull_into(store, client, image_root=down)
        allowed = {name: [version[name] for version in versions] for name in NAMES}

        def run() -> None:
            try:
                pull_into(store, log_in(server), image_root=down, workers=1)
                tries["well"] += 1
            except ObdbError:
                tries["told"] += 1
                raise
            finally:
                check_whole(store, allowed)

        def files() -> list[tuple[str, int]]:
            return sorted((str(p.relative_to(down)), p.stat().st_size) for p in down.rglob("*") if p.is_file())

        return Scene(run, store, files)

    runs = every_request(make, KINDS if first_pull else ("drop_after", "error_502", "other_json"))
    images = 4 if first_pull else 2
    assert sum("type=frame" in path for _, path in runs.requests) == images
    assert len(runs.requests) == 11 + images
    assert runs.count == len(runs.requests) * (8 if first_pull else 3)
    assert tries["told"] > 0, "a log-in that breaks is told; reads are tried again by themselves"


# -- kill -9 ---------------------------------------------------------------------------------------------------------


def pull_in_child(server_url: str, address: str, database: str, root: str) -> None:
    from obdb_lib.cvat.client import connect
    from obdb_lib.paths import CvatAccess
    from tests.cvat_server.helpers import PASSWORD

    with Store(address, database) as store:
        client = connect(CvatAccess(server_url, "admin", PASSWORD), sleep=lambda seconds: None)
        pull_into(store, client, image_root=Path(root))


@pytest.fixture(scope="module")
def children() -> Any:
    """Processes that start at once: the library is imported by the server that forks them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["obdb_lib.cvat.pull", "tests.test_cvat_pull_accidents"])
    return context


def test_kill_9_at_random_moments(store: Store, tmp_path: Path, children: Any) -> None:
    rng = random.Random(6)
    down = tmp_path / "down"
    seen: Counter[str] = Counter()
    with StandIn() as server:
        client = arrange(server, tmp_path)
        draw_version(server.world, 0, boxes=60)
        given = (server.url, store._address, store._db.name, str(down))
        pull_into(store, client, image_root=down)
        whole_s = 0.0
        for number in range(1, KILLS + 4):
            old = {task.name: server_content(server.world, task) for task in server.world.tasks.values()}
            draw_version(server.world, number, boxes=60)
            new = {task.name: server_content(server.world, task) for task in server.world.tasks.values()}
            child = children.Process(target=pull_in_child, args=given, daemon=True)
            started = time.monotonic()
            child.start()
            if number <= 3:  # undisturbed, to see how long it takes; the first one pays for the imports
                child.join(60)
                whole_s = time.monotonic() - started
                assert child.exitcode == 0
            else:
                child.join(rng.uniform(0.1, 1.05) * whole_s)
                child.kill()
                child.join(60)
            check_whole(store, {name: [old[name], new[name]] for name in NAMES})
            seen.update("old" if store_content(store, name) == old[name] else "new" for name in NAMES)
            pull_into(store, client, image_root=down)
            assert {name: store_content(store, name) for name in NAMES} == new, "repeated, it ends well"
            assert store._db.import_staging.count_documents({}) == 0
    assert seen["old"] >= 5, seen
    assert seen["new"] >= 10, seen
