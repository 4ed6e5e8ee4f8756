"""The algorithms of a search by name, all of them Sherpa algorithms: any of them runs in a Sherpa study.

``bayesian`` is ours; ``tpe`` asks Optuna's sampler; ``gpyopt``, ``random`` and ``successive_halving`` are Sherpa's own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from obdb_lib import bayesian
from obdb_lib.cache import content_hash
from obdb_lib.errors import TrainingError
from obdb_lib.search_space import Space, records
from obdb_lib.sherpa_door import load_sherpa

Algorithm = Literal["bayesian", "gpyopt", "tpe", "random", "successive_halving"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
HALVING_RATE = 3
"""Of the trials at one number of epochs, one in so many goes on to so many times the epochs."""


def make_algorithm(
    name: str,
    space: Space,
    *,
    seed: int,
    max_num_trials: int,
    num_initial_data_points: int | Literal["infer"] = "infer",
    first: Sequence[Mapping[str, float]] = (),
    epochs: int | None = None,
) -> Any:
    """A Sherpa algorithm that suggests points of ``space``.

    Args:
        name: one of ``ALGORITHMS``.
        seed: of the dice of ``bayesian``, ``tpe`` and their initial points; Sherpa's own throw numpy's global ones.
        max_num_trials: trials in all.
        num_initial_data_points: trials before a model speaks, ``first`` among them; "infer" is one more than there are
            parameters.
        first: points known to be good, tried first, whatever the algorithm; moved into the ranges.
        epochs: most epochs of a trial; ``successive_halving`` needs it.

    Raises:
        TrainingError: no such algorithm, or ``successive_halving`` without epochs to halve.
    """
    if name not in ALGORITHMS:
        raise TrainingError(f"unknown search algorithm {name!r}; known: {', '.join(ALGORITHMS)}")
    known = [space.clip(point) for point in first]
    count = len(space.names) + 1 if num_initial_data_points == "infer" else num_initial_data_points
    count = max(count, len(known), 2)
    sherpa = load_sherpa()
    if name == "gpyopt":
        # more than one at a time fails in GPyOpt's local penalisation
        return sherpa.algorithms.GPyOpt(
            num_initial_data_points=count, initial_data_points=known, max_concurrent=1, max_num_trials=max_num_trials
        )
    if name == "successive_halving":
        if epochs is None or epochs < HALVING_RATE:
            raise TrainingError(
                f"successive_halving needs an objective that reports by epoch (training_objective) and at least "
                f"{HALVING_RATE} epochs a trial; got {epochs}. Raise search_epochs or take algorithm='bayesian'"
            )
        halving = sherpa.algorithms.SuccessiveHalving(r=1, R=epochs, eta=HALVING_RATE, max_finished_configs=None)
        halving.rs = _classes()["random"](space, seed, count, known)
        return halving
    return _classes()[name](space, seed, count, known)


@functools.cache
def _classes() -> dict[str, Any]:
    """Our algorithms; made late, since their base class comes with Sherpa."""
    sherpa = load_sherpa()

    class FirstThenOwn(sherpa.algorithms.Algorithm):  # type: ignore[misc,name-defined]  # sherpa has no types
        """Points known to be good, a space-filling rest of the initial ones, then ``look``.

        What it suggests depends on the seed, the number of the trial and the results alone, so a study that is
        continued from its record suggests what the undisturbed one would have.
        """

        def __init__(self, space: Space, seed: int, count: int, first: list[dict[str, float]]) -> None:
            self.space, self.seed, self.first, self.count, self.number = space, seed, first, count, 0

        def get_suggestion(
            self, parameters: Any = None, results: pd.DataFrame | None = None, lower_is_better: bool = True
        ) -> dict[str, float]:
            number, self.number = self.number, self.number + 1
            if number < len(self.first):
                return dict(self.first[number])
            dice = np.random.default_rng(int(content_hash([self.seed, number]), 16))
            points, values = _finished(results, self.space, 1.0 if lower_is_better else -1.0)
            if number < self.count:
                return self.begin(number, dice)
            if not len(values):  # all failed so far: anywhere else
                return self.space.to_point(self.space.snap(dice.random((1, len(self.space.names))))[0])
            return self.look(points, values, dice)

        def begin(self, number: int, dice: np.random.Generator) -> dict[str, float]:
            shared = np.random.default_rng(int(content_hash([self.seed, "design"]), 16))
            known = self.space.to_unit(self.first).reshape(-1, len(self.space.names))
            rest = bayesian.design(self.count - len(self.first), len(self.space.names), known, shared)
            return self.space.to_point(rest[number - len(self.first)])

        def look(
            self, points: list[dict[str, float]], values: np.ndarray, dice: np.random.Generator
        ) -> dict[str, float]:
            raise NotImplementedError  # each algorithm below looks in its own way

    class Bayesian(FirstThenOwn):
        def look(
            self, points: list[dict[str, float]], values: np.ndarray, dice: np.random.Generator
        ) -> dict[str, float]:
            return self.space.to_point(bayesian.suggest(self.space.to_unit(points), values, dice, self.space.snap))

    class Random(FirstThenOwn):
        def begin(self, number: int, dice: np.random.Generator) -> dict[str, float]:
            return self.space.to_point(self.space.snap(dice.random((1, len(self.space.names))))[0])

        def look(
            self, points: list[dict[str, float]], values: np.ndarray, dice: np.random.Generator
        ) -> dict[str, float]:
            return self.begin(0, dice)

    class Tpe(Random):
        def look(
            self, points: list[dict[str, float]], values: np.ndarray, dice: np.random.Generator
        ) -> dict[str, float]:
            return _ask_optuna(self.space, points, values, int(dice.integers(2**32)))

    return {"bayesian": Bayesian, "random": Random, "tpe": Tpe}


def _finished(results: pd.DataFrame | None, space: Space, sign: float) -> tuple[list[dict[str, float]], np.ndarray]:
    """Points and values, lower is better, of the trials that ended; failed ones count as the worst value seen."""
    if results is None or not len(results):
        return [], np.empty(0)
    ended = results[results["Status"] != "INTERMEDIATE"]
    values = sign * ended["Objective"].to_numpy(float)
    if not np.isfinite(values).any():
        return [], np.empty(0)
    values = np.where(np.isfinite(values), values, values[np.isfinite(values)].max())
    return records(ended, space.names), values


def _ask_optuna(space: Space, points: list[dict[str, float]], values: np.ndarray, seed: int) -> dict[str, float]:
    """What Optuna's TPE suggests after the given trials; lower values are better."""
    import optuna

    scales: dict[str, Any] = {
        name: optuna.distributions.IntDistribution(int(low), int(high))
        if name in space.whole
        else optuna.distributions.FloatDistribution(float(low), float(high), log=name in space.log)
        for name, (low, high) in space.ranges.items()
    }
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=1))
        for point, value in zip(points, values, strict=True):
            params = {n: int(point[n]) if n in space.whole else float(point[n]) for n in space.names}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=scales, value=float(value)))
        return dict(study.ask(scales).params)
    finally:
        optuna.logging.set_verbosity(before)
