"""Charts of how good a detector is: curves, thresholds, intervals, clusters, and the honest score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from obdb_lib.errors import DatasetError
from widgets.charts import HEIGHT_PX, INK, MUTED, house_style
from widgets.palette import BLUE, EXTENDED, GREEN, ORANGE, OTHER, VERMILION

ALL = "(all)"
"""Row of the mean over classes, as ``obdb_lib.intervals`` names it."""
MOST_CURVES = len(EXTENDED)
"""More classes than this share colours; the rarest are left out and the title says how many."""
MOST_POINTS = 400
"""A curve of more detections is thinned evenly for drawing; its ends are kept."""
FACETS_IN_A_ROW = 3
FACET_PX = 230
BAR_PX = 32
FEW_BOXES, PALE = 5, 0.4
"""A cluster of fewer boxes says little: it is drawn pale (opacity 0..1) below the others."""
_SWEEP = (("precision", BLUE), ("recall", ORANGE), ("f1", GREEN))


def _need(table: pd.DataFrame, columns: Sequence[str], chart: str) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        told = f"missing: {', '.join(missing)}" if missing else "the table is empty"
        raise DatasetError(f"{chart} needs rows with the columns {', '.join(columns)}; {told}")


def pr_chart(curves: pd.DataFrame, *, title: str | None = None) -> go.Figure:
    """Precision against recall, one line a class; the area under it is what AP50 measures.

    Args:
        curves: ``curves.precision_recall``: object_class, score, precision, recall, best_precision.

    Raises:
        DatasetError: a column is missing or no class has a detection.
    """
    _need(curves, ("object_class", "score", "precision", "recall", "best_precision"), "pr_chart")
    names = list(curves["object_class"].value_counts().index)
    figure = go.Figure()
    for number, name in enumerate(sorted(names[:MOST_CURVES])):
        own = curves[curves["object_class"] == name]
        own = own.iloc[np.unique(np.linspace(0, len(own) - 1, min(len(own), MOST_POINTS)).astype(int))]
        line = go.Scatter(
            x=[0.0, *own["recall"], own["recall"].iloc[-1]],
            y=[own["best_precision"].iloc[0], *own["best_precision"], 0.0],
            customdata=[own["score"].iloc[0], *own["score"], own["score"].iloc[-1]],
            name=str(name),
            mode="lines",
            line={"color": EXTENDED[number % len(EXTENDED)], "width": 2, "shape": "vh"},
            hovertemplate="recall %{x:.2f}, precision %{y:.2f} at %{customdata:.2f}<extra>%{fullData.name}</extra>",
        )
        figure.add_trace(line)
    figure.update_xaxes(title_text="recall", range=[0, 1.02])
    figure.update_yaxes(title_text="best precision at this recall or more", range=[0, 1.04])
    left_out = f" ({len(names) - MOST_CURVES} rarer ones left out)" if len(names) > MOST_CURVES else ""
    figure.update_traces(showlegend=True)
    return house_style(figure, title or f"How much precision does more recall cost{left_out}?", HEIGHT_PX + 60)


def sweep_chart(sweep: pd.DataFrame, *, title: str | None = None) -> go.Figure:
    """Precision, recall and F1 against the score threshold, a panel a class; the dotted line is the best F1.

    Args:
        sweep: ``curves.confidence_sweep``: object_class, threshold, precision, recall, f1.

    Raises:
        DatasetError: a column is missing or there are no rows.
    """
    _need(sweep, ("object_class", "threshold", "precision", "recall", "f1"), "sweep_chart")
    names = list(dict.fromkeys(sweep.loc[sweep["f1"].notna(), "object_class"]))
    columns = min(len(names), FACETS_IN_A_ROW) or 1
    rows = -(-len(names) // columns) or 1
    best = {name: _best(sweep[sweep["object_class"] == name]) for name in names}
    titles = [f"{n}: F1 {f1:.2f} at {at:.2f}" if f1 else f"{n}: nothing is right" for n, (at, f1) in best.items()]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=0.28 / rows
    )
    for number, name in enumerate(names):
        own = sweep[sweep["object_class"] == name]
        place = {"row": number // columns + 1, "col": number % columns + 1}
        for measure, colour in _SWEEP:
            line = go.Scatter(
                x=own["threshold"].tolist(),
                y=[None if pd.isna(value) else float(value) for value in own[measure]],
                name=measure.replace("f1", "F1"),
                legendgroup=measure,
                showlegend=number == 0,
                mode="lines",
                line={"color": colour, "width": 3 if measure == "f1" else 1.5},
                hovertemplate="%{y:.2f} at %{x:.2f}<extra>%{fullData.name}</extra>",
            )
            figure.add_trace(line, **place)
        if best[name][1]:
            figure.add_vline(best[name][0], line={"color": INK, "width": 1, "dash": "dot"}, **place)
    figure.update_yaxes(range=[0, 1.04])
    figure.update_xaxes(range=[0, 1])
    figure.update_xaxes(title_text="score threshold", row=rows)
    return house_style(figure, title or "Which score threshold gives the best F1?", 130 + FACET_PX * rows)


def _best(own: pd.DataFrame) -> tuple[float, float]:
    place = int(own["f1"].to_numpy(np.float64, na_value=-1).argmax())
    return float(own["threshold"].iloc[place]), float(own["f1"].iloc[place])


def interval_chart(
    table: pd.DataFrame,
    *,
    value: str = "ap50",
    low: str = "ap50_low",
    high: str = "ap50_high",
    name: str = "object_class",
    zero: bool = False,
    title: str | None = None,
    axis: str = "AP50",
) -> go.Figure:
    """A dot and its interval a row, in the order of ``table``: classes, strategies, or differences of two models.

    Args:
        table: columns ``name``, ``value``, ``low``, ``high``; a row without value says so.
        zero: the axis shows 0 and both signs (a difference) instead of 0..1.

    Raises:
        DatasetError: a column is missing or there are no rows.
    """
    _need(table, (name, value, low, high), "interval_chart")
    names = [str(text) for text in table[name]]
    values, lows, highs = (table[column].to_numpy(np.float64, na_value=np.nan) for column in (value, low, high))
    known = np.isfinite(values)
    number = "{:+.2f}" if zero else "{:.2f}"
    texts = [
        f"{number.format(v)} [{number.format(a)}, {number.format(b)}]" if k else "no boxes"
        for v, a, b, k in zip(values, lows, highs, known, strict=True)
    ]
    colours = [INK if text == ALL else BLUE for text in names]
    if zero:
        sides = zip(names, lows, highs, strict=True)
        colours = [GREEN if a > 0 else VERMILION if b < 0 else OTHER if text != ALL else INK for text, a, b in sides]
    dots = go.Scatter(
        x=np.where(known, values, 0.0).tolist(),
        y=names,
        mode="markers",
        marker={"size": 11, "color": colours, "opacity": known.astype(float).tolist()},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": np.where(known, highs - values, 0).tolist(),
            "arrayminus": np.where(known, values - lows, 0).tolist(),
            "color": MUTED,
            "thickness": 1.5,
            "width": 5,
        },
        text=texts,
        hovertemplate="%{y}: %{text}<extra></extra>",
        showlegend=False,
    )
    figure = go.Figure(dots)
    right = [
        {"x": 1.0, "xref": "paper", "xanchor": "right", "y": n, "text": t} for n, t in zip(names, texts, strict=True)
    ]
    for note in right:
        figure.add_annotation(**note, showarrow=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    if zero:
        figure.add_vline(0, line={"color": INK, "width": 1})
        reach = float(np.nanmax(np.abs(np.concatenate([lows, highs, [0.02]])))) * 1.1
        figure.update_xaxes(range=[-reach, reach * 1.9], title_text=axis)
    else:
        figure.update_xaxes(range=[0, 1.38], tickvals=[0, 0.25, 0.5, 0.75, 1], title_text=axis)
    return house_style(figure, title or f"How sure is {axis}?", 130 + BAR_PX * len(names))


def honest_chart(table: pd.DataFrame, *, measure: str = "ap50", title: str | None = None) -> go.Figure:
    """The honest score: a dot and interval a strategy, with how much its val part leaks.

    Args:
        table: ``honest.HonestScores.table``.

    Raises:
        DatasetError: a column is missing or nothing is finished yet.
    """
    _need(table, ("strategy", "leak", measure, f"{measure}_low", f"{measure}_high"), "honest_chart")
    shown = table.assign(label=[f"{s} (leak {k:.0%})" for s, k in zip(table["strategy"], table["leak"], strict=True)])
    (easy, first), (hard, last) = ((row["strategy"], float(row[measure])) for _, row in table.iloc[[0, -1]].iterrows())
    told = f"{_sentence(easy)} as val says {first:.2f}, {hard} {last:.2f}" if len(table) > 1 else "One strategy so far"
    return interval_chart(
        shown,
        value=measure,
        low=f"{measure}_low",
        high=f"{measure}_high",
        name="label",
        axis=measure.upper(),
        title=title or f"{told}: one recipe, trained on as many frames each",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def fix_effect_chart(table: pd.DataFrame, *, title: str | None = None) -> go.Figure:
    """Did the fix help: the difference of each measure on val as it was and on the repaired val, with its interval.

    Args:
        table: ``fix_effect.FixEffect.table``: val, measure, before, after, difference, low, high.

    Raises:
        DatasetError: a column is missing or no pair of trainings is finished yet.
    """
    _need(table, ("val", "measure", "before", "after", "difference", "low", "high"), "fix_effect_chart")
    shown = table.assign(
        label=[
            f"{row.measure}, val {row.val}: {row.before:.2f} before, {row.after:.2f} after"
            for row in table.itertuples(index=False)
        ]
    )
    return interval_chart(
        shown,
        value="difference",
        low="low",
        high="high",
        name="label",
        zero=True,
        axis="after the fix less before",
        title=title or "Did repairing the annotations help the detector?",
    )


def cluster_score_chart(scores: pd.DataFrame, *, most: int = 20, title: str | None = None) -> go.Figure:
    """AP50 of each cluster, the worst on top, with its boxes; clusters of few boxes are pale and stand below.

    AP ranks detections of any score, so a cluster may have a high AP and none of its boxes found at .5:
    the texts say at which score they count.

    Args:
        scores: ``cluster_scores.cluster_scores``: cluster, ap, truth, missed, false.
        most: clusters shown.

    Raises:
        DatasetError: a column is missing or there are no clusters.
    """
    _need(scores, ("cluster", "ap", "truth", "missed", "false"), "cluster_score_chart")
    few = scores["truth"] < FEW_BOXES
    shown = pd.concat([scores[~few], scores[few]]).head(most)
    names = [f"cluster {name}" if str(name).lstrip("-").isdigit() else f"{name}s" for name in shown["cluster"]]
    texts = [
        f"{ap:.2f}: {truth} box{'' if truth == 1 else 'es'}; at score .5: {truth - missed} found, {false} false"
        for ap, truth, missed, false in shown[["ap", "truth", "missed", "false"]].itertuples(index=False)
    ]
    bars = go.Bar(
        x=shown["ap"].tolist(),
        y=names,
        orientation="h",
        text=texts,
        textposition="outside",
        cliponaxis=False,
        marker={
            "color": shown["ap"].tolist(),
            "colorscale": "Viridis",
            "cmin": 0,
            "cmax": 1,
            "opacity": np.where(shown["truth"] < FEW_BOXES, PALE, 1.0).tolist(),
        },
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(range=[0, 1.6], tickvals=[0, 0.25, 0.5, 0.75, 1], title_text="AP50, over all scores")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    left_out = f" (the worst {most} of {len(scores)})" if len(scores) > most else ""
    return house_style(figure, title or f"Which looks does the detector fail on{left_out}?", 130 + BAR_PX * len(names))
