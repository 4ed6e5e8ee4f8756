"""The three collections: notations of mongoexport, gaps and contradictions between them, and the way back."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from obdb_lib.errors import FormatError
from obdb_lib.formats import mongoexport
from obdb_lib.records import TaskRecord
from tests.formats_helpers import comparable, said, small_task, task_lists, totals, write

TASK = {"type": "task_data", "name": "T", "labels": [{"id": 4, "name": "Fat hen"}], "created_date": "2024-01-01"}
META = {"task_name": "T", "frames": [{"name": name, "width": 640, "height": 480} for name in ("a.png", "b.png")]}


def annotation(**more: Any) -> dict[str, Any]:
    return {
        "type": "annotation",
        "task_name": "T",
        "shape_types": "rectangle",
        "occluded": False,
        "points": [1, 2, 30, 40],
        "frame": 1,
        "label_id": 4,
        "source": "manual",
        "object_class": "Fat hen",
        "img_path": "b.png",
        "img_height": 480,
        "img_width": 640,
        **more,
    }


def lines(documents: list[Any]) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


def export(folder: Path, annotations: list[Any], tasks: list[Any] | None = None, meta: list[Any] | None = None) -> Path:
    write(folder / "tasks.json", lines([TASK] if tasks is None else tasks))
    write(folder / "meta.json", lines([META] if meta is None else meta))
    write(folder / "annotation_data.json", lines(annotations))
    return folder


def test_documents_come_through_as_they_are(tmp_path: Path) -> None:
    result = mongoexport.read(export(tmp_path, [annotation(extra="kept", upstream_shape_types="polygon")]))
    (task,) = result.tasks
    assert result.problems == []
    assert task.meta == META
    assert task.task["labels"] == [{"id": 4, "name": "Fat hen", "color": "", "attributes": []}]
    assert task.annotations == [annotation(extra="kept", upstream_shape_types="polygon", points=[1.0, 2.0, 30.0, 40.0])]


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("array", [False, True], ids=["lines", "array"])
@pytest.mark.parametrize("prefix", ["", "annotations."])
def test_every_notation_gives_the_same(tmp_path: Path, pack: bool, array: bool, prefix: str) -> None:
    oid = {"_id": {"$oid": "5f0c1b2e8f1b2c3d4e5f6a7b"}}
    date = {"updated_date": {"$date": "2024-02-03T04:05:06Z"}}
    number = {"frame": {"$numberInt": "1"}, "points": [{"$numberDouble": "1.5"}, 2, {"$numberLong": "30"}, 40]}
    collections = {"tasks": [{**TASK, **oid, **date}], "meta": [{**META, **oid}]}
    collections["annotation_data"] = [annotation(**oid, **number)]
    for name, documents in collections.items():
        text = (json.dumps(documents, indent=2) if array else lines(documents)).encode()
        suffix = ".json.gz" if pack else ".json"
        write(tmp_path / f"{prefix}{name}{suffix}", gzip.compress(text) if pack else text)
    result = mongoexport.read(tmp_path)
    assert result.problems == []
    (task,) = result.tasks
    assert task.task["updated_date"] == "2024-02-03T04:05:06.000000Z"
    assert "_id" not in task.task
    assert "_id" not in task.meta
    assert task.annotations == [annotation(points=[1.5, 2.0, 30.0, 40.0])]


def test_malformed_line_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    export(tmp_path, [annotation()])
    text = lines([annotation()]) + '{"type": "annot\n\n' + lines([7, {"$oid": "zz"}, annotation()])
    write(tmp_path / "annotation_data.json", text)
    result = mongoexport.read(tmp_path)
    assert totals(result) == (1, 2, 2)
    for number in (2, 4, 5):
        assert said(result, f"annotation_data.json, line {number}: set aside")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a":\n1\n', r"none of its 2 lines.*--pretty"),
        ("[{]", "line 1, column 3: not valid JSON"),
        (gzip.compress(lines([annotation()] * 500).encode())[:60], "cut off"),
        (b"\x80\x81", "not UTF-8"),
    ],
)
def test_wholly_malformed_file_is_one_clear_sentence(tmp_path: Path, content: str | bytes, message: str) -> None:
    export(tmp_path, [])
    write(tmp_path / "annotation_data.json", content)
    with pytest.raises(FormatError, match=f"(?s)annotation_data.json.*({message})"):
        mongoexport.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task_name": None}, "no task_name"),
        ({"object_class": ["x"]}, "no object_class"),
        ({"frame": "1"}, "no frame number"),
        ({"points": [1, 2, 3]}, "points are not"),
        ({"points": None}, "points are not"),
        ({"points": [1, 2, 3, 10**400]}, "points are not"),
        ({"points": [1, 2, 3, {"$numberDouble": "NaN"}]}, "points are not"),
    ],
)
def test_unusable_annotation_is_set_aside(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    result = mongoexport.read(export(tmp_path, [annotation(), annotation(**change)]))
    assert totals(result) == (1, 2, 1)
    (problem,) = said(result, reason)
    assert "document 1: set aside" in problem


def test_missing_meta_is_made_up_for(tmp_path: Path) -> None:
    export(
        tmp_path,
        [
            annotation(frame=9, img_path="j.png"),
            annotation(frame=4, img_path="e.png"),
            annotation(frame=9, img_path="j.png"),
        ],
    )
    (tmp_path / "meta.json").unlink()
    result = mongoexport.read(tmp_path)
    (task,) = result.tasks
    assert task.meta["frames"] == [{"name": name, "width": 640, "height": 480} for name in ("e.png", "j.png")]
    assert [one["frame"] for one in task.annotations] == [1, 0, 1]
    assert said(result, "has no meta*.json")
    assert said(result, "has no meta; its 2 frames are those with annotations")


def test_missing_tasks_are_made_up_for(tmp_path: Path) -> None:
    export(tmp_path, [annotation(object_class="b"), annotation(object_class="a")])
    (tmp_path / "tasks.json").unlink()
    result = mongoexport.read(tmp_path)
    assert [(label["id"], label["name"]) for label in result.tasks[0].task["labels"]] == [(1, "a"), (2, "b")]
    assert said(result, "is not in tasks")


def test_an_empty_collection_is_told_and_three_empty_ones_are_an_error(tmp_path: Path) -> None:
    result = mongoexport.read(export(tmp_path, []))
    assert totals(result) == (1, 2, 0)
    assert said(result, "annotation_data.json: is empty")
    with pytest.raises(FormatError, match="hold no documents"):
        mongoexport.read(export(tmp_path, [], [], []))


def test_no_annotation_data_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "tasks.json", lines([TASK]))
    with pytest.raises(FormatError, match=r"holds no annotation_data.*Export the collections"):
        mongoexport.read(tmp_path)


def test_contradictions_between_frame_number_and_image_name(tmp_path: Path) -> None:
    annotations = [annotation(frame=0, img_path="b.png"), annotation(frame=0, img_path="elsewhere/a.png")]
    result = mongoexport.read(export(tmp_path, annotations))
    assert [(one["frame"], one["img_path"]) for one in result.tasks[0].annotations] == [(1, "b.png"), (0, "a.png")]
    assert said(result, "1 annotations: frame number corrected")
    assert said(result, "1 annotations: image's name is not among the task's frames")


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ([META, META], "has its frames already"),
        ([META, {"task_name": "T2", "frames": [{"width": 3}]}], "a frame of task 'T2' has no name"),
        ([META, {"frames": []}], "needs a task_name"),
        ([META, {"task_name": "T", "frames": "x"}], "needs a task_name and a list"),
    ],
)
def test_unusable_meta_is_set_aside(tmp_path: Path, meta: list[Any], reason: str) -> None:
    result = mongoexport.read(export(tmp_path, [annotation()], meta=meta))
    assert totals(result) == (1, 2, 1)
    assert said(result, reason)


def test_frame_sizes_are_taken_from_annotations_or_reported(tmp_path: Path) -> None:
    meta = {"task_name": "T", "frames": [{"name": "a.png"}, {"name": "b.png", "width": "x", "height": None}]}
    result = mongoexport.read(export(tmp_path, [annotation()], meta=[meta]))
    first, second = result.tasks[0].meta["frames"]
    assert (first["width"], first["height"]) == (0, 0)
    assert (second["width"], second["height"]) == (640, 480)
    assert len(said(result, "is unknown; boxes of this frame")) == 2


def test_of_two_files_of_a_collection_one_is_read(tmp_path: Path) -> None:
    export(tmp_path, [annotation()])
    write(tmp_path / "tasks_old.json", "not json")
    result = mongoexport.read(tmp_path)
    assert totals(result) == (1, 2, 1)
    assert said(result, "tasks_old.json: not read, because tasks.json is read as tasks")


def test_written_files_are_whole_equal_and_readable(tmp_path: Path) -> None:
    tasks = [small_task("one"), small_task("two")]
    written = mongoexport.write(tasks, tmp_path / "new")
    first = [path.read_bytes() for path in written]
    assert [path.name for path in written] == ["tasks.jsonl.gz", "meta.jsonl.gz", "annotation_data.jsonl.gz"]
    assert first == [path.read_bytes() for path in mongoexport.write(tasks, tmp_path / "new")]
    assert mongoexport.read(tmp_path / "new").tasks == tasks, "dates included"


def test_failed_write_leaves_all_three_old_files(tmp_path: Path) -> None:
    written = mongoexport.write([small_task()], tmp_path)
    before = [path.read_bytes() for path in written]
    broken = small_task("other")
    broken.annotations[-1]["points"] = object()
    with pytest.raises(TypeError):
        mongoexport.write([broken], tmp_path)
    assert [path.read_bytes() for path in written] == before
    assert len(list(tmp_path.iterdir())) == 3


@settings(deadline=None)
@given(task_lists())
def test_round_trip(tasks: list[TaskRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mongoexport.write(tasks, Path(folder))
        result = mongoexport.read(Path(folder))
    empty = said(result, "annotation_data.jsonl.gz: is empty")
    assert len(empty) == (not any(task.annotations for task in tasks))
    assert [str(problem) for problem in result.problems] == empty
    assert comparable(result.tasks) == comparable(tasks)
