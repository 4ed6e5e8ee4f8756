"""Charts of the notebooks in one restrained style, and how they are shown.

Colours are Okabe-Ito's, titles are sentences, and nothing is loaded from the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import display
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from obdb_lib.errors import DatasetError
from widgets.palette import BLUE, EXTENDED, PART_COLOURS

PLOTLY_JS = "plotly.min.js"
"""An exported page looks for plotly's script beside itself; embedding it would add 4.8 MB to every chart."""

INK, MUTED, GRID = "#222222", "#555555", "#E6E6E6"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
HEIGHT_PX = 360
LOSS_COLUMNS = {"loss": "train loss", "val_loss": "val loss"}
SCORE_COLUMNS = {"val_ap50": "val mAP50", "val_ap": "val mAP"}
TITLE_PX, LEGEND_PX, HEAD_PX = 26, 42, 112
"""From the top: the middle of the title, the top of the legend, the first panel; fixed, so that they never overlap."""

FACETS_IN_A_ROW = 3
CONFIG = {"displaylogo": False, "responsive": True}


def balance_chart(table: pd.DataFrame, *, title: str | None = None) -> go.Figure:
    """Share of each class among the boxes of each part, one panel a strategy.

    Args:
        table: one row per strategy, part and class: ``strategy``, ``part``, ``object_class`` and ``boxes`` (a count). A
            share is boxes of the class by all boxes of that part under that strategy.

    Raises:
        DatasetError: a column is missing or the table is empty.
    """
    _need(table, ("strategy", "part", "object_class", "boxes"), "balance_chart")
    strategies = list(dict.fromkeys(table["strategy"]))
    parts = [part for part in PART_COLOURS if part in set(table["part"]) and part != "excluded"]
    classes = list(table.groupby("object_class")["boxes"].sum().sort_values(ascending=False).index)
    columns = min(len(strategies), FACETS_IN_A_ROW)
    rows = -(-len(strategies) // columns)
    names = [str(name).replace("_", " ") for name in strategies]
    figure = make_subplots(rows, columns, shared_yaxes=True, subplot_titles=names, horizontal_spacing=0.04)
    for number, strategy in enumerate(strategies):
        for part in parts:
            chosen = table[(table["strategy"] == strategy) & (table["part"] == part)]
            counts = chosen.groupby("object_class")["boxes"].sum().reindex(classes, fill_value=0)
            bar = go.Bar(
                x=[str(name) for name in classes],
                y=(counts / max(int(counts.sum()), 1)).tolist(),
                name=part,
                legendgroup=part,
                showlegend=number == 0,
                marker_color=PART_COLOURS[part],
                customdata=counts.tolist(),
                hovertemplate=f"{part}: %{{y:.1%}} (%{{customdata:,}} boxes)<extra>%{{x}}</extra>",
            )
            figure.add_trace(bar, row=number // columns + 1, col=number % columns + 1)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.06)
    return house_style(
        figure, title or "How alike are the classes of train and val under each strategy?", HEIGHT_PX * rows
    )


def curves_chart(history: pd.DataFrame, *, title: str | None = None) -> go.Figure:
    """Losses on the left, mAP on the right, by epoch.

    Args:
        history: one row an epoch (``training.FitResult.history``): ``epoch``, ``loss`` and, where measured,
            ``val_loss``, ``val_ap50``, ``val_ap`` (0..1). Missing values leave a gap in the line.

    Raises:
        DatasetError: ``epoch`` or every loss is missing, or there are no epochs.
    """
    _need(history, ("epoch",), "curves_chart")
    losses = [column for column in LOSS_COLUMNS if column in history and history[column].notna().any()]
    if not losses:
        raise DatasetError(f"curves_chart needs loss or val_loss; the table has: {', '.join(history.columns)}")
    scores = [column for column in SCORE_COLUMNS if column in history and history[column].notna().any()]
    columns = 2 if scores else 1
    figure = make_subplots(1, columns, subplot_titles=["Loss", "mAP on val"][:columns], horizontal_spacing=0.1)
    for place, names in ((1, losses), (2, scores)):
        for number, name in enumerate(names):
            line = go.Scatter(
                x=history["epoch"].tolist(),
                y=[None if pd.isna(value) else float(value) for value in history[name]],
                name={**LOSS_COLUMNS, **SCORE_COLUMNS}[name],
                mode="lines+markers",
                line={"color": EXTENDED[(number if place == 1 else number + 2) % len(EXTENDED)], "width": 2},
                marker={"size": 6, "symbol": ("circle", "square", "diamond")[number % 3]},
            )
            figure.add_trace(line, row=1, col=place)
    figure.update_xaxes(title_text="epoch", dtick=max(1, len(history) // 10))
    figure.update_yaxes(rangemode="tozero")
    return house_style(figure, title or "How did training go?", HEIGHT_PX)


def bars_chart(values: Mapping[str, float] | pd.Series, *, title: str | None = None, axis: str = "AP50") -> go.Figure:
    """One horizontal bar a class, the best on top; ``values`` are 0..1, NaN where a class had no boxes.

    Raises:
        DatasetError: there are no values.
    """
    series = pd.Series(dict(values), dtype=np.float64).sort_values(na_position="first")
    if series.empty:
        raise DatasetError("bars_chart needs at least one class with a value; got none")
    texts = ["no boxes" if np.isnan(value) else f"{value:.2f}" for value in series]
    figure = go.Figure(
        go.Bar(
            x=series.fillna(0).tolist(),
            y=[str(name) for name in series.index],
            orientation="h",
            text=texts,
            textposition="outside",
            cliponaxis=False,
            marker_color=BLUE,
            hovertemplate=f"%{{y}}: %{{text}} {axis}<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, 1.08], title_text=axis, tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(showgrid=False)
    return house_style(figure, title or f"How well is each class found ({axis})?", 130 + 30 * len(series))


def show(figure: go.Figure, name: str | None = None) -> None:
    """Display a figure so that it lives in JupyterLab and in an HTML export without the network.

    The output carries plotly's own data, which JupyterLab draws with its extension, and a piece of HTML for nbconvert;
    the exported page is interactive where a copy of ``plotly.min.js`` lies beside it (``write_plotly_js``).

    Args:
        name: file name for "download as png" and id of the chart in a page.
    """
    config: dict[str, Any] = dict(CONFIG)
    if name:
        config["toImageButtonOptions"] = {"filename": name}
    data = json.loads(figure.to_json())
    # JupyterLab tells a chart of its new width itself; a responsive one loses its height when drawn anew.
    data["config"] = {**config, "responsive": False}
    html = figure.to_html(full_html=False, include_plotlyjs=PLOTLY_JS, config=config, div_id=name)
    title = figure.layout.title.text or "chart"
    bundle = {"application/vnd.plotly.v1+json": data, "text/html": html, "text/plain": f"[chart: {title}]"}
    display(bundle, raw=True)  # type: ignore[no-untyped-call]  # IPython is untyped here


def write_plotly_js(folder: Path) -> Path:
    """Put plotly's script into ``folder``, beside exported pages; return its path."""
    path = folder / PLOTLY_JS
    path.write_text(get_plotlyjs(), encoding="utf-8")
    return path


def _need(table: pd.DataFrame, columns: Sequence[str], chart: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DatasetError(f"{chart} needs the columns {', '.join(columns)}; missing: {', '.join(missing)}")
    if table.empty:
        raise DatasetError(f"{chart} needs at least one row; the table is empty")


def house_style(figure: go.Figure, title: str, height: int) -> go.Figure:
    height = max(height, 240)
    figure.update_layout(
        template="plotly_white",
        title={"text": title, "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}, "font": {"size": 17}},
        title_y=1 - TITLE_PX / height,
        font={"family": FONT, "size": 13, "color": INK},
        height=height,
        margin={"l": 12, "r": 16, "t": HEAD_PX if _has_legend(figure) else 84, "b": 12},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "xref": "container"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"font": {"size": 13}},
    )
    figure.update_layout(legend={"y": 1 - LEGEND_PX / height, "yanchor": "top", "yref": "container"})
    quiet = {"size": 13, "color": MUTED}
    figure.update_xaxes(automargin=True, linecolor=GRID, tickfont=quiet, title_font=quiet, zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor=GRID, tickfont=quiet, title_font=quiet, zeroline=False)
    for note in figure.layout.annotations:
        note.update(font=quiet)
    return figure


def _has_legend(figure: go.Figure) -> bool:
    return sum(1 for trace in figure.data if getattr(trace, "showlegend", False) is not False) > 1
