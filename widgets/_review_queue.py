"""What is reviewed in which order, how far it is, and what to expect of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from obdb_lib.errors import ReviewError
from obdb_lib.review import SAID, is_open

Record = dict[str, Any]

ORDERS = {"likely": "most likely first", "uncertain": "most uncertain first", "given": "as given"}
"""``uncertain`` asks first where an answer settles most: a probability near one half."""
NEEDED_KEYS = ("_id", "img_path", "object_class", "points")
MISSING, BAD_LOCATION, SPURIOUS = "missing", "bad_location", "spurious"


class ReviewQueue:
    """Suggestions, and the order in which those that pass the filter are asked.

    Args:
        suggestions: see ``BoxReview``.

    Attributes:
        items: the suggestions as given; a place is an index into them and never changes.
        shown: places that pass the filter, in the order they are asked.

    Raises:
        ReviewError: a suggestion lacks a key, has no four finite numbers, or an id repeats.
    """

    def __init__(self, suggestions: Sequence[Record]) -> None:
        self.items = _checked(suggestions)
        self.place = {str(one["_id"]): place for place, one in enumerate(self.items)}
        self.by_path: dict[str, list[Record]] = {}
        for one in self.items:
            self.by_path.setdefault(str(one["img_path"]), []).append(one)
        self.shown: list[int] = []
        self.position: dict[int, int] = {}
        self.arrange("likely")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def kinds(self) -> list[str]:
        return sorted({kind_of(one) for one in self.items})

    @property
    def classes(self) -> list[str]:
        """Classes that are proposed or annotated."""
        names = {str(one["object_class"]) for one in self.items}
        return sorted(names | {str(one["annotation_class"]) for one in self.items if one.get("annotation_class")})

    def arrange(self, order: str, kind: str = "", object_class: str = "") -> None:
        """Order the suggestions of one kind and class ("" for all)."""
        wanted = [
            place
            for place, one in enumerate(self.items)
            if kind in ("", kind_of(one)) and object_class in ("", str(one["object_class"]))
        ]
        if order != "given":
            wanted.sort(key=lambda place: _rank(self.items[place], order))
        self.shown = wanted
        self.position = {place: position for position, place in enumerate(wanted)}

    def next_open(self, place: int, standing: Mapping[str, Record]) -> int | None:
        """The next place that waits for a person after ``place``, and round; None when none that is shown does."""
        count = len(self.shown)
        start = self.position.get(place, -1)
        for step in range(1, count + 1):
            candidate = self.shown[(start + step) % count]
            if is_open(standing.get(str(self.items[candidate]["_id"]))):
                return candidate
        return None

    def step(self, place: int, by: int) -> int:
        """The place ``by`` further in the order, stopping at the ends."""
        if not self.shown:
            return place
        position = self.position.get(place, 0) + by
        return self.shown[min(max(position, 0), len(self.shown) - 1)]

    def counts(self, standing: Mapping[str, Record]) -> dict[str, int]:
        """Counts: total, decided, accepted, rejected, skipped; what a rule skipped waits for a person."""
        verdicts = Counter(str(standing[name]["verdict"]) for name in self.place if not is_open(standing.get(name)))
        counts = {word: verdicts.get(verdict, 0) for verdict, word in SAID.items()}
        return {"total": len(self.items), "decided": sum(counts.values()), **counts}

    def outlook(self, standing: Mapping[str, Record], who: str | None) -> dict[str, Any]:
        """What is expected of the rest, and how the person's verdicts compare with what was predicted.

        Returns:
            ``left`` undecided suggestions that are shown, ``rest_precision`` mean probability of those that carry one
            (None when none does), ``expected`` accepts among them; ``judged`` accepts and rejects of ``who`` on
            suggestions with a probability, ``accepted_rate`` and ``predicted_rate`` of these (0..1, None without any).
        """
        open_ones = [self.items[p] for p in self.shown if is_open(standing.get(str(self.items[p]["_id"])))]
        rest = [one["probability"] for one in open_ones if one.get("probability") is not None]
        judged = [
            (float(one["probability"]), standing[name]["verdict"] == "accept")
            for name, place in self.place.items()
            if (one := self.items[place]).get("probability") is not None
            and name in standing
            and standing[name]["verdict"] in ("accept", "reject")
            and standing[name].get("who") == who
        ]
        predicted, accepted = np.array(judged, dtype=float).reshape(-1, 2).T
        return {
            "shown": len(self.shown),
            "left": len(open_ones),
            "rest_precision": float(np.mean(rest)) if rest else None,
            "expected": float(np.sum(rest)) if rest else None,
            "judged": len(judged),
            "accepted_rate": float(accepted.mean()) if judged else None,
            "predicted_rate": float(predicted.mean()) if judged else None,
        }


def kind_of(suggestion: Record) -> str:
    """Its kind; suggestions of before there were kinds are missing annotations."""
    return str(suggestion.get("kind") or MISSING)


def number(value: object) -> float | None:
    """A number for the page, None where there is none."""
    return None if value is None else float(str(value))


def _rank(one: Record, order: str) -> float:
    chance = number(one.get("probability"))
    if chance is None:
        score = number(one.get("score")) or 0.0
        # The less the detector sees on an annotation, the likelier is nothing there.
        chance = 1 - score if kind_of(one) == SPURIOUS else score
    return abs(chance - 0.5) if order == "uncertain" else -chance


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
