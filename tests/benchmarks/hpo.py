"""The lab's ``bayesian`` search against random search, Sherpa's GPyOpt, Optuna's TPE and Optuna's GPSampler.

Upstream's five parameters, ranges and numbers of trials (16, of which 5 are initial) on four tasks. What the bars judge
begins cold: no method is told a good point. A note says how the two best do on digits when both are told the one that
the lab tells every search (``tuning.KNOWN_GOOD``). GPyOpt on upstream's linear ranges and on log ranges are the same
where no range is on a log scale. Ranks are of the best loss after 16 trials among all methods of a task and seed; ties
share their mean rank.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: tiny products, on which threads only wait

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np
from scipy.stats import rankdata

from tests.benchmarks._bars import arguments, bar, report
from tests.benchmarks._hpo_tasks import Point, Task, tasks

TRIALS, INITIAL, EARLY = 16, 5, 12
SEEDS, QUICK_SEEDS = 20, 2
WORKERS = 2
TOLD = " told"
METHODS = ("random", "gpyopt linear", "gpyopt log", "optuna tpe", "optuna gp", "bayesian")


class Searcher(Protocol):
    """Something that is asked for a point and told its loss."""

    def ask(self) -> Point: ...

    def tell(self, loss: float) -> None: ...


class ByOptuna:
    """One of Optuna's samplers."""

    def __init__(self, task: Task, sampler: Any, first: Sequence[Point] = ()) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.task, self.study = task, optuna.create_study(sampler=sampler)
        for point in first:
            self.study.enqueue_trial(point)

    def ask(self) -> Point:
        self.trial = self.study.ask()
        point: Point = {}
        for name, (low, high) in self.task.ranges.items():
            if name in self.task.whole:
                point[name] = self.trial.suggest_int(name, int(low), int(high))
            else:
                point[name] = self.trial.suggest_float(name, low, high, log=name in self.task.log)
        return point

    def tell(self, loss: float) -> None:
        self.study.tell(self.trial, loss)


class BySherpa:
    """An algorithm in a Sherpa study, as the lab's own search runs it."""

    def __init__(self, task: Task, algorithm: str, seed: int, first: Sequence[Point] = ()) -> None:
        from obdb_lib.search_algorithms import make_algorithm
        from obdb_lib.search_run import dice, make_study
        from obdb_lib.search_space import Space

        space = Space(task.ranges, task.log, task.whole)
        method = make_algorithm(
            algorithm, space, seed=seed, max_num_trials=TRIALS, num_initial_data_points=INITIAL, first=first
        )
        self.study, self.seed, self.dice = make_study(space, method, lower_is_better=True), seed, dice

    def ask(self) -> Point:
        with self.dice(self.seed, self.study.num_trials):
            self.trial = self.study.get_suggestion()
        return dict(self.trial.parameters)

    def tell(self, loss: float) -> None:
        self.study.add_observation(self.trial, loss)
        self.study.finalize(self.trial)


def make(method: str, task: Task, seed: int) -> Searcher:
    """A method's searcher for one task and seed; told the known good point when the name says so."""
    first = [known_good(task)] if method.endswith(TOLD) else []
    method = method.removesuffix(TOLD)
    if method == "bayesian":
        return BySherpa(task, "bayesian", seed, first)
    if method == "gpyopt log":
        return BySherpa(task, "gpyopt", seed)
    if method == "gpyopt linear":
        return BySherpa(replace(task, log=()), "gpyopt", seed)
    from optuna.samplers import GPSampler, RandomSampler, TPESampler

    samplers: dict[str, Callable[[], Any]] = {
        "random": lambda: RandomSampler(seed=seed),
        "optuna tpe": lambda: TPESampler(seed=seed, n_startup_trials=INITIAL),
        "optuna gp": lambda: GPSampler(seed=seed, n_startup_trials=INITIAL),
    }
    return ByOptuna(task, samplers[method](), first)


def known_good(task: Task) -> Point:
    """The point that the lab tells every search, moved into the task's ranges."""
    from obdb_lib.search_space import Space
    from obdb_lib.tuning import KNOWN_GOOD

    return Space(task.ranges, task.log, task.whole).clip(KNOWN_GOOD.model_dump())


@dataclass(frozen=True)
class Outcome:
    """A method on a task: best loss so far (seeds, trials), and CPU seconds of its slowest suggestion."""

    best: np.ndarray
    slowest_s: float


def run(job: tuple[str, str, Sequence[int]]) -> tuple[str, str, Outcome]:
    """All seeds of a method on a task, side by side."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    name, method, seeds = job
    task = next(one for one in tasks() if one.name == name)
    searchers = [make(method, task, seed) for seed in seeds]
    losses, slowest = np.empty((len(seeds), TRIALS)), 0.0
    for trial in range(TRIALS):
        points = []
        for searcher in searchers:
            begun = time.process_time()
            points.append(searcher.ask())
            slowest = max(slowest, time.process_time() - begun)
        losses[:, trial] = task.loss(list(zip(seeds, points, strict=True)))
        for searcher, loss in zip(searchers, losses[:, trial], strict=True):
            searcher.tell(float(loss))
    return name, method, Outcome(np.minimum.accumulate(losses, axis=1), slowest)


def jobs(seeds: Sequence[int]) -> list[tuple[str, str, Sequence[int]]]:
    """Every method on every task, longest first; GPyOpt's two are one where no range is on a log scale."""
    slow = ("gpyopt linear", "gpyopt log", "bayesian", "optuna gp", "optuna tpe", "random")
    told = [("digits", method + TOLD, seeds) for method in ("bayesian", "optuna gp")]
    return told + [
        (task.name, method, seeds) for method in slow for task in tasks() if task.log or method != "gpyopt linear"
    ]


def measure(seeds: Sequence[int]) -> dict[str, dict[str, Outcome]]:
    """Outcomes by task and method."""
    found: dict[str, dict[str, Outcome]] = {}
    with get_context("spawn").Pool(WORKERS) as pool:
        for name, method, outcome in pool.imap_unordered(run, jobs(seeds)):
            found.setdefault(name, {})[method] = outcome
    for by_method in found.values():
        by_method.setdefault("gpyopt linear", by_method["gpyopt log"])
    return found


def mean_ranks(found: dict[str, dict[str, Outcome]]) -> dict[str, float]:
    """Mean rank of each method's best loss after all trials, over tasks and seeds; 1 is best."""
    rows = [
        rankdata(losses)
        for by_method in found.values()
        for losses in np.stack([by_method[method].best[:, -1] for method in METHODS], axis=1)
    ]
    return dict(zip(METHODS, np.mean(rows, axis=0).tolist(), strict=True))


def needed(lines: np.ndarray, goals: np.ndarray) -> list[int]:
    """Trials until each seed's best so far is as good as its goal; one more than there are when it never is."""
    return [
        int(np.append(np.flatnonzero(line <= goal), TRIALS)[0]) + 1 for line, goal in zip(lines, goals, strict=True)
    ]


def main() -> None:
    options = arguments(__doc__)
    found = measure(range(QUICK_SEEDS if options.quick else SEEDS))
    ranks = mean_ranks(found)
    others = min(rank for method, rank in ranks.items() if method != "bayesian")
    ours, theirs = (found["digits"][method].best for method in ("bayesian", "optuna gp"))
    told, they_told = (found["digits"][method + TOLD].best for method in ("bayesian", "optuna gp"))
    medians = {
        task: ", ".join(f"{method} {np.median(by_method[method].best[:, -1]):.3g}" for method in METHODS)
        for task, by_method in found.items()
    }
    bars = [
        bar(
            "mean rank after 16 trials: best of the others minus bayesian's",
            others - ranks["bayesian"],
            "> 0",
            ", ".join(f"{method} {rank:.2f}" for method, rank in ranks.items()),
        ),
        bar(
            "digits: trials until Optuna GPSampler's result of 16, median over seeds (17: not reached)",
            float(np.median(needed(ours, theirs[:, -1]))),
            f"<= {EARLY}",
            f"median loss of bayesian after {EARLY}: {np.median(ours[:, EARLY - 1]):.3f}, of GPSampler after {TRIALS}: "
            f"{np.median(theirs[:, -1]):.3f}; both told a good point: {np.median(told[:, EARLY - 1]):.3f} and "
            f"{np.median(they_told[:, -1]):.3f}, {np.median(needed(told, they_told[:, -1])):g} trials",
        ),
        bar(
            "slowest suggestion of bayesian, CPU seconds",
            max(by_method["bayesian"].slowest_s for by_method in found.values()),
            "< 1",
            "; ".join(f"{task}, median best loss: {text}" for task, text in medians.items()),
        ),
    ]
    report("hpo", bars, only_json=options.json)


if __name__ == "__main__":
    main()
