"""What a push would send: which boxes, under which names, and what is told of the others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cvat.push import PushPlan, plan_push, pushed_places
from obdb_lib.errors import CvatError
from tests.cvat_server.helpers import (
    CLASSES,
    accept,
    make_images,
    make_snapshot,
    suggestion,
    two_frame_plan,
)

NOON = datetime(2026, 5, 20, 12, 0, 1, tzinfo=UTC)


@pytest.fixture
def plan(tmp_path: Path) -> PushPlan:
    return two_frame_plan(tmp_path / "images", now=NOON)


def test_plan__only_accepted_boxes_and_their_frames(plan: PushPlan) -> None:
    assert [task.name for task in plan.tasks] == [
        "auto_annotation_resnet18_2026_05_20_12_00_01_Field A",
        "auto_annotation_resnet18_2026_05_20_12_00_01_Field B",
    ]
    assert plan.table()[["frames", "boxes", "cleavers", "dandelion"]].to_numpy().tolist() == [
        [2, 3, 2, 1],
        [1, 1, 1, 0],
    ]
    assert plan.summary().startswith("4 boxes on 3 frames as 2 new tasks")


def test_plan__id_is_that_of_the_content_and_not_of_the_hour(tmp_path: Path, plan: PushPlan) -> None:
    later = two_frame_plan(tmp_path / "images")
    assert later.push_id == plan.push_id
    assert later.tasks[0].name != plan.tasks[0].name
    fewer = two_frame_plan(tmp_path / "images", now=NOON, already_pushed={"s1"})
    assert fewer.push_id != plan.push_id
    assert fewer.boxes == 3


def small_plan(tmp_path: Path, decision: dict[str, Any], *points: float, **more: Any) -> PushPlan:
    store = make_images(tmp_path / "images", ["a/x.png"])
    found = suggestion("s1", "a/x.png", points or [1, 1, 9, 9], task="T", **more)
    return plan_push(
        [found], {"s1": decision}, make_snapshot([("a/x.png", "T")]), store, model="m", classes=CLASSES, now=NOON
    )


def test_plan__decision_overrides_class_and_points(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, accept("s1", object_class="dandelion", points=[2, 2, 8, 8]))
    shape = plan.tasks[0].shapes[0]
    assert (shape.object_class, shape.points, shape.score) == ("dandelion", (2.0, 2.0, 8.0, 8.0), 0.75)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("swapped_class", "annotation 17 (cleavers) should be a class of no label"),
        ("bad_location", "annotation 17 (cleavers) should lie at [1.0, 1.0, 9.0, 9.0]"),
        ("spurious", "annotation 17 (cleavers) at [1.0, 1.0, 9.0, 9.0] should be removed"),
        ("of next year", "a suggestion of kind 'of next year', which this version cannot send"),
    ],
)
def test_plan__corrections_are_listed_and_not_sent(tmp_path: Path, kind: str, told: str) -> None:
    store = make_images(tmp_path / "images", ["a/x.png"])
    more = {"annotation_id": "17", "annotation_class": "cleavers", "kind": kind}
    found = [
        suggestion("s1", "a/x.png", [1, 1, 9, 9], task="T", kind="missing"),
        # Not even a class without a label or an image without a file is in the way.
        {
            **suggestion("s2", "gone.png", [1, 1, 9, 9], task="T"),
            **more,
            "object_class": "a class of no label",
            "frame": 7,
        },
        {**suggestion("s3", "a/x.png", [1, 1, 9, 9], task="T"), **more},
    ]
    decisions = {"s1": accept("s1"), "s2": accept("s2"), "s3": {**accept("s3"), "verdict": "reject"}}
    plan = plan_push(found, decisions, make_snapshot([("a/x.png", "T")]), store, model="m", classes=CLASSES, now=NOON)
    assert [shape.suggestion_id for task in plan.tasks for shape in task.shapes] == ["s1"]
    assert [one.where for one in plan.corrections] == ["task T, frame 7 (gone.png), suggestion s2"]
    assert "1 accepted corrections of existing annotations are not sent" in plan.summary()
    assert told in plan.summary()


@pytest.mark.parametrize("kind", ["swapped_class", "bad_location"])
def test_plan__a_correction_tells_both_changes(tmp_path: Path, kind: str) -> None:
    more = {"annotation_id": "17", "annotation_class": "cleavers", "object_class": "dandelion", "kind": kind}
    found = [{**suggestion("s1", "a/x.png", [1, 1, 9, 9], task="T", frame=0), **more}]
    changed = accept("s1", object_class="nettle", points=[2, 2, 8, 8])
    plan = plan_push(found, {"s1": changed}, make_snapshot([]), make_images(tmp_path, []), model="m", classes=CLASSES)
    first, second = ("be nettle", "lie at [2.0, 2.0, 8.0, 8.0]")[:: 1 if kind == "swapped_class" else -1]
    assert [str(one) for one in plan.corrections] == [
        f"task T, frame 0 (a/x.png), suggestion s1: annotation 17 (cleavers) should {first} and {second}"
    ]


@pytest.mark.parametrize(
    ("points", "sent", "told"),
    [
        ((9, 9, 1, 1), (1, 1, 9, 9), "corners put in order"),
        ((-5, 3, 9, 9), (0, 3, 9, 9), "cut at the frame's border"),
        ((5, 5, 5, 9), None, "has no area"),
        ((100, 100, 120, 120), None, "outside the frame"),
        ((1, 1, float("nan"), 9), None, "finite numbers"),
    ],
)
def test_plan__boxes_are_checked_here(
    tmp_path: Path, points: tuple[float, ...], sent: tuple[float, ...] | None, told: str
) -> None:
    plan = small_plan(tmp_path, accept("s1"), *points)
    assert told in plan.summary()
    assert [shape.points for task in plan.tasks for shape in task.shapes] == ([sent] if sent else [])


def test_plan__class_without_a_label(tmp_path: Path) -> None:
    with pytest.raises(CvatError, match=r"no label 'cleaver' \(did you mean 'cleavers'\?\)"):
        small_plan(tmp_path, accept("s1"), object_class="cleaver")


def test_plan__missing_unknown_or_other_image(tmp_path: Path) -> None:
    store = make_images(tmp_path / "images", ["a/x.png"], size=(32, 24))
    found = [suggestion("s1", "a/x.png", [1, 1, 9, 9], task="T"), suggestion("s2", "b/y.png", [1, 1, 9, 9], task="T")]
    both = make_snapshot([("a/x.png", "T"), ("b/y.png", "T")])
    with pytest.raises(CvatError, match=r"1 images to push cannot be read: b/y\.png"):
        plan_push(found, {"s2": accept("s2")}, both, store, model="m", classes=CLASSES)
    with pytest.raises(CvatError, match="32 x 24, annotated as 64 x 48"):
        plan_push(found, {"s1": accept("s1")}, both, store, model="m", classes=CLASSES)
    with pytest.raises(CvatError, match=r"not in snapshot snap1: b/y\.png"):
        plan_push(found, {"s2": accept("s2")}, make_snapshot([("a/x.png", "T")]), store, model="m", classes=CLASSES)


def test_plan__nothing_is_sent_twice_to_one_place(tmp_path: Path) -> None:
    """By the place of what was sent, whatever its id and class, and of two models' boxes once."""
    new = {"run_id": "second", "snapshot_id": "n2"}
    store = make_images(tmp_path / "images", ["a/x.png", "a/y.png"])
    old = suggestion("old", "a/x.png", [0, 0, 5, 5], task="T", run_id="first", snapshot_id="n1")
    found = [
        suggestion("again", "a/x.png", [1, 1, 9, 10], task="T", **new, object_class="dandelion"),
        suggestion("other frame", "a/y.png", [1, 1, 9, 9], task="T", **new),
        suggestion("z", "a/x.png", [30, 10, 50, 30], task="T", **new),
        suggestion("twin of z", "a/x.png", [31, 10, 50, 30], task="T", **new),
        suggestion("carried", "a/x.png", [31, 11, 50, 30], task="T", run_id="first", snapshot_id="n1"),
        suggestion("turned", "a/x.png", [9, 9, 1, 1], task="T", **new),
        suggestion("no box", "a/x.png", [1, 1, float("nan"), 9], task="T", **new),
    ]
    # Accepted with another box, sent so, and taken back later: it stands on CVAT all the same.
    entries = [accept("old", points=[1, 1, 9, 9]), {"suggestion_id": "old", "verdict": "undo"}]
    sent = pushed_places({"old"}, [old, found[1]], entries)
    assert sent == [{"_id": "old", "img_path": "a/x.png", "points": [1, 1, 9, 9]}]
    plan = plan_push(
        found,
        {one["_id"]: accept(one["_id"]) for one in found},
        make_snapshot([("a/x.png", "T"), ("a/y.png", "T")]),
        store,
        model="m",
        classes=CLASSES,
        now=NOON,
        pushed_places=sent,
    )
    assert [shape.suggestion_id for shape in plan.tasks[0].shapes] == ["twin of z", "z", "other frame"]
    told = plan.summary()
    for name in ("again", "turned"):
        assert f"suggestion {name} on a/x.png: a box was sent there before (suggestion old); not sent again" in told
    assert "suggestion carried on a/x.png: suggestion z of another look lies there and is sent; this one" in told
    assert "suggestion no box on a/x.png: " in told


def test_plan__name_too_long(tmp_path: Path) -> None:
    with pytest.raises(CvatError, match="up to 256 characters"):
        two_frame_plan(tmp_path, task_prefix="x" * 250)
