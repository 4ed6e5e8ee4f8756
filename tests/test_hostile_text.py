"""Names and labels with formulas and markup: text in every table and page that people open."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pandas as pd
import pytest

from obdb_lib import formats
from obdb_lib.cells import guarded, unguarded
from obdb_lib.formats import detect_and_read, frame_lists
from obdb_lib.recorded import read_decisions, write_decisions
from tests.conftest import PROJECT
from tests.formats_helpers import said
from tests.helpers import task
from widgets import bars_chart
from widgets.charts import show

HTML = "<img src=x onerror=alert(1)></script><script>alert(1)</script>"

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")', "'=1", "''=1", "\uff1d1"]


@pytest.mark.parametrize("text", [*FORMULAS, "a.png", "'quoted", "", "Fat hen", "a=b"])
def test_a_cell_never_begins_like_a_formula_and_reads_back(text: str) -> None:
    assert not re.match(r"[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]", guarded(text))
    assert unguarded(guarded(text)) == text
    assert guarded("Fat hen") == "Fat hen"


def cells(path: Path) -> list[str]:
    table = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
    return [str(cell) for cell in table.to_numpy().ravel()]


def test_no_csv_of_the_lab_holds_a_formula(tmp_path: Path) -> None:
    names = [f"{name}.png" for name in FORMULAS if name.strip() == name]
    frame_lists.write_parts({"=train": names}, tmp_path / "split.csv")
    record = task("=cmd|' /C calc'!A0 20200520145736 1L GH020068", frames=1)
    record.meta["frames"][:] = [{"name": name, "width": 9, "height": 9} for name in names]
    formats.write([record], tmp_path / "y", "yolo")
    points = [1.0, 2.0, 3.0, 4.0]
    suggestion = {"_id": "=s", "img_path": "=a.png", "object_class": "=1+1", "points": points}
    decision = {"verdict": "accept", "object_class": "@x", "points": points, "who": "+me", "rule": "-r"}
    write_decisions(tmp_path / "d.csv", [suggestion], {"=s": decision})
    for path in (tmp_path / "split.csv", tmp_path / "y" / "frames.csv", tmp_path / "d.csv"):
        assert not [cell for cell in cells(path) if re.match(r"[=+\-@\t\r]", cell)], path
    (read,) = read_decisions(tmp_path / "d.csv").decisions
    assert (read.suggestion_id, read.img_path, read.suggested_class) == ("=s", "=a.png", "=1+1")
    assert (read.object_class, read.who, read.rule) == ("@x", "+me", "-r")
    assert frame_lists.read_parts(tmp_path / "split.csv") == {"=train": names}


def test_labels_with_html_are_text_in_charts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("widgets.charts.display", lambda bundle, **_: shown.append(bundle))
    show(bars_chart(pd.Series({HTML: 0.4, "crop": 0.6}), title="Share", axis="share"), "class-shares")
    page = shown[0]["text/html"]
    assert "onerror" in page, "the label is there"
    assert "<img src=x" not in page
    assert page.count("</script>") == page.count("<script"), "the label ends no script"


def test_pages_of_the_lab_put_text_in_as_text() -> None:
    """No script of the widgets or the dashboard writes markup; pandas and ipywidgets escape by themselves."""
    scripts = [*(PROJECT / "widgets" / "static").glob("*.js"), *(PROJECT / "obdb_lib" / "static").glob("*.js")]
    assert scripts
    for script in scripts:
        found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script.read_text())
        assert not found, script.name
    assert HTML not in pd.DataFrame({HTML: [HTML]})._repr_html_()  # type: ignore[operator]
    assert html.escape(HTML) in pd.DataFrame({HTML: [HTML]})._repr_html_()  # type: ignore[operator]


def test_labels_with_html_and_formulas_survive_every_format_as_text(tmp_path: Path) -> None:
    names = {"coco": "a.json", "cvat_xml": "a.xml", "yolo": "y", "voc": "v", "pickle": "a.pkl", "parquet": "a.parquet"}
    record = task(boxes={0: [(HTML, [1.0, 2, 30, 40]), ("=1+1", [1.0, 2, 30, 40])]}, classes=[HTML, "=1+1"])
    for format_name, name in names.items():
        formats.write([record], tmp_path / name, format_name)
        result = detect_and_read(tmp_path / name)
        assert [one["object_class"] for one in result.tasks[0].annotations] == [HTML, "=1+1"], format_name
        assert said(result, "set aside") == []
