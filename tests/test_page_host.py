"""Where TensorBoard and the dashboard listen: the loopback; in a container, when told so, on all its addresses."""

from __future__ import annotations

import socket
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from obdb_lib import dashboard
from obdb_lib.board import open_board
from obdb_lib.hpo import open_dashboard, search
from tests.conftest import PROJECT
from tests.search_script import Hill


def listening(port: int) -> set[str]:
    connections = psutil.net_connections("tcp4")
    return {c.laddr.ip for c in connections if c.status == "LISTEN" and c.laddr.port == port}


@pytest.mark.parametrize(("given", "expected"), [("", "127.0.0.1"), ("0.0.0.0", "0.0.0.0")])
def test_pages__listen_where_the_environment_says(
    given: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBDB_PAGE_HOST", given)
    board = open_board(tmp_path / "logs", port=0)
    assert board.url.startswith("http://127.0.0.1:"), "what a browser calls"
    assert listening(int(board.url.rstrip("/").rsplit(":", 1)[1])) == {expected}
    record = tmp_path / "hill_trials.json"
    search(Hill(tmp_path), {"lr": [1e-4, 1.0]}, max_num_trials=2, seed=0, algorithm="random", record=record)
    with socket.socket() as probe:
        probe.bind((expected, 0))
        port = probe.getsockname()[1]
    study = open_dashboard(record, port)
    try:
        deadline = time.monotonic() + 60
        while not dashboard.answers(study.dashboard_port) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert listening(study.dashboard_port) == {expected}
        assert b"TrialID: 2" in urllib.request.urlopen(f"http://localhost:{study.dashboard_port}/", timeout=10).read()
    finally:
        study.close()


def test_container__publishes_them_on_the_hosts_loopback_alone() -> None:
    files = {name: (PROJECT / "docker" / name).read_text() for name in ("docker-compose.yml", "run_training.sh")}
    for port in (dashboard.PORT, 6006):
        for name, text in files.items():
            assert text.count(f"{port}:{port}") == text.count(f"127.0.0.1:{port}:{port}") == 1, name
    assert "OBDB_PAGE_HOST=0.0.0.0" in (PROJECT / "docker" / "Dockerfile").read_text()
