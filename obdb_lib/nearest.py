"""How near the crops of one part come to those of another in embedding space, against what is usual within a part.

The distance of a crop is that of its nearest neighbour: cosine distance, 0 = the same direction, 1 = nothing in common.
The yardsticks are the same distance within train, once to crops of other frames ("two frames of one video") and once
to crops of other groups ("two videos"). An honest val part looks to train like one video to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray, IntArray

QUERIES = 500
"""At most this many crops of a part ask for their nearest neighbour (drawn by seed); each asks all crops of the other
part, so no twin is overlooked. A median of 500 is good to about two percentile points (standard error)."""
MOST_KNOWN = 250_000
"""At most this many crops are asked; more are thinned by seed, which the report says."""
CHUNK = 16_384
BINS = 24
Pair = tuple[str, str]
PERCENTILES = (5, 25, 50, 75, 95)
GROUP_EFFECT = 1.1
"""Other groups must be at least this many times as far as other frames, or groups tell nothing about likeness."""
SUSPICIOUS_NOVELTY = 0.5
"""Below, val lies nearer to train than halfway between "another frame of the same group" and "another group"."""
SAME_PICTURE = 0.05
"""A crop nearer than this share of the distance of two random crops is practically the same picture."""
SUSPICIOUS_SAME = 0.05
ALMOST_AS_NEAR = 0.25
"""Where groups tell nothing, a split is suspicious when more than SUSPICIOUS_SAME of its judging crops have the same
picture on the other side while they are about as near to it as train is to itself (``closer`` above this). On sesame:
the leaking public split .08 and .50, one without any twin .00 and .19; by colour histograms, for which much looks the
same, .88 and .52, and .19 and .05."""


@dataclass(frozen=True)
class Nearest:
    """Nearest neighbours across a border against those within the known part; all distances are cosine distances.

    Attributes:
        crops, known: crops of the judging and of the known part.
        asked, compared: how many of each were looked at (see QUERIES, MOST_KNOWN).
        across, within_frames, within_groups: percentiles ("5" ... "95") of the distance from judging to known crops,
            from known crops to those of other frames, and to those of other groups (None without groups).
        ratio: median across by median within_frames; 1 = as near as two frames of the known part.
        closer: chance that a judging crop is nearer than a known one (ties half); 0.5 = as near, 0 = always further.
        novelty: 0 = as near as another frame of the same group, 1 = as far as another group; None without groups, or
            where groups tell nothing about likeness (GROUP_EFFECT).
        same_picture: share of judging crops with practically the same picture on the other side (SAME_PICTURE).
        suspicious: novelty below SUSPICIOUS_NOVELTY; without novelty, same_picture above SUSPICIOUS_SAME while closer
            is above ALMOST_AS_NEAR.
        bins, histograms: edges (BINS + 1) and counts of the three distances, for a chart.
    """

    crops: int
    known: int
    asked: int
    compared: int
    across: dict[str, float]
    within_frames: dict[str, float]
    within_groups: dict[str, float] | None
    ratio: float
    closer: float
    novelty: float | None
    same_picture: float
    suspicious: bool
    bins: list[float]
    histograms: dict[str, list[int]]


@dataclass(frozen=True)
class Crops:
    """Crops with vectors.

    Attributes:
        vectors: (N, D) of length 1 each, float32 or float16, in memory or memory-mapped.
        frames, groups: (N,) number of frame and group; groups is None when nothing is known of them.
        parts: (N,) object array.
    """

    vectors: FloatArray | NDArray[np.float16]
    frames: IntArray
    groups: IntArray | None
    parts: NDArray[np.object_]


def nearest_across(crops: Crops, borders: Sequence[Pair], *, seed: int = 0) -> dict[Pair, Nearest]:
    """Nearest for each of ``borders`` (judging, known) that has crops on both sides; one pass over each known part."""
    found: dict[Pair, Nearest] = {}
    for known in dict.fromkeys(known for _, known in borders):
        rng = np.random.default_rng(seed)
        there = _draw(np.flatnonzero(crops.parts == known), MOST_KNOWN, rng)
        judges = [judging for judging, other in borders if other == known]
        asking = {part: _draw(np.flatnonzero(crops.parts == part), QUERIES, rng) for part in (known, *judges)}
        if len(there) < 2:
            continue
        queries = np.concatenate(list(asking.values()))
        all_frames, all_groups = _distances(crops, queries, there)
        ends = np.cumsum([len(rows) for rows in asking.values()])
        starts = dict(zip(asking, ends - [len(rows) for rows in asking.values()], strict=True))
        pick = {part: slice(starts[part], starts[part] + len(rows)) for part, rows in asking.items()}
        usual = _random_distance(crops, there, rng)
        for judging in judges:
            if not len(asking[judging]):
                continue
            found[judging, known] = _compare(
                across=all_frames[pick[judging]],
                within_frames=all_frames[pick[known]],
                within_groups=None if all_groups is None else all_groups[pick[known]],
                usual=usual,
                sizes=(int((crops.parts == judging).sum()), int((crops.parts == known).sum()), len(there)),
            )
    return found


def _draw(rows: IntArray, most: int, rng: np.random.Generator) -> IntArray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _distances(crops: Crops, queries: IntArray, there: IntArray) -> tuple[FloatArray, FloatArray | None]:
    """Distance of each query to its nearest crop of another frame, and of another group; inf where there is none."""
    asking = np.asarray(crops.vectors[queries], dtype=np.float32)
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    best_group = None if crops.groups is None else best.copy()
    for start in range(0, len(there), CHUNK):
        rows = there[start : start + CHUNK]
        likeness = asking @ np.asarray(crops.vectors[rows], dtype=np.float32).T
        likeness[crops.frames[queries][:, None] == crops.frames[rows][None, :]] = -np.inf
        np.maximum(best, likeness.max(axis=1), out=best)
        if crops.groups is not None and best_group is not None:
            likeness[crops.groups[queries][:, None] == crops.groups[rows][None, :]] = -np.inf
            np.maximum(best_group, likeness.max(axis=1), out=best_group)
    return _as_distance(best), None if best_group is None else _as_distance(best_group)


def _as_distance(likeness: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(1 - likeness, 0), dtype=np.float32)


def _random_distance(crops: Crops, there: IntArray, rng: np.random.Generator) -> float:
    """Median distance of two crops drawn at random."""
    first, second = (np.asarray(crops.vectors[rng.choice(there, 500)], dtype=np.float32) for _ in range(2))
    return float(np.median(1 - np.einsum("nd,nd->n", first, second)))


def _compare(
    *,
    across: FloatArray,
    within_frames: FloatArray,
    within_groups: FloatArray | None,
    usual: float,
    sizes: tuple[int, int, int],
) -> Nearest:
    asked = len(across)
    across, within_frames = across[np.isfinite(across)], within_frames[np.isfinite(within_frames)]
    groups = None if within_groups is None else within_groups[np.isfinite(within_groups)]
    groups = None if groups is None or not len(groups) else groups
    middle, frames_middle = _median(across), _median(within_frames)
    novelty = None
    if groups is not None and _median(groups) > GROUP_EFFECT * frames_middle:
        novelty = (middle - frames_middle) / (_median(groups) - frames_middle)
    same = float((across < SAME_PICTURE * usual).mean()) if len(across) else 0.0
    closer = _chance_smaller(across, within_frames)
    copied = same > SUSPICIOUS_SAME and closer > ALMOST_AS_NEAR
    samples = {"across": across, "within_frames": within_frames}
    if groups is not None:
        samples["within_groups"] = groups
    top = max((float(np.percentile(values, 99)) for values in samples.values() if len(values)), default=1.0)
    edges = np.linspace(0, max(top, 1e-6), BINS + 1)
    return Nearest(
        crops=sizes[0],
        known=sizes[1],
        asked=asked,
        compared=sizes[2],
        across=_percentiles(across),
        within_frames=_percentiles(within_frames),
        within_groups=None if groups is None else _percentiles(groups),
        ratio=middle / max(frames_middle, 1e-9),
        closer=closer,
        novelty=novelty,
        same_picture=same,
        suspicious=novelty < SUSPICIOUS_NOVELTY if novelty is not None else copied,
        bins=[round(float(edge), 5) for edge in edges],
        histograms={name: np.histogram(np.minimum(v, edges[-1]), edges)[0].tolist() for name, v in samples.items()},
    )


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _percentiles(values: FloatArray) -> dict[str, float]:
    if not len(values):
        return {}
    return {str(p): round(float(v), 5) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def _chance_smaller(first: FloatArray, second: FloatArray) -> float:
    """P(a < b) + P(a = b) / 2 for a of ``first`` and b of ``second`` (Mann and Whitney 1947); 0.5 when one is empty."""
    if not len(first) or not len(second):
        return 0.5
    ordered = np.sort(second)
    below = len(ordered) - np.searchsorted(ordered, first, side="right")
    equal = np.searchsorted(ordered, first, side="right") - np.searchsorted(ordered, first, side="left")
    return float((below + equal / 2).sum() / (len(first) * len(second)))
