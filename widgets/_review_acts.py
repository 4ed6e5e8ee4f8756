"""What a person does in the box review: verdicts, undo, redo, pages; each is in the journal before it is shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

from obdb_lib.errors import DecidedMeanwhileError, ReviewError
from obdb_lib.review import SAID, VERDICTS
from widgets._base import sentence
from widgets._review_queue import SPURIOUS, Record, kind_of
from widgets._review_screen import ReviewScreen

logger = logging.getLogger(__name__)

NOTHING_SHOWN = "No suggestion is of this kind and class; choose others above."


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
        together: str = "",
    ) -> Record: ...

    def undo(self, *, of: str = "") -> Record | None: ...

    def redo(self, *, of: str = "") -> Record | None: ...

    def standing(self) -> Mapping[str, Record]: ...


class ReviewActs(ReviewScreen):
    """Acts on what is on the screen, from Python and from the page."""

    _journal: Journal

    def undo(self) -> None:
        """Take back the latest standing decision, or all of the latest page accepted at once, and go to its box."""
        self._back_or_again(self._journal.undo, "Took back", "There is no decision of yours to take back.")

    def redo(self) -> None:
        """Decide again what was taken back last and go to its box."""
        self._back_or_again(self._journal.redo, "Repeated", "There is nothing of yours to repeat.")

    def _back_or_again(self, step: Callable[..., Record | None], what: str, nothing: str) -> None:
        record = step()
        if record is None:
            self._say(nothing)
            return
        count = 1
        while record.get("together") and (another := step(of=record["together"])) is not None:
            record, count = another, count + 1
        self._go_to(record, what)
        if count > 1:
            self._say(f"{what} {count} decisions of one page.")

    def _go_to(self, record: Record, what: str) -> None:
        standing = self._journal.standing()
        place = self._queue.place.get(str(record["suggestion_id"]))
        if place is None:
            self._refresh(standing)
            self._say(f"{what} your latest decision; it was on a suggestion outside this queue.")
        elif place not in self._queue.position:
            self._refresh(standing)
            self._say(f"{what} your latest decision; it was on a suggestion that the menus above hide.")
        else:
            self._go(place, standing)
            self._say(f"{what} the decision on this box.")

    def _decide(self, place: int, verdict: str, change: Mapping[str, Any]) -> None:
        """Write a verdict and go on; ``change`` has ``object_class``, ``points``, ``seen`` where there are any."""
        written = self._write(place, verdict, change)
        standing = self._journal.standing()
        own = self._queue.items[place]["object_class"]
        said = f"{SAID[verdict].capitalize()} {written['object_class'] if verdict == 'accept' else own}"
        following = self._queue.next_open(place, standing)
        if following is None:
            self._go(place, standing)
            which = "that is shown" if self.only_kind or self.only_class else "in this queue"
            self._say(f"{said}. Every suggestion {which} has a decision; u takes the last one back.")
        else:
            self._go(following, standing)
            self._say(f"{said}. u takes it back.")

    def _write(self, place: int, verdict: str, change: Mapping[str, Any], together: str = "") -> Record:
        """Write a verdict; returns the entry."""
        if verdict not in VERDICTS:
            raise ReviewError(f"a verdict is one of {', '.join(VERDICTS)}; got {verdict!r}")
        suggestion = self._queue.items[place]
        own, chosen = str(suggestion["object_class"]), change.get("object_class")
        accepted = verdict == "accept"
        if accepted and kind_of(suggestion) == SPURIOUS and (chosen not in (None, "", own) or change.get("points")):
            raise ReviewError("Accept removes this annotation; it cannot get another class or box. Reject keeps it.")
        try:
            return self._journal.decide(
                suggestion,
                verdict,
                object_class=str(chosen) if accepted and chosen and chosen != own else None,
                points=(change.get("points") or None) if accepted else None,
                seen=str(change.get("seen") or ""),
                frame_size=self._sizes.get(str(suggestion["img_path"])),
                together=together,
            )
        except DecidedMeanwhileError:
            self._refresh(self._journal.standing())
            raise
        except Exception as error:
            raise ReviewError(f"Not saved: {sentence(error)}") from error

    def _accept_page(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Accept what was confirmed on a page, one entry for each; what was decided meanwhile stays."""
        standing = self._journal.standing()
        written: dict[str, Record] = {}
        left, place, failure, page = 0, self.index, "", uuid4().hex
        for change in items:
            name = str(change["id"])
            place = self._queue.place[name]
            # Not what this person decided, either, while the page was still on its way.
            decided = str(standing.get(name, {}).get("_id") or "") != str(change.get("seen") or "")
            if decided or self._tiles.failed(name):
                left += 1
                continue
            try:
                written[name] = self._write(place, "accept", change, page)
            except DecidedMeanwhileError:
                left += 1
            except ReviewError as error:
                failure = sentence(error)
                break
        if failure:
            self._page_half_saved(place, {**standing, **written}, f"Saved {len(written)} of {len(items)}. {failure}")
            return
        standing = self._journal.standing()
        following = self._queue.next_open(place, standing)
        self._go(place if following is None else following, standing)
        rest = f" {left} were decided meanwhile or have no picture; they are as they were." if left else ""
        self._say(f"Accepted {len(written)} on this page.{rest} u takes them back.")

    def _page_half_saved(self, place: int, known: Mapping[str, Record], text: str) -> None:
        """Show what is in the journal, as far as that can still be read, and the place of the failure."""
        try:
            known = self._journal.standing()
        except Exception as error:
            logger.error("the journal cannot be read after a failed entry", exc_info=error)
        self._go(place, known)
        self._say(text, "error")

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
        if not self.item:
            self._say(NOTHING_SHOWN, "error")
            return
        shown = name == str(self._queue.items[self.index]["_id"])
        unseen = bool(self.frame_error) if self.view == "frame" else self._tiles.failed(name)
        if unseen and verdict != "skip":
            self._say("Nobody can judge a box without its frame: skip it, or go on with n.", "error")
        elif self.view == "grid" and name in self._queue.place:
            self._decide(self._queue.place[name], verdict, content)
        elif shown:
            self._decide(self.index, verdict, content)
