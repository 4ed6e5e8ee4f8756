"""How well are missing boxes found? Boxes that are known are hidden, and the finder has to bring them back.

The detections are out of fold: no detector has seen the frames it judged, so its boxes can be hidden afterwards. (The
detectors of other frames learned from a few boxes more than they would have; hide before ``out_of_fold`` where that
matters, as tests.benchmarks.missing does.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.cache import content_hash
from obdb_lib.candidates import MISSING
from obdb_lib.errors import DatasetError
from obdb_lib.finder import Findings
from obdb_lib.fold_plan import blank_frames
from obdb_lib.progress import Progress, track
from obdb_lib.ranking import Recall, judge_ranking, right_ones
from obdb_lib.snapshots import Snapshot

logger = logging.getLogger(__name__)

WAYS = ("random", "by_class", "small", "regions")
SHARES = (0.05, 0.1, 0.2)
SMALL_SHARE = 1 / 3
"""Small boxes are hidden among the smallest of this share."""
REGION = 0.5
"""A hidden region has this share of the frame's width and height."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hidden:
    """A snapshot with boxes hidden.

    Attributes:
        snapshot: what is left; its id tells what was hidden.
        boxes: the hidden rows of ``Snapshot.annotations``.
    """

    snapshot: Snapshot
    boxes: pd.DataFrame


def hide(
    snapshot: Snapshot, share: float, *, how: str = "random", among: Collection[str] | None = None, seed: int = 0
) -> Hidden:
    """Hide a share of all boxes.

    Args:
        share: 0..1 of all boxes of the frames.
        among: only on these frames; on all when None.
        how: "random", "by_class" (that share of each class, one box at least), "small" (from the smallest third), or
            "regions" (all boxes whose middle lies in one half-sized region of a frame, frame after frame).

    Raises:
        DatasetError: an unknown way, a share out of range, or nothing to hide.
    """
    if how not in WAYS:
        raise DatasetError(f"boxes are hidden {', '.join(WAYS)}; got {how!r}")
    every = snapshot.annotations
    rows_of = np.arange(len(every)) if among is None else np.flatnonzero(every["img_path"].isin(list(among)))
    table = every.iloc[rows_of].reset_index(drop=True)
    if not 0 < share < 1 or not len(table):
        raise DatasetError(f"the share to hide lies between 0 and 1, of at least one box; got {share} of {len(table)}")
    count = max(round(share * len(table)), 1)
    rows = _WAYS[how](table, snapshot.frames, count, share, np.random.default_rng(seed))
    gone = np.zeros(len(every), dtype=bool)
    gone[rows_of[rows]] = True
    if not gone.any():
        raise DatasetError(
            f"no box was hidden ({how}): too few boxes on the frames; take another way or a larger share"
        )
    left, boxes = every[~gone].reset_index(drop=True), every[gone].reset_index(drop=True)
    identity = content_hash(snapshot.id, "hidden", boxes["annotation_id"].tolist())
    return Hidden(replace(snapshot, id=identity, annotations=left), boxes)


def _random(table: pd.DataFrame, _: pd.DataFrame, count: int, __: float, rng: np.random.Generator) -> NDArray[np.intp]:
    return rng.permutation(len(table))[:count]


def _by_class(
    table: pd.DataFrame, _: pd.DataFrame, __: int, share: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    chosen = []
    for name in sorted(table["object_class"].unique()):
        own = np.flatnonzero(table["object_class"] == name)
        chosen.append(rng.permutation(own)[: max(round(share * len(own)), 1)])
    return np.concatenate(chosen)


def _small(table: pd.DataFrame, _: pd.DataFrame, count: int, __: float, rng: np.random.Generator) -> NDArray[np.intp]:
    area = (table["x2"] - table["x1"]) * (table["y2"] - table["y1"])
    most = max(count, round(SMALL_SHARE * len(table)))
    return rng.permutation(np.argsort(area.to_numpy(), kind="stable")[:most])[:count]


def _regions(
    table: pd.DataFrame, frames: pd.DataFrame, count: int, _: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    sizes = frames.set_index("img_path")[["width", "height"]]
    rows = {str(path): np.asarray(part) for path, part in table.groupby("img_path").indices.items()}
    middle = (table[["x1", "y1"]].to_numpy(np.float64) + table[["x2", "y2"]].to_numpy(np.float64)) / 2
    chosen: list[int] = []
    for path in rng.permutation(sorted(rows)):
        room = sizes.loc[path].to_numpy(np.float64)
        corner = rng.random(2) * room * (1 - REGION)
        at = middle[rows[path]]
        chosen += rows[path][((at >= corner) & (at <= corner + REGION * room)).all(axis=1)].tolist()
        if len(chosen) >= count:
            break
    return np.array(chosen, dtype=np.intp)


_WAYS: dict[str, Callable[..., NDArray[np.intp]]] = {
    "random": _random,
    "by_class": _by_class,
    "small": _small,
    "regions": _regions,
}


def hide_and_find(
    snapshot: Snapshot,
    finder: Callable[[Snapshot], Findings],
    *,
    ways: Sequence[str] = WAYS,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0,),
    among: Collection[str] | None = None,
    decision_s: float | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, dict[tuple[str, float], Recall]]:
    """Hide boxes in every way and share, look for them, and judge the list of missing ones.

    Boxes that really are missing count as false here. On the other hand a plant hidden at random stays drawn in the
    frames beside it, while people often miss a plant in all of them: there less is found than is said.

    Args:
        finder: from a snapshot to its findings, as ``lambda left: find(detections, left, ...)``.
        among: frames where boxes are hidden and looked for: those that no detector has seen. All when None.

    Returns:
        One row a way and share (none for a way that finds no box to hide, which the log says), mean over the seeds:
        how, share, hidden, found, average_precision, recall_at_.5 and so on, calibration_error, and
        seconds_per_box_.5 and so on where known; and the curves of the first seed.
    """
    rows: list[dict[str, object]] = []
    curves: dict[tuple[str, float], Recall] = {}
    # Nothing is hidden on frames that nobody annotated, and what is found there is not false.
    blank = set(blank_frames(snapshot))
    asked_frames = [path for path in (snapshot.frames["img_path"] if among is None else among) if path not in blank]
    plan = [(how, share, seed) for how in ways for share in shares for seed in seeds]
    with track(progress, "hide boxes and look for them", len(plan)) as task:
        for how, share, seed in plan:
            try:
                hidden = hide(snapshot, share, how=how, among=asked_frames, seed=seed)
            except DatasetError as error:
                if not 0 < share < 1 or how not in WAYS:
                    raise
                logger.warning("nothing is hidden %s: %s", how, error)
                task.advance()
                continue
            found = finder(hidden.snapshot).candidates
            asked = (found["kind"] == MISSING) & found["img_path"].isin(asked_frames)
            missing = found[asked].reset_index(drop=True)
            probability = missing["probability"].to_numpy(np.float64)
            judged = judge_ranking(
                right_ones(missing, hidden.boxes),
                -np.arange(len(missing), dtype=np.float64),
                len(hidden.boxes),
                probability=None if np.isnan(probability).any() else probability,
                decision_s=decision_s,
            )
            curves.setdefault((how, share), judged)
            rows.append(_row(how, share, judged))
            task.advance()
    if not rows:
        return pd.DataFrame(columns=["how", "share", "hidden", "found"]), curves
    return pd.DataFrame(rows).groupby(["how", "share"], sort=False).mean().reset_index(), curves


def _row(how: str, share: float, judged: Recall) -> dict[str, object]:
    return {
        "how": how,
        "share": share,
        "hidden": judged.hidden,
        "found": judged.found,
        "average_precision": judged.average_precision,
        **{f"recall_at_{limit:g}": value for limit, value in judged.recall_at.items()},
        "calibration_error": judged.calibration_error,
        **{f"seconds_per_box_{limit:g}": value for limit, value in judged.seconds_per_box.items()},
    }
