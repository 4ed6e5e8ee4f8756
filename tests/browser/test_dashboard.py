"""Sherpa's dashboard in JupyterLab while a search runs: whole without a network, and it follows the trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import OpenLab
from tests.browser.harness import bring_to_top, save_notebook

CELLS = [
    """
from pathlib import Path
from obdb_lib.dashboard import free_port
from obdb_lib.hpo import search
from tests.search_script import Hill
from widgets import show_dashboard
port = free_port(18980)
""",
    """
ranges = {"lr": [1e-4, 1.0], "momentum": [0.1, 0.9]}
gone = Path("enough")
with show_dashboard(port, height=560):
    found = search(Hill(Path("."), pause=0.05), ranges, max_num_trials=400, seed=0, algorithm="random",
                   dashboard_port=port, stop=gone.exists)
""",
]
FRAME = 'iframe[title="Sherpa\'s dashboard"]'


@pytest.mark.slow
def test_dashboard__is_whole_inside_the_lab_while_the_search_runs(open_lab: OpenLab, tmp_path: Path) -> None:
    save_notebook(tmp_path / "search.ipynb", CELLS)
    lab = open_lab(tmp_path)
    asked: list[str] = []
    lab.page.on("request", lambda request: asked.append(request.url))
    lab.open_notebook("search.ipynb")
    lab.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    lab.page.wait_for_selector(FRAME, timeout=90_000)
    frame = lab.page.frame_locator(FRAME)
    lab.wait_for(lambda: frame.locator("svg").count() > 0, "the dashboard's drawings", 90)
    rows = frame.locator(".slick-row")
    lab.wait_for(lambda: rows.count() >= 3, "trials in the dashboard's table", 60)
    bring_to_top(lab, FRAME)
    lab.screenshot("dashboard-running")
    (tmp_path / "enough").touch()
    lab.wait_for(lambda: lab.eval_in_kernel("found.partial"), "the search to end")
    lab.wait_for(lambda: lab.page.locator(FRAME).count() == 0, "the frame to give way")
    assert not lab.failed_cells()
    outside = [url for url in asked if url.startswith("http") and "//127.0.0.1" not in url and "//localhost" not in url]
    assert not outside
