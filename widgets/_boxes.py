"""Boxes of one layer drawn on a picture, with labels that do not lie on each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from obdb_lib.boxes import DEFAULT_MATCH_IOU, BoxSet, match
from widgets.palette import EXTENDED

LAYER_COLOURS = (EXTENDED[0], EXTENDED[1], EXTENDED[2], EXTENDED[3])
LINE_PX, RIGHT_PX, WRONG_PX = 3, 2, 5
"""Width of a box; where right and wrong are told apart, of each: it is read without telling colours apart."""
TEXT_PX = 13
"""Height of a line of text."""
EDGE_PX = 2
"""Black around the letters, so that they can be read on soil and leaves."""
Rect = tuple[float, float, float, float]


def wrong_boxes(first: BoxSet, second: BoxSet) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which boxes of each side have no partner of their class on the other, as ``detections.frame_errors`` counts."""
    matching = match(first, second, min_iou=DEFAULT_MATCH_IOU)
    sides = np.zeros(len(first), dtype=bool), np.zeros(len(second), dtype=bool)
    sides[0][matching.unmatched_first], sides[1][matching.unmatched_second] = True, True
    return sides


def draw_boxes(
    picture: Image.Image, boxes: BoxSet, number: int, scale: float, wrong: NDArray[np.bool_] | None = None
) -> None:
    """Draw layer ``number``: the first one with class names above its boxes, later ones with scores, too, below.

    Args:
        scale: pixels of the picture in one of the frame.
        wrong: (N,) boxes to draw thick, the others thin; all alike when None.
    """
    draw = ImageDraw.Draw(picture)
    colour = LAYER_COLOURS[number % len(LAYER_COLOURS)]
    corners = (boxes.xyxy * scale).tolist()
    widths = [LINE_PX] * len(boxes) if wrong is None else [WRONG_PX if bad else RIGHT_PX for bad in wrong]
    for box, width in sorted(zip(corners, widths, strict=True), key=lambda one: one[1]):
        draw.rectangle(box, outline=colour, width=width)
    taken: list[Rect] = []
    for box, name, score in zip(corners, boxes.classes.tolist(), boxes.scores.tolist(), strict=True):
        text = name if number == 0 else f"{name} {score:.2f}"
        place = free_place(draw, text, box, number == 0, picture.size, taken)
        draw.text(place, text, fill="white", stroke_width=EDGE_PX, stroke_fill="black")


def free_place(
    draw: ImageDraw.ImageDraw, text: str, box: Rect, above: bool, size: tuple[int, int], taken: list[Rect]
) -> tuple[float, float]:
    """Left and top of a label at its box, inside the picture, off the labels ``taken`` before; it is added to them."""
    wide = draw.textlength(text) + 2 * EDGE_PX
    left = min(max(box[0] + 2, 0), max(size[0] - wide, 0))
    over, under = box[1] - TEXT_PX, box[3] + 1
    lines = [step * TEXT_PX for step in range(3)]
    tops = [over - line for line in lines] + [box[1] + 2 + line for line in lines]
    if not above:
        tops = [under + line for line in lines] + [box[3] - TEXT_PX - 2 - line for line in lines]
    inside = [min(max(top, 0), size[1] - TEXT_PX) for top in tops]
    rects = [(left, top, left + wide, top + TEXT_PX) for top in inside]
    place = next((rect for rect in rects if not any(_meet(rect, other) for other in taken)), rects[0])
    taken.append(place)
    return place[0], place[1]


def _meet(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
