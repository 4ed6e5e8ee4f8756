"""Limits of an interval from resamples, corrected for bias and skew.

Why not plain percentiles: average precision takes the best precision at a recall or more, so it comes out too high in a
small sample, and higher still in a resample of one; and one frame with many hard boxes bends it more by being absent
than by being there twice. Percentiles copy that bias upwards a second time and sat oddly above the score.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from obdb_lib.matches import Floats


def bca_limits(value: Floats, draws: Floats, left_out: Floats, level: float) -> tuple[Floats, Floats]:
    """The bias-corrected and accelerated interval (Efron 1987, "Better Bootstrap Confidence Intervals", J. Am. Stat.
    Assoc. 82, 171-185; Davison & Hinkley 1997, "Bootstrap Methods and their Application", 5.3.2).

    Limits are quantiles of the draws, moved by two numbers: how far the score is from the median of its draws (bias),
    and how skewed the influence of single groups is (acceleration, by the jackknife). Without bias and skew they are
    the percentiles. A score is always within its own limits.

    Args:
        value: any shape S, the scores; NaN gets NaN limits.
        draws: (B, *S), the scores of the resamples; NaN where a resample cannot be judged, which is left out.
        left_out: (J, *S), the scores without one group (or part of the groups) each; NaN is left out, too.
        level: share between the limits, 0..1.
    """
    low, high = np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    for place in np.ndindex(*value.shape):
        point, own, others = float(value[place]), draws[(slice(None), *place)], left_out[(slice(None), *place)]
        own, others = own[np.isfinite(own)], others[np.isfinite(others)]
        if np.isfinite(point) and len(own):
            ends = np.quantile(own, _levels(point, own, _acceleration(others), level))
            # Only with nearly all draws on one side of the score would the limits pass it by.
            low[place], high[place] = min(ends[0], point), max(ends[1], point)
    return low, high


def _levels(point: float, draws: Floats, acceleration: float, level: float) -> Floats:
    """(2,) which quantiles of the draws are the limits."""
    below = ((draws < point).mean() + (draws <= point).mean()) / 2  # of draws equal to it, half count as below
    bias = ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    moved = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    # With an extreme acceleration the map folds over; its end is the last draw on that side.
    stretch = np.maximum(1 - acceleration * moved, 1e-6)
    return np.asarray(ndtr(bias + moved / stretch), dtype=np.float64)


def _acceleration(left_out: Floats) -> float:
    """A sixth of the skewness of the influences: below 0 where few groups pull the score down a lot."""
    if not len(left_out):
        return 0.0
    influence = left_out.mean() - left_out
    spread = float((influence**2).sum()) ** 1.5
    return float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
