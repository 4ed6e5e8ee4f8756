"""Widgets and charts of notebook 04: what they show, what they open, what they refuse."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from obdb_lib.boxes import BoxSet
from obdb_lib.confusion import BACKGROUND, confusion
from obdb_lib.curves import confidence_sweep, precision_recall
from obdb_lib.errors import DatasetError
from obdb_lib.intervals import group_intervals
from obdb_lib.matches import match_detections
from tests.judging_world import CLASSES, random_tables
from widgets import (
    ConfusionBrowser,
    FailureBrowser,
    cluster_score_chart,
    confusion_chart,
    failure_sheet,
    fix_effect_chart,
    frame_sheet,
    honest_chart,
    interval_chart,
    pr_chart,
    sweep_chart,
)
from widgets._boxes import free_place, wrong_boxes
from widgets.frame_view import LAYER_COLOURS, draw_frame

DETECTIONS, TRUTH, PATHS = random_tables(12, 6, seed=3)
MATCHES = match_detections(DETECTIONS, TRUTH, PATHS, CLASSES)


def grey(img_path: str) -> np.ndarray:
    return np.full((120, 200, 3), 128, dtype=np.uint8)


def left(img_path: str) -> BoxSet:
    return BoxSet(np.array([[10, 20, 50, 60]]), np.array(["Rape"], dtype=object))


def right(img_path: str) -> BoxSet:
    return BoxSet(np.array([[100, 20, 150, 60]] * 2), np.array(["Rape"] * 2, dtype=object), np.array([0.9, 0.8]))


LAYERS = {"annotation": left, "detection": right}


def rgb(number: int) -> tuple[int, ...]:
    return tuple(int(LAYER_COLOURS[number][i : i + 2], 16) for i in (1, 3, 5))


def test_layers_beside_each_other_are_on_pictures_of_their_own() -> None:
    picture = np.asarray(draw_frame("a.png", grey, LAYERS, (406, 200), beside=True))
    body = picture[18:]
    first, second = body[:, :200], body[:, 206:406]
    assert (first == rgb(0)).all(axis=2).any()
    assert not (first == rgb(1)).all(axis=2).any()
    assert (second == rgb(1)).all(axis=2).any()
    assert not (second == rgb(0)).all(axis=2).any()
    assert tuple(body[40, 10]) == rgb(0)
    assert tuple(body[40, 306]) == rgb(1)


def test_what_a_cell_holds_is_said_in_words() -> None:
    found = confusion(DETECTIONS, TRUTH, PATHS, CLASSES, min_score=0.3)
    browser = ConfusionBrowser(found, load_frame=grey, layers=LAYERS)
    one, other = CLASSES[:2]
    for cell, said in [
        ((one, one), f"annotated and detected as <b>{one}</b>: "),
        ((one, other), f"annotated as <b>{one}</b>, detected as <b>{other}</b>: "),
        ((one, BACKGROUND), f"annotated as <b>{one}</b> and missed: "),
        ((BACKGROUND, one), f"detected as <b>{one}</b> where nobody drew a plant, or a second time: "),
    ]:
        browser.choose(*cell)
        assert said in browser._text.value


def test_boxes_without_a_partner_are_thick_and_labels_lie_on_nothing() -> None:
    names = np.array(["Rape", "Rape"], dtype=object)
    wanted = BoxSet(np.array([[20, 60, 80, 120], [120, 60, 180, 120]]), names)
    found = BoxSet(np.array([[21, 60, 81, 120], [22, 61, 82, 121]]), names, np.array([0.9, 0.8]))
    pair = {"annotation": lambda _: wanted, "detection": lambda _: found}
    picture = np.asarray(draw_frame("a.png", grey, pair, (406, 200), beside=True))[18:]
    left, right = (picture[:, :200] == rgb(0)).all(axis=2), (picture[:, 206:] == rgb(1)).all(axis=2)
    assert left[90].sum() == 2 * (2 + 5), "both sides of the box that was found, and of the missed one"
    assert [rows.tolist() for rows in wrong_boxes(wanted, found)] == [[False, True], [False, True]]
    hidden = np.asarray(draw_frame("a.png", grey, pair, (406, 200), beside=True, hidden=["detection"]))[18:]
    assert not (hidden[:, 206:] == rgb(1)).all(axis=2).any()
    assert ((hidden[:, :200] == rgb(0)).all(axis=2) == left).all(), "what is hidden still counts as a partner"
    assert right.any()


def test_labels_stay_inside_and_off_each_other() -> None:
    taken: list[tuple[float, float, float, float]] = []
    draw = ImageDraw.Draw(Image.new("RGB", (200, 100)))
    for _ in range(4):
        free_place(draw, "Creeping thistle 0.50", (150.0, 40.0, 190.0, 80.0), False, (200, 100), taken)
    assert max(rect[2] for rect in taken) <= 200
    assert all(abs(one[1] - other[1]) >= 13 for one, other in combinations(taken, 2))


def test_a_click_on_a_cell_opens_its_frames() -> None:
    found = confusion(DETECTIONS, TRUTH, PATHS, CLASSES, min_score=0.3)
    browser = ConfusionBrowser(found, load_frame=grey, layers=LAYERS)
    assert browser._browser.layout.display == "none"
    row, column = next(
        (r, c) for r, line in enumerate(browser.grid.counts) for c, n in enumerate(line) if n > 1 and r != c
    )
    browser.grid.cell = [row, column]  # what the page sends
    names = browser.grid.names
    assert browser.img_paths == found.frames(names[row], names[column])
    assert browser._browser.img_path == browser.img_paths[0]
    assert browser._browser.layout.display is None
    assert f"<b>{browser.grid.counts[row][column]}</b> annotated as" in browser._text.value
    browser.choose(CLASSES[0], CLASSES[0])
    assert browser.img_paths == found.frames(CLASSES[0], CLASSES[0])
    assert browser._browser.img_path == browser.img_paths[0]
    assert not browser._errors.output.outputs


def test_class_names_are_text_and_never_markup() -> None:
    truth = TRUTH.assign(object_class="<b onclick=x>")
    found = confusion(DETECTIONS.iloc[:0], truth, PATHS, ["<b onclick=x>"])
    browser = ConfusionBrowser(found, load_frame=grey, layers=LAYERS)
    browser.choose("<b onclick=x>", BACKGROUND)
    assert "<b onclick" not in browser._text.value
    assert "&lt;b onclick" in browser._text.value


ERRORS = pd.DataFrame(
    {"matched": [0, 2, 1], "missed": [3, 1, 0], "extra": [1, 0, 0], "confused": [1, 0, 0], "errors": [3, 1, 0]},
    index=pd.Index(["f/a.png", "f/b.png", "f/c.png"], name="img_path"),
)


def test_failures_are_listed_worst_first_and_list_and_frame_go_together() -> None:
    failures = FailureBrowser(ERRORS, load_frame=grey, layers=LAYERS)
    assert [text for text, _ in failures.list.options] == [
        "a.png: 2 missed, 1 of another class",
        "b.png: 1 missed, 2 right",
        "c.png: 1 right",
    ]
    assert failures.browser.img_path == "f/a.png"
    failures.list.value = "f/c.png"
    assert failures.browser.img_path == "f/c.png"
    failures.browser._back.click()
    assert failures.list.value == "f/b.png"
    assert "1 missed, 2 right" in failures.browser._text.value
    assert not failures._errors.output.outputs
    empty = FailureBrowser(ERRORS.iloc[:0], load_frame=grey, layers=LAYERS)
    assert "There are no frames" in empty.browser._text.value
    with pytest.raises(DatasetError, match="lacks missed"):
        FailureBrowser(ERRORS.drop(columns="missed"), load_frame=grey, layers=LAYERS)


def test_failure_sheet_shows_as_many_as_asked() -> None:
    one, three = (failure_sheet(ERRORS, load_frame=grey, layers=LAYERS, most=most) for most in (1, 3))
    assert three.width == 2 * one.width
    assert three.height == 2 * one.height
    plain = frame_sheet(list(ERRORS.index), load_frame=grey, layers=LAYERS)
    assert plain.width != three.width


def test_curves_and_thresholds_are_what_the_tables_say() -> None:
    curves = precision_recall(MATCHES)
    figure = pr_chart(curves)
    assert [trace.name for trace in figure.data] == sorted(CLASSES)
    own = curves[curves["object_class"] == CLASSES[0]]
    assert max(figure.data[0].x) == pytest.approx(own["recall"].max())
    sweep = confidence_sweep(MATCHES)
    figure = sweep_chart(sweep)
    assert len(figure.data) == 3 * (1 + len(CLASSES))
    best = sweep[sweep["object_class"] == CLASSES[1]]["f1"].max()
    assert any(f"{CLASSES[1]}: F1 {best:.2f}" in note.text for note in figure.layout.annotations)
    with pytest.raises(DatasetError, match="missing: f1"):
        sweep_chart(sweep.drop(columns="f1"))
    with pytest.raises(DatasetError, match="the table is empty"):
        pr_chart(curves.iloc[:0])


def test_intervals_are_drawn_from_low_to_high() -> None:
    table = group_intervals(MATCHES, pd.Series(range(12), index=PATHS), resamples=50).table
    table.loc[len(table)] = ["Oak", *[np.nan] * 6]
    dots = interval_chart(table).data[0]
    place = list(table["object_class"]).index(CLASSES[0])
    row = table.iloc[place]
    assert dots.x[place] + dots.error_x.array[place] == pytest.approx(row["ap50_high"])
    assert dots.x[place] - dots.error_x.arrayminus[place] == pytest.approx(row["ap50_low"])
    assert dots.text[-1] == "no boxes"
    assert dots.marker.opacity[-1] == 0


def test_other_charts_say_what_they_show() -> None:
    found = confusion(DETECTIONS, TRUTH, PATHS, CLASSES, min_score=0.3)
    heat = confusion_chart(found).data[0]
    assert heat.text[0][0] == str(found.matrix.iloc[0, 0])
    assert heat.text[-1][-1] == "", "nobody counts background taken for background"
    assert sum(abs(share) for share in heat.z[0]) == pytest.approx(1)
    signs = np.sign(heat.z)
    assert (np.diag(signs)[:-1] >= 0).all(), "blue is right"
    assert (signs[~np.eye(len(signs), dtype=bool)] <= 0).all(), "orange is wrong"
    rows = [("every 10th frame", 0.9, 0.8, 0.75, 0.86), ("whole videos", 0.0, 0.6, 0.5, 0.7)]
    table = pd.DataFrame(rows, columns=["strategy", "leak", "ap50", "ap50_low", "ap50_high"])
    figure = honest_chart(table)
    assert list(figure.data[0].y) == ["every 10th frame (leak 90%)", "whole videos (leak 0%)"]
    assert figure.layout.title.text.startswith("Every 10th frame as val says 0.80, whole videos 0.60")
    scores = pd.DataFrame(
        {"cluster": [str(n) for n in range(30)], "ap": np.linspace(0, 1, 30), "truth": 5, "missed": 1, "false": 2}
    )
    figure = cluster_score_chart(scores)
    assert len(figure.data[0].y) == 20
    assert "the worst 20 of 30" in figure.layout.title.text


def test_effect_of_a_fix__is_drawn_with_its_sign_and_both_scores() -> None:
    rows = [("as it was", "mAP50", 0.6, 0.58, -0.02, -0.05, 0.01), ("repaired", "mAP50", 0.5, 0.6, 0.1, 0.04, 0.17)]
    table = pd.DataFrame(rows, columns=["val", "measure", "before", "after", "difference", "low", "high"])
    dots = fix_effect_chart(table).data[0]
    assert list(dots.y) == [
        "mAP50, val as it was: 0.60 before, 0.58 after",
        "mAP50, val repaired: 0.50 before, 0.60 after",
    ]
    assert list(dots.x) == [-0.02, 0.1]
    assert dots.marker.color[0] != dots.marker.color[1], "only the second is surely above 0"
    assert dots.text[1] == "+0.10 [+0.04, +0.17]"
    with pytest.raises(DatasetError, match="fix_effect_chart needs rows"):
        fix_effect_chart(table.iloc[:0])


def test_cluster_scores__of_few_boxes_stand_pale_below_and_counts_name_their_score() -> None:
    scores = pd.DataFrame(
        {"cluster": ["4", "2", "outlier"], "ap": [0.1, 0.4, 1.0], "truth": [1, 9, 14], "missed": 1, "false": 3}
    )
    bars = cluster_score_chart(scores).data[0]
    assert list(bars.y) == ["cluster 2", "outliers", "cluster 4"]
    assert list(bars.marker.opacity) == [1.0, 1.0, 0.4]
    assert bars.text[0] == "0.40: 9 boxes; at score .5: 8 found, 3 false"
