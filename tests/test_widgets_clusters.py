"""What a person sees of clusters: the chart with its menu, and the sheet of crops."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from obdb_lib.errors import DatasetError
from widgets import cluster_chart, cluster_sheet
from widgets.cluster_chart import MAX_COLOURS
from widgets.cluster_sheet import CROP_PX, CROPS, TYPICAL


def long_table(tasks: int = 2, parts: tuple[str, ...] = ("train", "val")) -> pd.DataFrame:
    rows = [
        (cluster, name, f"FieldData 20200520145736 1L GH02006{task}", part, crops)
        for cluster, name, crops in ((0, "crop", 30), (0, "weed", 10), (1, "weed", 5), (-1, "crop", 2))
        for task in range(tasks)
        for part in parts
    ]
    return pd.DataFrame(rows, columns=["cluster", "object_class", "task_name", "part", "crops"])


def test_the_chart_shows_shares_of_each_cluster_and_switches_view() -> None:
    figure = cluster_chart(long_table())
    shown = {bar.name: dict(zip(bar.y, bar.x, strict=True)) for bar in figure.data if bar.visible}
    assert shown == {
        "crop": {"cluster 0 (160)": 0.75, "cluster 1 (20)": 0, "outliers (8)": 1},
        "weed": {"cluster 0 (160)": 0.25, "cluster 1 (20)": 1, "outliers (8)": 0},
    }
    buttons = {button.label: button.args[0]["visible"] for button in figure.layout.updatemenus[0].buttons}
    assert list(buttons) == ["by class", "by task", "by part"]
    by_part = [bar for bar, visible in zip(figure.data, buttons["by part"], strict=True) if visible]
    assert [bar.name for bar in by_part] == ["train", "val"]
    assert [sum(bar.customdata) for bar in by_part] == [94, 94]
    assert sum(visible for view in buttons.values() for visible in view) == len(figure.data), "each bar in one view"


def test_a_view_may_be_asked_for_and_parts_only_where_there_are_some() -> None:
    assert [bar.name for bar in cluster_chart(long_table(), by="part").data if bar.visible] == ["train", "val"]
    without = cluster_chart(long_table(parts=("all",)))
    assert [button.label for button in without.layout.updatemenus[0].buttons] == ["by class", "by task"]
    with pytest.raises(DatasetError, match="got 'part'"):
        cluster_chart(long_table(parts=("all",)), by="part")
    with pytest.raises(DatasetError, match="missing: crops"):
        cluster_chart(long_table().drop(columns="crops"))
    with pytest.raises(DatasetError, match="missing: any row"):
        cluster_chart(long_table().iloc[:0])


def test_many_tasks_share_one_grey_and_all_crops_stay() -> None:
    table = long_table(tasks=9)
    table["task_name"] = [f"task {number}" for number in range(len(table))]
    figure = cluster_chart(table, by="task_name")
    shown = [bar for bar in figure.data if bar.visible]
    assert len(shown) == MAX_COLOURS
    assert shown[-1].name == f"{len(table) - MAX_COLOURS + 1} others"
    assert sum(sum(bar.customdata) for bar in shown) == table["crops"].sum()


def coloured(shades: dict[str, int]) -> object:
    """Crops of one grey each, as PNG so that the shade survives."""

    def crops(ids: list[str]) -> list[bytes]:
        found = []
        for name in ids:
            buffer = io.BytesIO()
            Image.new("RGB", (8, 8), (shades[name],) * 3).save(buffer, "PNG")
            found.append(buffer.getvalue())
        return found

    return crops


def many(count: int = 40) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "annotation_id": [f"a{n}" for n in range(count)],
            "cluster": ["0"] * (count - 15) + ["outlier"] * 15,
            "object_class": "weed",
            "centrality": np.linspace(0, 1, count),
            "outlier_score": np.linspace(1, 0, count),
        }
    )


def test_the_sheet_shows_the_most_typical_first_and_the_loneliest_outliers() -> None:
    asked: list[list[str]] = []
    points = many()
    shades = {name: 5 * number for number, name in enumerate(points["annotation_id"])}
    draw = coloured(shades)

    def crops(ids: list[str]) -> list[bytes]:
        asked.append(list(ids))
        return draw(ids)

    sheet = cluster_sheet(points, crops)
    cluster, outliers = asked
    assert len(cluster) == len(outliers) == CROPS
    assert cluster[:TYPICAL] == [f"a{n}" for n in range(24, 24 - TYPICAL, -1)]
    assert outliers[:TYPICAL] == [f"a{n}" for n in range(25, 25 + TYPICAL)]
    assert len(set(cluster)) == CROPS
    pixels = np.asarray(sheet)
    first = 190 + CROP_PX // 2
    assert pixels[22 + CROP_PX // 2, first].tolist() == [5 * 24] * 3


def test_small_clusters_without_scores_have_a_row_each() -> None:
    points = pd.DataFrame(
        {"annotation_id": list("abcde"), "cluster": ["0", "0", "0", "1", "outlier"], "object_class": ["x"] * 5}
    )
    asked: list[list[str]] = []

    def crops(ids: list[str]) -> list[bytes]:
        asked.append(sorted(ids))
        return coloured(dict.fromkeys("abcde", 9))(ids)

    sheet = cluster_sheet(points, crops)
    assert asked == [["a", "b", "c"], ["d"], ["e"]]
    assert sheet.height == 22 + 3 * (CROP_PX + 4)
    with pytest.raises(DatasetError, match="missing: cluster"):
        cluster_sheet(points.drop(columns="cluster"), crops)


def test_the_sheet_says_how_many_clusters_it_leaves_out() -> None:
    points = pd.DataFrame({"annotation_id": [f"a{n}" for n in range(20)], "cluster": range(20), "object_class": "x"})
    few = points[points["cluster"] < 14]
    draw = coloured(dict.fromkeys(points["annotation_id"], 9))
    assert cluster_sheet(points, draw).height == cluster_sheet(few, draw).height + 22
