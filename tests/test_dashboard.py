"""Sherpa's dashboard: complete without a network, on the loopback only, closed to other sites, on a free port."""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obdb_lib import dashboard
from obdb_lib.errors import TrainingError
from obdb_lib.hpo import open_dashboard, search
from tests.search_script import Hill
from widgets import dashboard_view, show_dashboard


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    record = tmp_path / "hill_trials.json"
    ranges = {"lr": [1e-4, 1.0], "momentum": [0.1, 0.9]}
    search(Hill(tmp_path), ranges, max_num_trials=3, seed=0, algorithm="random", record=record)
    study = open_dashboard(record, dashboard.free_port(18880))
    deadline = time.monotonic() + 60
    while not dashboard.answers(study.dashboard_port) and time.monotonic() < deadline:
        time.sleep(0.1)
    yield study
    study.close()


def fetch(port: int, path: str = "/", **headers: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    return urllib.request.urlopen(request, timeout=10).read().decode()


def test_page__asks_for_nothing_outside_and_shows_the_recorded_trials(page: Any) -> None:
    text = fetch(page.dashboard_port)
    assert text.count("TrialID: 3,") == 4 + 1, "four epochs and the end"
    asked = re.findall(r'<(?:link|script)\b[^>]*(?:href|src)="([^"]+)"', text)
    assert "/obdb/dashboard.css" in asked
    assert all(address.startswith("/") and not address.startswith("//") for address in asked)
    for address in asked:
        assert fetch(page.dashboard_port, address), address
    # What the page's own elements need of the style that came from the network before.
    style = fetch(page.dashboard_port, "/obdb/dashboard.css")
    used = set(re.findall(r"mdl-(?:layout|card|menu|dialog|button)\b", text))
    assert used
    assert all(f".{name}" in style for name in used)


def test_other_sites__may_neither_read_nor_stop(page: Any) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(page.dashboard_port, Host="evil.example")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(page.dashboard_port, "/stop/2", **{"Sec-Fetch-Site": "cross-site"})
    assert not page.should_trial_stop(trial(2))
    fetch(page.dashboard_port, "/stop/2", **{"Sec-Fetch-Site": "same-origin"})
    deadline = time.monotonic() + 10
    while not page.should_trial_stop(trial(2)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert page.should_trial_stop(trial(2))


def trial(number: int) -> Any:
    from obdb_lib.sherpa_door import load_sherpa

    return load_sherpa().Trial(number, {})


def test_taken_port__the_next_one_is_taken_and_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind((dashboard.LOOPBACK, 0))
        other.listen()
        taken = other.getsockname()[1]
        assert taken < dashboard.free_port(taken) <= taken + dashboard.PORTS_TRIED
        monkeypatch.setattr(dashboard, "PORTS_TRIED", 1)
        with pytest.raises(TrainingError, match=f"ports {taken} to {taken} of 127.0.0.1 are all taken"):
            dashboard.free_port(taken)
    with pytest.raises(TrainingError, match="from 1024 to 65535; got 80"):
        dashboard.free_port(80)


def test_wrong_record__is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(TrainingError, match="no record of a search"):
        open_dashboard(tmp_path / "x.json")


def test_notebook__frames_the_page_of_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, page: Any) -> None:
            shown.append(page)

    def display(page: Any, *, display_id: bool) -> Handle:
        shown.append(page)
        return Handle()

    monkeypatch.setattr(dashboard_view, "display", display)
    with show_dashboard(8885, height=300):
        assert len(shown) == 1
    assert "ended with the search" in shown[1].data
    assert "<iframe" not in shown[1].data
    assert "<iframe" in shown[0].data
    assert set(re.findall(r"https?://[^\"/]+", shown[0].data)) == {"http://127.0.0.1:8885"}
    with show_dashboard(None):
        pass
    assert len(shown) == 2, "no port, no page"
