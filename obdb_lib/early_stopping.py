"""Stop trials that are behind: a percentile rule on what trials had reached at the same epoch.

Sherpa's own ``MedianStoppingRule`` compares a young trial with what the others reached at their end, so it stops nearly
every one; this one looks at the same epoch (Golovin et al., Google Vizier, KDD 2017, section 3.2.2).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.errors import TrainingError
from obdb_lib.sherpa_door import load_sherpa


@dataclass(frozen=True)
class EarlyStopping:
    """When a trial is given up.

    Attributes:
        percentile: a trial goes on while its best value so far is at least as good as this percentage of the trials at
            that epoch: 50 is the median; a lower one stops fewer trials.
        warmup_epochs: epochs that every trial may have; more of them spare late starters.
        min_trials: trials that must have reached the epoch before any is stopped.
    """

    percentile: float = 50.0
    warmup_epochs: int = 2
    min_trials: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.percentile < 100 or self.warmup_epochs < 0 or self.min_trials < 1:
            raise TrainingError(
                "early stopping needs a percentile between 0 and 100, warmup_epochs from 0 and min_trials from 1; got "
                f"{self.percentile}, {self.warmup_epochs}, {self.min_trials}"
            )

    def behind(self, results: pd.DataFrame, trial: int, lower_is_better: bool) -> bool:
        """Is this trial to be stopped? ``results`` are a Sherpa study's rows."""
        if not len(results):
            return False
        rows = results[results["Status"] == "INTERMEDIATE"].sort_values("Iteration")
        mine = rows[rows["Trial-ID"] == trial]
        epoch = mine["Iteration"].max()
        if not len(mine) or epoch < max(self.warmup_epochs, 1):
            return False
        reached = []
        for _, theirs in rows[rows["Trial-ID"] != trial].groupby("Trial-ID"):
            if theirs["Iteration"].max() >= epoch:
                reached.append(_best(theirs[theirs["Iteration"] <= epoch]["Objective"], lower_is_better))
        reached = [value for value in reached if np.isfinite(value)]
        if len(reached) < self.min_trials:
            return False
        own = _best(mine["Objective"], lower_is_better)
        if not np.isfinite(own):
            return True
        limit = float(np.percentile(reached, 100 - self.percentile if lower_is_better else self.percentile))
        return own > limit if lower_is_better else own < limit


def sherpa_rule(rule: EarlyStopping) -> Any:
    """The rule as a Sherpa ``StoppingRule``, which a study asks by ``should_trial_stop``."""
    return _rule_class()(rule)


@functools.cache
def _rule_class() -> Any:
    sherpa = load_sherpa()

    class SameEpochRule(sherpa.algorithms.StoppingRule):  # type: ignore[misc,name-defined]  # sherpa has no types
        def __init__(self, rule: EarlyStopping) -> None:
            self.rule = rule

        def should_trial_stop(self, trial: Any, results: pd.DataFrame, lower_is_better: bool) -> bool:
            return self.rule.behind(results, trial.id, lower_is_better)

    return SameEpochRule


def _best(values: pd.Series, lower_is_better: bool) -> float:
    return float(values.min() if lower_is_better else values.max())
