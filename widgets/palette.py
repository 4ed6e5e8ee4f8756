"""Colours that colour-blind people can tell apart, and the rule that gives each point of a map its colour.

The first colours are those of Okabe and Ito (2008, "Color Universal Design"); the further ones are taken from Paul
Tol's muted scheme (2021), for maps with more than seven classes. What is left over shares one grey.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from obdb_lib.errors import DatasetError

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
OKABE_ITO: tuple[str, ...] = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
EXTENDED: tuple[str, ...] = (*OKABE_ITO, "#332288", "#882255", "#999933", "#44AA99", "#AA4499", "#661100", "#117733")
OTHER = "#A6A6A6"
"""Grey of everything that has no colour of its own."""

MAX_LABELLED = len(EXTENDED)
"""More categories than this cannot be told apart by colour; the rarer ones share ``OTHER``."""

MAX_WHOLE_CATEGORIES = 40
"""A column of whole numbers with at most this many values (cluster ids, say) is coloured by value, not by size."""

PART_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN, "excluded": OTHER}
OUTSIDE_COLOUR, OUTSIDE_LABEL = "#DDDDDD", "(not in the split)"

CONTINUOUS_MAP = "viridis"
CONTINUOUS_STEPS = 5
EMPTY_LABEL = "(none)"


@dataclass(frozen=True)
class Colouring:
    """How one column colours the points.

    Attributes:
        column: name of the column.
        continuous: True for measured numbers, False for categories.
        labels: legend texts; categories by falling count, or the steps of the scale.
        colours: one "#rrggbb" per label.
        counts: points per label; empty for a scale.
        codes: (N,) int32, index into ``labels`` per point (categories only, else empty).
        values: (N,) float64 (scale only, else empty); missing numbers are drawn as the lowest.
        missing: how many points have no value (scale only).
    """

    column: str
    continuous: bool
    labels: tuple[str, ...]
    colours: tuple[str, ...]
    counts: tuple[int, ...]
    codes: NDArray[np.int32]
    values: NDArray[np.float64]
    missing: int = 0

    def point_colours(self) -> NDArray[np.object_]:
        """(N,) "#rrggbb" per point."""
        if not self.continuous:
            return np.asarray(self.colours, dtype=object)[self.codes]
        if not len(self.values):
            return np.empty(0, dtype=object)
        low, high = float(self.values.min()), float(self.values.max())
        shades = colormaps[CONTINUOUS_MAP]((self.values - low) / ((high - low) or 1.0))
        return np.array([to_hex(shade) for shade in shades], dtype=object)


def colouring(points: pd.DataFrame, column: str) -> Colouring:
    """Decide labels and colours for ``column`` of ``points`` (one row a point).

    Whole numbers with few distinct values count as categories. The same column of the same table gives the same colours
    in the live map and in the static picture.

    Raises:
        DatasetError: the table has no such column.
    """
    if column not in points.columns:
        raise DatasetError(f"the points have no column {column!r} to colour by; they have: {', '.join(points.columns)}")
    series = points[column]
    if _is_measure(series):
        return _scale(column, series)
    return _categories(column, series)


def part_colouring(column: str, codes: NDArray[np.int32]) -> Colouring:
    """Colours of the parts of a split: always the same ones in the same order, however few points a part has.

    Args:
        codes: (N,) index into PART_COLOURS per point, -1 for points on frames outside the split.
    """
    labels, colours = [*PART_COLOURS, OUTSIDE_LABEL], [*PART_COLOURS.values(), OUTSIDE_COLOUR]
    outside = len(PART_COLOURS)
    codes = np.where(codes < 0, outside, codes).astype(np.int32)
    counts = np.bincount(codes, minlength=len(labels))
    kept = len(labels) if counts[outside] else outside
    numbers = tuple(int(count) for count in counts[:kept])
    return Colouring(column, False, tuple(labels[:kept]), tuple(colours[:kept]), numbers, codes, np.empty(0))


def _is_measure(series: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(series) or not pd.api.types.is_numeric_dtype(series):
        return False
    whole = pd.api.types.is_integer_dtype(series)
    return not (whole and series.nunique() <= MAX_WHOLE_CATEGORIES)


def text_codes(series: pd.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Each value as the number of its text, and the texts; missing and empty values share ``EMPTY_LABEL``.

    Values that read alike (1 and "1") get one number. Works on the distinct values alone, not point by point.
    """
    codes, values = pd.factorize(series, use_na_sentinel=False)
    texts = [EMPTY_LABEL if pd.isna(value) or value == "" else str(value) for value in values]
    merged, names = pd.factorize(np.array(texts, dtype=object))
    return np.asarray(merged[codes] if len(texts) else codes, dtype=np.int64), [str(name) for name in names]


def _categories(column: str, series: pd.Series) -> Colouring:
    numbered, texts = text_codes(series)
    counts = np.bincount(numbered, minlength=len(texts))
    ranks = sorted(range(len(texts)), key=lambda place: (-int(counts[place]), texts[place]))
    order = [texts[place] for place in ranks]
    own = order if len(order) <= MAX_LABELLED else order[: MAX_LABELLED - 1]
    rest = order[len(own) :]
    labels, colours = list(own), list(EXTENDED[: len(own)])
    numbers = [int(counts[place]) for place in ranks[: len(own)]]
    if rest:
        labels.append(f"{len(rest)} others")
        colours.append(OTHER)
        numbers.append(int(counts[ranks[len(own) :]].sum()))
    place_of_code = np.empty(len(texts), dtype=np.int32)
    place_of_code[ranks] = np.minimum(np.arange(len(texts)), len(own))
    codes = place_of_code[numbered]
    return Colouring(column, False, tuple(labels), tuple(colours), tuple(numbers), codes, np.empty(0))


def _scale(column: str, series: pd.Series) -> Colouring:
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 1.0)
    steps = np.linspace(low, high, CONTINUOUS_STEPS)
    shades = colormaps[CONTINUOUS_MAP](np.linspace(0, 1, CONTINUOUS_STEPS))
    return Colouring(
        column,
        True,
        tuple(f"{step:.3g}" for step in steps),
        tuple(to_hex(shade) for shade in shades),
        (),
        np.empty(0, dtype=np.int32),
        np.where(known, values, low),
        int((~known).sum()),
    )
