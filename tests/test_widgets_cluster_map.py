"""The Python side of the point map, its colours and its still picture, without a browser."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from traitlets import TraitError

from obdb_lib.errors import DatasetError
from widgets import ClusterMap, cluster_map, static_map
from widgets.names import short_names
from widgets.palette import EXTENDED, MAX_LABELLED, OKABE_ITO, OTHER, colouring


@pytest.fixture
def points() -> pd.DataFrame:
    """Twelve points: 6 sesame, 4 purslane, 2 pigweed."""
    classes = ["sesame"] * 6 + ["purslane"] * 4 + ["pigweed"] * 2
    angle = np.linspace(0, 6, 12)
    return pd.DataFrame(
        {
            "annotation_id": [f"a{number}" for number in range(12)],
            "x": np.cos(angle),
            "y": np.sin(angle),
            "object_class": classes,
            "cluster": [0] * 6 + [1] * 6,
            "size": np.linspace(10.0, 65.0, 12),
        }
    )


def from_browser(map_: ClusterMap, rows: list[int]) -> None:
    """What jupyter-scatter's trait does when the page sends a selection."""
    map_._scatter.widget.selection = np.asarray(rows, dtype=np.uint32)


def error_text(map_: ClusterMap) -> str:
    return "".join(output["text"] for output in map_._errors.output.outputs)


def test_selection_of_the_page_reaches_python_as_ids(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points)
    seen: list[tuple[str, ...]] = []
    map_.observe(lambda change: seen.append(change["new"]), names="selected")
    from_browser(map_, [7, 1, 6])
    assert map_.selected == ("a1", "a6", "a7")
    assert seen == [("a1", "a6", "a7")]
    assert map_.data()["object_class"].tolist() == ["sesame", "purslane", "purslane"]
    assert map_._legend.chosen == [1, 2, 0]
    assert map_._mosaic.headline == "3 of 12 selected"
    assert [(part["label"], part["count"]) for part in map_._mosaic.parts] == [("sesame", 1), ("purslane", 2)]


def test_click_that_ends_a_lasso_is_ignored(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points)
    from_browser(map_, [1, 2, 3])
    from_browser(map_, [2])
    assert map_.selected == ("a1", "a2", "a3")
    assert map_._scatter.widget.selection.tolist() == [1, 2, 3]


def test_click_later_on_is_a_wish(points: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    map_ = ClusterMap(points)
    from_browser(map_, [1, 2, 3])
    later = time.monotonic() + cluster_map.STRAY_CLICK_S + 0.01
    monkeypatch.setattr(cluster_map.time, "monotonic", lambda: later)
    from_browser(map_, [2])
    assert map_.selected == ("a2",)


def test_selection_from_python_reaches_the_page(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points)
    map_.selected = ("a9", "a3", "a3")
    assert map_.selected == ("a3", "a9")
    assert map_._scatter.widget.selection.tolist() == [3, 9]
    map_.clear()
    assert map_.selected == ()
    assert map_._scatter.widget.selection.tolist() == []
    assert map_.data().empty
    assert map_._clear_button.disabled


def test_unknown_ids_and_columns_are_refused(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points)
    with pytest.raises(TraitError, match="not on this map, the first is 'nobody'"):
        map_.selected = ("nobody",)
    with pytest.raises(TraitError, match="cannot colour by 'hue'"):
        map_.colour_by = "hue"
    assert map_.selected == ()


def test_unknown_argument_names_the_known_ones(points: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"'color_by' \(did you mean 'colour_by'\?\).*points, crops, colour_by"):
        ClusterMap(points, color_by="cluster")


def test_crops_are_asked_for_the_selection_and_sampled_evenly(points: pd.DataFrame, monkeypatch: Any) -> None:
    asked: list[list[str]] = []

    def crops(ids: Any) -> list[bytes]:
        asked.append(list(ids))
        return [name.encode() for name in ids]

    monkeypatch.setattr(cluster_map, "MOSAIC_LIMIT", 4)
    map_ = ClusterMap(points, crops=crops)
    from_browser(map_, list(range(12)))
    assert asked == [["a0", "a3", "a7", "a11"]]
    assert map_._mosaic.pictures == [b"a0", b"a3", b"a7", b"a11"]
    assert map_._mosaic.note == "4 of 12 shown"
    map_.clear()
    assert map_._mosaic.pictures == []


def test_failing_crops_are_told_and_the_selection_stands(points: pd.DataFrame) -> None:
    def crops(ids: Any) -> list[bytes]:
        raise DatasetError("the frame of a1 is missing")

    map_ = ClusterMap(points, crops=crops)
    from_browser(map_, [1, 2])
    assert map_.selected == ("a1", "a2")
    assert "the frame of a1 is missing" in error_text(map_)
    map_.clear()
    assert error_text(map_) == ""


def test_crops_that_do_not_match_are_told(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points, crops=lambda ids: [b"one"])
    from_browser(map_, [1, 2])
    assert "asked for 2 pictures and gave 1" in error_text(map_)


def test_colour_by_switches_legend_and_scatter(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points)
    assert [entry["label"] for entry in map_._legend.entries] == ["sesame", "purslane", "pigweed"]
    map_._colour_menu.value = "size"
    assert map_.colour_by == "size"
    assert map_._legend.continuous
    map_.colour_by = "cluster"
    assert map_._colour_menu.value == "cluster"
    assert [(entry["label"], entry["count"]) for entry in map_._legend.entries] == [("0", 6), ("1", 6)]


def test_point_colours_on_the_map_are_those_of_the_legend(points: pd.DataFrame) -> None:
    shuffled = points.sample(frac=1, random_state=3)
    map_ = ClusterMap(shuffled)
    view = map_._scatter.widget
    codes = view.points[:, 2].astype(int)
    drawn = ["#" + "".join(f"{round(255 * part):02x}" for part in view.color[code][:3]) for code in codes]
    legend = {entry["label"]: entry["colour"].lower() for entry in map_._legend.entries}
    assert drawn == [legend[name] for name in shuffled["object_class"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="x"), "missing: x"),
        (lambda table: table.iloc[:0], "at least one point"),
        (lambda table: table.assign(annotation_id="a"), "'a' appears more than once"),
        (lambda table: table.assign(y=np.nan), "12 of 12 rows are not"),
        (lambda table: table.drop(columns="object_class"), "no column 'object_class'"),
    ],
)
def test_bad_points_are_refused(points: pd.DataFrame, change: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        ClusterMap(change(points))


def test_one_point_and_one_class_are_enough(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points.iloc[:1])
    from_browser(map_, [0])
    assert map_.selected == ("a0",)


def test_a_hundred_thousand_points_are_made_quickly(points: pd.DataFrame) -> None:
    many = pd.concat([points] * 8334, ignore_index=True).assign(annotation_id=lambda table: table.index.astype(str))
    start = time.monotonic()
    map_ = ClusterMap(many)
    from_browser(map_, list(range(0, len(many), 3)))
    assert time.monotonic() - start < 10
    assert len(map_.selected) == -(-len(many) // 3)


def test_rare_categories_share_the_grey() -> None:
    names = [f"class {number:02d}" for number in range(MAX_LABELLED + 5) for _ in range(40 - number)]
    colours = colouring(pd.DataFrame({"object_class": names}), "object_class")
    assert colours.colours[:7] == OKABE_ITO
    assert colours.colours[-1] == OTHER
    assert colours.labels[-1] == "6 others"
    assert sum(colours.counts) == len(names)
    assert len(set(EXTENDED)) == MAX_LABELLED
    assert set(colours.codes[-16:]) == {MAX_LABELLED - 1}


def test_numbers_are_a_scale_and_missing_ones_are_counted() -> None:
    table = pd.DataFrame({"score": [0.0, 0.5, np.nan, 1.0], "ids": [3, 3, 1, 2], "flag": [True, False, True, True]})
    scale = colouring(table, "score")
    assert (scale.continuous, scale.missing, scale.labels[0], scale.labels[-1]) == (True, 1, "0", "1")
    assert scale.point_colours()[0] == scale.point_colours()[2] == scale.colours[0]
    assert colouring(table, "ids").labels == ("3", "1", "2")
    assert not colouring(table, "flag").continuous


def test_empty_text_has_a_name() -> None:
    assert colouring(pd.DataFrame({"session": ["", "", "s"]}), "session").labels == ("(none)", "s")


def test_names_lose_what_all_of_them_begin_with() -> None:
    tasks = ["FieldData 20220518093012 1L GH010001", "FieldData 20220518093012 2R GH010001", "(none)", "6 others"]
    assert short_names(tasks) == ["…1L GH010001", "…2R GH010001", "(none)", "6 others"]
    assert short_names(tasks[:1]) == tasks[:1]
    assert short_names(["Fat hen", "Fat duck", "Dandelion"]) == ["Fat hen", "Fat duck", "Dandelion"]
    assert short_names(["Fat hen", "Fat duck"]) == ["Fat hen", "Fat duck"], "little to gain"
    assert short_names(["20220518", "20220519"]) == ["20220518", "20220519"], "no name is cut within a word"
    assert short_names([]) == []


def test_the_legend_tells_short_and_whole_names(points: pd.DataFrame) -> None:
    tasks = [f"FieldData 20220518 {side}" for side in ("1L", "2R")]
    map_ = ClusterMap(points.assign(task_name=tasks * 6), colour_by="task_name")
    told = sorted((entry["label"], entry["short"]) for entry in map_._legend.entries)
    assert told == [(tasks[0], "…1L"), (tasks[1], "…2R")]
    assert map_._legend.title == "task"
    assert [column["short"] for column in map_._filter.columns if column["name"] == "task_name"] == [["…1L", "…2R"]]


def test_lasso_and_move_stand_on_the_page_once(points: pd.DataFrame) -> None:
    map_ = ClusterMap(points)
    assert [value for _, value in map_._mode.options] == ["lasso", "panZoom"]
    assert {"pan_zoom", "lasso"}.isdisjoint(map_._scatter.widget.toolbar_buttons)
    assert "reset" in map_._scatter.widget.toolbar_buttons


def test_static_map_draws_each_class_in_its_legend_colour(points: pd.DataFrame) -> None:
    picture = static_map(points, colour_by="object_class")
    assert picture.mode == "RGB"
    assert picture.size == (960, 600)
    found = {"#{:02X}{:02X}{:02X}".format(*colour) for _, colour in picture.getcolors(maxcolors=1_000_000) or []}
    assert set(OKABE_ITO[:3]) <= found
    with pytest.raises(DatasetError, match="no column 'hue'"):
        static_map(points, colour_by="hue")
    with pytest.raises(DatasetError, match="no column 'y'"):
        static_map(points.drop(columns="y"))
