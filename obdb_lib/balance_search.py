"""Search for a balanced assignment: all of them where they are few, simulated annealing by moves and swaps else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obdb_lib.balance_problem import PEAK_WEIGHT, Matrix, Problem
from obdb_lib.boxes import IntArray

ALL_LIMIT = 1 << 16
"""So many assignments are simply all tried."""
STEPS = 20_000
"""Steps of annealing over all restarts; each weighs a block of moves and swaps. More is slower and better."""
STEPS_PER_GROUP, MIN_STEPS, MAX_RESTARTS = 120, 2_000, 4
"""Steps of one restart; few groups need few, and then restart, at most MAX_RESTARTS times."""
HOT, COLD = 0.07, 0.016
"""Share of the cost by which a step may be worse on average, at the start and at the end (Kirkpatrick, Gelatt, Vecchi,
"Optimization by Simulated Annealing", 1983; relative to the cost, so that it fits every data set)."""
_BLOCKS = ((5, 6), (8, 10), (12, 16), (18, 24), (26, 36))  # groups of the one and of the other part in a block
_SPARSE, _DENSE = 0.7, 0.9  # rates of steps that did something, below and above which blocks grow and shrink
_NORM = 4  # the largest deviation is searched as the 4-norm of all: smooth enough to follow; 8 and 16 end higher
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
    restarts = max(min(STEPS // steps, MAX_RESTARTS), len(starts), 1)
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
        self.least = [1 if (problem.fixed == part).any() else 2 for part in range(count)]
        self.parts = start.copy()
        self.sums = problem.sums(start)
        self.block = 2
        # A row of ``table``: what a group adds to the deviations of the peak columns, then to the mixes of all.
        self.peaks = int(problem.peak.sum())
        padded = np.vstack([problem.counts, np.zeros(problem.counts.shape[1])])
        self.table = {part: self._row(padded / problem.wanted[part]) for part in self.followed}
        self.norms = {part: (rows[:, self.peaks :] ** 2).sum(axis=1) for part, rows in self.table.items()}
        off = problem.deviation(self.sums)
        self.state = {part: self._row(off[part]) for part in self.followed}

    def _row(self, off: Matrix) -> Floats:
        columns = [off[..., self.problem.peak], off @ self.problem.factor]
        return np.concatenate(columns, axis=-1).astype(np.float32)

    def run(self, steps: int) -> IntArray:
        """(G,) the best assignment met on the way."""
        best, result = float(self.problem.cost(self.sums)), self.parts.copy()
        current, done = self._energy(), 0
        for step in range(steps):
            at = step % _CHUNK
            if not at:
                self._size(done if step else _CHUNK // 2)
                self._roll(HOT * (COLD / HOT) ** (step / steps))
                done = 0
            pair = self.pairs[at]
            energies, groups, places = self._weigh(pair, at)
            passing = (energies < current * self.slack[at]).nonzero()[0]
            if not len(passing):
                continue
            done += 1
            chosen = int(passing[int(self.pick[at] * len(passing))])
            row, column = divmod(chosen, len(groups[1]))
            if self._do(
                pair, (int(groups[0][row]), int(groups[1][column])), (int(places[0][row]), int(places[1][column]))
            ):
                current = float(energies[chosen])
                highest = max(float(np.abs(state[: self.peaks]).max(initial=0)) for state in self.state.values())
                if PEAK_WEIGHT * highest**2 < best:
                    cost = float(self.problem.cost(self.sums))
                    if cost < best:
                        best, result = cost, self.parts.copy()
        return result

    def _size(self, done: int) -> None:
        """Larger blocks where few steps find an exchange that passes, smaller ones where nearly all do."""
        change = (done < _SPARSE * _CHUNK) - (done > _DENSE * _CHUNK)
        self.block = int(np.clip(self.block + change, 0, len(_BLOCKS) - 1))

    def _roll(self, temperature: float) -> None:
        """Dice for the next steps, thrown at once."""
        rows, columns = _BLOCKS[self.block]
        self.dice = (self.rng.random((_CHUNK, rows)), self.rng.random((_CHUNK, columns)))
        worse = self.rng.standard_exponential((_CHUNK, rows * columns), dtype=np.float32)
        self.slack = 1 + np.float32(temperature) * worse
        self.pick = self.rng.random(_CHUNK)
        self.pairs = [(0, 1)] * _CHUNK
        if len(self.members) > 2:
            rolled = [self.rng.permutation(len(self.members))[:2].tolist() for _ in range(_CHUNK)]
            self.pairs = [(first, second) for first, second in rolled]

    def _energy(self) -> float:
        peaks, squares = self._rest(())
        return float(PEAK_WEIGHT * peaks ** (2 / _NORM) + squares)

    def _rest(self, without: tuple[int, ...]) -> tuple[float, float]:
        """Sum of 4th powers and of squares over the followed parts that a step does not touch."""
        peaks, squares = 0.0, 0.0
        for part in self.followed:
            if part not in without:
                off, mix = self.state[part][: self.peaks], self.state[part][self.peaks :]
                peaks += float((off**_NORM).sum())
                squares += float(mix @ mix)
        return peaks, squares

    def _weigh(
        self, pair: tuple[int, int], at: int
    ) -> tuple[Floats, tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
        """Energy after each exchange of a block: groups of the first part (rows) against those of the second."""
        mine, theirs = self.members[pair[0]], self.members[pair[1]]
        places = (self.dice[0][at] * len(mine)).astype(np.int64), (self.dice[1][at] * len(theirs)).astype(np.int64)
        gone, come = mine.take(places[0]), theirs.take(places[1])
        rest_peaks, rest_squares = self._rest(pair)
        peaks, squares = np.float32(rest_peaks), np.float32(rest_squares)
        for part in pair:
            if part not in self.state:
                continue
            # Seen from the second part the exchange has its signs turned, which neither power nor square notices.
            state = self.state[part] if part == pair[0] else -self.state[part]
            left, right = state - self.table[part].take(gone, axis=0), self.table[part].take(come, axis=0)
            powers = left[:, None, : self.peaks] + right[None, :, : self.peaks]
            powers *= powers
            flat = powers.reshape(len(left) * len(right), self.peaks)  # -1 is undefined where no column is a peak
            peaks = peaks + np.einsum("kf,kf->k", flat, flat)
            left, right = left[:, self.peaks :], right[:, self.peaks :]
            cross = left @ (2 * right.T)
            cross += self.norms[part].take(come)
            cross += np.einsum("af,af->a", left, left)[:, None]
            squares = squares + cross
        energies = PEAK_WEIGHT * np.sqrt(peaks) + squares.reshape(-1)
        return energies, (gone, come), places

    def _do(self, pair: tuple[int, int], groups: tuple[int, int], places: tuple[int, int]) -> bool:
        """Exchange two groups, unless nothing would happen, a part would be empty or a minimum would be lost."""
        (first, second), (gone, come), null = pair, groups, self.null
        if gone == come:
            return False
        if come == null and len(self.members[first]) <= self.least[first]:
            return False
        if gone == null and len(self.members[second]) <= self.least[second]:
            return False
        counts, need = self.problem.counts, self.problem.need
        change = (counts[come] if come != null else 0) - (counts[gone] if gone != null else 0)
        mine, theirs = self.sums[first] + change, self.sums[second] - change
        if ((mine < need[first]) & (change < 0)).any() or ((theirs < need[second]) & (change > 0)).any():
            return False
        self.sums[first], self.sums[second] = mine, theirs
        for part, sign in ((first, 1), (second, -1)):
            if part in self.state:
                self.state[part] = self.state[part] + sign * (self.table[part][come] - self.table[part][gone])
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
