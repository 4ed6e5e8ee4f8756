"""Assign groups to parts so that each part gets its share of every feature: local search with restarts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray, IntArray

RESTARTS = 24
"""Random starts; the best end is taken. Moves and swaps from a few dozen starts beat exact solvers in their time limit
on field data, where proven bounds stay loose."""
MAX_STEPS = 400
MIN_SHARE_OF_TARGET = 0.5
"""A part with less than this share of its target of a class counts as failing it, which is punished strongly."""
_PENALTY = 4.0
_MAX_SWAP_GROUPS = 150  # above this, moves alone come close enough and swaps cost their square

Matrix = NDArray[np.float64]


def assign_groups(features: FloatArray, weights: FloatArray, shares: NDArray[np.float64], *, seed: int = 0) -> IntArray:
    """Part of each group.

    Args:
        features: (G, F) counts per group (frames, boxes per class, ...); columns without any count are ignored.
        weights: (F,) importance of each column.
        shares: (P,) target share of each part, in sum 1.
        seed: of the random starts.

    Returns:
        (G,) int64 in 0..P-1; every part has at least one group (needs G >= P).
    """
    totals = features.sum(axis=0)
    used = totals > 0
    relative = (features[:, used] / totals[used]).astype(np.float64)
    importance = weights[used].astype(np.float64)
    rng = np.random.default_rng(seed)
    best: tuple[float, IntArray] | None = None
    for _ in range(RESTARTS):
        parts = _start(len(relative), shares, rng)
        cost = _descend(relative, importance, shares, parts)
        if best is None or cost < best[0] - 1e-12:
            best = (cost, parts)
    assert best is not None
    return best[1]


def imbalance(sums: Matrix, importance: Matrix, shares: Matrix) -> Matrix:
    """Cost of shares reached: (..., P, F) -> (...). Squared relative miss, and a penalty where a part lacks a class."""
    targets = shares[:, None]
    miss = (sums - targets) ** 2 / targets
    lack = np.clip(MIN_SHARE_OF_TARGET - sums / targets, 0, None) ** 2 * _PENALTY
    return np.asarray(((miss + lack) * importance).sum(axis=(-2, -1)))


def _start(count: int, shares: Matrix, rng: np.random.Generator) -> IntArray:
    parts = rng.choice(len(shares), size=count, p=shares / shares.sum()).astype(np.int64)
    parts[rng.permutation(count)[: len(shares)]] = np.arange(len(shares))
    return parts


def _descend(relative: Matrix, importance: Matrix, shares: Matrix, parts: IntArray) -> float:
    """Best single move or swap until none helps; ``parts`` is changed in place."""
    sums = np.stack([relative[parts == part].sum(axis=0) for part in range(len(shares))])
    cost = float(imbalance(sums, importance, shares))
    for _ in range(MAX_STEPS):
        move_cost, group, target = _best_move(relative, importance, shares, parts, sums)
        swap_cost, first, second = _best_swap(relative, importance, shares, parts, sums)
        if min(move_cost, swap_cost) >= cost - 1e-12:
            break
        if move_cost <= swap_cost:
            parts[group] = target
        else:
            parts[first], parts[second] = parts[second], parts[first]
        sums = np.stack([relative[parts == part].sum(axis=0) for part in range(len(shares))])
        cost = min(move_cost, swap_cost)
    return cost


def _best_move(
    relative: Matrix, importance: Matrix, shares: Matrix, parts: IntArray, sums: Matrix
) -> tuple[float, int, int]:
    best = (np.inf, 0, 0)
    sizes = np.bincount(parts, minlength=len(shares))
    for target in range(len(shares)):
        movable = np.flatnonzero((parts != target) & (sizes[parts] > 1))
        if not len(movable):
            continue
        trial = np.repeat(sums[None], len(movable), axis=0)
        rows = np.arange(len(movable))
        trial[rows, parts[movable]] -= relative[movable]
        trial[rows, target] += relative[movable]
        costs = imbalance(trial, importance, shares)
        found = int(np.argmin(costs))
        best = min(best, (float(costs[found]), int(movable[found]), target))
    return best


def _best_swap(
    relative: Matrix, importance: Matrix, shares: Matrix, parts: IntArray, sums: Matrix
) -> tuple[float, int, int]:
    best = (np.inf, 0, 0)
    if len(parts) > _MAX_SWAP_GROUPS:
        return best
    for first in range(len(parts)):
        others = np.flatnonzero((parts != parts[first]) & (np.arange(len(parts)) > first))
        if not len(others):
            continue
        difference = relative[others] - relative[first]
        trial = np.repeat(sums[None], len(others), axis=0)
        trial[:, parts[first]] += difference
        trial[np.arange(len(others)), parts[others]] -= difference
        costs = imbalance(trial, importance, shares)
        found = int(np.argmin(costs))
        best = min(best, (float(costs[found]), first, int(others[found])))
    return best
