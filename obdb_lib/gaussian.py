"""A small Gaussian process whose hyperparameters are averaged over, not fitted: made for the few trials of a search.

With so few points one best-fitting set of length scales is a guess; a sample of all that explain the points is not. The
posterior is drawn by affine-invariant ensemble moves (Goodman and Weare, Comm. Appl. Math. Comp. Sci. 5, 2010), many
sets of hyperparameters in one stacked Cholesky. Kernel: ARD Matern 5/2 (Snoek, Larochelle and Adams, NeurIPS 2012) on a
straight trend. Priors: log-normal, the length scales' growing with the root of the dimension
(Hvarfner, Hellsten and Nardi, ICML 2024). scikit-learn's regressor knows no priors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LENGTH_MEDIAN, LENGTH_SPREAD = 0.5, 0.8
"""Prior of a length scale in the unit cube, times the root of the dimension; a longer one trusts trends more."""
SIGNAL_MEDIAN, SIGNAL_SPREAD = 1.0, 0.7
NOISE_MEDIAN, NOISE_SPREAD = 1e-3, 1.5
"""Prior of the variances of signal and noise, for values of unit variance."""
WALKERS, MOVES = 40, 80
"""Sets of hyperparameters that walk, and how often each half moves before they are kept."""
SLOPE_MEDIAN, SLOPE_SPREAD = 0.05, 1.5
"""Prior of the variance of a straight trend's slopes: what leads to a corner when the best lies in one."""
CENTRE = 0.5
STRETCH = 2.0
"""Reach of a move; Goodman and Weare's choice."""
KEPT = 20
"""Sets that predictions are averaged over; the time of a suggestion grows with it."""
JITTER = 1e-8


@dataclass(frozen=True)
class Posterior:
    """Gaussian processes of K sets of hyperparameters, all given the same N points of D inputs.

    Attributes:
        points: (N, D), unit cube.
        lengths: (K, D).
        signal: (K,) variances.
        slope: (K,) variances of a straight trend's slopes.
        noise: (K,) variances.
        mean: (K,) of each process far from all points.
        inverse: (K, N, N) inverses of the lower Cholesky factors of the covariances.
        weights: (K, N), covariance's inverse times the centred values.
    """

    points: Array
    lengths: Array
    signal: Array
    slope: Array
    noise: Array
    mean: Array
    inverse: Array
    weights: Array

    def predict(self, places: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (K, M) of the noise-free value at ``places`` (M, D), for each set."""
        cross = _covariance(places, self.points, self.lengths, self.signal, self.slope)
        mean = self.mean[:, None] + np.einsum("kmn,kn->km", cross, self.weights)
        solved = cross @ self.inverse.transpose(0, 2, 1)
        own = self.signal[:, None] + self.slope[:, None] * ((places - CENTRE) ** 2).sum(axis=1)
        variance = own - np.einsum("kmn,kmn->km", solved, solved)
        return mean, np.sqrt(np.maximum(variance, 1e-12))


def fit(points: Array, values: Array, rng: np.random.Generator) -> Posterior:
    """Draw ``KEPT`` sets of hyperparameters that explain ``values`` and condition a process on each.

    Args:
        points: (N, D) in the unit cube, N at least 1.
        values: (N,), about zero mean and unit variance.
        rng: the dice.
    """
    walkers = _prior_draws(points.shape[1], WALKERS, rng)
    height = _log_posterior(walkers, points, values)
    half = WALKERS // 2
    for move in range(2 * MOVES):
        mine, other = (slice(0, half), slice(half, None)) if move % 2 else (slice(half, None), slice(0, half))
        _move(walkers, height, mine, walkers[other][rng.integers(half, size=half)], points, values, rng)
    chosen = walkers[rng.permutation(WALKERS)[:KEPT]]
    return _condition(chosen, points, values)


def _move(
    walkers: Array,
    height: Array,
    mine: slice,
    others: Array,
    points: Array,
    values: Array,
    rng: np.random.Generator,
) -> None:
    """Stretch half of the walkers along the lines to some of the other half; keep what the posterior accepts."""
    dimension = walkers.shape[1]
    stretch = ((STRETCH - 1) * rng.random(len(others)) + 1) ** 2 / STRETCH
    proposed = others + stretch[:, None] * (walkers[mine] - others)
    new = _log_posterior(proposed, points, values)
    accept = np.log(rng.random(len(others))) < (dimension - 1) * np.log(stretch) + new - height[mine]
    walkers[mine] = np.where(accept[:, None], proposed, walkers[mine])
    height[mine] = np.where(accept, new, height[mine])


def _prior(dimension: int) -> tuple[Array, Array]:
    """Means and spreads of the logarithms: D length scales, signal, slope, noise."""
    means = np.log([LENGTH_MEDIAN * dimension**0.5] * dimension + [SIGNAL_MEDIAN, SLOPE_MEDIAN, NOISE_MEDIAN])
    return means, np.array([LENGTH_SPREAD] * dimension + [SIGNAL_SPREAD, SLOPE_SPREAD, NOISE_SPREAD])


def _prior_draws(dimension: int, count: int, rng: np.random.Generator) -> Array:
    means, spreads = _prior(dimension)
    return means + spreads * rng.normal(size=(count, dimension + 3))


def _log_posterior(logs: Array, points: Array, values: Array) -> Array:
    """Logarithm of likelihood times prior, but for a constant; ``logs`` (K, D + 3), the mean integrated out."""
    means, spreads = _prior(points.shape[1])
    prior = -0.5 * (((logs - means) / spreads) ** 2).sum(axis=1)
    process = _condition(logs, points, values)
    match = -0.5 * process.weights @ values
    log_root = np.log(np.diagonal(process.inverse, axis1=1, axis2=2)).sum(axis=1)
    ones = process.inverse.sum(axis=2)
    height = prior + match + log_root - 0.5 * np.log((ones**2).sum(axis=1))
    return np.where(np.isfinite(height), height, -np.inf)


def _condition(logs: Array, points: Array, values: Array) -> Posterior:
    count = points.shape[1]
    clipped = np.exp(np.clip(logs, -16, 8))
    lengths, (signal, slope, noise) = clipped[:, :count], clipped[:, count:].T
    covariance = _covariance(points, points, lengths, signal, slope)
    covariance += np.eye(len(points)) * (noise + JITTER + 1e-7 * signal)[:, None, None]
    inverse = np.linalg.inv(np.linalg.cholesky(covariance))
    ones, centred = inverse.sum(axis=2), inverse @ values
    mean = (ones * centred).sum(axis=1) / (ones**2).sum(axis=1)  # generalised least squares
    weights = np.einsum("kmn,km->kn", inverse, centred - mean[:, None] * ones)
    return Posterior(points, lengths, signal, slope, noise, mean, inverse, weights)


def _covariance(left: Array, right: Array, lengths: Array, signal: Array, slope: Array) -> Array:
    """Covariances (K, M, N) of the noise-free values: a Matern process on a straight trend."""
    trend = (left - CENTRE) @ (right - CENTRE).T
    return _matern(left, right, lengths) * signal[:, None, None] + slope[:, None, None] * trend


def _matern(left: Array, right: Array, lengths: Array) -> Array:
    """Matern 5/2 correlations (K, M, N) between (M, D) and (N, D) points for (K, D) length scales."""
    squares = (left[:, None, :] - right[None, :, :]) ** 2
    distance = np.sqrt(5 * np.einsum("mnd,kd->kmn", squares, lengths**-2))
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))
