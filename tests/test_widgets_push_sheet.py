"""Pictures of what would be sent: one tile a box, the box in orange, what is annotated in blue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from obdb_lib.boxes import BoxSet
from obdb_lib.errors import FrameError, ReviewError
from tests.cvat_server.helpers import two_frame_plan
from widgets import push_sheets
from widgets.palette import BLUE, ORANGE

ASKED: Counter[str] = Counter()


def load(img_path: str) -> np.ndarray:
    ASKED[img_path] += 1
    if "broken" in img_path:
        raise FrameError(f"image {img_path} is cut short")
    return np.full((120, 160, 3), 90, dtype=np.uint8)


def record(name: str, **more: Any) -> dict[str, Any]:
    base = {"_id": name, "img_path": f"{name[0]}.png", "task_name": "T", "object_class": "<b>hen</b>", "score": 0.5}
    return {**base, "points": [60, 40, 90, 60], **more}


def count(picture: Image.Image, colour: str) -> int:
    """Pixels of about this colour: a frame is resampled for its tile."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.abs(np.asarray(picture).astype(int) - wanted) < 40).all(axis=2).sum())


def test_the_box_and_what_is_annotated_beside_it() -> None:
    (plain,) = push_sheets([record("a1")], load)
    (both,) = push_sheets([record("a1")], load, annotations=lambda path: BoxSet(np.array([[50, 30, 70, 50]])))
    assert count(plain, ORANGE) > 100
    assert count(plain, BLUE) == 0
    assert count(both, BLUE) > 100


def test_pages_and_what_is_left_out() -> None:
    ASKED.clear()
    records = [record(f"{letter}{number}") for number in range(3) for letter in "ab"]
    sheets = push_sheets(records, load, page_tiles=4, columns=2)
    assert len(sheets) == 2
    assert sheets[0].height > sheets[1].height
    assert max(ASKED.values()) == 1, "each frame is loaded once, in whatever order the boxes come"
    assert len(push_sheets(records, load, page_tiles=2, most_pages=1)) == 1


def test_a_frame_that_fails_is_told_on_its_tiles() -> None:
    (sheet,) = push_sheets([record("a"), record("b", img_path="broken.png")], load)
    assert count(sheet, "#F2F2F2") > 1000


def test_nothing_to_send_and_numbers_that_are_none() -> None:
    assert push_sheets([], load) == []
    with pytest.raises(ReviewError, match="at least one tile, column and page; got 0, 10 and None"):
        push_sheets([record("a")], load, page_tiles=0)


def test_of_a_plan(tmp_path: Path) -> None:
    plan = two_frame_plan(tmp_path)
    records = plan.records()
    assert [one["_id"] for one in records] == ["s1", "s2", "s3", "s4"]
    (sheet,) = push_sheets(records, load, columns=2)
    assert count(sheet, ORANGE) > 400
