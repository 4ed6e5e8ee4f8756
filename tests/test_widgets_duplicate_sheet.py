"""The sheet of twins shows groups in rows and the weakest pairs below."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import FrameError, ReviewError
from widgets import duplicate_sheet

COLOURS = {"big": (200, 30, 30), "small": (30, 160, 30), "alone": (30, 30, 200)}


def load(img_path: str) -> NDArray[np.uint8]:
    if img_path == "big/0":
        raise FrameError("big/0 cannot be read")
    return np.full((120, 160, 3), COLOURS[img_path.split("/")[0]], dtype=np.uint8)


@pytest.fixture
def found() -> DuplicateGroups:
    names = [f"big/{number}" for number in range(11)] + ["small/0", "small/1", "alone/0"]
    groups = pd.Series([0] * 11 + [1, 1, 2], index=names)
    rows = [(f"big/{n}", f"big/{n + 1}", 0.9, "near") for n in range(1, 10)] + [("small/0", "small/1", 0.3, "near")]
    return DuplicateGroups(groups, pd.DataFrame(rows, columns=["first", "second", "correlation", "kind"]))


def coloured(sheet: Image.Image, name: str) -> int:
    return int((np.asarray(sheet) == COLOURS[name]).all(axis=2).sum())


def test_groups_in_rows_and_frames_without_a_twin_nowhere(found: DuplicateGroups) -> None:
    sheet = duplicate_sheet(found, load, rows=5, pairs=0)
    tile = coloured(sheet, "small") // 2
    assert tile > 5000
    assert coloured(sheet, "big") == 7 * tile, "eight tiles of eleven frames, and one frame cannot be read"
    assert coloured(sheet, "alone") == 0


def test_the_weakest_pairs_come_first(found: DuplicateGroups) -> None:
    sheet = duplicate_sheet(found, load, rows=0, pairs=1)
    assert coloured(sheet, "small") > 0
    assert coloured(sheet, "big") == 0


def test_nothing_found_is_a_sheet_that_says_so() -> None:
    names = ["alone/0", "alone/1"]
    pairs = pd.DataFrame({"first": [], "second": [], "correlation": [], "kind": []})
    sheet = duplicate_sheet(DuplicateGroups(pd.Series([0, 1], index=names), pairs), load)
    assert coloured(sheet, "alone") == 0
    assert sheet.height < 100


def test_negative_numbers_are_refused(found: DuplicateGroups) -> None:
    with pytest.raises(ReviewError, match="rows=-1, pairs=12"):
        duplicate_sheet(found, load, rows=-1)
