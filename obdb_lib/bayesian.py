"""Where to look next: log expected improvement, averaged over a Gaussian process's hyperparameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import qmc

from obdb_lib.gaussian import Posterior, fit

Array = NDArray[np.float64]

DESIGNS = 64
"""Latin hypercubes of which the one with the farthest nearest neighbours begins a search."""
CANDIDATES = 1024
"""Space-filling places among which the search for the best one begins; a power of two."""
STARTS, ROUNDS, NEARBY = 6, 6, 24
"""Best places that are refined; how often; and how many places around each are tried."""
INCUMBENTS, NEAR_INCUMBENTS = 4, 128
"""Best points so far around which places are tried from the beginning, and how many."""
STEP = 0.25
"""Standard deviation of the first steps, in unit cubes; it is halved each round."""
WINSOR, TAIL = 1.5, 0.1
"""Values worse than the median by so many times the median's distance to the best are drawn in,
with a logarithmic tail of the second's height."""


def design(count: int, dimension: int, known: Array, dice: np.random.Generator) -> Array:
    """Points (count, dimension) of the unit cube, far from each other and from ``known`` (N, dimension)."""
    best, score = np.empty((count, dimension)), -1.0
    for _ in range(DESIGNS):
        points = qmc.LatinHypercube(dimension, rng=dice).random(count)
        gaps = np.linalg.norm(points[:, None] - np.concatenate([points, known])[None], axis=2)
        gaps[np.arange(count), np.arange(count)] = np.inf
        nearest = float(gaps.min()) if gaps.size > 1 else 1.0
        if nearest > score:
            best, score = points, nearest
    return best


def suggest(points: Array, values: Array, dice: np.random.Generator, snap: Callable[[Array], Array]) -> Array:
    """The place of the unit cube (D,) with the highest expected improvement over the lowest value.

    Args:
        points: (N, D) in the unit cube, already tried.
        values: (N,) finite, lower is better; any scale.
        dice: the same points, values and dice give the same place.
        snap: moves places (M, D) to ones that can be tried (whole numbers).
    """
    process = fit(points, tamed(values), dice)
    goal = process.predict(points)[0].min(axis=1)
    sobol = qmc.Sobol(points.shape[1], rng=dice).random(CANDIDATES)
    near = _around(points[np.argsort(values, kind="stable")[:INCUMBENTS]], NEAR_INCUMBENTS, STEP, dice)
    places = snap(np.concatenate([sobol, near]))
    score = log_improvement(process, places, goal)
    for number in range(ROUNDS):
        chosen = np.argsort(-score, kind="stable")[:STARTS]
        fresh = snap(_around(places[chosen], NEARBY, STEP / 2 ** (number + 1), dice))
        places = np.concatenate([places[chosen], fresh])
        score = np.concatenate([score[chosen], log_improvement(process, fresh, goal)])
    return np.asarray(places[int(np.argmax(score))])


def tamed(values: Array) -> Array:
    """Values of about zero mean and unit variance that one diverged training cannot spoil; their order is kept.

    Winsorised with a logarithmic tail: how much better the best is stays, what is left of the bad is their order.
    """
    middle = float(np.median(values))
    reach = WINSOR * (middle - float(values.min()))
    beyond = np.maximum(values - middle - reach, 0.0)
    capped = np.minimum(values, middle + reach)
    if reach > 0:
        capped = capped + TAIL * reach * np.log1p(beyond / reach)
    return _standard(capped)


def log_improvement(process: Posterior, places: Array, goal: Array) -> Array:
    """Logarithm of the expected improvement below ``goal`` (K,) at ``places`` (M, D), averaged over the K sets: (M,).

    The logarithm keeps a slope where the improvement itself vanishes (Ament et al., NeurIPS 2023).
    """
    mean, spread = process.predict(places)
    score = _log_h((goal[:, None] - mean) / spread) + np.log(spread)
    return np.asarray(np.logaddexp.reduce(score, axis=0) - np.log(len(score)))


def _around(starts: Array, count: int, step: float, dice: np.random.Generator) -> Array:
    """``count`` places around each start, in some directions only; cut off at the walls, so that walls are tried."""
    dimension = starts.shape[1]
    shape = (len(starts), count, dimension)
    moved = dice.random(shape) < max(2 / dimension, 0.4)
    shift = dice.normal(size=shape) * step * np.exp(dice.uniform(-1.5, 0.5, (len(starts), count, 1)))
    return np.asarray(np.clip(starts[:, None, :] + shift * moved, 0, 1)).reshape(-1, dimension)


def _log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)), also where it is below the smallest number."""
    log_phi = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    near = np.maximum(z, -20.0)
    near_phi = -0.5 * near**2 - 0.5 * np.log(2 * np.pi)
    direct = near_phi + np.log1p(near * np.exp(log_ndtr(near) - near_phi))
    return np.asarray(np.where(z > -20.0, direct, log_phi - 2 * np.log(np.maximum(-z, 1.0))))


def _standard(values: Array) -> Array:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 0 else 1.0))
