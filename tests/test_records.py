"""Bad boxes: each is mended or set aside with one clear sentence, and the good ones go on."""

from __future__ import annotations

import math

import pytest

from obdb_lib.records import check_task
from obdb_lib.snapshots import build_snapshot
from tests.helpers import snapshot_of, task

GOOD = [10.0, 10.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("points", "kept", "words"),
    [
        (GOOD, GOOD, ""),
        ([30, 10, 10, 30], GOOD, "corners put in order"),  # inverted
        ([-20, 10, 30, 80], [0, 10, 30, 64], "cut at the frame's border"),
        ([10, 10, 10, 30], None, "has no area"),
        ([10, 10, 10.4, 30], None, "has no area"),
        ([95.9, 10, 130, 30], None, "has no area"),  # a sliver is left at the border
        ([200, 10, 230, 30], None, "outside the frame of 96 x 64"),
        ([-30, 10, -1, 30], None, "outside the frame"),
        ([10, 10, math.nan, 30], None, "finite numbers"),
        ([10, 10, math.inf, 30], None, "finite numbers"),
        ([10, 10, 10**400, 30], None, "finite numbers"),
        ([10, 10, 30], None, "in pairs"),
        (["1", "2", "3", "4"], None, "finite numbers"),
        ([True, 10, 30, 30], None, "finite numbers"),
        ([], None, "got []"),
    ],
)
def test_points(points: list[float], kept: list[float] | None, words: str) -> None:
    record = task(frames=1, boxes={0: [("Fat hen", GOOD), ("Fat hen", GOOD)]})
    record.annotations[1]["points"] = points
    clean, problems = check_task(record)
    assert [a["points"] for a in clean.annotations] == [GOOD] + ([kept] if kept else [])
    assert len(problems) == (1 if words else 0)
    if words:
        assert words in str(problems[0])
        assert record.name in str(problems[0])


def test_unknown_class_and_frame_are_named() -> None:
    record = task(frames=1, boxes={0: [("Fat hen", GOOD), ("Fat hen", GOOD), ("Fat hen", GOOD)]})
    record.annotations[0]["object_class"] = "Fat han"
    record.annotations[1]["frame"] = 7
    clean, problems = check_task(record)
    assert len(clean.annotations) == 1
    assert "'Fat han' is not a label of the task (Dandelion, Fat hen)" in str(problems[0])
    assert "frame 7 is not one of the task's 1 frames" in str(problems[1])


def test_an_empty_task_is_kept_and_said() -> None:
    clean, problems = check_task(task(frames=0))
    assert clean.meta["frames"] == []
    assert "has no frames" in str(problems[0])


def test_polygons_keep_their_points_and_get_a_box() -> None:
    record = task(frames=1, boxes={0: [("Fat hen", [10, 10, 30, 12, 20, 40])]})
    record.annotations[0]["shape_types"] = "polygon"
    clean, problems = check_task(record)
    assert clean.annotations[0]["points"] == [10, 10, 30, 12, 20, 40]
    assert problems == []
    row = snapshot_of([clean]).annotations.iloc[0]
    assert [row.x1, row.y1, row.x2, row.y2] == [10, 10, 30, 40]


def test_an_image_in_two_tasks_is_one_frame_with_the_boxes_of_both() -> None:
    first = task("FieldData 20200520145736 1L GH020068", 1, {0: [("Fat hen", GOOD)]})
    second = task("Seg FieldData 20200520145736 1L GH020068", 1, {0: [("Dandelion", GOOD)]})
    snapshot = snapshot_of([second, first])
    assert len(snapshot.frames) == 1
    assert snapshot.frames["task_name"].tolist() == [first.name]
    assert sorted(snapshot.annotations["object_class"]) == ["Dandelion", "Fat hen"]


def test_own_naming_rule() -> None:
    record = task(frames=1)
    record.meta["frames"][0]["name"] = "north/cam7_run3/000123.png"
    pattern = r"(?P<session>\w+)/(?P<camera>cam\d+)_(?P<video>run\d+)"
    frames = build_snapshot([record.meta], [], naming_pattern=pattern).frames
    assert frames.loc[0, ["session", "camera", "video", "frame_number"]].tolist() == [
        "north",
        "cam7",
        "north/cam7/run3",
        123,
    ]
