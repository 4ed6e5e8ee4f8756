"""A split that a person is still changing: edits with undo and redo, and what each of them does to balance and leaks.

The numbers are those of ``leaks.report``, counted anew after every edit from arrays that were laid out once, so that
they can follow a person's hand (milliseconds at 100,000 boxes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import IntArray
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import SplitError
from obdb_lib.grouping import GroupSources, frame_groups
from obdb_lib.live_numbers import Balance, LiveCounter, SplitNumbers
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import BUILDER, PARTS, Edit, Split, make_split

__all__ = ["Balance", "SplitDraft", "SplitNumbers", "replay"]

PartCodes = NDArray[np.int8]
EXCLUDED = "excluded"
NO_PART = -1
"""Code of a frame that is not in the split."""


@dataclass(frozen=True)
class _Step:
    """One edit, the frames it moved (rows of the draft) and where they had been."""

    edit: Edit
    rows: IntArray
    before: PartCodes


class SplitDraft:
    """A split and the edits a person makes to it.

    Args:
        split: whose frames are to be edited; edits it already has can be undone, too.
        snapshot: the data the split was made for.
        duplicates: proven pairs of frames, for the near-duplicate leak.
        clusters: annotation_id -> cluster, for the balance of clusters.
        groups: img_path -> group of frames that belong together; None takes what the split was grouped by (a split that
            was grouped by nothing has no groups then). A frame that is not named is a group of its own.

    Attributes:
        keep_groups_whole: True (the default) takes the whole group of an edited frame along to train, val or test, so
            that no edit can tear a group; only frames that are excluded stay so. Putting frames into ``excluded`` takes
            none along: a bad picture leaves without its video. False moves exactly the frames that were named.

    Raises:
        SplitError: the split was made for other data, or knows groups that need ``duplicates``.
    """

    def __init__(
        self,
        split: Split,
        snapshot: Snapshot,
        *,
        duplicates: DuplicateGroups | None = None,
        clusters: pd.Series | None = None,
        groups: pd.Series | None = None,
    ) -> None:
        self._paths: pd.Index = pd.Index(split.frames["img_path"])
        table = snapshot.frames.iloc[_rows_in(snapshot, split, self._paths)].reset_index(drop=True)
        self.split = split
        self.keep_groups_whole = True
        sources = GroupSources(
            duplicates=duplicates,
            boxes=snapshot.annotations,
            clusters=clusters,
            block_frames=cast("int | None", split.parameters.get("block_frames")),
            buffer_frames=cast(int, split.parameters.get("buffer_frames", 0)),
        )
        self._groups = _group_numbers(table, split, sources, groups)
        self._counter = LiveCounter(self._paths, snapshot, duplicates, clusters, self._groups)
        self._codes = _codes(split.frames["part"])
        self._built = self._codes.copy()
        for path, part in split.built.items():
            self._built[self._paths.get_loc(path)] = PARTS.index(part)
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        if split.edits:
            self._codes = self._built.copy()
            for edit in split.edits:
                self._apply(edit)
            if not np.array_equal(self._codes, _codes(split.frames["part"])):
                raise SplitError(f"the edits of split {split.id} do not give its frames; make it again in notebook 02")
        self._numbers: SplitNumbers | None = None

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits that stand, the oldest first."""
        return tuple(step.edit for step in self._done)

    @property
    def can_redo(self) -> bool:
        """Is there an undone edit that can be made again?"""
        return bool(self._undone)

    @property
    def img_paths(self) -> pd.Index:
        """The frames of the split, sorted; other arrays of the draft are in this order."""
        return self._paths

    @property
    def part_codes(self) -> PartCodes:
        """(F,) index into PARTS per frame; a copy."""
        return self._codes.copy()

    @property
    def has_groups(self) -> bool:
        """Does any frame belong together with another one?"""
        return len(self._groups) > 0 and int(self._groups.max()) + 1 < len(self._groups)

    @property
    def target(self) -> dict[str, float]:
        """Wanted share of frames by part; what the strategy had reached where its parameters do not tell."""
        shares = self.split.parameters.get("shares")
        if isinstance(shares, dict):
            return {part: float(shares.get(part, 0.0)) for part in PARTS}
        counts = np.bincount(self._built, minlength=len(PARTS))
        return {part: float(count / max(len(self._built), 1)) for part, count in zip(PARTS, counts, strict=True)}

    def parts(self) -> pd.Series:
        """Series img_path -> part, as the edits have left it."""
        return pd.Series(np.array(PARTS, dtype=object)[self._codes], index=self._paths, name="part")

    def reach(self, img_paths: Iterable[str], part: str) -> IntArray:
        """Rows of the frames that an edit of ``img_paths`` to ``part`` would speak of, groups taken along.

        Raises:
            SplitError: a frame is not in the split.
        """
        return self._reach(self._rows(img_paths), part)

    def assign(self, img_paths: Iterable[str], part: str) -> Edit | None:
        """Put frames into a part (of PARTS), or give them back to where the strategy had put them (BUILDER).

        Returns:
            The edit with the frames that really moved; None when all were there already: nothing is to be undone then.

        Raises:
            SplitError: there is no such part, or a frame is not in the split.
        """
        Edit(part, ())  # refuses an unknown part
        rows = self.reach(img_paths, part)
        wanted = self._wanted(rows, part)
        rows = rows[self._codes[rows] != wanted]
        if not len(rows):
            return None
        edit = Edit(part, tuple(self._paths[rows]))
        self._apply(edit)
        self._undone.clear()
        return edit

    def undo(self) -> Edit | None:
        """Take back the latest edit and return it; None when there is none."""
        if not self._done:
            return None
        step = self._done.pop()
        self._codes[step.rows] = step.before
        self._undone.append(step)
        self._numbers = None
        return step.edit

    def redo(self) -> Edit | None:
        """Make the edit again that was undone last; None when there is none."""
        if not self._undone:
            return None
        edit = self._undone.pop().edit
        self._apply(edit)
        return edit

    def numbers(self) -> SplitNumbers:
        """Balance and leaks of the split as it stands."""
        if self._numbers is None:
            self._numbers = self._counter.count(self._codes)
        return self._numbers

    def result(self) -> Split:
        """The split as it stands: same snapshot, strategy and parameters, with the edits."""
        touched = sorted({path for edit in self.edits for path in edit.img_paths})
        built = self._built[_rows_of(self._paths, touched)]
        return make_split(
            self.split.snapshot_id,
            self.split.strategy,
            pd.DataFrame({"img_path": self._paths.to_numpy(object), "part": self.parts().to_numpy(object)}),
            self.split.parameters,
            self.edits,
            built={path: PARTS[code] for path, code in zip(touched, built, strict=True)},
        )

    def _apply(self, edit: Edit) -> None:
        rows = self._rows(edit.img_paths)
        self._done.append(_Step(edit, rows, self._codes[rows]))
        self._codes[rows] = self._wanted(rows, edit.part)
        self._numbers = None

    def _wanted(self, rows: IntArray, part: str) -> PartCodes:
        if part == BUILDER:
            return self._built[rows]
        return np.full(len(rows), PARTS.index(part), dtype=np.int8)

    def _rows(self, img_paths: Iterable[str]) -> IntArray:
        return _rows_of(self._paths, list(img_paths))

    def _reach(self, rows: IntArray, part: str) -> IntArray:
        rows = np.unique(rows)
        if not self.keep_groups_whole or part == EXCLUDED:
            return rows
        chosen = np.zeros(int(self._groups.max(initial=-1)) + 1, dtype=bool)
        chosen[self._groups[rows]] = True
        along = chosen[self._groups] & (self._codes != PARTS.index(EXCLUDED))
        along[rows] = True
        return np.flatnonzero(along)


def replay(split: Split, edits: Sequence[Edit]) -> Split:
    """``split`` with ``edits`` made to it, without data or a screen: the identical split, and id, a person had made.

    Raises:
        SplitError: an edit names a frame that is not in the split.
    """
    paths = pd.Index(split.frames["img_path"])
    codes = _codes(split.frames["part"])
    built = dict(split.built)
    parts = np.array(PARTS, dtype=object)
    for edit in edits:
        rows = _rows_of(paths, list(edit.img_paths))
        for path, code in zip(edit.img_paths, codes[rows], strict=True):
            built.setdefault(path, PARTS[code])
        names = [built[path] if edit.part == BUILDER else edit.part for path in edit.img_paths]
        codes[rows] = [PARTS.index(name) for name in names]
    table = pd.DataFrame({"img_path": paths.to_numpy(object), "part": parts[codes]})
    done = (*split.edits, *edits)
    return make_split(split.snapshot_id, split.strategy, table, split.parameters, done, built=built)


def _codes(parts: pd.Series) -> PartCodes:
    codes = pd.Index(PARTS).get_indexer(pd.Index(parts))
    if (codes < 0).any():
        raise SplitError(f"unknown part {parts[codes < 0].iloc[0]!r}; parts are {', '.join(PARTS)}")
    return np.asarray(codes, dtype=np.int8)


def _rows_of(paths: pd.Index, names: list[str]) -> IntArray:
    rows = np.asarray(paths.get_indexer(pd.Index(names, dtype=object)), dtype=np.int64)
    if (rows < 0).any():
        first = names[int(np.argmax(rows < 0))]
        raise SplitError(f"{int((rows < 0).sum())} of the frames are not in this split, the first is {first!r}")
    return rows


def _rows_in(snapshot: Snapshot, split: Split, paths: pd.Index) -> IntArray:
    """Row in the snapshot's frames of each frame of the split."""
    rows = np.asarray(pd.Index(snapshot.frames["img_path"]).get_indexer(paths), dtype=np.int64)
    lost = rows < 0
    if lost.any():
        raise SplitError(
            f"split {split.id} was made for snapshot {split.snapshot_id}: {int(lost.sum())} of its {len(paths)} frames "
            f"are not in snapshot {snapshot.id}, the first is {paths[lost][0]!r}; make it again in notebook 02"
        )
    return rows


def _group_numbers(table: pd.DataFrame, split: Split, sources: GroupSources, groups: pd.Series | None) -> IntArray:
    if groups is None:
        if not split.group_by:
            return np.arange(len(table), dtype=np.int64)
        if "given" in split.group_by:
            raise SplitError(
                f"split {split.id} was grouped by your own groups; hand them over: groups=<img_path -> group>"
            )
        return frame_groups(table, split.group_by, sources=sources)
    named = table["img_path"].map(groups)
    numbers, names = pd.factorize(named)
    alone = numbers < 0
    numbers[alone] = len(names) + np.arange(int(alone.sum()))
    return np.asarray(numbers, dtype=np.int64)
