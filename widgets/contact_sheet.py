"""The review queue as one still picture, for headless runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from obdb_lib.errors import ReviewError
from widgets._base import sentence
from widgets._pictures import Pixels, around
from widgets.palette import BLUE, GREEN, ORANGE, VERMILION

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
    if not shown:
        sheet = Image.new("RGB", (420, 40), PAPER)
        ImageDraw.Draw(sheet).text((12, 12), "There is nothing to review: the queue has no suggestions.", INK, font(13))
        return sheet
    left_out = len(suggestions) - len(shown)
    tiles = (tile(one, cropped(one, load_frame), verdicts.get(str(one["_id"]), "")) for one in shown)
    return grid(tiles, len(shown), columns, foot=f"{left_out:,} more are not shown" if left_out else "")


def grid(tiles: Iterable[Image.Image], count: int, columns: int, *, head: str = "", foot: str = "") -> Image.Image:
    """``count`` tiles (at least one) in rows, with a line of text above and below where there is one."""
    wide = min(columns, count)
    rows = -(-count // wide)
    above, below = (CAPTION_PX if text else 0 for text in (head, foot))
    height = rows * (TILE_PX + CAPTION_PX + GAP_PX) + GAP_PX + above
    sheet = Image.new("RGB", (wide * (TILE_PX + GAP_PX) + GAP_PX, height + below), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, picture in enumerate(tiles):
        row, column = divmod(place, wide)
        left, top = GAP_PX + column * (TILE_PX + GAP_PX), above + GAP_PX + row * (TILE_PX + CAPTION_PX + GAP_PX)
        sheet.paste(picture, (left, top))
    for text, top in ((head, 8), (foot, height + 8)):
        draw.text((GAP_PX, top), fitted(draw, text, 13, sheet.width - 2 * GAP_PX), INK, font(13))
    return sheet


def _verdicts(decisions: Mapping[str, Record] | Sequence[Record] | None) -> dict[str, str]:
    if decisions is None:
        return {}
    if isinstance(decisions, Mapping):
        return {str(name): str(record["verdict"]) for name, record in decisions.items()}
    return {str(record["suggestion_id"]): str(record["verdict"]) for record in decisions}


def cropped(one: Record, load_frame: Callable[[str], Pixels]) -> Image.Image | str:
    """The box with its surroundings, TILE_PX square, or a sentence that says why it cannot be shown.

    The proposed box is orange; where the suggestion concerns an annotation, that one is blue.
    """
    try:
        return _crop(one, load_frame(str(one["img_path"])))
    except Exception as error:
        return f"cannot be shown: {sentence(error)}"


def tile(one: Record, crop: Image.Image | str, verdict: str) -> Image.Image:
    """One suggestion with its verdict, TILE_PX wide, and a caption below."""
    picture = Image.new("RGB", (TILE_PX, TILE_PX + CAPTION_PX), PAPER)
    draw = ImageDraw.Draw(picture)
    word, colour = MARKS.get(verdict, ("", "#DDDDDD"))
    if isinstance(crop, str):
        draw.rectangle((0, 0, TILE_PX, TILE_PX), fill="#F2F2F2")
        draw.multiline_text((8, 28), _wrapped(crop, 24), INK, font(11))
    else:
        picture.paste(crop, (0, 0))
    draw.rectangle((0, 0, TILE_PX - 1, TILE_PX - 1), outline=colour, width=LINE_WIDTHS.get(verdict, 1))
    if word:
        _badge(draw, word, colour)
    score, probability = one.get("score"), one.get("probability")
    caption = proposal(one) + (f"  {float(score):.2f}" if score is not None else "")
    caption += f"  p {float(probability):.2f}" if probability is not None else ""
    draw.text((2, TILE_PX + 2), fitted(draw, caption, 12), INK, font(12))
    where = ", ".join(filter(None, [f"frame {one['frame']}" if "frame" in one else "", str(one.get("task_name", ""))]))
    draw.text((2, TILE_PX + 18), fitted(draw, where, 10), MUTED, font(10))
    return picture


def proposal(one: Record) -> str:
    """What accepting the suggestion means, in few words."""
    name, before = str(one["object_class"]), str(one.get("annotation_class") or "?")
    words = {"swapped_class": f"{name}, not {before}", "bad_location": f"move {name}", "spurious": f"remove {name}"}
    return words.get(str(one.get("kind", "")), name)


def _crop(one: Record, pixels: Pixels) -> Image.Image:
    height, width = pixels.shape[:2]
    annotated = one.get("annotation_points")
    corners = [one["points"], *([annotated] if annotated else [])]
    whole = [pick(box[side] for box in corners) for side, pick in enumerate((min, min, max, max))]
    x1, y1, x2, y2 = around(whole, CONTEXT_SCALE, CONTEXT_LEAST_PX, width, height)
    factor = TILE_PX / max(x2 - x1, y2 - y1, 1.0)
    part = Image.fromarray(pixels).crop((int(x1), int(y1), int(x2), int(y2)))
    part = part.resize((max(1, round(part.width * factor)), max(1, round(part.height * factor))))
    square = Image.new("RGB", (TILE_PX, TILE_PX), "#2B2B2B")
    square.paste(part, (0, 0))
    draw = ImageDraw.Draw(square)
    # The annotation is drawn first and wider, so that both are seen; to remove it, nothing is proposed in its place.
    proposed = None if annotated and one.get("kind") == "spurious" else one["points"]
    for points, colour, thick in [(annotated, BLUE, 4), (proposed, ORANGE, 2)]:
        if points:
            box = [(value - offset) * factor for value, offset in zip(points, (x1, y1, x1, y1), strict=True)]
            draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline="#000000", width=thick + 2)
            draw.rectangle(tuple(box), outline=colour, width=thick)
    return square


def _badge(draw: ImageDraw.ImageDraw, word: str, colour: str) -> None:
    width = draw.textlength(word, font(11)) + 10
    draw.rectangle((TILE_PX - width, 0, TILE_PX, 18), fill=colour)
    draw.text((TILE_PX - width + 5, 3), word, PAPER, font(11))


def fitted(draw: ImageDraw.ImageDraw, text: str, size: int, width: float = TILE_PX - 4) -> str:
    """The text, cut to ``width`` pixels."""
    while text and draw.textlength(text, font(size)) > width:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    return text


def _wrapped(text: str, width: int) -> str:
    return "\n".join(text[start : start + width] for start in range(0, min(len(text), width * 8), width))


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, the same on every machine."""
    return ImageFont.load_default(size=size)
