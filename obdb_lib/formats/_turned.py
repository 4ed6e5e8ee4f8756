"""Boxes turned about their middle, as CVAT draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def turned_box(points: Sequence[float], degrees: float) -> list[float]:
    """Corners of the box x1, y1, x2, y2 turned clockwise about its middle (y points down, as in CVAT).

    Returns:
        x, y of the corners that were left upper, right upper, right lower, left lower.
    """
    x1, y1, x2, y2 = points
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: list[float] = []
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        dx, dy = x - middle_x, y - middle_y
        turned += [middle_x + dx * cosine - dy * sine, middle_y + dx * sine + dy * cosine]
    return turned


def upright_of(corners: Sequence[float], degrees: float) -> list[float] | None:
    """The box that ``turned_box`` made these corners of; None when they are no such box (cut at the border, say)."""
    if len(corners) != 8:
        return None
    middle_x, middle_y = math.fsum(corners[0::2]) / 4, math.fsum(corners[1::2]) / 4
    cosine, sine = math.cos(math.radians(-degrees)), math.sin(math.radians(-degrees))
    back: list[float] = []
    for x, y in zip(corners[0::2], corners[1::2], strict=True):
        dx, dy = x - middle_x, y - middle_y
        back += [middle_x + dx * cosine - dy * sine, middle_y + dx * sine + dy * cosine]
    x1, y1, x2, _, _, y2, _, _ = back
    upright = [x1, y1, x2, y1, x2, y2, x1, y2]
    same = all(abs(found - wanted) <= TOLERANCE_PX for found, wanted in zip(back, upright, strict=True))
    return [x1, y1, x2, y2] if same and x1 < x2 and y1 < y2 else None


TOLERANCE_PX = 0.02
"""How far corners may lie from a true rectangle: CVAT's XML rounds each to a hundredth of a pixel."""
