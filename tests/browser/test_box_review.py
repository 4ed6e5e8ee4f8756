"""The box review in a real JupyterLab: keys, undo, a failing journal, a broken frame, Lab's own shortcuts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import OpenLab
from tests.browser.harness import LabPage, save_notebook

CELLS = [
    """
from datetime import UTC, datetime

import numpy as np
from obdb_lib.boxes import BoxSet
from obdb_lib.errors import ReviewError
from obdb_lib.review import Journal
from widgets.box_review import BoxReview

rng = np.random.default_rng(0)

def field(path):
    if "broken" in path:
        raise OSError("the file is truncated")
    seed = int(path.split("_")[1][:-4])
    dice = np.random.default_rng(seed)
    soil = np.array([124, 98, 72]) + dice.normal(0, 9, (1080, 1920, 1))
    y, x = np.mgrid[0:1080, 0:1920]
    for cx, cy in [(400, 300), (900, 500), (1500, 400), (700, 850), (1300, 800)]:
        r = np.hypot(x - cx, (y - cy) * 1.3)
        leaf = r < 60 + 25 * np.cos(5 * np.arctan2(y - cy, x - cx))
        soil[leaf] = np.array([62, 128, 54]) + dice.normal(0, 10, (int(leaf.sum()), 1))
    return soil.clip(0, 255).astype(np.uint8)

def known(path):
    boxes = np.array([[310, 230, 490, 370], [1410, 330, 1590, 470]])
    return BoxSet(boxes, np.array(["sesame", "sesame"], dtype=object))

class ListStore:
    def __init__(self):
        self.entries, self.broken = [], False
    def append_decision(self, document):
        if self.broken:
            raise ReviewError("the database did not answer; start it again and press the key once more")
        self.entries.append({**document, "when": datetime.now(UTC)})
        return self.entries[-1]
    def decisions(self, suggestion_ids=None, *, since=None):
        return [one for one in self.entries if suggestion_ids is None or one["suggestion_id"] in suggestion_ids]

def suggestion(number, path, points, name="nutsedge"):
    return {"_id": f"s{number}", "img_path": path, "object_class": name, "points": points, "score": 0.91 - number / 20,
            "task_name": "FieldData 20200520145736 1L GH020068", "frame": 120 + number}

queue = [
    suggestion(0, "a_1.png", [810.0, 430.0, 990.0, 570.0]),
    suggestion(1, "a_1.png", [610.0, 780.0, 790.0, 920.0], "sesame"),
    suggestion(2, "a_2.png", [1210.0, 730.0, 1390.0, 870.0]),
    suggestion(3, "broken_3.png", [10.0, 10.0, 60.0, 60.0]),
    suggestion(4, "a_4.png", [1860.0, 1020.0, 1920.0, 1080.0]),
]
kept = ListStore()
journal = Journal(kept, who='ann')
""",
    "review = BoxReview(queue, annotations=known, load_frame=field, journal=journal)\nreview",
    "empty = BoxReview([], annotations=known, load_frame=field, journal=journal)\nempty",
]
REVIEW = ".obdb-review:not(.obdb-empty)"


@pytest.fixture(scope="module")
def opened(open_module_lab: OpenLab, tmp_path_factory: pytest.TempPathFactory) -> LabPage:
    root = tmp_path_factory.mktemp("review")
    save_notebook(root / "review.ipynb", CELLS)
    lab = open_module_lab(root)
    lab.open_notebook("review.ipynb")
    return lab


@pytest.fixture
def lab(opened: LabPage) -> LabPage:
    """A fresh journal and widget for each test, in the same Lab; the widget has the focus."""
    opened.run_all()
    review = opened.page.locator(REVIEW)
    review.scroll_into_view_if_needed()
    _wait_shown(opened, "s0")
    opened.page.locator(f"{REVIEW} .obdb-stage canvas").click(position={"x": 20, "y": 20})
    return opened


def _wait_shown(lab: LabPage, name: str) -> None:
    shown = lab.page.locator(REVIEW)
    lab.wait_for(lambda: shown.get_attribute("data-shown") == name, f"{name} on the screen")


def _records(lab: LabPage) -> list[Any]:
    return lab.eval_in_kernel("[[one['suggestion_id'], one['verdict']] for one in kept.entries]")


def _message(lab: LabPage) -> str:
    return lab.page.locator(f"{REVIEW} .obdb-message").inner_text()


def test_keys_write_decisions_in_order_and_undo_takes_back(lab: LabPage) -> None:
    keys = lab.page.keyboard
    lab.screenshot("review-first")
    keys.press("a")
    _wait_shown(lab, "s1")
    keys.press("r")
    _wait_shown(lab, "s2")
    assert _records(lab) == [["s0", "accept"], ["s1", "reject"]]
    keys.press("u")
    _wait_shown(lab, "s1")
    assert _records(lab)[-1] == ["s1", "undo"]
    keys.press("n")
    _wait_shown(lab, "s2")
    keys.press("s")
    _wait_shown(lab, "s3")
    keys.press("ArrowRight")
    _wait_shown(lab, "s4")
    keys.press("p")
    _wait_shown(lab, "s3")
    assert _records(lab) == [["s0", "accept"], ["s1", "reject"], ["s1", "undo"], ["s2", "skip"]]
    assert lab.eval_in_kernel("review.decided") == {
        "total": 5,
        "decided": 2,
        "accepted": 1,
        "rejected": 0,
        "skipped": 1,
    }
    assert lab.eval_in_kernel("[one['verdict'] for one in review.decisions()]") == ["accept", "skip"]
    assert (
        "2 of 5 decided: 1 accepted, 0 rejected, 1 skipped" in lab.page.locator(f"{REVIEW} .obdb-counts").inner_text()
    )


def test_buttons_do_the_same_and_the_class_can_be_changed(lab: LabPage) -> None:
    lab.page.locator(f"{REVIEW} .obdb-class").select_option("sesame")
    lab.page.locator(f"{REVIEW} .obdb-button-accept").click()
    _wait_shown(lab, "s1")
    assert lab.eval_in_kernel("kept.entries[-1]['object_class']") == "sesame"
    lab.page.locator(f"{REVIEW} .obdb-button-undo").click()
    _wait_shown(lab, "s0")
    assert lab.eval_in_kernel("len(journal.standing())") == 0


def test_labs_own_shortcuts_stay_quiet(lab: LabPage) -> None:
    before = [(cell["cell_type"], cell["source"]) for cell in lab.notebook()["cells"]]
    for key in ("d", "d", "x", "m", "y", "b", "c", "v", "i", "i", "0", "0", "Shift+M", "1", "Shift+a"):
        lab.page.keyboard.press(key)
    _wait_shown(lab, "s1")
    after = [(cell["cell_type"], cell["source"]) for cell in lab.notebook()["cells"]]
    assert after == before
    assert _records(lab) == [["s0", "accept"]]


def test_a_failing_journal_is_told_in_the_widget_and_nothing_moves(lab: LabPage) -> None:
    lab.eval_in_kernel("setattr(kept, 'broken', True)")
    lab.page.keyboard.press("a")
    lab.wait_for(lambda: "Not saved: the database did not answer" in _message(lab), "the error in the widget")
    lab.screenshot("review-error")
    assert lab.eval_in_kernel("review.index") == 0
    assert _records(lab) == []
    assert "0 of 5 decided" in lab.page.locator(f"{REVIEW} .obdb-counts").inner_text()
    lab.eval_in_kernel("setattr(kept, 'broken', False)")
    lab.page.keyboard.press("a")
    _wait_shown(lab, "s1")
    assert _message(lab).startswith("Accepted nutsedge")


def test_a_broken_frame_says_so_and_lets_one_go_on(lab: LabPage) -> None:
    lab.eval_in_kernel("setattr(review, 'index', 3)")
    _wait_shown(lab, "s3")
    assert "cannot be shown: OSError: the file is truncated" in lab.page.locator(f"{REVIEW} .obdb-broken").inner_text()
    lab.screenshot("review-broken")
    lab.page.keyboard.press("a")
    lab.wait_for(lambda: "without its frame" in _message(lab), "the refusal")
    assert _records(lab) == []
    lab.page.keyboard.press("s")
    _wait_shown(lab, "s4")


def test_zoom_help_and_the_end_of_the_queue(lab: LabPage) -> None:
    lab.page.keyboard.press("z")
    lab.wait_for(lambda: lab.page.locator(".obdb-zoomed").count() == 1, "the zoom")
    lab.screenshot("review-zoom")
    lab.page.keyboard.press("?")
    assert lab.page.locator(f"{REVIEW} .obdb-help").is_visible()
    lab.screenshot("review-help")
    lab.page.keyboard.press("Escape")
    assert not lab.page.locator(f"{REVIEW} .obdb-help").is_visible()
    for name in ("s1", "s2", "s3", "s4"):
        lab.page.keyboard.press("s")
        _wait_shown(lab, name)
    lab.page.keyboard.press("s")
    lab.wait_for(lambda: "Every suggestion in this queue has a decision" in _message(lab), "the end")
    lab.screenshot("review-end")


def test_an_empty_queue_says_so(lab: LabPage) -> None:
    empty = lab.page.locator(".obdb-review.obdb-empty")
    assert empty.count() == 1
    assert "There is nothing to review" in empty.inner_text()
    assert not empty.locator("canvas").first.is_visible()
