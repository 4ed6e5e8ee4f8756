"""The trials of a search: parallel coordinates, the best so far, and which parameter mattered."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.ticker import MaxNLocator

from obdb_lib.errors import DatasetError
from widgets.charts import HEIGHT_PX, INK, MUTED, house_style
from widgets.palette import BLUE, ORANGE, OTHER, VERMILION

LOGARITHMIC = ("lr", "weight_decay")
NOT_PARAMETERS = ("trial", "objective", "status", "epochs", "seconds", "note")
WHOLE_NUMBERS = ("step_size",)
WHOLE, FEWER, STOPPED = "trial", "given fewer epochs", "stopped early"
MARKS = {
    WHOLE: {"symbol": "circle", "color": BLUE},
    FEWER: {"symbol": "circle-open", "color": BLUE},
    STOPPED: {"symbol": "x", "color": MUTED},
}
LIGHT, DARK = 0.05, 0.95
"""Places in ``SHADES`` of the worst and the next best trial; below is the grey of stopped ones, above the best's."""
SHADES = [[0, OTHER], [LIGHT, OTHER], [LIGHT, "#BBD7EA"], [DARK, "#003A5C"], [DARK, VERMILION], [1, VERMILION]]
WIDE_DECADES = 2
"""From more powers of ten on an axis has ticks at these alone."""
VALUE_NAMES = {"val_map": "val mAP50", "val_loss": "val loss", "train_loss": "train loss"}


def trials_chart(
    trials: pd.DataFrame,
    *,
    title: str = "Trials of the search",
    objective: str = "val_map",
    lower_is_better: bool = False,
) -> go.Figure:
    """One line a trial through its parameters to its objective: darker is better, the best in a colour of its own.

    Drag along an axis to keep only the lines that pass there.

    Args:
        trials: columns trial, the parameters, objective (NaN for a failed trial, which is left out), status, epochs.
        objective, lower_is_better: of the ``SearchResult``.
    """
    good = trials[trials["objective"].notna()]
    kinds = _kinds(good)
    best = _best(good, kinds, lower_is_better)
    names = [name for name in good.columns if name not in NOT_PARAMETERS]
    value = VALUE_NAMES.get(objective, objective)
    axes = [_axis(name, good[name]) for name in names] + [{**_axis("", good["objective"]), "label": value}]
    line = {"color": _shades(good, kinds, best, lower_is_better), "cmin": 0, "cmax": 1, "colorscale": SHADES}
    hidden = {"color": "rgba(0,0,0,0)"}  # the ends of the ranges, which the ticks tell already
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line, rangefont=hidden))
    house_style(figure, f"{title}<br>{_key(trials, good, kinds, best)}", 380)
    figure.update_layout(margin={"l": 70, "r": 50, "t": 110, "b": 30}, title_y=0.92)
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
        trials: ``SearchResult.trials``; trials that were stopped early are crosses, those that got fewer epochs are
            hollow (neither can be the best), and failed ones stand on the axis.

    Raises:
        DatasetError: no trial succeeded.
    """
    good = trials[trials["objective"].notna()]
    if good.empty:
        raise DatasetError("history_chart needs at least one trial that succeeded; the table has none")
    kinds = _kinds(good)
    best = _best(good, kinds, lower_is_better)
    figure = go.Figure()
    for kind, look in MARKS.items():
        rows = good[kinds == kind]
        if rows.empty:
            continue
        figure.add_scatter(
            x=rows["trial"].tolist(),
            y=rows["objective"].tolist(),
            mode="markers",
            name=kind,
            marker={"size": 9, **look},
            hovertemplate=f"trial %{{x}}: %{{y:.3f}}<extra>{kind}</extra>",
        )
    can_win = good["objective"].where(kinds == WHOLE)
    so_far = (can_win.cummin() if lower_is_better else can_win.cummax()).ffill()
    figure.add_scatter(
        x=good["trial"].tolist(),
        y=[None if np.isnan(y) else y for y in so_far],
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": ORANGE, "width": 2},
        hovertemplate="best after trial %{x}: %{y:.3f}<extra></extra>",
    )
    figure.add_scatter(
        x=[good["trial"][best]],
        y=[good["objective"][best]],
        mode="markers+text",
        name="best",
        text=[f"{good['objective'][best]:.3f}"],
        textposition="bottom center" if lower_is_better else "top center",  # away from the line
        cliponaxis=False,
        textfont={"color": INK},
        marker={"size": 15, "symbol": "star", "color": VERMILION, "line": {"color": "white", "width": 1}},
        hovertemplate="best: trial %{x}, %{y:.3f}<extra></extra>",
    )
    failed = trials[trials["objective"].isna()]
    if len(failed):
        figure.add_scatter(
            x=failed["trial"].tolist(),
            y=[float(good["objective"].min())] * len(failed),
            mode="markers",
            name="failed (no value)",
            marker={"size": 10, "symbol": "triangle-down-open", "color": MUTED},
            hovertemplate="trial %{x} failed<extra></extra>",
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
        range=[0, 1.1],
        tickvals=[0, 0.25, 0.5, 0.75, 1],
        tickformat=".0%",
        title_text="of the variation, explained by the parameter alone",
    )
    figure.update_yaxes(showgrid=False)
    return house_style(figure, title, 130 + 34 * len(ordered))


def _kinds(good: pd.DataFrame) -> pd.Series:
    """What each trial with a value is: one that can win, one that got fewer epochs, or one that was stopped."""
    most = good.loc[good["status"] == "COMPLETED", "epochs"].max() if "epochs" in good else None
    less = good["epochs"] < most if most is not None else pd.Series(False, good.index)
    kinds = pd.Series(WHOLE, good.index).mask(less, FEWER)
    return kinds.mask(good["status"] != "COMPLETED", STOPPED)


def _best(good: pd.DataFrame, kinds: pd.Series, lower_is_better: bool) -> int:
    """Row label (a whole number) of the best trial that can win, of any where none can; -1 in an empty table."""
    values = good.loc[kinds == WHOLE, "objective"] if (kinds == WHOLE).any() else good["objective"]
    if values.empty:
        return -1
    return cast(int, values.idxmin() if lower_is_better else values.idxmax())


def _shades(good: pd.DataFrame, kinds: pd.Series, best: int, lower_is_better: bool) -> list[float]:
    """Place in ``SHADES`` of each trial: by rank among its like, so that one diverged loss does not fade the others."""
    ranks = good["objective"].rank(ascending=not lower_is_better, pct=True)
    places = LIGHT + (DARK - LIGHT) * ranks * 0.99  # short of the border, where the best's colour begins
    return places.mask(kinds == STOPPED, 0.0).mask(good.index == best, 1.0).tolist()


def _key(trials: pd.DataFrame, good: pd.DataFrame, kinds: pd.Series, best: int) -> str:
    """What the colours mean, in words of those colours, and what is not shown."""
    words = []
    if best in good.index:
        row = good.loc[best]
        words.append(f'<span style="color:{VERMILION}">best: trial {row["trial"]} ({row["objective"]:.3f})</span>')
        words.append(f'<span style="color:{BLUE}">the darker, the better</span>')
    if (kinds == STOPPED).any():
        words.append(f'<span style="color:{OTHER}">{(kinds == STOPPED).sum()} stopped early</span>')
    if len(trials) > len(good):
        words.append(f"{len(trials) - len(good)} failed, not shown")
    return f'<span style="font-size:13px">{" · ".join(words)}</span>'


def _axis(name: str, values: pd.Series) -> dict[str, object]:
    """A parcoords dimension with round ticks; a logarithm for the names that are searched by their exponent."""
    given = values.to_numpy(float)
    if not len(given):
        return {"label": name, "values": []}
    if name in LOGARITHMIC and given.min() > 0:
        ticks = _round_powers(given.min(), given.max())
        places, given, texts = np.log10(ticks), np.log10(given), [f"{tick:g}" for tick in ticks]
        label = f"{name} (log)"
    else:
        locator = MaxNLocator(5, steps=[1, 2, 5, 10], integer=name in WHOLE_NUMBERS, min_n_ticks=2)
        places = locator.tick_values(given.min(), given.max())
        texts, label = [f"{tick:.4g}" for tick in places], name
    ends = [float(min(places[0], given.min())), float(max(places[-1], given.max()))]
    return {
        "label": label,
        "values": given.tolist(),
        "range": ends,
        "tickvals": places.tolist(),
        "ticktext": texts,
    }


def _round_powers(low: float, high: float) -> np.ndarray:
    """1, 2 and 5 times powers of ten around ``low``..``high``, ends included; the powers alone on a wide range."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = (1,) if last - first > WIDE_DECADES else (1, 2, 5)
    marks = np.array([step * 10.0**power for power in range(first, last + 1) for step in steps])
    start = max(int(np.searchsorted(marks, low, side="right")) - 1, 0)
    end = min(int(np.searchsorted(marks, high, side="left")), len(marks) - 1)
    return marks[start : max(end, start + 1) + 1]
