"""A training in JupyterLab: live curves, a Stop button that works while the cell runs, TensorBoard in the same page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.conftest import OpenLab
from tests.browser.harness import VIEWPORT, save_notebook

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
STILL_CELL = """
from widgets import run_monitor

monitor = run_monitor("Training of mobilenet_v2", True)
for epoch in range(1, 6):
    monitor.on_epoch({"epoch": epoch, "loss": 3 / epoch, "val_loss": 4 / epoch, "val_ap50": epoch / 10, "lr": 0.01})
"""
MONITOR = ".obdb-run-monitor"
KEPT_CHART = ".jp-RenderedPlotly .scatterlayer .trace"
ROUNDING_PX = 4
"""The figure may be that much narrower or wider than its place."""
NARROWER_PX = 250


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
    lab.page.locator(f"{MONITOR} button.obdb-stop").click()  # the cell is busy: the server has to carry the wish
    lab.wait_for(lambda: "stopped after" in line.inner_text(), "the training to end")
    lab.wait_for(lambda: lab.page.locator(KEPT_CHART).count() > 0, "the chart that stays")
    kinds = [output["output_type"] for output in lab.notebook()["cells"][2]["outputs"]]
    assert kinds == ["display_data"] * 2, "a wish that was met is no red warning"
    lab.page.locator(KEPT_CHART).first.scroll_into_view_if_needed()
    lab.screenshot("run-monitor-stopped")
    assert not lab.failed_cells()
    assert lab.eval_in_kernel("[result.partial, len(result.history) < 400, result.checkpoint.exists()]") == [True] * 3
    runs = f"{lab.eval_in_kernel('board.url')}data/runs"
    # TensorBoard reads the logs every few seconds and its page asks once: unfolded sooner, it stays empty until told.
    lab.wait_for(lambda: lab.page.request.get(runs).json(), "TensorBoard to have read the logs")
    lab.page.locator(".obdb-page-frame summary").click()
    frame = lab.page.frame_locator(".obdb-page-frame iframe")
    lab.wait_for(lambda: frame.locator("card-view, scalar-card").count() > 0, "TensorBoard's cards")
    lab.page.locator(".obdb-page-frame").scroll_into_view_if_needed()
    lab.screenshot("run-monitor-tensorboard")


def test_curves_fill_their_width(open_lab: OpenLab, tmp_path: Path) -> None:
    """At first, in a narrower window, beside an open sidebar, and back again; no new data has them drawn again."""
    save_notebook(tmp_path / "still.ipynb", [STILL_CELL])
    lab = open_lab(tmp_path)
    lab.open_notebook("still.ipynb")
    lab.run_all()
    lab.wait_for(lambda: lab.page.locator(f"{MONITOR} .scatterlayer .point").count() > 0, "the curves")

    def width() -> float:
        """Of the curves, once they fill the place of the widget; 0 before."""
        place = lab.page.locator(MONITOR).bounding_box()
        drawn = lab.page.locator(f"{MONITOR} .main-svg").first.bounding_box()
        assert place is not None
        assert drawn is not None
        return float(drawn["width"]) if abs(drawn["width"] - place["width"]) <= ROUNDING_PX else 0.0

    toggle = "() => window.jupyterapp.commands.execute('application:toggle-left-area')"
    wide = lab.wait_for(width, "curves as wide as their place")
    lab.page.set_viewport_size({"width": VIEWPORT[0] - NARROWER_PX, "height": VIEWPORT[1]})
    narrow = lab.wait_for(lambda: width() % wide, "curves that follow the window")
    assert narrow == pytest.approx(wide - NARROWER_PX, abs=ROUNDING_PX)
    lab.page.evaluate(toggle)
    beside = lab.wait_for(lambda: width() % narrow, "curves that make room for the sidebar")
    assert beside < narrow - ROUNDING_PX
    lab.page.evaluate(toggle)
    lab.page.set_viewport_size({"width": VIEWPORT[0], "height": VIEWPORT[1]})
    lab.wait_for(lambda: width() == wide, "curves that grow again")
