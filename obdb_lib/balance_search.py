"""Search for a balanced assignment: all of them where they are few, simulated annealing by moves and swaps else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obdb_lib.balance_problem import PEAK_WEIGHT, Problem
from obdb_lib.boxes import IntArray

ALL_LIMIT = 1 << 16
"""So many assignments are simply all tried."""
STEPS = 20_000
"""Steps of annealing over all restarts; each tries _BLOCK moves and swaps. More is slower and better."""
STEPS_PER_GROUP, MIN_STEPS = 120, 2_000
"""Steps of one restart; few groups need few, and the rest of STEPS goes into more restarts."""
HOT, COLD = 0.1, 0.02
"""Share of the cost by which a step may be worse on average, at the start and at the end (Kirkpatrick, Gelatt, Vecchi,
"Optimization by Simulated Annealing", 1983; relative to the cost, so that it fits every data set)."""
_BLOCK = (20, 28)
_NORM = 8  # the largest deviation is searched as the 8-norm of all: smooth enough to follow, close enough to the peak
_CHUNK = 256

Floats = NDArray[np.float32]


def enumerate_all(problem: Problem) -> IntArray | None:
    """The best of all assignments, or None where they are more than ALL_LIMIT."""
    parts, free = len(problem.shares), np.flatnonzero(problem.fixed < 0)
    if parts ** len(free) > ALL_LIMIT:
        return None
    digits = np.indices((parts,) * len(free)).reshape(len(free), -1) if len(free) else np.zeros((0, 1), int)
    base = np.stack([problem.counts[problem.fixed == part].sum(axis=0) for part in range(parts)])
    best, chosen = np.inf, None
    for start in range(0, digits.shape[1], 4096):
        block = digits[:, start : start + 4096]
        sums = np.stack([(block == part).T @ problem.counts[free] for part in range(parts)], axis=1) + base
        sizes = np.stack([(block == part).sum(axis=0) for part in range(parts)], axis=1)
        sizes = sizes + [(problem.fixed == part).sum() for part in range(parts)]
        costs = np.where((sizes > 0).all(axis=1), problem.cost(sums), np.inf)
        place = int(np.argmin(costs))
        if chosen is None or costs[place] < best:
            best, chosen = float(costs[place]), block[:, place]
    assert chosen is not None
    result = problem.fixed.copy()
    result[free] = chosen
    return result


def first_guess(problem: Problem, rng: np.random.Generator) -> IntArray:
    """Minima first, from the scarcest column on with the smallest group that does; the rest where most is missing."""
    parts = problem.fixed.copy()
    sums = problem.sums(parts)
    size = problem.counts / problem.counts.sum(axis=0)
    order = rng.permutation(len(parts))
    wants = np.argwhere(problem.need > 0)
    holders = (problem.counts > 0).sum(axis=0)
    for part, column in sorted(wants.tolist(), key=lambda want: (holders[want[1]], problem.shares[want[0]])):
        while sums[part, column] < problem.need[part, column]:
            free = order[(parts[order] < 0) & (problem.counts[order, column] > 0)]
            if not len(free):
                break
            enough = problem.counts[free, column] >= problem.need[part, column] - sums[part, column]
            among = free[enough] if enough.any() else free
            group = among[np.argmin(size[among].sum(axis=1))]
            parts[group] = part
            sums[part] += problem.counts[group]
    for part in range(len(problem.shares)):
        if not (parts == part).any():
            parts[order[parts[order] < 0][0]] = part
    filled = np.array([size[parts == part].mean(axis=1).sum() for part in range(len(problem.shares))])
    for group in order[parts[order] < 0]:
        part = int(np.argmin((filled + size[group].mean()) / problem.shares))
        parts[group] = part
        filled[part] += size[group].mean()
    return parts


def search(problem: Problem, starts: list[IntArray], rng: np.random.Generator) -> tuple[IntArray, int]:
    """Best end of all restarts, and their number; the first restarts go on from ``starts``."""
    free = int((problem.fixed < 0).sum())
    steps = int(np.clip(free * STEPS_PER_GROUP, MIN_STEPS, STEPS))
    restarts = max(STEPS // steps, len(starts), 1)
    best: tuple[float, IntArray] | None = None
    for number in range(restarts):
        start = starts[number] if number < len(starts) else first_guess(problem, rng)
        found = _Annealing(problem, start, rng).run(steps)
        cost = float(problem.cost(problem.sums(found)))
        if best is None or cost < best[0]:
            best = (cost, found)
    assert best is not None
    return best[1], restarts


class _Annealing:
    """One restart: in each step a block of moves and swaps between two parts is weighed, and one that passes is done.

    Taking nobody (the null group, last in every list) for one side of a swap makes a move. With two parts only the
    smaller one is followed: what it gains the other loses, and deviations of the other are smaller.
    """

    def __init__(self, problem: Problem, start: IntArray, rng: np.random.Generator) -> None:
        self.problem, self.rng = problem, rng
        self.null = len(start)
        count = len(problem.shares)
        self.followed = [int(np.argmin(problem.shares))] if count == 2 else list(range(count))
        free = problem.fixed < 0
        self.members = [np.append(np.flatnonzero((start == part) & free), self.null) for part in range(count)]
        self.least = [0 if (problem.fixed == part).any() else 2 for part in range(count)]
        self.parts = start.copy()
        self.sums = problem.sums(start)
        padded = np.vstack([problem.counts, np.zeros(problem.counts.shape[1])])
        off = problem.deviation(self.sums)
        self.steps_of = {part: (padded / problem.scale[part])[:, problem.peak] for part in self.followed}
        self.steps_of = {part: value.astype(np.float32) for part, value in self.steps_of.items()}
        self.mixes_of = {
            part: (padded / problem.scale[part] @ problem.factor).astype(np.float32) for part in self.followed
        }
        self.off = {part: off[part, problem.peak].astype(np.float32) for part in self.followed}
        self.mix = {part: (off[part] @ problem.factor).astype(np.float32) for part in self.followed}

    def run(self, steps: int) -> IntArray:
        """(G,) the best assignment met on the way."""
        best, result = float(self.problem.cost(self.sums)), self.parts.copy()
        current = self._energy()
        for step in range(steps):
            at = step % _CHUNK
            if not at:
                self._roll(HOT * (COLD / HOT) ** (step / steps))
            first, second = self._pair(at)
            energies, groups, places = self._weigh(first, second, at)
            passing = np.flatnonzero(energies < current * self.slack[at])
            if not len(passing):
                continue
            chosen = int(passing[int(self.pick[at] * len(passing))])
            row, column = divmod(chosen, len(groups[1]))
            if self._do((first, second), (groups[0][row], groups[1][column]), (places[0][row], places[1][column])):
                current = float(energies[chosen])
                highest = max(float(np.abs(off).max(initial=0)) for off in self.off.values())
                if PEAK_WEIGHT * highest**2 < best:
                    cost = float(self.problem.cost(self.sums))
                    if cost < best:
                        best, result = cost, self.parts.copy()
        return result

    def _roll(self, temperature: float) -> None:
        """Dice for the next steps, thrown at once."""
        self.dice = [self.rng.random((_CHUNK, size)) for size in _BLOCK]
        worse = self.rng.standard_exponential((_CHUNK, _BLOCK[0] * _BLOCK[1]), dtype=np.float32)
        self.slack = 1 + np.float32(temperature) * worse
        self.pick = self.rng.random(_CHUNK)
        pairs = [self.rng.permutation(len(self.members))[:2] for _ in range(_CHUNK if len(self.members) > 2 else 0)]
        self.pairs = pairs

    def _pair(self, at: int) -> tuple[int, int]:
        if len(self.members) == 2:
            return 0, 1
        return int(self.pairs[at][0]), int(self.pairs[at][1])

    def _energy(self) -> float:
        peaks, squares = self._rest(())
        return float(PEAK_WEIGHT * peaks ** (2 / _NORM) + squares)

    def _rest(self, without: tuple[int, ...]) -> tuple[float, float]:
        """Sum of 8th powers and of squares over the followed parts that a step does not touch."""
        rest = [part for part in self.followed if part not in without]
        peaks = sum(float((self.off[part] ** _NORM).sum()) for part in rest)
        return peaks, sum(float(self.mix[part] @ self.mix[part]) for part in rest)

    def _weigh(
        self, first: int, second: int, at: int
    ) -> tuple[Floats, tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
        """Energy after each exchange of a block: groups of ``first`` (rows) against groups of ``second`` (columns)."""
        places = tuple(
            (self.dice[side][at] * len(self.members[part])).astype(np.int64)
            for side, part in enumerate((first, second))
        )
        gone, come = self.members[first][places[0]], self.members[second][places[1]]
        peaks, squares = self._rest((first, second))
        total_peaks, total_squares = np.float32(peaks), np.float32(squares)
        for part in (first, second):
            if part not in self.off:
                continue
            # Seen from ``second`` the same exchange has the signs turned, which neither power nor square notices.
            off, mix = (self.off[part], self.mix[part]) if part == first else (-self.off[part], -self.mix[part])
            steps, mixes = self.steps_of[part], self.mixes_of[part]
            powers = (off - steps[gone])[:, None, :] + steps[come][None, :, :]
            powers *= powers
            powers *= powers
            flat = powers.reshape(-1, powers.shape[2])
            total_peaks = total_peaks + np.einsum("kf,kf->k", flat, flat)
            left, right = mix - mixes[gone], mixes[come]
            total_squares = total_squares + (
                np.einsum("af,af->a", left, left)[:, None] + np.einsum("bf,bf->b", right, right) + 2 * left @ right.T
            )
        energies = PEAK_WEIGHT * np.sqrt(np.sqrt(total_peaks)) + np.ravel(total_squares)
        return energies, (gone, come), (places[0], places[1])

    def _do(self, pair: tuple[int, int], groups: tuple[int, int], places: tuple[int, int]) -> bool:
        """Exchange two groups, unless nothing would happen, a part would be empty or a minimum would be lost."""
        (first, second), (gone, come), null = pair, groups, self.null
        if gone == come:
            return False
        if come == null and len(self.members[first]) <= self.least[first]:
            return False
        if gone == null and len(self.members[second]) <= self.least[second]:
            return False
        counts = self.problem.counts
        change = (counts[come] if come != null else 0) - (counts[gone] if gone != null else 0)
        new = self.sums[[first, second]] + np.stack([change, -change])
        need = self.problem.need[[first, second]]
        if ((new < need) & (new < self.sums[[first, second]])).any():
            return False
        self.sums[[first, second]] = new
        for part, sign in ((first, 1), (second, -1)):
            if part in self.off:
                self.off[part] = self.off[part] + sign * (self.steps_of[part][come] - self.steps_of[part][gone])
                self.mix[part] = self.mix[part] + sign * (self.mixes_of[part][come] - self.mixes_of[part][gone])
        self._swap(pair, groups, places)
        return True

    def _swap(self, pair: tuple[int, int], groups: tuple[int, int], places: tuple[int, int]) -> None:
        (first, second), (gone, come), null = pair, groups, self.null
        mine, theirs = self.members[first], self.members[second]
        if gone == null:
            self.members[second] = np.delete(theirs, places[1])
            self.members[first] = np.insert(mine, 0, come)
        elif come == null:
            self.members[first] = np.delete(mine, places[0])
            self.members[second] = np.insert(theirs, 0, gone)
        else:
            mine[places[0]], theirs[places[1]] = come, gone
        if come != null:
            self.parts[come] = first
        if gone != null:
            self.parts[gone] = second
