"""The split: which frames train a detector and which ones judge it.

All shares count **frames**, not groups and not boxes; the report says what that means in boxes per class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from obdb_lib.balance import assign_groups
from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.cache import content_hash
from obdb_lib.duplicates import DuplicateGroups, connected
from obdb_lib.errors import SplitError
from obdb_lib.records import Document
from obdb_lib.snapshots import Snapshot

PARTS = ("train", "val", "test", "excluded")
GROUPINGS = ("task", "video", "session", "camera", "duplicate_group")
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
        strategy: ``groups`` or ``every_nth``.
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
    frames: Sequence[str] | None = None,
    seed: int = 0,
) -> Split:
    """Whole groups go to one part; boxes per class, the mix of clusters and the number of frames are balanced.

    Args:
        group_by: what may not be torn apart, of GROUPINGS; frames that share any of these stay together (connected
            components). A frame whose names do not tell its video, session or camera is held together by the rest.
        shares: target share of frames by part; default 80 % train, 20 % val.
        duplicates: needed for ``duplicate_group``.
        clusters: annotation_id -> cluster, balanced like a class when given.
        frames: only these img_paths take part; all when None.
        seed: of the search's restarts.

    Raises:
        SplitError: unknown grouping, shares that are not 1 in sum, or fewer groups than parts.
    """
    shares = dict(shares or DEFAULT_SHARES)
    _check_shares(shares)
    table = snapshot.frames if frames is None else snapshot.frames[snapshot.frames["img_path"].isin(list(frames))]
    groups = frame_groups(table, group_by, duplicates)
    count = int(groups.max()) + 1 if len(groups) else 0
    if count < len(shares):
        raise SplitError(
            f"the {len(table)} frames form {count} group(s) by {', '.join(group_by)}: too few for {len(shares)} parts "
            f"({', '.join(shares)}). Group by something finer, or collect more videos."
        )
    features, weights = _group_features(snapshot, table, groups, clusters)
    names = list(shares)
    chosen = assign_groups(features, weights, np.array([shares[name] for name in names]), seed=seed)
    parts = [names[chosen[group]] for group in groups]
    result = pd.DataFrame({"img_path": table["img_path"].to_numpy(object), "part": parts})
    parameters = {"group_by": list(group_by), "shares": shares, "seed": seed, "groups": count}
    return make_split(snapshot.id, "groups", result, parameters)


def default_grouping(snapshot: Snapshot) -> tuple[str, ...]:
    """What holds frames together when the user does not say: the video where the names tell it, and twins always."""
    known = bool((snapshot.frames["video"] != "").any())
    return ("video", "duplicate_group") if known else ("duplicate_group",)


def frame_groups(table: pd.DataFrame, group_by: Sequence[str], duplicates: DuplicateGroups | None) -> IntArray:
    """Group number of each row of ``table``: frames sharing any of ``group_by`` are in one group."""
    unknown = [name for name in group_by if name not in GROUPINGS]
    if unknown or not group_by:
        raise SplitError(f"group_by must name one or more of {', '.join(GROUPINGS)}; got {list(group_by)}")
    pairs: list[tuple[int, int]] = []
    for name in group_by:
        if name == "duplicate_group":
            if duplicates is None:
                raise SplitError("grouping by duplicate_group needs duplicates.find_duplicates first")
            keys = table["img_path"].map(duplicates.groups).fillna(-1).astype(int).astype(str).replace("-1", "")
        else:
            keys = table["task_name" if name == "task" else name].astype(str)
        first: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key:
                pairs.append((first.setdefault(key, row), row))
    return connected(len(table), np.array(pairs, dtype=np.int64).reshape(-1, 2))


def _group_features(
    snapshot: Snapshot, table: pd.DataFrame, groups: IntArray, clusters: pd.Series | None
) -> tuple[FloatArray, FloatArray]:
    """What is balanced: (G, F) counts per group of frames, boxes per class, boxes per cluster; and F weights."""
    count = int(groups.max()) + 1
    columns = [np.bincount(groups, minlength=count)]
    weights = [1.0]
    group_of = pd.Series(groups, index=table["img_path"])
    boxes = snapshot.annotations[snapshot.annotations["img_path"].isin(group_of.index)]
    box_groups = boxes["img_path"].map(group_of).to_numpy(np.int64)
    keys = [boxes["object_class"]]
    if clusters is not None:
        keys.append(boxes["annotation_id"].map(clusters))
    for key in keys:
        values = [value for value in key.dropna().unique() if value != -1]
        for value in values:
            columns.append(np.bincount(box_groups[(key == value).to_numpy(bool)], minlength=count))
            weights.append(1.0 / len(values))
    return np.stack(columns, axis=1).astype(np.float32), np.array(weights, dtype=np.float32)


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
