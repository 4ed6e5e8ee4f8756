"""Looking at suggested boxes one by one and deciding with a key; each decision is written before the next is shown."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from traitlets import Bytes, Dict, Float, Int, List, TraitError, Unicode, observe, validate

from obdb_lib.boxes import BoxSet
from obdb_lib.errors import ReviewError
from obdb_lib.review import VERDICTS
from widgets._base import STATIC, PlainWidget, refuse_unknown, sentence
from widgets._pictures import FrameQueue, Pixels, around, cut, jpeg, shrink

Record = dict[str, Any]
logger = logging.getLogger(__name__)

CONTEXT_SCALE = 5.0
"""The zoomed picture shows this many box sides; larger shows more of the neighbourhood."""

CONTEXT_LEAST_PX = 320.0
CROP_PX = 900
DONE_WORDS = {"accept": "accepted", "reject": "rejected", "skip": "skipped"}
NEEDED_KEYS = ("_id", "img_path", "object_class", "points")
EMPTY_TEXT = "There is nothing to review: the queue has no suggestions."


class Journal(Protocol):
    """What keeps the decisions (obdb_lib.review.Journal)."""

    def decide(
        self,
        suggestion: Record,
        verdict: str,
        *,
        object_class: str | None = None,
        points: Sequence[float] | None = None,
    ) -> Record: ...

    def undo(self) -> Record | None: ...

    def standing(self) -> Mapping[str, Record]: ...


class BoxReview(PlainWidget):
    """A queue of suggested boxes, a picture for each, and keys to decide.

    Keys, once the widget was clicked: a accept, r reject, s skip, u undo, n or right arrow next, p or left arrow
    previous, z zoom, ? help.

    Args:
        suggestions: documents with ``_id``, ``img_path``, ``object_class``, ``points`` (x1, y1, x2, y2 in pixels of the
            full frame) and, to be shown, ``score`` (0..1), ``task_name``, ``frame``; reviewed in the given order.
        annotations: the boxes a person has drawn on a frame, by ``img_path``.
        load_frame: the frame as (H, W, 3) uint8 RGB, by ``img_path``; called from a background thread.
        journal: writes and takes back decisions; what already stands in it is not asked again.

    Attributes:
        index: place in the queue, 0-based; can be set from Python. -1 when the queue is empty.

    Raises:
        ReviewError: a suggestion lacks a key, has no four finite numbers, or an id repeats.
        TypeError: an unknown argument.
    """

    _esm = STATIC / "box_review.js"
    _css = STATIC / "box_review.css"

    index = Int(-1).tag(sync=True)
    # What is on the screen; written by Python only.
    item = Dict().tag(sync=True)
    boxes = List(Dict()).tag(sync=True)
    frame_size = List(Int(), default_value=[0, 0]).tag(sync=True)
    picture = Bytes().tag(sync=True)
    crop = Bytes().tag(sync=True)
    crop_rect = List(Float(), default_value=[0.0, 0.0, 0.0, 0.0]).tag(sync=True)
    frame_error = Unicode().tag(sync=True)
    classes = List(Unicode()).tag(sync=True)
    progress = Dict().tag(sync=True)
    message = Dict().tag(sync=True)
    turn = Int(0).tag(sync=True)

    def __init__(
        self,
        suggestions: Sequence[Record],
        *,
        annotations: Callable[[str], BoxSet],
        load_frame: Callable[[str], Pixels],
        journal: Journal,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, ("suggestions", "annotations", "load_frame", "journal"))
        self._suggestions = _checked(suggestions)
        self._place = {str(one["_id"]): place for place, one in enumerate(self._suggestions)}
        self._annotations = annotations
        self._journal = journal
        self._frames = FrameQueue(load_frame)
        super().__init__()
        self.classes = sorted({str(one["object_class"]) for one in self._suggestions})
        self.on_msg(self._on_message)
        if not self._suggestions:
            self.message = {"kind": "info", "text": EMPTY_TEXT}
            self.progress = self.decided
            return
        standing = self._journal.standing()
        first = self._next_open(-1, standing)
        self.index = 0 if first is None else first

    @property
    def decided(self) -> dict[str, int]:
        """Counts: total, decided, accepted, rejected, skipped."""
        return self._counts(self._journal.standing() if self._suggestions else {})

    def decisions(self) -> list[Record]:
        """The standing decisions on this queue as plain records, in the order of the queue."""
        standing = self._journal.standing()
        return [dict(standing[name]) for name in self._place if name in standing]

    def decide(self, verdict: str, *, object_class: str | None = None) -> None:
        """Write a verdict ("accept", "reject" or "skip") on the box shown, then go to the next one without a decision.

        Raises:
            ReviewError: no such verdict, nothing to decide on, or the journal refused; the widget then stays in place.
        """
        if verdict not in VERDICTS:
            raise ReviewError(f"a verdict is one of {', '.join(VERDICTS)}; got {verdict!r}")
        if not self._suggestions:
            raise ReviewError(EMPTY_TEXT)
        suggestion = self._suggestions[self.index]
        changed = object_class if object_class and object_class != suggestion["object_class"] else None
        try:
            self._journal.decide(suggestion, verdict, object_class=changed)
        except Exception as error:
            raise ReviewError(f"Not saved: {sentence(error)}") from error
        standing = self._journal.standing()
        said = f"{DONE_WORDS[verdict].capitalize()} {changed or suggestion['object_class']}"
        following = self._next_open(self.index, standing)
        if following is None:
            self._refresh(standing)
            self._say(f"{said}. Every suggestion in this queue has a decision; u takes the last one back.")
        else:
            self._go(following, standing)
            self._say(f"{said}. u takes it back.")

    def undo(self) -> None:
        """Take back the latest standing decision and go to its box."""
        record = self._journal.undo()
        if record is None:
            self._say("There is no decision of yours to take back.")
            return
        standing = self._journal.standing()
        place = self._place.get(str(record["suggestion_id"]))
        if place is None:
            self._refresh(standing)
            self._say("Took back your latest decision; it was on a suggestion outside this queue.")
        else:
            self._go(place, standing)
            self._say("Took back the decision on this box.")

    @validate("index")
    def _in_queue(self, proposal: dict[str, Any]) -> int:
        index = int(proposal["value"])
        if not -1 < index < len(self._suggestions) and (index, len(self._suggestions)) != (-1, 0):
            raise TraitError(f"the queue has {len(self._suggestions)} suggestions; there is no number {index}")
        return index

    @observe("index")
    def _index_changed(self, change: dict[str, Any]) -> None:
        self._refresh(self._journal.standing())

    def _go(self, place: int, standing: Mapping[str, Record]) -> None:
        if place == self.index:
            self._refresh(standing)
        else:
            self.index = place

    def _next_open(self, place: int, standing: Mapping[str, Record]) -> int | None:
        """The next place without a decision, from ``place`` on and round; None when all have one."""
        count = len(self._suggestions)
        for step in range(1, count + 1):
            candidate = (place + step) % count
            if str(self._suggestions[candidate]["_id"]) not in standing:
                return candidate
        return None

    def _counts(self, standing: Mapping[str, Record]) -> dict[str, int]:
        verdicts = Counter(str(standing[name]["verdict"]) for name in self._place if name in standing)
        counts = {word: verdicts.get(verdict, 0) for verdict, word in DONE_WORDS.items()}
        return {"total": len(self._suggestions), "decided": sum(counts.values()), **counts}

    def _say(self, text: str, kind: str = "info") -> None:
        self.message = {"kind": kind, "text": text}

    def _on_message(self, _: object, content: Mapping[str, Any], __: object) -> None:
        """An act of the person; ``id`` names the box that was on the screen, so that none is decided unseen."""
        try:
            with self.hold_sync():
                self._act(content)
        except Exception as error:
            logger.error("an act in the box review failed", exc_info=error)
            self._say(sentence(error), "error")
        self.turn += 1

    def _act(self, content: Mapping[str, Any]) -> None:
        act = content.get("act")
        if not self._suggestions:
            return
        if act in VERDICTS:
            if self.frame_error and act != "skip":
                self._say("Nobody can judge a box without its frame: skip it, or go on with n.", "error")
            elif content.get("id") == str(self._suggestions[self.index]["_id"]):
                self.decide(str(act), object_class=content.get("object_class"))
        elif act == "undo":
            self.undo()
        elif act in ("next", "previous"):
            self.message = {}
            step = 1 if act == "next" else -1
            self.index = min(max(self.index + step, 0), len(self._suggestions) - 1)
        else:
            raise ReviewError(f"the page asked for {act!r}, which this widget does not know; reload the page")

    def _refresh(self, standing: Mapping[str, Record]) -> None:
        suggestion = self._suggestions[self.index]
        name, path = str(suggestion["_id"]), str(suggestion["img_path"])
        verdict = standing[name]["verdict"] if name in standing else ""
        with self.hold_sync():
            self.progress = self._counts(standing)
            self.item = {
                "id": name,
                "number": self.index + 1,
                "object_class": str(suggestion["object_class"]),
                "decided_class": str(standing[name].get("object_class") or "") if verdict else "",
                "score": _number(suggestion.get("score")),
                "task": str(suggestion.get("task_name", "")),
                "frame": _number(suggestion.get("frame")),
                "path": path,
                "points": [float(value) for value in suggestion["points"]],
                "verdict": DONE_WORDS.get(str(verdict), str(verdict)),
            }
            self._show_frame(suggestion, path)
            self.boxes = [*self._known_boxes(path), *self._other_boxes(path, name, standing)]
        following = self._next_open(self.index, standing)
        if following is not None:
            self._frames.prefetch(str(self._suggestions[following]["img_path"]))

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
        self.picture = frame.picture
        self.crop_rect = list(rect)
        self.crop = jpeg(shrink(cut(frame.pixels, rect), CROP_PX, CROP_PX))

    def _known_boxes(self, path: str) -> list[Record]:
        try:
            known = self._annotations(path)
        except Exception as error:
            self._say(f"The existing annotations of this frame cannot be shown: {sentence(error)}", "error")
            return []
        return [
            {"kind": "annotation", "points": [float(value) for value in box], "label": str(label)}
            for box, label in zip(known.xyxy, known.classes, strict=True)
        ]

    def _other_boxes(self, path: str, name: str, standing: Mapping[str, Record]) -> list[Record]:
        others = []
        for one in self._suggestions:
            other = str(one["_id"])
            if one["img_path"] != path or other == name:
                continue
            verdict = str(standing[other]["verdict"]) if other in standing else ""
            points = [float(value) for value in one["points"]]
            others.append({"kind": "other", "points": points, "label": DONE_WORDS.get(verdict, "")})
        return others


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


def _checked(suggestions: Sequence[Record]) -> list[Record]:
    seen: set[str] = set()
    for place, one in enumerate(suggestions):
        missing = [key for key in NEEDED_KEYS if key not in one]
        if missing:
            raise ReviewError(f"suggestion {place} lacks {', '.join(missing)}; it has: {', '.join(map(str, one))}")
        points = np.asarray(one["points"], dtype=np.float64)
        if points.shape != (4,) or not np.isfinite(points).all() or points[0] > points[2] or points[1] > points[3]:
            raise ReviewError(f"suggestion {one['_id']} needs points x1, y1, x2, y2 in order; got {one['points']!r}")
        if str(one["_id"]) in seen:
            raise ReviewError(f"suggestion {one['_id']} is in the queue twice; drop one of them")
        seen.add(str(one["_id"]))
    return list(suggestions)
