"""The map as a still picture, for headless runs: same colours and legend as the live one."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from widgets.names import title_of
from widgets.palette import Colouring, colouring

SIZE_INCHES = (9.6, 6.0)
DPI = 100
INK = "#222222"


def point_area(count: int) -> float:
    """Area of a dot in square points of print: smaller when there are more, so that blobs keep their shape."""
    return float(np.clip(24_000 / max(count, 1), 2.0, 30.0))


def static_map(points: pd.DataFrame, *, colour_by: str = "object_class", title: str | None = None) -> Image.Image:
    """Draw the map of ``points`` (columns x, y and ``colour_by``) as an RGB picture of 960 x 600 pixels.

    Raises:
        DatasetError: x, y or ``colour_by`` is not a column.
    """
    colours = colouring(points, colour_by)
    for axis in ("x", "y"):
        colouring(points, axis)
    # A figure of our own, not pyplot's: nothing is shown twice in a notebook and no state is kept.
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    draw_points(axes, points, colours)
    default = f"{len(points):,} annotations, coloured by {title_of(colour_by)}"
    axes.set_title(title or default, loc="left", color=INK, fontsize=13)
    _legend(figure, colours)
    return picture_of(figure)


def draw_points(axes: Axes, points: pd.DataFrame, colours: Colouring) -> None:
    """The points (columns x, y) on axes without ticks, in their colours."""
    # Drawing in the given order would hide the first class under the last one.
    order = np.random.default_rng(0).permutation(len(points))
    shades = colours.point_colours()
    axes.scatter(
        points["x"].to_numpy()[order],
        points["y"].to_numpy()[order],
        s=point_area(len(points)),
        c=list(shades[order]),
        linewidths=0,
        alpha=0.8,
    )
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    for side in axes.spines.values():
        side.set_color("#DDDDDD")


def picture_of(figure: Figure) -> Image.Image:
    """The figure as an RGB picture."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]  # untyped in matplotlib
    return Image.open(buffer).convert("RGB")


def _legend(figure: Figure, colours: Colouring) -> None:
    texts = list(colours.labels)
    if not colours.continuous:
        texts = [f"{label}  {count:,}" for label, count in zip(colours.labels, colours.counts, strict=True)]
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=8, color=colour, label=text)
        for colour, text in zip(colours.colours, texts, strict=True)
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, labelcolor=INK, fontsize=10)
