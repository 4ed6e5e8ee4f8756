"""What the box review has on the screen: one suggestion on its frame, or a page of many as crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from traitlets import Bytes, Dict, Enum, Float, Int, List, Unicode

from obdb_lib.boxes import BoxSet, iou_matrix
from obdb_lib.review import SAID, is_open
from widgets._base import PlainWidget, joined, sentence
from widgets._pictures import FrameQueue, Rect, around, cut, jpeg, shrink
from widgets._review_queue import ORDERS, Record, ReviewQueue, kind_of, number
from widgets._review_tiles import TileMaker
from widgets._review_words import KIND_NAMES, accept_as, accept_does, evidence_words, proposal

CONTEXT_SCALE = 5.0
"""The picture sent with a suggestion shows this many box sides; larger shows more of the neighbourhood."""
CONTEXT_LEAST_PX = 320.0
CROP_PX = 900
REGION_PX = 2400
"""A part of a frame is sent at most this wide: what is on the screen at full resolution, on a dense screen, too."""
SAME_BOX_IOU = 0.95
"""A detection of the class proposed with at least this overlap is the candidate itself and not drawn again."""
PAGE_SIZE, MOST_TILES = 40, 200


SCRIPTS = (
    *("review_draw.js", "review_frame.js", "review_grid.js", "review_bars.js"),
    *("review_screen.js", "review_acts.js", "box_review.js"),
)
"""One module in parts, each built on those before it."""


class ReviewScreen(PlainWidget):
    """Traits of the box review, and how they are filled. ``BoxReview`` adds the acts."""

    _esm = joined(*SCRIPTS)
    _css = joined("box_review.css", "review_grid.css")

    _queue: ReviewQueue
    _annotations: Callable[[str], BoxSet]
    _detections: Callable[[str], BoxSet] | None
    _frames: FrameQueue
    _tiles: TileMaker
    _sizes: dict[str, tuple[int, int]]
    _filling: bool
    _who: str | None

    # The page and Python both write these.
    index = Int(-1).tag(sync=True)
    view = Enum(("frame", "grid"), "frame").tag(sync=True)
    order = Enum(tuple(ORDERS), "likely").tag(sync=True)
    only_kind = Unicode().tag(sync=True)
    only_class = Unicode().tag(sync=True)
    page = Int(0, min=0).tag(sync=True)
    # What is on the screen; written by Python only.
    item = Dict().tag(sync=True)
    boxes = List(Dict()).tag(sync=True)
    frame_size = List(Int(), default_value=[0, 0]).tag(sync=True)
    picture = Bytes().tag(sync=True)
    crop = Bytes().tag(sync=True)
    crop_rect = List(Float(), default_value=[0.0, 0.0, 0.0, 0.0]).tag(sync=True)
    frame_error = Unicode().tag(sync=True)
    classes = List(Unicode()).tag(sync=True)
    menus = Dict().tag(sync=True)
    page_size = Int(PAGE_SIZE).tag(sync=True)
    pages = Int(0).tag(sync=True)
    tiles = List(Dict()).tag(sync=True)
    soon = List(Unicode()).tag(sync=True)
    progress = Dict().tag(sync=True)
    outlook = Dict().tag(sync=True)
    message = Dict().tag(sync=True)
    turn = Int(0).tag(sync=True)
    answered = Int(0).tag(sync=True)

    def _say(self, text: str, kind: str = "info") -> None:
        self.message = {"kind": kind, "text": text}

    def _describe_menus(self) -> None:
        queue = self._queue
        self.menus = {
            "orders": [[name, text] for name, text in ORDERS.items()],
            "kinds": [[kind, KIND_NAMES.get(kind, kind)] for kind in queue.kinds],
            "classes": sorted({str(one["object_class"]) for one in queue.items}),
        }

    def _go(self, place: int, standing: Mapping[str, Record]) -> None:
        """Show a suggestion, and in the grid its page."""
        self._filling = True
        try:
            with self.hold_sync():
                self.index = place
                if place in self._queue.position:
                    self.page = self._queue.position[place] // self.page_size
                self._refresh(standing)
        finally:
            self._filling = False

    def _refresh(self, standing: Mapping[str, Record]) -> None:
        """Fill the traits of the view that is shown."""
        with self.hold_sync():
            self.progress = self._queue.counts(standing)
            self.outlook = self._queue.outlook(standing, self._who)
            if not self._queue.shown:
                self._show_nothing()
                return
            self.item = self._item(self._queue.items[self.index], standing)
            if self.view == "grid":
                self._show_page(standing)
            else:
                self._show_candidate(standing)

    def _show_nothing(self) -> None:
        """Nothing passes the filter: what was on the screen before must not look as if it did."""
        self.item, self.boxes, self.tiles, self.soon = {}, [], [], []
        self.picture = self.crop = b""
        self.frame_error = ""
        self.page = self.pages = 0

    def _item(self, one: Record, standing: Mapping[str, Record]) -> Record:
        name = str(one["_id"])
        entry = standing.get(name, {})
        verdict = str(entry.get("verdict") or "")
        other = entry.get("who") if verdict and entry.get("who") != self._who else ""
        place = self._queue.place[name]
        points = [float(value) for value in one["points"]]
        decided = [float(value) for value in entry.get("points") or []] if verdict == "accept" else []
        return {
            "id": name,
            "number": self._queue.position.get(place, -1) + 1,
            "object_class": str(one["object_class"]),
            "decided_class": str(entry.get("object_class") or "") if verdict else "",
            "decided_points": decided if decided != points else [],
            "score": number(one.get("score")),
            "probability": number(one.get("probability")),
            "kind": kind_of(one),
            "kind_name": KIND_NAMES.get(kind_of(one), kind_of(one)),
            "words": proposal(one),
            "accept_does": accept_does(one),
            "accept_as": accept_as(one),
            "evidence": evidence_words(one),
            "task": str(one.get("task_name", "")),
            "frame": number(one.get("frame")),
            "path": str(one["img_path"]),
            "points": points,
            "annotation_points": [float(value) for value in one.get("annotation_points") or []],
            "verdict": SAID.get(verdict, verdict),
            "open": is_open(standing.get(name)),
            "by": str(other or ""),
            "entry": str(entry.get("_id") or ""),
        }

    # -- many -------------------------------------------------------------------------------------------------------

    def _show_page(self, standing: Mapping[str, Record]) -> None:
        queue, size = self._queue, self.page_size
        self.pages = -(-len(queue.shown) // size)
        self.page = min(self.page, max(self.pages - 1, 0))
        here = queue.shown[self.page * size : (self.page + 1) * size]
        following = queue.shown[(self.page + 1) * size : (self.page + 2) * size]
        self.tiles = [self._item(queue.items[place], standing) for place in here]
        self.soon = [str(queue.items[place]["_id"]) for place in following]

    def _send_tiles(self, records: list[Record], pictures: list[bytes]) -> None:
        self.send({"kind": "tiles", "tiles": records}, pictures)

    # -- one --------------------------------------------------------------------------------------------------------

    def _show_candidate(self, standing: Mapping[str, Record]) -> None:
        suggestion = self._queue.items[self.index]
        path = str(suggestion["img_path"])
        self._show_frame(suggestion, path)
        self.boxes = [
            *self._known_boxes(suggestion, path),
            *self._detected_boxes(suggestion, path),
            *self._other_boxes(suggestion, path, standing),  # above the detections that they are made of
        ]
        following = self._queue.next_open(self.index, standing)
        if following is not None:
            self._frames.prefetch(str(self._queue.items[following]["img_path"]))

    def _show_frame(self, suggestion: Record, path: str) -> None:
        try:
            frame = self._frames.get(path)
        except Exception as error:
            self.picture = self.crop = b""
            self.frame_size = [0, 0]
            self.frame_error = f"This frame cannot be shown: {sentence(error)}"
            return
        rect = around(suggestion["points"], CONTEXT_SCALE, CONTEXT_LEAST_PX, frame.width, frame.height)
        self.frame_error = ""
        self.frame_size = [frame.width, frame.height]
        self._sizes[path] = (frame.width, frame.height)
        self.picture = frame.picture
        self.crop_rect = list(rect)
        self.crop = jpeg(shrink(cut(frame.pixels, rect), CROP_PX, CROP_PX))

    def _send_region(self, content: Mapping[str, Any]) -> None:
        """The part of the frame that is on the screen, at the resolution of the screen or of the frame."""
        path = str(self._queue.items[self._queue.place[str(content["id"])]]["img_path"])
        frame = self._frames.get(path)
        x1, y1, x2, y2 = (float(value) for value in content["rect"])
        left, top = max(int(np.floor(x1)), 0), max(int(np.floor(y1)), 0)
        rect: Rect = (left, top, min(int(np.ceil(x2)), frame.width), min(int(np.ceil(y2)), frame.height))
        if rect[0] >= rect[2] or rect[1] >= rect[3]:
            return
        width = min(max(int(content["width"]), 1), REGION_PX)
        picture = jpeg(shrink(cut(frame.pixels, rect), width, REGION_PX))
        self.send({"kind": "region", "path": path, "rect": list(rect)}, [picture])

    def _known_boxes(self, suggestion: Record, path: str) -> list[Record]:
        """Annotations of the frame; the one that the suggestion is about is told apart."""
        try:
            known = self._annotations(path)
        except Exception as error:
            self._say(f"The existing annotations of this frame cannot be shown: {sentence(error)}", "error")
            return []
        about, about_points = str(suggestion.get("annotation_id") or ""), suggestion.get("annotation_points")
        boxes = []
        for box, label, name in zip(known.xyxy, known.classes, known.ids, strict=True):
            points = [float(value) for value in box]
            concerned = bool(about) and str(name) == about
            concerned |= bool(about_points) and np.allclose(points, about_points or [0.0] * 4, atol=0.01)
            boxes.append({"kind": "concerned" if concerned else "annotation", "points": points, "label": str(label)})
        if about_points and not any(box["kind"] == "concerned" for box in boxes):
            label = str(suggestion.get("annotation_class") or "")
            boxes.append({"kind": "concerned", "points": [float(v) for v in about_points], "label": label})
        return boxes

    def _other_boxes(self, suggestion: Record, path: str, standing: Mapping[str, Record]) -> list[Record]:
        others = []
        for one in self._queue.by_path[path]:
            name = str(one["_id"])
            if name == str(suggestion["_id"]):
                continue
            verdict = str(standing[name]["verdict"]) if name in standing else ""
            points = [float(value) for value in one["points"]]
            others.append({"kind": "other", "points": points, "label": SAID.get(verdict, "")})
        return others

    def _detected_boxes(self, suggestion: Record, path: str) -> list[Record]:
        """What else the model sees on the frame, with scores."""
        if self._detections is None:
            return []
        try:
            found = self._detections(path)
        except Exception as error:
            self._say(f"The detections of this frame cannot be shown: {sentence(error)}", "error")
            return []
        own = BoxSet(np.array([suggestion["points"]], dtype=np.float32))
        repeats = iou_matrix(found, own).max(axis=1, initial=0.0) >= SAME_BOX_IOU
        repeats &= found.classes.astype(str) == str(suggestion["object_class"])
        return [
            {"kind": "detection", "points": [float(v) for v in box], "label": f"{label} {score:.2f}"}
            for box, label, score in zip(
                found.xyxy[~repeats], found.classes[~repeats], found.scores[~repeats], strict=True
            )
        ]
