"""The monitor of a training, without a browser: curves, words, the button, and the still picture."""

from __future__ import annotations

import signal
from importlib import import_module
from typing import Any

import pandas as pd
import pytest

from obdb_lib.board import open_board
from obdb_lib.progress import duration, track
from widgets import RunMonitor, page_frame, run_monitor
from widgets.run_monitor import MOST_POINTS, Curves, StillMonitor, epoch_words

MODULE = import_module("widgets.run_monitor")  # the package has a function of that name
ROWS = [
    {"epoch": 1.0, "loss": 2.0, "val_loss": 2.5, "val_ap50": 0.1, "lr": 0.02},
    {"epoch": 2.0, "loss": 1.0, "val_loss": float("nan"), "val_ap50": 0.4, "lr": 0.01},
]


def info(epoch: float, loss: float) -> dict[str, object]:
    timings = {"step_s": "0.20", "wait_s": "0.1", "wait": "1%"}
    return {"epoch": f"{epoch:.2f}", "epochs": 2, "loss": f"{loss:.3f}", **timings}


def test_monitor__follows_steps_and_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "SHOWN_EVERY_S", 0.0)
    monitor = RunMonitor("Training of <x>")
    with track(monitor.progress, "train x", 4) as task:
        for step in range(2):
            task.advance(1, **info((step + 1) / 2, 3.0 - step))
        assert monitor._bar.value == 0.5
        assert "epoch 1 of 2 · loss 2.000" in monitor._line.value
        assert "left" in monitor._line.value
        for row in ROWS:
            monitor.on_epoch(row)
        task.advance(2, **info(2.0, 1.0))
    lines = {trace.name: (list(trace.x), list(trace.y)) for trace in monitor._figure.data}
    assert lines["loss of a step"] == ([0.5, 1.0, 2.0], [3.0, 2.0, 1.0])
    assert lines["val mAP50"] == ([1.0, 2.0], [0.1, 0.4])
    assert lines["val loss"] == ([1.0, 2.0], [2.5, None])
    assert lines["learning rate"][1] == [0.02, 0.01]
    assert "finished" in monitor._line.value
    assert not monitor._button.enabled
    assert all(trace.showlegend for trace in monitor._figure.data)


def test_legend__names_no_line_that_is_not_there() -> None:
    monitor = RunMonitor("Training of x")
    assert not any(trace.showlegend for trace in monitor._figure.data)
    monitor.on_epoch({name: value for name, value in ROWS[0].items() if name != "val_loss"})
    named = {trace.name for trace in monitor._figure.data if trace.showlegend}
    assert named == {"train loss", "val mAP50", "learning rate"}


@pytest.mark.parametrize(("done", "number"), [("0.00", 1), ("0.01", 1), ("11.05", 12), ("12.00", 12), ("30.00", 30)])
def test_line__names_the_epoch_under_way(done: str, number: int) -> None:
    assert epoch_words({"epoch": done, "epochs": 30}) == f"epoch {number} of 30"


def test_button__asks_for_a_stop() -> None:
    monitor = RunMonitor("Training")
    assert not monitor.stop()
    with track(monitor.progress, "train x", 10) as task:
        task.advance(1, **info(0.1, 1.0))
        monitor._button.asked = 1  # what the page sends
        assert monitor.stop()
    assert "stopped after 1 of 10 steps; the model so far is kept" in monitor._line.value
    assert (monitor._button.label, monitor._button.enabled) == ("Stopped", False)


def test_patience__ends_a_training_that_nobody_stopped() -> None:
    monitor = RunMonitor("Training")
    with track(monitor.progress, "train x", 10) as task:
        task.advance(5, **info(1.0, 1.0))
        monitor.on_epoch(ROWS[0])
    assert "ended after 5 of 10 steps; the best model is kept" in monitor._line.value
    assert monitor._button.label == "Ended"


def test_ticks__are_whole_epochs_and_few() -> None:
    monitor = RunMonitor("Training")
    ticks = {}
    for epoch in range(1, 101):
        monitor.on_epoch({**ROWS[0], "epoch": float(epoch)})
        ticks[epoch] = monitor._figure.layout.xaxis2.dtick
    assert [ticks[epoch] for epoch in (1, 8, 9, 16, 17, 40, 41, 100)] == [1, 1, 2, 2, 5, 5, 10, 20]
    assert monitor.curves.figure().layout.xaxis2.dtick == 20
    assert Curves("x").figure().layout.xaxis2.dtick is None


def test_interrupt__is_polite_the_first_time_and_only_while_training() -> None:
    before = signal.getsignal(signal.SIGINT)
    monitor = RunMonitor("Training")
    with track(monitor.progress, "frames", 3):
        assert signal.getsignal(signal.SIGINT) is before
    with track(monitor.progress, "train x", 10):
        signal.raise_signal(signal.SIGINT)
        assert monitor.stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_long_runs__keep_few_points() -> None:
    curves = Curves("x")
    for step in range(5000):
        curves.step(step / 100, 1.0)
    assert MOST_POINTS / 3 < len(curves.steps) <= MOST_POINTS
    assert curves.steps[-1][0] > 49


def test_headless__a_picture_and_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[Any, str | None]] = []
    monkeypatch.setattr(MODULE, "show", lambda figure, name: shown.append((figure, name)))
    monitor = run_monitor("Training of x", False, name="curves-x")
    assert isinstance(monitor, StillMonitor)
    assert not monitor.stop()
    monitor.on_epoch(ROWS[0])
    monitor.show_whole(pd.DataFrame(ROWS))
    ((figure, name),) = shown
    assert name == "curves-x"
    assert [list(trace.x) for trace in figure.data if trace.name == "train loss"] == [[1.0, 2.0]]


def test_durations() -> None:
    assert [duration(40), duration(720), duration(12240)] == ["40 s", "12 min", "3.4 h"]


def test_tensorboard__answers_on_loopback_and_takes_another_port_when_needed(tmp_path: Any) -> None:
    import socket

    import requests

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        board = open_board(tmp_path / "logs", port=taken.getsockname()[1])
        assert board.url.startswith("http://127.0.0.1:")
        assert str(taken.getsockname()[1]) not in board.url
    assert "TensorBoard" in requests.get(board.url, timeout=30).text
    assert open_board(tmp_path / "logs") is board
    assert board.url in page_frame(board.url, "TensorBoard").data
