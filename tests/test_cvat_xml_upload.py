"""A folder of CVAT XML files to the stand-in: what arrives, what is refused, and what an accident may not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.names import upload_name
from obdb_lib.cvat.push import Share
from obdb_lib.cvat.record_plan import plan_records
from obdb_lib.cvat.record_upload import Uploaded, upload_records
from obdb_lib.cvat.xml_upload import plan_xml_upload, read_xml_folder
from obdb_lib.errors import CvatError, FormatError
from obdb_lib.frames import FrameStore
from obdb_lib.records import TaskRecord
from tests.cvat_server import KINDS, Fault, Scene, StandIn, every_request
from tests.cvat_server.faults import LATE
from tests.cvat_server.helpers import MemoryJournal, log_in, make_images, stored_shapes
from tests.cvat_server.world import World

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>1</id><name>{name}</name><size>2</size><labels>
<label><name>cleavers</name><color>#33ddff</color><attributes>
<attribute><name>stage</name><mutable>False</mutable><input_type>select</input_type><default_value>bud</default_value>
<values>bud
leaf</values></attribute></attributes></label>
<label><name>dandelion</name><attributes></attributes></label></labels></task></meta>
<image id="0" name="{folder}/img10.png" width="64" height="48">
<box label="cleavers" source="manual" occluded="1" xtl="1.25" ytl="2.00" xbr="20.00" ybr="30.00" z_order="0">
<attribute name="stage">leaf</attribute></box>
<polygon label="dandelion" source="auto" occluded="0" points="3.00,3.00;13.00,3.00;8.00,12.00" z_order="0"></polygon>
<box label="dandelion" source="manual" occluded="0" xtl="30.00" ytl="5.00" xbr="50.00" ybr="40.00" z_order="0"></box>
<box label="dandelion" source="manual" occluded="0" xtl="30.00" ytl="5.00" xbr="50.00" ybr="40.00" z_order="0"></box>
</image>
<image id="1" name="{folder}/img2.png" width="64" height="48"></image>
</annotations>"""
NAMES = {"FieldData 20200520145736 1L GH02": "day/1L/GH02", "FieldData 20200520145736 2R GH03": "day/2R/GH03"}


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


def write_folder(root: Path, names: dict[str, str] = NAMES) -> tuple[Path, FrameStore]:
    folder = root / "xml"
    folder.mkdir()
    for number, (name, place) in enumerate(names.items()):
        (folder / f"task{number}.xml").write_text(XML.format(name=name, folder=place))
    images = [f"{place}/{image}.png" for place in names.values() for image in ("img10", "img2")]
    return folder, make_images(root / "images", images)


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, FrameStore]:
    return write_folder(tmp_path)


def upload(given: tuple[Path, FrameStore], client: CvatClient, journal: MemoryJournal | None = None) -> Uploaded:
    return upload_records(plan_xml_upload(*given), client, journal=journal or MemoryJournal(), confirm=True)


def test_tasks_frames_labels_and_shapes_arrive(
    server: StandIn, client: CvatClient, given: tuple[Path, FrameStore]
) -> None:
    plan = plan_xml_upload(*given)
    assert plan.summary() == "8 shapes on 4 frames as 2 tasks"
    done = upload(given, client)
    assert done.summary() == "8 shapes sent to 2 tasks"
    assert {task.name for task in server.world.tasks.values()} == set(NAMES)
    first = [shape for shape in stored_shapes(server) if shape["task"].endswith("GH02")]
    drawn = sorted((one["image"], one["type"], one["label"], one["occluded"], one["source"]) for one in first)
    assert drawn == [
        ("day__1L__GH02__img10.png", "polygon", "dandelion", False, "auto"),
        ("day__1L__GH02__img10.png", "rectangle", "cleavers", True, "manual"),
        ("day__1L__GH02__img10.png", "rectangle", "dandelion", False, "manual"),
        ("day__1L__GH02__img10.png", "rectangle", "dandelion", False, "manual"),
    ]
    box = next(one for one in first if one["label"] == "cleavers")
    assert box["points"] == [1.25, 2.0, 20.0, 30.0]
    (attribute,) = box["attributes"]
    label = next(one for one in server.world.labels.values() if one.id == box["label_id"])
    assert (label.color, label.attributes[0]["values"]) == ("#33ddff", ["bud", "leaf"])
    assert (attribute["spec_id"], attribute["value"]) == (label.attributes[0]["id"], "leaf")


def test_again_changes_nothing__and_what_a_person_changed_stays(
    server: StandIn, client: CvatClient, given: tuple[Path, FrameStore]
) -> None:
    journal = MemoryJournal()
    upload(given, client, journal)
    job = next(iter(server.world.jobs.values()))
    del job.shapes[0]
    before = len(server.writes)
    again = upload(given, client, journal)
    assert again.summary() == "0 shapes sent to 2 tasks, 8 were there already"
    assert len(server.writes) == before
    assert len(stored_shapes(server)) == 7


def test_task_of_somebody_else_is_left_alone(
    server: StandIn, client: CvatClient, given: tuple[Path, FrameStore]
) -> None:
    client.create_task(next(iter(NAMES)), labels=["cleavers"])
    done = upload(given, client)
    assert [task.skipped for task in done.tasks] == [True, False]
    assert "is on CVAT already (id 1) and was left alone" in done.summary()
    assert {shape["task"] for shape in stored_shapes(server)} == {list(NAMES)[1]}


def test_without_confirm_nothing_is_sent(server: StandIn, client: CvatClient, given: tuple[Path, FrameStore]) -> None:
    with pytest.raises(CvatError, match=r"dry run: nothing was sent\. 8 shapes on 4 frames as 2 tasks"):
        upload_records(plan_xml_upload(*given), client, journal=MemoryJournal())
    assert server.writes == []


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda folder: [file.unlink() for file in folder.iterdir()], FormatError, "holds no XML file"),
        (lambda folder: (folder / "task0.xml").write_text("<annotations"), FormatError, "task0.xml"),
        (lambda folder: (folder.parent / "images/day/1L/GH02/img2.png").unlink(), CvatError, "1 images cannot be read"),
        (
            lambda folder: make_images(folder.parent / "images", ["day/1L/GH02/img2.png"], (10, 10)),
            CvatError,
            "is 10 x 10, annotated as 64 x 48",
        ),
        (lambda folder: folder.rename(folder.parent / "elsewhere"), FormatError, "cannot be listed"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    given: tuple[Path, FrameStore], change: Any, error: type[Exception], told: str
) -> None:
    change(given[0])
    with pytest.raises(error, match=told):
        plan_xml_upload(*given)


def test_entity_bomb_is_refused(given: tuple[Path, FrameStore]) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "&#x41;">]><annotations>&b;</annotations>'
    (given[0] / "task0.xml").write_text(bomb)
    with pytest.raises(FormatError):
        plan_xml_upload(*given)


@pytest.mark.parametrize("name", ["../../secret.png", "/{root}/secret.png", "a/../../secret.png", "no&#x9;such.png"])
def test_image_names_lead_to_no_file_outside_the_folders(name: str, tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path)
    make_images(tmp_path, ["secret.png"])
    (folder / "task1.xml").unlink()
    text = (folder / "task0.xml").read_text()
    (folder / "task0.xml").write_text(text.replace("day/1L/GH02/img2.png", name.format(root=tmp_path)))
    with pytest.raises(CvatError, match="1 images cannot be read"):
        plan_xml_upload(folder, FrameStore([tmp_path / "images" / "day"]))


def test_an_upload_name_is_one_file_name() -> None:
    for img_path in ("//tmp/x.png", "/tmp/x.png", "../tmp/./x.png"):
        assert upload_name(img_path) == "tmp__x.png"


def test_failed_upload_leaves_nothing_behind(
    server: StandIn, client: CvatClient, given: tuple[Path, FrameStore]
) -> None:
    def spoil(world: World) -> None:
        data = next(iter(world.tasks.values())).data
        assert data is not None
        data.uploads["day__1L__GH02__img10.png"] = b"no picture"

    server.faults.append(Fault("GET", "/api/requests/", "hook", hook=spoil))
    with pytest.raises(CvatError, match="were not taken, so the task is not made"):
        upload(given, client)
    assert server.world.tasks == {}


def test_copies_of_a_late_first_try_are_taken_away(
    server: StandIn, client: CvatClient, given: tuple[Path, FrameStore]
) -> None:
    def twice(world: World) -> None:
        for job in world.jobs.values():
            job.shapes += [{**shape, "id": world.next_id("shapes")} for shape in job.shapes]

    server.faults.append(Fault("GET", "tasks/1/annotations", "hook", hook=twice, skip=1))
    upload(given, client)
    assert len(stored_shapes(server)) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_may_fail(kind: str, tmp_path: Path) -> None:
    given = write_folder(tmp_path, dict(list(NAMES.items())[:1]))

    def make(server: StandIn) -> Scene:
        journal = MemoryJournal()
        return Scene(lambda: upload(given, log_in(server), journal))

    runs = every_request(make, [kind])
    assert runs.count == (len(runs.requests) if kind != "shapes_dropped" else 1)


def test_images_of_a_share_are_named_and_not_uploaded(
    server: StandIn, client: CvatClient, given: tuple[Path, FrameStore]
) -> None:
    root = given[1].roots[0]
    files = list(root.rglob("*.png"))
    server.world.share |= {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    plan = plan_xml_upload(*given)
    upload_records(plan, client, journal=MemoryJournal(), confirm=True, share=Share({root: ""}))
    assert {shape["image"] for shape in stored_shapes(server)} == {f"{place}/img10.png" for place in NAMES.values()}
    assert not any("Upload" in path for _, path in server.log)
    assert sum(path.endswith("/data/") for _, path in server.writes) == 2


@pytest.mark.parametrize("delay", [0, 3, 6, 9])
def test_what_the_server_does_late_is_cleared_away(delay: int, tmp_path: Path) -> None:
    given = write_folder(tmp_path, dict(list(NAMES.items())[:1]))

    def make(server: StandIn) -> Scene:
        journal = MemoryJournal()
        return Scene(lambda: upload(given, log_in(server), journal))

    runs = every_request(make, [LATE], skip=lambda method, path: method == "GET", delay=delay)
    assert runs.count >= 5


def test_records_with_attributes_of_cvat(client: CvatClient, server: StandIn, given: tuple[Path, FrameStore]) -> None:
    """A task that was pulled has its attributes by the ids of the other server; they go by name."""
    (record, *_) = read_xml_folder(given[0]).tasks
    record.task["labels"][0]["attributes"][0]["id"] = 71
    shapes = [
        {**one, "attributes": [{"spec_id": 71, "value": "bud"}]} if one["object_class"] == "cleavers" else one
        for one in record.annotations
    ]
    plan = plan_records([TaskRecord(record.task, record.meta, shapes)], given[1])
    upload_records(plan, client, journal=MemoryJournal(), confirm=True)
    box = next(one for one in stored_shapes(server) if one["label"] == "cleavers")
    assert [one["value"] for one in box["attributes"]] == ["bud"]
