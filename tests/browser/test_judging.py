"""The confusion matrix and the failure browser in a real Lab: a click on a cell opens the frames behind it."""

from __future__ import annotations

from pathlib import Path

from tests.browser.conftest import OpenLab
from tests.browser.harness import save_notebook

CELLS = [
    """
import numpy as np
from obdb_lib.boxes import BoxSet
from obdb_lib.confusion import confusion
from tests.judging_world import CLASSES, random_tables
from widgets import ConfusionBrowser, FailureBrowser
import pandas as pd
detections, truth, paths = random_tables(10, 8, seed=1, size=500)
found = confusion(detections, truth, paths, CLASSES, min_score=0.3)

def load(path):
    return np.full((600, 800, 3), 60 + 15 * paths.index(path), dtype=np.uint8)

def layer(table):
    return lambda path: BoxSet(
        table.loc[table["img_path"] == path, ["x1", "y1", "x2", "y2"]].to_numpy(np.float32),
        table.loc[table["img_path"] == path, "object_class"].to_numpy(object))

layers = {"annotation": layer(truth), "detection": layer(detections)}
browser = ConfusionBrowser(found, load_frame=load, layers=layers)
browser
""",
    """
errors = pd.DataFrame({"matched": 1, "missed": range(10, 0, -1), "extra": 2, "confused": 0, "errors": range(12, 2, -1)},
                      index=pd.Index(paths, name="img_path"))
failures = FailureBrowser(errors, load_frame=load, layers=layers)
failures
""",
]


def test_cells_open_their_frames_and_failures_can_be_chosen(open_lab: OpenLab, tmp_path: Path) -> None:
    save_notebook(tmp_path / "judging.ipynb", CELLS)
    lab = open_lab(tmp_path, viewport=(1280, 1000))
    lab.open_notebook("judging.ipynb")
    lab.run_all()
    cell = lab.page.locator(".obdb-cm-cell[data-row='0'][data-column='3']")
    assert int(cell.inner_text()) == lab.eval_in_kernel("int(found.matrix.iloc[0, 3])") > 0
    cell.click()
    lab.wait_for(lambda: lab.eval_in_kernel("browser.img_paths"), "frames of the cell in Python")
    assert lab.eval_in_kernel("browser.img_paths == found.frames(CLASSES[0], '(background)')")
    picture = lab.page.locator(".jp-CodeCell").nth(0).locator("img.widget-image, .widget-image img")
    lab.wait_for(lambda: picture.count() and picture.first.is_visible(), "the first frame")
    before = picture.first.get_attribute("src")
    lab.screenshot("confusion")
    other = lab.page.locator(".obdb-cm-cell[data-row='3'][data-column='2']")
    other.click()
    lab.wait_for(lambda: "obdb-cm-chosen" in (other.get_attribute("class") or ""), "the chosen cell to be marked")
    lab.wait_for(lambda: picture.first.get_attribute("src") != before, "the frames of the other cell")
    listed = lab.page.locator(".obdb-failures select")
    listed.scroll_into_view_if_needed()
    listed.select_option(index=4)
    lab.wait_for(lambda: lab.eval_in_kernel("failures.browser.img_path == paths[4]"), "the chosen frame")
    lab.screenshot("failures")
    assert not [line for line in lab.console if "pageerror" in line]
