"""Pushing to the stand-in with the real cvat-sdk: what arrives, in which requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.push import PushPlan, plan_push, pushed_suggestions, send
from obdb_lib.errors import CvatError
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.helpers import (
    CLASSES,
    EXPECTED,
    MemoryJournal,
    accept,
    arrived,
    log_in,
    make_images,
    make_snapshot,
    stored_shapes,
    suggestion,
    two_frame_plan,
)
from tests.cvat_server.world import World

NOON = datetime(2026, 5, 20, 12, 0, 1, tzinfo=UTC)
SHAPES = r"annotations\?action=create"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


@pytest.fixture
def plan(tmp_path: Path) -> PushPlan:
    return two_frame_plan(tmp_path / "images", now=NOON)


def test_dry_run_sends_nothing(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = MemoryJournal()
    with pytest.raises(CvatError, match=r"dry run: nothing was sent\. 4 boxes on 3 frames"):
        send(plan, client, journal=journal)
    assert server.writes == []
    assert journal.documents == []


def test_nothing_accepted(client: CvatClient, tmp_path: Path) -> None:
    plan = two_frame_plan(tmp_path, already_pushed={"s1", "s2", "s3", "s4"})
    with pytest.raises(CvatError, match="nothing to push"):
        send(plan, client, journal=MemoryJournal(), confirm=True)


def test_push__boxes_land_on_their_images(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """img10 comes before img2 on CVAT, and two folders have an img2."""
    journal = MemoryJournal()
    result = send(plan, client, journal=journal, confirm=True)
    assert arrived(server) == EXPECTED
    assert {shape["source"] for shape in stored_shapes(server)} == {"auto"}
    assert sorted(shape["score"] for shape in stored_shapes(server)) == [0.75, 0.75, 0.75, 0.9]
    assert [task.sent for task in result.tasks] == [3, 1]
    assert [task.name for task in server.world.tasks.values()] == [task.name for task in plan.tasks]
    steps = [("create", "before"), ("create", "after"), ("upload", "before"), ("upload", "after")]
    steps += [("shapes", "before"), ("shapes", "after"), ("verified", "after")]
    assert journal.steps() == steps * 2
    assert pushed_suggestions(journal.documents) == {"s1", "s2", "s3", "s4"}
    assert "4 boxes sent to 2 tasks" in result.summary()
    assert result.table()["sent"].sum() == 4


def test_push__images_are_the_right_ones(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    send(plan, client, journal=MemoryJournal(), confirm=True)
    for planned, task in zip(plan.tasks, server.world.tasks.values(), strict=True):
        assert task.data is not None
        sent = {frame.name: frame.content for frame in task.data.frames}
        assert sent == {frame.upload_name: frame.file.read_bytes() for frame in planned.frames}


def test_push__same_base_name_in_one_task_and_behind_a_link(
    server: StandIn, client: CvatClient, tmp_path: Path, data_cache: Path
) -> None:
    root = tmp_path / "images"
    store = make_images(root, ["a/x.png", "b/x.png"])
    (root / "c").mkdir()
    (root / "c" / "x.png").symlink_to(root / "a" / "x.png")
    names = ["a/x.png", "b/x.png", "c/x.png"]
    found = [suggestion(name, name, [place, 1, 40, 40], task="T") for place, name in enumerate(names, 1)]
    decisions = {name: accept(name) for name in names}
    snapshot = make_snapshot([(name, "T") for name in names])
    plan = plan_push(found, decisions, snapshot, store, model="m", classes=CLASSES)
    before = set(data_cache.glob("push-*"))  # pushes that were killed leave theirs
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert {(shape["image"], shape["points"][0]) for shape in stored_shapes(server)} == {
        ("a__x.png", 1.0),
        ("b__x.png", 2.0),
        ("c__x.png", 3.0),
    }
    assert set(data_cache.glob("push-*")) == before


def test_push__repeated_after_success_changes_nothing(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    journal = MemoryJournal()
    send(two_frame_plan(tmp_path, now=NOON), client, journal=journal, confirm=True)
    writes = len(server.writes)
    result = send(two_frame_plan(tmp_path), client, journal=journal, confirm=True)  # planned at another hour
    assert len(server.writes) == writes
    assert sum(task.already_there for task in result.tasks) == 4


def test_push__what_a_person_changed_since_is_left_alone(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    journal = MemoryJournal()
    send(plan, client, journal=journal, confirm=True)
    job = next(iter(server.world.jobs.values()))
    del job.shapes[0]
    job.shapes[0]["points"] = [7, 7, 17, 17]
    send(plan, client, journal=journal, confirm=True)
    assert len(stored_shapes(server)) == 3


def test_push__boxes_go_job_by_job(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    """A server that cuts tasks into jobs of one frame each."""

    def cut(world: World) -> None:
        for task in world.tasks.values():
            task.segment_size = 1

    server.faults.append(Fault("GET", "/requests/", kind="hook", hook=cut, times=100))
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert arrived(server) == EXPECTED
    assert [len(job.shapes) for job in server.world.jobs.values()] == [2, 1, 1]
    sent = [path for method, path in server.log if method == "PATCH"]
    assert sent == [f"/api/jobs/{number}/annotations?action=create" for number in (1, 2, 3)]


def test_push__jobs_that_overlap_get_a_box_once(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    def overlap(world: World) -> None:
        first = world.jobs_of(1)[0]
        second = type(first)(world.next_id("job"), 1, 1, 1, first.created, first.updated)
        world.jobs[second.id] = second

    server.faults.append(Fault("GET", "/jobs", kind="hook", hook=overlap))
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert arrived(server) == EXPECTED


def test_push__frames_without_a_job_are_told(server: StandIn, client: CvatClient, plan: PushPlan) -> None:
    def shorten(world: World) -> None:
        world.jobs_of(1)[0].stop = 0

    server.faults.append(Fault("GET", "/jobs", kind="hook", hook=shorten))
    with pytest.raises(CvatError, match=r"has no job for frames 1; look at its jobs in CVAT"):
        send(plan, client, journal=MemoryJournal(), confirm=True)
    assert stored_shapes(server) == []


@pytest.mark.parametrize("number", [0, 20001])
def test_push__requests_of_no_or_of_too_many_boxes(client: CvatClient, plan: PushPlan, number: int) -> None:
    with pytest.raises(CvatError, match=f"shapes_per_request must be at least 1 and at most 20000; got {number}"):
        send(plan, client, journal=MemoryJournal(), confirm=True, shapes_per_request=number)


def test_push__shapes_of_many_points_go_in_smaller_parts(
    server: StandIn, client: CvatClient, plan: PushPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obdb_lib.cvat.push_shapes.NUMBERS_PER_REQUEST", 9)
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert sum("annotations" in path for _, path in server.writes) == 3, "two boxes of four numbers each at a time"
    assert arrived(server) == EXPECTED


HOSTILE = (
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "a\u202eb",
    "'; drop table --",
    "Ünkraut €",
    'a"b\nc',
    "&lt;b&gt;",
)


def test_push__hostile_label_task_and_file_names_are_text(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    names = [f"d/{name.replace('/', '_')}.png" for name in HOSTILE]
    found = [
        suggestion(f"s{place}", names[place], [1, 1, 9, 9], task=f"T {label}", object_class=label)
        for place, label in enumerate(HOSTILE)
    ]
    plan = plan_push(
        found,
        {one["_id"]: accept(one["_id"]) for one in found},
        make_snapshot([(one["img_path"], one["task_name"]) for one in found]),
        make_images(tmp_path, names),
        model="m",
        classes=HOSTILE,
    )
    send(plan, client, journal=MemoryJournal(), confirm=True)
    assert sorted(shape["label"] for shape in stored_shapes(server)) == sorted(HOSTILE)
    assert {shape["task"].split("_")[-1].removeprefix("T ") for shape in stored_shapes(server)} >= {"=HYPERLINK(1)"}
    shown = plan.table().to_html()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
