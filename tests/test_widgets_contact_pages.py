"""Contact sheets of what was decided: pages of tiles, and one page of HTML that needs nothing beside it."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from obdb_lib.errors import FrameError, ReviewError
from obdb_lib.records import Document
from widgets import write_contact_sheets
from widgets.contact_sheet import TILE_PX, cropped
from widgets.palette import BLUE, GREEN, ORANGE, VERMILION

NASTY = '<script>alert("1")</script> & "Söhne"'


class Frames:
    """Frames of one colour each, red by number; counts how often each is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def load(self, img_path: str) -> np.ndarray:
        self.asked[img_path] += 1
        if "broken" in img_path:
            raise FrameError(f"image {img_path} <cut> short")
        pixels = np.full((120, 160, 3), 90, dtype=np.uint8)
        pixels[40:60, 60:90] = (200, 30, 30)
        return pixels


def suggestion(name: str, **more: Any) -> Document:
    base = {"_id": name, "img_path": f"t/{name}.png", "task_name": "Task 1", "frame": 3, "kind": "missing"}
    return {**base, "object_class": "Fat hen", "points": [60, 40, 90, 60], "score": 0.5, "probability": 0.75, **more}


def entry(verdict: str, **more: Any) -> Document:
    return {"verdict": verdict, "who": "ann", "when": datetime(2026, 5, 3, 13, 5, tzinfo=UTC), "rule": None, **more}


class Cells(HTMLParser):
    """The table rows of a page as lists of texts, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: Counter[str] = Counter()
        self.pictures: list[bytes] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
            self.inside = True
        elif tag == "img":
            self.pictures.append(base64.b64decode(str(dict(attrs)["src"]).removeprefix("data:image/jpeg;base64,")))

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()


def test_both_verdicts_as_pictures_and_as_a_table(tmp_path: Path) -> None:
    queue = [
        suggestion("s0"),
        suggestion("s1", img_path="t/s0.png", probability=None),
        suggestion("s2", kind="swapped_class", annotation_class="Dandelion", annotation_points=[58, 38, 92, 62]),
        suggestion("s3"),
        suggestion("s4"),
    ]
    rule = "accept Fat hen at probability >= 0.7"
    decisions = {
        "s0": entry("accept", object_class="Cleavers", points=[50, 30, 80, 50], rule=rule, who="batch"),
        "s1": entry("reject"),
        "s2": entry("accept"),
        "s3": entry("skip"),
    }
    frames = Frames()
    paths = write_contact_sheets(tmp_path, queue, decisions, frames.load)
    assert [path.name for path in paths] == ["accepted_01.png", "rejected_01.png", "contact_sheets.html"]
    assert frames.asked == {"t/s0.png": 1, "t/s2.png": 1}, "each frame once, and none that is not shown"
    colours = [colours_of(Image.open(path)) for path in paths[:2]]
    green, vermilion = (tuple(bytes.fromhex(name[1:])) for name in (GREEN, VERMILION))
    assert (green in colours[0], vermilion in colours[0]) == (True, False)
    assert (green in colours[1], vermilion in colours[1]) == (False, True)

    text = paths[-1].read_text(encoding="utf-8")
    page = Cells(text)
    assert "2 accepted, 1 rejected, 2 skipped or open" in text
    by_rule = "batch by rule 1 2026-05-03 13:05"
    assert [row[1:] for row in page.rows if row] == [
        ["Cleavers proposed as Fat hen", "t/s0.png", "Task 1 frame 3", "0.50", "0.75", "accepted", by_rule],
        ["Fat hen, not Dandelion", "t/s2.png", "Task 1 frame 3", "0.50", "0.75", "accepted", "ann 2026-05-03 13:05"],
        ["Fat hen", "t/s0.png", "Task 1 frame 3", "0.50", "", "rejected", "ann 2026-05-03 13:05"],
    ]
    assert f"<li>{rule.replace('>', '&gt;')}</li>" in text
    assert [Image.open(io.BytesIO(picture)).size for picture in page.pictures] == [(TILE_PX, TILE_PX)] * 3
    assert not re.search(r"""(src|href)=["'](?!data:)""", text), "needs nothing beside it"


def colours_of(picture: Image.Image) -> set[Any]:
    return {colour for _, colour in picture.convert("RGB").getcolors(1_000_000) or []}


def test_what_comes_from_the_data_is_escaped(tmp_path: Path) -> None:
    queue = [suggestion("s0", object_class=NASTY, img_path=f"t/{NASTY}.png", task_name=NASTY), suggestion("broken")]
    decisions = {"s0": entry("accept", who=NASTY, rule=NASTY), "broken": entry("reject")}
    paths = write_contact_sheets(tmp_path, queue, decisions, Frames().load)
    text = paths[-1].read_text(encoding="utf-8")
    page = Cells(text)
    assert page.tags["script"] == 0
    assert page.rows[1][1] == NASTY
    assert page.rows[1][2] == f"t/{NASTY}.png"
    assert "<cut>" not in text
    assert page.rows[-1][0] == "cannot be shown: image t/broken.png <cut> short"


def test_many_are_laid_on_pages_and_old_pages_go(tmp_path: Path) -> None:
    queue = [suggestion(f"s{number}", img_path=f"t/{number % 4}.png") for number in range(25)]
    (tmp_path / "accepted_notes.png").write_bytes(b"mine")
    frames = Frames()
    paths = write_contact_sheets(
        tmp_path, queue, {one["_id"]: entry("accept") for one in queue}, frames.load, page_tiles=10, columns=5
    )
    assert [path.name for path in paths[:-1]] == [f"accepted_{number:02d}.png" for number in (1, 2, 3)]
    assert set(frames.asked.values()) == {1}
    sizes = [Image.open(path).size for path in paths[:-1]]
    assert sizes[0] == sizes[1]
    assert sizes[2][1] < sizes[0][1], "five tiles are one row"
    assert Cells(paths[-1].read_text(encoding="utf-8")).tags["img"] == 25

    again = write_contact_sheets(tmp_path, queue, {"s0": entry("reject")}, Frames().load, page_tiles=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("accepted_notes.png", "contact_sheets.html", "rejected_01.png"),
    ]
    assert [path.name for path in again] == ["rejected_01.png", "contact_sheets.html"]


def test_nothing_decided_is_said(tmp_path: Path) -> None:
    paths = write_contact_sheets(tmp_path, [suggestion("s0")], {}, Frames().load)
    assert [path.name for path in paths] == ["contact_sheets.html"]
    text = paths[0].read_text(encoding="utf-8")
    assert "Nothing was accepted." in text
    assert "0 accepted, 0 rejected, 1 skipped or open" in text
    with pytest.raises(ReviewError, match="at least one tile and one column; got 0 and 3"):
        write_contact_sheets(tmp_path, [], {}, Frames().load, page_tiles=0, columns=3)


def test_a_correction_shows_the_annotation_and_the_proposal() -> None:
    moved = suggestion("s", kind="bad_location", annotation_points=[20, 20, 50, 50])
    colours = {}
    removed = suggestion("s", kind="spurious", annotation_points=[60, 40, 90, 60])
    for one in (moved, removed, suggestion("s")):
        crop = cropped(one, Frames().load)
        assert isinstance(crop, Image.Image)
        colours[one["kind"]] = colours_of(crop)
    blue, orange = (tuple(bytes.fromhex(name[1:])) for name in (BLUE, ORANGE))
    assert {blue, orange} <= colours["bad_location"]
    assert blue in colours["spurious"]
    assert orange not in colours["spurious"]
    assert orange in colours["missing"]
    assert blue not in colours["missing"]
