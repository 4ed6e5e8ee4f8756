"""One strip of world per task: soil, rows and weeds under one light, rendered once and then filmed frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from obdb_lib.sample.leaves import Canvas, Colour, FloatArray
from obdb_lib.sample.soil import Ground, make_soil, noise
from obdb_lib.sample.species import CROP, WEEDS, Species, draw_plant, draw_seedling

Rng = np.random.Generator

ROW_SPACING, PLANT_SPACING = 430.0, 250.0
"""Distance between rows and between plants in a row, in pixels of a 960 px wide frame."""
PX_PER_WEED = 105_000.0
"""Strip area for each weed, in square pixels of a 960 px wide frame."""
PX_PER_SEEDLING = 42_000.0
"""Strip area for each seedling too young to be named, which is clutter and never annotated."""
BAND = 128
"""Rows lit at a time."""
SOLID = 0.5
"""A pixel belongs to a plant when the plant covers at least this share of it."""
APART, TOUCHING, TOUCHING_SHARE = 0.85, 0.50, 0.3
"""Weeds keep ``APART`` times the sum of the radii from their neighbours; this share of them only ``TOUCHING`` times."""


@dataclass(frozen=True)
class Light:
    """Light of a session.

    Attributes:
        towards: unit direction in the image from which the sun shines; ``shadow`` how far a leaf's shadow falls (pixels
            of a 960 px wide frame) and ``softness`` its blur.
        sun, sky: colours of direct and diffuse light; ``relief`` how strongly clods stand out.
    """

    towards: tuple[float, float]
    shadow: float
    softness: float
    sun: Colour
    sky: Colour
    relief: float


@dataclass(frozen=True)
class Plant:
    """A plant in the strip: its id in ``Strip.ids``, class, whole area in pixels and the share of it others cover."""

    number: int
    object_class: str
    area: int
    covered: float


@dataclass
class Strip:
    """``image`` (H, W, 3) float32 0..1, ``ids`` (H, W) int32 with 0 for soil, and the plants by number from 1."""

    image: FloatArray
    ids: NDArray[np.int32]
    plants: list[Plant]


@dataclass(frozen=True)
class _Spot:
    species: Species
    x: float
    y: float
    reach: float


def make_strip(
    rng: Rng,
    height: int,
    width: int,
    *,
    scale: float,
    growth: float,
    gaps: float,
    weediness: dict[str, float],
    ground: Ground,
    light: Light,
) -> Strip:
    """Draw one strip.

    Args:
        height, width: strip size in pixels, travel along the height.
        scale: strip pixels per pixel of a 960 px wide frame, for plants and soil alike.
        growth: size of the plants of this session, 1 is usual.
        gaps: share of the crop's places that stayed empty, 0..1.
        weediness: how many of each weed, by class name; 1 is one weed per ``PX_PER_WEED``.
    """
    soil = make_soil(rng, height, width, scale, ground)
    mottle = np.clip(0.7 * noise(rng, 600, 600, 6) + 0.5 * noise(rng, 600, 600, 1), -2, 2)
    spots = _plan(rng, height, width, scale, growth, gaps, weediness)
    shadow = np.zeros((height, width), np.float32)
    ids = np.zeros((height, width), np.int32)
    drawn: list[tuple[Canvas, int, int]] = []
    areas = np.zeros((len(spots) + 1, 2), np.int64)
    for _ in range(int(height * width / (PX_PER_SEEDLING * scale * scale))):
        canvas = draw_seedling(rng, rng.uniform(5, 9) * scale, light.towards, mottle)
        place = _place(canvas, rng.uniform(0, width), rng.uniform(0, height), shadow.shape)
        if place is not None:
            drawn.append(place)
            _cast(shadow, place, light, 0.25 * scale)
    for number, spot in enumerate(spots, 1):
        canvas = draw_plant(spot.species, spot.reach, rng, light.towards, mottle)
        place = _place(canvas, spot.x, spot.y, shadow.shape)
        if place is None:
            continue
        part, left, top = place
        solid = part.alpha >= SOLID
        areas[number] = np.count_nonzero(canvas.alpha >= SOLID), np.count_nonzero(solid)
        ids[top : top + solid.shape[0], left : left + solid.shape[1]][solid] = number
        drawn.append(place)
        _cast(shadow, place, light, scale)
    image = _lit(soil.height, soil.reflectance, shadow, light, scale)
    _lay(image, drawn, light)
    return Strip(image, ids, _plants(spots, areas, ids))


def _plants(spots: list[_Spot], areas: NDArray[np.int64], ids: NDArray[np.int32]) -> list[Plant]:
    """The plants by number; ``areas`` (N + 1, 2) holds each one's whole area and the part of it within the strip."""
    seen = np.bincount(ids.ravel(), minlength=len(spots) + 1)
    covered = 1 - seen / np.maximum(areas[:, 1], 1)
    return [
        Plant(number, spot.species.name, int(areas[number, 0]), float(covered[number]))
        for number, spot in enumerate(spots, 1)
    ]


def _plan(
    rng: Rng, height: int, width: int, scale: float, growth: float, gaps: float, weediness: dict[str, float]
) -> list[_Spot]:
    """Where which plant stands: crop in rows with gaps, weeds in patches, none hidden by another."""
    spots: list[_Spot] = []
    start = width / 2 + rng.uniform(-0.5, 0.5) * ROW_SPACING * scale
    rows = [start + k * ROW_SPACING * scale for k in range(-4, 5)]
    for row in rows:
        y = rng.uniform(0, PLANT_SPACING * scale)
        while y < height:
            x = row + rng.normal(0, 7 * scale)
            if rng.random() >= gaps and -20 * scale < x < width + 20 * scale:
                spots.append(_Spot(CROP, x, y, _reach(rng, CROP, scale, growth)))
            y += PLANT_SPACING * scale * rng.uniform(0.82, 1.2)
    patches = {weed.name: noise(rng, height // 8 + 1, width // 8 + 1, 45 * scale) for weed in WEEDS}
    shares = np.array([weediness.get(weed.name, 0.0) for weed in WEEDS])
    wanted = int(height * width / (PX_PER_WEED * scale * scale) * shares.sum())
    for _ in range(wanted):
        weed = WEEDS[int(rng.choice(len(WEEDS), p=shares / shares.sum()))]
        reach = _reach(rng, weed, scale, growth)
        near = TOUCHING if rng.random() < TOUCHING_SHARE else APART
        for _ in range(30):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            liked = patches[weed.name][int(y) // 8, int(x) // 8] > rng.normal(0, 0.6)
            if liked and all(np.hypot(x - other.x, y - other.y) > near * (reach + other.reach) for other in spots):
                spots.append(_Spot(weed, x, y, reach))
                break
    return [spots[i] for i in np.argsort([spot.reach for spot in spots], kind="stable")]


def _reach(rng: Rng, species: Species, scale: float, growth: float) -> float:
    return float((species.smallest + (species.largest - species.smallest) * rng.beta(1.6, 1.8)) * scale * growth)


def _place(canvas: Canvas, x: float, y: float, shape: tuple[int, ...]) -> tuple[Canvas, int, int] | None:
    """The part of a plant centred at (x, y) that lies in the strip, with its left and top there."""
    part, left, top = canvas.trimmed()
    left += round(x - canvas.alpha.shape[1] / 2)
    top += round(y - canvas.alpha.shape[0] / 2)
    rows = slice(max(-top, 0), min(part.alpha.shape[0], shape[0] - top))
    columns = slice(max(-left, 0), min(part.alpha.shape[1], shape[1] - left))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return None
    return Canvas(part.colour[rows, columns], part.alpha[rows, columns]), max(left, 0), max(top, 0)


def _cast(shadow: FloatArray, place: tuple[Canvas, int, int], light: Light, scale: float) -> None:
    """Add a plant's shadow on the ground, on the side away from the sun."""
    part, left, top = place
    blur = max(light.softness * scale, 0.6)
    pad = int(3 * blur) + 1
    soft = ndimage.gaussian_filter(np.pad(part.alpha, pad), blur, truncate=2.5)
    for share in (0.4, 1.0):
        far_left = left + round(-light.towards[0] * light.shadow * scale * share) - pad
        far_top = top + round(-light.towards[1] * light.shadow * scale * share) - pad
        rows = slice(max(-far_top, 0), min(soft.shape[0], shadow.shape[0] - far_top))
        columns = slice(max(-far_left, 0), min(soft.shape[1], shadow.shape[1] - far_left))
        if rows.stop > rows.start and columns.stop > columns.start:
            area = shadow[
                far_top + rows.start : far_top + rows.stop, far_left + columns.start : far_left + columns.stop
            ]
            np.maximum(area, soft[rows, columns], out=area)


def _lit(relief: FloatArray, reflectance: FloatArray, shadow: FloatArray, light: Light, scale: float) -> FloatArray:
    """Soil under the session's light: slopes towards the sun are bright, hollows and plants' shadows dark."""
    for top in range(0, len(relief), BAND):
        # In bands, so that the intermediate arrays stay small.
        low, high = max(top - 20, 0), min(top + BAND + 20, len(relief))
        band, here = relief[low:high], np.s_[top : min(top + BAND, len(relief))]
        inner = np.s_[top - low : top - low + min(BAND, len(relief) - top)]
        down, right = np.gradient(band)
        slope = np.asarray(right * light.towards[0] + down * light.towards[1])[inner]
        covered = shadow[here]
        direct = np.clip(1 + light.relief * slope, 0.12, 1.75) * (1 - 0.92 * covered)
        hollow = (ndimage.uniform_filter(band, max(int(15 * scale), 3)) - band)[inner]
        open_sky = np.clip(1 - 0.045 * hollow / scale, 0.55, 1.15) * (1 - 0.42 * covered)
        for channel in range(3):
            reflectance[here][..., channel] *= light.sun[channel] * direct + light.sky[channel] * open_sky
    return reflectance


def _lay(image: FloatArray, drawn: list[tuple[Canvas, int, int]], light: Light) -> None:
    """Lay the plants over the soil in the order they were drawn."""
    lit = np.asarray(light.sun, np.float32) + np.asarray(light.sky, np.float32)
    for part, left, top in drawn:
        area = image[top : top + part.alpha.shape[0], left : left + part.alpha.shape[1]]
        area *= (1 - part.alpha)[..., None]
        area += part.colour * lit
