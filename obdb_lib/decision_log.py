"""Reading the journal of decisions: which one stands for each suggestion, and what a person can take back or repeat.

The journal only grows, so what was read once is kept and only newer entries are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from obdb_lib.records import Document

SKIP, UNDO = "skip", "undo"

LATE_S = 5.0
"""Entries this much older than the newest one known are read again: the server's clock may be set back a little, and
of two entries written at once the younger may be seen first."""


class DecisionStore(Protocol):
    """Where the journal is kept (``store.Store``)."""

    def append_decision(self, document: Document) -> Document: ...

    def decisions(
        self, suggestion_ids: Sequence[str] | None = None, *, since: datetime | None = None
    ) -> list[Document]: ...


class DecisionLog:
    """The entries of a journal on some suggestions, as far as they were read.

    Args:
        suggestion_ids: what to look at; the whole journal when None.
    """

    def __init__(self, store: DecisionStore, suggestion_ids: Sequence[str] | None = None) -> None:
        self._store = store
        self._ids = None if suggestion_ids is None else list(suggestion_ids)
        self._wanted = None if suggestion_ids is None else set(suggestion_ids)
        self._entries: dict[str, dict[Any, Document]] = {}
        self._newest: datetime | None = None
        self._standing: dict[str, Document] = {}
        self._stale: set[str] = set()
        self._folded_for: str | None = None
        self.highest = 0
        """Largest ``seq`` seen: the next entry takes one more, so that entries of one moment keep their order."""

    def read(self) -> None:
        """Take in what was written since the last reading."""
        if self._newest is None:
            self.take(self._store.decisions(self._ids))
        else:
            self.take(self._store.decisions(since=self._newest - timedelta(seconds=LATE_S)))

    def read_one(self, suggestion_id: str) -> list[Document]:
        """All entries on one suggestion as they are now, in the order they were written."""
        found = self._store.decisions([suggestion_id])
        self.take(found)
        self.highest = max([self.highest, *(int(entry.get("seq") or 0) for entry in found)])
        return sorted(found, key=written)

    def take(self, entries: Iterable[Document]) -> None:
        """Add entries; those known or of other suggestions change nothing."""
        for entry in entries:
            name = str(entry["suggestion_id"])
            if self._wanted is not None and name not in self._wanted:
                continue
            known = self._entries.setdefault(name, {})
            if entry["_id"] in known:
                continue
            known[entry["_id"]] = entry
            self._stale.add(name)
            self.highest = max(self.highest, int(entry.get("seq") or 0))
            when = entry.get("when")
            if when is not None and (self._newest is None or when > self._newest):
                self._newest = when

    def of(self, suggestion_id: str) -> list[Document]:
        """The entries known of one suggestion, in the order they were written."""
        return sorted(self._entries.get(suggestion_id, {}).values(), key=written)

    def standing(self, who: str) -> dict[str, Document]:
        """What stands in the eyes of ``who`` (see ``stands``): suggestion_id -> entry."""
        if who != self._folded_for:
            self._folded_for, self._stale = who, set(self._entries)
        for name in self._stale:
            entry = stands(self.of(name), who)
            if entry is None:
                self._standing.pop(name, None)
            else:
                self._standing[name] = entry
        self._stale.clear()
        return dict(self._standing)

    def history(self, who: str) -> tuple[list[Document], list[Document]]:
        """The verdicts of one person that can be taken back and those that can be repeated, the latest of each last.

        A new verdict leaves nothing to repeat. What a rule decided in this person's name is none of theirs: nobody
        takes back a batch entry by entry.
        """
        every = (entry for known in self._entries.values() for entry in known.values())
        own = [entry for entry in every if entry.get("who") == who and not entry.get("rule")]
        done: list[Document] = []
        undone: list[Document] = []
        for entry in sorted(own, key=written):
            if entry["verdict"] != UNDO:
                if entry.get("redoes") is None:
                    undone.clear()
                else:
                    undone = [other for other in undone if other["_id"] != entry["redoes"]]
                done.append(entry)
                continue
            place = _named(done, entry)
            if place is not None:
                undone.append(done.pop(place))
        return done, undone


def written(entry: Document) -> tuple[int, Any, str]:
    """Sorts entries into the order in which they were written.

    ``seq`` goes before the time: it is one more than all that the writer had read, while the clock of a server under
    load was seen to go back by some milliseconds. Entries of before there was a ``seq`` come first.
    """
    return int(entry.get("seq") or 0), entry.get("when"), str(entry["_id"])


def stands(entries: Iterable[Document], who: str | None = None) -> Document | None:
    """Which of the entries on one suggestion stands, given in the order they were written.

    An undo takes back the entry it names, else the latest one standing; what stood before stands again. A skip is one
    person's own: it covers what this person said before, and stands only where no verdict of anybody does.

    Args:
        who: whose skips count; anybody's when None.
    """
    stack: list[Document] = []
    for entry in entries:
        if entry["verdict"] != UNDO:
            stack.append(entry)
            continue
        place = _named(stack, entry)
        if stack and entry.get("undoes") is None:
            stack.pop()
        elif place is not None:
            stack.pop(place)
    skip: Document | None = None
    stepped_back: set[Any] = set()
    for entry in reversed(stack):
        if entry["verdict"] == SKIP:
            stepped_back.add(entry.get("who"))
            if skip is None and who in (None, entry.get("who")):
                skip = entry
        elif entry.get("who") not in stepped_back:
            return entry
    return skip


def fold(entries: Iterable[Document], who: str | None = None) -> dict[str, Document]:
    """The decision that stands for each suggestion (see ``stands``), from entries in the order they were written."""
    grouped: dict[str, list[Document]] = {}
    for entry in entries:
        grouped.setdefault(entry["suggestion_id"], []).append(entry)
    # On one suggestion each entry has a larger ``seq`` than the one before, whatever the clock said (see ``written``).
    found = {
        name: stands(sorted(some, key=lambda one: int(one.get("seq") or 0)), who) for name, some in grouped.items()
    }
    return {name: entry for name, entry in found.items() if entry is not None}


def _named(stack: Sequence[Document], undo: Document) -> int | None:
    places = [place for place, entry in enumerate(stack) if entry["_id"] == undo.get("undoes")]
    return places[-1] if places else None
