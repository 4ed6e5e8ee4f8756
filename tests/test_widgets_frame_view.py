"""Frames with boxes: what is drawn where, and what an unreadable frame shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib.boxes import BoxSet
from obdb_lib.frames import FrameStore
from widgets import FrameBrowser, frame_sheet, trials_chart
from widgets.frame_view import LAYER_COLOURS, draw_frame


def grey(img_path: str) -> np.ndarray:
    return np.full((200, 400, 3), 128, dtype=np.uint8)


def box(img_path: str) -> BoxSet:
    return BoxSet(np.array([[100, 60, 180, 140]]), np.array(["Rape"], dtype=object))


def nothing(img_path: str) -> BoxSet:
    return BoxSet(np.empty((0, 4)))


def test_a_box_is_drawn_in_its_layers_colour_and_place() -> None:
    picture = np.asarray(draw_frame("a.png", grey, {"annotation": nothing, "detection": box}, (200, 100)))
    assert picture.shape == (100, 200, 3)
    colour = tuple(int(LAYER_COLOURS[1][i : i + 2], 16) for i in (1, 3, 5))
    assert tuple(picture[50, 50]) == colour  # the left edge, at half size
    assert tuple(picture[50, 70]) == (128, 128, 128)  # inside the box nothing is painted


def test_browser_steps_and_hides_layers() -> None:
    browser = FrameBrowser(["a.png", "b.png"], load_frame=grey, layers={"annotation": box})
    first = browser._image.value
    browser._shown[0].value = False
    assert browser._image.value != first
    browser._next.click()
    browser._next.click()  # stays at the last one
    assert "b.png" in browser._text.value
    assert browser._text.value.startswith("2 of 2 "), "people count from 1"
    assert "1 annotations" in browser._text.value


def test_names_from_a_file_are_text_and_never_markup() -> None:
    browser = FrameBrowser(["<img src=x onerror=alert(1)>.png"], load_frame=grey, layers={"annotation": nothing})
    assert "<img" not in browser._text.value
    assert "&lt;img" in browser._text.value


def test_unreadable_and_no_frames(tmp_path: Path) -> None:
    browser = FrameBrowser(["lost.png"], load_frame=FrameStore([tmp_path]).load, layers={"annotation": nothing})
    assert browser._image.value[:2] == b"\xff\xd8"
    assert "There are no frames" in FrameBrowser([], load_frame=grey, layers={})._text.value
    assert frame_sheet([], load_frame=grey, layers={}).width > 0


@pytest.mark.parametrize("objective", [[0.1, 0.4], [float("nan"), 0.4]])
def test_trials_chart_leaves_failed_trials_out(objective: list[float]) -> None:
    trials = pd.DataFrame({"trial": [1, 2], "lr": [0.01, 0.001], "objective": objective, "status": "", "note": ""})
    good = int(pd.Series(objective).notna().sum())
    figure = trials_chart(trials)
    assert [axis.label for axis in figure.data[0].dimensions] == ["lr (log)", "val mAP50"]
    assert len(figure.data[0].dimensions[0].values) == good
    assert ("1 failed, not shown" in figure.layout.title.text) == (good == 1)
