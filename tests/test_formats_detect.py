"""Which format a file or folder is, and that every task comes out checked."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obdb_lib.errors import FormatError, PickleRefusedError
from obdb_lib.formats import coco, cvat_xml, detect_and_read, mongoexport
from obdb_lib.records import ReadResult
from tests.formats_helpers import examples, said, small_task, totals, upstream_row, upstream_table, write

WRITERS = {"annotations.json": coco.write, "export.xml": cvat_xml.write}


def fill(folder: Path, *formats: str) -> Path:
    """Each format under its own task name, so that a test sees which one was read."""
    folder.mkdir(parents=True, exist_ok=True)
    if "mongoexport" in formats:
        mongoexport.write([small_task("mongoexport")], folder)
    if "xml" in formats:
        cvat_xml.write([small_task("xml")], folder / "export.xml")
    if "coco" in formats:
        coco.write([small_task("coco")], folder / "annotations.json")
    if "pickle" in formats:
        write(folder / "t.pkl", pickle.dumps(upstream_table([upstream_row(task_name="pickle")])))
    return folder


@pytest.mark.parametrize("name", ["mongoexport", "xml", "coco", "pickle"])
def test_folder_with_one_format(tmp_path: Path, name: str) -> None:
    result = detect_and_read(fill(tmp_path, name))
    assert [task.name for task in result.tasks] == [name]
    assert result.problems == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("annotation_data.jsonl.gz", "mongoexport"),
        ("export.xml", "xml"),
        ("annotations.json", "coco"),
        ("t.pkl", "pickle"),
    ],
)
def test_file_by_its_name(tmp_path: Path, file: str, expected: str) -> None:
    fill(tmp_path, "mongoexport", "xml", "coco", "pickle")
    assert [task.name for task in detect_and_read(tmp_path / file).tasks] == [expected]


@pytest.mark.parametrize(
    ("formats", "read", "left"),
    [
        (("mongoexport", "xml", "coco", "pickle"), "mongoexport", ["export.xml", "annotations.json", "t.pkl"]),
        (("xml", "coco", "pickle"), "xml", ["annotations.json", "t.pkl"]),
        (("coco", "pickle"), "coco", ["t.pkl"]),
    ],
)
def test_preference_is_told(tmp_path: Path, formats: tuple[str, ...], read: str, left: list[str]) -> None:
    result = detect_and_read(fill(tmp_path, *formats))
    assert [task.name for task in result.tasks] == [read]
    assert [Path(problem.where).name for problem in result.problems] == left
    assert len(said(result, "not read")) == len(left)


def test_folder_with_images_only_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    for name in ("a.png", "b.JPG", "video/c.jpeg", "notes.txt"):
        write(tmp_path / name, b"x")
    with pytest.raises(FormatError, match=r"holds 3 images but no annotations; looked for .*COCO"):
        detect_and_read(tmp_path)


@pytest.mark.parametrize(
    "place", ["annotations/instances_default.json", "_annotations.coco.json", "instances_val.json"]
)
def test_coco_as_others_lay_it_out(tmp_path: Path, place: str) -> None:
    coco.write([small_task("coco")], tmp_path / place)
    assert totals(detect_and_read(tmp_path)) == (1, 3, 3)


def test_all_xml_files_of_a_folder_are_read_and_a_second_task_of_one_name_is_told(tmp_path: Path) -> None:
    cvat_xml.write([small_task("one", updated="2024-05-02T00:00:00.000000Z")], tmp_path / "a.xml")
    newer = small_task("one", updated="2024-06-02T00:00:00.000000Z")
    newer.annotations.pop()
    cvat_xml.write([newer], tmp_path / "b.xml")
    cvat_xml.write([small_task("two")], tmp_path / "c.xml")
    result = detect_and_read(tmp_path)
    assert [(task.name, len(task.annotations)) for task in result.tasks] == [("one", 2), ("two", 3)]
    assert said(result, "occurs twice: kept the one updated 2024-06-02")


@pytest.mark.parametrize("file", sorted(WRITERS))
def test_every_task_is_checked(tmp_path: Path, file: str) -> None:
    task = small_task()
    task.annotations[0]["points"] = [600.0, 400.0, 700.0, 500.0]
    task.annotations[2]["points"] = [700.0, 10.0, 720.0, 20.0]
    WRITERS[file]([task], tmp_path / file)
    result = detect_and_read(tmp_path)
    assert result.tasks[0].annotations[0]["points"] == [600.0, 400.0, 640.0, 480.0]
    assert totals(result) == (1, 3, 2)
    assert said(result, "cut at the frame's border")
    assert said(result, "lies outside the frame")


def test_label_unknown_to_the_task_is_set_aside(tmp_path: Path) -> None:
    cvat_xml.write([small_task()], tmp_path / "a.xml")
    text = (tmp_path / "a.xml").read_text().replace('label="Fat hen"', 'label="Fat hem"')
    result = detect_and_read(write(tmp_path / "a.xml", text))
    assert totals(result) == (1, 3, 2)
    assert said(result, "class 'Fat hem' is not a label of the task")


def test_nothing_to_import_lists_what_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "hello")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "gone"):
        with pytest.raises(FormatError, match=r"(?s)mongoexport.*CVAT for images 1\.1.*COCO.*pkl"):
            detect_and_read(path)
    with pytest.raises(FormatError, match="Unzip it first"):
        detect_and_read(write(tmp_path / "task.zip", b"PK"))


def test_refused_pickle_in_a_folder_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "t.pkl", pickle.dumps(ValueError))
    with pytest.raises(PickleRefusedError):
        detect_and_read(tmp_path)


EXAMPLES = examples(100)
SUFFIXES = ["x.json", "x.xml", "x.pkl", "annotation_data.json", "tasks.jsonl", "meta.json.gz", "x.bin"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["id", "name", "file_name", "width", "height", "image_id", "category_id", "bbox", "segmentation", "iscrowd"]
FIELDS += ["attributes", "task_name", "frames", "labels", "frame", "points", "object_class", "img_path", "occluded"]
FIELDS += ["updated_date", "source", "shape_types", "$oid", "$date", "img_width"]
documents = st.lists(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8) | json_values, max_size=4)


def read_or_refuse(path: Path) -> ReadResult | None:
    try:
        return detect_and_read(path)
    except FormatError as error:
        if str(path.parent) not in str(error):
            pytest.fail(f"the message names no file: {error}")
        return None


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(SUFFIXES), st.binary(max_size=200))
@example("x.xml", b"<?xml version='1.0' encoding='hex'?><annotations/>")
@example("x.xml", b"\xff\xfe<\x00")
@example("x.json", b"1" * 5000)
def test_random_bytes_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    read_or_refuse(write(tmp_path_factory.mktemp("fuzz") / name, data))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(["json", "xml", "pkl", "gz"]), st.data())
def test_damaged_files_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    folder = fill(tmp_path_factory.mktemp("damage"), "mongoexport", "xml", "coco", "pickle")
    name = {"json": "annotations.json", "xml": "export.xml", "pkl": "t.pkl", "gz": "annotation_data.jsonl.gz"}[kind]
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(write(folder / name, bytes(content[: data.draw(st.integers(1, len(content)))])))


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents, documents, documents)
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, first: list[object], second: list[object], third: list[object]
) -> None:
    folder = tmp_path_factory.mktemp("json")
    data = {"images": first, "annotations": second, "categories": third}
    read_or_refuse(write(folder / "x.json", json.dumps(data)))
    for name, values in zip(("tasks", "meta", "annotation_data"), (first, second, third), strict=True):
        write(folder / f"{name}.json", "\n".join(json.dumps(value) for value in values))
    read_or_refuse(folder)
    for name, values in zip(("tasks", "meta", "annotation_data"), (first, second, third), strict=True):
        write(folder / f"{name}.json", json.dumps(values))
    read_or_refuse(folder)
