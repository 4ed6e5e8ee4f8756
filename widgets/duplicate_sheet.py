"""Groups of twins as one still picture, and the weakest proofs, since that is where mistakes are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from obdb_lib.errors import FrameError, ReviewError
from widgets._pictures import Pixels

TILE_PX = 112
GAP_PX = 4
LINE_PX = 15
LABEL_PX = 96
PER_ROW = 8
"""Frames shown of a group; the row says how many more there are."""
PAIRS_A_ROW = 4
INK, MUTED, PAPER = "#222222", "#6B6B6B", "#FFFFFF"


class Groups(Protocol):
    """What duplicates.DuplicateGroups offers."""

    groups: pd.Series
    pairs: pd.DataFrame


def duplicate_sheet(
    found: Groups,
    load_frame: Callable[[str], Pixels],
    *,
    rows: int = 8,
    pairs: int = 12,
    seed: int = 0,
) -> Image.Image:
    """Some groups, a row each (the largest first, then ones drawn at random), and below them the weakest proven pairs.

    Args:
        load_frame: the frame as (H, W, 3) uint8 RGB, by img_path (``frames.load``); one that fails is shown as a note.
        rows, pairs: how many groups and pairs at most, 0 or more.

    Raises:
        ReviewError: ``rows`` or ``pairs`` below 0.
    """
    if rows < 0 or pairs < 0:
        raise ReviewError(f"a sheet of twins needs 0 or more rows and pairs; got rows={rows}, pairs={pairs}")
    groups = _chosen(found.groups, rows, seed)
    weakest = found.pairs.sort_values("correlation", kind="stable").head(pairs)
    weak_rows = -(-len(weakest) // PAIRS_A_ROW)
    row_height = TILE_PX + LINE_PX + GAP_PX
    width = max(LABEL_PX + PER_ROW * (TILE_PX + GAP_PX), PAIRS_A_ROW * _pair_width()) + GAP_PX
    top = 2 * LINE_PX
    height = (top + len(groups) * row_height) + (top + weak_rows * row_height)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    total = int((found.groups.value_counts() > 1).sum())
    draw.text((GAP_PX, GAP_PX), f"{len(groups)} of {total} groups of twins", INK, _font(13))
    for number, (name, members) in enumerate(groups.items()):
        _draw_group(sheet, draw, top + number * row_height, str(name), members, load_frame)
    below = top + len(groups) * row_height
    title = f"The {len(weakest)} weakest of {len(found.pairs)} proven pairs"
    draw.text((GAP_PX, below + GAP_PX), title, INK, _font(13))
    for number, (_, pair) in enumerate(weakest.iterrows()):
        row, column = divmod(number, PAIRS_A_ROW)
        corner = (GAP_PX + column * _pair_width(), below + top + row * row_height)
        _draw_pair(sheet, draw, corner, pair, load_frame)
    return sheet


def _chosen(groups: pd.Series, rows: int, seed: int) -> dict[object, list[str]]:
    sizes = groups.value_counts()
    several = sizes[sizes > 1]
    largest = list(several.index[: rows // 2])
    others = several.drop(largest)
    drawn = list(others.sample(min(rows - len(largest), len(others)), random_state=seed).index)
    return {name: [str(path) for path in groups.index[groups == name]] for name in [*largest, *drawn]}


def _draw_group(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    top: int,
    name: str,
    members: list[str],
    load_frame: Callable[[str], Pixels],
) -> None:
    draw.text((GAP_PX, top + 4), f"group {name}\n{len(members)} frames", INK, _font(12))
    if len(members) > PER_ROW:
        draw.text((GAP_PX, top + 4 + 3 * LINE_PX), f"{PER_ROW} shown", MUTED, _font(11))
    for column, img_path in enumerate(members[:PER_ROW]):
        left = LABEL_PX + column * (TILE_PX + GAP_PX)
        sheet.paste(_tile(img_path, load_frame), (left, top))
        draw.text((left, top + TILE_PX), _fitted(draw, img_path, TILE_PX), MUTED, _font(10))


def _draw_pair(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    pair: pd.Series,
    load_frame: Callable[[str], Pixels],
) -> None:
    left, top = corner
    for column, img_path in enumerate((str(pair["first"]), str(pair["second"]))):
        sheet.paste(_tile(img_path, load_frame), (left + column * (TILE_PX + 1), top))
    words = f"{pair['kind']}  r {pair['correlation']:.2f}"
    if "matches" in pair:
        words += f"  m {pair['matches']}  ov {pair['overlap']:.2f}" + ("  mirrored" if pair["mirrored"] else "")
    draw.text((left, top + TILE_PX), _fitted(draw, words, 2 * TILE_PX), MUTED, _font(10))


def _pair_width() -> int:
    return 2 * TILE_PX + 1 + 3 * GAP_PX


def _tile(img_path: str, load_frame: Callable[[str], Pixels]) -> Image.Image:
    tile = Image.new("RGB", (TILE_PX, TILE_PX), "#F2F2F2")
    try:
        picture = Image.fromarray(load_frame(img_path))
    except FrameError:
        ImageDraw.Draw(tile).multiline_text((6, 40), "cannot be\nread", INK, _font(12))
        return tile
    picture.thumbnail((TILE_PX, TILE_PX))
    tile.paste(picture, ((TILE_PX - picture.width) // 2, (TILE_PX - picture.height) // 2))
    return tile


def _fitted(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The end of a text tells frames apart, so what is cut off is the beginning."""
    font = _font(10)
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength("…" + text, font) > width:
        text = text[1:]
    return "…" + text


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
