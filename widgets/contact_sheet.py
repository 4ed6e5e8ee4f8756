"""The review queue as one still picture, for headless runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from obdb_lib.errors import ReviewError
from widgets._base import sentence
from widgets._pictures import Pixels, around
from widgets.palette import GREEN, ORANGE, VERMILION

Record = dict[str, Any]

TILE_PX = 160
CAPTION_PX = 34
GAP_PX = 6
CONTEXT_SCALE = 2.4
CONTEXT_LEAST_PX = 48.0
SHEET_LIMIT = 400
"""More tiles than this make a picture too large to look at; a headless run shows the first ones."""

INK, PAPER, MUTED = "#222222", "#FFFFFF", "#6B6B6B"
MARKS = {"accept": ("accepted", GREEN), "reject": ("rejected", VERMILION), "skip": ("skipped", MUTED)}
LINE_WIDTHS = {"accept": 4, "reject": 4, "skip": 2, "": 1}


def contact_sheet(
    suggestions: Sequence[Record],
    load_frame: Callable[[str], Pixels],
    decisions: Mapping[str, Record] | Sequence[Record] | None = None,
    columns: int = 8,
) -> Image.Image:
    """Tiles of the suggested boxes with class, score and verdict, RGB.

    Args:
        suggestions: as for BoxReview; at most ``SHEET_LIMIT`` are drawn.
        load_frame: the frame as (H, W, 3) uint8 RGB, by img_path; a frame that fails gets a tile that says so.
        decisions: suggestion id -> decision, or records with ``suggestion_id`` and ``verdict``.
        columns: tiles in a row, at least 1.

    Raises:
        ReviewError: ``columns`` is below 1.
    """
    if columns < 1:
        raise ReviewError(f"a contact sheet needs at least one column; got {columns}")
    verdicts = _verdicts(decisions)
    shown = list(suggestions[:SHEET_LIMIT])
    wide = min(columns, max(len(shown), 1))
    rows = max(-(-len(shown) // wide), 1)
    left_out = len(suggestions) - len(shown)
    foot = CAPTION_PX if left_out else 0
    size = (wide * (TILE_PX + GAP_PX) + GAP_PX, rows * (TILE_PX + CAPTION_PX + GAP_PX) + GAP_PX + foot)
    sheet = Image.new("RGB", (max(size[0], 420) if not shown else size[0], size[1] if shown else 40), PAPER)
    draw = ImageDraw.Draw(sheet)
    if not shown:
        draw.text((12, 12), "There is nothing to review: the queue has no suggestions.", INK, _font(13))
        return sheet
    for (row, column), one in zip(((n // wide, n % wide) for n in range(len(shown))), shown, strict=True):
        corner = (GAP_PX + column * (TILE_PX + GAP_PX), GAP_PX + row * (TILE_PX + CAPTION_PX + GAP_PX))
        sheet.paste(_tile(one, load_frame, verdicts.get(str(one["_id"]), "")), corner)
    if left_out:
        draw.text((GAP_PX, size[1] - CAPTION_PX + 8), f"{left_out:,} more are not shown", INK, _font(13))
    return sheet


def _verdicts(decisions: Mapping[str, Record] | Sequence[Record] | None) -> dict[str, str]:
    if decisions is None:
        return {}
    if isinstance(decisions, Mapping):
        return {str(name): str(record["verdict"]) for name, record in decisions.items()}
    return {str(record["suggestion_id"]): str(record["verdict"]) for record in decisions}


def _tile(one: Record, load_frame: Callable[[str], Pixels], verdict: str) -> Image.Image:
    tile = Image.new("RGB", (TILE_PX, TILE_PX + CAPTION_PX), PAPER)
    draw = ImageDraw.Draw(tile)
    word, colour = MARKS.get(verdict, ("", "#DDDDDD"))
    try:
        tile.paste(_crop(one, load_frame(str(one["img_path"]))), (0, 0))
    except Exception as error:
        draw.rectangle((0, 0, TILE_PX, TILE_PX), fill="#F2F2F2")
        draw.multiline_text((8, 28), _wrapped(f"cannot be shown: {sentence(error)}", 24), INK, _font(11))
    draw.rectangle((0, 0, TILE_PX - 1, TILE_PX - 1), outline=colour, width=LINE_WIDTHS.get(verdict, 1))
    if word:
        _badge(draw, word, colour)
    score = one.get("score")
    caption = str(one["object_class"]) + (f"  {float(score):.2f}" if score is not None else "")
    draw.text((2, TILE_PX + 2), _fitted(draw, caption, 12), INK, _font(12))
    where = ", ".join(filter(None, [f"frame {one['frame']}" if "frame" in one else "", str(one.get("task_name", ""))]))
    draw.text((2, TILE_PX + 18), _fitted(draw, where, 10), MUTED, _font(10))
    return tile


def _crop(one: Record, pixels: Pixels) -> Image.Image:
    """The box with its surroundings, scaled to a tile, the box drawn in."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = around(one["points"], CONTEXT_SCALE, CONTEXT_LEAST_PX, width, height)
    factor = TILE_PX / max(x2 - x1, y2 - y1, 1.0)
    part = Image.fromarray(pixels).crop((int(x1), int(y1), int(x2), int(y2)))
    part = part.resize((max(1, round(part.width * factor)), max(1, round(part.height * factor))))
    square = Image.new("RGB", (TILE_PX, TILE_PX), "#2B2B2B")
    square.paste(part, (0, 0))
    box = [(value - offset) * factor for value, offset in zip(one["points"], (x1, y1, x1, y1), strict=True)]
    draw = ImageDraw.Draw(square)
    draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline="#000000", width=4)
    draw.rectangle(tuple(box), outline=ORANGE, width=2)
    return square


def _badge(draw: ImageDraw.ImageDraw, word: str, colour: str) -> None:
    font = _font(11)
    width = draw.textlength(word, font) + 10
    draw.rectangle((TILE_PX - width, 0, TILE_PX, 18), fill=colour)
    draw.text((TILE_PX - width + 5, 3), word, PAPER, font)


def _fitted(draw: ImageDraw.ImageDraw, text: str, size: int) -> str:
    font = _font(size)
    while text and draw.textlength(text, font) > TILE_PX - 4:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    return text


def _wrapped(text: str, width: int) -> str:
    return "\n".join(text[start : start + width] for start in range(0, min(len(text), width * 8), width))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
