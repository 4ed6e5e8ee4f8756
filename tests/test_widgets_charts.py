"""Charts, their display and the progress bars, without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from obdb_lib.errors import DatasetError
from obdb_lib.progress import track, tracked
from widgets import balance_chart, bars, bars_chart, charts, curves_chart, show, write_plotly_js


@pytest.fixture
def balance() -> pd.DataFrame:
    rows = [
        ("by video", "train", "sesame", 60),
        ("by video", "train", "pigweed", 20),
        ("by video", "val", "sesame", 5),
        ("by video", "val", "pigweed", 15),
        ("by video", "excluded", "sesame", 99),
    ]
    return pd.DataFrame(rows, columns=["strategy", "part", "object_class", "boxes"])


def test_balance_shows_shares_within_each_part(balance: pd.DataFrame) -> None:
    figure = balance_chart(balance)
    assert {trace.name: dict(zip(trace.x, trace.y, strict=True)) for trace in figure.data} == {
        "train": {"sesame": 0.75, "pigweed": 0.25},
        "val": {"sesame": 0.25, "pigweed": 0.75},
    }


def test_curves_keep_gaps_and_split_losses_from_scores() -> None:
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "val_loss": [None, 1.5], "val_ap50": [0.1, 0.4]})
    figure = curves_chart(history)
    assert [trace.name for trace in figure.data] == ["train loss", "val loss", "val mAP50"]
    assert figure.data[1].y[0] is None
    assert figure.data[2].xaxis == "x2"


def test_bars_are_sorted_and_absent_classes_say_so() -> None:
    figure = bars_chart({"a": 0.2, "b": float("nan"), "c": 0.9})
    assert list(figure.data[0].y) == ["b", "a", "c"]
    assert list(figure.data[0].text) == ["no boxes", "0.20", "0.90"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: balance_chart(pd.DataFrame({"strategy": []})), "missing: part, object_class, boxes"),
        (
            lambda: balance_chart(pd.DataFrame(columns=["strategy", "part", "object_class", "boxes"])),
            "at least one row",
        ),
        (lambda: curves_chart(pd.DataFrame({"epoch": [1]})), "loss or val_loss"),
        (lambda: bars_chart({}), "at least one class"),
    ],
)
def test_bad_tables_are_refused(make: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make()


def test_show_carries_both_kinds_without_embedding_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(charts, "display", lambda bundle, raw: shown.append((bundle, raw)))
    show(bars_chart({"sesame": 0.5}), "per-class")
    bundle, raw = shown[0]
    assert raw
    assert set(bundle) == {"application/vnd.plotly.v1+json", "text/html", "text/plain"}
    assert 'src="plotly.min.js"' in bundle["text/html"]
    assert 'id="per-class"' in bundle["text/html"]
    assert "http" not in bundle["text/html"].replace("http://www.w3.org", "")
    assert len(bundle["text/html"]) < 30_000
    assert bundle["application/vnd.plotly.v1+json"]["data"][0]["type"] == "bar"


def test_plotly_script_is_written_beside_the_page(tmp_path: Path) -> None:
    path = write_plotly_js(tmp_path)
    assert path.name == "plotly.min.js"
    assert path.stat().st_size > 1_000_000


def test_bars_leave_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(range(3), bars(), "embed crops")) == [0, 1, 2]
    out = capsys.readouterr().out
    assert out.startswith("embed crops: 3 in ")
    assert out.count("\n") == 1


def test_bars_say_where_work_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    with track(bars(), "train", 10) as task:
        task.advance(4, loss=0.5)
    assert "train: stopped at 4 of 10 after" in capsys.readouterr().out
