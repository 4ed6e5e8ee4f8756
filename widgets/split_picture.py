"""What the split explorer shows, as a still picture for headless runs: the map in the colours of the parts, and the
balance of the split beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from obdb_lib.split_draft import Balance, SplitDraft, SplitNumbers
from obdb_lib.splits import PARTS
from widgets.map_picture import DPI, INK, draw_points, picture_of
from widgets.palette import PART_COLOURS, part_colouring
from widgets.split_explorer import frames_of_points
from widgets.split_views import LEAKS, Record, balance_rows

SIZE_INCHES = (12.8, 6.6)
MAX_ROWS = 16
"""More classes or clusters than this are cut off: those that miss their wanted share by most are shown."""

MAX_NAME = 22
MUTED, WARN, GOOD, TRACK = "#555555", "#A84300", "#00664A", "#EEEEEE"


def split_picture(points: pd.DataFrame, draft: SplitDraft, *, title: str | None = None) -> Image.Image:
    """Draw the split as it stands as an RGB picture of 1280 x 660 pixels.

    Args:
        points: columns x, y and img_path, one row an annotation.

    Raises:
        DatasetError: img_path is not a column, or no point is on a frame of the split.
    """
    codes = np.append(draft.part_codes, -1)[frames_of_points(points, draft)].astype(np.int32)
    colours, numbers = part_colouring("split", codes), draft.numbers()
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white", layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=[1.25, 1], height_ratios=[0.62, 1, 1])
    axes = figure.add_subplot(grid[:, 0])
    draw_points(axes, points, colours)
    edits = len(draft.edits)
    done = f"{edits} edit{'' if edits == 1 else 's'}" if edits else "no edits"
    axes.set_title(
        title or f"Split by {draft.split.strategy.replace('_', ' ')}, {done}", loc="left", color=INK, fontsize=13
    )
    _draw_summary(figure.add_subplot(grid[0, 1]), numbers)
    _draw_balance(figure.add_subplot(grid[1, 1]), numbers.classes, draft.target, "Classes", by_size=True)
    clusters = figure.add_subplot(grid[2, 1])
    if numbers.clusters is None:
        clusters.set_axis_off()
    else:
        _draw_balance(clusters, numbers.clusters, draft.target, "Clusters", by_size=False)
    return picture_of(figure)


def _draw_summary(axes: Axes, numbers: SplitNumbers) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    total = sum(numbers.frames.values()) or 1
    left = 0.0
    for place, part in enumerate(PARTS):
        share = numbers.frames[part] / total
        axes.barh(0.93, share, left=left, height=0.1, color=PART_COLOURS[part])
        left += share
        axes.plot(place * 0.25 + 0.01, 0.78, "o", color=PART_COLOURS[part], markersize=7)
        axes.text(place * 0.25 + 0.03, 0.78, f"{part} {numbers.frames[part]:,}", color=INK, fontsize=10, va="center")
        axes.text(place * 0.25 + 0.03, 0.65, f"{share:.1%} of frames", color=MUTED, fontsize=8.5, va="center")
    for row, (name, text, _) in enumerate(LEAKS):
        value, test, height = numbers.worst("val", name), numbers.worst("test", name), 0.42 - 0.17 * row
        shown = "not known" if value is None else f"{value:.1%} of val"
        if test is not None:
            shown += f", {test:.1%} of test"
        shade = MUTED if value is None else WARN if value or test else GOOD
        axes.text(0, height, f"Leak: {text.lower()}", color=INK, fontsize=10, va="center")
        axes.text(1, height, shown, color=shade, fontsize=10, va="center", ha="right", weight="bold")


def _draw_balance(axes: Axes, balance: Balance, target: dict[str, float], title: str, *, by_size: bool) -> None:
    told = balance_rows(balance, balance, target, by_size=by_size)
    wanted = told["target"]
    rows = _worth_showing(told["rows"], wanted)
    axes.set_title(f"{title}, share in val", loc="left", color=INK, fontsize=11)
    more = len(told["rows"]) - len(rows)
    note = f"mix off by {told['jsd']:.4f} bit" + (f"; {more} closer ones not shown" if more else "")
    axes.set_title(note, loc="right", color=MUTED, fontsize=9)
    shares = [row["share"] for row in rows]
    scale = max(1.25 * wanted, 1.1 * max(shares, default=0.0), 0.01)
    places = np.arange(len(rows))
    axes.barh(places, scale, color=TRACK, height=0.62)
    axes.barh(places, shares, color=PART_COLOURS["val"], height=0.62)
    axes.axvline(wanted, color=INK, linewidth=1.6)
    size = 9 if len(rows) <= 10 else 7
    for place, row in enumerate(rows):
        axes.text(
            scale * 1.02, place, f"{row['share']:.1%}", color=WARN if row["note"] else INK, fontsize=size, va="center"
        )
    axes.set(xlim=(0, scale * 1.12), xticks=[wanted], xticklabels=[f"wanted {wanted:.0%}"])
    axes.set_yticks(places, [_short(row["label"]) for row in rows], fontsize=size, color=INK)
    axes.tick_params(length=0, labelsize=size)
    axes.invert_yaxis()
    for side in axes.spines.values():
        side.set_visible(False)


def _worth_showing(rows: list[Record], wanted: float) -> list[Record]:
    far = sorted(rows, key=lambda row: -abs(row["share"] - wanted))[:MAX_ROWS]
    kept = {id(row) for row in far}
    return [row for row in rows if id(row) in kept]


def _short(label: str) -> str:
    """Long names often differ at their end, so the middle is left out."""
    half = MAX_NAME // 2
    return label if len(label) <= MAX_NAME else f"{label[: half - 1]}…{label[-half:]}"
