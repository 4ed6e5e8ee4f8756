"""The map of annotation crops: points to lasso, filters, a legend with counts, and a mosaic of what was selected.

The points are drawn by jupyter-scatter (WebGL, quick at 100,000 points); the rest are our own views. A selection is
kept as row numbers: ids are made once for Python and nothing per point is made for the page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from traitlets import TraitError, Tuple, Unicode, validate

from obdb_lib.errors import DatasetError
from widgets._base import CallbackErrors, refuse_unknown
from widgets.cluster_panels import CropMosaic, MapLegend
from widgets.map_filter import MapFilter
from widgets.names import title_of
from widgets.palette import Colouring, colouring
from widgets.point_view import MAP_HEIGHT_PX, draw_colours, point_view

RowIndex = NDArray[np.int64]
CropLoader = Callable[[Sequence[str]], list[bytes]]

MOSAIC_LIMIT = 48
"""Crops shown of a selection; a larger selection is sampled evenly, because every crop costs a decoded frame."""

STRAY_CLICK_S = 0.4
"""A single point that replaces a lasso selection within this time is the click that ends the drag, not a wish."""

MAX_TEXT_VALUES = 1_000
"""A text column with more distinct values than this (image paths) is not offered for colouring."""

REQUIRED = ("annotation_id", "x", "y")
CLASS_COLUMN, CLUSTER_COLUMN = "object_class", "cluster"
NOT_IN_THE_MENU = {
    *("img_path", "frame", "frame_number", "width", "height", "x1", "y1", "x2", "y2"),
    *("shape_type", "occluded", "source", "centrality"),
}
"""Columns of a snapshot that tell nothing as a colour (corners of boxes, paths ...); Python can still ask for them."""

HINT = "Drag around points to select them. Shift adds to the selection, Alt takes away. Scroll to zoom."
LEGEND_PX = 250


class ClusterMap(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets is untyped
    """A map of annotations to look at, colour, filter and lasso.

    Args:
        points: one row an annotation: ``annotation_id`` (unique), ``x``, ``y`` (finite), and any of ``object_class``,
            ``cluster``, ``task_name``, ``session``, ``camera``, ``video``, ``split``, ``size`` (px) ... to colour by.
        crops: gives one encoded picture (JPEG or PNG bytes) per annotation id, in the order asked; None shows none.
        colour_by: the column that colours the points at first.

    Attributes:
        selected: annotation ids of the selection, in the order of ``points``; observe it, or set it from Python.
        colour_by: the column that colours the points; can be set from Python.

    Raises:
        DatasetError: a column is missing, ids repeat or coordinates are not finite.
        TypeError: an unknown argument.
    """

    selected = Tuple()
    colour_by = Unicode()

    def __init__(
        self,
        points: pd.DataFrame,
        *,
        crops: CropLoader | None = None,
        colour_by: str = CLASS_COLUMN,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, ("points", "crops", "colour_by"))
        self._points = _checked(points)
        self._ids: NDArray[np.object_] = self._points["annotation_id"].astype(str).to_numpy(dtype=object)
        self._row_of = pd.Index(self._ids)
        self._load_crops = crops
        self._rows: RowIndex = np.empty(0, dtype=np.int64)
        self._pictured = self._rows  # those whose crops are shown
        self._incoming: tuple[tuple[str, ...], RowIndex] | None = None
        self._settled_at = -np.inf
        self._errors = CallbackErrors()
        self._coded = _coded(self._points)
        self._colour_columns = colour_columns(self._coded)
        if colour_by not in self._colour_columns:
            colouring(self._points, colour_by)
            self._colour_columns.append(colour_by)
        self._colourings: dict[str, Colouring] = {}
        self._hovered: int | None = None
        self._scatter = point_view(self._points, self._colours(colour_by))
        self._legend, self._mosaic = MapLegend(map_model=self._scatter.widget.model_id), CropMosaic()
        self._filter = MapFilter.of(self._coded)
        super().__init__(children=self._build(colour_by))
        self.add_class("obdb-cluster-map")
        self.layout.width = "100%"
        self.colour_by = colour_by
        self._describe()
        self._connect()

    def data(self) -> pd.DataFrame:
        """The rows of ``points`` that are selected, in their order."""
        return self._points.iloc[self._rows].copy()

    def clear(self) -> None:
        """Select nothing."""
        self.selected = ()

    def _above(self) -> list[ipywidgets.Widget]:
        """Views between the menus and the map: a hint; other ones in children of this class."""
        return [ipywidgets.HTML(f"<span class='obdb-hint'>{HINT}</span>")]

    def _beside(self) -> list[ipywidgets.Widget]:
        """Views to the right of the legend; for children of this class."""
        return []

    def _build(self, colour_by: str) -> list[ipywidgets.Widget]:
        fit = {"layout": ipywidgets.Layout(width="auto")}
        self._colour_menu = ipywidgets.Dropdown(
            options=self._menu_options(colour_by),
            value=colour_by,
            description="Colour by",
            style={"description_width": "initial"},
            layout=ipywidgets.Layout(width="200px"),
        )
        self._mode = ipywidgets.ToggleButtons(
            options=[("Lasso", "lasso"), ("Move", "panZoom")],
            value="lasso",
            tooltips=["Drag around points to select them", "Drag to move the map"],
            style={"button_width": "72px"},
        )
        self._mode.add_class("obdb-mode")
        self._clear_button = ipywidgets.Button(description="Clear selection", disabled=True, **fit)
        self._clear_button.add_class("obdb-clear")
        bar = ipywidgets.HBox([self._colour_menu, self._mode, self._clear_button])
        bar.add_class("obdb-map-bar")
        canvas = ipywidgets.Box([self._scatter.widget], layout=ipywidgets.Layout(flex="1 1 320px", min_width="320px"))
        canvas.add_class("obdb-map-canvas")
        beside = self._beside()
        legend_px = LEGEND_PX - 30 if beside else LEGEND_PX
        self._legend.layout = ipywidgets.Layout(flex=f"0 0 {legend_px}px", height=f"{MAP_HEIGHT_PX}px")
        row = ipywidgets.HBox([canvas, self._legend, *beside], layout=ipywidgets.Layout(width="100%"))
        return [bar, self._filter, *self._above(), row, self._mosaic, self._errors.output]

    def _connect(self) -> None:
        guard, view = self._errors.guard, self._scatter.widget
        view.observe(guard(lambda change: self._from_map(change["new"])), names="selection")
        view.observe(guard(lambda change: self._show_hover(change["new"])), names="hovering")
        view.observe(lambda change: setattr(self._mode, "value", change["new"]), names="mouse_mode")
        self._mode.observe(guard(lambda change: self._set_mode(change["new"])), names="value")
        self._colour_menu.observe(self._from_menu, names="value")
        self._clear_button.on_click(guard(lambda _: self.clear()))
        self._filter.observe(guard(lambda _: self._filter_points()), names="chosen")
        self.observe(guard(lambda _: self._recolour()), names="colour_by")
        self.observe(guard(lambda _: self._show_selection()), names="selected")

    @validate("colour_by")
    def _known_column(self, proposal: dict[str, Any]) -> str:
        column = str(proposal["value"])
        if column not in self._colour_columns:
            raise TraitError(f"cannot colour by {column!r}; the choices are: {', '.join(self._colour_columns)}")
        return column

    @validate("selected")
    def _known_ids(self, proposal: dict[str, Any]) -> tuple[str, ...]:
        ids = proposal["value"]
        if self._incoming and ids is self._incoming[0]:  # made from rows of this map a moment ago
            return tuple(ids)
        rows = self._row_of.get_indexer(pd.Index([str(name) for name in ids], dtype=object))
        if (rows < 0).any():
            first = ids[int(np.argmax(rows < 0))]
            raise TraitError(
                f"{int((rows < 0).sum())} of the ids to select are not on this map, the first is {first!r}"
            )
        return tuple(self._ids[np.unique(rows)].tolist())

    def _select_rows(self, rows: RowIndex) -> None:
        """Select by sorted row numbers, without looking any id up."""
        self._incoming = (tuple(self._ids[rows].tolist()), rows)
        try:
            self.selected = self._incoming[0]
        finally:
            self._incoming = None

    def _menu_options(self, current: str) -> list[tuple[str, str]]:
        wanted = [name for name in self._colour_columns if name not in NOT_IN_THE_MENU or name == current]
        return [(title_of(column), column) for column in wanted]

    def _from_menu(self, change: dict[str, Any]) -> None:
        self.colour_by = change["new"]

    def _set_mode(self, mode: str) -> None:
        if self._scatter.widget.mouse_mode != mode:
            self._scatter.mouse(mode)

    def _from_map(self, selection: NDArray[np.uint32] | None) -> None:
        rows = np.sort(np.asarray([] if selection is None else selection, dtype=np.int64))
        if np.array_equal(rows, self._rows):
            return
        # jupyter-scatter takes the mouse-up of a lasso that ends where it began for a click on the nearest point.
        just_settled = time.monotonic() - self._settled_at < STRAY_CLICK_S
        if just_settled and len(rows) == 1 and len(self._rows) > 1:
            self._scatter.selection(self._rows)
            return
        self._select_rows(rows)
        self._settled_at = time.monotonic()

    def _show_selection(self) -> None:
        if self._incoming and self.selected is self._incoming[0]:
            self._rows = self._incoming[1]
        else:
            self._rows = np.asarray(self._row_of.get_indexer(pd.Index(self.selected, dtype=object)), dtype=np.int64)
        view = self._scatter.widget
        shown = np.asarray([] if view.selection is None else view.selection, dtype=np.int64)
        if not np.array_equal(np.sort(shown), self._rows):
            self._scatter.selection(self._rows)
        self._clear_button.disabled = len(self._rows) == 0
        self._legend.count(self._colours(self.colour_by), self._rows)
        self._selection_changed()
        self._fill_mosaic()  # last: its crops may have to be decoded

    def _selection_changed(self) -> None:
        """For children of this class: ``_rows`` is another selection now."""

    def _filter_points(self) -> None:
        """Hide what the filter leaves out; what is hidden is not selected."""
        shown = self._filter.mask()
        self._scatter.filter(None if shown is None else np.flatnonzero(shown))
        if shown is not None and not shown[self._rows].all():
            self._select_rows(self._rows[shown[self._rows]])
        self._describe()

    def _fill_mosaic(self) -> None:
        total = len(self._rows)
        by = CLASS_COLUMN if CLASS_COLUMN in self._colour_columns else self.colour_by
        self._pictured = np.empty(0, dtype=np.int64)
        self._mosaic.announce(total, len(self._points), self._colours(by), self._rows)
        if self._load_crops is None or not total:
            return
        places = np.unique(np.linspace(0, total - 1, min(total, MOSAIC_LIMIT)).astype(np.int64))
        rows = self._rows[places]
        self._pictured = rows
        self._mosaic.fill(self._load([str(name) for name in self._ids[rows]]), self._picture_titles(), total)

    def _picture_titles(self) -> list[str]:
        """What the tooltips of the crops say; there the id is told, too."""
        return [f"{self._title(int(row))}\n{self._ids[row]}" for row in self._pictured]

    def _load(self, ids: list[str]) -> list[bytes]:
        pictures = self._load_crops(ids) if self._load_crops else []
        if len(pictures) != len(ids):
            raise DatasetError(
                f"crops() was asked for {len(ids)} pictures and gave {len(pictures)}; it must give one per id"
            )
        return pictures

    def _title(self, row: int) -> str:
        """What the card of a point says: its class and cluster, and what it is coloured by."""
        columns = dict.fromkeys([CLASS_COLUMN, CLUSTER_COLUMN, self.colour_by])
        known = [column for column in columns if column in self._points.columns]
        return "\n".join(f"{title_of(column)}: {_text(self._points[column].iloc[row])}" for column in known)

    def _show_hover(self, row: int | None) -> None:
        if row is None or not 0 <= row < len(self._ids):
            return
        picture = self._load([str(self._ids[row])])[0] if self._load_crops else b""
        self._hovered = row
        self._legend.hover(picture, self._title(row))

    def _retell(self) -> None:
        """Texts of points that are on the page say what is true now."""
        if self._hovered is not None:
            self._legend.hover_text = self._title(self._hovered)
        if len(self._mosaic.pictures):
            self._mosaic.titles = self._picture_titles()

    def _colours(self, column: str) -> Colouring:
        """Colours of a column, made when they are first wanted."""
        if column not in self._colourings:
            self._colourings[column] = colouring(self._coded, column)
        return self._colourings[column]

    def _recolour(self) -> None:
        if self.colour_by not in [column for _, column in self._colour_menu.options]:
            # New options make the menu choose its first one, which nobody asked for.
            self._colour_menu.unobserve(self._from_menu, names="value")
            self._colour_menu.options = self._menu_options(self.colour_by)
            self._colour_menu.observe(self._from_menu, names="value")
        self._colour_menu.value = self.colour_by
        self._retell()
        draw_colours(self._scatter.widget, self._colours(self.colour_by))
        self._legend.redrawn += 1
        self._describe()

    def _describe(self) -> None:
        colours = self._colours(self.colour_by)
        shown = self._filter.mask()
        self._legend.describe(colours, None if shown is None else np.flatnonzero(shown))
        self._legend.count(colours, self._rows)


def colour_columns(points: pd.DataFrame) -> list[str]:
    """Columns worth colouring by: all but ids, coordinates and texts that differ on nearly every row."""
    columns = []
    for column in points.columns:
        if column in REQUIRED:
            continue
        if _is_number(points[column]) or points[column].nunique() <= MAX_TEXT_VALUES:
            columns.append(str(column))
    return columns


def _text(value: object) -> str:
    """A number without digits that nobody reads."""
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def _coded(points: pd.DataFrame) -> pd.DataFrame:
    """The same table with its texts as categories: looked through once, then counted and coloured often."""
    texts = [column for column in points.columns if column not in REQUIRED and not _is_number(points[column])]
    return points.assign(**{str(column): points[column].astype("category") for column in texts})


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def _checked(points: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in REQUIRED if column not in points.columns]
    if missing:
        raise DatasetError(f"the points of a map need the columns {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    if not len(points):
        raise DatasetError("a map needs at least one point; embed some annotations first")
    if points["annotation_id"].duplicated().any():
        twice = points["annotation_id"][points["annotation_id"].duplicated()].iloc[0]
        raise DatasetError(f"annotation_id must be unique on a map; {twice!r} appears more than once")
    finite = np.isfinite(points[["x", "y"]].to_numpy(dtype=np.float64)).all(axis=1)
    if not finite.all():
        raise DatasetError(f"x and y must be finite numbers; {int((~finite).sum())} of {len(points)} rows are not")
    return points.reset_index(drop=True)
