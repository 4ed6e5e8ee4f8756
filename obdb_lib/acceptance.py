"""The probability that a person would accept a candidate, learned from the annotations that are there.

Nobody has labelled the candidates, but there are positives: each annotation, taken as if it were not drawn, is a claim
that a person did accept. The candidates are a mixture of such plants and of false detections: learning from positive
and unlabelled examples, where boxes were forgotten independently of how they look (C. Elkan and K. Noto, "Learning
classifiers from only positive and unlabeled data", 2008). The share of plants among the candidates is estimated by the
best bin (S. Garg et al., "Mixture Proportion Estimation and PU Learning: A Modern Approach", 2021), and the scores are
turned into probabilities by the unbiased risk of M. du Plessis et al. ("Analysis of Learning from Positive and
Unlabeled Data", 2014). Decisions that people made join as what they are: labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from obdb_lib.boxes import IntArray
from obdb_lib.errors import DatasetError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FOLDS = 10
"""A claim is scored by models that saw neither it nor a claim of its group; more folds cost time."""
LEAST_EACH = 10
"""Positives and candidates needed before anything is learned; below it the detector's score has to do."""
DOUBT = 0.1
"""Chance that the estimated share of plants is too low by more than its slack (Garg et al., delta)."""
SLACK = 0.3
"""Share of the theoretical slack that is added; the full one is far too careful for a few hundred candidates."""
RIDGE = 1e-3
LEAST = 1e-6
OPEN, ANNOTATED, ACCEPTED, REJECTED, ASKED = "open", "annotated", "accepted", "rejected", "asked"
STATES = (OPEN, ANNOTATED, ACCEPTED, REJECTED, ASKED)
"""Open claims are candidates without a decision; asked ones are scored, and nothing is learned from them."""


@dataclass(frozen=True)
class Acceptance:
    """What was learned.

    Attributes:
        plant: (N,) float64, log odds that separate claims of people from candidates; comparable between all claims.
        probability: (N,) float64, 0..1, that a person would accept the claim that something is missing there.
        state: (N,) what each claim was.
        share: estimated share of the open candidates that would be accepted, 0..1.
        learned: False where there was too little to learn from and the detector's score stands in.
        text: one sentence on what the probabilities rest on.
    """

    plant: Floats
    probability: Floats
    state: NDArray[np.object_]
    share: float
    learned: bool
    text: str


def acceptance(evidence: pd.DataFrame, state: NDArray[np.object_], groups: IntArray, *, seed: int = 0) -> Acceptance:
    """Learn from annotations, candidates and decisions how likely each claim is to be accepted.

    Args:
        evidence: one row a claim, finite numbers; its column ``score`` (log odds) stands in where
            nothing can be learned.
        state: (N,) one of STATES a claim.
        groups: (N,) frames of one group (near twins, a video) have one number; no claim is scored by a model that
            saw its group, or candidates would be told apart by heart.
        seed: of the models.

    Raises:
        DatasetError: an unknown state, numbers that are not finite, or shapes that do not fit.
    """
    values = evidence.to_numpy(np.float64)
    _check(values, state, groups)
    positive = np.isin(state, (ANNOTATED, ACCEPTED))
    candidate = np.isin(state, (OPEN, ACCEPTED, REJECTED))
    decided = int(np.isin(state, (ACCEPTED, REJECTED)).sum())
    against = int((candidate & ~positive).sum())
    if min(int(positive.sum()), against) < LEAST_EACH or len(np.unique(groups[positive | candidate])) < 2:
        score = evidence["score"].to_numpy(np.float64)
        text = (
            f"Too little to learn from ({int(positive.sum())} annotations that the detector finds, {against} candidates"
            " against them): candidates are ordered by the detector's score and have no probability."
        )
        return Acceptance(score, _sigmoid(score), state, float("nan"), False, text)
    plant = _scores(values, positive, positive | candidate, groups, seed)
    known = plant[state == ANNOTATED] if (state == ANNOTATED).any() else plant[positive]
    share, probability = settled(plant, known, plant[candidate], state)
    text = (
        f"Learned from {int((state == ANNOTATED).sum())} annotations taken as if they were not drawn, "
        f"{int((state == OPEN).sum())} candidates and {decided} decisions."
    )
    return Acceptance(plant, probability, state, share, True, text)


def settled(scores: Floats, positives: Floats, candidates: Floats, state: NDArray[np.object_]) -> tuple[float, Floats]:
    """Share of plants among candidates, and the probability of each claim, from scores alone.

    Args:
        scores: (N,) of the claims; positives, candidates: scores of what both come from.
        state: (N,) of the claims; accepted and rejected ones are labels.
    """
    share = plant_share(positives, candidates)
    decided = np.isin(state, (ACCEPTED, REJECTED))
    curve = calibrated(positives, candidates, share, scores[decided], (state == ACCEPTED)[decided])
    return share, curve(scores)


def _check(values: Floats, state: NDArray[np.object_], groups: IntArray) -> None:
    unknown = sorted({str(one) for one in state} - set(STATES))
    if unknown:
        raise DatasetError(f"a claim is one of {', '.join(STATES)}; got {', '.join(unknown)}")
    if not (len(values) == len(state) == len(groups)):
        raise DatasetError(f"{len(values)} rows of evidence, {len(state)} states, {len(groups)} groups: not alike")
    if not np.isfinite(values).all():
        raise DatasetError(f"evidence must be finite; {int((~np.isfinite(values)).sum())} values are not")


def _scores(values: Floats, positive: Bools, taught: Bools, groups: IntArray, seed: int) -> Floats:
    """(N,) log odds of two unlike models, each claim by models that never saw its group; they learn from ``taught``."""
    from sklearn.model_selection import GroupKFold

    scores = np.zeros(len(values))
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed)
    for rest, held in folds.split(values, positive, groups):
        train = rest[taught[rest]]
        if len(np.unique(positive[train])) < 2:  # all of one side lies in the group held out: nothing tells it apart
            continue
        for model in _models(seed):
            model.fit(values[train], positive[train])
            chance = np.clip(model.predict_proba(values[held])[:, 1], LEAST, 1 - LEAST)
            scores[held] += np.log(chance / (1 - chance)) / 2
    return scores


def _models(seed: int) -> list[Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    straight: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
    bent = HistGradientBoostingClassifier(
        max_iter=120,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=20,
        l2_regularization=1.0,
        random_state=seed,
    )
    return [straight, bent]


def plant_share(positives: Floats, candidates: Floats) -> float:
    """Share of the candidates that come from where the positives come from (best bin estimation).

    Above any limit the candidates hold at least share * (positives above it) of them; the limit at which this says most
    is taken, less a slack that keeps a thin end from deciding.

    Args:
        positives, candidates: scores, the larger the more alike a positive.
    """
    limits = np.unique(np.concatenate([positives, candidates]))
    above = [1 - np.searchsorted(np.sort(one), limits, "left") / len(one) for one in (positives, candidates)]
    slack = SLACK * sum(np.sqrt(np.log(4 / DOUBT) / 2 / len(one)) for one in (positives, candidates))
    there = above[0] > 0
    ratio = (above[1][there] + slack) / above[0][there]
    best = int(np.argmin(ratio))
    # One plant at least: with none, all candidates would be equally hopeless and their order lost.
    return float(np.clip(above[1][there][best] / above[0][there][best], 1 / len(candidates), 1.0))


@dataclass(frozen=True)
class Curve:
    """A score's probability: the sigmoid of slope * (score - middle) / spread + offset."""

    slope: float
    offset: float
    middle: float
    spread: float

    def __call__(self, scores: Floats) -> Floats:
        return _sigmoid(self.slope * (scores - self.middle) / self.spread + self.offset)


def calibrated(positives: Floats, candidates: Floats, share: float, decided: Floats, accepted: Bools) -> Curve:
    """The curve with the least unbiased risk: positives weigh as the plants among the candidates.

    Args:
        positives, candidates: scores; the candidates hold the decided ones.
        share: of plants among the candidates, 0..1.
        decided: scores of candidates with a decision; accepted: (n,) bool, what was decided.
    """
    every = np.concatenate([positives, candidates])
    middle, spread = float(every.mean()), max(float(every.std()), 1e-9)
    known, mixed, told = ((one - middle) / spread for one in (positives, candidates, decided))
    sign = np.where(accepted, -1.0, 1.0)

    def risk(weights: Floats) -> float:
        slope, offset = weights
        on_known, on_mixed, on_told = (slope * one + offset for one in (known, mixed, told))
        plants = share * float(np.mean(np.logaddexp(0, -on_known) - np.logaddexp(0, on_known)))
        others = float(np.mean(np.logaddexp(0, on_mixed)))
        labels = float(np.logaddexp(0, sign * on_told).sum()) / max(len(mixed), 1)
        return plants + others + labels + RIDGE * float(slope**2)

    slope, offset = minimize(risk, np.array([1.0, -1.0]), method="L-BFGS-B", bounds=[(0.0, 20.0), (-20.0, 20.0)]).x
    return Curve(float(slope), float(offset), middle, spread)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -50, 50))), dtype=np.float64)
