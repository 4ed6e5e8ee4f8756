"""Train and val as two files, upstream's way: read for a training, or written from a split of the lab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from obdb_lib.annotate.sources import Source, read_file, restricted
from obdb_lib.errors import DatasetError, FormatError
from obdb_lib.exports import stored_tasks
from obdb_lib.formats import write
from obdb_lib.given import given
from obdb_lib.records import Problem, TaskRecord, make_task
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split
from obdb_lib.store import Store

WRITTEN = {".pkl": "pickle", ".pickle": "pickle", ".parquet": "parquet", ".json": "coco"}
"""Format of a file that is written, by its ending."""


@dataclass(frozen=True)
class FileData:
    """Two files as a snapshot with its split; nothing of it is in the store.

    Attributes:
        roots: folders of the files, looked through for images first.
    """

    snapshot: Snapshot
    split: Split
    roots: tuple[Path, ...]
    problems: tuple[Problem, ...]


def read_parts(train: Path, val: Path) -> FileData:
    """The split that two files of annotated frames are, in any format that is read.

    Raises:
        DatasetError: a file is not there or holds no frames.
        FormatError: it is malformed.
        SplitError: a frame stands in both.
    """
    sources = {}
    for flag, part, path in (("-t", "train", train), ("-v", "val", val)):
        if not path.exists():
            raise DatasetError(
                f"{flag} {path} does not exist; it names a pickle, or another file with annotated frames"
            )
        sources[part] = read_file(path)
    records = _joined([record for source in sources.values() for record in source.records])
    roots = tuple(dict.fromkeys(root for source in sources.values() for root in source.roots))
    problems = tuple(problem for source in sources.values() for problem in source.problems)
    snapshot = Source("both", tuple(records)).snapshot()
    names = {part: [f["name"] for r in source.records for f in r.meta["frames"]] for part, source in sources.items()}
    return FileData(snapshot, given(snapshot, names).split, roots, problems)


def _joined(records: Sequence[TaskRecord]) -> list[TaskRecord]:
    """One record a task: two files can hold frames of one task."""
    found: dict[str, TaskRecord] = {}
    for record in records:
        before = found.get(record.name)
        if before is None:
            found[record.name] = TaskRecord(record.task, dict(record.meta), list(record.annotations))
            continue
        shift = len(before.meta["frames"])
        names = [label["name"] for one in (before, record) for label in one.task["labels"]]
        frames = [(f["name"], f["width"], f["height"]) for one in (before, record) for f in one.meta["frames"]]
        joined = make_task(record.name, list(dict.fromkeys(names)), frames)
        later = [{**one, "frame": one["frame"] + shift} for one in record.annotations]
        joined.annotations.extend([*before.annotations, *later])
        found[record.name] = joined
    return list(found.values())


def write_parts(
    store: Store, split: Split, files: dict[str, Path], *, tasks: Sequence[str] = ()
) -> tuple[dict[str, int], list[Problem]]:
    """Write parts of a split, each to its file, in the format that its ending names.

    Args:
        files: part -> file, such as ``{"train": Path("pd_train.pkl")}``.
        tasks: only these; all when empty.

    Returns:
        Frames written by part, and what the format could not hold.

    Raises:
        StoreError: the store lacks one of the tasks.
        DatasetError: a part has no frame of these tasks; nothing is written then.
        FormatError: no format is written under this ending.
        CacheError: a file cannot be written.
    """
    for file in files.values():
        if file.suffix.lower() not in WRITTEN:
            raise FormatError(f"{file} cannot be written: its name must end in {', '.join(WRITTEN)}")
    records = stored_tasks(store, tasks=tasks)
    parts = {}
    for part in files:
        kept = set(split.part(part))
        parts[part] = [one for one in (restricted(record, kept) for record in records) if one.meta["frames"]]
        if not parts[part]:
            raise DatasetError(f"part {part} of split {split.id} has no frame of the tasks asked for")
    problems = [
        problem
        for part, file in files.items()
        for problem in write(parts[part], file, WRITTEN[file.suffix.lower()]).problems
    ]
    return {part: sum(len(one.meta["frames"]) for one in found) for part, found in parts.items()}, problems


def class_counts(snapshot: Snapshot, split: Split) -> pd.DataFrame:
    """Boxes of each class (rows) in each part that has frames (columns)."""
    parts = snapshot.annotations["img_path"].map(split.parts())
    return pd.crosstab(snapshot.annotations["object_class"], parts).rename_axis(index="class", columns=None)
