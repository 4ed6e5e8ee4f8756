"""Charts in JupyterLab and in an exported page that has no network."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor
from playwright.sync_api import Browser

from tests.browser.conftest import OpenLab
from tests.browser.harness import PROJECT, VIEWPORT, save_notebook
from widgets import write_plotly_js

CELLS = [
    """
import numpy as np, pandas as pd
from widgets import balance_chart, bars, bars_chart, cluster_chart, curves_chart, show
rng = np.random.default_rng(0)
classes = ["sesame", "purslane", "pigweed", "nutsedge"]
strategies = ["random frames", "by video", "by session"]
rows = [(s, p, c, int(n * f)) for s in strategies for p, f in [("train", 0.8), ("val", 0.2)]
        for c, n in zip(classes, rng.integers(100, 900, 4))]
balance = pd.DataFrame(rows, columns=["strategy", "part", "object_class", "boxes"])
show(balance_chart(balance), "balance")
""",
    """
held = [(c, name, "a task", "all", n) for c in range(6) for name, n in zip(classes, range(9, 50, 10))]
table = pd.DataFrame(held, columns=["cluster", "object_class", "task_name", "part", "crops"])
show(cluster_chart(table), "clusters")
""",
    """
epochs = np.arange(1, 13)
history = pd.DataFrame({"epoch": epochs, "loss": 1.9 / epochs**0.6, "val_loss": 2.0 / epochs**0.45,
                        "val_ap": 0.5 - 0.45 / epochs, "val_ap50": 0.75 - 0.6 / epochs})
show(curves_chart(history), "curves")
""",
    """
from obdb_lib.leaks import report
from obdb_lib.splits import every_nth
from tests.helpers import snapshot_of, task
from widgets import split_report_chart
boxes = {frame: [("Fat hen", [8, 8, 20, 20])] for frame in range(20)}
snapshot = snapshot_of([task(f"FieldData 2020052{day}145736 1L GH0{day}0068", 20, boxes) for day in range(3)])
show(split_report_chart(report(every_nth(snapshot), snapshot)), "split-report")
""",
    """
show(bars_chart({"sesame": 0.91, "purslane": 0.62, "pigweed": 0.48, "nutsedge": float("nan")}), "per-class")
""",
]
ONE_CHART = """
import pandas as pd
from widgets.charts import curves_chart, show

show(curves_chart(pd.DataFrame({"epoch": [1, 2], "loss": [2, 1]})), "curves")
"""
STEADY_POLLS = 40
"""So many equal answers, 50 ms apart, mean that nothing moves any more."""
NAMES = ("balance", "clusters", "curves", "split-report", "per-class")


def test_lab_draws_every_chart(open_lab: OpenLab, tmp_path: Path) -> None:
    save_notebook(tmp_path / "charts.ipynb", CELLS)
    lab = open_lab(tmp_path)
    lab.open_notebook("charts.ipynb")
    lab.run_all()
    drawn = lab.page.locator(".jp-OutputArea .js-plotly-plot .main-svg")
    for number, name in enumerate(NAMES):
        cell = lab.page.locator(".jp-CodeCell").nth(number)
        cell.scroll_into_view_if_needed()
        lab.wait_for(lambda cell=cell: cell.locator(".js-plotly-plot .main-svg").count() > 0, f"the chart {name}")
        lab.screenshot(f"lab-{name}")
    assert drawn.count() >= 1
    kinds = [set(output["data"]) for cell in lab.notebook()["cells"] for output in cell["outputs"]]
    assert all({"application/vnd.plotly.v1+json", "text/html"} <= kind for kind in kinds)


def test_chart_keeps_its_height_under_another_theme(open_lab: OpenLab, tmp_path: Path) -> None:
    """A change of the theme has JupyterLab size and draw its outputs again."""
    save_notebook(tmp_path / "theme.ipynb", [ONE_CHART])
    lab = open_lab(tmp_path)
    lab.open_notebook("theme.ipynb")
    lab.run_all()
    chart = lab.page.locator(".jp-RenderedPlotly")
    lab.wait_for(lambda: chart.locator(".trace").count() > 0, "the chart")
    height = chart.evaluate("(node) => node.getBoundingClientRect().height")
    lab.page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    heights: list[float] = []

    def settled() -> bool:
        if lab.page.locator("body[data-jp-theme-light=false]").count():
            heights.append(chart.evaluate("(node) => node.getBoundingClientRect().height"))
        return len(heights) >= STEADY_POLLS and len(set(heights[-STEADY_POLLS:])) == 1

    lab.wait_for(settled, "the chart to stand still")
    assert heights[-1] == pytest.approx(height, abs=4)


def test_exported_page_is_interactive_without_network(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    path = save_notebook(tmp_path / "charts.ipynb", CELLS)
    book = nbformat.read(path, as_version=4)
    ExecutePreprocessor(timeout=120).preprocess(book, {"metadata": {"path": str(tmp_path)}})
    html, _ = HTMLExporter().from_notebook_node(book)
    page_path = tmp_path / "charts.html"
    page_path.write_text(html, encoding="utf-8")
    assert len(html) < 2_000_000
    write_plotly_js(tmp_path)
    page = browser.new_page(viewport={"width": VIEWPORT[0], "height": VIEWPORT[1]})
    # What is not a local file is refused, as on a machine without network.
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    page.goto(page_path.as_uri())
    for name in NAMES:
        page.wait_for_selector(f"#{name} .main-svg")
    page.screenshot(path=tmp_path / "export.png", full_page=True)
    page.locator("#per-class .bars .point").last.hover(force=True)
    page.wait_for_selector("#per-class .hoverlayer .hovertext")
    page.close()
