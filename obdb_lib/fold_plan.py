"""Which model of an out-of-fold run trains on which frames, and which frames it judges.

A frame is judged only by models that trained neither on it nor on anything of its group (its video, its near twins):
what a detector was taught to be background it is shy to find.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from obdb_lib.cache import content_hash, read_json, write_json
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import CacheError, SplitError
from obdb_lib.grouping import GroupSources, frame_groups
from obdb_lib.snapshots import Snapshot, frame_stamps
from obdb_lib.splits import Split, default_grouping, k_folds

logger = logging.getLogger(__name__)

NO_FOLD = -1
"""In place of a fold: no model trains on the frame."""


@dataclass(frozen=True)
class FoldModel:
    """One model.

    Attributes:
        number: from 0.
        train: frames it learns from, sorted.
        judged: frames of the folds it leaves out, sorted; together all frames of the folds, each ``looks`` times.
        unannotated: frames without annotations that it judges, sorted.
    """

    number: int
    train: tuple[str, ...]
    judged: tuple[str, ...]
    unannotated: tuple[str, ...]


@dataclass(frozen=True)
class FoldPlan:
    """All models.

    Attributes:
        fold_of: Series img_path -> fold (int64), NO_FOLD for frames without annotations.
        models: one for each fold.
        looks: how many models judge a frame of the folds.
        group_by: what was kept together.
        near: frames without annotations whose group every model trained on; all judge them all the same.
    """

    fold_of: pd.Series
    models: tuple[FoldModel, ...]
    looks: int
    group_by: tuple[str, ...]
    near: tuple[str, ...]


def plan_folds(
    snapshot: Snapshot,
    *,
    duplicates: DuplicateGroups,
    k: int,
    looks: int = 1,
    split: Split | None = None,
    group_by: Sequence[str] | None = None,
    unannotated: Sequence[str] = (),
    seed: int = 0,
    folder: Path | None = None,
) -> FoldPlan:
    """Deal the frames out to ``k`` folds by whole groups; model i leaves out the folds i, i + 1, ... i + looks - 1.

    Args:
        duplicates: near twins, always kept together; those of ``unannotated`` frames, too, where they may have some.
        looks: models that judge each frame, 1..k - 1; each model trains on (k - looks) / k of the frames.
        split: held together as this split did (its groupings, blocks and buffer; clusters and the user's own groups are
            not at hand here).
        group_by: instead of the split's; None and no split takes ``default_grouping``.
        unannotated: frames that nobody annotated, of the snapshot or of any folder: no model trains on them, and each
            model judges them that knows nothing of their group.

    Raises:
        SplitError: looks or k out of range, fewer groups than folds, or an unknown grouping.
    """
    if not 1 <= looks < k:
        raise SplitError(
            f"each frame is judged by looks of the k models, and the others train on it: looks must be 1 to k - 1; got "
            f"looks {looks} and k {k}"
        )
    without = set(unannotated)
    known = [str(path) for path in snapshot.frames["img_path"] if path not in without]
    dealt_frames = snapshot.frames[snapshot.frames["img_path"].isin(known)]
    wanted, blocks, buffer = _grouping(replace(snapshot, frames=dealt_frames), split, group_by)
    dealt = _dealt(snapshot, known, k, (wanted, blocks, seed), duplicates, folder)
    fold_of = pd.Series(dealt, dtype=np.int64).sort_index()
    sources = GroupSources(duplicates, block_frames=blocks)
    groups = frame_groups(snapshot.frames, wanted, sources=sources)
    near = _folds_near(sorted(without), fold_of, pd.Series(groups, index=snapshot.frames["img_path"]), duplicates)
    left_out = [{(number + step) % k for step in range(looks)} for number in range(k)]
    torn = tuple(path for path, theirs in near.items() if not any(theirs <= own for own in left_out))
    models = []
    for number, own in enumerate(left_out):
        judged = fold_of.index[fold_of.isin(own)].tolist()
        train = _outside_buffer(snapshot, fold_of.index[~fold_of.isin(own)].tolist(), judged, buffer)
        apart = tuple(path for path, theirs in near.items() if theirs <= own or path in torn)
        models.append(FoldModel(number, tuple(train), tuple(judged), apart))
    every = pd.concat([fold_of, pd.Series(NO_FOLD, index=sorted(without), dtype=np.int64)])
    return FoldPlan(every.rename("fold").rename_axis("img_path"), tuple(models), looks, wanted, torn)


def _dealt(
    snapshot: Snapshot,
    known: Sequence[str],
    k: int,
    how: tuple[tuple[str, ...], int | None, int],
    duplicates: DuplicateGroups,
    folder: Path | None,
) -> dict[str, int]:
    """img_path -> fold, as it was dealt before or dealt now; ``how``: groupings, frame numbers of a block, seed.

    Kept by the frames that are dealt, their annotations and which of them are twins: frames that come in beside them
    (a folder to be annotated) deal nothing anew, and no model has to be trained again for them.
    """
    rows = sorted(known)
    twins = pd.factorize(duplicates.groups.reindex(rows))[0].tolist()  # its numbers are those of all frames
    stamps = frame_stamps(snapshot).reindex(rows).tolist()
    kept = folder / f"folds-{content_hash(rows, stamps, twins, k, how)}.json" if folder else None
    dealt = _read(kept, known)
    if dealt is None:
        wanted, blocks, seed = how
        folds = k_folds(
            snapshot, k, group_by=wanted, duplicates=duplicates, block_frames=blocks, frames=known, seed=seed
        )
        dealt = {path: number for number, fold in enumerate(folds) for path in fold.part("val")}
        if kept:
            write_json(kept, dealt)
    return dealt


def _read(path: Path | None, known: Sequence[str]) -> dict[str, int] | None:
    """A dealing that was kept, or None where there is none that holds exactly the known frames."""
    if path is None or not path.exists():
        return None
    try:
        dealt: dict[str, int] = read_json(path)
    except CacheError as error:
        logger.warning("%s; the folds are dealt again", error)
        return None
    return dealt if isinstance(dealt, dict) and dealt.keys() == set(known) else None


def blank_frames(snapshot: Snapshot) -> list[str]:
    """Frames of the tasks in which nobody has drawn anything: not without plants, but still to be annotated."""
    drawn = set(snapshot.annotations["task_name"])
    return sorted(snapshot.frames.loc[~snapshot.frames["task_name"].isin(drawn), "img_path"])


def _grouping(
    snapshot: Snapshot, split: Split | None, group_by: Sequence[str] | None
) -> tuple[tuple[str, ...], int | None, int]:
    """Groupings, frame numbers of a block and of the buffer between two."""
    given = tuple(group_by) if group_by is not None else split.group_by if split else ()
    given = tuple(name for name in given if name not in ("cluster", "given"))
    known: Mapping[str, object] = split.parameters if split else {}
    wanted = tuple(dict.fromkeys((*(given or default_grouping(snapshot)), "duplicate_group")))
    blocks = cast("int | None", known.get("block_frames")) if "time_block" in wanted else None
    buffer = cast(int, known.get("buffer_frames") or 0) if blocks else 0
    return wanted, blocks, buffer


def _folds_near(
    unannotated: Sequence[str], fold_of: pd.Series, groups: pd.Series, duplicates: DuplicateGroups
) -> dict[str, set[int]]:
    """For each frame without annotations the folds that hold a frame of its group, or a near twin of it."""
    found: dict[str, set[int]] = {path: set() for path in unannotated}
    fold = fold_of.to_dict()
    for numbers in (groups.to_dict(), duplicates.groups.to_dict()):
        folds: dict[int, set[int]] = {}
        for path in fold.keys() & numbers.keys():
            folds.setdefault(numbers[path], set()).add(fold[path])
        for path in found.keys() & numbers.keys():
            found[path] |= folds.get(numbers[path], set())
    return found


def _outside_buffer(snapshot: Snapshot, train: Sequence[str], judged: Sequence[str], buffer: int) -> list[str]:
    """Train frames farther than ``buffer`` frame numbers from every judged frame of their video."""
    if not buffer:
        return list(train)
    table = snapshot.frames.set_index("img_path")[["video", "frame_number"]]
    table = table[(table["video"] != "") & table["frame_number"].notna()]
    border = {
        video: np.sort(rows["frame_number"].to_numpy(np.int64))
        for video, rows in table[table.index.isin(set(judged))].groupby("video")
    }
    kept = []
    for path in train:
        numbers = border.get(str(table.at[path, "video"])) if path in table.index else None
        if numbers is not None:
            number = int(cast(int, table.at[path, "frame_number"]))
            place = int(np.searchsorted(numbers, number))
            if np.abs(numbers[max(place - 1, 0) : place + 1] - number).min() <= buffer:
                continue
        kept.append(path)
    return kept
