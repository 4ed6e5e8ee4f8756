"""The five species of the synthetic field: how each one arranges its leaves, seen from above.

The names are upstream's. Each ``_grow_*`` returns leaves from the lowest to the topmost one; no two plants are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from obdb_lib.sample.leaves import Canvas, Colour, FloatArray, Leaf, draw_leaf

GOLDEN_ANGLE = 2.39996
Rng = np.random.Generator


@dataclass(frozen=True)
class Species:
    """A species: reach (radius from the centre, pixels of a 960 px wide frame) from the young to the grown plant."""

    name: str
    smallest: float
    largest: float
    grow: Callable[[Rng, float], list[Leaf]]
    in_rows: bool = False


def draw_plant(species: Species, reach: float, rng: Rng, light: tuple[float, float], mottle: FloatArray) -> Canvas:
    """One plant with its centre in the middle of the canvas; ``reach`` in pixels of the strip."""
    side = int(2.7 * reach) + 8
    canvas = Canvas.empty(side)
    top = int(rng.integers(0, max(mottle.shape[0] - side, 1)))
    left = int(rng.integers(0, max(mottle.shape[1] - side, 1)))
    patch = mottle[top : top + side, left : left + side]
    for leaf in species.grow(rng, reach):
        draw_leaf(canvas, leaf, light, patch)
    return canvas


def _tinted(rng: Rng, colour: Colour, spread: float = 0.045) -> Colour:
    """The colour of one plant or leaf: a little lighter or darker, a little yellower or bluer."""
    value, warm = 1 + rng.normal(0, spread), rng.normal(0, spread)
    red, green, blue = colour
    return red * value * (1 + warm), green * value, blue * value * (1 - warm)


def _rosette(rng: Rng, reach: float, count: int, inner: float, pattern: Leaf) -> list[Leaf]:
    """Leaves of ``pattern`` around the centre, the oldest and longest lowest; ``inner`` is the youngest one's share."""
    start = rng.uniform(0, 2 * np.pi)
    leaves = []
    for i in range(count):
        young = i / max(count - 1, 1)
        length = reach * (1 - (1 - inner) * young**1.3) * rng.uniform(0.86, 1.0)
        light_up = 1 + 0.22 * young
        colour = _tinted(rng, pattern.colour, 0.035)
        leaves.append(
            replace(
                pattern,
                angle=start + i * GOLDEN_ANGLE + rng.normal(0, 0.14),
                length=length,
                width=pattern.width * rng.uniform(0.85, 1.12),
                bend=rng.normal(0, 0.10),
                depth=pattern.depth * rng.uniform(0.85, 1.05),
                colour=(colour[0] * light_up, colour[1] * light_up, colour[2] * light_up),
            )
        )
    return leaves


def _grow_rape(rng: Rng, reach: float) -> list[Leaf]:
    """Broad, rounded, blue-green leaves with a pale rib: the crop."""
    pattern = Leaf(
        0, 0, 0, 1, 0.34, _tinted(rng, (0.37, 0.49, 0.36)), (0.66, 0.76, 0.62),
        petiole=0.27, peak=0.52, tip=0.5, teeth=4, depth=0.16, wave=0.07,
    )  # fmt: skip
    return _rosette(rng, reach, int(rng.integers(6, 10)), 0.40, pattern)


def _grow_thistle(rng: Rng, reach: float) -> list[Leaf]:
    """Long dark leaves cut into spiny lobes, with pale spines on the margin."""
    pattern = Leaf(
        0, 0, 0, 1, 0.235, _tinted(rng, (0.26, 0.38, 0.21)), (0.62, 0.70, 0.52),
        petiole=0.0, peak=0.38, tip=0.85, teeth=int(rng.integers(5, 7)), depth=0.62, sweep=-0.10,
        rim=(0.58, 0.64, 0.44), wave=0.30,
    )  # fmt: skip
    return _rosette(rng, reach, int(rng.integers(7, 12)), 0.42, pattern)


def _grow_dandelion(rng: Rng, reach: float) -> list[Leaf]:
    """A flat rosette of many narrow leaves whose teeth point back to the centre; now and then a flower."""
    pattern = Leaf(
        0, 0, 0, 1, 0.14, _tinted(rng, (0.42, 0.53, 0.20)), (0.66, 0.58, 0.40),
        petiole=0.10, peak=0.62, tip=0.7, teeth=int(rng.integers(5, 7)), depth=0.66, sweep=0.10, terminal=0.95,
    )  # fmt: skip
    leaves = _rosette(rng, reach, int(rng.integers(11, 18)), 0.55, pattern)
    if rng.random() < 0.22:
        leaves += _flower(rng, reach)
    return leaves


def _flower(rng: Rng, reach: float) -> list[Leaf]:
    angle, away = rng.uniform(0, 2 * np.pi), reach * rng.uniform(0.0, 0.45)
    x, y = away * np.cos(angle), away * np.sin(angle)
    stalk = Leaf(0, 0, angle, max(away, 2.0), 0.04, (0.55, 0.58, 0.35), (0.6, 0.6, 0.4), tip=0.3)
    petals = []
    for ring, radius in enumerate((0.27, 0.18, 0.10)):
        for i in range(16):
            colour = _tinted(rng, (0.98 - 0.05 * ring, 0.80 - 0.08 * ring, 0.06), 0.03)
            petals.append(
                Leaf(x, y, i * np.pi / 8 + 0.2 * ring, radius * reach, 0.16, colour, colour, peak=0.7, tip=0.5)
            )
    return [stalk, *petals]


def _grow_fat_hen(rng: Rng, reach: float) -> list[Leaf]:
    """Toothed diamonds on stalks, in crossed pairs around a mealy white heart."""
    pattern = Leaf(
        0, 0, 0, 1, 0.25, _tinted(rng, (0.46, 0.56, 0.40)), (0.72, 0.76, 0.64),
        petiole=0.36, peak=0.36, tip=1.0, teeth=4, depth=0.22, sweep=-0.12,
    )  # fmt: skip
    pairs, start = int(rng.integers(4, 7)), rng.uniform(0, 2 * np.pi)
    leaves = []
    for i in range(pairs):
        young = i / (pairs - 1)
        for half in (0, np.pi):
            pale = young**2
            red, green, blue = _tinted(rng, pattern.colour, 0.03)
            colour = (red + 0.22 * pale, green + 0.18 * pale, blue + 0.24 * pale)
            leaves.append(
                replace(
                    pattern,
                    angle=start + half + (i % 2) * np.pi / 2 + i * 0.22 + rng.normal(0, 0.10),
                    length=reach * (1 - 0.68 * young) * rng.uniform(0.88, 1.0),
                    width=pattern.width * (1 - 0.2 * young) * rng.uniform(0.9, 1.1),
                    bend=rng.normal(0, 0.06),
                    colour=colour,
                    mealy=0.25 + 0.45 * young,
                )
            )
    return leaves


def _grow_cleavers(rng: Rng, reach: float) -> list[Leaf]:
    """Sprawling stems that carry whorls of thin, bright leaves, like a handful of small stars."""
    colour = _tinted(rng, (0.46, 0.59, 0.27))
    stem_colour = (colour[0] * 1.1, colour[1] * 1.0, colour[2] * 1.2)
    leaves: list[Leaf] = []
    whorls: list[tuple[float, float, float]] = []
    start, stems = rng.uniform(0, 2 * np.pi), int(rng.integers(2, 5))
    for i in range(stems):
        angle, length = start + i * 2 * np.pi / stems + rng.normal(0, 0.3), reach * rng.uniform(0.55, 0.72)
        bend = rng.normal(0, 0.12)
        leaves.append(Leaf(0, 0, angle, length, 0.03, stem_colour, stem_colour, bend=bend, petiole=0.9))
        for share in (0.55, 1.0):
            along, across = length * share, length * bend * share**2
            x = along * np.cos(angle) - across * np.sin(angle)
            y = along * np.sin(angle) + across * np.cos(angle)
            whorls.append((x, y, reach * (0.34 if share > 0.9 else 0.42)))
    whorls += [(0.0, 0.0, reach * 0.46), (0.0, 0.0, reach * 0.24)]
    for x, y, size in whorls:
        count, turn = int(rng.integers(6, 9)), rng.uniform(0, np.pi)
        for k in range(count):
            angle, length = turn + k * 2 * np.pi / count + rng.normal(0, 0.08), size * rng.uniform(0.88, 1.05)
            leaf = Leaf(x, y, angle, length, 0.125, _tinted(rng, colour, 0.05), (0.62, 0.76, 0.42), peak=0.65, tip=0.6)
            leaves.append(replace(leaf, bend=rng.normal(0, 0.08)))
    return leaves


def draw_seedling(rng: Rng, reach: float, light: tuple[float, float], mottle: FloatArray) -> Canvas:
    """Two seed leaves of a plant too young to be told apart: drawn as clutter, never annotated."""
    return draw_plant(Species("", reach, reach, _grow_seedling), reach, rng, light, mottle)


def _grow_seedling(rng: Rng, reach: float) -> list[Leaf]:
    angle, colour = rng.uniform(0, 2 * np.pi), _tinted(rng, (0.40, 0.52, 0.28), 0.08)
    pattern = Leaf(0, 0, angle, reach, 0.34, colour, colour, petiole=0.2, tip=0.5)
    return [pattern, replace(pattern, angle=angle + np.pi + rng.normal(0, 0.5))]


CROP = Species("Rape", 46, 86, _grow_rape, in_rows=True)
WEEDS = (
    Species("Fat hen", 27, 58, _grow_fat_hen),
    Species("Creeping thistle", 44, 92, _grow_thistle),
    Species("Dandelion", 42, 84, _grow_dandelion),
    Species("Cleavers", 30, 62, _grow_cleavers),
)
SPECIES: tuple[Species, ...] = (CROP, *WEEDS)
CLASSES = tuple(sorted(species.name for species in SPECIES))
"""Class names of the sample, sorted."""
