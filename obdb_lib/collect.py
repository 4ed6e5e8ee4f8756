"""Collecting: annotations from the sample, a folder, or CVAT into the store, with an account of what was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from obdb_lib import paths
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.formats import detect_and_read
from obdb_lib.frames import FrameStore, frames_below
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.progress import Progress, tracked
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, make_task
from obdb_lib.sample import DEFAULT_SIZE, TINY_SIZE, make_sample
from obdb_lib.snapshots import Snapshot
from obdb_lib.store import Store

SAMPLE_MARK = "sample"
"""Field of a task document that the sample made; a task without it is never replaced by the sample."""
BLANK_MARK = "blank"
"""Field of a task document that was made of a folder that nobody annotated."""
IMAGE_FOLDERS = ("images", "JPEGImages")
"""Where YOLO and VOC keep the images; frames are named without it."""
SAMPLE_SIZES = {"default": DEFAULT_SIZE, "tiny": TINY_SIZE}


@dataclass(frozen=True)
class Collected:
    """What was put into the store.

    Attributes:
        source: what it came from, for a person.
        tasks: names of the tasks.
        counts: tasks, frames, annotations.
        roots: folders of its images, looked through first by the notebooks that follow.
        problems: what was mended or set aside, and images that are missing or of another size than annotated.
        hidden: boxes of the sample that were left out on purpose; empty for real data.
    """

    source: str
    tasks: list[str]
    counts: dict[str, int]
    roots: list[str]
    problems: list[Problem]
    hidden: list[Document] = field(default_factory=list)


def collect_sample(
    store: Store, *, size: str = "default", seed: int = 7, progress: Progress | None = None
) -> Collected:
    """Draw the built-in field (once) and store its annotations.

    Raises:
        DatasetError: ``size`` is neither ``default`` nor ``tiny``, or the store holds real tasks of the same names.
    """
    if size not in SAMPLE_SIZES:
        raise DatasetError(f"unknown sample size {size!r}; there are {', '.join(SAMPLE_SIZES)}")
    folder = paths.data_cache() / ("sample" if size == "default" else f"sample_{size}")
    sample = make_sample(folder, seed=seed, size=SAMPLE_SIZES[size], progress=progress)
    _refuse_to_replace_real_tasks(store, sample.tasks)
    for record in sample.tasks:
        record.task[SAMPLE_MARK] = True
    collected = _put(store, sample.tasks, [], [sample.root], progress)
    return Collected(f"built-in sample field, seed {seed}", *collected, hidden=sample.hidden)


def _refuse_to_replace_real_tasks(store: Store, records: Sequence[TaskRecord]) -> None:
    there = store.tasks([record.name for record in records])
    real = [task["name"] for task in there if not task.get(SAMPLE_MARK) and not task.get("importing")]
    if real:
        raise DatasetError(
            f"the store holds tasks of the sample's names that are not the sample: {', '.join(real)}. Nothing was "
            "changed; set OBDB_DATABASE to another database to look at the sample"
        )


def collect_store(store: Store, *, include_blank: bool = False) -> Collected:
    """What the store holds already (a database of one's own, filled by mongoimport, say); nothing is imported.

    Folders that ``collect_blank`` took in are left out, each with a problem that says so, as long as nobody has drawn
    anything in them: a detector would learn that nothing grows there.

    Args:
        include_blank: take them along.

    Raises:
        StoreError: it is empty.
        DatasetError: it holds nothing but such folders.
    """
    blank = [] if include_blank else _blank_tasks(store)
    names = [name for name in store.task_names() if name not in blank]
    if blank and not names:
        raise DatasetError(
            f"the store holds nothing but folders without annotations ({', '.join(blank)}); collect annotated tasks "
            "first"
        )
    why = "a folder that nobody annotated; left out. Notebook 5 suggests boxes there (BLANK_FOLDERS)"
    left_out = [Problem(name, why) for name in blank]
    snapshot = store.load(store.snapshot(names or None))
    counts = {"frames": len(snapshot.frames), "annotations": len(snapshot.annotations)}
    roots = [str(root) for root in store.image_roots()]
    lost = check_images(list(snapshot.frames[["img_path", "width", "height"]].itertuples(index=False)), roots)
    names = list(snapshot.task_names)
    return Collected("the store as it is", names, {"tasks": len(names), **counts}, roots, [*left_out, *lost])


def _blank_tasks(store: Store) -> list[str]:
    """Names of the tasks that ``collect_blank`` made and that hold no box yet."""
    marked = [str(task["name"]) for task in store.tasks() if task.get(BLANK_MARK) and not task.get("importing")]
    return [name for name in marked if not store.record(name).annotations]


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
    roots = [*roots_of(path), *(Path(root).expanduser() for root in image_roots)]
    folder = roots[0]
    return collect_result(store, str(path), detect_and_read(path, image_root=folder), roots, progress=progress)


def roots_of(path: Path) -> list[Path]:
    """Folders that images of a file or folder with annotations are looked for in: its own, and the usual ones in it."""
    folder = path if path.is_dir() else path.parent
    return [folder, *(folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir())]


def collect_blank(
    store: Store, folders: Sequence[Path | str], labels: Sequence[str], *, progress: Progress | None = None
) -> Collected:
    """Folders of images that nobody annotated yet, each as a task of the folder's name, to be annotated by detectors.

    The task carries BLANK_MARK, so that ``collect_store`` takes it for no annotated one. Images that cannot be read are
    problems and no frames.

    Args:
        labels: names of the classes that the tasks get.

    Raises:
        FrameError: no such folder, or no image in it.
        DatasetError: the store holds a task of that name with annotations, or two folders have one name.
    """
    records: list[TaskRecord] = []
    problems: list[Problem] = []
    roots: list[Path] = []
    for folder in (Path(one).expanduser().absolute() for one in folders):
        names = frames_below(folder)
        if folder.name in [record.name for record in records]:
            raise DatasetError(f"two folders are named {folder.name}, and so would their tasks be; rename one of them")
        if folder.name in store.task_names() and store.record(folder.name).annotations:
            raise DatasetError(f"the store holds a task {folder.name!r} with annotations; rename the folder {folder}")
        images, frames = FrameStore([folder.parent]), []
        for name in tracked(names, progress, f"look at the images of {folder.name}"):
            try:
                frames.append((name, *upright_size(images.path(name))))
            except UNREADABLE as error:
                problems.append(Problem(name, f"image cannot be read ({error}); replace the file"))
        if not frames:
            raise DatasetError(f"no image in {folder} can be read; first problem: {problems[-1]}")
        record = make_task(folder.name, labels, frames)
        record.task[BLANK_MARK] = True
        records.append(record)
        roots.append(folder.parent)
    return Collected("folders without annotations", *_put(store, records, problems, roots, progress))


def collect_result(
    store: Store, source: str, found: ReadResult, roots: Sequence[Path], *, progress: Progress | None = None
) -> Collected:
    """Store what a reader found; ``roots`` are the folders of its images.

    Raises:
        DatasetError: it found no task.
    """
    if not found.tasks:
        told = f"; first problem: {found.problems[0]}" if found.problems else ""
        raise DatasetError(
            f"{source} holds no task with frames{told}. Export it again with its images listed, or give the folder "
            "that holds the annotations."
        )
    return Collected(source, *_put(store, found.tasks, found.problems, roots, progress))


def _put(
    store: Store,
    records: Sequence[TaskRecord],
    problems: Sequence[Problem],
    roots: Sequence[Path],
    progress: Progress | None,
) -> tuple[list[str], dict[str, int], list[str], list[Problem]]:
    counts = store.import_tasks(records, progress=progress)
    store.add_image_roots(roots)
    own = [str(Path(root).resolve()) for root in roots]
    frames = [(f["name"], f.get("width"), f.get("height")) for record in records for f in record.meta["frames"]]
    lost = check_images(frames, [*own, *map(str, store.image_roots())])
    return [record.name for record in records], counts, own, [*problems, *lost]


def check_images(frames: Sequence[tuple[Any, ...]], roots: Sequence[str]) -> list[Problem]:
    """Images that are not there, cannot be read, or are not of the size their boxes were drawn on.

    Args:
        frames: (img_path, width, height); 0 or None is an unknown size.
        roots: folders to look in, in this order.
    """
    images, problems = FrameStore(roots), []
    for name, width, height in frames:
        try:
            size = upright_size(images.path(name))
        except FrameError:
            problems.append(Problem(name, "image not found; add its folder to IMAGE_ROOTS"))
            continue
        except UNREADABLE as error:
            problems.append(Problem(name, f"image cannot be read ({error}); replace the file"))
            continue
        if width and height and size != (width, height):
            problems.append(
                Problem(
                    name,
                    f"the image found, {images.path(name)}, is {size[0]} x {size[1]}, but its boxes were drawn on "
                    f"{width} x {height}: they will not fit. Name the folder of the right images in IMAGE_ROOTS",
                )
            )
    return problems


def frames_of(store: Store, *roots: Path | str, last: Path | str = "") -> FrameStore:
    """Where a notebook finds its images: the folders named, those remembered (newest first), then ``last``."""
    named = [*roots, *store.image_roots(), *([last] if last else [])]
    return FrameStore([paths.locate(root) for root in named if str(root)])


def overview(snapshot: Snapshot) -> pd.DataFrame:
    """Frames and boxes per class of each task: one row a task, columns frames, boxes and the classes."""
    frames = snapshot.frames.groupby("task_name").size().rename("frames")
    counts = snapshot.annotations.groupby(["task_name", "object_class"]).size().unstack(fill_value=0)
    classes = counts.reindex(index=frames.index.union(counts.index), columns=list(snapshot.classes), fill_value=0)
    table = pd.concat([frames, classes.sum(axis=1).rename("boxes"), classes], axis=1).fillna(0).astype(int)
    table.index.name = "task"
    return table.sort_index()
