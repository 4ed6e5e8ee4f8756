"""What ``-p``, ``-r`` and ``-f`` name: annotated frames of a file, of a split, of one task; or a folder of images."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from obdb_lib import paths
from obdb_lib.errors import DatasetError, FrameError, StoreError
from obdb_lib.formats import detect_and_read
from obdb_lib.frames import FrameStore, frames_below
from obdb_lib.given import given
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.progress import Progress, tracked
from obdb_lib.records import Problem, TaskRecord, make_task
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.splits import PARTS
from obdb_lib.stages import read_result, run_folder
from obdb_lib.store import Store, with_ids

DEFAULT_SOURCE = "/train/pickled_weed/pd_val.pkl"
"""Upstream's default of ``-p``."""
DEFAULT_PART = "val"


@dataclass(frozen=True)
class Source:
    """Frames with what is drawn on them; nothing of it is stored by reading it.

    Attributes:
        name: what it came from, for a person.
        records: checked tasks.
        roots: folders to look for its images in first.
        problems: what was mended or set aside.
    """

    name: str
    records: tuple[TaskRecord, ...]
    roots: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    def snapshot(self) -> Snapshot:
        """Its tables; whole tasks of the store give the snapshot id that the store would give."""
        annotations = [document for record in self.records for document in with_ids(record.annotations)]
        return build_snapshot([record.meta for record in self.records], annotations)

    def frames(self, store: Store, *more: Path | str) -> FrameStore:
        """Where its images are: its own folders, those the store remembers, then ``more``."""
        places = [paths.locate(one) for one in more if str(one)]
        return FrameStore(list(dict.fromkeys([*self.roots, *store.image_roots(), *places])))

    def only_task(self, name: str) -> Source:
        """The task of this name alone (see ``named``).

        Raises:
            DatasetError: there is none, or several fit equally well.
        """
        found = named([record.name for record in self.records], name)
        records = [record for record in self.records if record.name in found]
        if len(found) != 1:
            names = [record.name for record in self.records]
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names[:5])}"
            count = f"{len(found)} tasks" if found else "no task"
            hint = f"name one of {', '.join(found)}" if found else hint
            raise DatasetError(f"{self.name} holds {count} named {name!r}; {hint}")
        return replace(self, name=f"{self.name}, task {found[0]}", records=tuple(records))

    def only_frames(self, names: Sequence[str], *, named_by: str) -> Source:
        """The frames that these names mean (as ``given`` matches paths of other machines), in their tasks.

        Raises:
            SplitError: none of the names means a frame.
        """
        chosen = given(self.snapshot(), {DEFAULT_PART: names})
        kept = set(chosen.split.part(DEFAULT_PART))
        records = [restricted(record, kept) for record in self.records]
        prefix = f"{DEFAULT_PART} list, "
        told = [Problem(f"{named_by}: {one.where.removeprefix(prefix)}", one.what) for one in chosen.problems]
        return replace(
            self,
            name=f"{self.name}, images of {named_by}",
            records=tuple(record for record in records if record.meta["frames"]),
            problems=(*self.problems, *told),
        )


def named(names: Sequence[str], wanted: str) -> list[str]:
    """Those of ``names`` that ``wanted`` means: just so, else with ``_`` for spaces, else with words before it, as in
    ``gt_val_FieldData_20200515101008_2L_GH070066``."""
    plain = {name: name.replace("_", " ") for name in names}
    spaced = wanted.replace("_", " ")
    just_so = [name for name in names if name == wanted]
    alike = just_so or [name for name in names if plain[name] == spaced]
    return alike or [name for name in names if plain[name].endswith(f" {spaced}")]


def restricted(record: TaskRecord, kept: Collection[str]) -> TaskRecord:
    """The task with these frames alone, numbered anew."""
    places = [(number, frame) for number, frame in enumerate(record.meta["frames"]) if frame["name"] in kept]
    numbers = {old: new for new, (old, _) in enumerate(places)}
    annotations = [{**one, "frame": numbers[one["frame"]]} for one in record.annotations if one["frame"] in numbers]
    return TaskRecord(record.task, {**record.meta, "frames": [frame for _, frame in places]}, annotations)


def read_source(text: str, store: Store) -> Source:
    """Annotations of a file or folder of any known format, or of a split.

    Args:
        text: a path (folders of the container are mapped), a split's id, ``ID:PART``, or a part (train, val, test) of
            the split that notebook 02 chose last. A split alone means its val part.

    Raises:
        DatasetError: it is neither.
        FormatError: the file is malformed.
        PickleRefusedError: a pickle asks for more than plain tables.
    """
    path = paths.mapped(text)
    if path.exists():
        return read_file(path)
    split_id, _, part = text.partition(":")
    if text in PARTS:
        chosen = read_result(run_folder(), "02_explore_and_split", default={})
        split_id, part = str(chosen.get("split_id", "")), text
    part = part or DEFAULT_PART
    try:
        document, frames = store.split(split_id)
    except StoreError as error:
        raise DatasetError(
            f"-p {text!r} is neither a file or folder ({path} does not exist) nor a split: {error}. Give a pickle, "
            "Parquet or COCO file, a folder with annotations, the id of a split (ID or ID:PART), or val for the split "
            "that notebook 02 chose"
        ) from error
    if part not in PARTS:
        raise DatasetError(f"-p {text!r}: a split has the parts {', '.join(PARTS)}; got {part!r}")
    kept = {str(frame["img_path"]) for frame in frames if frame["part"] == part}
    return _of_store(store, kept, f"part {part} of split {document['_id']}")


def of_task(text: str | None, task: str, store: Store) -> Source:
    """One task for a rerun: of ``text``, else of upstream's default file where that is there and has it, else of the
    store.

    Raises:
        DatasetError: the task is nowhere.
    """
    if text is not None:
        return read_source(text, store).only_task(task)
    if paths.mapped(DEFAULT_SOURCE).is_file():
        source = read_source(DEFAULT_SOURCE, store)
        if named([record.name for record in source.records], task):
            return source.only_task(task)
    names = named(store.task_names(), task)
    every = Source("the store", tuple(store.record(name) for name in names))
    if not names:
        near = difflib.get_close_matches(task, store.task_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DatasetError(f"neither {paths.mapped(DEFAULT_SOURCE)} nor the store holds a task {task!r}{hint}")
    return every.only_task(task)


def read_file(path: Path) -> Source:
    """Annotations of a file or folder of any known format; its folder is looked through for images first.

    Raises:
        DatasetError: it holds no task.
        FormatError: it is malformed.
    """
    folder = path if path.is_dir() else path.parent
    found = detect_and_read(path, image_root=folder)
    if not found.tasks:
        told = f"; first problem: {found.problems[0]}" if found.problems else ""
        raise DatasetError(f"{path} holds no task with frames{told}")
    return Source(str(path), tuple(found.tasks), (folder,), tuple(found.problems))


def _of_store(store: Store, kept: Collection[str], name: str) -> Source:
    records = [restricted(store.record(task), kept) for task in store.task_names()]
    filled = tuple(record for record in records if record.meta["frames"])
    gone = set(kept) - {frame["name"] for record in filled for frame in record.meta["frames"]}
    if not filled:
        raise DatasetError(f"{name} has no frame that the store still holds; run notebooks 01 and 02 again")
    problems = tuple(Problem(one, "is in the split but no longer in the store; left out") for one in sorted(gone))
    return Source(name, filled, problems=problems)


def images_of(folder: Path, classes: Sequence[str], *, ext: str = "", progress: Progress | None = None) -> Source:
    """A folder of images that nobody annotated, as one task of its name.

    Args:
        classes: labels that the task gets.
        ext: only files that end so (``png``); all pictures when empty.

    Raises:
        FrameError: no such folder, or no picture (that ends so) in it that can be read.
    """
    folder = folder.absolute()
    suffix = ext.lower()
    images, frames, problems = FrameStore([folder.parent]), [], []
    for name in tracked(frames_below(folder), progress, f"look at the images of {folder.name}"):
        if name.lower().endswith(suffix):
            try:
                frames.append((name, *upright_size(images.path(name))))
            except UNREADABLE as error:
                problems.append(Problem(name, f"image cannot be read ({error}); replace the file"))
    if not frames:
        why = f"; first problem: {problems[0]}" if problems else ""
        raise FrameError(f"{folder} holds no picture{f' that ends in {ext}' if ext else ''} that can be read{why}")
    return Source(str(folder), (make_task(folder.name, classes, frames),), (folder.parent,), tuple(problems))
