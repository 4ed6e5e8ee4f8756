"""Read one CVAT task: its frames, labels and annotations as upstream's documents."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from obdb_lib.cache import content_hash
from obdb_lib.collector import cycles_later
from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.labels import names_by_id
from obdb_lib.cvat.pull_answers import Annotations, Frame, Label, Meta, Shape, Track, checked
from obdb_lib.cvat.pull_images import ImageSource
from obdb_lib.cvat.pull_jobs import owners
from obdb_lib.cvat.pull_shapes import annotation_documents, put_tags
from obdb_lib.cvat.pull_survey import ServerTask, patiently
from obdb_lib.cvat.pull_tracks import KEYFRAMES, shapes_of_tracks
from obdb_lib.errors import ObdbError
from obdb_lib.records import Document, Problem, TaskRecord, check_task

MAX_FOLDER_BYTES = 200
"""Most file systems take 255 bytes; a longer task name keeps its beginning before a hash."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class StoppedError(ObdbError):
    """The pull was ended while this task was being read; nothing of it is kept."""


@dataclass(frozen=True)
class ReadOptions:
    """How tasks are read.

    Attributes:
        tracks: KEYFRAMES or LINEAR, see pull_tracks.
        by_name: ``img_path`` of the store for names of CVAT.
        images: where images go; None fetches none.
        stop: set when the pull is to end; looked at before every request.
        image_tries: how often an image is asked for that is no image or of another size than CVAT says.
        tick: called with a number of images that were got.
    """

    tracks: str = KEYFRAMES
    by_name: Mapping[str, str] = field(default_factory=dict)
    images: ImageSource | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    image_tries: int = 1
    tick: Callable[[int], None] = lambda count: None

    def go_on(self) -> None:
        """Raises StoppedError when the pull is to end."""
        if self.stop.is_set():
            raise StoppedError("the pull was stopped")


@dataclass
class Pulled:
    """A task as read; ``numbers`` are CVAT's frame numbers and ``names`` its file names, by row of the frames."""

    task: ServerTask
    record: TaskRecord
    numbers: list[int]
    names: list[str]
    problems: list[Problem] = field(default_factory=list)
    fetched: int = 0
    linked: int = 0


def read_task(client: CvatClient, task: ServerTask, stamp: Document, options: ReadOptions) -> Pulled | None:
    """A task with the annotations of its passing jobs, checked, and its images where they are wanted.

    Args:
        stamp: what is kept in the task's document as ``pulled``.

    Returns:
        None when the task has no images on CVAT.

    Raises:
        CvatError: trouble with the server, or an answer that is not CVAT's.
        StoppedError: the pull is to end.
    """
    if not task.document.get("size"):
        return None
    where = f"task {task.name!r} (id {task.id})"
    labels = task.labels if task.labels is not None else _labels(client, task, where, options)
    pulled = _frames(client, task, stamp, labels, where, options)
    places = {number: row for row, number in enumerate(pulled.numbers)}
    names = names_by_id(label.model_dump() for label in labels)
    with cycles_later():
        _put_annotations(pulled, _annotations(client, task, where, options), places, names, options.tracks)
    if options.images is not None:
        _get_images(client, pulled, options.images, options)
    return pulled


def _put_annotations(
    pulled: Pulled, found: Annotations, places: Mapping[int, int], names: Mapping[int, str], tracks: str
) -> None:
    """Annotations that hold into the record, what was mended or left out into the problems."""
    task = pulled.task
    ends = {frame: int(job["stop_frame"]) for job in reversed(task.jobs) for frame in _range(job)}
    shapes = [*found.shapes, *shapes_of_tracks(found.tracks, tracks, lambda frame: ends.get(frame, frame))]
    documents, unused = annotation_documents(pulled.record, shapes, places, names)
    pulled.record.annotations.extend(documents)
    put_tags(pulled.record, found.tags, places, names)
    if found.tracks and tracks == KEYFRAMES:
        what = f"{len(found.tracks)} tracks: their keyframes are used, what CVAT draws between those is not"
        unused.append(Problem(f"task {task.name!r}", f"{what} (tracks='linear' takes it)"))
    pulled.record, mended = check_task(pulled.record)
    pulled.problems += [*unused, *mended]


def _range(job: Document) -> range:
    return range(int(job["start_frame"]), int(job["stop_frame"]) + 1)


def _labels(client: CvatClient, task: ServerTask, where: str, options: ReadOptions) -> list[Label]:
    options.go_on()
    answer = patiently(client, lambda: client.labels(task_id=task.id))
    return [checked(Label, label, f"labels of {where}") for label in answer]


def _frames(
    client: CvatClient, task: ServerTask, stamp: Document, labels: Sequence[Label], where: str, options: ReadOptions
) -> Pulled:
    """The task and its frames, without those that are deleted or belong to no passing job."""
    options.go_on()
    meta = checked(Meta, patiently(client, lambda: client.meta(task.id)), f"frames of {where}")
    frames = _all_frames(meta)
    deleted, owned = set(meta.deleted_frames or ()), owners(task.passing)
    there = [number for number in range(len(frames)) if number not in deleted]
    numbers = [number for number in there if number in owned]
    document = {
        "type": "task_data",
        "name": task.name,
        "labels": [
            {"id": label.id, "name": label.name, "color": label.color or "", "attributes": label.attributes}
            for label in labels
        ],
        "created_date": task.document.get("created_date"),
        "updated_date": task.document.get("updated_date"),
        "status": task.document.get("status"),
        "cvat_id": task.id,
        "pulled": stamp,
    }
    names = [frames[number].name for number in numbers]
    entries = [
        {"name": img_path(name, task.name, options.by_name), "width": frame.width, "height": frame.height}
        for name, frame in zip(names, (frames[number] for number in numbers), strict=True)
    ]
    pulled = Pulled(task, TaskRecord(document, {"task_name": task.name, "frames": entries}, []), numbers, names)
    if len(there) > len(numbers):
        what = f"{len(there) - len(numbers)} frames of jobs that do not count yet left out"
        pulled.problems.append(Problem(f"task {task.name!r}", what))
    return pulled


def _all_frames(meta: Meta) -> list[Frame]:
    """One entry a frame; a video has one for all."""
    count = meta.size or len(meta.frames)
    if len(meta.frames) != 1 or count == 1:
        return meta.frames
    [video] = meta.frames
    return [video.model_copy(update={"name": f"frame_{number:06d}.png"}) for number in range(count)]


def img_path(name: str, task_name: str, by_name: Mapping[str, str]) -> str:
    """The frame's path in the lab: its name on CVAT when that has folders, the path of the store that a push made this
    name of, else the task's name as its folder. Control characters become ``_``."""
    if name in by_name:
        return by_name[name]
    clean = CONTROL.sub("_", name)
    if clean.replace("\\", "/").rsplit("/", 1)[-1] in ("", ".", ".."):  # a folder's name is no file's
        clean += "_"
    if "/" in clean:
        return clean
    return f"{_folder(task_name)}/{clean}"


def _folder(task_name: str) -> str:
    folder = CONTROL.sub("_", task_name.replace("/", "_"))
    if folder in ("", ".", ".."):
        return f"task_{content_hash(task_name, length=8)}"
    if len(folder.encode()) > MAX_FOLDER_BYTES:
        kept = folder.encode()[:MAX_FOLDER_BYTES].decode(errors="ignore")
        return f"{kept}_{content_hash(task_name, length=8)}"
    return folder


def _annotations(client: CvatClient, task: ServerTask, where: str, options: ReadOptions) -> Annotations:
    """Of the whole task when all its jobs count, else job by job.

    A frame that several jobs hold is taken from the first of them; what lies outside its job's frames stays.
    """
    if len(task.passing) == len(task.jobs):
        return _asked(client, "tasks", task.id, f"annotations of {where}", options)
    owner = owners(task.passing)
    merged = Annotations(shapes=[])
    for job in task.passing:
        number = int(job["id"])
        found = _asked(client, "jobs", number, f"annotations of job {number} of {where}", options)
        others = {frame for frame in _range(job) if owner[frame] != number}
        merged.shapes += [shape for shape in found.shapes if shape.frame not in others]
        merged.tags += [tag for tag in found.tags if tag.frame not in others]
        merged.tracks += [_without(track, others) for track in found.tracks]
    return merged


def _asked(client: CvatClient, of: str, number: int, where: str, options: ReadOptions) -> Annotations:
    options.go_on()
    return patiently(client, lambda: checked(Annotations, client.annotations_json(number, of), where))


def _without(track: Track, frames: set[int]) -> Track:
    shapes: list[Shape] = [shape for shape in track.shapes if shape.frame not in frames]
    return track if len(shapes) == len(track.shapes) else track.model_copy(update={"shapes": shapes})


def _get_images(client: CvatClient, pulled: Pulled, images: ImageSource, options: ReadOptions) -> None:
    """Put missing images in place, whole or not at all; one that cannot be read is told and not kept."""
    frames = pulled.record.meta["frames"]
    for row in images.missing(frames):
        options.go_on()
        if not images.can_hold(frames[row]):
            pulled.problems.append(
                Problem(f"image {frames[row]['name']!r}", "its name is too long for a file; not saved")
            )
        elif images.link(frames[row], pulled.names[row]):
            pulled.linked += 1
        else:
            problem = _fetch(client, pulled, row, images, options)
            pulled.fetched += problem is None
            pulled.problems += [problem] if problem else []
        options.tick(1)


def _fetch(client: CvatClient, pulled: Pulled, row: int, images: ImageSource, options: ReadOptions) -> Problem | None:
    """Get an image from CVAT; what was cut off on its way is asked for again."""
    number = pulled.numbers[row]
    problem = None
    for _ in range(options.image_tries):
        options.go_on()
        content = patiently(client, lambda: client.frame(pulled.task.id, number))
        problem = images.keep(pulled.record.meta["frames"][row], content)
        if problem is None:
            return None
    return problem
