"""The confusion matrix to click on: the frames behind a cell open below it."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Protocol

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from traitlets import Int, List, Unicode

from widgets._base import STATIC, CallbackErrors, PlainWidget
from widgets.charts import MUTED, house_style
from widgets.frame_view import FrameBrowser, Layers, Pixels
from widgets.palette import BLUE, ORANGE

NO_CELL = (-1, -1)
BACKGROUND = "(background)"
"""As ``obdb_lib.confusion`` names what is no plant."""
SHARE_TICKS = {"tickvals": [-1, 0, 1], "ticktext": ["100 % wrong", "0", "100 % right"]}
HINT = "Click a number to see its frames, those with most such boxes first."


class ConfusionLike(Protocol):
    """What is needed of ``obdb_lib.confusion.Confusion``."""

    @property
    def matrix(self) -> pd.DataFrame: ...

    def frames(self, annotated: str, detected: str) -> list[str]: ...


class ConfusionGrid(PlainWidget):
    """The table of counts. ``cell`` is the chosen (row, column), (-1, -1) for none."""

    _esm = STATIC / "confusion.js"
    _css = STATIC / "confusion.css"

    names = List(Unicode()).tag(sync=True)
    counts = List(List(Int())).tag(sync=True)
    cell = List(Int(), default_value=list(NO_CELL), minlen=2, maxlen=2).tag(sync=True)


class ConfusionBrowser(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets is untyped
    """A confusion matrix; a click on a cell shows the frames behind it with their boxes.

    Args:
        confusion: rows are what was annotated, columns what was detected.
        load_frame: the frame as (H, W, 3) uint8 RGB, by img_path.
        layers: name -> boxes of a frame, annotations first; shown side by side.

    Attributes:
        img_paths: the frames behind the chosen cell.
    """

    def __init__(self, confusion: ConfusionLike, *, load_frame: Callable[[str], Pixels], layers: Layers) -> None:
        self._confusion = confusion
        names = [str(name) for name in confusion.matrix.index]
        counts = [[int(count) for count in row] for row in confusion.matrix.to_numpy()]
        self.grid = ConfusionGrid(names=names, counts=counts)
        self.img_paths: list[str] = []
        self._text = ipywidgets.HTML(HINT)
        self._browser = FrameBrowser([], load_frame=load_frame, layers=layers, beside=True)
        self._browser.layout.display = "none"
        self._errors = CallbackErrors()
        super().__init__([self.grid, self._text, self._browser, self._errors.output])
        self.grid.observe(self._errors.guard(self._open), names="cell")

    def choose(self, annotated: str, detected: str) -> None:
        """The same as a click on that cell."""
        names = self.grid.names
        self.grid.cell = [names.index(annotated), names.index(detected)]

    def _open(self, change: object) -> None:
        row, column = self.grid.cell
        if row < 0 or column < 0:
            return
        annotated, detected = self.grid.names[row], self.grid.names[column]
        self.img_paths = self._confusion.frames(annotated, detected)
        count = self.grid.counts[row][column]
        frames = f"{len(self.img_paths)} frame{'' if len(self.img_paths) == 1 else 's'}"
        self._text.value = f"<b>{count}</b> {_in_words(annotated, detected)}: {frames}"
        self._browser.layout.display = None if self.img_paths else "none"
        self._browser.show_frames(self.img_paths)


def _in_words(annotated: str, detected: str) -> str:
    """What a cell holds, as HTML."""
    drawn, seen = (f"<b>{html.escape(name)}</b>" for name in (annotated, detected))
    if detected == BACKGROUND:
        return f"annotated as {drawn} and missed"
    if annotated == BACKGROUND:
        return f"detected as {seen} where nobody drew a plant, or a second time"
    return f"annotated and detected as {drawn}" if drawn == seen else f"annotated as {drawn}, detected as {seen}"


def confusion_chart(confusion: ConfusionLike, *, title: str | None = None) -> go.Figure:
    """The matrix as a still chart: blue what is right, orange what is wrong, shade the share of the row."""
    matrix = confusion.matrix
    counts = matrix.to_numpy(np.int64)
    sums = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    names = [str(name) for name in matrix.index]
    texts = [["" if r == c == len(names) - 1 else str(n) for c, n in enumerate(row)] for r, row in enumerate(counts)]
    figure = go.Figure(
        go.Heatmap(
            z=np.where(np.eye(len(names), dtype=bool), share, -share).tolist(),
            x=names,
            y=names,
            text=texts,
            customdata=np.stack([counts, 100 * share], axis=-1).tolist(),
            texttemplate="%{text}",
            colorscale=[[0, ORANGE], [0.5, "#FFFFFF"], [1, BLUE]],
            zmin=-1,
            zmax=1,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": "share of row"}, "thickness": 12, **SHARE_TICKS},
            hovertemplate="annotated %{y}, detected %{x}: %{customdata[0]} (%{customdata[1]:.0f} % of the row)"
            "<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", title_text="annotated", showgrid=False)
    figure.update_xaxes(title_text="detected", side="bottom", tickfont={"color": MUTED})
    height = 170 + max(34 * len(names), 90)
    return house_style(figure, title or "Which class is taken for which?", height)
