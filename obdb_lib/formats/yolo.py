"""YOLO as Ultralytics reads it: ``data.yaml``, a list of images a part, a label file an image. Reader and writer.

A line is ``class x y width height`` (the box's middle and sides) or ``class x1 y1 x2 y2 x3 y3 ...`` (an outline), all
as shares of the frame. YOLO knows neither image sizes nor tasks: the writer puts them into ``frames.csv`` beside
``data.yaml``, where no YOLO tool looks; without that file sizes are read from the images.
Source: docs.ultralytics.com/datasets/detect and /segment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._file_names import label_path, unique_files
from obdb_lib.formats._frames_table import FRAMES_TABLE, FrameRow, table_text
from obdb_lib.formats._grouping import group_by_task
from obdb_lib.formats._losses import common_labels, losses
from obdb_lib.formats._whole_folder import put, whole_folder
from obdb_lib.formats._yolo_folder import YoloImage, class_names, find_images, yaml_text
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord, bounding_box, make_annotation, make_task

MOST_OUTSIDE = 0.5
"""Shares of a frame that a coordinate may lie outside of it; one further off is in pixels or damaged."""
DIGITS_PX = 6
"""Decimals of a pixel kept when shares are turned back, so that division and multiplication leave no trace."""
IMAGE_FOLDER = "images"
PARTS = ("train", "val", "test")
HOLDS = ("polygon", "score", "unknown size")


def read(path: Path, *, image_root: Path | None = None) -> ReadResult:
    """Tasks of a YOLO data set; images without a label file (or with an empty one) are kept as negatives.

    Four corners of an upright rectangle are read as a box (the writer puts boxes so beside outlines). A sixth number
    behind a box is a detection's ``score``.

    Args:
        path: the folder, or its ``data.yaml``.
        image_root: folder that images are looked for in, too, for their sizes.

    Returns:
        Tasks not yet checked by ``records.check_task``, and what was set aside.

    Raises:
        FormatError: there is no list of classes, or no image or label file.
    """
    folder = path if path.is_dir() else path.parent
    result = ReadResult()
    names = class_names(path, folder)
    images = find_images(path, folder, image_root, result.problems)
    if not images:
        raise FormatError(
            f"{folder} names classes but holds no image of a known size and no label file: wanted images/ and labels/ "
            "beside data.yaml. Give the folder of the whole data set."
        )
    keyed = dict(enumerate(images))
    groups = group_by_task({key: (one.img_path, one.task_name) for key, one in keyed.items()}, folder.resolve().name)
    date = _shared.file_date(path)
    for task_name, keys in groups.items():
        frames = list(dict.fromkeys(keyed[key].img_path for key in keys))
        sizes = {keyed[key].img_path: (keyed[key].width, keyed[key].height) for key in keys}
        record = make_task(task_name, list(dict.fromkeys(names)), [(n, *sizes[n]) for n in frames], created=date)
        order = {name: number for number, name in enumerate(frames)}
        for key in keys:
            _add_labels(record, order[keyed[key].img_path], keyed[key], names, result.problems)
        result.tasks.append(record)
    return result


def _add_labels(
    record: TaskRecord, frame: int, image: YoloImage, names: Sequence[str], problems: list[Problem]
) -> None:
    if image.labels is None:
        return
    text = _shared.decode_text(_shared.read_bytes(image.labels, may_be_empty=True), image.labels)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not (image.width and image.height):
            problems.append(Problem(image.img_path, "annotations set aside: its size is unknown, and YOLO needs it"))
            return
        if line.strip():
            found = _annotation(record, frame, line.split(), image, names)
            if isinstance(found, str):
                problems.append(Problem(f"{image.labels.name}, line {number}", f"set aside: {found}"))
            else:
                record.annotations.append(found)


def _annotation(
    record: TaskRecord, frame: int, words: list[str], image: YoloImage, names: Sequence[str]
) -> Document | str:
    """The annotation of one line, or why it cannot be used."""
    shares = [_shared.number_of(word) for word in words[1:]]
    numbers = [share for share in shares if share is not None]
    key = words[0]
    if not (key.isascii() and key.isdigit() and len(key) < 7 and int(key) < len(names)):
        return f"class {key[:20]!r} is not one of the {len(names)} classes"
    if len(numbers) != len(shares) or any(not -MOST_OUTSIDE <= n <= 1 + MOST_OUTSIDE for n in numbers):
        return f"wanted shares of the frame between 0 and 1; got {' '.join(words[1:6])[:60]!r}"
    score = numbers.pop() if len(numbers) == 5 else None
    if len(numbers) < 4 or len(numbers) % 2:
        return f"wanted x y width height, or at least three points in pairs; got {len(numbers)} numbers"
    if len(numbers) == 4:
        x, y, width, height = numbers
        numbers = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    sides = (image.width, image.height)
    points = [round(number * sides[i % 2], DIGITS_PX) for i, number in enumerate(numbers)]
    upright = len(points) == 8 and points == _corners(bounding_box(points))
    if upright:
        points = list(bounding_box(points))
    shape = "rectangle" if len(points) == 4 else "polygon"
    document = make_annotation(record, frame, names[int(key)], points, shape_type=shape)
    return document if score is None else {**document, "score": score}


def _corners(box: Sequence[float]) -> list[float]:
    """An upright box as the outline that the writer makes of it: clockwise from the left upper corner."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def write(
    tasks: Sequence[TaskRecord], folder: Path, *, parts: Mapping[str, str] | None = None, outlines: bool = True
) -> list[Problem]:
    """Write ``data.yaml``, ``train.txt`` (and val, test), ``labels/`` and ``frames.csv``; images are not copied.

    Ultralytics takes every line of a label file for an outline as soon as one is, so in a file with an outline boxes
    are written as their four corners.

    Args:
        folder: must not exist, or be empty; it appears whole or not at all.
        parts: img_path -> part of a split, of PARTS; frames of no part are left out of the lists (and told). Default:
            all frames are ``train``.
        outlines: False writes the box around each outline, for detectors that want boxes only.

    Returns:
        What the format cannot hold.

    Raises:
        FormatError: the folder holds something, a part is none of PARTS, or a frame with boxes has no size.
        CacheError: a file cannot be written.
    """
    unknown = sorted(set((parts or {}).values()) - set(PARTS))
    if unknown:
        raise FormatError(f"YOLO knows the parts {', '.join(PARTS)}; got {', '.join(map(repr, unknown))}")
    names = common_labels(tasks)
    problems = losses(tasks, "YOLO", HOLDS if outlines else HOLDS[1:])
    files = files_of(tasks)
    texts, rows = _label_texts(tasks, files, names, outlines, problems)
    lists = _lists(rows, parts, problems)
    with whole_folder(folder) as target:
        for file, lines in texts.items():
            put(target / "labels" / f"{label_path(file)}.txt", "".join(lines))
        for part, its_files in lists.items():
            put(target / f"{part}.txt", "".join(f"./images/{file}\n" for file in its_files))
        put(target / FRAMES_TABLE, table_text(rows))
        put(target / "data.yaml", yaml_text(names, list(lists)))
    return problems


def files_of(tasks: Sequence[TaskRecord]) -> dict[str, str]:
    """Image file below IMAGE_FOLDER of each frame, by its name."""
    return unique_files((frame["name"] for task in tasks for frame in task.meta["frames"]), without=IMAGE_FOLDER)


def _label_texts(
    tasks: Sequence[TaskRecord], files: Mapping[str, str], names: Sequence[str], outlines: bool, problems: list[Problem]
) -> tuple[dict[str, list[str]], list[FrameRow]]:
    """Lines of each label file by image file, and the rows of frames.csv."""
    keys = {name: number for number, name in enumerate(names)}
    texts: dict[str, list[str]] = {}
    rows: list[FrameRow] = []
    changed: Counter[str] = Counter()
    for task in tasks:
        frames = task.meta["frames"]
        drawn: dict[int, list[Document]] = {}
        for one in task.annotations:
            drawn.setdefault(int(one["frame"]), []).append(one)
        for number, frame in enumerate(frames):
            file = files[frame["name"]]
            if file in texts:
                changed["frames stand in two tasks; each is written once, with the annotations of both"] += 1
            else:
                rows.append(FrameRow(file, frame["name"], frame["width"] or 0, frame["height"] or 0, task.name))
            texts.setdefault(file, []).extend(_lines(drawn.get(number, []), frame, keys, outlines, changed))
    problems += [Problem("YOLO", f"{count} {what}") for what, count in changed.items() if count]
    return texts, rows


def _lines(
    annotations: Sequence[Document], frame: Document, keys: Mapping[str, int], outlines: bool, changed: Counter[str]
) -> list[str]:
    sides = (frame["width"], frame["height"])
    if annotations and not all(sides):
        raise FormatError(
            f"YOLO needs the size of frame {frame['name']!r}, whose annotations become shares of it. Put its image "
            "below an image root and import the task again."
        )
    is_outline = [outlines and one.get("shape_types") == "polygon" and len(one["points"]) >= 6 for one in annotations]
    lines = []
    for one, outline in zip(annotations, is_outline, strict=True):
        x1, y1, x2, y2 = bounding_box(one["points"])
        if outline:
            numbers = [float(value) for value in one["points"]]
            changed["outlines are upright rectangles and are read back as boxes"] += numbers == _corners(
                (x1, y1, x2, y2)
            )
        elif any(is_outline):
            numbers = _corners((x1, y1, x2, y2))
        else:
            numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        score = one.get("score")
        shares = [repr(number / sides[i % 2]) for i, number in enumerate(numbers)]
        if isinstance(score, float) and len(shares) == 4:
            shares.append(repr(score))
        elif score is not None:
            changed["outlines lose their score, for which their lines have no place"] += 1
        lines.append(f"{keys[str(one['object_class'])]} {' '.join(shares)}\n")
    return lines


def _lists(rows: Sequence[FrameRow], parts: Mapping[str, str] | None, problems: list[Problem]) -> dict[str, list[str]]:
    """Image files of each part; a part without a frame is left out."""
    if parts is None:
        problems.append(Problem("YOLO", "no split was given: all frames are train, and data.yaml names no val"))
        return {"train": [row.file for row in rows]}
    lists = {part: [row.file for row in rows if parts.get(row.img_path) == part] for part in PARTS}
    left = sum(row.img_path not in parts for row in rows)
    if left:
        problems.append(Problem("YOLO", f"{left} frames are in no part of the split and in none of the lists"))
    return {part: files for part, files in lists.items() if files}
