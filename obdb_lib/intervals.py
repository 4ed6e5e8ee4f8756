"""How sure a score is: intervals by resampling whole groups of frames, not frames.

Frames of one video, or copies of one photograph, succeed and fail together. Drawing frames one by one would count each
as news and give an interval that is far too narrow; so whole groups are drawn with replacement (the cluster bootstrap:
Davison & Hinkley 1997, "Bootstrap Methods and their Application", 2.4 and 3.8), and the limits are corrected for the
bias and skew of average precision (``bootstrap.bca_limits``). Where there are few groups, or one of them holds much of
a class, the limits are rough, and the result says so in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.bootstrap import bca_limits
from obdb_lib.boxes import IntArray
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import DatasetError
from obdb_lib.grouping import GroupSources, frame_groups
from obdb_lib.matches import NOTHING, RECALLS, Floats, Matches, place_of
from obdb_lib.progress import Progress, track
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split, default_grouping

RESAMPLES = 1000
LEVEL = 0.95
"""Share of resamples between the limits of an interval."""
FEW_GROUPS = 20
"""With fewer groups than this the limits are too narrow (of 95 % intervals about 9 in 10 hold); the result warns."""
LEAST_GROUPS = 8
"""Fewer groups than this have so few different draws that images are drawn within them, too; the result warns that
their limits mean little."""
MAJORITY = 0.5
"""A group with more than this share of the frames decides the score alone; the result warns."""
LARGE_SHARE = 0.2
"""A group with this share of a class's boxes or more rules its score; the result warns. A third of all samples like
this one lack such a group, and no resampling can know that: 95 % intervals then held in 83 to 85 of 100 samples."""
NAMED_CLASSES = 3
"""Classes that a warning names."""
LEFT_OUT_PARTS = 200
"""With more groups than this they are left out by several at once, to find the skew of their influence."""
ALL = "(all)"
"""Row of the mean over classes."""
Counts = NDArray[np.uint16]
"""How often each image counts: small numbers, of which there are resamples times images."""
_AT_ONCE = 50
"""Resamples computed at once; bounds the memory (times detections of a class times 8 bytes, a few times over)."""


@dataclass(frozen=True)
class Intervals:
    """Scores with limits.

    Attributes:
        table: one row a class and one for ALL (first): object_class; ap, ap_low, ap_high (mean over the overlaps that
            were matched); ap50, ap50_low, ap50_high; 0..1, NaN where there is nothing to find.
        groups: number of groups that were drawn from.
        resamples, level, seed: how it was drawn.
        warning: what to beware of, "" if nothing.
        draws: (B, 2) ap and ap50 over all classes of each resample.
    """

    table: pd.DataFrame
    groups: int
    resamples: int
    level: float
    seed: int
    warning: str
    draws: Floats

    def of(self, name: str = ALL) -> dict[str, float]:
        """One row as numbers by name."""
        row = self.table.set_index("object_class").loc[name]
        return {str(key): float(cast(float, value)) for key, value in row.items()}

    def to_dict(self) -> dict[str, object]:
        """Plain values for a JSON note; NaN becomes None."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        told = {"groups": self.groups, "resamples": self.resamples, "level": self.level, "seed": self.seed}
        return {**told, "warning": self.warning, "table": rows}


@dataclass(frozen=True)
class Difference:
    """Two detectors on the same frames.

    Attributes:
        table: rows as in Intervals: object_class; ap_first, ap_second, ap_difference, ap_low, ap_high, and the same for
            ap50; a difference is second less first, its limits are those of the difference itself.
        groups, resamples, level, seed, warning: as in Intervals.
    """

    table: pd.DataFrame
    groups: int
    resamples: int
    level: float
    seed: int
    warning: str

    def sentence(self, measure: str = "ap50") -> str:
        """What it means, in words."""
        row = self.table.set_index("object_class").loc[ALL]
        gain, low, high = (float(cast(float, row[f"{measure}_{name}"])) for name in ("difference", "low", "high"))
        told = f"{measure.upper()} {gain:+.3f} ({self.level:.0%} interval {low:+.3f} to {high:+.3f})"
        if low > 0:
            return f"The second detector is better: {told}."
        if high < 0:
            return f"The second detector is worse: {told}."
        return f"These frames cannot tell the two detectors apart: {told}."


def judging_groups(
    snapshot: Snapshot, img_paths: Sequence[str], split: Split | None = None, duplicates: DuplicateGroups | None = None
) -> pd.Series:
    """What belongs together among the judged frames: Series img_path -> group number.

    As the split kept it together; for a split without groups, the video where the names tell it and proven twins.
    """
    known = (*(split.group_by if split else ()), *default_grouping(snapshot))
    wanted = [name for name in dict.fromkeys(known) if name not in ("cluster", "given")]
    if duplicates is None:
        wanted = [name for name in wanted if name != "duplicate_group"]
    parameters: Mapping[str, object] = split.parameters if split else {}
    blocks = cast("int | None", parameters.get("block_frames"))
    if blocks is None:
        wanted = [name for name in wanted if name != "time_block"]
    elif "time_block" in wanted:
        wanted = [name for name in wanted if name != "video"]
    table = snapshot.frames[snapshot.frames["img_path"].isin(set(img_paths))]
    sources = GroupSources(duplicates, block_frames=blocks, buffer_frames=cast(int, parameters.get("buffer_frames", 0)))
    numbers = frame_groups(table, wanted, sources=sources) if wanted else np.arange(len(table))
    return pd.Series(numbers, index=pd.Index(table["img_path"], name="img_path"), name="group")


def group_intervals(
    matches: Matches,
    groups: pd.Series,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Intervals:
    """AP and AP50 with limits, over all classes and class by class.

    Args:
        matches: of ``match_detections``; its ``ious`` must hold .5.
        groups: img_path -> what the frame belongs to; a frame that is not named is a group of its own.
        resamples: draws of as many groups as there are. level: share of them between the limits.

    Raises:
        DatasetError: fewer than one resample, or a level outside 0..1.
    """
    numbers, warning = _numbers(matches, groups, resamples, level)
    drawn = _draw(numbers, resamples, seed)
    whole = _scores(matches, np.ones((1, len(matches.img_paths))))[0]
    left_out = _each_left_out(numbers)
    spread = _resampled(matches, np.concatenate([drawn, left_out]), whole, progress)
    columns: dict[str, object] = {"object_class": [ALL, *matches.classes]}
    low, high = bca_limits(whole, spread[:resamples], spread[resamples:], level)
    for place, name in enumerate(("ap", "ap50")):
        columns |= {name: whole[:, place], f"{name}_low": low[:, place], f"{name}_high": high[:, place]}
    count = int(numbers.max()) + 1
    return Intervals(pd.DataFrame(columns), count, resamples, level, seed, warning, spread[:resamples, 0, :])


def paired_difference(
    first: Matches | Sequence[Matches],
    second: Matches | Sequence[Matches],
    groups: pd.Series,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Difference:
    """How much better ``second`` is than ``first``: both are scored on the same draws, so what is hard for both of them
    cancels and the interval is narrower than either one's own.

    Several on either side are trainings of one recipe with several seeds: their mean scores are compared, as many on
    each side, and the interval is that of the mean difference over other frames, not over other seeds.

    Raises:
        DatasetError: they were judged on different frames, annotations or classes, or are not as many.
    """
    firsts, seconds = ([one] if isinstance(one, Matches) else list(one) for one in (first, second))
    _check_same(firsts, seconds)
    one = firsts[0]
    numbers, warning = _numbers(one, groups, resamples, level)
    drawn = _draw(numbers, resamples, seed)
    weights = np.concatenate([drawn, _each_left_out(numbers)])
    (before, change_before), (after, change_after) = (
        _mean_scores(matches, weights, progress) for matches in (firsts, seconds)
    )
    change = change_after - change_before
    low, high = bca_limits(after - before, change[:resamples], change[resamples:], level)
    columns: dict[str, object] = {"object_class": [ALL, *one.classes]}
    for place, name in enumerate(("ap", "ap50")):
        columns |= {f"{name}_first": before[:, place], f"{name}_second": after[:, place]}
        columns |= {f"{name}_difference": after[:, place] - before[:, place]}
        columns |= {f"{name}_low": low[:, place], f"{name}_high": high[:, place]}
    return Difference(pd.DataFrame(columns), int(numbers.max()) + 1, resamples, level, seed, warning)


def _check_same(firsts: Sequence[Matches], seconds: Sequence[Matches]) -> None:
    if not firsts or len(firsts) != len(seconds):
        raise DatasetError(
            f"as many detectors are compared on each side, one or more; got {len(firsts)} and {len(seconds)}"
        )
    one = firsts[0]
    for other in [*firsts[1:], *seconds]:
        same = one.classes == other.classes and one.img_paths == other.img_paths and one.ious == other.ious
        if not same or not np.array_equal(one.truth_row, other.truth_row):
            raise DatasetError(
                "detectors can be compared only on the same frames, annotations, classes and overlaps, in the same "
                "order; call match_detections for all with the same arguments"
            )


def _mean_scores(matches: Sequence[Matches], weights: Counts, progress: Progress | None) -> tuple[Floats, Floats]:
    """(1 + K, 2) scores on all images and (B, 1 + K, 2) those of the resamples, each the mean over the detectors."""
    wholes = [_scores(one, np.ones((1, len(one.img_paths))))[0] for one in matches]
    drawn = [_resampled(one, weights, whole, progress) for one, whole in zip(matches, wholes, strict=True)]
    return np.mean(wholes, axis=0), np.mean(drawn, axis=0)


def _numbers(matches: Matches, groups: pd.Series, resamples: int, level: float) -> tuple[IntArray, str]:
    """Group number of each judged image from 0, and the warning."""
    if resamples < 1 or not 0 < level < 1:
        raise DatasetError(f"intervals need 1 or more resamples and a level between 0 and 1; got {resamples}, {level}")
    named = groups.reindex(list(matches.img_paths))
    keys = [f"frame {path}" if pd.isna(key) else f"group {key}" for path, key in named.items()]
    numbers = pd.factorize(np.array(keys, dtype=object))[0].astype(np.int64)
    sizes = np.bincount(numbers)
    told = []
    if len(sizes) < LEAST_GROUPS:
        told.append(
            f"Only {len(sizes)} group{'' if len(sizes) == 1 else 's'} of frames were judged: the limits tell next to "
            f"nothing (below {LEAST_GROUPS}); give val more videos"
        )
    elif len(sizes) < FEW_GROUPS:
        told.append(
            f"Only {len(sizes)} groups of frames were judged (below {FEW_GROUPS}): the interval is likely too narrow"
        )
    if sizes.max() > MAJORITY * sizes.sum() and len(sizes) > 1:
        told.append(f"One group holds {sizes.max() / sizes.sum():.0%} of the judged frames and decides the score")
    ruled = _ruled_classes(matches, numbers) if len(sizes) >= LEAST_GROUPS else []
    if ruled:
        names = ", ".join(f"{name} ({share:.0%})" for name, share in ruled[:NAMED_CLASSES])
        more = f" and {len(ruled) - NAMED_CLASSES} more classes" if len(ruled) > NAMED_CLASSES else ""
        told.append(f"One group holds much of the boxes of {names}{more}: their intervals are likely too narrow")
    return numbers, "; ".join(told)


def _ruled_classes(matches: Matches, numbers: IntArray) -> list[tuple[str, float]]:
    """Classes of whose boxes one group holds LARGE_SHARE or more, and that share, the largest first."""
    shares = []
    for k, name in enumerate(matches.classes):
        counts = np.bincount(numbers[matches.truth_image[matches.truth_label == k]])
        if counts.size and counts.max() >= LARGE_SHARE * counts.sum():
            shares.append((name, float(counts.max() / counts.sum())))
    return sorted(shares, key=lambda one: -one[1])


def _draw(numbers: IntArray, resamples: int, seed: int) -> Counts:
    """(B, images) how often each image counts: as often as its group is drawn.

    Two or three groups have hardly any different draws. So where there are few, the images within a group are drawn,
    too (Davison & Hinkley 1997, 3.8, first strategy): rather too wide than a hair.
    """
    dice = np.random.default_rng(seed)
    count = int(numbers.max()) + 1
    drawn = dice.multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = drawn.astype(np.uint16)[:, numbers]
    if count < LEAST_GROUPS:
        for group in range(count):
            mine = np.flatnonzero(numbers == group)
            shares = np.full(len(mine), 1 / len(mine))
            weights[:, mine] = dice.multinomial(drawn[:, group] * len(mine), shares)
    return weights


def _each_left_out(numbers: IntArray) -> Counts:
    """(J, images) 1, and 0 for the images of the group, or the part of the groups, that each row leaves out."""
    parts = min(int(numbers.max()) + 1, LEFT_OUT_PARTS)
    kept = numbers[None, :] % parts != np.arange(parts)[:, None]
    return np.asarray(kept, dtype=np.uint16)


def _resampled(matches: Matches, weights: Counts, whole: Floats, progress: Progress | None) -> Floats:
    """(B, 1 + K, 2) scores when images count ``weights`` (B, images) times.

    A resample without any box of a class takes that class's score of the ``whole`` into its mean over classes: means
    over other classes would jump for no reason of the detector's.
    """
    parts = []
    with track(progress, "resample groups", len(weights)) as task:
        for start in range(0, len(weights), _AT_ONCE):
            parts.append(_scores(matches, weights[start : start + _AT_ONCE].astype(np.float64)))
            task.advance(len(parts[-1]))
    table = np.concatenate(parts)
    by_class = np.where(np.isfinite(table[:, 1:]), table[:, 1:], whole[1:])
    table[:, 0] = _mean_of_known(by_class)
    return table


def _mean_of_known(by_class: Floats) -> Floats:
    """(B, 2) mean over classes of (B, K, 2), NaN left out; NaN where nothing is known."""
    known = np.isfinite(by_class)
    total = np.where(known, by_class, 0).sum(axis=1)
    result: Floats = np.full_like(total, np.nan)
    np.divide(total, known.sum(axis=1), out=result, where=known.any(axis=1))
    return result


def _scores(matches: Matches, weights: Floats) -> Floats:
    """(B, 1 + K, 2) AP and AP50, all classes first, when images count ``weights`` (B, images) times."""
    table = np.full((len(weights), len(matches.classes) + 1, 2), np.nan)
    half = place_of(matches.ious, 0.5)
    for k in range(len(matches.classes)):
        own = matches.label == k
        each = weights[:, matches.image[own]]
        truths = weights[:, matches.truth_image[matches.truth_label == k]].sum(axis=1)
        found = matches.truth[:, own] != NOTHING
        precisions = _precisions(found, each, truths)
        table[:, k + 1, 0], table[:, k + 1, 1] = precisions.mean(axis=1), precisions[:, half]
    table[:, 0] = _mean_of_known(table[:, 1:])
    return table


def _precisions(found: NDArray[np.bool_], weights: Floats, truths: Floats) -> Floats:
    """(B, T) AP of one class; NaN where a resample has none of its annotations.

    Precision falls between two right detections, so only those can set the envelope: the rest is left out.
    """
    result = np.full((len(weights), len(found)), np.nan)
    known = np.flatnonzero(truths > 0)
    counted = np.cumsum(weights, axis=1)
    for level, hits in enumerate(found):
        places = np.flatnonzero(hits)
        if not len(places):
            result[known, level] = 0.0
            continue
        right = np.cumsum(weights[:, places], axis=1)
        precision = right / (counted[:, places] + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for row in known:
            place = np.searchsorted(right[row] / truths[row], RECALLS, side="left")
            reached = place[place < len(places)]
            result[row, level] = envelope[row, reached].sum() / len(RECALLS)
    return result
