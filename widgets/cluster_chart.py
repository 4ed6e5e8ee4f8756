"""What each cluster holds: its crops by class, task or part, chosen from a menu."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from obdb_lib.errors import DatasetError
from widgets.charts import GRID, house_style
from widgets.palette import EXTENDED, OTHER, PART_COLOURS

VIEWS = {"object_class": "class", "task_name": "task", "part": "part"}
"""Columns of the table and what the menu calls them."""
MAX_COLOURS = len(EXTENDED)
"""More values than this cannot be told apart; the rarer ones share one grey."""
OUTLIER = -1
ROW_PX, HEAD_PX, FOOT_PX = 26, 150, 60
LABEL_LETTERS = 28
"""Task names are longer; what distinguishes them is at their end."""


def cluster_chart(table: pd.DataFrame, *, by: str = "object_class", title: str | None = None) -> go.Figure:
    """One bar a cluster, the largest first, split into shares of its crops; a menu changes what by.

    Args:
        table: ``Clusters.long_table``: one row per cluster, object_class, task_name and part with the number of
            ``crops``.
        by: what is shown first: object_class, task_name or part. Part is offered only where the table has more than
            one.

    Raises:
        DatasetError: a column is missing, the table is empty, or it has no such view.
    """
    missing = [column for column in ("cluster", *VIEWS, "crops") if column not in table.columns]
    if missing or table.empty:
        raise DatasetError(
            f"cluster_chart needs the long table of Clusters.long_table; missing: {', '.join(missing) or 'any row'}"
        )
    views = [view for view in VIEWS if view != "part" or table["part"].nunique() > 1]
    if by not in views:
        raise DatasetError(f"cluster_chart shows clusters by {', '.join(views)}; got {by!r}")
    traces = {view: _bars(table, view) for view in views}
    figure = go.Figure([bar for bars in traces.values() for bar in bars])
    for bar, view in zip(figure.data, [view for view, bars in traces.items() for _ in bars], strict=True):
        bar.visible = view == by
    buttons = [
        {
            "label": f"by {VIEWS[view]}",
            "method": "update",
            "args": [{"visible": [view == other for other, bars in traces.items() for _ in bars]}],
        }
        for view in views
    ]
    figure.update_layout(barmode="stack", bargap=0.18, legend_traceorder="normal")
    figure.update_xaxes(
        tickformat=".0%", range=[0, 1], showgrid=True, gridcolor=GRID, title_text="share of the cluster"
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    rows = table["cluster"].nunique()
    figure = house_style(figure, title or "What is in each cluster?", HEAD_PX + FOOT_PX + ROW_PX * rows)
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "v", "x": 1.01, "xref": "paper", "y": 1, "yref": "paper", "yanchor": "top"},
        margin_t=84,
        updatemenus=[
            {
                "buttons": buttons,
                "active": views.index(by),
                "x": 1,
                "xanchor": "right",
                "y": 1,
                "yanchor": "bottom",
                "pad": {"b": 10},
                "bgcolor": "white",
            }
        ],
    )
    return figure


def _bars(table: pd.DataFrame, view: str) -> list[go.Bar]:
    """One trace a value of ``view``, commonest first."""
    counts = table.pivot_table(index="cluster", columns=view, values="crops", aggfunc="sum", fill_value=0)
    counts = counts.loc[_order(counts.index)]
    sizes = counts.sum(axis=1)
    names = [_cluster_name(cluster, int(size)) for cluster, size in sizes.items()]
    values, colours = _values_and_colours(counts, view)
    if len(values) > MAX_COLOURS:
        rest = values[MAX_COLOURS - 1 :]
        values = [*values[: MAX_COLOURS - 1], f"{len(rest)} others"]
        counts = counts.assign(**{values[-1]: counts[list(rest)].sum(axis=1)})
        colours = [*colours[: MAX_COLOURS - 1], OTHER]
    return [
        go.Bar(
            x=(counts[value] / sizes).tolist(),
            y=names,
            name=_short(str(value)),
            orientation="h",
            marker_color=colour,
            customdata=counts[value].tolist(),
            hovertemplate=f"{value}: %{{customdata:,}} crops, %{{x:.0%}} of %{{y}}<extra></extra>",
        )
        for value, colour in zip(values, colours, strict=True)
    ]


def _order(clusters: pd.Index) -> list[int]:
    """Clusters by number, which is by size; outliers last."""
    return sorted(clusters, key=lambda cluster: (cluster == OUTLIER, cluster))


def _cluster_name(cluster: object, size: int) -> str:
    return f"outliers ({size:,})" if cluster == OUTLIER else f"cluster {cluster} ({size:,})"


def _values_and_colours(counts: pd.DataFrame, view: str) -> tuple[Sequence[str], Sequence[str]]:
    if view == "part":
        values = [part for part in PART_COLOURS if part in counts.columns]
        return values, [PART_COLOURS[part] for part in values]
    values = list(counts.sum().sort_values(ascending=False, kind="stable").index)
    return values, [EXTENDED[number % MAX_COLOURS] for number in range(len(values))]


def _short(text: str) -> str:
    return text if len(text) <= LABEL_LETTERS else "…" + text[-LABEL_LETTERS + 1 :]
