"""The trials of a search as parallel coordinates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from widgets.charts import house_style

LOGARITHMIC = ("lr", "weight_decay")
NOT_PARAMETERS = ("trial", "objective", "status", "seconds", "note")


def trials_chart(trials: pd.DataFrame, *, title: str = "Trials of the search") -> go.Figure:
    """One line a trial through its parameters to its objective; the brighter, the better.

    Args:
        trials: columns trial, the parameters, objective (NaN for a failed trial, which is left out).
    """
    good = trials[trials["objective"].notna()]
    names = [name for name in good.columns if name not in NOT_PARAMETERS]
    axes = [_axis(name, good[name]) for name in names]
    axes.append({"label": "objective (val mAP50)", "values": good["objective"].tolist()})
    line = {"color": good["objective"].tolist(), "colorscale": "Viridis", "showscale": True}
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line))
    house_style(figure, f"{title}: {len(good)} of {len(trials)} succeeded", 380)
    figure.update_layout(margin={"l": 70, "r": 30, "t": 110, "b": 30})
    return figure


def _axis(name: str, values: pd.Series) -> dict[str, object]:
    if name not in LOGARITHMIC:
        return {"label": name, "values": values.tolist()}
    logs = np.log10(values.to_numpy(float))
    low, high = (logs.min(), logs.max()) if len(logs) else (0.0, 1.0)
    ticks = np.linspace(low, high, 5)
    texts = [f"{10**tick:.1e}" for tick in ticks]
    return {"label": f"{name} (log)", "values": logs.tolist(), "tickvals": ticks.tolist(), "ticktext": texts}
