"""The two views beside the point map: its legend with counts, and the mosaic of selected crops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from traitlets import Bool, Bytes, Dict, Int, List, Unicode

from widgets._base import STATIC, PlainWidget
from widgets.names import short_names, title_of
from widgets.palette import Colouring


def _counts(colours: Colouring, rows: NDArray[np.int64]) -> list[int]:
    if colours.continuous:
        return []
    return [int(n) for n in np.bincount(colours.codes[rows], minlength=len(colours.labels))]


class MapLegend(PlainWidget):
    """Colours with their counts, and the crop under the pointer.

    Attributes:
        title: the column shown.
        entries: one {label, short, colour, count (int or None)} per colour; ``short``
            is the label without what all of them begin with.
        continuous: True shows a scale from the first to the last entry.
        note: a line below, for example about missing values.
        chosen: selected points per entry; empty when nothing is selected.
        filtered: True when the counts are of the points that a filter shows.
        hover_picture, hover_text: the point under the mouse.
        map_model: model id of the point map this legend belongs to.
        redrawn: how often Python gave the points new colours; the view sees to it that the last ones are drawn.
    """

    _esm = STATIC / "map_legend.js"
    _css = STATIC / "cluster_map.css"

    title = Unicode().tag(sync=True)
    entries = List(Dict()).tag(sync=True)
    continuous = Bool(False).tag(sync=True)
    note = Unicode().tag(sync=True)
    chosen = List(Int()).tag(sync=True)
    filtered = Bool(False).tag(sync=True)
    hover_picture = Bytes().tag(sync=True)
    hover_text = Unicode().tag(sync=True)
    map_model = Unicode().tag(sync=True)
    redrawn = Int(0).tag(sync=True)

    def describe(self, colours: Colouring, shown: NDArray[np.int64] | None = None) -> None:
        """Show the legend of ``colours``; its counts are of the rows ``shown``, of all points when None."""
        counts: tuple[int | None, ...] = colours.counts or (None,) * len(colours.labels)
        if shown is not None and not colours.continuous:
            counts = tuple(_counts(colours, shown))
        with self.hold_sync():
            self.filtered = shown is not None
            self.title = title_of(colours.column)
            self.continuous = colours.continuous
            self.entries = [
                {"label": label, "short": short, "colour": colour, "count": count}
                for label, short, colour, count in zip(
                    colours.labels, short_names(colours.labels), colours.colours, counts, strict=True
                )
            ]
            self.note = f"{colours.missing:,} without a value, drawn as the lowest" if colours.missing else ""

    def count(self, colours: Colouring, rows: NDArray[np.int64]) -> None:
        """Show how many of each entry are selected."""
        self.chosen = _counts(colours, rows) if len(rows) else []

    def hover(self, picture: bytes, text: str) -> None:
        """Show the point under the mouse."""
        with self.hold_sync():
            self.hover_picture, self.hover_text = picture, text


class CropMosaic(PlainWidget):
    """What is selected: how many, of which classes, and pictures of them.

    Attributes:
        headline: "120 of 2,000 selected".
        parts: one {label, colour, count} per class in the selection.
        pictures: encoded images, sent as binary.
        titles: the hover text of each picture.
        note: how many of the selection are shown.
    """

    _esm = STATIC / "crop_mosaic.js"
    _css = STATIC / "cluster_map.css"

    headline = Unicode("Nothing selected").tag(sync=True)
    parts = List(Dict()).tag(sync=True)
    pictures = List(Bytes()).tag(sync=True)
    titles = List(Unicode()).tag(sync=True)
    note = Unicode().tag(sync=True)

    def announce(self, selected: int, total: int, colours: Colouring, rows: NDArray[np.int64]) -> None:
        """Show the counts at once; pictures may take a while to load."""
        counts = _counts(colours, rows)
        with self.hold_sync():
            self.headline = f"{selected:,} of {total:,} selected" if selected else "Nothing selected"
            self.parts = [
                {"label": label, "colour": colour, "count": count}
                for label, colour, count in zip(colours.labels, colours.colours, counts, strict=False)
                if count
            ]
            self.pictures, self.titles, self.note = [], [], ""

    def fill(self, pictures: list[bytes], titles: list[str], selected: int) -> None:
        """Show the pictures of a sample of the selection."""
        with self.hold_sync():
            self.pictures, self.titles = pictures, titles
            self.note = f"{len(pictures)} of {selected:,} shown" if len(pictures) < selected else ""
