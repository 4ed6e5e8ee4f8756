"""YOLO, VOC and Parquet as others write them: what is read, and what is set aside with its place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from obdb_lib import formats
from obdb_lib.errors import FormatError
from obdb_lib.formats import detect_and_read, parquet, voc, yolo
from obdb_lib.records import ReadResult
from tests.formats_helpers import said, small_task, totals, write


def picture(path: Path, size: tuple[int, int] = (200, 100)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def data_set(folder: Path, labels: str, yaml: str = "train: images\nnames: [crop, weed]\n") -> Path:
    """One image of 200 x 100 with these label lines."""
    picture(folder / "images" / "a.png")
    (folder / "labels").mkdir(exist_ok=True)
    write(folder / "labels" / "a.txt", labels)
    write(folder / "data.yaml", yaml)
    return folder


def shapes(result: ReadResult) -> list[tuple[str, str, list[float]]]:
    return [(one["object_class"], one["shape_types"], one["points"]) for t in result.tasks for one in t.annotations]


def test_yolo_lines(tmp_path: Path) -> None:
    lines = "1 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.3 0.1 0.3 0.5\n1 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5\n0 0.5 0.5 0.2 0.4 0.25\n"
    result = detect_and_read(data_set(tmp_path, lines))
    assert result.problems == []
    assert shapes(result) == [
        ("weed", "rectangle", [80.0, 30.0, 120.0, 70.0]),
        ("crop", "polygon", [20.0, 10.0, 60.0, 10.0, 60.0, 50.0]),
        ("weed", "rectangle", [20.0, 10.0, 60.0, 50.0]),
        ("crop", "rectangle", [80.0, 30.0, 120.0, 70.0]),
    ]
    assert [one.get("score") for one in result.tasks[0].annotations] == [None, None, None, 0.25]
    assert result.tasks[0].meta["frames"] == [{"name": "images/a.png", "width": 200, "height": 100}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 .5 .5 .1 .1", "class '2' is not one of the 2 classes"),
        ("-1 .5 .5 .1 .1", "class '-1'"),
        ("crop .5 .5 .1 .1", "class 'crop'"),
        ("9" * 10_000 + " .5 .5 .1 .1", "class '9999"),
        ("0 .5 .5 .1", "got 3 numbers"),
        ("0 .5 .5 .1 .1 .1 .1 .1", "got 7 numbers"),
        ("0 nan .5 .1 .1", "wanted shares"),
        ("0 inf .5 .1 .1", "wanted shares"),
        ("0 " + "1" * 10_000 + " .5 .1 .1", "wanted shares"),
        ("0 100 50 20 10", "wanted shares of the frame between 0 and 1"),
        ("0", "got 0 numbers"),
    ],
)
def test_bad_yolo_lines_are_set_aside_with_their_number(tmp_path: Path, line: str, reason: str) -> None:
    result = detect_and_read(data_set(tmp_path, f"0 .5 .5 .1 .1\n{line}\n"))
    assert totals(result) == (1, 1, 1)
    (problem,) = said(result, reason)
    assert "a.txt, line 2: set aside" in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    "yaml",
    [
        "train: images\nval: images\nnames:\n  0: crop\n  1: weed\n",
        "path: .\ntrain: ../images\nnames: ['crop', 'weed']\n",
        "path: /home/somebody/elsewhere\ntrain: images\nnames: [crop, weed]\n",
        "train: list.txt\nnames: [crop, weed]\nnc: 2\n",
        "names: [crop, weed]\n",
    ],
)
def test_yolo_as_others_lay_it_out(tmp_path: Path, yaml: str) -> None:
    data_set(tmp_path, "1 .5 .5 .1 .1\n", yaml)
    picture(tmp_path / "images" / "b.png")
    write(tmp_path / "list.txt", "./images/a.png\nimages/b.png\n")
    assert totals(detect_and_read(tmp_path)) == (1, 2, 1)
    assert totals(detect_and_read(tmp_path / "data.yaml")) == (1, 2, 1)


def test_a_frames_csv_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    data_set(tmp_path, "1 .5 .5 .1 .1")
    write(tmp_path / "frames.csv", "frame,time\n1,0.5\n")
    result = detect_and_read(tmp_path)
    assert totals(result) == (1, 1, 1)
    assert said(result, "frames.csv: not used")


def test_darknet_with_labels_beside_the_images(tmp_path: Path) -> None:
    picture(tmp_path / "obj_train_data" / "a.png")
    write(tmp_path / "obj_train_data" / "a.txt", "1 .5 .5 .1 .1")
    write(tmp_path / "obj.names", "crop\nweed\n")
    assert shapes(detect_and_read(tmp_path))[0][0] == "weed"


def test_yolo_without_its_images_says_what_is_missing(tmp_path: Path) -> None:
    data_set(tmp_path, "1 .5 .5 .1 .1")
    (tmp_path / "images" / "a.png").unlink()
    picture(tmp_path / "images" / "b.png")
    result = detect_and_read(tmp_path / "data.yaml")
    assert totals(result) == (1, 1, 0)
    write(tmp_path / "data.yaml", "names: [crop, weed]")
    assert said(detect_and_read(tmp_path), "labels/a.txt: set aside: its image is not there")
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(FormatError, match="no image of a known size"):
        yolo.read(tmp_path)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: crop\n", "should list the name of every class"),
        ("names: {0: crop, 2: weed}\n", "without a gap"),
        ("names: [crop, yes]\n", "as text"),
        ("- crop\n", "it holds a list"),
        ("names: [a\n", "not readable YAML"),
        ("names: " + "[" * 5000 + "\n", "not readable YAML"),
        ("a: &x [1]\nnames: [*x, *x]\n", "not readable YAML.*alias"),
        ("names: !!python/object/apply:os.system ['touch ran']\n", "not readable YAML"),
        ("names: [" + "9" * 10_000 + "]\n", "not readable YAML"),
        ("", "is empty"),
        ("#" * (1 << 19), "more than 262,144 bytes"),
    ],
)
def test_malformed_yaml_is_one_clear_sentence(tmp_path: Path, yaml: str, message: str) -> None:
    data_set(tmp_path, "", yaml)
    with pytest.raises(FormatError, match=f"(?s)data.yaml.*({message})"):
        detect_and_read(tmp_path)
    assert not Path("ran").exists()


def test_boxes_beside_an_outline_are_written_as_ultralytics_reads_them(tmp_path: Path) -> None:
    """Its loader takes all lines of a file for outlines as soon as one has more than six numbers."""
    formats.write([small_task()], tmp_path / "y", "yolo", parts={"a/0.png": "train", "a/2.png": "val"})
    lines = (tmp_path / "y" / "labels" / "a" / "0.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [9, 7]
    assert len((tmp_path / "y" / "labels" / "a" / "2.txt").read_text().split()) == 5
    assert (tmp_path / "y" / "val.txt").read_text() == "./images/a/2.png\n"
    assert "val: val.txt" in (tmp_path / "y" / "data.yaml").read_text()
    told = formats.write([small_task()], tmp_path / "b", "yolo", parts={"a/0.png": "train"}, outlines=False).problems
    assert len((tmp_path / "b" / "labels" / "a" / "0.txt").read_text().split()) == 10
    assert any("2 frames are in no part" in problem.what for problem in told)
    with pytest.raises(FormatError, match="YOLO knows the parts train, val, test; got 'holdout'"):
        formats.write([small_task()], tmp_path / "c", "yolo", parts={"a/0.png": "holdout"})


VOC = """<annotation><folder>f</folder><filename>a.png</filename><size><width>200</width><height>100</height></size>
<object><name>weed</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>10</xmin><ymin>20.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>{}</annotation>"""


def test_voc_as_labelimg_writes_it(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", VOC.format(""))
    write(tmp_path / "b.xml", VOC.format("").replace("a.png", "b.png").replace("weed", "crop"))
    result = detect_and_read(tmp_path)
    assert result.problems == []
    assert totals(result) == (1, 2, 2)
    (first, _) = result.tasks[0].annotations
    assert (first["object_class"], first["points"]) == ("weed", [10.0, 20.5, 30.0, 40.0])
    assert first["attributes"] == {"truncated": "1", "pose": "Left"}
    assert [label["name"] for label in result.tasks[0].task["labels"]] == ["crop", "weed"]
    assert totals(detect_and_read(tmp_path / "a.xml")) == (1, 1, 1)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<xmin>10</xmin>", "", "needs a <name> and a <bndbox>"),
        ("<xmin>10</xmin>", "<xmin>nan</xmin>", "four finite numbers"),
        ("<xmin>10</xmin>", f"<xmin>{'1' * 10_000}</xmin>", "four finite numbers"),
        ("<name>weed</name>", "<name/>", "needs a <name>"),
        ("<filename>a.png</filename>", "", "names no image"),
        ("<width>200</width>", "<width>0</width>", "'a.png' has no <size>"),
        ("</annotation>", "", "a.xml: set aside: .*not valid XML"),
        ("<annotation>", "<!DOCTYPE a><annotation>", "refused, because it declares a document type"),
    ],
)
def test_bad_voc_is_set_aside_with_its_place(tmp_path: Path, old: str, new: str, reason: str) -> None:
    import re

    (tmp_path / "Annotations").mkdir()
    write(tmp_path / "Annotations" / "a.xml", VOC.format("").replace(old, new))
    write(tmp_path / "Annotations" / "b.xml", VOC.format("").replace("a.png", "b.png"))
    result = detect_and_read(tmp_path)
    assert totals(result)[2] == 1
    assert any(re.search(reason, str(problem)) for problem in result.problems), result.problems


def test_voc_parts_and_missing_sizes(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages" / "a.png", (50, 60))
    text = VOC.format("").replace("<size><width>200</width><height>100</height></size>", "")
    (tmp_path / "Annotations").mkdir()
    write(tmp_path / "Annotations" / "a.xml", text.replace("</bndbox>", "</bndbox><part><name>leaf</name></part>"))
    result = detect_and_read(tmp_path)
    assert result.tasks[0].meta["frames"] == [{"name": "a.png", "width": 50, "height": 60}]
    assert said(result, "its <part> is left out")
    with pytest.raises(FormatError, match="holds no VOC file"):
        voc.read(tmp_path / "JPEGImages")


def test_a_cvat_file_beside_voc_files_is_told_apart(tmp_path: Path) -> None:
    formats.write([small_task()], tmp_path / "task.xml", "cvat_xml")
    write(tmp_path / "a.xml", VOC.format(""))
    result = detect_and_read(tmp_path)
    assert [task.name for task in result.tasks] == ["field 1"]
    assert said(result, "not read: VOC")


def flat(**more: Any) -> pd.DataFrame:
    rows = {"img_path": ["v/a.png", "v/a.png", "w/b.png"], "object_class": ["weed", "crop", "weed"]}
    rows |= {"x1": [1.0, 2, 3], "y1": [1.0, 2, 3], "x2": [30.0, 40, 50], "y2": [30.0, 40, 50]}
    return pd.DataFrame({**rows, "img_width": 200, "img_height": 100, **more})


def test_parquet_with_a_row_an_annotation(tmp_path: Path) -> None:
    flat().to_parquet(tmp_path / "t.parquet")
    result = detect_and_read(tmp_path)
    assert result.problems == []
    assert [(task.name, len(task.annotations)) for task in result.tasks] == [("v", 2), ("w", 1)]
    assert shapes(result)[1] == ("crop", "rectangle", [2.0, 2.0, 40.0, 40.0])
    assert [label["name"] for label in result.tasks[0].task["labels"]] == ["crop", "weed"]


def test_upstreams_table_as_parquet_is_read_as_the_pickle_is(tmp_path: Path) -> None:
    formats.write([small_task()], tmp_path / "t.pkl", "pickle")
    pd.read_pickle(tmp_path / "t.pkl").to_parquet(tmp_path / "t.parquet")
    by_pickle, by_parquet = detect_and_read(tmp_path / "t.pkl"), detect_and_read(tmp_path / "t.parquet")
    assert [one["points"] for one in by_parquet.tasks[0].annotations] == [
        one["points"] for one in by_pickle.tasks[0].annotations
    ]
    assert [task.name for task in by_parquet.tasks] == ["field 1"]
    assert pd.read_parquet(tmp_path / "t.parquet").columns.tolist() == list(pd.read_pickle(tmp_path / "t.pkl").columns)


@pytest.mark.parametrize(
    ("change", "reason", "left"),
    [
        ({"img_width": [200, 0, 200]}, "row 1: set aside: 'v/a.png' has no img_width", 2),
        ({"img_path": ["v/a.png", "", "w/b.png"]}, "row 1: set aside: it has no img_path", 2),
        ({"x1": [1.0, float("nan"), 3]}, "set aside: its points are not", 2),
        ({"object_class": ["weed", "", "weed"]}, "it has no object_class", 2),
    ],
)
def test_bad_rows_of_parquet_are_set_aside(tmp_path: Path, change: dict[str, Any], reason: str, left: int) -> None:
    flat(**change).to_parquet(tmp_path / "t.parquet")
    result = detect_and_read(tmp_path)
    assert totals(result)[2] == left
    assert said(result, reason)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1", "not a whole Parquet file|not readable Parquet"),
        (b"PAR1" + b"\0" * 50 + b"PAR1", "not readable Parquet"),
        (b"PK\x03\x04", "should begin and end with PAR1"),
    ],
)
def test_damaged_parquet_is_one_clear_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=f"t.parquet.*({message})"):
        parquet.read(write(tmp_path / "t.parquet", content))


def test_parquet_without_its_columns_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(FormatError, match=r"lacks img_path, object_class among its columns.*x1, y1, x2, y2"):
        detect_and_read(tmp_path)
    flat().to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr("obdb_lib.formats._parquet_rows.MAX_ROWS", 2)
    with pytest.raises(FormatError, match="claims 3 rows"):
        detect_and_read(tmp_path)
    monkeypatch.setattr("obdb_lib.formats._parquet_rows.MAX_ROWS", 5)
    monkeypatch.setattr("obdb_lib.formats._parquet_rows.MAX_BYTES", 10)
    with pytest.raises(FormatError, match="holds more than 10 bytes"):
        detect_and_read(tmp_path)


def test_yolo_with_a_folder_a_part(tmp_path: Path) -> None:
    """As Roboflow lays it out: the parts beside each other, named from a folder that is not there."""
    for part, key in (("train", 0), ("valid", 1)):
        picture(tmp_path / part / "images" / f"{part}.png")
        (tmp_path / part / "labels").mkdir()
        write(tmp_path / part / "labels" / f"{part}.txt", f"{key} .5 .5 .1 .1")
    write(
        tmp_path / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [crop, weed]",
    )
    result = detect_and_read(tmp_path)
    assert {(task.name, task.annotations[0]["object_class"]) for task in result.tasks} == {
        ("train/images", "crop"),
        ("valid/images", "weed"),
    }
    assert said(result, "test: '../test/images' is not in the data set's folder")


@pytest.mark.parametrize(
    ("format_names", "read", "left"),
    [
        (("mongoexport", "parquet", "yolo"), "mongoexport", ["Parquet", "YOLO"]),
        (("parquet", "coco", "yolo", "voc"), "parquet", ["COCO", "YOLO", "VOC"]),
        (("coco", "yolo", "voc", "pickle"), "coco", ["YOLO", "VOC", "pickle"]),
        (("yolo", "voc", "pickle"), "yolo", ["VOC", "pickle"]),
        (("voc", "pickle"), "voc", ["pickle"]),
    ],
)
def test_of_several_formats_one_is_read_and_the_others_are_told(
    tmp_path: Path, format_names: tuple[str, ...], read: str, left: list[str]
) -> None:
    files = {"coco": "annotations.json", "parquet": "t.parquet", "pickle": "t.pkl"}
    mixed = tmp_path / "mixed"
    for name in format_names:
        path = formats.write([small_task(name)], tmp_path / name / files.get(name, "all"), name).path
        shutil.copytree(path if path.is_dir() else path.parent, mixed, dirs_exist_ok=True)
    result = detect_and_read(mixed)
    assert [task.name for task in result.tasks] == [read]
    told = said(result, "not read: ")
    assert [one.split("not read: ")[1].split(",")[0] for one in told] == left
