"""The embedded server is found, taken over and ended whatever became of its note; each test has a data_cache."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from obdb_lib import mongod
from obdb_lib.cache import read_json, write_json
from obdb_lib.errors import CacheError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    yield tmp_path / "mongodb"
    for pid in servers(tmp_path / "mongodb"):
        psutil.Process(pid).kill()


def servers(home: Path) -> list[int]:
    found = [p for p in psutil.process_iter(["cmdline", "status"]) if str(home / "db") in (p.info["cmdline"] or [])]
    return [p.pid for p in found if p.info["status"] != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("note", ["missing", "stale", "malformed", "a folder"])
def test_a_server_without_a_true_note_is_taken_over(home: Path, note: str) -> None:
    address = mongod.ensure_running()
    file = home / "server.json"
    true = read_json(file)
    file.unlink()
    if note == "stale":
        write_json(file, {**true, "pid": os.getpid(), "port": 1})
    elif note == "malformed":
        file.write_text("{")
    elif note == "a folder":
        file.mkdir()
        assert mongod.running_address() is None
        file.rmdir()
    assert mongod.ensure_running() == address
    assert read_json(file) == true
    assert servers(home) == [true["pid"]]
    assert mongod.stop()


@pytest.mark.parametrize("note", ["missing", "stale"])
def test_stop_ends_a_server_without_a_true_note(home: Path, note: str) -> None:
    mongod.ensure_running()
    file = home / "server.json"
    file.unlink()
    if note == "stale":
        write_json(file, {"pid": os.getpid(), "port": 1})
    assert mongod.stop() is True
    assert servers(home) == []
    assert not file.exists()
    assert mongod.stop() is False


def test_nothing_is_made_by_stopping_nothing(home: Path) -> None:
    assert mongod.stop() is False
    assert not home.exists()


def test_a_program_that_only_names_the_folder_is_not_ours(home: Path) -> None:
    other = subprocess.Popen(["sh", "-c", "sleep 30", str(home / "db")])
    try:
        home.mkdir(parents=True)
        write_json(home / "server.json", {"pid": other.pid, "port": 1})
        assert mongod.running_address() is None
        assert mongod.stop() is False
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_no_server_is_left_when_its_note_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise CacheError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mongod, "write_json", full)
        with pytest.raises(CacheError, match="No space left"):
            mongod.ensure_running()
    assert servers(home) == []
    mongod.ensure_running()  # and the next start finds no hindrance
    assert mongod.stop()


def test_the_port_stays(home: Path) -> None:
    first = mongod.ensure_running()
    mongod.stop()
    assert mongod.ensure_running() == first
    mongod.stop()


def test_a_server_on_its_way_down_is_waited_for(home: Path) -> None:
    mongod.ensure_running()
    pid = read_json(home / "server.json")["pid"]
    psutil.Process(pid).suspend()  # it holds the folder; whether it answers is up to the kernel's backlog
    resume = threading.Timer(0.5, psutil.Process(pid).resume)
    resume.start()
    assert mongod.stop()
    resume.join()
    mongod.ensure_running()
    assert servers(home) == [read_json(home / "server.json")["pid"]] != [pid]
    mongod.stop()


def test_stop_and_start_at_once_leave_a_true_note(home: Path) -> None:
    mongod.ensure_running()
    stopping = threading.Thread(target=mongod.stop)
    stopping.start()
    time.sleep(0.05)
    with mongod._start_lock():  # after the stop, not in its middle
        assert not (home / "server.json").exists()
    stopping.join()
    mongod.ensure_running()
    assert servers(home) == [read_json(home / "server.json")["pid"]]
    mongod.stop()
