"""What a split is worth, in one picture: leaks on top, fairness below."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from obdb_lib.errors import SplitError
from widgets.charts import HEAD_PX, INK, LEGEND_PX, MUTED, house_style
from widgets.palette import BLUE, PART_COLOURS, PURPLE

ROW_PX, GAP_PX, BOTTOM_PX = 270, 92, 24
"""Height of a row of panels, of what lies between two, and below the last; fixed, so that texts never overlap."""
JUDGING = ("val", "test")
BAD = "bad"
LEAKS = (
    ("near_duplicates", "a near copy"),
    ("adjacent", "the neighbouring keyframe"),
    ("video", "the same video"),
    ("session", "the same session"),
)
"""What of a val frame may be in train, from worst to mildest."""
NOT_KNOWN = "not known"
GAPS_AXIS = "frame numbers (none: train lacks the video)"
OUTLIERS = "-1"
"""Name of what is in no cluster."""
ROOM = 1.45
"""Height of the panel of nearest crops over its highest point: its legend lies above the lines."""
SIZE_TICKS = [5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000]
MOST_BARS = 16
"""More classes or clusters than this share one bar; the largest keep their own."""
LONGEST_NAME = 20
Values = Mapping[str, Any]
Panel = Callable[[go.Figure, Values, int, int], None]


class _Report(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


def split_report_chart(report: _Report | Values, *, title: str | None = None) -> go.Figure:
    """The report of one split as a picture; panels that the report has no numbers for are left out.

    Args:
        report: ``leaks.report``'s result, or what its ``as_dict`` gave (as it stands in a manifest or a result file).
        title: a sentence; default is the gravest finding.

    Raises:
        SplitError: ``report`` is not a report of this version.
    """
    values = report if isinstance(report, Mapping) else report.as_dict()
    missing = [key for key in ("borders", "fairness", "classes", "findings") if key not in values]
    if missing:
        raise SplitError(f"this report cannot be drawn, it lacks {', '.join(missing)}; make it again with leaks.report")
    panels = _panels(values)
    columns, rows = 2, -(-len(panels) // 2)
    height = HEAD_PX + rows * ROW_PX + (rows - 1) * GAP_PX + BOTTOM_PX + 40
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[name for name, _ in panels],
        horizontal_spacing=0.19,
        vertical_spacing=GAP_PX / (height - HEAD_PX - BOTTOM_PX - 40) if rows > 1 else 0.0,
    )
    for number, (_, draw) in enumerate(panels):
        draw(figure, values, number // columns + 1, number % columns + 1)
    house_style(figure, title or _headline(values), height)
    figure.update_xaxes(tickfont_size=10.5, selector={"title.text": GAPS_AXIS})  # nine labels side by side
    for note in figure.layout.annotations[: len(panels)]:
        note.update(font={"size": 14, "color": INK}, yshift=8)
    figure.update_layout(barmode="group", bargap=0.28, margin={"t": HEAD_PX, "b": BOTTOM_PX + 40, "l": 12, "r": 24})
    _key(figure, values, height)
    return figure


def _panels(values: Values) -> list[tuple[str, Panel]]:
    borders = values["borders"]
    judging = " and ".join(part for part in JUDGING if part in values["fairness"])
    panels: list[tuple[str, Panel]] = [(f"Frames of {judging} that have in train ...", _leaks)]
    if any(border.get("gaps") for border in borders.values()):
        panels.append(("Frame numbers to the nearest frame in train", _gaps))
    if any(border.get("nearest") for border in borders.values()):
        panels.append((_novelty(values), _nearest))
    panels.append((f"Share of each class's boxes in {judging}", _classes))
    if values.get("clusters"):
        panels.append((_coverage(values), _clusters))
    if values.get("sizes"):
        panels.append(("Box sizes of each part", _sizes))
    return panels


def _headline(values: Values) -> str:
    found = values["findings"]
    chosen = next((one for one in found if one["kind"] == BAD), found[0] if found else {"text": "What is it worth?"})
    return f"{values['strategy']}: {chosen['text'].partition(':')[0].rstrip('.')}".replace("_", " ")


def _leaks(figure: go.Figure, values: Values, row: int, column: int) -> None:
    for part, border in _of_train(values):
        texts, rates = [], []
        for key, _ in LEAKS:
            rate, count = _leak(border, key)
            rates.append(rate or 0.0)
            texts.append(NOT_KNOWN if rate is None else f"{100 * rate:.1f} % ({count:,})")
        bar = go.Bar(
            y=[name for _, name in LEAKS],
            x=rates,
            orientation="h",
            marker_color=PART_COLOURS[part],
            text=texts,
            textposition="outside",
            cliponaxis=False,
            showlegend=False,
            hovertemplate=f"{part}, %{{y}} in train: %{{text}}<extra></extra>",
        )
        figure.add_trace(bar, row=row, col=column)
    figure.update_xaxes(range=[0, 1.3], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", row=row, col=column)
    figure.update_yaxes(autorange="reversed", showgrid=False, row=row, col=column)


def _leak(border: Values, key: str) -> tuple[float | None, int]:
    if key == "near_duplicates":
        return border["near_duplicate_rate"], border["near_duplicates"] or 0
    if key == "adjacent":
        return border["adjacent_rate"], border["gaps"]["adjacent"] if border["gaps"] else 0
    shared = border["shared"].get(key)
    return (shared["rate"], shared["shared_frames"]) if shared and shared["frames"] else (None, 0)


def _gaps(figure: go.Figure, values: Values, row: int, column: int) -> None:
    for part, border in _of_train(values):
        if not border["gaps"]:
            continue
        histogram = border["gaps"]["histogram"]
        total = max(border["gaps"]["frames"], 1)
        bar = go.Bar(
            x=_gap_names(list(histogram)),
            y=[count / total for count in histogram.values()],
            marker_color=PART_COLOURS[part],
            customdata=list(histogram.values()),
            showlegend=False,
            hovertemplate=f"{part}, %{{x}}: %{{y:.1%}} (%{{customdata:,}} frames)<extra></extra>",
        )
        figure.add_trace(bar, row=row, col=column)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", row=row, col=column)
    figure.update_xaxes(tickangle=0, type="category", title_text=GAPS_AXIS, row=row, col=column)


def _gap_names(edges: list[str]) -> list[str]:
    names, low = [], 0
    for edge in edges:
        if edge.isdigit():
            names.append(edge if int(edge) == low else f"{low}-{edge}")
            low = int(edge) + 1
        else:
            names.append({"more": f"&gt;{low - 1}", "no frame": "none"}.get(edge, edge))
    return names


def _nearest(figure: go.Figure, values: Values, row: int, column: int) -> None:
    lines: list[tuple[str, Values | None, str, str, str]] = [
        (f"{part} to train", border, "across", PART_COLOURS[part], "solid") for part, border in _of_train(values)
    ]
    first = next((border for _, _, border in _with_nearest(values)), None)
    lines.append(("train to other frames of train", first, "within_frames", BLUE, "dot"))
    lines.append(("train to other groups of train", first, "within_groups", PURPLE, "dash"))
    top = 0.0
    for name, border, key, colour, dash in lines:
        nearest = (border or {}).get("nearest")
        if not nearest or key not in nearest["histograms"]:
            continue
        counts, edges = nearest["histograms"][key], nearest["bins"]
        shares = [count / max(sum(counts), 1) for count in counts]
        top = max(top, *shares)
        line = go.Scatter(
            x=[(low + high) / 2 for low, high in itertools.pairwise(edges)],
            y=shares,
            name=name,
            mode="lines",
            line={"color": colour, "dash": dash, "width": 2.5},
            legend="legend2",
            hovertemplate=f"{name}: %{{y:.1%}} of crops at %{{x:.3f}}<extra></extra>",
        )
        figure.add_trace(line, row=row, col=column)
    figure.update_yaxes(tickformat=".0%", range=[0, ROOM * top], title_text="crops", row=row, col=column)
    figure.update_xaxes(
        title_text="cosine distance of the nearest crop (0 = the same)", rangemode="tozero", row=row, col=column
    )


def _classes(figure: go.Figure, values: Values, row: int, column: int) -> None:
    _shares(figure, values, values["classes"], row, column, along="x")
    figure.update_yaxes(autorange="reversed", row=row, col=column)


def _clusters(figure: go.Figure, values: Values, row: int, column: int) -> None:
    named = {name: counts for name, counts in values["clusters"].items() if name != OUTLIERS}
    _shares(figure, values, named, row, column, along="y")
    figure.update_xaxes(title_text="cluster, the largest first", tickangle=0, row=row, col=column)


def _shares(figure: go.Figure, values: Values, counts: Values, row: int, column: int, *, along: str) -> None:
    """Share of each name's boxes in val and test, and the wanted share as a line; ``along``: the axis of shares."""
    shown = _largest(counts)
    across = "y" if along == "x" else "x"
    for part, told in values["fairness"].items():
        totals = [max(sum(one.values()), 1) for one in shown.values()]
        bar = go.Bar(
            {across: [_short(name) for name in shown]},
            orientation="h" if along == "x" else "v",
            marker_color=PART_COLOURS[part],
            text=["0" if not one[part] else "" for one in shown.values()],
            textposition="outside",
            textfont={"color": INK, "size": 12},
            constraintext="none",
            cliponaxis=False,
            customdata=[[one[part], total] for one, total in zip(shown.values(), totals, strict=True)],
            showlegend=False,
            hovertemplate=f"%{{{across}}}: %{{{along}:.1%}} in {part} "
            "(%{customdata[0]:,} of %{customdata[1]:,})<extra></extra>",
        )
        bar[along] = [one[part] / total for one, total in zip(shown.values(), totals, strict=True)]
        figure.add_trace(bar, row=row, col=column)
        wanted = told["target"] if told["target"] is not None else told["frame_share"]
        line = {"color": PART_COLOURS[part], "dash": "dash", "width": 2}
        add_line = figure.add_vline if along == "x" else figure.add_hline
        add_line(wanted, line=line, row=row, col=column)
    measure, names = (
        (figure.update_xaxes, figure.update_yaxes) if along == "x" else (figure.update_yaxes, figure.update_xaxes)
    )
    measure(tickformat=".0%", rangemode="tozero", row=row, col=column)
    names(type="category", showgrid=False, row=row, col=column)


def _largest(counts: Values) -> dict[str, dict[str, int]]:
    names = list(counts)
    own = len(names) if len(names) <= MOST_BARS + 1 else MOST_BARS  # one bar for one other would gain nothing
    shown = {name: dict(counts[name]) for name in names[:own]}
    rest = names[own:]
    if rest:
        parts = counts[names[0]]
        shown[f"+{len(rest)}"] = {part: sum(counts[name][part] for name in rest) for part in parts}
    return shown


def _sizes(figure: go.Figure, values: Values, row: int, column: int) -> None:
    edges = values["sizes"]["edges"]
    for part, counts in values["sizes"]["counts"].items():
        line = go.Scatter(
            x=[(low * high) ** 0.5 for low, high in itertools.pairwise(edges)],
            y=[count / max(sum(counts), 1) for count in counts],
            mode="lines",
            line={"color": PART_COLOURS[part], "width": 2.5},
            showlegend=False,
            hovertemplate=f"{part}: %{{y:.1%}} of boxes near %{{x:.0f}} px<extra></extra>",
        )
        figure.add_trace(line, row=row, col=column)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", title_text="boxes", row=row, col=column)
    figure.update_xaxes(type="log", tickvals=SIZE_TICKS, title_text="root of the box's area, px", row=row, col=column)


def _novelty(values: Values) -> str:
    told = [(part, border["nearest"]["novelty"]) for part, _, border in _with_nearest(values)]
    known = [f"{value:.2f}" + (f" ({part})" if len(told) > 1 else "") for part, value in told if value is not None]
    if not known:
        return "How near is the nearest crop in train?"
    return f"Nearest crop in train: {', '.join(known)} (0 like its own group, 1 like another)"


def _coverage(values: Values) -> str:
    told = next(iter(values["fairness"].values()))
    if told["cluster_coverage"] is None:
        return "Share of each cluster's crops"
    names = [name for name in values["clusters"] if name != OUTLIERS]
    seen = len(names) - len(told["missing_clusters"])
    return f"Share of each cluster's crops: {told['part']} has {seen} of {len(names)} clusters"


def _of_train(values: Values) -> list[tuple[str, Values]]:
    return [(part, values["borders"][f"{part}/train"]) for part in JUDGING if f"{part}/train" in values["borders"]]


def _with_nearest(values: Values) -> list[tuple[str, str, Values]]:
    return [(part, "train", border) for part, border in _of_train(values) if border.get("nearest")]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _key(figure: go.Figure, values: Values, height: int) -> None:
    """One legend for the parts, with their frames and boxes, and what the dashed lines are."""
    for part in ("train", *JUDGING):
        if part in values["frames"]:
            name = f"{part}: {values['frames'][part]:,} frames, {values['boxes'][part]:,} boxes"
            marker = {"color": PART_COLOURS[part], "size": 11, "symbol": "square"}
            figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))
    line = {"color": MUTED, "dash": "dash", "width": 2}
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", line=line, name="wanted share"))
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "xref": "container", "font": {"size": 13, "color": INK}}
    figure.update_layout(legend={**legend, "y": 1 - LEGEND_PX / height, "yanchor": "top", "yref": "container"})
    axis = next((trace.yaxis for trace in figure.data if trace.legend == "legend2"), None)
    if axis:
        number = axis.removeprefix("y") or "1"
        places = (
            figure.layout[f"xaxis{number if number != '1' else ''}"],
            figure.layout[f"yaxis{number if number != '1' else ''}"],
        )
        figure.update_layout(
            legend2={
                "x": places[0].domain[1],
                "xanchor": "right",
                "y": places[1].domain[1],
                "yanchor": "top",
                "bgcolor": "rgba(255,255,255,0.7)",
                "font": {"size": 12, "color": INK},
            }
        )
