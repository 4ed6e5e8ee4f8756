"""What the split explorer shows, as a still picture for headless runs: the map in the colours of the parts, and the
balance of the split beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from obdb_lib.split_draft import Balance, SplitDraft, SplitNumbers
from widgets.map_picture import DPI, INK, draw_points, picture_of
from widgets.palette import PART_COLOURS, part_colouring
from widgets.split_explorer import frames_of_points
from widgets.split_views import LEAKS, Record, balance_rows, frame_rows, why_unknown

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
    _draw_summary(figure.add_subplot(grid[0, 1]), numbers, draft.target)
    _draw_balance(figure.add_subplot(grid[1, 1]), numbers.classes, draft.target, "Classes", by_size=True)
    clusters = figure.add_subplot(grid[2, 1])
    if numbers.clusters is None:
        clusters.set_axis_off()
    else:
        _draw_balance(clusters, numbers.clusters, draft.target, "Clusters", by_size=False)
    return picture_of(figure)


def _draw_summary(axes: Axes, numbers: SplitNumbers, target: dict[str, float]) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    left = wanted = 0.0
    for place, row in enumerate(frame_rows(numbers, numbers, target)):
        axes.barh(0.93, row["share"], left=left, height=0.1, color=row["colour"])
        left, wanted = left + row["share"], wanted + row["target"]
        if row["target"] and wanted < 1 - 1e-6:
            axes.plot([wanted, wanted], [0.86, 1.0], color=INK, linewidth=1.6)
        axes.plot(place * 0.25 + 0.01, 0.78, "o", color=row["colour"], markersize=7)
        axes.text(place * 0.25 + 0.03, 0.78, f"{row['part']} {row['count']:,}", color=INK, fontsize=10, va="center")
        if row["share"] or row["target"]:
            shade = WARN if row["note"] else MUTED
            text = f"{row['share']:.1%}" + (f"\nwanted {row['target']:.0%}" if row["target"] else "")
            axes.text(place * 0.25 + 0.03, 0.71, text, color=shade, fontsize=8.5, va="top")
    for number, (name, text, _) in enumerate(LEAKS):
        value, test, height = numbers.worst("val", name), numbers.worst("test", name), 0.36 - 0.16 * number
        shown = why_unknown(numbers, "val") if value is None else f"{value:.1%} of val"
        if test is not None:
            shown += f", {test:.1%} of test"
        shade = MUTED if value is None else WARN if value or test else GOOD
        axes.text(0, height, f"Leak: {text.lower()}", color=INK, fontsize=10, va="center")
        axes.text(1, height, shown, color=shade, fontsize=10, va="center", ha="right", weight="bold")


def _draw_balance(axes: Axes, balance: Balance, target: dict[str, float], title: str, *, by_size: bool) -> None:
    told = balance_rows(balance, balance, target, by_size=by_size)
    wanted = told["target"]
    rows = _worth_showing(told["rows"], wanted)
    more = len(told["rows"]) - len(rows)
    mix = f"no boxes in {told['empty']}" if told["empty"] else f"mix off by {told['jsd']:.4f} bit"
    note = mix + (f"; {more} closer ones not shown" if more else "")
    axes.set_title(note, loc="right", color=MUTED, fontsize=9)
    shares = [row["share"] for row in rows]
    scale, places = told["scale"], np.arange(len(rows))
    axes.barh(places, scale, color=TRACK, height=0.62)
    axes.barh(places, np.minimum(shares, scale), color=PART_COLOURS["val"], height=0.62)
    axes.axvline(wanted, color=INK, linewidth=1.6)
    tests = [row["test"] for row in rows]
    tested = bool(told["test_target"] or any(tests))
    if tested:
        axes.barh(places + 0.22, np.minimum(tests, scale), color=PART_COLOURS["test"], height=0.18)
    if told["test_target"]:
        axes.axvline(told["test_target"], color=GOOD, linewidth=1.2, linestyle="--")
    axes.set_title(f"{title}, share in val{' and test' if tested else ''}", loc="left", color=INK, fontsize=11)
    size = 9 if len(rows) <= 10 else 7
    for place, row in enumerate(rows):
        # The bars of classes and clusters have one scale; what goes beyond its end says so.
        text = f"{row['share']:.1%}{' »' if row['share'] > scale else ''}"
        axes.text(scale * 1.02, place, text, color=WARN if row["note"] else INK, fontsize=size, va="center")
        if tested:
            shade = WARN if row["test_note"] else GOOD
            axes.text(scale * 1.17, place, f"{row['test']:.1%}", color=shade, fontsize=size, va="center")
    ticks = {wanted: f"wanted {wanted:.0%}"}
    if told["test_target"]:
        ticks.setdefault(told["test_target"], f"test {told['test_target']:.0%}")
    axes.set(xlim=(0, scale * (1.3 if tested else 1.14)), xticks=list(ticks), xticklabels=list(ticks.values()))
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
