"""The points themselves: a jupyter-scatter view, and how it is given new colours."""

from __future__ import annotations

import jscatter
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_rgba

from widgets.palette import CONTINUOUS_MAP, Colouring

MAP_HEIGHT_PX = 480
TOOLBAR = ("lasso_type", "lasso_brush_size", "divider", "full_screen", "download", "reset")
"""Buttons of jupyter-scatter's own bar; lasso and move are left out, as the map has them in words above it."""

_SCALE_STEPS = 256
_VALUE = 2  # the column of jupyter-scatter's point array (x, y, value A, value B) that carries the colour


def point_view(points: pd.DataFrame, colours: Colouring) -> jscatter.Scatter:
    """The WebGL map of ``points`` (columns x and y, finite), a square around the middle of the data."""
    frame = pd.DataFrame({axis: points[axis].to_numpy(dtype=np.float32) for axis in ("x", "y")})
    # As plain numbers, which a norm of 0 to 1 leaves as they are: categories cost jupyter-scatter a loop per point.
    frame["colour"] = _values(colours)
    half = float(max(np.ptp(frame["x"]), np.ptp(frame["y"]))) * 0.53 or 1.0
    middle = [(float(frame[axis].min()) + float(frame[axis].max())) / 2 for axis in ("x", "y")]
    view = jscatter.Scatter(
        data=frame,
        x="x",
        y="y",
        color_by="colour",
        color_map=_palette(colours),
        color_norm=(0.0, 1.0),
        x_scale=(middle[0] - half, middle[0] + half),
        y_scale=(middle[1] - half, middle[1] + half),
        height=MAP_HEIGHT_PX,
        size=float(np.clip(400 / np.sqrt(len(points)), 2, 7)),
        opacity=0.8,
        opacity_unselected=0.35,
        color_selected="#111111",
        background_color="#FFFFFF",
        mouse_mode="lasso",
        axes=False,
        legend=False,
        tooltip=False,
        # Esc means "leave this cell" to JupyterLab; wherever it is pressed, it must not undo a selection on this map.
        options={"actionKeyMap": {"merge": "shift", "remove": "alt"}, "deselectOnEscape": False},
    )
    view.widget.show(list(TOOLBAR))
    return view


def draw_colours(view: jscatter.widget.JupyterScatter, colours: Colouring) -> None:
    """Give the points of ``view`` other colours, in one message; neither filter nor selection is lost.

    jupyter-scatter's own ``color`` prepares each column once and for all, which a column that changes cannot use.
    """
    points = view.points.copy()
    points[:, _VALUE] = _values(colours)
    with view.hold_sync():
        view.prevent_filter_reset = True
        view.non_spatial_points_update = True
        view.color = _palette(colours)
        view.points = points


def _palette(colours: Colouring) -> list[list[float]]:
    if colours.continuous:
        return [list(shade) for shade in colormaps[CONTINUOUS_MAP](np.linspace(0, 1, _SCALE_STEPS)).tolist()]
    # jupyter-scatter falls back to its own colours when the palette is shorter than two.
    return [list(to_rgba(colour)) for colour in (*colours.colours, colours.colours[-1])]


def _values(colours: Colouring) -> np.ndarray:
    """(N,) place in the palette: whole numbers for categories, strictly between 0 and 1 for a scale.

    The page tells the two apart by whether all values are whole numbers, so a scale must not reach 0 or 1.
    """
    if not colours.continuous:
        return colours.codes.astype(np.float32)
    low, high = float(colours.values.min()), float(colours.values.max())
    return np.asarray(0.002 + 0.996 * (colours.values - low) / ((high - low) or 1.0), dtype=np.float32)
