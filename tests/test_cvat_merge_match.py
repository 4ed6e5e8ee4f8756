"""Which verified shapes are new: case by case, and for any boxes at all that a second run adds nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obdb_lib.boxes import BoxSet, iou_matrix
from obdb_lib.cvat.merge_match import ADD, AMBIGUOUS, DUPLICATE, Place, judge, places_there, shape_box
from obdb_lib.errors import DatasetError


def at(x: float, name: str = "a", *, home: int = 1, label: str = "hen", frame: int = 0, width: float = 100) -> Place:
    return Place(frame, label, (x, 0, x + width, 10), name, home)


def acts(own: list[Place], there: list[Place], min_iou: float = 0.7) -> list[str]:
    return [verdict.act for verdict in judge(own, there, min_iou=min_iou)]


@pytest.mark.parametrize(
    ("own", "there", "expected"),
    [
        ([at(0)], [], [ADD]),
        ([at(0)], [at(10)], [DUPLICATE]),
        ([at(0)], [at(20)], [ADD]),  # 80 of 120: below 0.7
        ([at(0)], [at(0, frame=1)], [ADD]),
        ([at(0)], [at(10, label="other")], [AMBIGUOUS]),
        ([at(0)], [at(10), at(11, label="other")], [DUPLICATE]),
        ([at(0)], [at(10), at(-10)], [AMBIGUOUS]),
        ([at(0)], [at(0), at(-10)], [DUPLICATE]),  # a copy is a copy, whatever else lies near
        ([at(0), at(10)], [at(5)], [AMBIGUOUS, AMBIGUOUS]),
        ([at(0), at(10, home=2)], [at(5)], [DUPLICATE, DUPLICATE]),  # two models' boxes of one plant
        ([at(0), at(10)], [], [AMBIGUOUS, AMBIGUOUS]),
        ([at(0), at(0)], [], [ADD, DUPLICATE]),
        ([at(0), at(10, home=2)], [], [ADD, DUPLICATE]),
        ([at(0), at(10, home=2, label="other")], [], [AMBIGUOUS, AMBIGUOUS]),
        # What lies on a box that is not merged is no duplicate of it: it would be lost.
        ([at(0), at(10, home=2), at(-10, home=3, label="other")], [], [AMBIGUOUS, AMBIGUOUS, AMBIGUOUS]),
        # The third lies on the second alone, and that is not added.
        ([at(0), at(17, home=2), at(34, home=3)], [], [ADD, DUPLICATE, ADD]),
    ],
)
def test_judge(own: list[Place], there: list[Place], expected: list[str]) -> None:
    assert acts(own, there) == expected


def test_judge__iou_out_of_range() -> None:
    with pytest.raises(DatasetError, match="min_iou must be above 0 and at most 1"):
        judge([at(0)], [at(0)], min_iou=0)


PLACES = st.builds(
    lambda x, home, label, frame, width: at(x, home=home, label=label, frame=frame, width=width),
    st.integers(0, 60),
    st.integers(1, 3),
    st.sampled_from(["hen", "other"]),
    st.integers(0, 1),
    st.integers(40, 100),
)


def named(places: list[Place]) -> list[Place]:
    return [replace(place, name=str(number)) for number, place in enumerate(places)]


@settings(max_examples=300, deadline=None)
@given(st.lists(PLACES, max_size=8), st.lists(PLACES, max_size=4), st.sampled_from([0.5, 0.7, 0.9]))
def test_judge__a_second_run_adds_nothing_and_no_plant_is_lost(
    own: list[Place], there: list[Place], min_iou: float
) -> None:
    own, there = named(own), named(there)
    first = judge(own, there, min_iou=min_iou)
    added = [place for place, verdict in zip(own, first, strict=True) if verdict.act == ADD]
    after = [*there, *(replace(place, name=f"copy of {place.name}", home=0) for place in added)]
    assert ADD not in acts(own, after, min_iou)
    for place, verdict in zip(own, first, strict=True):
        if verdict.act == DUPLICATE:
            alike = [one for one in after if (one.frame, one.object_class) == (place.frame, place.object_class)]
            assert iou_matrix(box_set([place]), box_set(alike)).max() >= min_iou - 1e-6, "a duplicate of what stands"
    for number, one in enumerate(added):
        same = [o for o in added[:number] if (o.frame, o.object_class) == (one.frame, one.object_class)]
        assert not same or iou_matrix(box_set([one]), box_set(same)).max() < min_iou


def box_set(places: list[Place]) -> BoxSet:
    return BoxSet([place.box for place in places])  # type: ignore[arg-type]


def shape(kind: str, points: list[float], **more: Any) -> dict[str, Any]:
    return {"type": kind, "points": points, "id": 1, "frame": 0, "label_id": 1, **more}


@pytest.mark.parametrize(
    ("given_shape", "box"),
    [
        (shape("rectangle", [1, 2, 3, 5]), (1, 2, 3, 5)),
        (shape("rectangle", [0, 0, 10, 2], rotation=90), (4, -4, 6, 6)),
        (shape("polygon", [1, 1, 9, 1, 5, 7]), (1, 1, 9, 7)),
        (shape("ellipse", [5, 5, 9, 3]), (1, 3, 9, 7)),
        (shape("mask", [3, 4, 10, 20, 13, 27]), (10, 20, 13, 27)),
    ],
)
def test_box_around_any_shape(given_shape: dict[str, Any], box: tuple[float, ...]) -> None:
    assert shape_box(given_shape) == pytest.approx(box)


def test_tracks_are_drawn_between_their_keyframes_and_not_where_they_are_outside() -> None:
    keys = [
        {"type": "rectangle", "frame": 0, "points": [0, 0, 10, 10], "outside": False},
        {"type": "rectangle", "frame": 2, "points": [20, 0, 30, 10], "outside": False},
        {"type": "rectangle", "frame": 4, "points": [0, 0, 10, 10], "outside": True},
        {"type": "rectangle", "frame": 6, "points": [0, 0, 10, 10], "outside": False},
    ]
    found = {"shapes": [], "tracks": [{"id": 3, "label_id": 1, "shapes": keys}]}
    places = {place.frame: place.box[0] for place in places_there(found, {1: "hen"}, 1)}
    assert places == {0: 0, 1: 10, 2: 20, 3: 20, 6: 0}
