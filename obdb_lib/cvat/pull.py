"""Bring CVAT tasks in: labels, frames and shapes as upstream documents, and images that are not here yet."""

from __future__ import annotations

import difflib
import io
import logging
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from obdb_lib.cache import atomic_writer
from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.labels import names_by_id
from obdb_lib.cvat.names import paths_by_name
from obdb_lib.errors import CvatError
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.progress import Progress, track, tracked
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, check_task, make_annotation

logger = logging.getLogger(__name__)

USED_SHAPES = ("rectangle", "polygon")
COMPLETED = "completed"


def pull_tasks(
    client: CvatClient,
    *,
    only_completed: bool = True,
    names: Sequence[str] | None = None,
    image_root: Path | None = None,
    known_paths: Collection[str] = (),
    progress: Progress | None = None,
) -> ReadResult:
    """Read tasks with their annotations.

    A frame's ``img_path`` is its name on CVAT when that has folders (files of a share). A bare name is looked up among
    ``known_paths`` (so that frames of a push get their own path back), else the task's name is put in front, because
    two tasks may well have different images of one name. Each annotation carries ``cvat_id``: ``{task, frame, shape}``
    and ``track`` where it comes from one. Deleted frames are left out and the others are numbered without them.

    Args:
        only_completed: leave out tasks of which not every job is accepted and completed.
        names: only these tasks; default all that the account sees.
        image_root: folder below which missing images are put under their ``img_path``; None downloads nothing.
        known_paths: ``img_path`` of the frames that the store has.

    Returns:
        Whole tasks, checked as by records.check_task, and what was left out or mended.

    Raises:
        CvatError: a name that is not there, two tasks of one name, or any trouble with the server.
    """
    result = ReadResult()
    chosen = _choose(client.tasks(), names, only_completed, result)
    by_name = paths_by_name(known_paths)
    for task in tracked(chosen, progress, "read CVAT tasks"):
        pulled = _read(client, task, by_name, result)
        if pulled is None:
            continue
        record, problems = check_task(pulled.record)
        result.problems += problems
        result.tasks.append(record)
        if image_root is not None:
            _download(client, pulled, image_root, result, progress)
    return result


def _choose(
    tasks: Sequence[Document], names: Sequence[str] | None, only_completed: bool, result: ReadResult
) -> list[Document]:
    if names is not None:
        there = {str(task["name"]) for task in tasks}
        missing = [name for name in names if name not in there]
        if missing:
            near = {name: difflib.get_close_matches(name, there, n=1) for name in missing}
            hints = {name: f" (did you mean {found[0]!r}?)" if found else "" for name, found in near.items()}
            listed = ", ".join(f"{name!r}{hints[name]}" for name in missing)
            raise CvatError(f"CVAT shows this account no task {listed}; check names, the account's rights and CVAT_ORG")
        tasks = [task for task in tasks if task["name"] in set(names)]
        for task in tasks:
            if only_completed and task["status"] != COMPLETED:
                result.problems.append(Problem(f"task {task['name']!r}", "not completed on CVAT, left out"))
    chosen = [task for task in tasks if not only_completed or task["status"] == COMPLETED]
    twice = [name for name, count in Counter(task["name"] for task in chosen).items() if count > 1]
    if twice:
        listed = "; ".join(
            f"{name!r} (ids {', '.join(str(task['id']) for task in chosen if task['name'] == name)})" for name in twice
        )
        raise CvatError(
            f"CVAT has several tasks of one name: {listed}. The store knows tasks by name, so one would overwrite the "
            "other. Rename or delete all but one of each on CVAT, or pull others by name."
        )
    return chosen


@dataclass(frozen=True)
class _Pulled:
    """A task as read; ``numbers`` are CVAT's frame numbers in the order of the record's frames."""

    task_id: int
    record: TaskRecord
    numbers: list[int]


def _read(client: CvatClient, task: Document, by_name: Mapping[str, str], result: ReadResult) -> _Pulled | None:
    task_id, name = int(task["id"]), str(task["name"])
    if not task.get("size"):
        result.problems.append(Problem(f"task {name!r}", "has no images on CVAT, left out"))
        return None
    labels = client.labels(task_id=task_id)
    meta = client.meta(task_id)
    deleted = set(meta.get("deleted_frames") or ())
    numbers = [number for number in range(len(meta["frames"])) if number not in deleted]
    frames = [meta["frames"][number] for number in numbers]
    record = TaskRecord(
        task={
            "type": "task_data",
            "name": name,
            "labels": [
                {
                    "id": label["id"],
                    "name": label["name"],
                    "color": label.get("color", ""),
                    "attributes": label.get("attributes", []),
                }
                for label in labels
            ],
            "created_date": task.get("created_date"),
            "updated_date": task.get("updated_date"),
            "status": task.get("status"),
            "cvat_id": task_id,
        },
        meta={
            "task_name": name,
            "frames": [
                {
                    "name": _img_path(str(frame["name"]), name, by_name),
                    "width": frame["width"],
                    "height": frame["height"],
                }
                for frame in frames
            ],
        },
        annotations=[],
    )
    places = {number: place for place, number in enumerate(numbers)}
    record.annotations.extend(
        _annotations(record, client.annotations(task_id), places, names_by_id(labels), result.problems)
    )
    return _Pulled(task_id, record, numbers)


def _img_path(name: str, task_name: str, by_name: Mapping[str, str]) -> str:
    if name in by_name:
        return by_name[name]
    return name if "/" in name else f"{task_name.replace('/', '_')}/{name}"


def _annotations(
    record: TaskRecord,
    found: Document,
    places: Mapping[int, int],
    names: Mapping[int, str],
    problems: list[Problem],
) -> Iterator[Document]:
    """Documents of all shapes that can be used; the others are counted in ``problems``."""
    unused: Counter[str] = Counter()
    for shape in _shapes_and_keyframes(found):
        place = places.get(int(shape["frame"]))
        if shape["type"] not in USED_SHAPES:
            unused[f"shapes of type {shape['type']} left out: only rectangles and polygons are used"] += 1
        elif place is None:
            unused["shapes on deleted frames left out"] += 1
        elif shape["label_id"] not in names:
            unused["shapes of an unknown label left out"] += 1
        elif not shape.get("outside"):
            shape_type, points = _upright(shape)
            ids = {"task": record.task["cvat_id"], "frame": shape["frame"], "shape": shape.get("id")}
            if "track" in shape:
                ids["track"] = shape["track"]
            yield make_annotation(
                record,
                place,
                names[shape["label_id"]],
                points,
                shape_type=shape_type,
                occluded=bool(shape.get("occluded")),
                source=str(shape.get("source", "manual")),
                score=float(shape.get("score", 1.0)),
                attributes=shape.get("attributes", []),
                cvat_id=ids,
            )
    if found.get("tracks"):
        unused["tracks: their keyframes are used, what CVAT draws between those is not"] = len(found["tracks"])
    where = f"task {record.name!r}"
    problems += [Problem(where, f"{count} {what}") for what, count in unused.items()]


def _shapes_and_keyframes(found: Document) -> Iterator[Document]:
    yield from found.get("shapes", [])
    for track_ in found.get("tracks", []):
        for shape in track_["shapes"]:
            inherited = {"label_id": track_["label_id"], "source": track_.get("source", "manual")}
            yield {**inherited, **shape, "track": track_.get("id")}


def _upright(shape: Document) -> tuple[str, list[float]]:
    """Type and points; a rectangle turned on its centre becomes the polygon of its four corners."""
    points = [float(value) for value in shape["points"]]
    angle = math.radians(float(shape.get("rotation") or 0))
    if shape["type"] != "rectangle" or not angle or len(points) != 4:
        return str(shape["type"]), points
    x1, y1, x2, y2 = points
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    turned: list[float] = []
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        dx, dy = x - middle_x, y - middle_y
        turned.append(middle_x + dx * math.cos(angle) - dy * math.sin(angle))
        turned.append(middle_y + dx * math.sin(angle) + dy * math.cos(angle))
    return "polygon", turned


def _download(
    client: CvatClient, pulled: _Pulled, image_root: Path, result: ReadResult, progress: Progress | None
) -> None:
    """Put missing images in place, whole or not at all; one that cannot be read is told and not kept."""
    frames = pulled.record.meta["frames"]
    missing = [
        (place, target)
        for place, frame in enumerate(frames)
        if not (target := _target(image_root, str(frame["name"]))).is_file()
    ]
    with track(progress, f"download images of {pulled.record.name}", len(missing)) as bar:
        for place, target in missing:
            content = client.frame(pulled.task_id, pulled.numbers[place])
            size = _size(content)
            wanted = (frames[place]["width"], frames[place]["height"])
            if size == wanted:
                with atomic_writer(target) as file:
                    file.write(content)
            else:
                what = f"has size {size}, not {wanted}" if size else "is no readable image"
                result.problems.append(Problem(f"image {frames[place]['name']}", f"{what}; not saved"))
            bar.advance()


def _target(image_root: Path, img_path: str) -> Path:
    """Place of an image; a name from the server never leads out of the folder."""
    parts = PurePosixPath(img_path.replace("\\", "/")).parts
    return image_root.joinpath(*(part for part in parts if part not in ("/", ".", "..")))


def _size(content: bytes) -> tuple[int, int] | None:
    try:
        return upright_size(io.BytesIO(content))
    except UNREADABLE:
        return None
