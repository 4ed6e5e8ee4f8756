"""The trials of a search: parallel coordinates, the best so far, and which parameter mattered."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from obdb_lib.errors import DatasetError
from widgets.charts import HEIGHT_PX, INK, MUTED, house_style
from widgets.palette import BLUE, ORANGE

LOGARITHMIC = ("lr", "weight_decay")
NOT_PARAMETERS = ("trial", "objective", "status", "epochs", "seconds", "note")
SYMBOLS = {"COMPLETED": "circle", "STOPPED": "x"}
VALUE_NAMES = {"val_map": "val mAP50", "val_loss": "val loss", "train_loss": "train loss"}


def trials_chart(
    trials: pd.DataFrame,
    *,
    title: str = "Trials of the search",
    objective: str = "val_map",
    lower_is_better: bool = False,
) -> go.Figure:
    """One line a trial through its parameters to its objective; the brighter, the better.

    Args:
        trials: columns trial, the parameters, objective (NaN for a failed trial, which is left out).
        objective, lower_is_better: of the ``SearchResult``.
    """
    good = trials[trials["objective"].notna()]
    names = [name for name in good.columns if name not in NOT_PARAMETERS]
    axes = [_axis(name, good[name]) for name in names]
    axes.append({"label": VALUE_NAMES.get(objective, objective), "values": good["objective"].tolist()})
    line = {
        "color": good["objective"].tolist(),
        "colorscale": "Viridis",
        "showscale": True,
        "reversescale": lower_is_better,
    }
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line))
    house_style(figure, f"{title}: {len(good)} of {len(trials)} succeeded", 380)
    figure.update_layout(margin={"l": 70, "r": 30, "t": 110, "b": 30})
    return figure


def history_chart(
    trials: pd.DataFrame,
    *,
    title: str = "How did the search go?",
    objective: str = "val_map",
    lower_is_better: bool = False,
) -> go.Figure:
    """Each trial's objective in the order of the trials, and the best so far as a line.

    Args:
        trials: ``SearchResult.trials``; trials that were stopped early are crosses, failed ones are left out.

    Raises:
        DatasetError: no trial succeeded.
    """
    good = trials[trials["objective"].notna()]
    if good.empty:
        raise DatasetError("history_chart needs at least one trial that succeeded; the table has none")
    best = good["objective"].cummin() if lower_is_better else good["objective"].cummax()
    figure = go.Figure()
    for status, symbol in SYMBOLS.items():
        rows = good[good["status"] == status]
        if rows.empty:
            continue
        name = "trial" if status == "COMPLETED" else "stopped early"
        marker = {"size": 9, "symbol": symbol, "color": BLUE if status == "COMPLETED" else MUTED}
        hover = f"trial %{{x}}: %{{y:.3f}}<extra>{name}</extra>"
        figure.add_scatter(
            x=rows["trial"].tolist(),
            y=rows["objective"].tolist(),
            mode="markers",
            name=name,
            marker=marker,
            hovertemplate=hover,
        )
    figure.add_scatter(
        x=good["trial"].tolist(),
        y=best.tolist(),
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": ORANGE, "width": 2},
        hovertemplate="best after trial %{x}: %{y:.3f}<extra></extra>",
    )
    figure.update_xaxes(title_text="trial", dtick=max(1, len(trials) // 16))
    figure.update_yaxes(title_text=VALUE_NAMES.get(objective, objective))
    return house_style(figure, title, HEIGHT_PX)


def importance_chart(values: pd.Series, *, title: str = "Which parameter mattered?") -> go.Figure:
    """One bar a parameter, the most important on top.

    Args:
        values: share of the objective's variation by parameter, 0..1 (``hpo.importance``); NaN reads "too few trials".

    Raises:
        DatasetError: there are no values.
    """
    if values.empty:
        raise DatasetError("importance_chart needs at least one parameter; got none")
    ordered = values.sort_values(na_position="first")
    texts = ["too few trials" if np.isnan(value) else f"{value:.0%}" for value in ordered]
    figure = go.Figure(
        go.Bar(
            x=ordered.fillna(0).tolist(),
            y=[str(name) for name in ordered.index],
            orientation="h",
            text=texts,
            textposition="outside",
            textfont={"color": INK},
            cliponaxis=False,
            marker_color=BLUE,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    figure.update_xaxes(
        range=[0, 1.1], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", title_text="of the variation"
    )
    figure.update_yaxes(showgrid=False)
    return house_style(figure, title, 130 + 34 * len(ordered))


def _axis(name: str, values: pd.Series) -> dict[str, object]:
    if name not in LOGARITHMIC:
        return {"label": name, "values": values.tolist()}
    logs = np.log10(values.to_numpy(float))
    low, high = (logs.min(), logs.max()) if len(logs) else (0.0, 1.0)
    ticks = np.linspace(low, high, 5)
    texts = [f"{10**tick:.1e}" for tick in ticks]
    return {"label": f"{name} (log)", "values": logs.tolist(), "tickvals": ticks.tolist(), "ticktext": texts}
