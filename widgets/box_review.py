"""Looking at suggested boxes and deciding with keys or mouse; each decision is on disk before it is shown as made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from traitlets import TraitError, observe, validate

from obdb_lib.boxes import BoxSet
from obdb_lib.errors import ReviewError
from widgets._base import refuse_unknown
from widgets._pictures import FrameQueue, Pixels
from widgets._review_acts import NOTHING_SHOWN, Journal, ReviewActs
from widgets._review_queue import Record, ReviewQueue
from widgets._review_screen import MOST_TILES, PAGE_SIZE
from widgets._review_tiles import TileMaker

EMPTY_TEXT = "There is nothing to review: the queue has no suggestions."
ARGUMENTS = (
    *("suggestions", "annotations", "load_frame", "journal", "detections"),
    *("classes", "view", "order", "page_size"),
)


class BoxReview(ReviewActs):
    """A queue of suggested boxes: many as crops on a page, or one on its frame, and keys to decide.

    Once the widget was clicked, keys do everything; ``?`` lists them. ``g`` changes between the page of crops and the
    frame.

    Args:
        suggestions: documents with ``_id``, ``img_path``, ``object_class``, ``points`` (x1, y1, x2, y2 in pixels of the
            full frame) and, to be shown, ``kind``, ``probability`` (0..1), ``score`` (0..1), ``annotation_class``,
            ``annotation_points``, ``evidence``, ``task_name``, ``frame``.
        annotations: the boxes a person has drawn on a frame, by ``img_path``.
        load_frame: the frame as (H, W, 3) uint8 RGB, by ``img_path``; called from background threads.
        journal: writes and takes back decisions; what already stands in it is not asked again.
        detections: what else the model sees on a frame, by ``img_path``.
        classes: names to choose from when relabelling; those of the suggestions are always among them.
        view: "grid" for pages of crops, "frame" for one suggestion on its frame.
        order: "likely" (highest probability first, score where there is none), "uncertain" (nearest one half first:
            there an answer settles most) or "given".
        page_size: crops on a page.

    Attributes:
        index: place in ``suggestions``, 0-based; can be set from Python. -1 when the queue is empty.
        view, order, only_kind, only_class: as in the arguments; the last two show one kind or class, "" for all.

    Raises:
        ReviewError: a suggestion lacks a key, has no four finite numbers, or an id repeats; a page size out of range.
        TypeError: an unknown argument.
        TraitError: an unknown view or order.
    """

    def __init__(
        self,
        suggestions: Sequence[Record],
        *,
        annotations: Callable[[str], BoxSet],
        load_frame: Callable[[str], Pixels],
        journal: Journal,
        detections: Callable[[str], BoxSet] | None = None,
        classes: Sequence[str] = (),
        view: str = "frame",
        order: str = "likely",
        page_size: int = PAGE_SIZE,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, ARGUMENTS)
        if not 1 <= page_size <= MOST_TILES:
            raise ReviewError(f"page_size must be 1 to {MOST_TILES} crops; got {page_size}")
        self._queue = ReviewQueue(suggestions)
        self._annotations, self._detections = annotations, detections
        self._journal = journal
        self._who = getattr(journal, "who", None)
        self._frames = FrameQueue(load_frame)
        self._tiles = TileMaker(self._queue, load_frame, self._send_tiles)
        self._sizes: dict[str, tuple[int, int]] = {}
        self._filling = True
        super().__init__()
        self.page_size = page_size
        self.classes = sorted({*self._queue.classes, *classes})
        self._describe_menus()
        self.on_msg(self._on_message)
        self.view, self.order = view, order
        self._filling = False
        if not self._queue.items:
            self.message = {"kind": "info", "text": EMPTY_TEXT}
            self.progress = self.decided
            return
        self._queue.arrange(order)
        standing = self._journal.standing()
        first = self._queue.next_open(-1, standing)
        self._go(self._queue.shown[0] if first is None else first, standing)
        if view == "grid":  # the page will ask for these as soon as it is there
            self._tiles.want([], [str(one["id"]) for one in self.tiles])

    @property
    def decided(self) -> dict[str, int]:
        """Counts: total, decided, accepted, rejected, skipped; what a rule skipped waits for a person."""
        return self._queue.counts(self._journal.standing() if self._queue.items else {})

    def decisions(self) -> list[Record]:
        """The standing decisions on this queue as plain records, in the order of the queue."""
        standing = self._journal.standing()
        return [dict(standing[name]) for name in self._queue.place if name in standing]

    def decide(self, verdict: str, *, object_class: str | None = None, points: Sequence[float] | None = None) -> None:
        """Write a verdict ("accept", "reject" or "skip") on the box shown, then go to the next one without a decision.

        Args:
            object_class, points: what the person made of it; as proposed when None.

        Raises:
            ReviewError: no such verdict, nothing to decide on, or the journal refused; the widget then stays in place.
        """
        if not self._queue.items:
            raise ReviewError(EMPTY_TEXT)
        if not self.item:
            raise ReviewError(NOTHING_SHOWN)
        change = {"object_class": object_class, "points": points, "seen": self.item.get("entry")}
        self._decide(self.index, verdict, change)

    @validate("index")
    def _in_queue(self, proposal: dict[str, Any]) -> int:
        index, count = int(proposal["value"]), len(self._queue)
        if not -1 < index < count and (index, count) != (-1, 0):
            raise TraitError(f"the queue has {count} suggestions; there is no number {index}")
        return index

    @observe("index", "view", "order", "only_kind", "only_class")
    def _asked_for(self, change: dict[str, Any]) -> None:
        """Somebody set a trait, from Python or by a menu of the page."""
        if self._filling or not self._queue.items or self.index < 0:
            return
        standing = self._journal.standing()
        if change["name"] in ("index", "view"):
            self._go(self.index, standing)
            return
        self._queue.arrange(self.order, self.only_kind, self.only_class)
        self.message = {}
        if self._queue.shown:
            first = self._queue.next_open(-1, standing)
            self._go(self._queue.shown[0] if first is None else first, standing)
        else:
            self._refresh(standing)
            self._say(NOTHING_SHOWN)
