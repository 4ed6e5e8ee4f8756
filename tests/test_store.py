"""The store, on the embedded server and on a server of the user's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from obdb_lib import mongod
from obdb_lib.cache import read_json, write_json
from obdb_lib.errors import StoreError
from obdb_lib.mongo import lease
from obdb_lib.records import Document
from obdb_lib.snapshots import BOX
from obdb_lib.store import Store
from tests.conftest import PROJECT
from tests.helpers import task

BOXES = {0: [("Fat hen", [1, 2, 30, 40]), ("Dandelion", [40, 10, 70, 50])], 2: [("Fat hen", [5, 5, 25, 30])]}


@pytest.fixture(scope="module")
def second_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another real mongod, as a user's own server would be."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("own_server")
    command = [str(mongod.binary()), "--dbpath", str(folder), "--bind_ip", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*command, "--nounixsocket"], stdout=subprocess.DEVNULL)
    yield f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=30000"
    process.terminate()
    process.wait(30)


@pytest.fixture(params=["embedded", "own server"])
def any_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "own server":
        monkeypatch.setenv("MONGODB_URI", request.getfixturevalue("second_server"))
    with Store(database=f"test_{uuid.uuid4().hex[:12]}") as fresh:
        if request.param == "own server":
            assert fresh._client.address != mongod.running_address()
        yield fresh
        fresh._client.drop_database(fresh._db.name)


def test_import_round_trip(any_store: Store) -> None:
    record = task(boxes=BOXES)
    assert any_store.import_tasks([record]) == {"tasks": 1, "frames": 3, "annotations": 3}
    back = any_store.record(record.name)
    assert [frame["name"] for frame in back.meta["frames"]] == [frame["name"] for frame in record.meta["frames"]]
    kept = [{key: value for key, value in a.items() if key != "_id"} for a in back.annotations]
    assert sorted(kept, key=str) == sorted(record.annotations, key=str)


def test_importing_twice_changes_nothing(any_store: Store) -> None:
    record = task(boxes={**BOXES, 1: [("Fat hen", [1, 1, 9, 9]), ("Fat hen", [1, 1, 9, 9])]})  # an exact copy, too
    any_store.import_tasks([record])
    first = any_store.snapshot()
    any_store.import_tasks([record])
    assert any_store.snapshot() == first
    assert len(any_store.load(first).annotations) == 5


def test_import_replaces_a_task_and_leaves_others_with_the_same_prefix(any_store: Store) -> None:
    name = "FieldData 20200520145736 1L GH02006"
    any_store.import_tasks([task(name, boxes=BOXES), task(name + "8", boxes=BOXES)])
    any_store.import_tasks([task(name, boxes={0: BOXES[0][:1]})])
    assert len(any_store.record(name).annotations) == 1
    assert len(any_store.record(name + "8").annotations) == 3


def test_a_task_that_an_earlier_version_left_half_written_is_not_called_unknown(any_store: Store) -> None:
    any_store.import_tasks([task(boxes=BOXES)])
    any_store._db.tasks.insert_one({"name": "half", "importing": True})
    with pytest.raises(StoreError, match="import of 'half' was interrupted"):
        any_store.record("half")
    names = [frame["name"] for frame in task().meta["frames"]]
    assert any_store.frame_names() == names  # frames of whole tasks can be had nevertheless


def test_importing_heals_what_a_race_or_mongoimport_left(any_store: Store) -> None:
    record = task(boxes=BOXES)
    for importing in (True, False):
        any_store._db.tasks.insert_one({**record.task, "_id": uuid.uuid4().hex, "importing": importing})
        any_store._db.meta.insert_one({**record.meta, "_id": uuid.uuid4().hex})
    with pytest.raises(StoreError, match="interrupted"):
        any_store.snapshot()
    any_store.import_tasks([record])
    assert any_store._db.tasks.count_documents({}) == any_store._db.meta.count_documents({}) == 1
    assert len(any_store.load(any_store.snapshot()).frames) == 3


def test_processes_that_import_one_task_leave_one_whole_task(any_store: Store, tmp_path: Path) -> None:
    """Each process brings other boxes; the last one's stay, all of them and nothing else."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from obdb_lib.store import Store
        from tests.helpers import task
        number, go = int(sys.argv[2]), Path(sys.argv[3])
        store = Store(database=sys.argv[1])
        (go / str(number)).touch()
        while len(list(go.iterdir())) < 4:
            time.sleep(0.005)
        for round in range(3):
            boxes = [("Fat hen", [number, i / 100, 50 + round, 60]) for i in range(300)]
            store.import_tasks([task(boxes={0: boxes})])
        """
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script, any_store._db.name, str(number), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        for number in range(4)
    ]
    for run in runs:
        assert run.communicate(timeout=120)[1] == ""
    assert any_store._db.tasks.count_documents({}) == any_store._db.meta.count_documents({}) == 1
    snapshot = any_store.load(any_store.snapshot())
    assert len(snapshot.annotations) == 300
    assert snapshot.annotations["x1"].nunique() == 1


def test_a_lock_of_a_killed_process_runs_out(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obdb_lib.mongo.LEASE_S", 1)
    held = lease(any_store._db.import_locks, "a", ObjectId())
    renew = held.__enter__()  # and is never left
    with monkeypatch.context() as patch:
        patch.setattr("obdb_lib.mongo.LOCK_TIMEOUT_S", 0.2)
        with pytest.raises(StoreError, match="still written"), lease(any_store._db.import_locks, "a", ObjectId()):
            pass
    with lease(any_store._db.import_locks, "a", ObjectId()), pytest.raises(StoreError, match="by another process"):
        renew()


def test_snapshot_is_a_content_hash(any_store: Store) -> None:
    records = [task(boxes=BOXES), task("FieldData 20200603102414 3R GH010353", boxes=BOXES)]
    any_store.import_tasks(records)
    both = any_store.snapshot()
    one = any_store.snapshot([records[0].name])
    assert both != one
    any_store.import_tasks([records[1], records[0]])  # another order, the same content
    assert any_store.snapshot() == both
    moved = task(boxes={**BOXES, 2: [("Fat hen", [5, 5, 25, 31])]})
    any_store.import_tasks([moved])
    assert any_store.snapshot([moved.name]) != one


def test_load_gives_tables_and_refuses_drift(any_store: Store) -> None:
    any_store.import_tasks([task(boxes=BOXES)])
    identity = any_store.snapshot()
    snapshot = any_store.load(identity)
    assert snapshot.id == identity
    assert snapshot.classes == ("Dandelion", "Fat hen")
    assert snapshot.frames["video"].unique().tolist() == ["20200520145736/1L/GH020068"]
    assert snapshot.frames["frame_number"].tolist() == [0, 5, 10]
    first = snapshot.frames["img_path"].iloc[0]
    assert snapshot.boxes(first).xyxy.tolist() == [[40, 10, 70, 50], [1, 2, 30, 40]]
    assert len(snapshot.boxes(snapshot.frames["img_path"].iloc[1])) == 0  # an image without boxes is a frame, too
    assert snapshot.annotations[BOX].dtypes.astype(str).unique().tolist() == ["float32"]
    any_store.import_tasks([task(boxes={0: BOXES[0]})])
    with pytest.raises(StoreError, match="changed since snapshot"):
        any_store.load(identity)


def test_a_document_without_usable_points_is_reported_not_fatal(any_store: Store) -> None:
    any_store.import_tasks([task(boxes=BOXES)])
    annotation = any_store._db.annotation_data
    annotation.insert_one({"task_name": task().name, "img_path": task().meta["frames"][0]["name"], "points": [1, 2]})
    annotation.insert_one({"task_name": task().name, "img_path": "elsewhere.png", "points": [1, 2, 3, 4]})
    snapshot = any_store.load(any_store.snapshot())
    assert len(snapshot.annotations) == 3
    assert len(snapshot.problems) == 2
    assert any("elsewhere.png" in str(problem) for problem in snapshot.problems)


def test_unknown_and_empty_are_explained(any_store: Store) -> None:
    with pytest.raises(StoreError, match="no tasks yet"):
        any_store.snapshot()
    any_store.import_tasks([task(boxes=BOXES)])
    with pytest.raises(StoreError, match="unknown tasks 'nothing'"):
        any_store.snapshot(["nothing"])
    with pytest.raises(StoreError, match="no snapshot"):
        any_store.load("0000")
    with pytest.raises(StoreError, match="no split"):
        any_store.split("0000")


def test_every_query_has_its_index(any_store: Store) -> None:
    for collection in ("tasks", "meta", "annotation_data", "splits", "split_frames", "suggestions", "decisions"):
        assert len(any_store._db[collection].index_information()) > 1, collection
    plan = any_store._db.annotation_data.find({"task_name": "x", "frame": 3}).explain()
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])


def test_every_write_waits_for_the_disk(any_store: Store) -> None:
    assert any_store._db.write_concern.document == {"w": 1, "j": True}


def test_decisions_keep_their_order(any_store: Store) -> None:
    for number in range(20):
        any_store.append_decision({"suggestion_id": "s", "verdict": "accept", "number": number})
    assert [entry["number"] for entry in any_store.decisions(["s"])] == list(range(20))
    assert any_store.decisions([]) == []


def test_an_unreachable_server_is_one_sentence_without_the_password() -> None:
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store("mongodb://user:secret@127.0.0.1:1/?serverSelectionTimeoutMS=200&connectTimeoutMS=200")
    assert "secret" not in str(caught.value)


def test_an_answer_that_was_lost_does_not_write_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = Collection.find_one_and_update
    lost: list[object] = []

    def lose_the_first_answer(self: Collection[Document], *args: Any, **kwargs: Any) -> object:
        answer = insert(self, *args, **kwargs)
        if not lost:
            lost.append(answer)
            raise AutoReconnect("connection closed")
        return answer

    monkeypatch.setattr(Collection, "find_one_and_update", lose_the_first_answer)
    entry = store.append_decision({"suggestion_id": "s", "verdict": "accept"})
    assert lost
    assert [document["_id"] for document in store.decisions()] == [entry["_id"]]
    with pytest.raises(
        StoreError, match="another entry has the id"
    ):  # an id of the caller's own is a mistake, not a second try
        store.append_decision({"_id": entry["_id"], "suggestion_id": "s", "verdict": "reject"})


def test_a_server_that_moved_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    with Store(database="moved") as opened:
        opened.import_tasks([task(boxes=BOXES)])
        old = opened._address
        assert mongod.stop()
        assert len(opened.frame_names()) == 3
        assert opened._address == old
        mongod.stop()
        with socket.socket() as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            foreign.bind(("127.0.0.1", int(old.rstrip("/").rpartition(":")[2])))
            foreign.listen()
            assert len(opened.frame_names()) == 3
        assert opened._address != old
    assert mongod.stop()


def test_an_own_server_that_dies_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(mongod.binary()), "--dbpath", str(tmp_path), "--bind_ip", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*command, "--nounixsocket"], stdout=subprocess.DEVNULL)
    try:
        address = f"mongodb://127.0.0.1:{port}/"
        Store(address).close()  # it is up
        monkeypatch.setattr("obdb_lib.store.CONNECT_TIMEOUT_MS", 500)
        opened = Store(address)
    finally:
        process.kill()
        process.wait(30)
    for call in (opened.task_names, opened.frame_names, opened.snapshot, lambda: opened.append_push({"push_id": "p"})):
        with pytest.raises(StoreError, match="MongoDB failed in") as caught:
            call()
        assert "Topology" not in str(caught.value)
        assert "configured timeouts" not in str(caught.value)


def test_kill_9_of_the_server_loses_no_acknowledged_decision(tmp_path: Path) -> None:
    """A child writes decisions and tells each acknowledged one; the server is killed in the middle."""
    script = textwrap.dedent(
        """
        import sys
        from obdb_lib.store import Store
        store = Store(database="kill")
        for number in range(100000):
            store.append_decision({"suggestion_id": str(number), "verdict": "accept"})
            print(number, flush=True)
        """
    )
    environment = {**os.environ, "OBDB_DATA_CACHE": str(tmp_path)}
    writer = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert writer.stdout is not None
    acknowledged = [int(next(writer.stdout)) for _ in range(60)]
    state = read_json(tmp_path / "mongodb" / "server.json")
    os.kill(state["pid"], signal.SIGKILL)
    acknowledged += [int(next(writer.stdout)) for _ in range(500)]  # the same Store goes on with a new server
    writer.kill()
    writer.wait(60)
    check = "from obdb_lib.store import Store; print(*(d['suggestion_id'] for d in Store(database='kill').decisions()))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment, check=True)
    saved = [int(word) for word in found.stdout.split()]
    assert set(acknowledged) <= set(saved)
    assert len(saved) == len(set(saved)), "a second try must not write twice"
    again = read_json(tmp_path / "mongodb" / "server.json")
    assert again["pid"] != state["pid"]  # the stale file did not hinder a new start
    assert again["port"] == state["port"]  # open connections find it again
    os.kill(again["pid"], signal.SIGTERM)


def test_two_processes_share_one_server(tmp_path: Path) -> None:
    script = "from obdb_lib import mongod; print(mongod.ensure_running())"
    environment = {**os.environ, "OBDB_DATA_CACHE": str(tmp_path)}
    runs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    addresses = {run.communicate(timeout=120)[0].strip() for run in runs}
    assert len(addresses) == 1
    servers = [
        p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "mongodb" / "db") in (p.info["cmdline"] or [])
    ]
    assert len(servers) == 1
    servers[0].terminate()


def test_a_foreign_process_on_the_port_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        monkeypatch.setenv("OBDB_MONGOD_PORT", str(foreign.getsockname()[1]))
        with pytest.raises(StoreError, match=rf"taken by process {os.getpid()}"):
            mongod.ensure_running()


def test_a_recycled_process_id_is_not_taken_for_our_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        write_json(mongod.home() / "server.json", {"pid": os.getpid(), "port": foreign.getsockname()[1]})
        assert mongod.running_address() is None
        assert mongod.stop() is False  # and it is not killed either


def test_no_mongod_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="MONGODB_URI"):
        mongod.ensure_running()
