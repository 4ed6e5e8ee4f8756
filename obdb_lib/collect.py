"""Collecting: annotations from the sample, a folder, or CVAT into the store, with an account of what was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from obdb_lib import paths
from obdb_lib.errors import DatasetError
from obdb_lib.formats import detect_and_read
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord
from obdb_lib.sample import DEFAULT_SIZE, TINY_SIZE, make_sample
from obdb_lib.snapshots import Snapshot
from obdb_lib.store import Store

SAMPLE_SIZES = {"default": DEFAULT_SIZE, "tiny": TINY_SIZE}


@dataclass(frozen=True)
class Collected:
    """What was put into the store.

    Attributes:
        source: what it came from, for a person.
        tasks: names of the tasks.
        counts: tasks, frames, annotations.
        problems: what was mended or set aside, and images that are missing.
        hidden: boxes of the sample that were left out on purpose; empty for real data.
    """

    source: str
    tasks: list[str]
    counts: dict[str, int]
    problems: list[Problem]
    hidden: list[Document] = field(default_factory=list)


def collect_sample(
    store: Store, *, size: str = "default", seed: int = 7, progress: Progress | None = None
) -> Collected:
    """Draw the built-in field (once) and store its annotations.

    Raises:
        DatasetError: ``size`` is neither ``default`` nor ``tiny``.
    """
    if size not in SAMPLE_SIZES:
        raise DatasetError(f"unknown sample size {size!r}; there are {', '.join(SAMPLE_SIZES)}")
    folder = paths.data_cache() / ("sample" if size == "default" else f"sample_{size}")
    sample = make_sample(folder, seed=seed, size=SAMPLE_SIZES[size], progress=progress)
    collected = _put(store, sample.tasks, [], [sample.root], progress)
    return Collected(f"built-in sample field, seed {seed}", *collected, hidden=sample.hidden)


def collect_files(
    store: Store, data: Path | str, *, image_roots: Sequence[Path | str] = (), progress: Progress | None = None
) -> Collected:
    """Read annotations of any known format (formats.detect_and_read) and store them; images are looked for under
    ``data`` and ``image_roots``.

    Raises:
        FormatError: nothing readable is there.
        DatasetError: it holds no task.
    """
    path = Path(data).expanduser()
    folder = path if path.is_dir() else path.parent
    roots = [folder, *(Path(root).expanduser() for root in image_roots)]
    return collect_result(store, str(path), detect_and_read(path, image_root=folder), roots, progress=progress)


def collect_result(
    store: Store, source: str, found: ReadResult, roots: Sequence[Path], *, progress: Progress | None = None
) -> Collected:
    """Store what a reader found; ``roots`` are the folders of its images.

    Raises:
        DatasetError: it found no task.
    """
    if not found.tasks:
        told = f"; first problem: {found.problems[0]}" if found.problems else ""
        raise DatasetError(f"{source} holds no task with frames{told}")
    return Collected(source, *_put(store, found.tasks, found.problems, roots, progress))


def _put(
    store: Store,
    records: Sequence[TaskRecord],
    problems: Sequence[Problem],
    roots: Sequence[Path],
    progress: Progress | None,
) -> tuple[list[str], dict[str, int], list[Problem]]:
    counts = store.import_tasks(records, progress=progress)
    store.add_image_roots(roots)
    names = [frame["name"] for record in records for frame in record.meta["frames"]]
    missing = FrameStore([*roots, *store.image_roots()]).missing(names)
    lost = [Problem(name, "image not found; add its folder to IMAGE_ROOTS") for name in missing]
    return [record.name for record in records], counts, [*problems, *lost]


def frames_of(store: Store, *roots: Path | str) -> FrameStore:
    """Where a notebook finds its images: the folders named, then those remembered at import, newest first."""
    return FrameStore([*(paths.locate(root) for root in roots if str(root)), *store.image_roots()])


def overview(snapshot: Snapshot) -> pd.DataFrame:
    """Frames and boxes per class of each task: one row a task, columns frames, boxes and the classes."""
    frames = snapshot.frames.groupby("task_name").size().rename("frames")
    classes = pd.crosstab(snapshot.annotations["task_name"], snapshot.annotations["object_class"])
    table = pd.concat([frames, classes.sum(axis=1).rename("boxes"), classes], axis=1).fillna(0).astype(int)
    table.index.name = "task"
    return table.sort_index()
