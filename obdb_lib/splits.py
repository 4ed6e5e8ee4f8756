"""The split: which frames train a detector and which ones judge it.

All shares count **frames**, not groups and not boxes; the report says what that means in boxes per class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pandas as pd

from obdb_lib.cache import content_hash
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import SplitError
from obdb_lib.grouping import GROUPINGS, GroupSources, frame_groups
from obdb_lib.records import Document
from obdb_lib.snapshots import Snapshot
from obdb_lib.split_builder import CLASS_MINIMUM, Wish, build_parts, choose_sessions

__all__ = [
    "BUILDER",
    "DEFAULT_SHARES",
    "GROUPINGS",
    "PARTS",
    "Edit",
    "NewDay",
    "Split",
    "by_groups",
    "default_grouping",
    "every_nth",
    "frame_groups",
    "k_folds",
    "make_split",
    "new_day",
    "split_from_documents",
]

PARTS = ("train", "val", "test", "excluded")
DEFAULT_SHARES = {"train": 0.8, "val": 0.2}
BUILDER = "builder"
"""In an Edit: give the frames back to where the strategy had put them."""


@dataclass(frozen=True)
class Edit:
    """One act of a person on a split: these frames to that part.

    Attributes:
        part: one of PARTS, or BUILDER.
        img_paths: the frames, sorted.
    """

    part: str
    img_paths: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.part not in (*PARTS, BUILDER):
            raise SplitError(f"frames cannot be put into {self.part!r}; the parts are {', '.join((*PARTS, BUILDER))}")
        object.__setattr__(self, "img_paths", tuple(sorted(set(self.img_paths))))


@dataclass(frozen=True)
class Split:
    """An assignment of frames to parts.

    Attributes:
        id: content hash over snapshot, strategy and assignment.
        snapshot_id: the data it was made for.
        strategy: ``groups``, ``new_day`` or ``every_nth``.
        frames: columns img_path, part (one of PARTS).
        parameters: what it was made with, plain values.
        edits: what a person changed afterwards, in order; ``frames`` is the result of them.
        built: the part the strategy had given, for the frames that an edit touched.
    """

    id: str
    snapshot_id: str
    strategy: str
    frames: pd.DataFrame
    parameters: Mapping[str, object] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    built: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_by(self) -> tuple[str, ...]:
        """What was not torn apart, such as ("video",); empty for a split that knows no groups."""
        found = self.parameters.get("group_by")
        return tuple(str(name) for name in found) if isinstance(found, list | tuple) else ()

    def part(self, name: str) -> list[str]:
        """Sorted img_paths of one part.

        Raises:
            SplitError: there is no part of that name.
        """
        if name not in PARTS:
            raise SplitError(f"unknown part {name!r}; parts are {', '.join(PARTS)}")
        return sorted(self.frames.loc[self.frames["part"] == name, "img_path"])

    def parts(self) -> pd.Series:
        """Series img_path -> part."""
        return self.frames.set_index("img_path")["part"]

    def documents(self) -> tuple[Document, list[Document]]:
        """What ``Store.save_split`` takes."""
        document: Document = {
            "_id": self.id,
            "snapshot_id": self.snapshot_id,
            "strategy": self.strategy,
            "parameters": dict(self.parameters),
            "edits": [edit.part for edit in self.edits],
            "counts": self.frames["part"].value_counts().to_dict(),
            "created": datetime.now(UTC),
        }
        # Which edits touched a frame stands with the frame: one document with all could outgrow MongoDB's limit.
        touched: dict[str, list[int]] = {}
        for number, edit in enumerate(self.edits):
            for img_path in edit.img_paths:
                touched.setdefault(img_path, []).append(number)
        rows = zip(self.frames["img_path"], self.frames["part"], strict=True)
        frames: list[Document] = [
            {"img_path": path, "part": part, "edits": touched.get(path, [])}
            | ({"built": self.built[path]} if path in self.built else {})
            for path, part in rows
        ]
        return document, frames


def split_from_documents(document: Document, frames: Sequence[Document]) -> Split:
    """The split that ``Store.split`` returns documents of.

    Raises:
        SplitError: frames are missing or changed: their hash is not the split's id.
    """
    table = pd.DataFrame(frames, columns=["img_path", "part"])
    acts: list[list[str]] = [[] for _ in document.get("edits", [])]
    for frame in frames:
        for number in frame.get("edits", []):
            acts[number].append(frame["img_path"])
    edits = tuple(Edit(part, tuple(paths)) for part, paths in zip(document.get("edits", []), acts, strict=True))
    built = {frame["img_path"]: str(frame["built"]) for frame in frames if "built" in frame}
    parameters = document.get("parameters", {})
    split = make_split(document["snapshot_id"], document["strategy"], table, parameters, edits, built=built)
    if split.id != document["_id"]:
        raise SplitError(
            f"split {document['_id']} is damaged: its frames now give {split.id}; make it again in notebook 02"
        )
    return split


def every_nth(snapshot: Snapshot, *, n: int = 10) -> Split:
    """Upstream's split: every ``n``-th frame of each task goes to val, the rest to train.

    Neighbours of a val frame are then in train, so the score it gives is too high; it is here to be compared with.
    """
    if n < 2:
        raise SplitError(f"every n-th frame needs n of 2 or more; got {n}")
    parts = pd.Series("train", index=snapshot.frames.index)
    for _, rows in snapshot.frames.sort_values(["task_name", "frame"]).groupby("task_name", sort=True):
        parts.loc[rows.index[::n]] = "val"
    table = pd.DataFrame({"img_path": snapshot.frames["img_path"], "part": parts})
    return make_split(snapshot.id, "every_nth", table, {"n": n})


def by_groups(
    snapshot: Snapshot,
    *,
    group_by: Sequence[str] = ("video", "duplicate_group"),
    shares: Mapping[str, float] | None = None,
    duplicates: DuplicateGroups | None = None,
    clusters: pd.Series | None = None,
    given: Mapping[str, object] | None = None,
    block_frames: int | None = None,
    buffer_frames: int = 0,
    fixed: Mapping[str, str] | None = None,
    class_minimum: int = CLASS_MINIMUM,
    balance: Mapping[str, float] | None = None,
    frames: Sequence[str] | None = None,
    seed: int = 0,
) -> Split:
    """Whole groups go to one part; frames, boxes per class, the mix of clusters and box sizes are balanced at once.

    Args:
        group_by: what may not be torn apart, of GROUPINGS; frames that share any of these stay together (connected
            components). A frame whose names do not tell its video, session or camera is held together by the rest.
        shares: target share of frames by part; default 80 % train, 20 % val.
        duplicates: needed for ``duplicate_group``.
        clusters: annotation_id -> cluster, balanced like a class when given; needed for ``cluster``, which holds whole
            clusters together (see grouping.frame_groups: large ones join everything).
        given: img_path -> name of your own group, needed for ``given``.
        block_frames, buffer_frames: for ``time_block``: blocks of so many frame numbers of a video, and so many
            between two blocks that go to ``excluded``, so that no two parts touch. Shares count what is left.
        fixed: img_path -> part; the frame's whole group goes there. A part without a share (``test``, say) is taken out
            of the balance; ``excluded`` takes out the frame alone.
        class_minimum: boxes of each class that each part must hold, wherever feasible; ``parameters["solver"]
            ["lacking"]`` says which classes cannot have it and why.
        balance: weights of "frames", "classes", "clusters", "sizes" that differ from split_builder.BALANCE.
        frames: only these img_paths take part; all when None.
        seed: of the search's restarts; same data, arguments and seed give the same split.

    Returns:
        Split whose ``parameters["solver"]`` says how it was found and how far from the proven bound it stopped. Largest
        deviations there are relative to the wanted count (0.1: 10 % off).

    Raises:
        SplitError: unknown grouping, shares that are not 1 in sum, contradicting fixed frames, or fewer groups than
            parts.
    """
    shares = dict(shares or DEFAULT_SHARES)
    _check_shares(shares)
    unknown = sorted(set((fixed or {}).values()) - set(PARTS))
    if unknown:
        raise SplitError(f"fixed names unknown parts {unknown}; parts are {', '.join(PARTS)}")
    sources = GroupSources(duplicates, snapshot.annotations, clusters, given, block_frames, buffer_frames)
    wish = Wish(shares, tuple(group_by), sources, fixed or {}, class_minimum, balance or {}, seed)
    result, parameters = build_parts(snapshot, _rows(snapshot, frames), wish)
    return make_split(snapshot.id, "groups", result, parameters)


def k_folds(
    snapshot: Snapshot,
    k: int = 5,
    *,
    group_by: Sequence[str] = ("video", "duplicate_group"),
    duplicates: DuplicateGroups | None = None,
    clusters: pd.Series | None = None,
    given: Mapping[str, object] | None = None,
    block_frames: int | None = None,
    buffer_frames: int = 0,
    class_minimum: int = CLASS_MINIMUM,
    balance: Mapping[str, float] | None = None,
    frames: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Split]:
    """``k`` splits whose val parts are disjoint, alike in size and mix, and together all frames; no group is torn.

    A detector of fold i has never seen a frame of its val part, nor anything of that frame's group: what is needed to
    look for missing annotations in all frames. Arguments as in ``by_groups``; ``parameters`` of each split say ``fold``
    (0..k-1) and ``folds``.

    Raises:
        SplitError: k below 2, and as by_groups.
    """
    if k < 2:
        raise SplitError(f"folds must be 2 or more; got {k}")
    names = [f"fold {number}" for number in range(k)]
    sources = GroupSources(duplicates, snapshot.annotations, clusters, given, block_frames, buffer_frames)
    wish = Wish(dict.fromkeys(names, 1 / k), tuple(group_by), sources, {}, class_minimum, balance or {}, seed)
    result, parameters = build_parts(snapshot, _rows(snapshot, frames), wish)
    shares = {"train": 1 - 1 / k, "val": 1 / k}
    splits = []
    for number, name in enumerate(names):
        part = result["part"].where(result["part"] == "excluded", "train").mask(result["part"] == name, "val")
        told = {**parameters, "shares": shares, "fold": number, "folds": k}
        splits.append(make_split(snapshot.id, "groups", result.assign(part=part), told))
    return splits


@dataclass(frozen=True)
class NewDay:
    """A split whose test part is a day that neither train nor val has seen.

    Attributes:
        split: parts train, val and test.
        sessions: the sessions of the test part.
        missing: classes without any box in test, which it cannot judge.
        only_there: classes whose boxes are all in test, which no detector of this split can learn.
    """

    split: Split
    sessions: tuple[str, ...]
    missing: tuple[str, ...]
    only_there: tuple[str, ...]


def new_day(
    snapshot: Snapshot,
    *,
    sessions: Sequence[str] | None = None,
    test_share: float = 0.15,
    group_by: Sequence[str] = ("video", "duplicate_group"),
    shares: Mapping[str, float] | None = None,
    duplicates: DuplicateGroups | None = None,
    clusters: pd.Series | None = None,
    block_frames: int | None = None,
    buffer_frames: int = 0,
    class_minimum: int = CLASS_MINIMUM,
    seed: int = 0,
) -> NewDay:
    """Whole sessions are test, the harder question; train and val are made of the rest by groups.

    Sessions differ in season and field, so that this test is rarely balanced: read ``missing`` beside its score.

    Args:
        sessions: which to hold out; None takes those that come closest to ``test_share`` and to the mix of the rest.
        test_share: wanted share of frames in test, when ``sessions`` is None.
        group_by, shares, duplicates, clusters, block_frames, buffer_frames, class_minimum, seed: of train and val, as
            in ``by_groups``; what else holds a frame to a session that is held out brings it along.

    Raises:
        SplitError: names that tell no session, an unknown session, nothing left to train on, and as by_groups.
    """
    if not 0 < test_share < 1:
        raise SplitError(f"test_share must lie between 0 and 1; got {test_share}")
    shares = dict(shares or DEFAULT_SHARES)
    _check_shares(shares)
    sources = GroupSources(duplicates, snapshot.annotations, clusters, None, block_frames, buffer_frames)
    away = {"rest": 1 - test_share, "test": test_share}
    wish = Wish(away, tuple(group_by), sources, class_minimum=class_minimum, seed=seed)
    table = snapshot.frames
    held, names = choose_sessions(snapshot, table, wish, sessions)
    rest, parameters = build_parts(snapshot, table[~held], replace(wish, shares=shares))
    test = pd.DataFrame({"img_path": table["img_path"][held].to_numpy(object), "part": "test"})
    result = pd.concat([rest, test], ignore_index=True)
    split = make_split(snapshot.id, "new_day", result, {**parameters, "test_sessions": list(names)})
    part = snapshot.annotations["img_path"].map(split.parts())
    inside = set(snapshot.annotations.loc[part == "test", "object_class"])
    outside = set(snapshot.annotations.loc[part != "test", "object_class"])
    return NewDay(split, names, tuple(sorted(outside - inside)), tuple(sorted(inside - outside)))


def _rows(snapshot: Snapshot, frames: Sequence[str] | None) -> pd.DataFrame:
    table = snapshot.frames
    return table if frames is None else table[table["img_path"].isin(list(frames))]


def default_grouping(snapshot: Snapshot) -> tuple[str, ...]:
    """What holds frames together when the user does not say: the video where the names tell it, and twins always."""
    known = bool((snapshot.frames["video"] != "").any())
    return ("video", "duplicate_group") if known else ("duplicate_group",)


def _check_shares(shares: Mapping[str, float]) -> None:
    unknown = [name for name in shares if name not in PARTS]
    if unknown:
        raise SplitError(f"unknown parts {unknown}; parts are {', '.join(PARTS)}")
    if len(shares) < 2 or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise SplitError(f"shares must be two or more positive numbers with sum 1; got {dict(shares)}")


def make_split(
    snapshot_id: str,
    strategy: str,
    table: pd.DataFrame,
    parameters: Mapping[str, object],
    edits: Sequence[Edit] = (),
    *,
    built: Mapping[str, str] | None = None,
) -> Split:
    """A split of a table with columns img_path and part; sorts it and gives it its id."""
    table = table.sort_values("img_path", ignore_index=True)
    rows = [f"{path}|{part}" for path, part in zip(table["img_path"], table["part"], strict=True)]
    identity = content_hash(snapshot_id, strategy, rows)
    return Split(identity, snapshot_id, strategy, table, dict(parameters), tuple(edits), dict(built or {}))
