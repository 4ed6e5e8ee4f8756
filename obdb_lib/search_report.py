"""What a search teaches beyond its best trial: which parameters matter, and whether short trials may be believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from obdb_lib import bayesian, gaussian
from obdb_lib.errors import TrainingError
from obdb_lib.search_space import LOG_SCALE, WHOLE_NUMBERS, Space, records
from obdb_lib.settings import Hyperparameters

FEW_PAIRS = 10
"""Below so many pairs the interval of a rank correlation is wider than most answers to it."""
GRID, BACKGROUND = 16, 256
"""Places along a parameter, and settings of the others over which the model's mean is averaged."""
Z_95 = 1.96


@dataclass(frozen=True)
class RankAgreement:
    """How far two ways to value the same settings order them alike.

    Attributes:
        pairs: settings that were valued both ways.
        spearman, kendall: rank correlations, -1..1; NaN below three pairs or when one side is all equal.
        low, high: 95 % interval of ``spearman``; NaN below four pairs.
        text: the finding in words.
    """

    pairs: int
    spearman: float
    kendall: float
    low: float
    high: float
    text: str


def importance(trials: pd.DataFrame, parameters: Sequence[str], *, seed: int = 0) -> pd.Series:
    """Share of the objective's variation that each parameter explains alone, 0..1, by the search's own model.

    The Gaussian process of ``bayesian`` is fitted to the trials; a parameter's main effect is the variance of its mean
    along it, all others averaged out, by the variance of the mean at all (Hutter, Hoos and Leyton-Brown, ICML 2014).
    What is missing to 1 are effects of parameters together. Trials were not drawn at random, so this is a hint, not a
    proof.

    Args:
        trials: ``SearchResult.trials``; failed ones are left out. Stopped ones count with what they had reached: they
            are most of what is known of the bad places.
        parameters: columns of ``trials``.

    Returns:
        By parameter, highest first; NaN below three trials.
    """
    good = trials[trials["objective"].notna()]
    values = good["objective"].to_numpy(float)
    moving = [name for name in parameters if good[name].nunique() > 1]
    shares = dict.fromkeys(parameters, math.nan if len(good) < 3 else 0.0)
    if len(good) >= 3 and moving and np.ptp(values) > 0:
        ranges = {name: [float(good[name].min()), float(good[name].max())] for name in moving}
        log = tuple(name for name in LOG_SCALE if name in moving and ranges[name][0] > 0)
        points = Space(ranges, log, WHOLE_NUMBERS).to_unit(records(good, moving))
        shares.update(zip(moving, _main_effects(points, values, seed), strict=True))
    return pd.Series(shares, name="importance").sort_values(ascending=False)


def _main_effects(points: np.ndarray, values: np.ndarray, seed: int) -> list[float]:
    dice = np.random.default_rng(seed)
    process = gaussian.fit(points, bayesian.tamed(-values), dice)
    background = dice.random((BACKGROUND, points.shape[1]))
    whole = float(process.predict(background)[0].mean(axis=0).var())
    shares = []
    for column in range(points.shape[1]):
        along = []
        for place in (np.arange(GRID) + 0.5) / GRID:
            moved = background.copy()
            moved[:, column] = place
            along.append(float(process.predict(moved)[0].mean()))
        shares.append(min(float(np.var(along)) / whole, 1.0) if whole > 0 else 0.0)
    return shares


def rank_agreement(short: Sequence[float], full: Sequence[float]) -> RankAgreement:
    """Do short trials order settings as full trainings do?

    Args:
        short: value of each setting in the search.
        full: value of the same settings after a full training, in the same order and the same direction (both higher is
            better, or both lower).

    Raises:
        TrainingError: the two differ in length.
    """
    from scipy.stats import kendalltau, spearmanr

    pairs = pd.DataFrame({"short": list(short), "full": list(full)}) if len(short) == len(full) else None
    if pairs is None:
        raise TrainingError(f"a rank correlation needs pairs; got {len(short)} short and {len(full)} full values")
    pairs = pairs.astype(float).dropna()
    count = len(pairs)
    if count < 3 or pairs["short"].nunique() < 2 or pairs["full"].nunique() < 2:
        why = "nothing can be said below three" if count < 3 else "one side has one value only"
        return RankAgreement(count, math.nan, math.nan, math.nan, math.nan, f"{count} pairs: {why}")
    spearman = float(spearmanr(pairs["short"], pairs["full"]).statistic)
    kendall = float(kendalltau(pairs["short"], pairs["full"]).statistic)
    low, high = _interval(spearman, count)
    text = f"rank correlation {spearman:.2f} (Spearman), {kendall:.2f} (Kendall) over {count} settings"
    text += f", 95 % interval {low:.2f} to {high:.2f}" if count > 3 else ", too few for an interval"
    if count < FEW_PAIRS:
        text += f"; so few say little: a high value with fewer than {FEW_PAIRS} can be chance"
    elif low <= 0:
        text += "; it may as well be none: make trials longer before believing their order"
    return RankAgreement(count, spearman, kendall, low, high, text)


def check_by_training(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    train_fully: Callable[[Hyperparameters], float],
    *,
    count: int = 4,
) -> tuple[pd.DataFrame, RankAgreement]:
    """Train settings of the search fully, spread over its ranks from best to worst, and compare the two orders.

    Args:
        trials: ``SearchResult.trials``; completed ones are used.
        parameters: columns of ``trials`` to train with.
        train_fully: the value of a full training, in the objective's direction.
        count: settings to train, at least 2; each costs a full training.

    Returns:
        Trial, parameters, short and full value; and how well their orders agree.

    Raises:
        TrainingError: fewer than two completed trials.
    """
    good = trials[trials["status"] == "COMPLETED"].sort_values("objective", kind="stable")
    if len(good) < 2 or count < 2:
        raise TrainingError(f"comparing orders needs two completed trials and count of 2; got {len(good)} and {count}")
    places = np.unique(np.linspace(0, len(good) - 1, min(count, len(good))).round().astype(int))
    table = good.iloc[places][["trial", *parameters, "objective"]].rename(columns={"objective": "short"})
    plain = [
        {name: int(row[name]) if name in WHOLE_NUMBERS else row[name] for name in parameters}
        for row in records(table, parameters)
    ]
    table["full"] = [train_fully(Hyperparameters.model_validate(values)) for values in plain]
    return table.reset_index(drop=True), rank_agreement(table["short"].tolist(), table["full"].tolist())


def _interval(spearman: float, count: int) -> tuple[float, float]:
    """Fisher's interval with the variance for ranks of Bonett and Wright (Psychometrika 65, 2000)."""
    if count < 4:
        return math.nan, math.nan
    middle = math.atanh(min(max(spearman, -0.999999), 0.999999))
    half = Z_95 * math.sqrt((1 + spearman**2 / 2) / (count - 3))
    return math.tanh(middle - half), math.tanh(middle + half)
