"""CVAT XML: task, project and job exports, every kind of shape, and documents that must be refused."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from obdb_lib.errors import FormatError
from obdb_lib.formats import cvat_xml
from obdb_lib.records import TaskRecord
from tests.formats_helpers import comparable, said, small_task, task_lists, totals, write

LABELS = """<labels>
  <label><name>Fat hen</name><color>#34d1b7</color><type>any</type><attributes>
    <attribute><name>age</name><mutable>False</mutable><input_type>select</input_type>
      <default_value>young</default_value><values>young
old</values></attribute></attributes></label>
  <label><name>Dandelion</name><color>#ff6037</color><attributes></attributes></label>
</labels>"""
HEAD = f"""<meta><task><id>5</id><name>field 1</name><size>2</size><mode>annotation</mode>
<created>2026-11-22 07:38:37.123456+00:00</created><updated>2026-11-22 09:38:37+02:00</updated>{LABELS}</task>
<dumped>2026-11-22 07:40:00+00:00</dumped></meta>"""


def document(images: str, meta: str = HEAD) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{images}</annotations>'


def image(content: str = "", *, key: int = 0, name: str = "a.png", more: str = "") -> str:
    return f'<image id="{key}" name="{name}" width="640" height="480" {more}>{content}</image>'


BOX = (
    '<box label="Fat hen" source="manual" occluded="0" xtl="1.5" ytl="2.25" xbr="30.0" ybr="40.0" z_order="0">{}</box>'
)


def test_task_export(tmp_path: Path) -> None:
    attribute = '<attribute name="age">old</attribute>'
    polygon = '<polygon label="Dandelion" source="auto" occluded="1" points="1.00,2.00;30.00,2.00;30.00,40.50"/>'
    content = document(image(BOX.format(attribute) + polygon) + image(key=1, name="b.png"))
    result = cvat_xml.read(write(tmp_path / "x.xml", content))
    (task,) = result.tasks
    assert result.problems == []
    assert task.name == "field 1"
    assert task.task["created_date"] == "2026-11-22T07:38:37.123456Z"
    assert task.task["updated_date"] == "2026-11-22T07:38:37.000000Z"
    assert [(label["id"], label["name"], label["color"]) for label in task.task["labels"]] == [
        (1, "Fat hen", "#34d1b7"),
        (2, "Dandelion", "#ff6037"),
    ]
    assert task.task["labels"][0]["attributes"][0]["values"] == "young\nold"
    box, outline = task.annotations
    assert (box["points"], box["shape_types"], box["occluded"], box["attributes"]) == (
        [1.5, 2.25, 30.0, 40.0],
        "rectangle",
        False,
        {"age": "old"},
    )
    assert (outline["points"], outline["shape_types"], outline["occluded"], outline["source"]) == (
        [1.0, 2.0, 30.0, 2.0, 30.0, 40.5],
        "polygon",
        True,
        "auto",
    )
    assert [frame["name"] for frame in task.meta["frames"]] == ["a.png", "b.png"], "an empty image is a negative"


def test_frames_are_ordered_by_id_not_by_place_in_the_file(tmp_path: Path) -> None:
    content = document(image(key=10, name="late.png") + image(BOX, key=2, name="early.png"))
    (task,) = cvat_xml.read(write(tmp_path / "x.xml", content)).tasks
    assert [frame["name"] for frame in task.meta["frames"]] == ["early.png", "late.png"]
    assert task.annotations[0]["frame"] == 0


def test_project_export_gives_one_task_each(tmp_path: Path) -> None:
    heads = "".join(
        f"<task><id>{n}</id><name>field {n}</name><size>1</size><created>2024-01-0{n} 00:00:00+00:00</created></task>"
        for n in (1, 2)
    )
    meta = f"<meta><project><id>3</id><name>P</name>{LABELS}<tasks>{heads}</tasks></project></meta>"
    images = (
        image(BOX, more='task_id="1"') + image(more='task_id="2"') + image(key=5, name="lost.png", more='task_id="9"')
    )
    result = cvat_xml.read(write(tmp_path / "p.xml", document(images, meta)))
    assert [(task.name, len(task.annotations)) for task in result.tasks] == [("field 1", 1), ("field 2", 0), ("p_9", 0)]
    assert all([label["name"] for label in task.task["labels"]] == ["Fat hen", "Dandelion"] for task in result.tasks)
    assert result.tasks[1].task["created_date"] == "2024-01-02T00:00:00.000000Z"
    assert said(result, "lists no task '9'")


def test_job_export_is_called_after_the_file(tmp_path: Path) -> None:
    meta = f"<meta><job><id>4</id><size>1</size>{LABELS}</job></meta>"
    result = cvat_xml.read(write(tmp_path / "job_4.xml", document(image(BOX), meta)))
    assert result.tasks[0].name == "job_4"
    assert said(result, "names no task")


@pytest.mark.parametrize(
    "shape",
    [
        '<polyline label="Fat hen" points="1,2;3,4;5,6"/>',
        '<points label="Fat hen" points="1,2"/>',
        '<mask label="Fat hen" rle="1" left="1" top="1" width="3" height="3"/>',
        '<skeleton label="Fat hen"><points label="1" points="1,2"/></skeleton>',
        '<ellipse label="Fat hen" cx="1" cy="1" rx="3" ry="3"/>',
        '<tag source="manual"/>',
        '<polygon label="Fat hen" points="1,2;3,4"/>',
        '<polygon label="Fat hen" points="1,2;3,4;5"/>',
        '<polygon label="Fat hen"/>',
        '<box label="Fat hen" xtl="1" ytl="2" xbr="nan" ybr="4"/>',
        '<box label="Fat hen" xtl="1" ytl="2" xbr="3"/>',
    ],
)
def test_other_shapes_are_set_aside_with_their_place(tmp_path: Path, shape: str) -> None:
    result = cvat_xml.read(write(tmp_path / "x.xml", document(image(BOX + shape) + image(key=1, name="b.png"))))
    assert totals(result) == (1, 2, 1)
    (problem,) = said(result, "set aside")
    assert "image 'a.png', shape 1" in problem


def test_tags_stay_with_their_frame_both_ways(tmp_path: Path) -> None:
    tag = '<tag label="Fat hen" source="auto"><attribute name="age">old</attribute></tag>'
    read = cvat_xml.read(write(tmp_path / "x.xml", document(image(BOX + tag) + image(key=1, name="b.png"))))
    assert read.problems == []
    expected = [{"name": "Fat hen", "attributes": {"age": "old"}, "source": "auto"}]
    assert [frame.get("tags") for frame in read.tasks[0].meta["frames"]] == [expected, None]
    assert cvat_xml.write(read.tasks, tmp_path / "again.xml") == []
    assert comparable(cvat_xml.read(tmp_path / "again.xml").tasks) == comparable(read.tasks)


def test_attributes_of_the_wire_are_written_by_their_names(tmp_path: Path) -> None:
    """Over the wire CVAT gives ``{spec_id, value}``, and the label tells the attribute's name."""
    task = small_task()
    task.task["labels"][1]["attributes"] = [
        {"id": 7, "name": "age", "mutable": False, "input_type": "select", "values": ["young", "old"]}
    ]
    task.annotations[0]["attributes"] = [{"spec_id": 7, "value": "old"}]
    task.meta["frames"][1]["tags"] = [{"name": "Fat hen", "attributes": [{"spec_id": 7, "value": "young"}]}]
    task.annotations[0]["cvat_id"] = {"task": 1, "frame": 0, "shape": 3, "track": 4}
    told = [problem.what for problem in cvat_xml.write([task], tmp_path / "x.xml")]
    assert any("1 shapes of tracks are written one by one" in what for what in told)
    (again,) = cvat_xml.read(tmp_path / "x.xml").tasks
    assert again.annotations[0]["attributes"] == {"age": "old"}
    assert again.meta["frames"][1]["tags"] == [{"name": "Fat hen", "attributes": {"age": "young"}}]
    assert again.task["labels"][1]["attributes"][0]["values"] == "young\nold"


def test_a_turned_box_is_written_as_cvat_has_it(tmp_path: Path) -> None:
    turned = '<box label="Fat hen" xtl="10.00" ytl="20.00" xbr="30.00" ybr="60.00" rotation="33.50"/>'
    read = cvat_xml.read(write(tmp_path / "x.xml", document(image(turned) + image(key=1, name="b.png"))))
    assert read.tasks[0].annotations[0]["shape_types"] == "polygon"
    cvat_xml.write(read.tasks, tmp_path / "again.xml")
    assert 'xtl="10.00" ytl="20.00" xbr="30.00" ybr="60.00" rotation="33.50"' in (tmp_path / "again.xml").read_text()
    read.tasks[0].annotations[0]["points"][0] = 0.0  # cut at the border: no turned box any more
    told = [problem.what for problem in cvat_xml.write(read.tasks, tmp_path / "cut.xml")]
    assert any("1 outlines lose their rotation" in what for what in told)


def test_rotated_box_becomes_the_polygon_of_its_corners(tmp_path: Path) -> None:
    turned = '<box label="Fat hen" xtl="10" ytl="20" xbr="30" ybr="60" rotation="90.0"/>'
    result = cvat_xml.read(write(tmp_path / "x.xml", document(image(turned) + image(key=1, name="b.png"))))
    (one,) = result.tasks[0].annotations
    assert one["shape_types"] == "polygon"
    assert one["points"] == pytest.approx([40, 30, 40, 50, 0, 50, 0, 30])
    assert one["rotation"] == 90.0
    assert said(result, "rotated by 90 degrees")


def test_tracks_are_reported_and_a_video_export_is_refused(tmp_path: Path) -> None:
    track = '<track id="0" label="Fat hen"><box frame="0"/></track>'
    result = cvat_xml.read(write(tmp_path / "x.xml", document(image(BOX) + image(key=1, name="b.png") + track)))
    assert totals(result) == (1, 2, 1)
    assert said(result, "track 0: set aside")
    with pytest.raises(FormatError, match=r"v\.xml holds 1 tracks.*CVAT for images 1\.1"):
        cvat_xml.read(write(tmp_path / "v.xml", document(track)))


def test_missing_images_and_sizes_are_reported(tmp_path: Path) -> None:
    meta = HEAD.replace("<size>2</size>", "<size>9</size>")
    content = document(image(BOX) + '<image id="1" name="b.png"/><image id="2" width="1" height="1"/>', meta)
    result = cvat_xml.read(write(tmp_path / "x.xml", content), image_root=tmp_path)
    assert totals(result) == (1, 1, 1)
    assert said(result, "holds 3 of the task's 9 images")
    assert said(result, "'b.png' has no width and height")
    assert said(result, "it has no name")


BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol">{}]>
<annotations>&z;</annotations>""".format(
    "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">'
        for old, new in zip("abcdefghijklmnopqrstuvwxy", "bcdefghijklmnopqrstuvwxyz", strict=True)
    )
)


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><annotations/>',
    ],
    ids=["billion laughs", "outside file", "outside type"],
)
def test_document_types_are_refused_at_once(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "evil.xml", content)
    started = time.monotonic()
    with pytest.raises(FormatError, match=r"evil\.xml, line [12]: refused.*document type"):
        cvat_xml.read(path)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotations>\n<image", "line 2, column 0: not valid XML"),
        ("<annotations></b>", "not valid XML"),
        ("no xml", "line 1, column 0"),
        ("<annotation><filename>a</filename></annotation>", "wanted the root <annotations>, got <annotation>"),
        ('<?xml version="1.0" encoding="klingon"?><annotations/>', "not valid XML|not readable XML"),
        ('<?xml version="1.0" encoding="utf-7"?><annotations/>', "not valid XML|not readable XML"),
        ("", "is empty"),
    ],
)
def test_malformed_file_is_one_clear_sentence(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(FormatError, match=f"bad.xml.*({message})"):
        cvat_xml.read(write(tmp_path / "bad.xml", content))


def test_written_file_is_what_cvat_writes(tmp_path: Path) -> None:
    cvat_xml.write([small_task()], tmp_path / "out.xml")
    text = (tmp_path / "out.xml").read_text()
    assert '<box label="Fat hen" source="manual" occluded="0" xtl="10.50" ytl="20.25" xbr="40.00" ybr="60.75"' in text
    assert 'points="100.00,100.00;150.50,100.00;120.00,160.25"' in text
    (task,) = cvat_xml.read(tmp_path / "out.xml").tasks
    assert comparable([task]) == comparable([small_task()])
    assert task.task["created_date"] == small_task().task["created_date"]


def test_attributes_survive(tmp_path: Path) -> None:
    task = small_task()
    task.annotations[0]["attributes"] = {"age": "old & <wise>"}
    cvat_xml.write([task], tmp_path / "out.xml")
    assert cvat_xml.read(tmp_path / "out.xml").tasks[0].annotations[0]["attributes"] == {"age": "old & <wise>"}


def test_a_name_that_xml_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot be written as XML.*Rename"):
        cvat_xml.write([small_task("bell\x07")], tmp_path / "out.xml")
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(task_lists())
def test_round_trip_to_two_decimals(tasks: list[TaskRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.xml"
        cvat_xml.write(tasks, path)
        result = cvat_xml.read(path)
    assert comparable(result.tasks, 2) == comparable(tasks, 2)
    assert result.problems == []
