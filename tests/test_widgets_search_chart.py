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
    assert list(loss["best so far"].y) == [0.3, 0.2, 0.2]
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
    assert len(figure.data[0].dimensions[0]["values"]) == 3
    assert figure.data[0].line.reversescale
