"""Small worlds for the format tests: tasks made by hand and by hypothesis, and where the real data may lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from obdb_lib import paths
from obdb_lib.formats._turned import turned_box
from obdb_lib.records import ReadResult, TaskRecord, make_annotation, make_task

SHARED_DATA = paths.PROJECT_ROOT.parent / "shared" / "data"
FUZZ = "OBDB_FUZZ_EXAMPLES"
"""Environment variable: examples of every property test of the formats, for a long run (default: a few)."""
CLASSES = ("Dandelion", "Fat hen")
WIDTH, HEIGHT = 640, 480

names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=12
)
hundredths_x = st.integers(0, (WIDTH - 2) * 100)
hundredths_y = st.integers(0, (HEIGHT - 2) * 100)


def examples(usual: int) -> int:
    """How many examples a property test draws."""
    return int(os.environ.get(FUZZ) or usual)


def small_task(name: str = "field 1", *, updated: str | None = None) -> TaskRecord:
    """Three frames; a box and a polygon on the first, nothing on the second, an occluded box on the third."""
    frames = [(f"a/{number}.png", WIDTH, HEIGHT) for number in range(3)]
    record = make_task(name, CLASSES, frames, created="2024-05-01T10:00:00.000000Z", updated=updated)
    polygon = [100.0, 100.0, 150.5, 100.0, 120.0, 160.25]
    record.annotations.extend(
        [
            make_annotation(record, 0, "Fat hen", [10.5, 20.25, 40.0, 60.75]),
            make_annotation(record, 0, "Dandelion", polygon, shape_type="polygon", source="auto"),
            make_annotation(record, 2, "Dandelion", [0.0, 0.0, 640.0, 480.0], occluded=True),
        ]
    )
    return record


@st.composite
def task_records(draw: st.DrawFn) -> TaskRecord:
    """One valid task: distinct frame names, all classes of ``CLASSES``, coordinates with two decimals."""
    frame_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    record = make_task(draw(names), CLASSES, [(name, WIDTH, HEIGHT) for name in frame_names])
    for frame in draw(st.lists(st.integers(0, len(frame_names) - 1), max_size=5)):
        x, y = draw(hundredths_x) / 100, draw(hundredths_y) / 100
        x2 = draw(st.integers(round(x * 100) + 100, WIDTH * 100)) / 100
        y2 = draw(st.integers(round(y * 100) + 100, HEIGHT * 100)) / 100
        polygon = draw(st.booleans())
        points = [x, y, x2, y, x2, y2] if polygon else [x, y, x2, y2]
        record.annotations.append(
            make_annotation(
                record,
                frame,
                draw(st.sampled_from(CLASSES)),
                points,
                shape_type="polygon" if polygon else "rectangle",
                occluded=draw(st.booleans()),
                source=draw(st.sampled_from(["manual", "auto"])),
            )
        )
    return record


def task_lists() -> st.SearchStrategy[list[TaskRecord]]:
    return st.lists(task_records(), min_size=1, max_size=3, unique_by=lambda task: task.name)


def comparable(tasks: list[TaskRecord], digits: int = 6) -> list[dict[str, Any]]:
    """Tasks without dates, with annotations in the order of their frames and rounded coordinates."""
    plain = []
    for task in tasks:
        annotations = [
            {**one, "points": [round(value, digits) for value in one["points"]]}
            for one in sorted(task.annotations, key=lambda one: one["frame"])
        ]
        plain.append({"name": task.name, "labels": task.task["labels"], "meta": task.meta, "annotations": annotations})
    return plain


def totals(result: ReadResult) -> tuple[int, int, int]:
    """(tasks, frames, annotations)."""
    frames = sum(len(task.meta["frames"]) for task in result.tasks)
    return len(result.tasks), frames, sum(len(task.annotations) for task in result.tasks)


def said(result: ReadResult, text: str) -> list[str]:
    """Problems whose text holds ``text``."""
    return [str(problem) for problem in result.problems if text in str(problem)]


def write(path: Path, content: str | bytes) -> Path:
    """Write text or bytes and give the path back."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


VIDEO = "/weed_data/f/20200508122912/3R/GH060070/GH060070frame{}.png"


def upstream_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """As upstream's pandas made it: object columns, object column names."""
    frame = pd.DataFrame(rows)
    text = {name: object for name in frame.columns if isinstance(rows[0][name], (str, list))}
    return frame.astype(text).set_axis(frame.columns.astype(object), axis=1)


def upstream_row(number: int = 1, **more: Any) -> dict[str, Any]:
    boxes = [np.array([10.5, 20.25, 40.0, 60.0], dtype=np.float32), np.array([1, 2, 30, 40], dtype=np.float32)]
    return {
        "img_path": VIDEO.format(number),
        "img_width": 1920,
        "img_height": 1080,
        "task_name": "gt_val_1",
        "height_crop": 0.5,
        "side_crop": 0.25,
        "bboxes": boxes,
        "labels": ["Fat hen", "Cleavers"],
        "shape_types": ["rectangle", "rectangle"],
        "points": [[1, 2, 3, 4], [1, 2, 3, 4]],
        **more,
    }


ODD_NAMES = [
    *(
        "../../etc/passwd",
        "/abs/x.png",
        "a\\b.png",
        "C:\\x.png",
        "=1+1.png",
        "@sum",
        "'=quoted",
        "a.png",
        "a.jpg",
        "A.PNG",
    ),
    *("<img src=x onerror=alert(1)>", "images/a.png", "a.txt/b.png", "con.png", " spaced ", 'q"uo,te.png', ".hidden"),
    *("labels/x.png", "a:1,2,3", "null", "1", "&amp;", "plant 🌱.png", "a//b.png", "x" * 300 + ".png"),
]
"""Names that formats, file systems and spreadsheets trip over."""
odd_names = st.sampled_from(ODD_NAMES) | names
LABEL_FIELDS = ("name", "mutable", "input_type", "default_value", "values")


@st.composite
def rich_tasks(draw: st.DrawFn) -> list[TaskRecord]:
    """Tasks with labels of their own, outlines, turned boxes, attributes, scores, empty frames and odd names; a frame
    stands in one task only."""
    frame_names = draw(st.lists(odd_names, min_size=1, max_size=6, unique=True))
    task_names = draw(st.lists(odd_names, min_size=1, max_size=3, unique=True))
    by_task: dict[str, list[str]] = {}
    for number, name in enumerate(frame_names):
        by_task.setdefault(task_names[number % len(task_names)], []).append(name)
    tasks = []
    for task_name, its_frames in by_task.items():
        labels = draw(st.lists(odd_names, min_size=1, max_size=3, unique=True))
        record = make_task(task_name, labels, [(name, WIDTH, HEIGHT) for name in its_frames])
        for label in record.task["labels"]:
            label["color"] = draw(st.sampled_from(["", "#34d1b7"]))
            if draw(st.booleans()):
                label["attributes"] = [dict.fromkeys(LABEL_FIELDS, "x")]
        for frame in draw(st.lists(st.integers(0, len(its_frames) - 1), max_size=4)):
            record.annotations.append(draw(rich_annotations(record, frame, draw(st.sampled_from(labels)))))
        record.annotations.sort(key=lambda one: int(one["frame"]))
        tasks.append(record)
    return tasks


@st.composite
def rich_annotations(draw: st.DrawFn, record: TaskRecord, frame: int, label: str) -> dict[str, Any]:
    x, y = draw(st.integers(20000, 25000)) / 100, draw(st.integers(20000, 25000)) / 100
    x2, y2 = x + draw(st.integers(200, 9000)) / 100, y + draw(st.integers(200, 9000)) / 100
    kind = draw(st.sampled_from(["rectangle", "polygon", "turned", "upright outline"]))
    more: dict[str, Any] = {}
    points = [x, y, round(x2, 2), round(y2, 2)]
    if kind == "polygon":
        points = [x, y, round(x2, 2), y, round(x2, 2), round(y2, 2)]
    elif kind == "upright outline":
        points = [x, y, round(x2, 2), y, round(x2, 2), round(y2, 2), x, round(y2, 2)]
    elif kind == "turned":
        more["rotation"] = draw(st.integers(1, 359)) * 1.0
        points = turned_box(points, more["rotation"])
    if draw(st.booleans()):
        more["attributes"] = draw(st.dictionaries(odd_names, odd_names, min_size=1, max_size=2))
    if draw(st.booleans()):
        more["score"] = draw(st.floats(0, 1))
    return make_annotation(
        record,
        frame,
        label,
        points,
        shape_type="rectangle" if kind == "rectangle" else "polygon",
        occluded=draw(st.booleans()),
        source=draw(st.sampled_from(["manual", "auto", "semi-auto"])),
        **more,
    )
