"""Charts of a search: history, importance, parallel coordinates."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from obdb_lib.errors import DatasetError
from widgets import history_chart, importance_chart, trials_chart


@pytest.fixture
def trials() -> pd.DataFrame:
    rows = [
        (1, 0.01, 0.3, "COMPLETED", 4),
        (2, 0.1, math.nan, "FAILED", 0),
        (3, 0.001, 0.2, "STOPPED", 1),
        (4, 0.02, 0.5, "COMPLETED", 4),
    ]
    return pd.DataFrame(rows, columns=["trial", "lr", "objective", "status", "epochs"])


def test_history__draws_the_best_so_far_in_the_right_direction(trials: pd.DataFrame) -> None:
    figure = history_chart(trials)
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["best so far"].y) == [0.3, 0.3, 0.5]
    assert list(by_name["stopped early"].x) == [3]
    loss = {trace.name: trace for trace in history_chart(trials, lower_is_better=True).data}
    assert list(loss["best so far"].y) == [0.3, 0.3, 0.3], "a trial that was stopped cannot win"
    assert (list(by_name["best"].x), list(loss["best"].x)) == ([4], [1])
    assert list(by_name["failed (no value)"].x) == [2]
    with pytest.raises(DatasetError, match="at least one trial"):
        history_chart(trials[1:2])


def test_importance__puts_the_most_important_on_top_and_says_when_unknown() -> None:
    figure = importance_chart(pd.Series({"lr": 0.7, "momentum": 0.1, "gamma": math.nan}))
    assert list(figure.data[0].y) == ["gamma", "momentum", "lr"]
    assert list(figure.data[0].text) == ["too few trials", "10%", "70%"]
    with pytest.raises(DatasetError, match="at least one parameter"):
        importance_chart(pd.Series(dtype=float))


def test_parallel_coordinates__leave_out_what_is_no_parameter(trials: pd.DataFrame) -> None:
    figure = trials_chart(trials, objective="val_loss", lower_is_better=True)
    assert [axis.label for axis in figure.data[0].dimensions] == ["lr (log)", "val loss"]
    lr, value = figure.data[0].dimensions
    assert lr["values"] == pytest.approx([-2, -3, math.log10(0.02)])
    assert list(lr.ticktext) == ["0.001", "0.002", "0.005", "0.01", "0.02"]
    assert value.range[0] <= 0.2
    assert value.range[1] >= 0.5


def test_parallel_coordinates__mark_the_best_and_the_stopped(trials: pd.DataFrame) -> None:
    colours = trials_chart(trials).data[0].line.color
    assert colours[1] == 0.0, "trial 3 was stopped early: the grey end"
    assert colours[2] == 1.0, "trial 4 is the best"
    assert 0.05 <= colours[0] < 0.95
    assert trials_chart(trials, lower_is_better=True).data[0].line.color[0] == 1.0
    text = trials_chart(trials).layout.title.text
    assert "best: trial 4 (0.500)" in text
    assert "1 stopped early" in text
    assert "1 failed, not shown" in text


def test_fewer_epochs__cannot_win(trials: pd.DataFrame) -> None:
    """Of successive halving: the trial of one epoch is whole, but of less than the others had."""
    trials.loc[3, ["epochs", "objective"]] = [1, 0.9]
    figure = {trace.name: trace for trace in history_chart(trials).data}
    assert list(figure["given fewer epochs"].x) == [4]
    assert list(figure["best"].x) == [1]
    assert trials_chart(trials).data[0].line.color[2] < 1.0


@pytest.mark.parametrize(("low", "high"), [(0.012, 0.03), (1e-5, 1e-1), (0.01, 0.01), (3e-4, 4e-4)])
def test_log_axis__has_round_ticks_around_the_values(low: float, high: float) -> None:
    table = pd.DataFrame({"trial": [1, 2], "lr": [low, high], "objective": [0.1, 0.2]})
    axis = trials_chart(table.assign(status="COMPLETED", epochs=1)).data[0].dimensions[0]
    assert axis.range[0] <= math.log10(low) <= math.log10(high) <= axis.range[1]
    assert axis.range[1] - axis.range[0] > 0
    assert 2 <= len(axis.ticktext) <= 8
