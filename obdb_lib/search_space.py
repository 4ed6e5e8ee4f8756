"""What is searched: ranges by name, on a linear or a log scale, and their unit cube."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.errors import TrainingError

Array = NDArray[np.float64]

LOG_SCALE = ("lr", "weight_decay")
"""Searched by their exponent: a log scale reaches in half the trials what a linear one reaches."""
WHOLE_NUMBERS = ("step_size",)


@dataclass(frozen=True)
class Space:
    """Ranges of a search.

    Attributes:
        ranges: ``[low, high]`` by name, low < high; the low one above 0 on a log scale.
        log: names on a log scale.
        whole: names that take whole numbers only.
    """

    ranges: Mapping[str, Sequence[float]]
    log: tuple[str, ...] = LOG_SCALE
    whole: tuple[str, ...] = WHOLE_NUMBERS

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.ranges)

    def to_unit(self, points: Sequence[Mapping[str, float]]) -> Array:
        """Rows of the unit cube, (points, names)."""
        columns = []
        for name in self.names:
            low, high, values = *self._ends(name), np.array([float(point[name]) for point in points])
            columns.append(((np.log(values) if name in self.log else values) - low) / (high - low))
        return np.stack(columns, axis=1) if columns else np.empty((len(points), 0))

    def to_point(self, unit: Array) -> dict[str, float]:
        """The parameters of one row of the unit cube, never outside their range; whole numbers are int."""
        point: dict[str, float] = {}
        for name, place in zip(self.names, unit, strict=True):
            low, high = self._ends(name)
            value = low + float(np.clip(place, 0, 1)) * (high - low)
            value = float(np.exp(value)) if name in self.log else value
            value = min(max(value, float(self.ranges[name][0])), float(self.ranges[name][1]))
            point[name] = round(value) if name in self.whole else value
        return point

    def snap(self, places: Array) -> Array:
        """``places`` (M, names) with the coordinates of whole numbers moved to the nearest of them."""
        places = places.copy()
        for column, name in enumerate(self.names):
            if name in self.whole:
                steps = float(self.ranges[name][1]) - float(self.ranges[name][0])
                places[:, column] = np.round(places[:, column] * steps) / steps
        return places

    def clip(self, point: Mapping[str, float]) -> dict[str, float]:
        """``point`` moved into the ranges; other names are left out."""
        inside = {n: float(min(max(point[n], self.ranges[n][0]), self.ranges[n][1])) for n in self.names}
        return {name: round(value) if name in self.whole else value for name, value in inside.items()}

    def sherpa_parameters(self, sherpa: Any) -> list[Any]:
        """The ranges as Sherpa's parameters."""
        found = []
        for name, (low, high) in self.ranges.items():
            if name in self.whole:
                found.append(sherpa.Discrete(name, [int(low), int(high)]))
            else:
                scale = "log" if name in self.log else "linear"
                found.append(sherpa.Continuous(name, [float(low), float(high)], scale))
        return found

    def _ends(self, name: str) -> tuple[float, float]:
        low, high = (float(end) for end in self.ranges[name])
        if name in self.log:
            if low <= 0:
                raise TrainingError(
                    f"{name} is searched on a log scale and must begin above 0; got [{low:g}, {high:g}]"
                )
            return float(np.log(low)), float(np.log(high))
        return low, high


def records(table: pd.DataFrame, names: Sequence[str]) -> list[dict[str, float]]:
    """The columns ``names`` of a table as one point a row."""
    rows = table[list(names)].to_numpy(float)
    return [dict(zip(names, (float(value) for value in row), strict=True)) for row in rows]
