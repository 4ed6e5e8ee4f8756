"""Assign whole groups to parts so that each part gets its share of everything at once.

Few groups: every assignment is tried. More: a mixed-integer programme (HiGHS) gives a start and a bound where the size
allows, and simulated annealing by moves and swaps goes on from there. The answer says how far from the bound it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obdb_lib.balance_bounds import solve_programme, subset_bound
from obdb_lib.balance_problem import PEAK_WEIGHT, Matrix, Problem, imbalance, make_problem
from obdb_lib.balance_search import enumerate_all, search
from obdb_lib.boxes import FloatArray, IntArray

__all__ = ["Assignment", "assign_groups", "balance_groups", "imbalance"]


@dataclass(frozen=True)
class Assignment:
    """An assignment of groups to parts and how good it is.

    Attributes:
        parts: (G,) int64.
        objective: its cost (Problem.cost).
        bound: no assignment costs less than this.
        largest: largest deviation of any column of any part, relative to the wanted count; 0.1 is 10 % off.
        largest_bound: no assignment has a smaller largest deviation.
        method: "all tried", "annealing", or "programme and annealing".
        programme: how the mixed-integer programme ended: "optimal", "node limit", "time limit", "too large", "none"
            or "not needed".
        restarts: of the annealing.
        lacking: column -> why it has not its minimum in each part.
    """

    parts: IntArray
    objective: float
    bound: float
    largest: float
    largest_bound: float
    method: str
    programme: str
    restarts: int
    lacking: dict[str, str]

    @property
    def gap(self) -> float:
        """Cost above the bound."""
        return max(self.objective - self.bound, 0.0)


def balance_groups(problem: Problem, *, seed: int = 0) -> Assignment:
    """The best assignment found; same problem and seed give the same one (work is limited, not time)."""
    everything = enumerate_all(problem)
    if everything is not None:
        cost = float(problem.cost(problem.sums(everything)))
        return _judged(problem, everything, (cost, _largest(problem, everything)), "all tried", "not needed", 0)
    programme = solve_programme(problem)
    starts = [] if programme.parts is None else [programme.parts]
    found, restarts = search(problem, starts, np.random.default_rng(seed))
    largest_bound = min(max(programme.bound, subset_bound(problem)), _largest(problem, found))
    method = "programme and annealing" if starts else "annealing"
    bounds = (PEAK_WEIGHT * largest_bound**2, largest_bound)
    return _judged(problem, found, bounds, method, programme.state, restarts)


def assign_groups(features: FloatArray, weights: FloatArray, shares: Matrix, *, seed: int = 0) -> IntArray:
    """Part of each group, every column weighed by itself (``imbalance`` is what is minimised).

    Args:
        features: (G, F) counts per group (frames, boxes per class, ...); columns without any count are ignored.
        weights: (F,) importance of each column.
        shares: (P,) target share of each part, in sum 1.
        seed: of the random starts.

    Returns:
        (G,) int64 in 0..P-1; every part has at least one group (needs G >= P).
    """
    used = features.sum(axis=0) > 0
    factor = np.diag(np.sqrt(weights[used].astype(np.float64)))
    return balance_groups(make_problem(features[:, used].astype(np.float64), shares, factor), seed=seed).parts


def _largest(problem: Problem, parts: IntArray) -> float:
    off = np.abs(problem.deviation(problem.sums(parts)))[:, problem.peak]
    return float(off.max(initial=0.0))


def _judged(
    problem: Problem, parts: IntArray, bounds: tuple[float, float], method: str, programme: str, restarts: int
) -> Assignment:
    sums = problem.sums(parts)
    lacking = dict(problem.infeasible)
    for column in np.flatnonzero((sums < problem.need).any(axis=0)):
        lacking.setdefault(problem.names[column], "its minimum was not met together with those of the other classes")
    cost = float(problem.cost(sums))
    return Assignment(parts, cost, bounds[0], _largest(problem, parts), bounds[1], method, programme, restarts, lacking)
