"""Move a split over to newer data: known frames stay where they were, new ones follow their group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import SplitError
from obdb_lib.grouping import GroupSources, in_buffer
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import DEFAULT_SHARES, PARTS, Edit, Split, default_grouping, frame_groups, make_split

EXCLUDED = "excluded"
BY_GROUP, BY_SHARE, TORN, BUFFER, GONE = "its group", "share", "joins parts", "buffer", "gone"
"""Why a frame was placed: its group was in one part; it is of a new group, which went to the part furthest below its
share; its group stands in several parts, so that it would leak wherever it went; it lies between two time blocks; it is
no longer in the data."""


class HasSplit(Protocol):
    """A manifest."""

    @property
    def split(self) -> Split: ...


@dataclass(frozen=True)
class Migration:
    """A split on newer data, and what was done.

    Attributes:
        split: for the new snapshot, same strategy; ``parameters["migrated"]`` counts what follows.
        moves: one row for each frame that is new or gone: img_path, part ("" for gone), why (BY_GROUP, BY_SHARE, TORN,
            BUFFER, GONE), group (img_path of its group's first frame, "" for gone).
        torn_groups: groups whose known frames stand in several parts (by their first frame) -> these parts.
    """

    split: Split
    moves: pd.DataFrame
    torn_groups: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        why = self.moves["why"].value_counts()
        placed = self.moves[self.moves["why"].isin([BY_GROUP, BY_SHARE])]["part"].value_counts()
        to = ", ".join(f"{placed[part]} to {part}" for part in PARTS if part in placed)
        lines = [
            f"{int(why.get(BY_GROUP, 0))} new frames followed their group, {int(why.get(BY_SHARE, 0))} of new groups "
            f"went to the part furthest below its share{f' ({to})' if to else ''}; {int(why.get(GONE, 0))} frames are "
            "gone."
        ]
        if why.get(TORN, 0):
            torn = self.moves[self.moves["why"] == TORN]
            first = torn.iloc[0]
            parts = " and ".join(self.torn_groups[first["group"]])
            lines.append(
                f"{len(torn)} new frames belong to groups that stand in several parts and were excluded, so that they "
                f"leak nothing; the first is {first['img_path']} ({parts})."
            )
        if why.get(BUFFER, 0):
            lines.append(f"{int(why[BUFFER])} new frames lie between two time blocks and were excluded, as others are.")
        silent = sorted(set(self.torn_groups) - set(self.moves["group"]))
        if silent:
            parts = " and ".join(self.torn_groups[silent[0]])
            lines.append(
                f"{len(silent)} groups of known frames stand in several parts; they were left there. The first is "
                f"that of {silent[0]} ({parts})."
            )
        return "\n".join(lines)


def migrate(
    source: Split | HasSplit,
    snapshot: Snapshot,
    *,
    groups: pd.Series | Mapping[str, object] | None = None,
    duplicates: DuplicateGroups | None = None,
) -> Migration:
    """The split on ``snapshot``: no known frame changes its part.

    A new frame goes where the known frames of its group are (frames that were excluded do not count, unless the whole
    group was). A group that is new altogether goes, largest first, to the part furthest below its share of the frames.
    A new frame whose group stands in several parts is excluded, and so is one between two time blocks.
    Edits of frames that are gone are dropped.

    Args:
        source: a split, or a manifest.
        groups: img_path -> what holds frames together, for the new snapshot; frames without one are alone. None takes
            what the split was grouped by, else video and twins as far as they are known.
        duplicates: of the new snapshot's frames, where the split was grouped by ``duplicate_group``.

    Raises:
        SplitError: not one frame of the split is in the snapshot, or ``duplicates`` or ``groups`` is needed.
    """
    split = source if isinstance(source, Split) else source.split
    frames = snapshot.frames.reset_index(drop=True)
    known = split.parts()
    old = frames["img_path"].map(known)
    if not old.notna().any():
        raise SplitError(
            f"not one of the {len(known)} frames of split {split.id} is in snapshot {snapshot.id}; load the tasks it "
            "was made for, or make a new split in notebook 02"
        )
    table = pd.DataFrame({"img_path": frames["img_path"], "old": old})
    table["group"] = _group_names(frames, split, snapshot, groups, duplicates)
    torn, decided = _decide(table)
    fresh = table["old"].isna()
    parts, why = table["old"].to_numpy(object), np.full(len(table), "", dtype=object)
    for row, group in zip(np.flatnonzero(fresh), table.loc[fresh, "group"].astype(str), strict=True):
        parts[row], why[row] = (EXCLUDED, TORN) if group in torn else (decided.get(group), BY_GROUP)
    block, buffer = _blocks(split)
    if block is not None and "time_block" in split.group_by:
        between = fresh.to_numpy(bool) & in_buffer(frames, block, buffer)
        parts[between], why[between] = EXCLUDED, BUFFER
    table["part"], table["why"] = pd.Series(parts, dtype=object), pd.Series(why, dtype=object)
    _place_new_groups(table, _targets(split))
    gone = sorted(set(known.index) - set(frames["img_path"]))
    moves = pd.concat(
        [
            table.loc[fresh, ["img_path", "part", "why", "group"]],
            pd.DataFrame({"img_path": gone, "part": "", "why": GONE, "group": ""}),
        ],
        ignore_index=True,
    )
    return Migration(_moved(split, snapshot, table, moves), moves, torn)


def _group_names(
    frames: pd.DataFrame,
    split: Split,
    snapshot: Snapshot,
    groups: pd.Series | Mapping[str, object] | None,
    duplicates: DuplicateGroups | None,
) -> pd.Series:
    """Name of each frame's group: the img_path of its first frame."""
    if groups is not None:
        keys = frames["img_path"].map(groups if isinstance(groups, pd.Series) else dict(groups))
        keys = keys.where(keys.notna() & (keys.astype(str) != ""), "alone " + frames["img_path"])
    else:
        group_by = split.group_by or tuple(
            name for name in default_grouping(snapshot) if name != "duplicate_group" or duplicates is not None
        )
        if not group_by:
            return frames["img_path"]
        lacking = [name for name in group_by if name in ("cluster", "given")]
        if lacking or ("duplicate_group" in group_by and duplicates is None):
            wanted = (
                f"groups=, as {', '.join(lacking)} cannot be told from the new data"
                if lacking
                else ("duplicates=find_duplicates(...) of the new frames, too, or groups of your own")
            )
            raise SplitError(f"split {split.id} was grouped by {', '.join(group_by)}: pass {wanted}")
        block, buffer = _blocks(split)
        sources = GroupSources(duplicates=duplicates, block_frames=block, buffer_frames=buffer)
        keys = pd.Series(frame_groups(frames, group_by, sources=sources), frames.index)
    return frames["img_path"].groupby(keys).transform("min")


def _blocks(split: Split) -> tuple[int | None, int]:
    """Lengths of the time blocks and buffers that a split was made with; None without blocks."""
    block, buffer = split.parameters.get("block_frames"), split.parameters.get("buffer_frames")
    return block if isinstance(block, int) else None, buffer if isinstance(buffer, int) else 0


def _decide(table: pd.DataFrame) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Groups that stand in several parts, and the part of each other group that has known frames."""
    torn: dict[str, tuple[str, ...]] = {}
    decided: dict[str, str] = {}
    for group, parts in table.dropna(subset=["old"]).groupby("group")["old"]:
        found = [part for part in PARTS if part != EXCLUDED and (parts == part).any()]
        if len(found) > 1:
            torn[str(group)] = tuple(found)
        else:
            decided[str(group)] = found[0] if found else EXCLUDED
    return torn, decided


def _targets(split: Split) -> dict[str, float]:
    """Wanted share of the frames by part; the reached one where the split was made without."""
    shares = split.parameters.get("shares")
    if isinstance(shares, Mapping):
        return {str(part): float(share) for part, share in shares.items() if part in PARTS and part != EXCLUDED}
    counts = split.frames["part"].value_counts().drop(EXCLUDED, errors="ignore")
    reached = {part: int(counts[part]) / int(counts.sum()) for part in PARTS if part in counts}
    return reached or dict(DEFAULT_SHARES)


def _place_new_groups(table: pd.DataFrame, targets: Mapping[str, float]) -> None:
    """Largest group first, each to the part that lacks most frames; ``table`` is changed in place."""
    open_rows = table[table["part"].isna()]
    counts = {part: int((table["part"] == part).sum()) for part in targets}
    sizes = open_rows["group"].value_counts()
    total = sum(counts.values()) + len(open_rows)
    for group in sorted(sizes.index, key=lambda name: (-int(sizes[name]), name)):
        part = max(targets, key=lambda name: targets[name] * total - counts[name])
        counts[part] += int(sizes[group])
        table.loc[open_rows.index[open_rows["group"] == group], ["part", "why"]] = [part, BY_SHARE]


def _moved(split: Split, snapshot: Snapshot, table: pd.DataFrame, moves: pd.DataFrame) -> Split:
    there = set(table["img_path"])
    edits = [Edit(edit.part, tuple(path for path in edit.img_paths if path in there)) for edit in split.edits]
    why = moves["why"].value_counts()
    migrated: dict[str, object] = {"from_split": split.id, "from_snapshot": split.snapshot_id}
    migrated |= {name.replace(" ", "_"): int(why.get(name, 0)) for name in (BY_GROUP, BY_SHARE, TORN, BUFFER, GONE)}
    return make_split(
        snapshot.id,
        split.strategy,
        table[["img_path", "part"]],
        {**split.parameters, "migrated": migrated},
        [edit for edit in edits if edit.img_paths],
        built={path: part for path, part in split.built.items() if path in there},
    )
