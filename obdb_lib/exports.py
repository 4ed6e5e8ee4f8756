"""Annotations out of the lab: from the store, a snapshot or a file into any format that others read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from obdb_lib import formats
from obdb_lib.errors import CacheError, FormatError, FrameError, StoreError
from obdb_lib.formats import Written
from obdb_lib.formats.places import WITH_IMAGES, image_files
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress, tracked
from obdb_lib.records import Problem, TaskRecord
from obdb_lib.store import Store

IMAGES = ("none", "link", "copy")
"""What is done with the images of a YOLO or VOC folder: nothing, symbolic links to them, or copies."""


def stored_tasks(
    store: Store, *, tasks: Sequence[str] = (), snapshot_id: str = "", progress: Progress | None = None
) -> list[TaskRecord]:
    """Whole tasks of the store: those named, those of a snapshot, or all.

    Raises:
        StoreError: a task or the snapshot is unknown, the annotations changed since the snapshot was taken, or the
            store is empty.
    """
    names = list(store.load(snapshot_id).task_names) if snapshot_id else store.task_names()
    unknown = sorted(set(tasks) - set(names))
    if unknown:
        where = f"snapshot {snapshot_id}" if snapshot_id else "the store"
        raise StoreError(f"{where} has no task {', '.join(map(repr, unknown))}; there are {', '.join(names[:5])} ...")
    if not names:
        raise StoreError("the store holds no task; import some first (notebook 01)")
    chosen = [name for name in names if not tasks or name in set(tasks)]
    return [store.record(name) for name in tracked(chosen, progress, "read tasks")]


def parts_of(store: Store, split_id: str) -> dict[str, str]:
    """img_path -> part of a stored split, without its excluded frames.

    Raises:
        StoreError: there is no such split.
    """
    _, frames = store.split(split_id)
    return {str(frame["img_path"]): str(frame["part"]) for frame in frames if frame["part"] != "excluded"}


def export(
    records: Sequence[TaskRecord],
    path: Path | str,
    format_name: str,
    *,
    parts: Mapping[str, str] | None = None,
    outlines: bool = True,
    empty: bool = True,
    images: str = "none",
    frames: FrameStore | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write tasks, and put their images beside them where the format wants that.

    Args:
        records, path, format_name, parts, outlines, empty: see ``formats.write``.
        images: one of IMAGES, for ``yolo`` and ``voc``.
        frames: where the images lie; needed unless ``images`` is ``none``.

    Returns:
        The path, and everything that was lost or is missing.

    Raises:
        FormatError: something cannot be written (see ``formats.write``), or ``images`` does not fit the format.
        CacheError: the disk.
    """
    if images not in IMAGES:
        raise FormatError(f"images={images!r} is not known; there are {', '.join(IMAGES)}")
    if images != "none" and format_name not in WITH_IMAGES:
        raise FormatError(f"{format_name} keeps no images beside its annotations; only yolo and voc do")
    written = formats.write(records, path, format_name, parts=parts, outlines=outlines, empty=empty)
    if images == "none":
        return written
    missing = _place_images(image_files(records, format_name), written.path, images, frames, progress)
    return Written(written.path, [*written.problems, *missing])


def _place_images(
    files: Mapping[str, str], folder: Path, how: str, frames: FrameStore | None, progress: Progress | None
) -> list[Problem]:
    problems = []
    for img_path, file in tracked(list(files.items()), progress, f"{how} images"):
        try:
            source = (frames or FrameStore([])).path(img_path).resolve()
        except FrameError:
            problems.append(Problem(img_path, "image not found, and not put beside its annotations; name its folder"))
            continue
        target = folder / file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if how == "link":
                target.symlink_to(source)
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            raise CacheError(
                f"cannot put {source} to {target}: {error.strerror or error}. The annotations in {folder} are whole; "
                "free some space, delete the folder and export again."
            ) from error
    return problems
