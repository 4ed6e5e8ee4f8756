"""The picture of a split's report: what it shows, from a result or from JSON, whole or bare."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.errors import SplitError
from obdb_lib.leaks import SplitReport, report
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import every_nth, make_split
from tests.helpers import snapshot_of, task
from widgets import charts, show, split_report_chart
from widgets.charts import PART_COLOURS
from widgets.split_report import MOST_BARS

VIDEOS = [f"FieldData 2020052{day}145736 1L GH0{day}0068" for day in range(4)]


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    boxes = {
        frame: [("Fat hen", [8, 8, 20, 20]), ("Dandelion" if frame % 2 else "Dock", [30, 30, 50, 50])]
        for frame in range(10)
    }
    return snapshot_of([task(name, 10, boxes) for name in VIDEOS])


@pytest.fixture(scope="module")
def whole(snapshot: Snapshot) -> SplitReport:
    """By video: two train, one val, one test; a twin across, clusters (one is only in train), embeddings."""
    names = snapshot.frames["img_path"].tolist()
    parts = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    table = pd.DataFrame({"img_path": names, "part": parts})
    split = make_split(snapshot.id, "by_hand", table, {"shares": {"train": 0.5, "val": 0.25, "test": 0.25}})
    pairs = pd.DataFrame({"first": [names[0]], "second": [names[25]], "correlation": [0.9]})
    duplicates = DuplicateGroups(pd.Series(range(len(names)), index=names), pairs)
    ids = snapshot.annotations["annotation_id"]
    clusters = pd.Series(np.arange(len(ids)) % 2, index=ids)
    clusters.iloc[:3], clusters.iloc[3:6] = 2, -1
    vectors = np.random.default_rng(0).normal(size=(len(ids), 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    crops = Embeddings(ids.to_numpy(object), vectors, "by hand")
    return report(split, snapshot, duplicates=duplicates, clusters=clusters, embeddings=crops)


def bars_of(figure: go.Figure, axis: str) -> dict[str, go.Bar]:
    """Bars of one panel by colour's part."""
    part_of = {colour: part for part, colour in PART_COLOURS.items()}
    return {part_of[bar.marker.color]: bar for bar in figure.data if bar.type == "bar" and bar.xaxis == axis}


def titles(figure: go.Figure) -> list[str]:
    return [note.text for note in figure.layout.annotations]


def test_every_number_of_the_picture_is_the_reports(whole: SplitReport) -> None:
    figure = split_report_chart(whole)
    assert [title.partition(":")[0] for title in titles(figure)] == [
        "Frames of val and test that have in train ...",
        "Frame numbers to the nearest frame in train",
        titles(figure)[2].partition(":")[0],
        "Share of each class's boxes in val and test",
        "Share of each cluster's crops",
        "Box sizes of each part",
    ]
    leaks = bars_of(figure, "x")
    assert list(leaks["val"].x) == [0.1, 0, 0, 0]
    assert list(leaks["val"].text) == ["10.0 % (1)", "0.0 % (0)", "0.0 % (0)", "0.0 % (0)"]
    assert list(leaks["test"].x) == [0, 0, 0, 0]
    gaps = bars_of(figure, "x2")["val"]
    assert dict(zip(gaps.x, gaps.y, strict=True))["none"] == 1  # its video is not in train
    classes = bars_of(figure, "x4")["val"]
    assert dict(zip(classes.y, classes.x, strict=True)) == {"Fat hen": 0.25, "Dandelion": 0.25, "Dock": 0.25}
    assert [list(pair) for pair in classes.customdata] == [[10, 40], [5, 20], [5, 20]]
    clusters = bars_of(figure, "x5")["val"]
    assert dict(zip(clusters.x, clusters.text, strict=True))["2"] == "0"
    assert "-1" not in clusters.x
    assert "val has 2 of 3 clusters" in titles(figure)[4]
    lines = [trace for trace in figure.data if trace.legend == "legend2"]
    assert [line.name for line in lines][:2] == ["val to train", "test to train"]
    assert all(sum(line.y) == pytest.approx(1) for line in lines)
    wanted = [shape for shape in figure.layout.shapes if shape.line.dash == "dash"]
    assert {shape.x0 for shape in wanted} | {shape.y0 for shape in wanted} >= {0.25}
    assert "a near copy in train" in figure.layout.title.text
    keys = [trace.name for trace in figure.data if trace.name]
    assert "val: 10 frames, 20 boxes" in keys


def test_json_gives_the_same_picture(whole: SplitReport) -> None:
    stored = json.loads(json.dumps(whole.as_dict()))
    assert split_report_chart(stored).to_json() == split_report_chart(whole).to_json()


def test_what_was_not_looked_for_is_said_or_left_out(snapshot: Snapshot) -> None:
    figure = split_report_chart(report(every_nth(snapshot, n=5), snapshot))
    assert len(titles(figure)) == 4  # no clusters, no nearest crops
    leaks = bars_of(figure, "x")["val"]
    assert list(leaks.text) == ["not known", "100.0 % (8)", "100.0 % (8)", "100.0 % (8)"]
    assert figure.layout.title.text.startswith("every nth: 100.0 % (8 of 8) of the val frames")
    record = task(frames=4, boxes={0: [("Dock", [1, 1, 9, 9])], 3: [("Dock", [1, 1, 9, 9])]})
    for number, frame in enumerate(record.meta["frames"]):
        frame["name"] = f"images/agri_{'abcd'[number]}.jpg"
    for box in record.annotations:
        box["img_path"] = record.meta["frames"][box["frame"]]["name"]
    record.meta["task_name"] = "plain"
    plain = snapshot_of([record])
    figure = split_report_chart(report(every_nth(plain, n=3), plain))
    assert list(bars_of(figure, "x")["val"].text) == ["not known"] * 4
    assert len(titles(figure)) == 3


def test_many_classes_share_a_bar(whole: SplitReport) -> None:
    values = whole.as_dict()
    many = {f"class {n:02d}": {"train": 8, "val": 1, "test": 1} for n in range(MOST_BARS + 4)}
    classes = bars_of(split_report_chart({**values, "classes": many}), "x4")["val"]
    assert len(classes.y) == MOST_BARS + 1
    assert classes.y[-1] == "+4"
    assert list(classes.customdata[-1]) == [4, 40]
    one_more = {name: many[name] for name in list(many)[: MOST_BARS + 1]}
    assert "+1" not in bars_of(split_report_chart({**values, "classes": one_more}), "x4")["val"].y


def test_a_split_without_val_is_still_drawn(snapshot: Snapshot) -> None:
    table = pd.DataFrame({"img_path": snapshot.frames["img_path"], "part": "train"})
    figure = split_report_chart(report(make_split(snapshot.id, "x", table, {}), snapshot))
    assert "val has no boxes" in figure.layout.title.text


def test_another_file_is_refused() -> None:
    with pytest.raises(SplitError, match=r"lacks borders, fairness.*leaks.report"):
        split_report_chart({"classes": {}, "findings": []})


def test_it_is_shown_as_other_charts_are(whole: SplitReport, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(charts, "display", lambda bundle, raw: shown.append(bundle))
    show(split_report_chart(whole), "split-report")
    assert 'id="split-report"' in shown[0]["text/html"]
    assert len(shown[0]["text/html"]) < 60_000
