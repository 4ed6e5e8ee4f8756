"""Looking at suggested boxes and deciding with keys or mouse; each decision is on disk before it is shown as made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from traitlets import TraitError, observe, validate

from obdb_lib.boxes import BoxSet
from obdb_lib.errors import DecidedMeanwhileError, ReviewError
from obdb_lib.review import SAID, VERDICTS
from widgets._base import refuse_unknown, sentence
from widgets._pictures import FrameQueue, Pixels
from widgets._review_queue import Record, ReviewQueue
from widgets._review_screen import MOST_TILES, PAGE_SIZE, ReviewScreen
from widgets._review_tiles import TileMaker

logger = logging.getLogger(__name__)

EMPTY_TEXT = "There is nothing to review: the queue has no suggestions."
ARGUMENTS = (
    *("suggestions", "annotations", "load_frame", "journal", "detections"),
    *("classes", "view", "order", "page_size"),
)


class Journal(Protocol):
    """What keeps the decisions (obdb_lib.review.Journal)."""

    def decide(
        self,
        suggestion: Record,
        verdict: str,
        *,
        object_class: str | None = None,
        points: Sequence[float] | None = None,
        seen: str | None = None,
        frame_size: tuple[int, int] | None = None,
    ) -> Record: ...

    def undo(self) -> Record | None: ...

    def redo(self) -> Record | None: ...

    def standing(self) -> Mapping[str, Record]: ...


class BoxReview(ReviewScreen):
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
        """Counts: total, decided, accepted, rejected, skipped."""
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
        change = {"object_class": object_class, "points": points, "seen": self.item.get("entry")}
        self._decide(self.index, verdict, change)

    def undo(self) -> None:
        """Take back the latest standing decision and go to its box."""
        record = self._journal.undo()
        if record is None:
            self._say("There is no decision of yours to take back.")
        else:
            self._go_to(record, "Took back")

    def redo(self) -> None:
        """Decide again what was taken back last and go to its box."""
        record = self._journal.redo()
        if record is None:
            self._say("There is nothing of yours to repeat.")
        else:
            self._go_to(record, "Repeated")

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
            self._say("No suggestion is of this kind and class; choose others above.")

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

    def _go_to(self, record: Record, what: str) -> None:
        standing = self._journal.standing()
        place = self._queue.place.get(str(record["suggestion_id"]))
        if place is None:
            self._refresh(standing)
            self._say(f"{what} your latest decision; it was on a suggestion outside this queue.")
        else:
            self._go(place, standing)
            self._say(f"{what} the decision on this box.")

    def _decide(self, place: int, verdict: str, change: Mapping[str, Any]) -> None:
        """Write a verdict and go on; ``change`` has ``object_class``, ``points``, ``seen`` where there are any."""
        label = self._write(place, verdict, change)
        standing = self._journal.standing()
        said = f"{SAID[verdict].capitalize()} {label}"
        following = self._queue.next_open(place, standing)
        if following is None:
            self._go(place, standing)
            which = "that is shown" if self.only_kind or self.only_class else "in this queue"
            self._say(f"{said}. Every suggestion {which} has a decision; u takes the last one back.")
        else:
            self._go(following, standing)
            self._say(f"{said}. u takes it back.")

    def _write(self, place: int, verdict: str, change: Mapping[str, Any]) -> str:
        """Write a verdict; returns the class it was given."""
        if verdict not in VERDICTS:
            raise ReviewError(f"a verdict is one of {', '.join(VERDICTS)}; got {verdict!r}")
        suggestion = self._queue.items[place]
        own, chosen = str(suggestion["object_class"]), change.get("object_class")
        accepted = verdict == "accept"
        try:
            self._journal.decide(
                suggestion,
                verdict,
                object_class=str(chosen) if accepted and chosen and chosen != own else None,
                points=(change.get("points") or None) if accepted else None,
                seen=str(change.get("seen") or ""),
                frame_size=self._sizes.get(str(suggestion["img_path"])),
            )
        except DecidedMeanwhileError:
            self._refresh(self._journal.standing())
            raise
        except Exception as error:
            raise ReviewError(f"Not saved: {sentence(error)}") from error
        return str(chosen) if accepted and chosen else own

    def _accept_page(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Accept what was confirmed on a page, one entry for each; what others decided meanwhile stays."""
        done, left, place = 0, 0, self.index
        for change in items:
            name = str(change["id"])
            place = self._queue.place[name]
            if self._tiles.failed(name):
                left += 1
                continue
            try:
                self._write(place, "accept", change)
                done += 1
            except DecidedMeanwhileError:
                left += 1
        standing = self._journal.standing()
        following = self._queue.next_open(place, standing)
        self._go(place if following is None else following, standing)
        rest = f" {left} were decided by others meanwhile or have no picture; they are as they were." if left else ""
        self._say(f"Accepted {done} on this page.{rest} u takes back the last one.")

    def _on_message(self, _: object, content: Mapping[str, Any], __: object) -> None:
        """An act of the person; ``id`` names the box that was on the screen, so that none is decided unseen."""
        act = content.get("act")
        try:
            if act == "region":
                self._send_region(content)
                return
            if act == "tiles":
                self._tiles.want([str(name) for name in content["ids"]], [str(name) for name in content["soon"]])
                return
        except Exception as error:
            logger.error("a picture for the box review failed", exc_info=error)
            self._say(f"A picture could not be made: {sentence(error)}", "error")
            return
        with self.hold_sync():
            try:
                self._act(str(act), content)
            except DecidedMeanwhileError as error:
                self._say(sentence(error), "warning")
            except Exception as error:
                logger.error("an act in the box review failed", exc_info=error)
                self._say(sentence(error), "error")
            self.turn += 1
            self.answered = max(self.answered, int(content.get("tag") or 0))

    def _act(self, act: str, content: Mapping[str, Any]) -> None:
        if not self._queue.items:
            return
        name = str(content.get("id"))
        if act in VERDICTS:
            self._verdict(act, name, content)
        elif act == "accept_page":
            self._accept_page(content["items"])
        elif act in ("undo", "redo"):
            (self.undo if act == "undo" else self.redo)()
        elif act in ("next", "previous"):
            self.message = {}
            self._go(self._queue.step(self.index, 1 if act == "next" else -1), self._journal.standing())
        elif act == "page" and self._queue.shown:
            self.message = {}
            first = min(max(int(content["page"]), 0) * self.page_size, len(self._queue.shown) - 1)
            self._go(self._queue.shown[first], self._journal.standing())
        elif act in ("frame", "grid"):
            self.message = {}
            self.view = act
            self._go(self._queue.place.get(name, self.index), self._journal.standing())
        elif act != "page":
            raise ReviewError(f"the page asked for {act!r}, which this widget does not know; reload the page")

    def _verdict(self, verdict: str, name: str, content: Mapping[str, Any]) -> None:
        shown = name == str(self._queue.items[self.index]["_id"])
        unseen = bool(self.frame_error) if self.view == "frame" else self._tiles.failed(name)
        if unseen and verdict != "skip":
            self._say("Nobody can judge a box without its frame: skip it, or go on with n.", "error")
        elif self.view == "grid" and name in self._queue.place:
            self._decide(self._queue.place[name], verdict, content)
        elif shown:
            self._decide(self.index, verdict, content)
