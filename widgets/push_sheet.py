"""What a push or a merge would send, as pictures: each box in its place, with what is annotated there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from obdb_lib.boxes import BoxSet
from obdb_lib.errors import ReviewError
from obdb_lib.progress import Progress, track
from widgets._pictures import Pixels, checked_frame
from widgets.contact_sheet import cropped, grid, tile
from widgets.palette import BLUE

Record = dict[str, Any]

PAGE_TILES, PAGE_COLUMNS = 100, 10
"""Tiles on a page and in a row; more make a picture too large to look at."""
LINES_ACROSS = 640
"""A line of an annotation is one of so many parts of the frame's width, at least one pixel."""


def push_sheets(
    records: Sequence[Record],
    load_frame: Callable[[str], Pixels],
    *,
    annotations: Callable[[str], BoxSet] | None = None,
    page_tiles: int = PAGE_TILES,
    columns: int = PAGE_COLUMNS,
    most_pages: int | None = None,
    progress: Progress | None = None,
) -> list[Image.Image]:
    """Pages of tiles, one tile a box that would be sent: orange the box, blue what is annotated.

    Args:
        records: ``PushPlan.records()`` or ``MergePlan.records()``: ``_id``, ``img_path``, ``points`` (x1, y1, x2, y2 in
            pixels), ``object_class``, ``score`` and ``task_name`` of each.
        load_frame: the frame as (H, W, 3) uint8 RGB, by img_path; a frame that fails gives tiles that say so.
        annotations: boxes that a frame has, by img_path (``snapshot.boxes``); None draws none.
        page_tiles, columns: tiles on a page, and in a row of it, at least 1.
        most_pages: further pages are left out, which the last one says; None makes all.

    Returns:
        RGB pictures, none when nothing would be sent.

    Raises:
        ReviewError: a number is below 1.
    """
    if min(page_tiles, columns, most_pages or 1) < 1:
        raise ReviewError(
            f"a sheet needs at least one tile, column and page; got {page_tiles}, {columns} and {most_pages}"
        )
    ordered = sorted(records, key=lambda one: (str(one.get("task_name", "")), str(one["img_path"])))
    pages = [ordered[start : start + page_tiles] for start in range(0, len(ordered), page_tiles)]
    shown = pages[:most_pages]
    frames = _Frames(load_frame, annotations)
    sheets = []
    with track(progress, "pictures of what would be sent", sum(map(len, shown))) as task:

        def tiles(page: Sequence[Record]) -> Iterator[Image.Image]:
            for one in page:
                yield tile(one, cropped(one, frames.load), "")
                task.advance()

        for number, page in enumerate(shown, 1):
            head = f"{len(ordered):,} boxes to send" + (f", page {number} of {len(pages)}" if len(pages) > 1 else "")
            left = len(ordered) - sum(map(len, shown)) if number == len(shown) else 0
            foot = f"{left:,} more are not shown" if left else ""
            sheets.append(grid(tiles(page), len(page), columns, head=head, foot=foot))
    return sheets


class _Frames:
    """Frames with their annotations drawn; the last one is kept, as the boxes come frame by frame."""

    def __init__(self, load_frame: Callable[[str], Pixels], annotations: Callable[[str], BoxSet] | None) -> None:
        self._load_frame, self._annotations = load_frame, annotations
        self._last: tuple[str, Pixels | Exception] = ("", ReviewError("no frame was loaded"))

    def load(self, img_path: str) -> Pixels:
        if self._last[0] != img_path or not img_path:
            try:
                self._last = (img_path, self._drawn(img_path))
            except Exception as error:  # it is told on each of the frame's tiles, and the other frames are shown
                self._last = (img_path, error)
        found = self._last[1]
        if isinstance(found, Exception):
            raise found
        return found

    def _drawn(self, img_path: str) -> Pixels:
        pixels = checked_frame(img_path, self._load_frame)
        if self._annotations is None:
            return pixels
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        for box in self._annotations(img_path):
            draw.rectangle(tuple(box.tolist()), outline=BLUE, width=max(1, round(picture.width / LINES_ACROSS)))
        return np.asarray(picture)
