"""``make lab`` and ``make stop``: loopback, token, own folders, everything ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from obdb_lib import collect
from obdb_lib.cli.lab import ANNOUNCEMENTS, lab_command, load_sample, main
from obdb_lib.sample import TINY_SIZE
from obdb_lib.store import Store
from tests.conftest import PROJECT

START_S = 90.0


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A data_cache of its own with one task in the store, so that no sample has to be drawn."""
    environment = {**os.environ, "OBDB_DATA_CACHE": str(tmp_path)}
    script = (
        "from obdb_lib.store import Store; from obdb_lib.records import make_task; "
        "Store().import_tasks([make_task('t', ['a'], [('f.png', 9, 9)])])"
    )
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, cwd=PROJECT)
    yield environment
    subprocess.run([sys.executable, "-m", "obdb_lib.cli.lab", "stop"], env=environment, cwd=PROJECT, check=False)


def running_server(folder: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for path in (folder / "jupyter" / "runtime").glob("jpserver-*.json"):
            try:
                info: dict[str, Any] = json.loads(path.read_text())
                requests.get(info["url"] + "api", timeout=2)
                return info
            except (ValueError, requests.RequestException):
                pass
        time.sleep(0.2)
    raise AssertionError("JupyterLab did not start")


@pytest.mark.slow
def test_lab_is_on_loopback_with_a_token_and_stops_with_its_database(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "obdb_lib.cli.lab", "start", "--no-browser", "--port", str(port)]
    lab = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    info = running_server(tmp_path)
    listening = {c.laddr.ip for c in psutil.Process(info["pid"]).net_connections() if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    assert len(info["token"]) >= 32
    assert requests.get(info["url"] + "api/contents", timeout=10).status_code == 403
    answer = requests.get(info["url"] + "api/contents/notebooks", params={"token": info["token"]}, timeout=10)
    assert "02_explore_and_split.ipynb" in [entry["name"] for entry in answer.json()["content"]]
    page = requests.get(info["url"] + "lab", params={"token": info["token"]}, timeout=20).text
    assert ANNOUNCEMENTS in page, "the announcements extension is disabled"
    mongod = json.loads((tmp_path / "mongodb" / "server.json").read_text())["pid"]
    stopped = subprocess.run(
        [sys.executable, "-m", "obdb_lib.cli.lab", "stop"], env=environment, cwd=PROJECT, capture_output=True, text=True
    )
    assert "JupyterLab" in stopped.stdout
    assert "MongoDB stopped" in stopped.stdout
    lab.wait(30)
    assert not psutil.pid_exists(info["pid"]) or psutil.Process(info["pid"]).status() == psutil.STATUS_ZOMBIE
    assert not psutil.pid_exists(mongod) or psutil.Process(mongod).status() == psutil.STATUS_ZOMBIE


def test_a_kernel_killed_with_9_leaves_the_database_to_the_others(environment: dict[str, str], tmp_path: Path) -> None:
    script = "from obdb_lib.store import Store; s = Store(); print('ready', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    check = "from obdb_lib.store import Store; print(Store().task_names())"
    found = subprocess.run([sys.executable, "-c", check], env=environment, cwd=PROJECT, capture_output=True, text=True)
    assert found.stdout.strip() == "['t']"


def test_command_never_listens_beyond_loopback() -> None:
    command = lab_command(port=1234, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in command
    assert not any("token=''" in part or "allow_remote_access" in part for part in command)


def test_the_lab_loads_the_sample_that_notebook_01_collects_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(collect.SAMPLE_SIZES, "default", TINY_SIZE)
    assert load_sample(store) == TINY_SIZE.tasks
    before = store.snapshot()
    again = collect.collect_sample(store)
    assert len(again.tasks) == TINY_SIZE.tasks
    assert store.snapshot() == before


def test_stop_with_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    assert main(["stop"]) == 0
    assert "No embedded MongoDB was running" in capsys.readouterr().out
