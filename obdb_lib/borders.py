"""What crosses the border between two parts of a split: shared recordings, neighbouring frames, proven twins.

A border is looked at from the side that judges: of the frames of val, how many have something of theirs in train. All
counts and rates are frames of the judging part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.nearest import Nearest

BORDERS = (("val", "train"), ("test", "train"), ("test", "val"))
"""(judging part, part it must not know)."""
LEVELS = {"task": "task_name", "video": "video", "session": "session", "camera": "camera"}
GAP_EDGES = (0, 1, 5, 10, 25, 50, 100)
"""Upper ends of the bins of a gap histogram, in frame numbers; the last bin is open."""


@dataclass(frozen=True)
class Shared:
    """Groups that stand on both sides.

    Attributes:
        groups: groups that the judging part has frames of.
        shared: those of them that the other part has frames of, too.
        frames: judging frames that belong to a known group.
        shared_frames: those of them whose group is on both sides.
    """

    groups: int
    shared: int
    frames: int
    shared_frames: int

    @property
    def rate(self) -> float:
        """Share of the judging frames whose group is on the other side, too (0..1)."""
        return self.shared_frames / self.frames if self.frames else 0.0


@dataclass(frozen=True)
class Gaps:
    """How far, in frame numbers of the same video, the nearest frame of the other part is.

    Attributes:
        step: smallest distance of two frames of a video anywhere in the data: one keyframe.
        frames: judging frames whose video and number are known.
        adjacent: those with a frame of the other part at most ``step`` away.
        histogram: frames by upper end of the bin ("0", "1", "5", ... as in GAP_EDGES, then "more"), and under
            "no frame" those whose video the other part does not have.
        median: of the gaps that exist; None where there are none.
    """

    step: int
    frames: int
    adjacent: int
    histogram: dict[str, int]
    median: float | None

    def within(self, gap: int) -> int:
        """Judging frames with a frame of the other part at most ``gap`` frame numbers away; ``gap`` in GAP_EDGES."""
        return sum(self.histogram[str(edge)] for edge in GAP_EDGES if edge <= gap)


@dataclass(frozen=True)
class Border:
    """Everything that is known to cross one border.

    Attributes:
        judging, known: names of the parts.
        frames: frames of the judging part.
        shared: by level (task, video, session, camera, and duplicate_group and group where those were given).
        gaps: None where names do not tell videos and numbers.
        near_duplicates: judging frames with a proven twin on the other side; None where nobody looked for twins.
        nearest: how near its crops come in embedding space; None without embeddings.
    """

    judging: str
    known: str
    frames: int
    shared: dict[str, Shared] = field(default_factory=dict)
    gaps: Gaps | None = None
    near_duplicates: int | None = None
    nearest: Nearest | None = None

    @property
    def adjacent_rate(self) -> float | None:
        """Share of the judging frames of known videos with their neighbouring keyframe on the other side."""
        if self.gaps is None:
            return None
        return self.gaps.adjacent / self.gaps.frames if self.gaps.frames else 0.0

    @property
    def near_duplicate_rate(self) -> float | None:
        """Share of the judging frames with a proven twin on the other side."""
        if self.near_duplicates is None:
            return None
        return self.near_duplicates / self.frames if self.frames else 0.0


def look_across(
    judging: str,
    known: str,
    frames: pd.DataFrame,
    levels: Mapping[str, pd.Series],
    duplicates: DuplicateGroups | None,
    nearest: Nearest | None,
) -> Border:
    """The border between two parts.

    Args:
        frames: of the snapshot, with the column ``part``.
        levels: name -> group of each row of ``frames``; "" or NA where it is not known.
    """
    own = frames["part"] == judging
    twins = None
    if duplicates is not None:
        table = twin_pairs(frames.set_index("img_path")["part"], duplicates, judging, known)
        twins = int(table["img_path"].nunique())
    gaps = None
    if _numbered(frames).any():
        gaps = gaps_across(nearest_gaps(frames, judging, known), keyframe_step(frames))
    return Border(
        judging=judging,
        known=known,
        frames=int(own.sum()),
        shared={name: _shared(own, frames["part"] == known, groups) for name, groups in levels.items()},
        gaps=gaps,
        near_duplicates=twins,
        nearest=nearest,
    )


def keyframe_step(frames: pd.DataFrame) -> int:
    """Smallest positive distance in frame numbers between two frames of a video; 1 where there is none."""
    table = frames[_numbered(frames)].sort_values(["video", "frame_number"])
    steps = table.groupby("video")["frame_number"].diff().dropna()
    steps = steps[steps > 0]
    return int(steps.min()) if len(steps) else 1


def nearest_gaps(frames: pd.DataFrame, judging: str, known: str) -> pd.DataFrame:
    """For each judging frame of a known video and number: its nearest frame of the other part in that video.

    Returns:
        Columns img_path, gap (float, frame numbers, NaN where the other part lacks the video), neighbour (img_path).
    """
    table = frames.loc[_numbered(frames), ["img_path", "video", "frame_number", "part"]]
    table = table.assign(frame_number=table["frame_number"].astype(np.int64)).sort_values(["frame_number", "img_path"])
    other = table[table["part"] == known].rename(columns={"img_path": "neighbour"}).drop(columns="part")
    other = other.assign(number=other["frame_number"])
    mine = table[table["part"] == judging].drop(columns="part")
    found = pd.merge_asof(mine, other, on="frame_number", by="video", direction="nearest")
    found["gap"] = (found["frame_number"] - found["number"]).abs().astype(float)
    return found[["img_path", "gap", "neighbour"]].sort_values("img_path", ignore_index=True)


def gaps_across(nearest: pd.DataFrame, step: int) -> Gaps:
    """Histogram of what ``nearest_gaps`` found."""
    gaps = nearest["gap"].dropna().to_numpy(float)
    places = np.searchsorted(GAP_EDGES, gaps)
    counts = np.bincount(places, minlength=len(GAP_EDGES) + 1)
    histogram = {name: int(n) for name, n in zip([*map(str, GAP_EDGES), "more"], counts, strict=True)}
    return Gaps(
        step=step,
        frames=len(nearest),
        adjacent=int((gaps <= step).sum()),
        histogram={**histogram, "no frame": len(nearest) - len(gaps)},
        median=float(np.median(gaps)) if len(gaps) else None,
    )


def twin_pairs(parts: pd.Series, duplicates: DuplicateGroups, judging: str, known: str) -> pd.DataFrame:
    """Proven pairs across the border: columns img_path (judging), twin (known), correlation; the surest first."""
    pairs = duplicates.pairs
    first, second = pairs["first"].map(parts), pairs["second"].map(parts)
    sides = []
    for own, other, judges, knows in (("first", "second", first, second), ("second", "first", second, first)):
        crossing = pairs[(judges == judging) & (knows == known)]
        sides.append(crossing[[own, other, "correlation"]].set_axis(["img_path", "twin", "correlation"], axis=1))
    table = pd.concat(sides, ignore_index=True)
    return table.sort_values(["correlation", "img_path"], ascending=[False, True], ignore_index=True)


def _numbered(frames: pd.DataFrame) -> pd.Series:
    return (frames["video"] != "") & frames["frame_number"].notna()


def _shared(own: pd.Series, other: pd.Series, groups: pd.Series) -> Shared:
    named = groups.notna() & (groups.astype(str) != "")
    mine = groups[own & named]
    both = set(mine.unique()) & set(groups[other & named].unique())
    return Shared(int(mine.nunique()), len(both), len(mine), int(mine.isin(both).sum()))
