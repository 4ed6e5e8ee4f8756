"""COCO: tasks from images, boxes and polygons, what is set aside, and the way back."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from PIL import Image

from obdb_lib.errors import FormatError
from obdb_lib.formats import coco, detect_and_read
from obdb_lib.records import TaskRecord
from tests.formats_helpers import CLASSES, comparable, said, small_task, task_lists, totals, write

CATEGORIES = [{"id": 7, "name": "crop"}, {"id": 3, "name": "weed"}]


def image(key: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "file_name": name, "width": 640, "height": 480, **more}


def box(image_id: int, *, category: int = 7, bbox: Any = (10, 20, 30, 40), **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category, "bbox": bbox, **more}


def coco_file(folder: Path, images: list[Any], annotations: list[Any], name: str = "annotations.json") -> Path:
    data = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    return write(folder / name, json.dumps(data))


def test_box_becomes_corners_and_category_becomes_class(tmp_path: Path) -> None:
    result = coco.read(coco_file(tmp_path, [image(1, "a.png")], [box(1, category=3)]))
    (one,) = result.tasks[0].annotations
    assert one["points"] == [10.0, 20.0, 40.0, 60.0]
    assert (one["object_class"], one["label_id"], one["shape_types"]) == ("weed", 2, "rectangle")
    assert (one["img_path"], one["img_width"], one["img_height"]) == ("a.png", 640, 480)
    assert result.problems == []


def test_image_without_annotations_is_kept_as_negative(tmp_path: Path) -> None:
    assert totals(coco.read(coco_file(tmp_path, [image(1, "a.png"), image(2, "b.png")], [box(1)]))) == (1, 2, 1)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([image(1, "x/a.png", task_name="T"), image(2, "y/b.png", task="U")], {"T": 1, "U": 1}),
        ([image(1, "w/20200520145736/1L/GH020068/GH020068frame0017.png")], {"FieldData 20200520145736 1L GH020068": 1}),
        ([image(1, "north/a.png"), image(2, "south/b.png")], {"north": 1, "south": 1}),
        ([image(n, f"img/{n}.png") for n in range(101)], {"oats_01": 50, "oats_02": 50, "oats_03": 1}),
    ],
    ids=["task field", "upstream path", "folder", "runs of 50"],
)
def test_images_are_grouped_by_what_says_most(tmp_path: Path, images: list[Any], expected: dict[str, int]) -> None:
    folder = tmp_path / "oats"
    folder.mkdir()
    result = coco.read(coco_file(folder, images, []))
    assert {task.name: len(task.meta["frames"]) for task in result.tasks} == expected


def test_runs_follow_the_numbers_in_the_names(tmp_path: Path) -> None:
    result = coco.read(coco_file(tmp_path, [image(1, "f10.png"), image(2, "f2.png")], [], "beets.json"))
    assert result.tasks[0].name == "beets_01"
    assert [frame["name"] for frame in result.tasks[0].meta["frames"]] == ["f2.png", "f10.png"]


@pytest.mark.parametrize(
    ("segmentation", "shape", "points"),
    [
        ([[1, 2, 30, 2, 30, 40]], "polygon", [1, 2, 30, 2, 30, 40]),
        ([[1, 2, 30, 2]], "rectangle", [10, 20, 40, 60]),
        ([[1, 2, 30, 2, 30, 40], [1, 2, 3, 4, 5, 6]], "rectangle", [10, 20, 40, 60]),
        ({"counts": "abc", "size": [480, 640]}, "rectangle", [10, 20, 40, 60]),
        ([], "rectangle", [10, 20, 40, 60]),
    ],
    ids=["one polygon", "two points", "two polygons", "mask", "none"],
)
def test_segmentation(tmp_path: Path, segmentation: Any, shape: str, points: list[float]) -> None:
    result = coco.read(coco_file(tmp_path, [image(1, "a.png")], [box(1, segmentation=segmentation)]))
    (one,) = result.tasks[0].annotations
    assert (one["shape_types"], one["points"]) == (shape, points)
    assert bool(said(result, "kept as their boxes")) == (shape == "rectangle" and bool(segmentation))


@pytest.mark.parametrize(
    ("bbox", "points", "word"),
    [([30, 40, -20, -10], [[10, 30, 30, 40]], "corners put in order"), ([1, 2, 0, 3], [], "has no area")],
)
def test_inverted_boxes_are_put_in_order_and_empty_ones_set_aside(
    tmp_path: Path, bbox: list[float], points: list[list[float]], word: str
) -> None:
    path = coco_file(tmp_path, [image(1, "a.png")], [box(1, bbox=bbox)])
    result = detect_and_read(path, image_root=tmp_path)
    assert [one["points"] for one in result.tasks[0].annotations] == points
    assert word in str(result.problems[0])


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (box(1, iscrowd=1), "crowd"),
        (box(9), "no usable image has the id 9"),
        (box(1, category=9), "no category has the id 9"),
        (box(1, bbox=[1, 2, 3]), "four finite numbers"),
        (box(1, bbox=[1, 2, 1e999, 3]), "four finite numbers"),
        (box(1, bbox=[1, 2, 10**400, 3]), "four finite numbers"),
        ("box", "not an object"),
        ({**box(1), "image_id": [1]}, "no usable image"),
    ],
)
def test_bad_annotation_is_set_aside_with_its_place(tmp_path: Path, annotation: Any, reason: str) -> None:
    result = coco.read(coco_file(tmp_path, [image(1, "a.png")], [box(1), annotation]))
    assert totals(result) == (1, 1, 1)
    (problem,) = said(result, reason)
    assert "annotation 1" in problem


def test_missing_size_is_read_from_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (32, 20)).save(tmp_path / "a.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (32, 20)).save(tmp_path / "b.jpg", exif=turned)
    images = [{"id": n, "file_name": name} for n, name in enumerate(["a.png", "b.jpg", "gone.png", "../a.png"])]
    path = coco_file(tmp_path, images, [])
    result = coco.read(path, image_root=tmp_path)
    sizes = {frame["name"]: (frame["width"], frame["height"]) for frame in result.tasks[0].meta["frames"]}
    assert sizes == {"a.png": (32, 20), "b.jpg": (20, 32)}
    assert said(result, "'gone.png' has no width and height")
    assert said(result, "'../a.png' has no width and height"), "a name must not lead out of the image root"


def test_duplicates_of_ids_and_names_are_reported(tmp_path: Path) -> None:
    images = [image(1, "a.png"), image(1, "b.png"), image(2, "a.png")]
    result = coco.read(coco_file(tmp_path, images, [box(1), box(2)]))
    assert totals(result) == (1, 1, 2)
    assert said(result, "id 1 belongs to 'a.png' already")
    assert said(result, "listed twice")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', r"line 1, column 13: not valid JSON"),
        ('{"images":\n [}', r"line 2, column 3: not valid JSON"),
        ("[1, 2]", "not COCO.*got a list"),
        ('{"shapes": []}', "got an object with 'shapes'"),
        ('{"images": {}}', "not COCO"),
        ('{"images": "x"}', "wanted a list under 'images', got str"),
        ('{"images": [], "annotations": null}', "wanted a list under 'annotations', got null"),
        (b"\xff\xfe{}", "not UTF-8 text: byte 0 is 0xff"),
        ("", "is empty"),
        ("[" * 100_000, "not usable JSON"),
        (gzip.compress(b'{"images": []}' * 50)[:-9], "cut off"),
        (gzip.compress(b"x" * 5000)[:20] + b"\xff" * 30, "damaged|cut off"),
    ],
)
def test_malformed_file_is_one_clear_sentence(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path / "bad.json", content)
    with pytest.raises(FormatError, match=f"(?s)bad.json.*({message})"):
        coco.read(path)


def test_too_large_after_gunzip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from obdb_lib.formats import _shared

    monkeypatch.setattr(_shared.read_bytes, "__defaults__", (10_000,))
    path = write(tmp_path / "bomb.json.gz", gzip.compress(b" " * 1_000_000))
    with pytest.raises(FormatError, match="more than 10,000 bytes"):
        coco.read(path)


def test_written_file_is_plain_coco(tmp_path: Path) -> None:
    coco.write([small_task()], tmp_path / "out.json")
    data = json.loads((tmp_path / "out.json").read_text())
    assert [category["name"] for category in data["categories"]] == list(CLASSES)
    first, polygon, _ = data["annotations"]
    assert first["bbox"] == [10.5, 20.25, 29.5, 40.5]
    assert first["area"] == pytest.approx(29.5 * 40.5)
    assert polygon["bbox"] == [100.0, 100.0, 50.5, 60.25]
    assert polygon["area"] == pytest.approx(50.5 * 60.25 / 2)
    assert {one["image_id"] for one in data["annotations"]} == {1, 3}
    assert coco.read(tmp_path / "out.json").tasks[0].annotations == small_task().annotations


def test_unfinished_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "out.json", "old")
    task = small_task()
    task.annotations[0]["points"][0] = float("nan")
    with pytest.raises(FormatError, match="not finite"):
        coco.write([task], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@settings(deadline=None)
@given(task_lists())
def test_round_trip(tasks: list[TaskRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        coco.write(tasks, path)
        result = coco.read(path)
    assert comparable(result.tasks) == comparable(tasks)
    assert result.problems == []
