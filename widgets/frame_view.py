"""Frames with boxes drawn on them: a browser for the lab, a sheet of pictures for headless runs."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePosixPath

import ipywidgets
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from obdb_lib.boxes import BoxSet
from obdb_lib.errors import ObdbError
from widgets._boxes import LAYER_COLOURS, draw_boxes, wrong_boxes
from widgets._pictures import jpeg, shrink

Pixels = NDArray[np.uint8]
Layers = Mapping[str, Callable[[str], BoxSet]]

BROWSER_PX = (1100, 640)
TILE_PX = (460, 300)
THICK = ("thick: missed or taken for another class", "thick: false or of another class")
"""What is told of the thick boxes of annotations and of detections."""
_BAR_PX = 18
_GAP_PX = 6


def draw_frame(
    img_path: str,
    load_frame: Callable[[str], Pixels],
    layers: Layers,
    size: tuple[int, int],
    *,
    beside: bool = False,
    hidden: Collection[str] = (),
) -> Image.Image:
    """A frame shrunk to fit ``size`` with one colour for each layer of boxes; an unreadable one says so.

    Args:
        beside: draw each layer on a picture of its own, side by side under its name, together as wide as ``size``. Of
            two layers, boxes that have a partner of their class on the other side are thin, the others thick.
        hidden: layers whose boxes are not drawn.
    """
    try:
        full = Image.fromarray(load_frame(img_path))
    except ObdbError as error:
        picture = Image.new("RGB", size, "white")
        ImageDraw.Draw(picture).text((10, 10), str(error)[:300], "black")
        return picture
    if not beside or len(layers) < 2:
        picture = shrink(full, *size).convert("RGB")
        for number, (name, boxes) in enumerate(layers.items()):
            if name not in hidden:
                draw_boxes(picture, boxes(img_path), number, picture.width / full.width)
        return picture
    found = [boxes(img_path) for boxes in layers.values()]
    wrong = wrong_boxes(*found) if len(found) == 2 else [None] * len(found)
    width = (size[0] - _GAP_PX * (len(layers) - 1)) // len(layers)
    plain = shrink(full, width, size[1] - _BAR_PX).convert("RGB")
    wide = plain.width + _GAP_PX
    sheet = Image.new("RGB", (wide * len(layers) - _GAP_PX, plain.height + _BAR_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(layers):
        picture = plain.copy()
        if name not in hidden:
            draw_boxes(picture, found[number], number, picture.width / full.width, wrong[number])
        sheet.paste(picture, (number * wide, _BAR_PX))
        draw.rectangle((number * wide, 3, number * wide + 12, 15), fill=LAYER_COLOURS[number % len(LAYER_COLOURS)])
        told = f" ({THICK[number]})" if len(found) == 2 else ""
        draw.text((number * wide + 18, 4), f"{name}: {len(found[number])}{told}", "black")
    return sheet


def frame_sheet(
    img_paths: Sequence[str],
    *,
    load_frame: Callable[[str], Pixels],
    layers: Layers,
    columns: int = 3,
    beside: bool = False,
    notes: Mapping[str, str] | None = None,
) -> Image.Image:
    """Some frames with their boxes, each with its file name and, where there is one, its note.

    Args:
        beside: each layer on a picture of its own, side by side, instead of all on one.
        notes: img_path -> a few words.
    """
    size = (TILE_PX[0] * (2 if beside else 1), TILE_PX[1])
    tiles = [draw_frame(img_path, load_frame, layers, size, beside=beside) for img_path in img_paths]
    tallest = max((tile.height for tile in tiles), default=0)
    widest = size[0] if not beside else max((tile.width for tile in tiles), default=size[0])
    wide, high = widest + 6 + (12 if beside else 0), tallest + _BAR_PX + 6
    rows = -(-max(len(tiles), 1) // columns)
    sheet = Image.new("RGB", (wide * min(columns, max(len(tiles), 1)), high * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (img_path, tile) in enumerate(zip(img_paths, tiles, strict=True)):
        left, top = number % columns * wide, number // columns * high
        note = (notes or {}).get(img_path, "")
        draw.text((left + 2, top + 2), PurePosixPath(img_path).name + (f": {note}" if note else ""), "black")
        sheet.paste(tile, (left, top + _BAR_PX))
    if not tiles:
        draw.text((10, 10), "There are no frames to show.", "black")
    return sheet


class FrameBrowser(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets is untyped
    """Step through frames with their boxes.

    Args:
        img_paths: frames in the order they are shown.
        load_frame: the frame as (H, W, 3) uint8 RGB, by img_path.
        layers: name -> boxes of a frame; each layer has its colour and can be switched off. The first shows class
            names, later ones scores, too.
        beside: each layer on a picture of its own, side by side, instead of all on one.
        notes: img_path -> a few words shown beside its name.
    """

    def __init__(
        self,
        img_paths: Sequence[str],
        *,
        load_frame: Callable[[str], Pixels],
        layers: Layers,
        beside: bool = False,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._paths, self._load, self._layers = list(img_paths), load_frame, layers
        self._beside, self._notes = beside, dict(notes or {})
        self._place = ipywidgets.IntSlider(
            0, 0, max(len(self._paths) - 1, 0), description="frame", readout=False, layout={"width": "360px"}
        )
        self._back = ipywidgets.Button(icon="arrow-left", tooltip="previous frame", layout={"width": "40px"})
        self._next = ipywidgets.Button(icon="arrow-right", tooltip="next frame", layout={"width": "40px"})
        self._shown = [
            ipywidgets.Checkbox(True, description=name, indent=False, layout={"width": "auto"}) for name in layers
        ]
        keys = [
            ipywidgets.HTML(f'<span style="color:{LAYER_COLOURS[i % 4]};font-size:18px">&#9632;</span>')
            for i in range(len(self._shown))
        ]
        legend = [part for pair in zip(keys, self._shown, strict=True) for part in pair]
        self._text = ipywidgets.HTML()
        self._image = ipywidgets.Image(format="jpeg", layout={"max_width": "100%", "align_self": "flex-start"})
        super().__init__([ipywidgets.HBox([self._back, self._next, self._place, *legend]), self._text, self._image])
        self._place.observe(self._draw, names="value")
        for box in self._shown:
            box.observe(self._draw, names="value")
        self._back.on_click(lambda _: self._step(-1))
        self._next.on_click(lambda _: self._step(1))
        self._draw()

    @property
    def img_path(self) -> str:
        """The frame that is shown; "" when there are none."""
        return self._paths[self._place.value] if self._paths else ""

    def show_frames(self, img_paths: Sequence[str], notes: Mapping[str, str] | None = None) -> None:
        """Other frames to step through, the first one at once."""
        self._paths, self._notes = list(img_paths), dict(notes or {})
        before = self._place.value
        self._place.max = max(len(self._paths) - 1, 0)
        self._place.value = 0
        if before == 0:
            self._draw()

    def on_frame(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(img_path)`` whenever a person steps to another frame."""
        self._place.observe(lambda _: callback(self.img_path), names="value")

    def go_to(self, img_path: str) -> None:
        """Show one of the frames; one that is not among them changes nothing."""
        if img_path in self._paths:
            self._place.value = self._paths.index(img_path)

    def _step(self, by: int) -> None:
        self._place.value = min(max(self._place.value + by, 0), self._place.max)

    def _draw(self, *_: object) -> None:
        if not self._paths:
            self._text.value = "There are no frames to show."
            return
        img_path = self._paths[self._place.value]
        hidden = [name for name, box in zip(self._layers, self._shown, strict=True) if not box.value]
        counts = ", ".join(f"{len(boxes(img_path))} {name}s" for name, boxes in self._layers.items())
        note = self._notes.get(img_path)
        told = f"{note}; {counts}" if note else counts
        place = f"{self._place.value + 1} of {len(self._paths)}"
        self._text.value = f"{place} &nbsp; <b>{html.escape(img_path)}</b> &nbsp; {html.escape(told)}"
        self._image.value = jpeg(
            draw_frame(img_path, self._load, self._layers, BROWSER_PX, beside=self._beside, hidden=hidden)
        )
