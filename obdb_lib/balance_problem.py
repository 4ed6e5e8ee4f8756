"""What a balanced assignment of groups to parts is: the counts, the wanted counts, the hard minimum and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obdb_lib.balance_bounds import nearest_sum, reachable_sums
from obdb_lib.boxes import IntArray

Matrix = NDArray[np.float64]

PEAK_WEIGHT = 2.0
"""Weight of the largest deviation (squared) against the squared deviations of all; higher helps the worst column."""
COARSE = 0.1
"""A column whose groups cannot come closer to its share than this (relative) is no peak: it would be the worst come
what may, and drown the rest; lower does that to more columns."""
LACK_COST = 1e6
"""Cost of a missing minimum: above anything that balance could gain, so a hard minimum is never traded away."""


@dataclass(frozen=True)
class Problem:
    """Groups to be put into parts.

    Attributes:
        counts: (G, F) float64, how many of each column (frames, boxes of a class, ...) a group holds; no empty column.
        shares: (P,) target share of each part, in sum 1.
        names: F names of the columns, for messages.
        wanted: (P, F) counts each part should have: share times total; a deviation is count / wanted - 1.
        peak: (F,) bool, columns whose largest deviation is minimised; the others, and all coarse ones, count only in
            the sum of squares.
        coarse: names of the columns whose groups cannot come within COARSE of their share.
        factor: (F, F') float64; the squared deviations are |deviation @ factor|^2.
        need: (P, F) counts that a part must hold.
        fixed: (G,) int64, the part a group was given, -1 where free.
        infeasible: column name -> why it cannot have its minimum in each part.
    """

    counts: Matrix
    shares: Matrix
    names: tuple[str, ...]
    wanted: Matrix
    peak: NDArray[np.bool_]
    coarse: tuple[str, ...]
    factor: Matrix
    need: Matrix
    fixed: IntArray
    infeasible: dict[str, str]

    def sums(self, parts: IntArray) -> Matrix:
        """(P, F) counts of an assignment (G,)."""
        return np.stack([self.counts[parts == part].sum(axis=0) for part in range(len(self.shares))])

    def deviation(self, sums: Matrix) -> Matrix:
        """(..., P, F): how far counts are from what is wanted, relative to the part's share."""
        return np.asarray(sums / self.wanted - 1)

    def lack(self, sums: Matrix) -> Matrix:
        """(...,): how much of the minima is missing, each as a rate; 0 when every part has what it needs."""
        missing = np.clip(self.need - sums, 0, None) / np.maximum(self.need, 1)
        return np.asarray(missing.sum(axis=(-2, -1)))

    def cost(self, sums: Matrix) -> Matrix:
        """(..., P, F) -> (...): what is minimised; LACK_COST times the lack is part of it."""
        off = self.deviation(sums)
        highest = np.abs(off[..., self.peak]).max(axis=(-2, -1)) if self.peak.any() else np.zeros(off.shape[:-2])
        squares = ((off @ self.factor) ** 2).sum(axis=(-2, -1))
        return np.asarray(PEAK_WEIGHT * highest**2 + squares + LACK_COST * self.lack(sums))


def imbalance(sums: Matrix, importance: Matrix, shares: Matrix) -> Matrix:
    """Cost of shares reached: (..., P, F) -> (...), for columns that are each weighed by themselves.

    PEAK_WEIGHT times the largest squared deviation, plus all squared deviations by importance; a deviation is relative
    to the part's share.
    """
    off = sums / shares[:, None] - 1
    squares = (off**2 * importance).sum(axis=(-2, -1))
    return np.asarray(PEAK_WEIGHT * (np.abs(off).max(axis=(-2, -1))) ** 2 + squares)


def mix_factor(totals: Matrix, kinds: Sequence[str], weights: dict[str, float]) -> Matrix:
    """(F, F'): squared deviations of the *mix* within each kind, weighed by how frequent each column is.

    Within a kind, sum p_f (r_f - mean r)^2 with p_f the column's share of the kind: to second order proportional to the
    Jensen-Shannon divergence between a part's mix and that of all. A kind of one column (frames) counts as itself.
    """
    size = len(totals)
    quadratic = np.zeros((size, size))
    for kind in dict.fromkeys(kinds):
        place = np.flatnonzero([one == kind for one in kinds])
        share = totals[place] / totals[place].sum()
        form = np.ones((1, 1)) if len(place) == 1 else np.diag(share) - np.outer(share, share)
        quadratic[np.ix_(place, place)] = weights[kind] * form
    values, vectors = np.linalg.eigh(quadratic)
    kept = values > 1e-12
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def make_problem(
    counts: Matrix,
    shares: Matrix,
    factor: Matrix,
    *,
    names: Sequence[str] = (),
    peak: NDArray[np.bool_] | None = None,
    minimum: Matrix | None = None,
    fixed: IntArray | None = None,
) -> Problem:
    """A checked problem: wanted counts and the minimum that is feasible for each column alone.

    Args:
        minimum: (F,) counts that every part should hold, 0 for none.
    """
    counts = counts.astype(np.float64)
    names = tuple(names) or tuple(str(number) for number in range(counts.shape[1]))
    fixed = np.full(len(counts), -1, dtype=np.int64) if fixed is None else fixed
    wanted = shares[:, None] * counts.sum(axis=0)
    need, infeasible, coarse = np.zeros_like(wanted), {}, np.zeros(counts.shape[1], dtype=bool)
    for column in range(counts.shape[1]):
        least = 0 if minimum is None else int(minimum[column])
        column_need, reason = _need(counts[:, column], shares, fixed, least)
        if reason:
            infeasible[names[column]] = reason
        need[:, column] = column_need
        coarse[column] = _is_coarse(counts[:, column], wanted[:, column], column_need, fixed)
    peak = (np.ones(counts.shape[1], dtype=bool) if peak is None else peak) & ~coarse
    told = tuple(names[column] for column in np.flatnonzero(coarse))
    return Problem(counts, shares, names, wanted, peak, told, factor, need, fixed, infeasible)


def _need(column: Matrix, shares: Matrix, fixed: IntArray, least: int) -> tuple[Matrix, str]:
    """(P,) minimum of one column that its own groups allow, and why it is less than asked.

    What cannot be had by all goes to the largest parts: a class that a detector never learns is worse than one that is
    not judged.
    """
    parts = len(shares)
    need = np.zeros(parts)
    if not least:
        return need, ""
    order = np.argsort(-shares, kind="stable")
    able = next((count for count in range(parts, 0, -1) if _can(column, fixed, order[:count], least)), 0)
    need[order[:able]] = least
    if not able:
        need[order[0]] = min(least, column[(fixed < 0) | (fixed == order[0])].sum())
    if able == parts:
        return need, ""
    total, holders = int(column.sum()), int((column > 0).sum())
    if total < least * parts:
        return need, f"there are {total} in all, too few for {least} in each of {parts} parts"
    if holders < parts:
        groups = "a single group" if holders == 1 else f"{holders} groups"
        return need, f"all {total} stand in {groups}, fewer than the {parts} parts"
    return need, f"no choice among the {holders} whole groups that hold it leaves {least} in each part"


def _can(column: Matrix, fixed: IntArray, wanting: IntArray, least: int) -> bool:
    """Whether these parts can hold the minimum each, as far as this column alone tells."""
    free = column[fixed < 0]
    pinned = np.array([column[fixed == part].sum() for part in wanting])
    short = np.clip(least - pinned, 0, None)
    if short.sum() > free.sum() or (short > 0).sum() > (free > 0).sum():
        return False
    sums = reachable_sums(free)
    if sums is None or len(wanting) != 2:
        return True
    return bool(((sums >= short[0]) & (free.sum() - sums >= short[1])).any())


def _is_coarse(column: Matrix, wanted: Matrix, need: Matrix, fixed: IntArray) -> bool:
    """Whether whole groups cannot bring this column within COARSE of what each part should have."""
    sums = reachable_sums(column[fixed < 0])
    if sums is None:
        return False
    *smaller, _ = (int(part) for part in np.argsort(wanted, kind="stable"))
    left, later = column.sum(), need.sum()
    for part in smaller:
        later -= need[part]
        pinned = column[fixed == part].sum()
        nearest = nearest_sum(pinned + sums, wanted[part], need[part], left - later)
        if abs(nearest - wanted[part]) > COARSE * wanted[part]:
            return True
        left -= nearest
    return False
