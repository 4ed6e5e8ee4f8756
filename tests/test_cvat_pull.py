"""Pulling from the stand-in with the real cvat-sdk: what comes back, as upstream documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.names import hashed_name, paths_by_name, upload_name
from obdb_lib.cvat.pull import pull_tasks
from obdb_lib.cvat.push import send
from obdb_lib.errors import CvatError
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.answers import Answer
from tests.cvat_server.helpers import MemoryJournal, log_in, make_images, two_frame_plan


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


def make_cvat_task(client: CvatClient, root: Path, name: str, *images: str, project_id: int | None = None) -> int:
    store = make_images(root, images)
    number = int(client.create_task(name, labels=["cleavers", "dandelion"], project_id=project_id)["id"])
    client.wait(client.upload(number, [store.path(image) for image in images]))
    return number


def draw(client: CvatClient, task_id: int, *shapes: dict[str, Any]) -> list[dict[str, Any]]:
    label = client.labels(task_id=task_id)[0]["id"]
    return client.add_shapes(
        task_id, [{"type": "rectangle", "label_id": label, "frame": 0, **shape} for shape in shapes]
    )


def complete(client: CvatClient, task_id: int) -> None:
    for job in client.list_all("jobs", task_id=task_id):
        client.request("PATCH", f"jobs/{job['id']}", body={"stage": "acceptance", "state": "completed"})


def test_round_trip(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    plan = two_frame_plan(tmp_path / "images")
    sent = send(plan, client, journal=MemoryJournal(), confirm=True)
    for task in sent.tasks:
        complete(client, task.task_id)
    known = [frame.img_path for task in plan.tasks for frame in task.frames]
    result = pull_tasks(client, known_paths=known)
    assert not result.problems
    assert [task.name for task in result.tasks] == [task.name for task in plan.tasks]
    for planned, task in zip(plan.tasks, result.tasks, strict=True):
        got = sorted((a["img_path"], a["object_class"], tuple(a["points"]), a["score"]) for a in task.annotations)
        assert got == sorted((s.img_path, s.object_class, s.points, s.score) for s in planned.shapes)
        assert {a["source"] for a in task.annotations} == {"auto"}
        for annotation in task.annotations:
            assert task.meta["frames"][annotation["frame"]]["name"] == annotation["img_path"]
            assert (annotation["img_width"], annotation["img_height"]) == (64, 48)


def test_documents_are_as_upstream_writes_them(client: CvatClient, tmp_path: Path) -> None:
    number = make_cvat_task(client, tmp_path, "Field A", "b.png", "a.png")
    [shape] = draw(client, number, {"frame": 1, "points": [1, 2, 10, 20], "occluded": True, "source": "semi-auto"})
    [record] = pull_tasks(client, only_completed=False).tasks
    assert record.task["type"] == "task_data"
    assert [label["name"] for label in record.task["labels"]] == ["cleavers", "dandelion"]
    assert record.task["created_date"].endswith("Z")
    assert record.meta == {
        "task_name": "Field A",
        "frames": [{"name": f"Field A/{name}", "width": 64, "height": 48} for name in ("a.png", "b.png")],
    }
    assert record.annotations == [
        {
            "type": "annotation",
            "task_name": "Field A",
            "shape_types": "rectangle",
            "occluded": True,
            "points": [1.0, 2.0, 10.0, 20.0],
            "frame": 1,
            "label_id": record.task["labels"][0]["id"],
            "source": "semi-auto",
            "object_class": "cleavers",
            "img_path": "Field A/b.png",
            "img_height": 48,
            "img_width": 64,
            "score": 1.0,
            "attributes": [],
            "cvat_id": {"task": number, "frame": 1, "shape": shape["id"]},
        }
    ]


def test_only_completed_tasks_unless_told_otherwise(client: CvatClient, tmp_path: Path) -> None:
    done = make_cvat_task(client, tmp_path, "done", "a.png")
    make_cvat_task(client, tmp_path, "open", "a.png")
    client.create_task("empty", labels=["a"])
    complete(client, done)
    assert [task.name for task in pull_tasks(client).tasks] == ["done"]
    everything = pull_tasks(client, only_completed=False)
    assert [task.name for task in everything.tasks] == ["done", "open"]
    assert "task 'empty': has no images" in str(everything.problems[0])
    asked = pull_tasks(client, names=["open"])
    assert asked.tasks == []
    assert "not completed" in str(asked.problems[0])


def test_names(client: CvatClient, tmp_path: Path) -> None:
    make_cvat_task(client, tmp_path, "Field A", "a.png")
    make_cvat_task(client, tmp_path, "Field B", "a.png")
    assert [task.name for task in pull_tasks(client, names=["Field B"], only_completed=False).tasks] == ["Field B"]
    with pytest.raises(CvatError, match=r"'Feld A' \(did you mean 'Field A'\?\)"):
        pull_tasks(client, names=["Feld A"])


def test_two_tasks_of_one_name_are_explained(client: CvatClient, tmp_path: Path) -> None:
    for _ in range(2):
        make_cvat_task(client, tmp_path, "Field A", "a.png")
    with pytest.raises(CvatError, match=r"'Field A' \(ids 1, 2\).*Rename or delete"):
        pull_tasks(client, only_completed=False)


def test_shapes_of_all_kinds(client: CvatClient, tmp_path: Path) -> None:
    number = make_cvat_task(client, tmp_path, "T", "a.png", "b.png")
    label = client.labels(task_id=number)[1]["id"]
    draw(
        client,
        number,
        {"type": "polygon", "points": [1, 1, 20, 1, 20, 20]},
        {"points": [20, 20, 1, 1]},
        {"points": [10, 10, 30, 20], "rotation": 90},
        {"points": [5, 5, 5, 5]},
        {"type": "points", "points": [3, 3]},
        {"points": [1, 1, 9, 9], "outside": True},
    )
    key = {"type": "rectangle", "points": [1, 1, 9, 9], "outside": False, "occluded": True}
    track = {"label_id": label, "frame": 0, "source": "manual", "shapes": [{**key, "frame": 0}]}
    track["shapes"].append({**key, "frame": 1, "outside": True})
    client.request("PATCH", f"tasks/{number}/annotations", body={"tracks": [track]}, action="create")
    result = pull_tasks(client, only_completed=False)
    got = [
        (a["shape_types"], [round(v, 6) for v in a["points"]], a["object_class"]) for a in result.tasks[0].annotations
    ]
    assert got == [
        ("polygon", [1, 1, 20, 1, 20, 20], "cleavers"),
        ("rectangle", [1, 1, 20, 20], "cleavers"),
        ("polygon", [25, 5, 25, 25, 15, 25, 15, 5], "cleavers"),
        ("rectangle", [1, 1, 9, 9], "dandelion"),
    ]
    assert result.tasks[0].annotations[-1]["cvat_id"]["track"] == 1
    told = " ".join(str(problem) for problem in result.problems)
    for part in ("corners put in order", "has no area", "1 shapes of type points left out", "1 tracks"):
        assert part in told


def test_deleted_frames_are_left_out(client: CvatClient, tmp_path: Path) -> None:
    number = make_cvat_task(client, tmp_path, "T", "a.png", "b.png", "c.png")
    draw(client, number, {"frame": 1, "points": [1, 1, 9, 9]}, {"frame": 2, "points": [2, 2, 8, 8]})
    client.request("PATCH", f"tasks/{number}/data/meta", body={"deleted_frames": [1]})
    result = pull_tasks(client, only_completed=False, image_root=tmp_path / "down")
    [record] = result.tasks
    assert [frame["name"] for frame in record.meta["frames"]] == ["T/a.png", "T/c.png"]
    assert [(a["frame"], a["img_path"]) for a in record.annotations] == [(1, "T/c.png")]
    assert (tmp_path / "down/T/c.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    assert not (tmp_path / "down/T/b.png").exists()
    assert "1 shapes on deleted frames" in str(result.problems[0])


def test_labels_of_a_project(client: CvatClient, tmp_path: Path) -> None:
    labels = [{"name": "weed"}]
    project = client.request("POST", "projects", body={"name": "p", "labels": labels})["id"]
    number = make_cvat_task(client, tmp_path, "T", "a.png", project_id=project)
    draw(client, number, {"points": [1, 1, 9, 9]})
    [record] = pull_tasks(client, only_completed=False).tasks
    assert [a["object_class"] for a in record.annotations] == ["weed"]


def test_images_are_fetched_once_and_whole(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    make_cvat_task(client, tmp_path, "one", "a.png")
    make_cvat_task(client, tmp_path / "other", "two", "x.png", "a.png")
    down = tmp_path / "down"
    server.faults.append(Fault("GET", "type=frame", answer=Answer(200, b"\x89PNG half", "image/png")))
    first = pull_tasks(client, only_completed=False, image_root=down, workers=1)  # the broken answer is for task one
    assert "image one/a.png: is no readable image" in str(first.problems[0])
    assert sorted(path.name for path in down.rglob("*") if path.is_file()) == ["a.png", "x.png"]
    pull_tasks(client, only_completed=False, image_root=down)
    assert (down / "one/a.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert (down / "two/a.png").read_bytes() == (tmp_path / "other/a.png").read_bytes()
    fetched = len([path for _, path in server.log if "type=frame" in path])
    pull_tasks(client, only_completed=False, image_root=down)
    assert len([path for _, path in server.log if "type=frame" in path]) == fetched


def test_names_from_a_share_never_lead_out_of_the_folder(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    number = make_cvat_task(client, tmp_path, "T", "a.png", "b.png")
    data = server.world.tasks[number].data
    assert data is not None
    data.frames[0].name, data.frames[1].name = "../../evil.png", "/fielddata/1L/b.png"
    [record] = pull_tasks(client, only_completed=False, image_root=tmp_path / "down").tasks
    assert [frame["name"] for frame in record.meta["frames"]] == ["../../evil.png", "/fielddata/1L/b.png"]
    files = sorted(str(path.relative_to(tmp_path / "down")) for path in (tmp_path / "down").rglob("*.png"))
    assert files == ["evil.png", "fielddata/1L/b.png"]


@pytest.mark.parametrize(
    ("img_path", "name"),
    [
        ("a/b/c.png", "a__b__c.png"),
        ("/data/c.png", "data__c.png"),
        ("c.png", "c.png"),
        ("C:\\x\\c.png", "C___x__c.png"),
        ("../a/./c.png", "a__c.png"),
    ],
)
def test_upload_name(img_path: str, name: str) -> None:
    assert upload_name(img_path) == name
    assert paths_by_name([img_path])[name] == img_path


def test_upload_name__long_or_shared_names_are_told_apart() -> None:
    long = "/".join(["folder"] * 60) + "/ünïcode.png"
    assert upload_name(long) == hashed_name(long)
    assert len(upload_name(long).encode()) <= 200
    shared = ["a__b/c.png", "a/b__c.png"]
    names = paths_by_name(shared)
    assert "a__b__c.png" not in names
    assert sorted(names.values()) == sorted(shared)
