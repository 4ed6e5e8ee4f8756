"""Which verified shapes are new to a ground-truth task, which stand there already, and which nobody can tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from obdb_lib.frame_matching import FlatBoxes, Overlaps, overlapping
from obdb_lib.records import Document, bounding_box

EXACT_IOU = 0.999
"""From this overlap on, two shapes of one class are copies of each other, whatever else lies near."""
ADD, DUPLICATE, AMBIGUOUS = "add", "duplicate", "ambiguous"
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """Where a shape lies: frame of the ground-truth task, class, and the box around it in pixels.

    Attributes:
        name: how to call it when it is told.
        home: the task that it comes from.
    """

    frame: int
    object_class: str
    box: Box
    name: str
    home: int

    def __str__(self) -> str:
        return f"{self.object_class} at {[round(value, 1) for value in self.box]} ({self.name})"


@dataclass(frozen=True)
class Verdict:
    """What becomes of one verified shape: "add", "duplicate" or "ambiguous", and why."""

    act: str
    why: str = ""


def judge(own: Sequence[Place], there: Sequence[Place], *, min_iou: float) -> list[Verdict]:
    """Hold verified shapes against those of the ground-truth task and against each other.

    A shape that lies on one of its class (overlap of the boxes around them of at least ``min_iou``) is a duplicate of
    it. It is ambiguous where that is not one to one, or where a shape of another class lies: nothing is guessed.

    Args:
        own: of one or more verified tasks, in the order in which they have precedence.
        min_iou: overlap from which two shapes of a class are one plant, above 0 and at most 1; lower finds more
            duplicates.

    Raises:
        DatasetError: ``min_iou`` is out of range.
    """
    verdicts = _against_truth(own, there, min_iou)
    left = [row for row, verdict in enumerate(verdicts) if verdict.act == ADD]
    among = _against_each_other([own[row] for row in left], min_iou)
    for row, verdict in zip(left, among, strict=True):
        verdicts[row] = verdict
    return verdicts


def _against_truth(own: Sequence[Place], there: Sequence[Place], min_iou: float) -> list[Verdict]:
    same: dict[int, list[tuple[int, float]]] = defaultdict(list)
    other: dict[int, list[int]] = defaultdict(list)
    claims: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, column, iou in _pairs(_overlaps(own, there, min_iou)):
        if own[row].object_class == there[column].object_class:
            same[row].append((column, iou))
            claims[column, own[row].home].append(row)
        else:
            other[row].append(column)
    verdicts = []
    for row, one in enumerate(own):
        copies = [column for column, iou in same[row] if iou >= EXACT_IOU]
        if copies:
            verdicts.append(Verdict(DUPLICATE, f"stands there as {there[copies[0]].name}"))
        elif len(same[row]) > 1:
            listed = ", ".join(there[column].name for column, _ in same[row])
            verdicts.append(Verdict(AMBIGUOUS, f"lies on {len(same[row])} of its class: {listed}"))
        elif same[row]:
            column = same[row][0][0]
            rivals = [own[rival].name for rival in claims[column, one.home] if rival != row]
            if rivals:
                why = f"lies on {there[column].name}, and so does {', '.join(rivals)}"
                verdicts.append(Verdict(AMBIGUOUS, why))
            else:
                verdicts.append(Verdict(DUPLICATE, f"lies on {there[column].name}"))
        elif other[row]:
            verdicts.append(Verdict(AMBIGUOUS, f"another class lies there: {there[other[row][0]]}"))
        else:
            verdicts.append(Verdict(ADD))
    return verdicts


def _against_each_other(own: Sequence[Place], min_iou: float) -> list[Verdict]:
    """Of copies, and of shapes of several tasks at one place, the first is taken."""
    unsure: dict[int, str] = {}
    partners: dict[int, list[int]] = defaultdict(list)
    for first, second, iou in _pairs(_overlaps(own, own, min_iou)):
        if first == second:
            continue
        one, other = own[first], own[second]
        if one.object_class != other.object_class:
            unsure.setdefault(first, f"another class lies there, not merged either: {other}")
        elif iou < EXACT_IOU and one.home == other.home:
            unsure.setdefault(first, f"lies on {other.name}, which is not merged either")
        else:
            partners[first].append(second)
    verdicts: list[Verdict] = []
    for row in range(len(own)):
        taken = [one for one in partners[row] if one < row and verdicts[one].act == ADD]
        doubtful = [one for one in partners[row] if one in unsure or (one < row and verdicts[one].act == AMBIGUOUS)]
        if row in unsure:
            verdicts.append(Verdict(AMBIGUOUS, unsure[row]))
        elif taken:
            verdicts.append(Verdict(DUPLICATE, f"lies on {own[taken[0]].name}, which comes first"))
        elif doubtful:
            verdicts.append(Verdict(AMBIGUOUS, f"lies on {own[doubtful[0]].name}, which is not merged either"))
        else:
            verdicts.append(Verdict(ADD))
    return verdicts


def _overlaps(first: Sequence[Place], second: Sequence[Place], min_iou: float) -> Overlaps:
    return overlapping(_flat(first), _flat(second), min_iou=min_iou)


def _flat(places: Sequence[Place]) -> FlatBoxes:
    """All of one label: shapes of other classes count, too."""
    frames = np.array([place.frame for place in places], dtype=np.int64)
    boxes = np.array([place.box for place in places], dtype=np.float32)
    return FlatBoxes(boxes, frames, np.zeros(len(places), dtype=np.int64))


def _pairs(found: Overlaps) -> Iterator[tuple[int, int, float]]:
    return zip(found.first.tolist(), found.second.tolist(), found.iou.tolist(), strict=True)


# -- where the shapes of a task lie ----------------------------------------------------------------------------------


def shape_box(shape: Document) -> Box:
    """The upright box around a shape of any type, with its rotation, in pixels."""
    points = [float(value) for value in shape["points"]]
    if shape["type"] == "mask":  # run lengths, then left, top, right, bottom
        return points[-4], points[-3], points[-2], points[-1]
    if shape["type"] == "ellipse" and len(points) == 4:  # centre, then its right and its top
        across, up = abs(points[2] - points[0]), abs(points[1] - points[3])
        points = [points[0] - across, points[1] - up, points[0] + across, points[1] + up]
    x1, y1, x2, y2 = bounding_box(points)
    angle = radians(float(shape.get("rotation") or 0))
    if not angle:
        return x1, y1, x2, y2
    middle_x, middle_y, half_x, half_y = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    wide = abs(half_x * cos(angle)) + abs(half_y * sin(angle))
    high = abs(half_x * sin(angle)) + abs(half_y * cos(angle))
    return middle_x - wide, middle_y - high, middle_x + wide, middle_y + high


def places_there(found: Document, names: Mapping[int, str], home: int) -> list[Place]:
    """Where a task's shapes and tracks lie; between two keyframes a track is drawn on a straight line."""
    places = [
        Place(
            int(shape["frame"]), names.get(int(shape["label_id"]), "?"), shape_box(shape), f"shape {shape['id']}", home
        )
        for shape in found.get("shapes", ())
        if shape.get("points")
    ]
    for track in found.get("tracks", ()):
        label = names.get(int(track["label_id"]), "?")
        for frame, box in _track_boxes(track):
            places.append(Place(frame, label, box, f"track {track['id']}", home))
    return places


def _track_boxes(track: Document) -> Iterator[tuple[int, Box]]:
    """Each frame and box from a track's first keyframe to its last one, where it is not outside."""
    keys = sorted(
        (shape for shape in track.get("shapes", ()) if shape.get("points")), key=lambda one: int(one["frame"])
    )
    for place, shape in enumerate(keys):
        if shape.get("outside"):
            continue
        start, box = int(shape["frame"]), shape_box(shape)
        yield start, box
        if place + 1 < len(keys):
            end, last = int(keys[place + 1]["frame"]), shape_box(keys[place + 1])
            goal = box if keys[place + 1].get("outside") else last
            for frame in range(start + 1, end):
                part = (frame - start) / (end - start)
                x1, y1, x2, y2 = (a + (b - a) * part for a, b in zip(box, goal, strict=True))
                yield frame, (x1, y1, x2, y2)
