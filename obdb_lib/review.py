"""Decisions on suggestions: an append-only journal, whoever writes it (a widget, a rule, a recorded file)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from obdb_lib import paths
from obdb_lib.errors import ReviewError
from obdb_lib.records import Document

VERDICTS = ("accept", "reject", "skip")
UNDO = "undo"


class DecisionStore(Protocol):
    """Where the journal is kept (``store.Store``)."""

    def append_decision(self, document: Document) -> Document: ...

    def decisions(self, suggestion_ids: Sequence[str] | None = None) -> list[Document]: ...


class Journal:
    """Decisions of one person on some suggestions.

    Every call writes at once; nothing is ever changed or removed. The decision that stands for a suggestion is the
    latest one that no ``undo`` took back.
    """

    def __init__(
        self, store: DecisionStore, *, who: str | None = None, queue: Sequence[Document] | None = None
    ) -> None:
        """``queue``: the suggestions at hand; ``standing`` and ``undo`` then look at these alone."""
        self._store = store
        self._ids = None if queue is None else [document["_id"] for document in queue]
        self.who = who or paths.user_name()

    def decide(
        self,
        suggestion: Document,
        verdict: str,
        *,
        object_class: str | None = None,
        points: Sequence[float] | None = None,
        rule: str | None = None,
    ) -> Document:
        """Write a verdict; returns the entry once it is on disk.

        Args:
            object_class, points: what the person made of the suggestion; the suggestion's own when None.
            rule: text of the rule that decided, None for a person.

        Raises:
            ReviewError: the verdict is none of VERDICTS.
            StoreError: the entry could not be saved.
        """
        if verdict not in VERDICTS:
            raise ReviewError(f"unknown verdict {verdict!r}; there are {', '.join(VERDICTS)}")
        return self._store.append_decision(
            {
                "suggestion_id": suggestion["_id"],
                "verdict": verdict,
                "who": self.who,
                "model": suggestion.get("run_id"),
                "snapshot_id": suggestion.get("snapshot_id"),
                "object_class": object_class or suggestion.get("object_class"),
                "points": [float(value) for value in (points if points is not None else suggestion["points"])],
                "rule": rule,
            }
        )

    def undo(self) -> Document | None:
        """Take back this person's latest decision that stands; None when there is none."""
        standing = [d for d in self.standing().values() if d["who"] == self.who]
        if not standing:
            return None
        last = max(standing, key=lambda decision: (decision["when"], decision["_id"]))
        kept = {key: last.get(key) for key in ("suggestion_id", "model", "snapshot_id", "object_class", "points")}
        return self._store.append_decision({**kept, "verdict": UNDO, "who": self.who, "undoes": last["_id"]})

    def standing(self) -> dict[str, Document]:
        """The decision that stands for each suggestion that has one: suggestion_id -> entry."""
        return fold(self._store.decisions(self._ids))


def fold(entries: Iterable[Document]) -> dict[str, Document]:
    """The standing decision of each suggestion, from entries in the order they were written.

    An undo takes back the entry it names, else the latest one standing; what stood before stands again.
    """
    stacks: dict[str, list[Document]] = {}
    for entry in entries:
        stack = stacks.setdefault(entry["suggestion_id"], [])
        if entry["verdict"] != UNDO:
            stack.append(entry)
            continue
        named = [position for position, earlier in enumerate(stack) if earlier["_id"] == entry.get("undoes")]
        if stack:
            stack.pop(named[-1] if named else -1)
    return {suggestion_id: stack[-1] for suggestion_id, stack in stacks.items() if stack}


def decide_by_rule(journal: Journal, suggestions: Sequence[Document], *, accept_score: float) -> dict[str, int]:
    """Accept suggestions scoring ``accept_score`` or more, skip the others; what was already decided stays.

    Returns:
        Numbers of suggestions by verdict, decisions made before included.
    """
    rule = f"accept at score >= {accept_score:g}, else skip"
    standing = journal.standing()
    counts = dict.fromkeys(VERDICTS, 0)
    for suggestion in suggestions:
        decision = standing.get(suggestion["_id"])
        if decision is None:
            verdict = "accept" if suggestion["score"] >= accept_score else "skip"
            decision = journal.decide(suggestion, verdict, rule=rule)
        counts[decision["verdict"]] += 1
    return counts
