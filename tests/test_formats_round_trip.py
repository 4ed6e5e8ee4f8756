"""Every format both ways: what it can hold comes back exactly, and what it cannot is told."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obdb_lib import formats
from obdb_lib.errors import FormatError
from obdb_lib.formats import detect_and_read, frame_lists
from obdb_lib.records import Problem, TaskRecord, bounding_box
from tests.formats_helpers import ODD_NAMES, examples, names, rich_tasks, small_task

FILES = {
    **{"coco": "annotations.json", "cvat_xml": "task.xml", "parquet": "table.parquet", "pickle": "table.pkl"},
    **{"mongoexport": "collections", "voc": "voc", "yolo": "yolo"},
}
EXAMPLES = examples(25)
TWO_DECIMALS_PX = 0.011
"""CVAT's rounding, twice for the corners that are made anew of a turned box."""
Plain = list[dict[str, Any]]


def there_and_back(
    tasks: Sequence[TaskRecord], format_name: str
) -> tuple[list[TaskRecord], list[Problem], list[Problem]]:
    """Tasks as read again, problems told in writing, and problems told in reading."""
    with tempfile.TemporaryDirectory() as folder:
        written = formats.write(copy.deepcopy(list(tasks)), Path(folder) / FILES[format_name], format_name)
        result = detect_and_read(written.path)
    return result.tasks, written.problems, result.problems


def plain(tasks: Sequence[TaskRecord], annotation: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Plain:
    """Names, frames and annotations by frame; labels and dates apart."""
    return [
        {
            "name": task.name,
            "frames": [(frame["name"], frame["width"], frame["height"]) for frame in task.meta["frames"]],
            "annotations": [annotation(one) for one in sorted(task.annotations, key=lambda one: int(one["frame"]))],
        }
        for task in tasks
    ]


def near(found: Plain, wanted: Plain, pixels: float = 1e-5) -> bool:
    """Equal, but for coordinates that differ by ``pixels`` at most."""
    for task, other in zip(found, wanted, strict=True):
        for one, two in zip(task["annotations"], other["annotations"], strict=True):
            assert one.pop("points") == pytest.approx(two.pop("points"), abs=pixels)
    return found == wanted


def label_names(tasks: Sequence[TaskRecord]) -> list[list[str]]:
    return [[label["name"] for label in task.task["labels"]] for task in tasks]


def all_labels(tasks: Sequence[TaskRecord]) -> list[str]:
    return list(dict.fromkeys(name for names in label_names(tasks) for name in names))


def fields(one: dict[str, Any], *kept: str) -> dict[str, Any]:
    points = list(one["points"])
    common = {"frame": one["frame"], "class": one["object_class"], "img_path": one["img_path"], "points": points}
    return common | {name: one.get(name) for name in kept}


@pytest.mark.parametrize("format_name", ["mongoexport", "parquet"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(tasks=rich_tasks())
def test_the_two_whole_formats_give_back_every_field(format_name: str, tasks: list[TaskRecord]) -> None:
    tasks[0].task["status"] = "completed"
    tasks[0].meta["frames"][0]["tags"] = [{"object_class": "wet", "attributes": {"a": 1.5}}]
    found, told, problems = there_and_back(tasks, format_name)
    assert told == []
    assert [problem for problem in problems if "held no documents" not in problem.what] == []
    assert [task.task for task in found] == [task.task for task in tasks]
    assert [task.meta for task in found] == [task.meta for task in tasks]
    assert [task.annotations for task in found] == [task.annotations for task in tasks]


@settings(max_examples=EXAMPLES, deadline=None)
@given(rich_tasks())
def test_coco(tasks: list[TaskRecord]) -> None:
    kept = ("shape_types", "occluded", "source", "attributes", "rotation", "score")
    found, told, problems = there_and_back(tasks, "coco")
    assert problems == []
    assert near(plain(found, lambda one: fields(one, *kept)), plain(tasks, lambda one: fields(one, *kept)))
    assert all(set(names) == set(all_labels(tasks)) for names in label_names(found))
    own = [names != all_labels(tasks) for names in label_names(tasks)]
    assert not any(own) or any("labels" in problem.what for problem in told)


@settings(max_examples=EXAMPLES, deadline=None)
@given(rich_tasks())
def test_cvat_xml(tasks: list[TaskRecord]) -> None:
    def kept(one: dict[str, Any]) -> dict[str, Any]:
        return fields(one, "shape_types", "occluded", "source", "attributes", "rotation")

    found, _, problems = there_and_back(tasks, "cvat_xml")
    assert all("rotated by" in problem.what for problem in problems)
    assert near(plain(found, kept), plain(tasks, kept), pixels=TWO_DECIMALS_PX)
    assert [task.task["labels"] for task in found] == [task.task["labels"] for task in tasks]
    assert [task.task["created_date"] for task in found] == [task.task["created_date"] for task in tasks]


@settings(max_examples=EXAMPLES, deadline=None)
@given(rich_tasks())
def test_yolo(tasks: list[TaskRecord]) -> None:
    def kept(one: dict[str, Any]) -> dict[str, Any]:
        own = fields(one)
        x1, y1, x2, y2 = bounding_box(own["points"])
        upright = own["points"] in ([x1, y1, x2, y2], [x1, y1, x2, y1, x2, y2, x1, y2])
        return own | {"points": [x1, y1, x2, y2] if upright else own["points"]}

    found, told, problems = there_and_back(tasks, "yolo")
    assert problems == []
    assert near(plain(found, kept), plain(tasks, kept))
    assert all(names == all_labels(tasks) for names in label_names(found))
    occluded = any(one["occluded"] for task in tasks for one in task.annotations)
    assert occluded == any("'occluded'" in problem.what for problem in told)


@settings(max_examples=EXAMPLES, deadline=None)
@given(rich_tasks())
def test_voc(tasks: list[TaskRecord]) -> None:
    def kept(one: dict[str, Any]) -> dict[str, Any]:
        return fields({**one, "points": bounding_box(one["points"])}, "occluded", "attributes")

    found, told, problems = there_and_back(tasks, "voc")
    assert problems == []
    assert plain(found, kept) == plain(tasks, kept)
    words = [problem.what for problem in told]
    odd = {
        name
        for name in all_labels(tasks)
        if f"label {name!r} cannot stand in labelmap.txt; its objects keep it" in words
    }
    assert all(set(names) >= set(own) - odd for names, own in zip(label_names(found), label_names(tasks), strict=True))
    assert all(name.startswith("#") for name in odd)
    outlines = sum(one["shape_types"] == "polygon" for task in tasks for one in task.annotations)
    assert not outlines or f"{outlines} outlines" in told[0].what


@settings(max_examples=EXAMPLES, deadline=None)
@given(rich_tasks())
def test_pickle(tasks: list[TaskRecord]) -> None:
    found, _, problems = there_and_back(tasks, "pickle")
    assert problems == []
    assert plain(found, lambda one: fields(one, "shape_types")) == plain(tasks, lambda one: fields(one, "shape_types"))


LOSSES: dict[str, tuple[dict[str, Any], str]] = {
    "occluded": ({"occluded": True}, "'occluded'"),
    "source": ({"source": "auto"}, "'source'"),
    "attributes": ({"attributes": {"age": "old"}}, "'attributes'"),
    "score": ({"score": 0.5}, "'score'"),
    "rotation": ({"rotation": 20.0}, "rotation"),
    "further field": ({"cvat_id": {"shape": 3}}, "'cvat_id'"),
    "outline": ({"shape_types": "polygon", "points": [1, 2, 30, 2, 30, 40]}, "outlines"),
}
HELD = {
    "coco": {"occluded", "source", "attributes", "score", "rotation", "outline"},
    "cvat_xml": {"occluded", "source", "attributes", "rotation", "outline"},
    "yolo": {"score", "outline"},
    "voc": {"occluded", "attributes"},
    "pickle": {"outline"},
    "parquet": set(LOSSES),
    "mongoexport": set(LOSSES),
}


@pytest.mark.parametrize("format_name", sorted(HELD))
@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_what_a_format_cannot_hold_is_told_and_nothing_else(tmp_path: Path, format_name: str, kind: str) -> None:
    change, word = LOSSES[kind]
    task = small_task()
    task.annotations[:] = [{**task.annotations[0], **change}]
    told = [problem.what for problem in formats.write([task], tmp_path / FILES[format_name], format_name).problems]
    assert any(word in what for what in told) == (kind not in HELD[format_name]), told


@pytest.mark.parametrize("format_name", sorted(HELD))
def test_labels_of_their_own_are_told(tmp_path: Path, format_name: str) -> None:
    one, two = small_task("one"), small_task("two")
    two.task["labels"].append({"id": 9, "name": "Rape", "color": "#ffffff", "attributes": []})
    told = formats.write([one, two], tmp_path / FILES[format_name], format_name).problems
    whole = format_name in ("mongoexport", "parquet", "cvat_xml")
    assert any("labels" in problem.what for problem in told) != whole


@pytest.mark.parametrize("format_name", sorted({*formats.FORMATS} - {"frames"}))
def test_equal_tasks_give_equal_files(tmp_path: Path, format_name: str) -> None:
    contents = []
    for folder in ("a", "b"):
        path = formats.write([small_task()], tmp_path / folder / FILES[format_name], format_name).path
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        contents.append([(one.relative_to(path), one.read_bytes()) for one in files])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("format_name", sorted({*formats.FORMATS} - {"frames"}))
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, format_name: str) -> None:
    task = small_task("half a character \ud800")
    task.meta["frames"][0]["name"] = "\ud800.png"
    task.annotations[0] |= {"object_class": "\ud800", "more": "\ud800"}
    if format_name in ("coco", "mongoexport"):  # JSON can hold it, as an escape
        formats.write([task], tmp_path / FILES[format_name], format_name)
        return
    with pytest.raises(FormatError):
        formats.write([task], tmp_path / FILES[format_name], format_name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_name", sorted(HELD))
def test_what_others_put_into_the_database_does_not_break_a_writer(tmp_path: Path, format_name: str) -> None:
    """Frames without a size, labels without a name, annotations without a frame or with too few points."""
    task = small_task()
    del task.meta["frames"][1]["width"], task.meta["frames"][1]["height"]
    task.task["labels"].append({"id": 3})
    good = task.annotations[0]
    bad = [{**good, "frame": 9}, {**good, "points": [1.0]}, {**good, "points": None}, {"type": "annotation"}]
    bare = {key: value for key, value in good.items() if key not in ("occluded", "source", "shape_types")}
    task.annotations.extend([*bad, bare])
    written = formats.write([task], tmp_path / FILES[format_name], format_name)
    told = [problem.what for problem in written.problems]
    assert sum("set aside" in what for what in told) >= 4
    assert "labels without a name are left out" in told
    known = format_name in ("mongoexport", "parquet", "yolo")
    assert any("1 frames have no size" in what for what in told) != known
    result = detect_and_read(written.path)
    assert len(result.tasks[0].annotations) == 4
    assert len(result.tasks[0].meta["frames"]) == (3 if known else 2)


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"unknown format 'tfrecord'; there are coco, cvat_xml.*yolo"):
        formats.write([small_task()], tmp_path / "x", "tfrecord")
    with pytest.raises(FormatError, match="no task to write"):
        formats.write([], tmp_path / "x", "coco")
    with pytest.raises(FormatError, match="coco has no place for the parts of a split"):
        formats.write([small_task()], tmp_path / "x", "coco", parts={"a/0.png": "val"})


@pytest.mark.parametrize("format_name", ["voc", "yolo"])
def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path, format_name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(FormatError, match="mine holds files already"):
        formats.write([small_task()], tmp_path / "mine", format_name)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(names, min_size=1, unique=True))
def test_lists_of_frames(found: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for ending in (".npy", ".txt"):
            plain_names = [name for name in found if not name.startswith("#")] or ["a.png"]
            frame_lists.write_list(plain_names, Path(folder) / f"x{ending}")
            assert frame_lists.read_list(Path(folder) / f"x{ending}") == plain_names
        for ending in (".csv", ".json"):
            parts = {"train": found, "=val": [*found, *(name for name in ODD_NAMES if name == name.strip())]}
            frame_lists.write_parts(parts, Path(folder) / f"y{ending}")
            assert frame_lists.read_parts(Path(folder) / f"y{ending}") == parts
