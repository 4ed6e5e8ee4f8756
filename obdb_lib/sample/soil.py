"""Bare soil of the synthetic field: a height map with clods, stones, straw and wheel marks, and what it reflects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from obdb_lib.sample.leaves import Colour

FloatArray = NDArray[np.float32]
Rng = np.random.Generator

PX_PER_CLOD, PX_PER_STONE, PX_PER_STRAW = 170.0, 9000.0, 16000.0
"""Strip area, in square pixels of a 960 px wide frame, for each clod, stone and piece of straw."""


@dataclass(frozen=True)
class Ground:
    """How the soil of one session looks: reflectance, share of damp patches, clods' height, wheel marks or none."""

    colour: Colour
    damp: float
    cloddiness: float
    wheel_marks: bool
    straw: float


@dataclass
class Soil:
    """``height`` (H, W) in pixels and ``reflectance`` (H, W, 3) 0..1, both float32."""

    height: FloatArray
    reflectance: FloatArray


def noise(rng: Rng, height: int, width: int, grain: float) -> FloatArray:
    """(height, width) float32 smooth noise, mean 0, deviation about 1, with spots of ``grain`` pixels."""
    rows, columns = int(height / grain) + 3, int(width / grain) + 3
    small = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(1.25)
    return _enlarged(small, height, width, grain)


def _enlarged(small: FloatArray, height: int, width: int, factor: float) -> FloatArray:
    """``small`` smoothly enlarged by ``factor`` and cut to (height, width)."""
    box = (0.5, 0.5, 0.5 + width / factor, 0.5 + height / factor)
    image = Image.fromarray(small)
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def make_soil(rng: Rng, height: int, width: int, scale: float, ground: Ground) -> Soil:
    """Soil for one strip; ``scale`` is strip pixels per pixel of a 960 px wide frame."""
    relief, tone, hue = _broad(rng, height, width, scale, ground.damp)
    for grain_size, amount in ((17, 0.9), (5, 0.55)):
        layer = noise(rng, height, width, grain_size * scale)
        layer *= np.float32(amount * scale)
        relief += layer
    grain = rng.standard_normal((height, width), dtype=np.float32)
    fine = ndimage.uniform_filter(grain, 3)
    relief += np.float32(0.9 * scale) * fine
    fine *= np.float32(0.135)
    tone += fine
    grain *= np.float32(0.16 * scale)
    relief += grain
    grain *= np.float32(0.3 / scale)
    tone -= grain
    packed = _wheel_marks(rng, relief, tone, scale) if ground.wheel_marks else None
    _clods(rng, relief, tone, scale, ground.cloddiness, packed)
    hue *= tone
    red, green, blue = ground.colour
    reflectance = np.empty((height, width, 3), np.float32)
    np.multiply(tone + hue, np.float32(red), out=reflectance[..., 0])
    np.multiply(tone, np.float32(green), out=reflectance[..., 1])
    np.multiply(tone - hue, np.float32(blue), out=reflectance[..., 2])
    soil = Soil(relief, reflectance)
    _stones(rng, soil, scale)
    _straw(rng, soil, scale, ground.straw)
    return soil


def _broad(rng: Rng, height: int, width: int, scale: float, damp: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Relief, tone and hue in broad strokes: made small, because they are smooth, and enlarged once."""
    factor = 8.0
    rows, columns = int(height / factor) + 3, int(width / factor) + 3
    spot = scale / factor
    relief = 2.2 * scale * noise(rng, rows, columns, 70 * spot)
    tone = 1 + 0.05 * noise(rng, rows, columns, 130 * spot) + 0.035 * noise(rng, rows, columns, 24 * spot)
    wet = noise(rng, rows, columns, 210 * spot) + 0.5 * noise(rng, rows, columns, 60 * spot)
    tone *= 1 - damp / (1 + np.exp(-2.2 * (wet - 0.6)))
    hue = 0.016 * noise(rng, rows, columns, 45 * spot)
    relief, tone, hue = (_enlarged(np.float32(1) * layer, height, width, factor) for layer in (relief, tone, hue))
    return relief, tone, hue


def _wheel_marks(rng: Rng, relief: FloatArray, tone: FloatArray, scale: float) -> FloatArray:
    """Press one lugged tyre track along the strip; returns where the soil is packed, (H, W) 0..1."""
    height, width = relief.shape
    packed_all = np.zeros((height, width), np.float32)
    half = int(90 * scale)
    centre = int(rng.choice([0.08, 0.5, 0.92]) * width)
    columns = np.s_[:, max(centre - half, 0) : min(centre + half, width)]
    ys = np.arange(height, dtype=np.float32)[:, None]
    xs = np.arange(width, dtype=np.float32)[None, columns[1]]
    across = xs - centre - 12 * scale * np.sin(ys / (310 * scale))
    away = np.abs(across) / (66 * scale)
    fading = np.clip(0.75 + 0.5 * noise(rng, height, xs.shape[1], 120 * scale), 0.1, 1)
    packed = np.clip((1.0 - away) / 0.18, 0, 1) * fading
    phase = (ys + 0.75 * np.abs(across)) / (44 * scale)
    lug = np.clip(np.sin(2 * np.pi * phase) * 2.2, -1, 1) * np.clip(away / 0.12, 0, 1)
    relief[columns] *= 1 - 0.45 * packed
    relief[columns] += packed * scale * (2.3 * lug - 2.5)
    tone[columns] *= 1 + 0.07 * packed
    packed_all[columns] = packed
    return packed_all


def _bump(rng: Rng, radius: float) -> FloatArray:
    """A clod or stone: a flat-topped, many-sided dome of height 1 in a square patch, 0 outside."""
    reach = int(np.ceil(radius))
    ys, xs = np.mgrid[-reach : reach + 1, -reach : reach + 1] / radius
    dome = np.full(xs.shape, 0.92)
    for angle in np.sort(rng.uniform(0, 2 * np.pi, 7)):
        slope = rng.uniform(0.9, 2.2)
        dome = np.minimum(dome, slope * (rng.uniform(0.7, 0.98) - xs * np.cos(angle) - ys * np.sin(angle)))
    bump: FloatArray = np.clip(np.minimum(dome, 1.6 * (1 - np.hypot(xs, ys))), 0, 1).astype(np.float32)
    return bump


def _clods(
    rng: Rng, relief: FloatArray, tone: FloatArray, scale: float, cloddiness: float, packed: FloatArray | None
) -> None:
    """Scatter crumbs and clods over the relief, each with its own tone."""
    height, width = relief.shape
    count = int(height * width / (PX_PER_CLOD * scale * scale))
    radii = np.minimum(1.6 + rng.gamma(0.9, 2.6, count), 24) * scale
    steps = np.unique(np.round(np.geomspace(1.5, max(radii.max(), 2), 12), 2))
    shapes = [[_bump(rng, step) for _ in range(8)] for step in steps]
    sizes = np.clip(np.searchsorted(steps, radii), 0, len(steps) - 1)
    kinds = rng.integers(0, 8, count)
    ys, xs = rng.integers(0, height, count), rng.integers(0, width, count)
    tones = rng.normal(0, 0.06, count).astype(np.float32)
    for i in range(count):
        bump = shapes[sizes[i]][kinds[i]]
        side = bump.shape[0]
        top, left = ys[i], xs[i]
        if top + side > height or left + side > width:
            continue
        if packed is not None and packed[top, left] > 0.35:
            continue
        area = np.s_[top : top + side, left : left + side]
        relief[area] += bump * np.float32(radii[i] * 0.62 * cloddiness)
        tone[area] += bump * tones[i]


def _stones(rng: Rng, soil: Soil, scale: float) -> None:
    """Grey to ochre stones that lie on the soil."""
    height, width = soil.height.shape
    for _ in range(int(height * width / (PX_PER_STONE * scale * scale))):
        radius = min(2.2 + rng.gamma(1.3, 2.0), 12) * scale
        bump = _bump(rng, max(radius, 1.5))
        side = bump.shape[0]
        if side >= min(height, width):
            continue
        top, left = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
        area = np.s_[top : top + side, left : left + side]
        cover = np.clip(bump * 4, 0, 1)
        grey = rng.uniform(0.42, 0.66)
        colour = np.array([grey * rng.uniform(1.0, 1.1), grey, grey * rng.uniform(0.84, 0.98)], np.float32)
        rough = (1 + 0.05 * rng.standard_normal((side, side, 1), dtype=np.float32)) * colour
        soil.reflectance[area] += cover[..., None] * (rough - soil.reflectance[area])
        dome = ndimage.uniform_filter(bump, 3)
        soil.height[area] += dome * np.float32(radius * 0.8) - cover * (soil.height[area] - soil.height[area].mean())


def _straw(rng: Rng, soil: Soil, scale: float, amount: float) -> None:
    """Pale stalks of the last crop, whole and broken, that throw a thin shadow of their own."""
    height, width = soil.height.shape
    for _ in range(int(amount * height * width / (PX_PER_STRAW * scale * scale))):
        length, half = rng.gamma(2.2, 11) * scale + 5 * scale, rng.uniform(0.6, 1.7) * max(scale, 0.5)
        angle, bend = rng.uniform(0, np.pi), rng.normal(0, 0.10)
        side = int(length) + 6
        if side >= min(height, width):
            continue
        top, left = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
        ys, xs = np.mgrid[0:side, 0:side].astype(np.float32) - side / 2
        along = xs * np.cos(angle) + ys * np.sin(angle)
        across = ys * np.cos(angle) - xs * np.sin(angle) - bend * along * along / length
        cover = np.clip(half - np.abs(across) + 0.5, 0, 1) * np.clip(length / 2 - np.abs(along) + 0.5, 0, 1)
        cover = cover.astype(np.float32)
        pale = rng.uniform(0.52, 0.80)
        colour = np.array([pale, pale * rng.uniform(0.84, 0.92), pale * rng.uniform(0.56, 0.70)], np.float32)
        area = np.s_[top : top + side, left : left + side]
        soil.reflectance[area] += 0.9 * cover[..., None] * (colour - soil.reflectance[area])
        soil.height[area] += cover * np.float32(1.1 * half)
