"""Which annotation explains which detection, and what is left: the judgement behind the candidates.

All frames at once and one to one throughout, so that a neighbour's annotation explains one detection and no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import DEFAULT_MATCH_IOU, FloatArray, IntArray
from obdb_lib.errors import DatasetError
from obdb_lib.frame_matching import FlatBoxes, Overlaps, assign, overlapping

DEFAULT_LOOSE_IOU = 0.3
"""A detection that overlaps an annotation nothing else explains by this much is a loose box of that plant and not a
missing one; lower it to explain more detections away."""
DEFAULT_REPEAT_IOU = 0.6
"""A second detection of an annotated plant overlaps the annotation, or the detection that it explains, by this much.
Raise it where plants stand so densely that neighbours overlap by more: fewer true plants are dropped, more repetitions
come through."""
DEFAULT_MERGE_IOU = 0.5
"""Of two unexplained detections that overlap by this much the weaker goes; raise it in dense scenes."""
DEFAULT_SURE_SCORE = 0.5
"""Detections of this score or more choose their annotations first, so that a weak box that fits a little better does
not turn the sure one into a candidate."""
DEFAULT_RIVAL_SHARE = 0.5
"""An annotation's class is in doubt when the best detection of its own class scores less than this share of another
class's on the same place; raise it for more candidates."""
TOUCH_IOU = 1e-6
"""Boxes that overlap at all."""
NOTHING = -1

OPEN, EXPLAINED, SWAPPED, LOOSE, REPEATED, MERGED = range(6)
"""What a detection turned out to be; OPEN is what no annotation explains."""


@dataclass(frozen=True)
class Limits:
    """Overlaps (0..1] and scores (0..1) of the judgement; each default's constant says what turning it does.

    Attributes:
        loose_other_class: a detection of another class, too, is a loose box of an annotation that nothing else
            explains; otherwise it is a neighbour and stays.

    Raises:
        DatasetError: a value out of range, or loose_iou above min_iou.
    """

    min_iou: float = DEFAULT_MATCH_IOU
    loose_iou: float = DEFAULT_LOOSE_IOU
    repeat_iou: float = DEFAULT_REPEAT_IOU
    merge_iou: float = DEFAULT_MERGE_IOU
    sure_score: float = DEFAULT_SURE_SCORE
    rival_share: float = DEFAULT_RIVAL_SHARE
    loose_other_class: bool = False

    def __post_init__(self) -> None:
        for name in ("min_iou", "loose_iou", "repeat_iou", "merge_iou"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise DatasetError(f"{name} must be above 0 and at most 1; got {value}")
        if self.loose_iou > self.min_iou:
            raise DatasetError(f"loose_iou must be at most min_iou ({self.min_iou:g}); got {self.loose_iou:g}")
        for name in ("sure_score", "rival_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise DatasetError(f"{name} must be 0..1; got {value}")


@dataclass(frozen=True)
class Judgement:
    """What became of each detection.

    Attributes:
        role: (D,) int64, OPEN, EXPLAINED, SWAPPED, LOOSE, REPEATED or MERGED.
        partner: (D,) int64, the annotation of an explained, swapped or loose detection, else NOTHING.
        merged: (D,) int64, how many weaker detections of the same place were dropped in favour of this one.
        touching: all pairs of a detection and an annotation that overlap, of any class.
    """

    role: IntArray
    partner: IntArray
    merged: IntArray
    touching: Overlaps


def judge(detections: FlatBoxes, scores: FloatArray, annotations: FlatBoxes, limits: Limits) -> Judgement:
    """Explain detections by annotations.

    In this order: (1) the same class at ``min_iou``, the sure ones first; (2) the strongest of another class at
    ``min_iou`` where the own class is far weaker or absent; (3) what repeats an explained plant goes; (4) of two left
    on one place the weaker goes; (5) the same class at ``loose_iou`` on an annotation that nothing explains yet; (6)
    what repeats those plants goes.

    Args:
        scores: (D,) float32, 0..1.
    """
    case = _Case(detections, scores, annotations, limits)
    sure = scores[case.near.first] >= limits.sure_score
    case.explain(case.tight & case.same & sure, EXPLAINED)
    case.explain(case.tight & case.same, EXPLAINED)
    case.explain_swapped()
    case.drop_repeats()
    case.merge()
    case.explain(case.same, LOOSE)
    if limits.loose_other_class:
        case.explain(np.ones(len(case.near), dtype=bool), LOOSE)
    case.drop_repeats()
    return Judgement(case.role, case.partner, case.merged, case.touching)


class _Case:
    """The state while the rules go over it."""

    def __init__(self, found: FlatBoxes, scores: FloatArray, drawn: FlatBoxes, limits: Limits) -> None:
        self.found, self.scores, self.drawn, self.limits = found, scores, drawn, limits
        self.touching = overlapping(found, drawn, min_iou=TOUCH_IOU)
        self.near = self.touching[self.touching.iou >= limits.loose_iou]
        self.same = found.label[self.near.first] == drawn.label[self.near.second]
        self.tight = self.near.iou >= limits.min_iou
        self.role = np.full(len(found), OPEN, dtype=np.int64)
        self.partner = np.full(len(found), NOTHING, dtype=np.int64)
        self.merged = np.zeros(len(found), dtype=np.int64)
        self.taken = np.zeros(len(drawn), dtype=bool)
        order = np.lexsort((-self.touching.iou, self.touching.first))
        best = order[np.flatnonzero(np.diff(self.touching.first[order], prepend=-1))]
        self.best = self.touching[best]

    def explain(self, allowed: NDArray[np.bool_], role: int) -> None:
        """Give open detections to free annotations among the ``allowed`` near pairs."""
        free = (self.role[self.near.first] == OPEN) & ~self.taken[self.near.second]
        self._give(self.near[allowed & free], role)

    def _give(self, pairs: Overlaps, role: int) -> None:
        rows, columns = assign(pairs, len(self.found), len(self.drawn)).pairs.T
        self.role[rows], self.partner[rows], self.taken[columns] = role, columns, True

    def explain_swapped(self) -> None:
        """Open detections of another class on annotations whose own class has far weaker ones, or none."""
        first, second = self.near.first, self.near.second
        own = np.zeros(len(self.drawn), dtype=np.float32)
        mine = self.tight & self.same
        np.maximum.at(own, second[mine], self.scores[first[mine]])
        doubt = (own[second] < self.limits.rival_share * self.scores[first]) | (own[second] == 0)
        rivals = self.near[(self.role[first] == OPEN) & self.tight & ~self.same & doubt]
        # Only the strongest rival of an annotation: the sum of overlaps would choose a weak box that fits better.
        order = np.lexsort((-rivals.iou, -self.scores[rivals.first], rivals.second))
        strongest = order[np.flatnonzero(np.diff(rivals.second[order], prepend=-1))]
        self._give(rivals[np.sort(strongest)], SWAPPED)

    def drop_repeats(self) -> None:
        """Second boxes of explained plants: on the annotation, or on the detection that it explains.

        The annotation must be the one that the detection overlaps most: a box between two plants is no second box of
        the one it overlaps less.
        """
        limit = self.limits.repeat_iou
        close = self.taken[self.best.second] & (self.best.iou >= limit) & (self.role[self.best.first] == OPEN)
        self.role[self.best.first[close]] = REPEATED
        left, used = np.flatnonzero(self.role == OPEN), np.flatnonzero(self.partner != NOTHING)
        pairs = overlapping(self.found[left], self.found[used], min_iou=limit)
        self.role[left[pairs.first]] = REPEATED

    def merge(self) -> None:
        """Of open detections on one place the strongest stays (greedy suppression, any class)."""
        left = np.flatnonzero(self.role == OPEN)
        pairs = overlapping(self.found[left], self.found[left], min_iou=self.limits.merge_iou)
        into = suppress(pairs, self.scores[left])
        gone = into != NOTHING
        self.role[left[gone]] = MERGED
        np.add.at(self.merged, left[into[gone]], 1)


def suppress(pairs: Overlaps, scores: FloatArray) -> IntArray:
    """Greedy suppression of all frames at once: the strongest box stays and drops the weaker ones it overlaps.

    Args:
        pairs: which boxes overlap, in both directions; a box with itself does not count.
        scores: (N,) the larger the stronger; of equals the earlier one.

    Returns:
        (N,) int64, the box in whose favour each one was dropped, NOTHING for those that stay.
    """
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    downward = rank[pairs.second] < rank[pairs.first]
    below, above = pairs.first[downward], pairs.second[downward]
    undecided, kept = np.ones(len(scores), dtype=bool), np.zeros(len(scores), dtype=bool)
    weak, strong = below, above
    while undecided.any():
        # Who has no stronger neighbour left stays, and its weaker neighbours go.
        stays = undecided.copy()
        stays[weak] = False
        kept |= stays
        undecided &= ~stays
        undecided[weak[stays[strong]]] = False
        alive = undecided[weak] & undecided[strong]
        weak, strong = weak[alive], strong[alive]
    into = np.full(len(scores), NOTHING, dtype=np.int64)
    final = np.flatnonzero(kept[above] & ~kept[below])
    final = final[np.argsort(-rank[above[final]], kind="stable")]
    into[below[final]] = above[final]
    return into
