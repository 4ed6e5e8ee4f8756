"""Leaves as implicit shapes: one leaf is a bent axis with a half-width along it, drawn with smooth edges and shading.

All lengths are pixels of the world strip. Angles are radians in image axes (x right, y down).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Colour = tuple[float, float, float]

CONTACT_SHADOW = 0.5
"""How dark the leaf below gets right under the edge of the leaf above (0 none, 1 black)."""


@dataclass(frozen=True)
class Leaf:
    """One leaf. Colours are reflectances 0..1.

    Attributes:
        x, y: where the leaf starts, from the plant's centre.
        angle: direction of the axis; ``length`` along it, ``bend`` sideways at the tip as a share of the length.
        width: largest half-width as a share of the length.
        petiole: share of the length that is a bare stalk.
        peak: where along the blade it is widest (0..1).
        tip: how the blade narrows from there: below 1 blunt, 1 straight, above 1 drawn out.
        teeth, depth, sweep: number of teeth or lobes a side, how deep they cut (0..1), and how far they lean back
            (positive) or forward (negative).
        terminal: extra half-width of the last lobe, as a share of ``width``.
        rib: colour of the midrib; ``rim``: colour of the margin, ``mealy``: pale share towards the base.
        wave: strength of light and dark across the lobes.
    """

    x: float
    y: float
    angle: float
    length: float
    width: float
    colour: Colour
    rib: Colour
    bend: float = 0.0
    petiole: float = 0.0
    peak: float = 0.45
    tip: float = 1.0
    teeth: int = 0
    depth: float = 0.0
    sweep: float = 0.0
    terminal: float = 0.0
    rim: Colour | None = None
    mealy: float = 0.0
    wave: float = 0.0


@dataclass
class Canvas:
    """A plant being drawn: colour (H, W, 3) already multiplied by ``alpha`` (H, W), both float32 in 0..1."""

    colour: FloatArray
    alpha: FloatArray

    @classmethod
    def empty(cls, side: int) -> Canvas:
        return cls(np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.float32))

    def trimmed(self) -> tuple[Canvas, int, int]:
        """The part that holds something, and its left and top."""
        rows = np.flatnonzero(self.alpha.any(axis=1))
        columns = np.flatnonzero(self.alpha.any(axis=0))
        if not len(rows):
            return Canvas.empty(1), 0, 0
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Canvas(self.colour[part], self.alpha[part]), int(columns[0]), int(rows[0])


def draw_leaf(canvas: Canvas, leaf: Leaf, light: tuple[float, float], mottle: FloatArray) -> None:
    """Lay ``leaf`` over what is already on ``canvas`` (whose middle is the plant's centre).

    Args:
        light: unit direction in the image from which the light comes.
        mottle: noise of at least the canvas' size, mean 0, about -1..1.
    """
    window = _window(canvas, leaf)
    if window is None:
        return
    top, bottom, left, right = window
    half = canvas.alpha.shape[0] / 2
    ys, xs = np.ogrid[top:bottom, left:right]
    dx = (xs + 0.5 - half - leaf.x).astype(np.float32)
    dy = (ys + 0.5 - half - leaf.y).astype(np.float32)
    cos, sin = np.float32(np.cos(leaf.angle)), np.float32(np.sin(leaf.angle))
    u = (dx * cos + dy * sin) / np.float32(leaf.length)
    v = (dy * cos - dx * sin) / np.float32(leaf.length) - np.float32(leaf.bend) * u * u
    side = np.abs(v)
    t = (u - leaf.petiole) / (1 - leaf.petiole)
    width, phase = _half_width(leaf, t, u, side)
    inside = (width - side) * np.float32(leaf.length)
    distance = inside / np.maximum(_steepness(inside), 0.35)
    alpha = np.clip(distance + 0.5, 0, 1)
    colour = _shade(leaf, t, v, side, width, phase, light)
    colour *= (1 + 0.07 * mottle[top:bottom, left:right])[..., None]
    soft = max(2.0, leaf.length * 0.07)
    under = 1 - CONTACT_SHADOW * np.clip(1 + distance / soft, 0, 1) ** 2
    area = np.s_[top:bottom, left:right]
    keep = (1 - alpha)[..., None]
    canvas.colour[area] = canvas.colour[area] * under[..., None] * keep + colour * alpha[..., None]
    canvas.alpha[area] = canvas.alpha[area] * (1 - alpha) + alpha


def _window(canvas: Canvas, leaf: Leaf) -> tuple[int, int, int, int] | None:
    """Rows and columns of the canvas that the leaf can touch, or None."""
    size = canvas.alpha.shape[0]
    along = np.linspace(0, 1, 5)
    across = leaf.bend * along**2
    cos, sin = np.cos(leaf.angle), np.sin(leaf.angle)
    xs = size / 2 + leaf.x + leaf.length * (along * cos - across * sin)
    ys = size / 2 + leaf.y + leaf.length * (along * sin + across * cos)
    pad = leaf.length * leaf.width * (1 + leaf.terminal) + 3
    left, right = max(int(xs.min() - pad), 0), min(int(xs.max() + pad) + 1, size)
    top, bottom = max(int(ys.min() - pad), 0), min(int(ys.max() + pad) + 1, size)
    return (top, bottom, left, right) if right - left > 2 and bottom - top > 2 else None


def _half_width(leaf: Leaf, t: FloatArray, u: FloatArray, side: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Half-width at every pixel as a share of the length (negative outside), and the phase 0..1 within a tooth."""
    rising = np.sqrt(np.clip(t / leaf.peak, 0, 1))
    falling = np.clip((1 - t) / (1 - leaf.peak), 0, 1)
    falling = falling if leaf.tip == 1 else falling ** np.float32(leaf.tip)
    width = leaf.width * np.minimum(rising, falling)
    phase = np.zeros_like(t)
    if leaf.teeth:
        phase = np.mod(leaf.teeth * (t + leaf.sweep * side / leaf.width), 1)
        tooth = 1 - np.abs(2 * phase - 1)
        width = width * (1 - leaf.depth * (1 - tooth))
    if leaf.terminal:
        last = np.clip(1 - np.abs(t - 0.86) / 0.13, 0, 1)
        width = np.maximum(width, leaf.width * leaf.terminal * last)
    stalk = max(0.9 / leaf.length, 0.018)
    on_stalk = (u >= 0) & (t < 0.6)
    width = np.where(on_stalk, np.maximum(width, stalk), width)
    outside = (u < 0) | (u > 1)
    return np.where(outside, -np.maximum(-u, u - 1), width).astype(np.float32), phase


def _steepness(field: FloatArray) -> FloatArray:
    """Length of the gradient, so that a field can be read as a distance in pixels near its zero."""
    down, right = np.gradient(field)
    length: FloatArray = np.sqrt(down * down + right * right)
    return length


def _shade(
    leaf: Leaf,
    t: FloatArray,
    v: FloatArray,
    side: FloatArray,
    width: FloatArray,
    phase: FloatArray,
    light: tuple[float, float],
) -> FloatArray:
    """(H, W, 3) reflectance times light on the blade: folded halves, drooping tip, veins, midrib, margin."""
    safe = np.maximum(width, 1e-3)
    across = np.clip(v / safe, -1, 1)
    cos, sin = np.cos(leaf.angle), np.sin(leaf.angle)
    lit_side = float(-sin * light[0] + cos * light[1])
    lit_tip = float(cos * light[0] + sin * light[1])
    fold = np.tanh(3 * across)
    shade = 1.0 + 0.20 * lit_side * fold + 0.22 * lit_tip * (np.clip(t, 0, 1) - 0.45)
    shade -= 0.10 * across * across
    if leaf.wave:
        shade += leaf.wave * np.cos(2 * np.pi * phase) * np.abs(across)
    veins = np.square(np.cos(np.pi * (7 * t - 1.5 * side / leaf.width)))
    veins = np.square(np.square(veins))
    shade += 0.10 * veins * (1 - np.abs(across))
    colour = np.asarray(leaf.colour, np.float32) * shade[..., None].astype(np.float32)
    rib_half = max(1.0 / leaf.length, 0.035 * (leaf.width + 0.12))
    rib = np.exp(-np.square(v / rib_half)) * np.clip(1.1 - t, 0, 1)
    rib = np.maximum(rib, (t < 0.02) * np.float32(0.8))[..., None].astype(np.float32)
    colour += 0.75 * rib * (np.asarray(leaf.rib, np.float32) - colour)
    if leaf.mealy:
        pale = (leaf.mealy * np.clip(1 - 1.1 * t, 0, 1))[..., None].astype(np.float32)
        colour += pale * (np.array([0.78, 0.82, 0.74], np.float32) - colour)
    if leaf.rim is not None:
        edge = np.clip((np.abs(across) - 0.72) / 0.28, 0, 1)[..., None].astype(np.float32)
        colour += 0.6 * edge * (np.asarray(leaf.rim, np.float32) - colour)
    result: FloatArray = colour.astype(np.float32)
    return result
