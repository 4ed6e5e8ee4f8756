"""Which points of the map are shown: choose values of a few columns, the rest is hidden and cannot be selected."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from traitlets import Dict, Int, List, TraitError, validate

from widgets._base import STATIC, PlainWidget
from widgets.names import short_names, title_of
from widgets.palette import text_codes

FILTER_COLUMNS = ("object_class", "cluster", "task_name", "session", "camera", "video", "split")
Codes = NDArray[np.int64]


class MapFilter(PlainWidget):
    """A menu of values for each column worth filtering by.

    Attributes:
        columns: one {name, title, labels, short, counts} per column, in the order of FILTER_COLUMNS.
        chosen: column -> numbers of the labels to show; a column that is not named shows all. Can be set from Python.
        shown, total: points that pass, and all points.
    """

    _esm = STATIC / "map_filter.js"
    _css = STATIC / "map_filter.css"

    columns = List(Dict()).tag(sync=True)
    chosen = Dict().tag(sync=True)
    shown = Int(0).tag(sync=True)
    total = Int(0).tag(sync=True)

    @classmethod
    def of(cls, points: pd.DataFrame) -> MapFilter:
        """A filter for the columns of FILTER_COLUMNS that ``points`` has and that have two values or more."""
        made = cls(total=len(points), shown=len(points))
        for name in FILTER_COLUMNS:
            if name in points.columns:
                codes, labels = _natural(*text_codes(points[name]))
                if len(labels) > 1:
                    made.describe(name, codes, labels)
        return made

    def __init__(self, **traits: Any) -> None:
        self._codes: dict[str, Codes] = {}
        super().__init__(**traits)

    def describe(self, name: str, codes: Codes, labels: list[str]) -> None:
        """Give a column its values anew: ``codes`` (N,) index into ``labels`` per point."""
        self._codes[name] = codes
        counts = np.bincount(codes, minlength=len(labels)).tolist()
        entry = {
            "name": name,
            "title": title_of(name),
            "labels": labels,
            "short": short_names(labels),
            "counts": counts,
        }
        others = [column for column in self.columns if column["name"] != name]
        self.columns = sorted([*others, entry], key=lambda column: FILTER_COLUMNS.index(column["name"]))

    def mask(self) -> NDArray[np.bool_] | None:
        """(N,) which points are shown; None when all are."""
        if not self.chosen:
            return None
        shown = np.ones(self.total, dtype=bool)
        for name, numbers in self.chosen.items():
            labels = next(column["labels"] for column in self.columns if column["name"] == name)
            wanted = np.zeros(len(labels), dtype=bool)
            wanted[list(numbers)] = True
            shown &= wanted[self._codes[name]]
        self.shown = int(shown.sum())
        return shown

    @validate("chosen")
    def _known(self, proposal: dict[str, Any]) -> dict[str, list[int]]:
        sizes = {column["name"]: len(column["labels"]) for column in self.columns}
        for name, numbers in proposal["value"].items():
            if name not in sizes:
                raise TraitError(f"cannot filter by {name!r}; the choices are: {', '.join(sizes)}")
            if any(not 0 <= number < sizes[name] for number in numbers):
                raise TraitError(f"{name} has {sizes[name]} values, numbered from 0; got {list(numbers)}")
        return {name: list(numbers) for name, numbers in proposal["value"].items()}


def _natural(codes: Codes, labels: list[str]) -> tuple[Codes, list[str]]:
    """The same values in the order a person expects: 2 before 10."""

    def key(label: str) -> list[tuple[int, int, str]]:
        return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", label)]

    order = sorted(range(len(labels)), key=lambda place: key(labels[place]))
    place_of = np.empty(len(labels), dtype=np.int64)
    place_of[order] = np.arange(len(labels))
    return place_of[codes] if len(labels) else codes, [labels[place] for place in order]
