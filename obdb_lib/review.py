"""Decisions on suggestions: an append-only journal, whoever writes it (a widget, a rule, a recorded file)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from bson import ObjectId

from obdb_lib import paths
from obdb_lib.decision_log import SKIP, UNDO, DecisionLog, DecisionStore, fold, stands
from obdb_lib.errors import DecidedMeanwhileError, ReviewError, TakenError
from obdb_lib.records import Document

__all__ = ["SAID", "UNDO", "VERDICTS", "Journal", "checked_points", "decide_by_rule", "fold", "is_open", "who_decided"]

VERDICTS = ("accept", "reject", SKIP)
SAID = {"accept": "accepted", "reject": "rejected", SKIP: "skipped"}

TRIES = 20
"""How often an entry is written anew when somebody else wrote on the same suggestion in the same moment."""

UNSEEN: Any = object()
"""Default of ``seen``: nobody looked, so nothing can have changed since."""


class Journal:
    """Decisions of one person on some suggestions, which others may be deciding on, too.

    Every call writes at once; nothing is ever changed or removed. A verdict of anybody stands for all until it is taken
    back or decided anew; a skip stands for the one who skipped. Each entry on a suggestion names the one before it as
    its place, and MongoDB gives a place away once: of two people in the same moment, the second is told.
    """

    def __init__(
        self, store: DecisionStore, *, who: str | None = None, queue: Sequence[Document] | None = None
    ) -> None:
        """``queue``: the suggestions at hand; ``standing``, ``undo`` and ``redo`` then look at these alone."""
        self._store = store
        self._log = DecisionLog(store, None if queue is None else [str(document["_id"]) for document in queue])
        self.who = who or paths.user_name()

    def decide(
        self,
        suggestion: Document,
        verdict: str,
        *,
        object_class: str | None = None,
        points: Sequence[float] | None = None,
        rule: str | None = None,
        seen: str | None = UNSEEN,
        frame_size: tuple[int, int] | None = None,
        recorded: str = "",
        together: str = "",
    ) -> Document:
        """Write a verdict; returns the entry once it is on disk.

        Args:
            object_class, points: what the person made of the suggestion; the suggestion's own when None.
            rule: text of the rule that decided, None for a person.
            seen: ``_id`` of the standing entry that the person was shown ("" or None for none); when somebody else's
                verdict stands there by now, nothing is written. Not given: written whatever stands.
            frame_size: width and height in pixels that changed ``points`` must keep to.
            recorded: file that a person's earlier decision was taken from, noted in the entry.
            together: name of an act that decides on several suggestions (a whole page), noted in each of its entries.

        Raises:
            DecidedMeanwhileError: see ``seen``; deciding again with the new entry as ``seen`` is possible.
            ReviewError: the verdict is none of VERDICTS, or the points are no box inside the frame.
            StoreError: the entry could not be saved.
        """
        if verdict not in VERDICTS:
            raise ReviewError(f"unknown verdict {verdict!r}; there are {', '.join(VERDICTS)}")
        box = suggestion["points"] if points is None else checked_points(points, frame_size)
        entry = {
            "suggestion_id": str(suggestion["_id"]),
            "verdict": verdict,
            "who": self.who,
            "model": suggestion.get("run_id"),
            "snapshot_id": suggestion.get("snapshot_id"),
            "kind": suggestion.get("kind") or "missing",
            "annotation_id": str(suggestion.get("annotation_id") or ""),
            "object_class": object_class or suggestion.get("object_class"),
            "points": [float(value) for value in box],
            "rule": rule,
            **({"recorded": recorded} if recorded else {}),
            **({"together": together} if together else {}),
        }
        return self._write(entry, seen)

    def undo(self, *, of: str = "") -> Document | None:
        """Take back this person's latest decision that stands; None when there is none.

        Args:
            of: only if it belongs to this act (``together`` of ``decide``).
        """
        self._log.read()
        standing = self._log.standing(self.who)
        for entry in reversed(self._log.history(self.who)[0]):
            stands_now = standing.get(entry["suggestion_id"])
            if stands_now is not None and stands_now["_id"] == entry["_id"]:
                if of and entry.get("together") != of:
                    return None
                return self._write({**_kept(entry), "verdict": UNDO, "who": self.who, "undoes": entry["_id"]})
        return None

    def redo(self, *, of: str = "") -> Document | None:
        """Decide again what this person took back last; None when there is nothing, or a verdict was given since.

        Args:
            of: only if it belongs to this act (``together`` of ``decide``).

        Raises:
            DecidedMeanwhileError: somebody else's verdict stands on that suggestion by now.
        """
        self._log.read()
        undone = self._log.history(self.who)[1]
        if not undone or (of and undone[-1].get("together") != of):
            return None
        entry = undone[-1]
        again = {**_kept(entry), "verdict": entry["verdict"], "who": self.who, "rule": None, "redoes": entry["_id"]}
        return self._write(again, None)

    def standing(self) -> dict[str, Document]:
        """The decision that stands for each suggestion that has one, in this person's eyes: suggestion_id -> entry."""
        self._log.read()
        return self._log.standing(self.who)

    def _write(self, entry: Document, seen: str | None = UNSEEN) -> Document:
        name = entry["suggestion_id"]
        for _ in range(TRIES):
            before = self._log.read_one(name)
            if seen is not UNSEEN:
                _refuse_unseen(stands(before, self.who), seen, self.who)
            place = hashlib.sha256(f"{name}#{before[-1]['_id'] if before else ''}".encode()).hexdigest()
            numbered = {"_id": ObjectId(place[:24]), **entry, "seq": self._log.highest + 1}
            try:
                written = self._store.append_decision(numbered)
            except TakenError:
                continue
            self._log.take([written])
            return written
        raise ReviewError(f"suggestion {name} is being decided by others all the time; look at it again later")


def is_open(decision: Document | None) -> bool:
    """Whether a suggestion waits for a person: nothing stands on it, or only the skip of a rule.

    Args:
        decision: the standing entry (``Journal.standing().get(suggestion_id)``).
    """
    return decision is None or (decision["verdict"] == SKIP and bool(decision.get("rule")))


def checked_points(points: Sequence[float], frame_size: tuple[int, int] | None = None) -> list[float]:
    """A person's box: x1, y1, x2, y2 in pixels of the frame, finite, with an area, inside the frame when known.

    Raises:
        ReviewError: it is not.
    """
    box = [float(value) for value in points]
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise ReviewError(f"a box is four finite numbers x1, y1, x2, y2; got {box}. Draw it again.")
    x1, y1, x2, y2 = box
    if x1 >= x2 or y1 >= y2:
        raise ReviewError(f"a box needs x1 < x2 and y1 < y2; got {box}. Draw it again.")
    if frame_size is not None and (x1 < 0 or y1 < 0 or x2 > frame_size[0] or y2 > frame_size[1]):
        raise ReviewError(f"the box {box} is not inside its frame of {frame_size[0]} x {frame_size[1]}. Draw it again.")
    return box


def who_decided(entry: Document) -> str:
    """Who decided what and when, for a person: "ann rejected this as sesame on 3 May at 13:05"."""
    when = entry.get("when")
    moment = f" on {when.astimezone():%d %b %Y at %H:%M}" if when is not None else ""
    named = f" as {entry['object_class']}" if entry["verdict"] == "accept" and entry.get("object_class") else ""
    return f"{entry.get('who')} {SAID.get(entry['verdict'], entry['verdict'])} this{named}{moment}"


def _refuse_unseen(standing: Document | None, seen: str | None, who: str) -> None:
    if standing is None or standing["verdict"] == SKIP or standing.get("who") == who:
        return
    if str(standing["_id"]) != str(seen or ""):
        raise DecidedMeanwhileError(
            f"{who_decided(standing)} while you were looking; nothing was written. Decide again if you disagree.",
            standing,
        )


def _kept(entry: Document) -> Document:
    keys = ("suggestion_id", "model", "snapshot_id", "kind", "annotation_id", "object_class", "points")
    together = {"together": entry["together"]} if entry.get("together") else {}
    return {key: entry.get(key) for key in keys} | together


def decide_by_rule(journal: Journal, suggestions: Sequence[Document], *, accept_score: float) -> dict[str, int]:
    """Accept suggestions scoring ``accept_score`` or more, skip the others; what was already decided stays, but for
    what a rule skipped.

    Returns:
        Numbers of suggestions by verdict, decisions made before included.
    """
    rule = f"accept at score >= {accept_score:g}, else skip"
    standing = journal.standing()
    counts = dict.fromkeys(VERDICTS, 0)
    for suggestion in suggestions:
        decision = standing.get(suggestion["_id"])
        accepted = is_open(decision) and suggestion["score"] >= accept_score
        if decision is None or accepted:
            decision = journal.decide(suggestion, "accept" if accepted else SKIP, rule=rule)
        counts[decision["verdict"]] += 1
    return counts
