"""Crops of many suggestions, cut from the full resolution in the background, the page on the screen first."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from widgets._base import sentence
from widgets._pictures import Pixels, checked_frame, jpeg
from widgets._review_queue import ReviewQueue

Record = dict[str, Any]
Send = Callable[[list[Record], list[bytes]], None]
logger = logging.getLogger(__name__)

TILE_PX = 200
"""Side of a crop; sharp on a screen of twice the density at the width of a page of forty."""
TILE_SCALE = 2.2
"""A crop shows this many sides of the box; larger shows more of the neighbourhood."""
TILE_LEAST_PX = 64.0
"""A crop shows at least this many pixels of the frame: a tiny box is not blown up beyond recognition."""
TILE_QUALITY = 82
KEPT_TILES = 4000
"""Crops kept; one takes about 8 kB."""
WORKERS = 2


class TileMaker:
    """Makes the crops that a page asks for, one frame after the other.

    Args:
        queue: the suggestions.
        load_frame: the frame as (H, W, 3) uint8 RGB by ``img_path``; called from background threads.
        send: takes crops that are wanted, as records ``id``, ``rect`` (x1, y1, x2, y2: what the square crop shows of
            the frame, in its pixels; it may reach over the border) or ``error``, with one JPEG each ("" for an error);
            called from any thread.
    """

    def __init__(self, queue: ReviewQueue, load_frame: Callable[[str], Pixels], send: Send) -> None:
        self._queue = queue
        self._load_frame = load_frame
        self._send = send
        self._made: OrderedDict[str, tuple[Record, bytes]] = OrderedDict()
        self._failed: set[str] = set()
        self._wanted: set[str] = set()
        self._pending: list[str] = []
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="obdb-tiles")
        self._running = 0

    def want(self, ids: Sequence[str], soon: Sequence[str] = ()) -> None:
        """Send the crops of ``ids`` as soon as they are there, then make those of ``soon`` ready."""
        with self._lock:
            ready = [self._made[name] for name in ids if name in self._made]
            self._wanted = {name for name in ids if name in self._queue.place and name not in self._made}
            later = [name for name in soon if name in self._queue.place and name not in self._made]
            paths = [self._path(name) for name in [*(one for one in ids if one in self._wanted), *later]]
            # What an earlier page wanted and nobody looks at now can wait until somebody asks again.
            self._pending = [path for path in dict.fromkeys(paths) if path not in self._busy]
            start = min(WORKERS - self._running, len(self._pending))
            self._running += start
        if ready:
            self._send([record for record, _ in ready], [picture for _, picture in ready])
        for _ in range(start):
            self._workers.submit(self._work)

    def failed(self, name: str) -> bool:
        """Whether the frame of a suggestion could not be read when its crop was made."""
        return name in self._failed

    def _path(self, name: str) -> str:
        return str(self._queue.items[self._queue.place[name]]["img_path"])

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._running -= 1
                    return
                path = self._pending.pop(0)
                self._busy.add(path)
                wanted = [one for one in self._queue.by_path[path] if str(one["_id"]) in self._wanted]
            # What a person waits for is cut alone; made ready for later pages, a frame gives all its crops at once.
            made = self._cut(path, wanted or self._queue.by_path[path])
            with self._lock:
                self._busy.discard(path)
                self._keep(made)
                cut = {str(record["id"]) for record, _ in made}
                if any(self._path(name) == path for name in self._wanted - cut):
                    self._pending.insert(0, path)  # asked for while this frame was in hand
                now = [one for one in made if str(one[0]["id"]) in self._wanted]
                self._wanted -= {str(record["id"]) for record, _ in now}
            if now:
                try:
                    self._send([record for record, _ in now], [picture for _, picture in now])
                except Exception:  # the page is gone; the crops stay for the next one
                    logger.exception("crops could not be sent to the page")

    def _keep(self, made: Sequence[tuple[Record, bytes]]) -> None:
        for record, picture in made:
            name = str(record["id"])
            if record.get("error"):
                self._failed.add(name)  # not kept: the next visit tries again
            else:
                self._failed.discard(name)
                self._made[name] = (record, picture)
        while len(self._made) > KEPT_TILES:
            self._made.popitem(last=False)

    def _cut(self, path: str, suggestions: Sequence[Record]) -> list[tuple[Record, bytes]]:
        try:
            pixels = checked_frame(path, self._load_frame)
            return [tile(str(one["_id"]), one["points"], pixels) for one in suggestions]
        except Exception as error:
            text = f"This frame cannot be shown: {sentence(error)}"
            return [({"id": str(one["_id"]), "error": text}, b"") for one in suggestions]


def tile(name: str, points: Sequence[float], pixels: Pixels) -> tuple[Record, bytes]:
    """A square crop around a box: its record and JPEG; what is beyond the frame's border is grey."""
    x1, y1, x2, y2 = (float(value) for value in points)
    side = round(max((x2 - x1) * TILE_SCALE, (y2 - y1) * TILE_SCALE, TILE_LEAST_PX))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    height, width = pixels.shape[:2]
    inside = [max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)]
    factor = min(TILE_PX / side, 1.0)
    edge = max(1, round(side * factor))
    sheet = Image.new("RGB", (edge, edge), (70, 70, 70))
    if inside[0] < inside[2] and inside[1] < inside[3]:
        part = Image.fromarray(np.ascontiguousarray(pixels[inside[1] : inside[3], inside[0] : inside[2]]))
        size = (max(1, round(part.width * factor)), max(1, round(part.height * factor)))
        if size != part.size:
            part = part.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        sheet.paste(part, (round((inside[0] - left) * factor), round((inside[1] - top) * factor)))
    return {"id": name, "rect": [left, top, left + side, top + side]}, jpeg(sheet, TILE_QUALITY)
