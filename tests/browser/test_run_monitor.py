"""A training in JupyterLab: live curves, a Stop button that works while the cell runs, TensorBoard in the same page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.conftest import OpenLab
from tests.browser.harness import VIEWPORT, LabPage, save_notebook

CELLS = [
    """
from pathlib import Path
from IPython.display import display
from obdb_lib.board import open_board
from obdb_lib.models import build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.training import fit
from tests.tiny_field import CLASSES
from tests.train_script import datasets
from widgets import page_frame, run_monitor
""",
    """
train, val = datasets(Path("field"))
board = open_board("logs", port=0)
display(page_frame(board.url, "TensorBoard", height=420))
""",
    """
monitor = run_monitor("Training of mobilenet_v2", True, name="curves")
options = TrainingOptions(epochs=400, batch_size=2, device="cpu", max_plateau_count=400, val_loss=True)
result = fit(build_detector("mobilenet_v2", CLASSES, image_size=64), train, val, options, save_dir="out",
             writer_dir="logs", progress=monitor.progress, stop=monitor.stop, on_epoch=monitor.on_epoch)
monitor.show_whole(result.history)
""",
]
MONITOR = ".obdb-run-monitor"
KEPT_CHART = ".jp-RenderedPlotly .scatterlayer .trace"
ROUNDING_PX = 4
"""The figure may be that much narrower or wider than its place."""


def assert_fills_its_width_whatever_changes(lab: LabPage) -> None:
    """At first, in a narrower window, beside an open sidebar, and back again."""

    def filled(other_than: float) -> float:
        box, drawn = (lab.page.locator(f"{MONITOR}{part}").first.bounding_box() for part in ("", " .main-svg"))
        assert box is not None
        assert drawn is not None
        fits = abs(drawn["width"] - box["width"]) <= ROUNDING_PX and box["width"] != other_than
        return float(box["width"]) if fits else 0.0

    toggle = "() => window.jupyterapp.commands.execute('application:toggle-left-area')"
    wide = lab.wait_for(lambda: filled(0.0), "the figure to fill its width")
    lab.page.set_viewport_size({"width": VIEWPORT[0] - 250, "height": VIEWPORT[1]})
    narrow = lab.wait_for(lambda: filled(wide), "the figure to follow the window")
    lab.page.evaluate(toggle)
    beside = lab.wait_for(lambda: filled(narrow), "the figure to make room for the sidebar")
    assert beside < narrow < wide
    lab.page.evaluate(toggle)
    lab.page.set_viewport_size({"width": VIEWPORT[0], "height": VIEWPORT[1]})
    lab.wait_for(lambda: filled(beside) == wide, "the figure to grow again")


@pytest.mark.slow
def test_stop_button_ends_a_running_training(open_lab: OpenLab, tmp_path: Path) -> None:
    save_notebook(tmp_path / "train.ipynb", CELLS)
    lab = open_lab(tmp_path)
    lab.open_notebook("train.ipynb")
    lab.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    lab.page.wait_for_selector(f"{MONITOR} .js-plotly-plot .scatterlayer .trace", timeout=90_000)
    line = lab.page.locator(f"{MONITOR} .widget-html").first
    lab.wait_for(lambda: "left" in line.inner_text(), "the line of numbers")
    points = lab.page.locator(f"{MONITOR} .scatterlayer .point")
    lab.wait_for(lambda: points.count() >= 4, "points of two epochs in the live curves")
    lab.page.locator(MONITOR).scroll_into_view_if_needed()
    lab.screenshot("run-monitor-live")
    assert re.search(r"epoch \d+ of 400 ", line.inner_text()), line.inner_text()
    assert_fills_its_width_whatever_changes(lab)
    lab.page.locator(f"{MONITOR} button.obdb-stop").click()  # the cell is busy: the server has to carry the wish
    lab.wait_for(lambda: "stopped after" in line.inner_text(), "the training to end")
    lab.wait_for(lambda: lab.page.locator(KEPT_CHART).count() > 0, "the chart that stays")
    kinds = [output["output_type"] for output in lab.notebook()["cells"][2]["outputs"]]
    assert kinds == ["display_data"] * 2, "a wish that was met is no red warning"
    lab.page.locator(KEPT_CHART).first.scroll_into_view_if_needed()
    lab.screenshot("run-monitor-stopped")
    assert not lab.failed_cells()
    assert lab.eval_in_kernel("[result.partial, len(result.history) < 400, result.checkpoint.exists()]") == [True] * 3
    lab.page.locator(".obdb-page-frame summary").click()
    frame = lab.page.frame_locator(".obdb-page-frame iframe")
    lab.wait_for(lambda: frame.locator("card-view, scalar-card").count() > 0, "TensorBoard's cards")
    lab.page.locator(".obdb-page-frame").scroll_into_view_if_needed()
    lab.screenshot("run-monitor-tensorboard")
