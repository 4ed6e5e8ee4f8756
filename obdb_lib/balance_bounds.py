"""How good an assignment of groups can be at most: exact subset sums of one column, and a mixed-integer programme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import IntArray

if TYPE_CHECKING:
    from obdb_lib.balance_problem import Problem

Matrix = NDArray[np.float64]

SUMS_LIMIT = 200_000_000
"""Groups times total of a column above which its reachable sums are not listed; so many boxes hit any share closely."""
MILP_CELLS = 160
"""Groups times (parts - 1) up to which the programme is solved; above, its bound stays at nothing and costs seconds."""
MILP_NODES = 3000
"""Branch-and-bound nodes after which HiGHS stops: a limit of work, so that the answer does not depend on the clock."""
MILP_SECONDS = 4.0
"""Only for safety; when it strikes before MILP_NODES, the programme's answer is not used and that is recorded."""


def reachable_sums(column: Matrix) -> Matrix | None:
    """Sorted sums that subsets of whole counts can have, or None where there are too many to list (SUMS_LIMIT)."""
    numbers = [int(value) for value in column if value > 0]
    total = sum(numbers)
    if total * max(len(numbers), 1) > SUMS_LIMIT:
        return None
    bits = 1
    for number in numbers:
        bits |= bits << number
    packed = np.frombuffer(bits.to_bytes(total // 8 + 1, "little"), dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(packed, bitorder="little")).astype(np.float64)


def nearest_sum(sums: Matrix, target: float, least: float, most: float) -> float:
    """The sum next to ``target`` among those in [least, most]; among all where none lies there."""
    allowed = sums[(sums >= least) & (sums <= most)]
    allowed = allowed if len(allowed) else sums
    return float(allowed[np.argmin(np.abs(allowed - target))])


def subset_bound(problem: Problem) -> float:
    """No assignment has a largest deviation below this: for each part and column alone, the nearest reachable count."""
    bound = 0.0
    free = problem.fixed < 0
    for column in np.flatnonzero(problem.peak):
        sums = reachable_sums(problem.counts[free, column])
        if sums is None:
            continue
        for part in range(len(problem.shares)):
            counts = sums + problem.counts[problem.fixed == part, column].sum()
            off = np.abs(counts - problem.wanted[part, column]).min() / problem.wanted[part, column]
            bound = max(bound, float(off))
    return bound


@dataclass(frozen=True)
class Programme:
    """What the mixed-integer programme found.

    Attributes:
        parts: (G,) assignment, or None when none was found in the limits.
        bound: lower bound of the largest deviation among assignments that hold the minima.
        state: "optimal", "node limit", "time limit" or "none", for the record.
    """

    parts: IntArray | None
    bound: float
    state: str


def solve_programme(problem: Problem) -> Programme:
    """The smallest largest deviation by HiGHS (Huangfu and Hall 2018) through scipy, missing minima first."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    groups, parts = len(problem.counts), len(problem.shares)
    if groups * (parts - 1) > MILP_CELLS:
        return Programme(None, 0.0, "too large")
    matrix, low, high, cost = _model(problem)
    size = len(cost)
    least, most = np.zeros(size), np.ones(size)
    most[groups * parts :] = np.inf
    for group, part in enumerate(problem.fixed):
        if part >= 0:
            least[group * parts + part] = 1
    integral = np.concatenate([np.ones(groups * parts), np.zeros(size - groups * parts)])
    limits = {"node_limit": MILP_NODES, "time_limit": MILP_SECONDS, "disp": False, "mip_rel_gap": 1e-3}
    found = milp(
        cost,
        integrality=integral,
        bounds=Bounds(least, most),
        constraints=LinearConstraint(matrix, low, high),
        options=cast("dict[str, object]", limits),  # type: ignore[arg-type]  # scipy's stubs lack milp's options
    )
    if found.x is None:
        return Programme(None, 0.0, "none")
    if found.status != 0 and (found.mip_node_count or 0) < MILP_NODES:
        return Programme(None, 0.0, "time limit")
    chosen = found.x[: groups * parts].reshape(groups, parts).argmax(axis=1).astype(np.int64)
    state = "optimal" if found.status == 0 else "node limit"
    return Programme(chosen, max(float(found.mip_dual_bound or 0.0), 0.0), state)


def _model(problem: Problem) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Constraint matrix, its limits and the costs; variables: group x part, one missing rate a need, the peak."""
    from scipy import sparse

    from obdb_lib.balance_problem import LACK_COST

    groups, parts = len(problem.counts), len(problem.shares)
    needs = np.argwhere(problem.need > 0)
    columns = np.flatnonzero(problem.peak)
    size = groups * parts + len(needs) + 1
    one_part = sparse.kron(sparse.eye(groups), np.ones((1, parts)))
    filled = sparse.kron(np.ones((1, groups)), sparse.eye(parts))
    rows = [
        sparse.hstack([block, sparse.csr_matrix((block.shape[0], size - groups * parts))])
        for block in (one_part, filled)
    ]
    low, high = [np.ones(groups), np.ones(parts)], [np.ones(groups), np.full(parts, np.inf)]
    for part in range(parts):
        place = np.zeros((1, parts))
        place[0, part] = 1
        scaled = problem.counts[:, columns] / problem.wanted[part, columns]
        target = np.ones(len(columns))
        sums = sparse.kron(scaled.T, place)
        gap = sparse.csr_matrix((len(columns), len(needs)))
        for sign in (-1.0, 1.0):
            peak = np.full((len(columns), 1), sign)
            rows.append(sparse.hstack([sums, gap, sparse.csr_matrix(peak)]))
            low.append(np.full(len(columns), -np.inf) if sign < 0 else target)
            high.append(target if sign < 0 else np.full(len(columns), np.inf))
    for number, (part, column) in enumerate(needs):
        row = np.zeros(size)
        row[part : groups * parts : parts] = problem.counts[:, column] / problem.need[part, column]
        row[groups * parts + number] = 1
        rows.append(sparse.csr_matrix(row[None]))
        low.append(np.ones(1))
        high.append(np.full(1, np.inf))
    # HiGHS dislikes costs a million apart; among sane data a thousand is above any largest deviation.
    cost = np.concatenate([np.zeros(groups * parts), np.full(len(needs), min(LACK_COST, 1e3)), [1.0]])
    return np.asarray(sparse.vstack(rows).toarray(), dtype=np.float64), np.concatenate(low), np.concatenate(high), cost
