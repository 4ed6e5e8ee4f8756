"""The point map in a real JupyterLab: lasso, stray click, colours, mosaic."""

from __future__ import annotations

import math

import pytest

from tests.browser.conftest import OpenLab
from tests.browser.harness import MAP_CANVAS, LabPage, point_on_map, save_notebook

CELLS = [
    """
import io
import numpy as np
import pandas as pd
from PIL import Image
from widgets.cluster_map import ClusterMap

rng = np.random.default_rng(0)
n = 2000
centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], dtype=float)
names = np.array(["sesame", "purslane", "pigweed", "nutsedge"])
colours = np.array([[40, 140, 60], [150, 90, 40], [90, 120, 160], [120, 60, 120]])
blob = rng.integers(0, 4, n)
xy = centres[blob] + rng.normal(size=(n, 2)) * 0.8
points = pd.DataFrame({
    "annotation_id": [f"a{i}" for i in range(n)], "x": xy[:, 0], "y": xy[:, 1], "object_class": names[blob],
    "cluster": blob, "task_name": np.where(np.arange(n) % 3, "FieldData 20200520145736 1L GH020068", "FieldData B"),
    "size": rng.normal(60, 12, n),
})

def crops(ids):
    pictures = []
    for name in ids:
        shade = colours[blob[int(name[1:])]] + rng.integers(-15, 15, (48, 48, 3))
        buffer = io.BytesIO()
        Image.fromarray(shade.clip(0, 255).astype("uint8")).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    return pictures
""",
    "map_ = ClusterMap(points, crops=crops)\nmap_",
]
WANTED = "set(points.annotation_id[points.object_class == 'sesame'])"


@pytest.fixture(scope="module")
def opened(open_module_lab: OpenLab, tmp_path_factory: pytest.TempPathFactory) -> LabPage:
    root = tmp_path_factory.mktemp("map")
    save_notebook(root / "map.ipynb", CELLS)
    lab = open_module_lab(root)
    lab.open_notebook("map.ipynb")
    return lab


@pytest.fixture
def lab(opened: LabPage) -> LabPage:
    """A fresh map for each test, in the same Lab."""
    lab = opened
    lab.run_all()
    lab.page.locator(".obdb-cluster-map").scroll_into_view_if_needed()
    lab.page.wait_for_selector(MAP_CANVAS)
    return lab


def _point(lab: LabPage, x: float, y: float) -> tuple[float, float]:
    return point_on_map(lab, "map_", x, y)


def _lasso(lab: LabPage, centre: tuple[float, float], radius: float, *, closed: bool) -> None:
    """Draw a ring with the mouse; a closed one begins and ends exactly on a point of the map."""
    x, y = _point(lab, *centre)
    edge = _point(lab, centre[0] + radius, centre[1])[0] - x
    distance = f"np.hypot(xy[:, 0] - {centre[0]}, xy[:, 1] - {centre[1]})"
    nearest = lab.eval_in_kernel(f"[float(v) for v in xy[np.argmin(np.abs({distance} - 1.5))]]")
    steps = 40
    turn = math.tau if closed else math.tau * 0.93
    ring = [(x + edge * math.cos(turn * n / steps), y - edge * math.sin(turn * n / steps)) for n in range(steps + 1)]
    start = _point(lab, *nearest) if closed else ring[0]
    lab.page.mouse.move(*start)
    lab.page.mouse.down()
    for place in [*ring, start] if closed else ring:
        lab.page.mouse.move(*place)
    lab.page.mouse.up()


def _overlap(lab: LabPage) -> list[int]:
    return list(lab.eval_in_kernel(f"[len(set(map_.selected) & {WANTED}), len(map_.selected), len({WANTED})]"))


@pytest.mark.parametrize("closed", [False, True])
def test_lasso_selects_the_blob_in_python(lab: LabPage, closed: bool) -> None:
    _lasso(lab, (0, 0), 3.5, closed=closed)
    lab.wait_for(lambda: lab.eval_in_kernel("len(map_.selected)"), "a selection in Python")
    lab.wait_for(lambda: lab.page.locator(".obdb-grid img").count() == 48, "the mosaic")
    # The click that ends a drag would have come through by now: the mosaic was sent after it.
    lab.page.mouse.move(5, 5)
    common, selected, wanted = _overlap(lab)
    lab.screenshot(f"lasso-{closed}")
    assert common / wanted > 0.98
    assert common / selected > 0.98
    assert "selected" in lab.page.locator(".obdb-mosaic-head").inner_text()
    assert lab.eval_in_kernel("len(map_.data()) == len(map_.selected)")


def test_clear_button_and_move_mode(lab: LabPage) -> None:
    _lasso(lab, (10, 10), 3, closed=True)
    lab.wait_for(lambda: lab.eval_in_kernel("len(map_.selected)"), "a selection")
    lab.page.get_by_role("button", name="Clear selection").click()
    lab.wait_for(lambda: lab.eval_in_kernel("len(map_.selected)") == 0, "an empty selection")
    lab.page.locator(".obdb-mode button", has_text="Move").click()
    lab.wait_for(lambda: lab.eval_in_kernel("map_._scatter.widget.mouse_mode") == "panZoom", "move mode")
    _lasso(lab, (10, 10), 3, closed=True)
    lab.page.locator(".obdb-mode button", has_text="Lasso").click()
    lab.wait_for(lambda: lab.eval_in_kernel("map_._scatter.widget.mouse_mode") == "lasso", "lasso mode")
    assert lab.eval_in_kernel("len(map_.selected)") == 0


def test_colour_by_another_column(lab: LabPage) -> None:
    menu = lab.page.locator(".obdb-map-bar select")
    menu.select_option(label="size")
    lab.wait_for(lambda: lab.eval_in_kernel("map_.colour_by") == "size", "the new column in Python")
    lab.wait_for(lambda: lab.page.locator(".obdb-scale").count() == 1, "a scale in the legend")
    lab.screenshot("colour-by-size")
    menu.select_option(label="task")
    lab.wait_for(lambda: lab.page.locator(".obdb-entries .obdb-row").count() == 3, "a head and two tasks")
    names = lab.page.locator(".obdb-entries .obdb-name")
    assert sorted(name.get_attribute("title") or "" for name in names.all()) == [
        "FieldData 20200520145736 1L GH020068",
        "FieldData B",
    ]
    long = names.filter(has_text="GH020068")
    assert long.text_content() == "…20200520145736 1L GH020068"
    tail, whole = long.locator(".obdb-name-tail").bounding_box(), long.bounding_box()
    assert tail is not None
    assert whole is not None
    assert tail["x"] + tail["width"] <= whole["x"] + whole["width"] + 1, "the end of the name, which tells, is seen"
    assert tail["width"] > 40


def test_python_selects_on_the_map_and_hover_shows_the_crop(lab: LabPage) -> None:
    lab.eval_in_kernel("setattr(map_, 'selected', ('a1', 'a2'))")
    lab.wait_for(lambda: "2 of 2,000" in lab.page.locator(".obdb-mosaic-head").inner_text(), "two selected")
    x, y = _point(lab, *lab.eval_in_kernel("[float(v) for v in xy[5]]"))
    lab.page.mouse.move(x - 3, y)
    lab.page.mouse.move(x, y)
    lab.wait_for(lambda: lab.page.locator(".obdb-hover img").is_visible(), "the crop under the pointer")
    wanted = lab.eval_in_kernel("str(names[blob[5]])")
    assert lab.page.locator(".obdb-hover-text").inner_text().startswith(f"class: {wanted}\n")
