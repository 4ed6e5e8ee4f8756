"""A ranked list of candidates against what it should bring back: precision, recall, calibration, a person's time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import DEFAULT_MATCH_IOU
from obdb_lib.decision_log import UNDO
from obdb_lib.errors import DatasetError
from obdb_lib.frame_matching import flat_boxes, match_frames
from obdb_lib.records import Document

PRECISIONS = (0.5, 0.8, 0.9)
LONGEST_LOOK_S = 60.0
"""Between two decisions a person looked at the second one, unless more time passed: then they were away."""
BURST_S = 0.2
"""Decisions nearer to each other than this were not made one by one: nobody sees and decides so quickly."""
BINS = 10

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Recall:
    """A ranked list against the hidden boxes.

    Attributes:
        precision, recall: (N,) along the list, from its first candidate on.
        average_precision: area under precision over recall (precision taken as the best at that recall or more).
        recall_at: precision -> the largest recall at which it is reached, 0 where it never is.
        calibration_error: expected calibration error of the probabilities, ten bins of equal numbers; NaN without any.
        hidden, found: boxes hidden, and those that some candidate brings back.
        seconds_per_box: seconds of a person for each accepted box, when they go down the list to each precision of
            ``recall_at``; empty when the time for a decision is not known.
    """

    precision: Floats
    recall: Floats
    average_precision: float
    recall_at: dict[float, float]
    calibration_error: float
    hidden: int
    found: int
    seconds_per_box: dict[float, float] = field(default_factory=dict)


def right_ones(candidates: pd.DataFrame, hidden: pd.DataFrame, *, min_iou: float = DEFAULT_MATCH_IOU) -> Bools:
    """(N,) which candidates bring back a hidden box of their class, one to one, in the order given."""
    pairs = match_frames(*flat_boxes(candidates, hidden), min_iou=min_iou).pairs
    right = np.zeros(len(candidates), dtype=bool)
    right[pairs[:, 0]] = True
    return right


def judge_ranking(
    right: Bools,
    rank: Floats,
    hidden: int,
    *,
    probability: Floats | None = None,
    precisions: Sequence[float] = PRECISIONS,
    decision_s: float | None = None,
) -> Recall:
    """Precision and recall down a list.

    Args:
        right: (N,) whether each candidate is right.
        rank: (N,) the larger the earlier; of equals the earlier one comes first.
        hidden: boxes to be found.
        probability: (N,) 0..1 that each is right.
        decision_s: seconds that a person needs for one candidate (``seconds_per_decision``).

    Raises:
        DatasetError: nothing was hidden.
    """
    if hidden < 1:
        raise DatasetError("nothing was hidden, so nothing can be found")
    order = np.argsort(-rank, kind="stable")
    found = np.cumsum(right[order])
    precision, recall = found / np.arange(1, len(order) + 1), found / hidden
    best = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * best))
    reached = {limit: float(recall[precision >= limit].max(initial=0.0)) for limit in precisions}
    seconds: dict[float, float] = {}
    if decision_s is not None:
        for limit in precisions:
            ends = np.flatnonzero((precision >= limit) & (found > 0))
            if len(ends):
                seconds[limit] = float(decision_s / precision[ends[-1]])
    error = float("nan") if probability is None else calibration_error(probability, right)
    return Recall(precision, recall, area, reached, error, hidden, int(right.sum()), seconds)


def curve_table(curves: Mapping[str, Recall]) -> pd.DataFrame:
    """Curves for ``widgets.pr_chart``: object_class (the curve's name), score (1 for the first candidate, falling to
    0), precision, recall and best_precision (at that recall or more)."""
    parts = [
        pd.DataFrame(
            {
                "object_class": name,
                "score": np.linspace(1, 0, len(one.recall)),
                "precision": one.precision,
                "recall": one.recall,
                "best_precision": np.maximum.accumulate(one.precision[::-1])[::-1],
            }
        )
        for name, one in curves.items()
        if len(one.recall)
    ]
    columns = ["object_class", "score", "precision", "recall", "best_precision"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def calibration_error(probability: Floats, right: Bools, *, bins: int = BINS) -> float:
    """Expected calibration error (M. P. Naeini et al., 2015): the mean gap between the probability said and the share
    that was right, over bins of equal numbers; 0 is best, 1 worst. NaN for no candidates."""
    if not len(probability):
        return float("nan")
    parts = np.array_split(np.argsort(probability, kind="stable"), min(bins, len(probability)))
    gaps = [len(part) * abs(float(probability[part].mean()) - float(right[part].mean())) for part in parts]
    return float(sum(gaps) / len(probability))


def seconds_per_decision(decisions: Sequence[Document]) -> float | None:
    """Median seconds a person took for a decision, by the journal; None with fewer than three.

    Gaps of more than LONGEST_LOOK_S a decision are pauses and do not count; neither do decisions of a rule or of a
    file, nor what was taken back and repeated by a key. Decisions within BURST_S of each other were one act, such as a
    page: its time is shared among them and counts once.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for one in decisions:
        if not (one.get("rule") or one.get("recorded") or one.get("redoes") or one.get("verdict") == UNDO):
            times[str(one["who"])].append(one["when"].timestamp())
    taken: list[float] = []
    for own in times.values():
        at = np.sort(np.array(own))
        first = np.flatnonzero(np.diff(at, prepend=-np.inf) >= BURST_S)
        count = np.diff(first, append=len(at))
        last = first + count - 1
        seconds = (at[last[1:]] - at[last[:-1]]) / count[1:]
        taken += seconds[seconds <= LONGEST_LOOK_S].tolist()
    return float(np.median(taken)) if len(taken) > 1 else None
