"""What the scores before and after a repair mean, in words that claim no more than they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pandas as pd

MEASURE = "mAP50"


def fix_sentences(
    table: pd.DataFrame,
    by_seed: pd.DataFrame,
    changed: Mapping[str, int],
    warnings: Sequence[str],
    *,
    level: float,
    partial: bool,
) -> str:
    """A verdict on the repaired val, the numbers of both vals, what was changed, and what to beware of.

    Args:
        table, by_seed, changed: as in ``fix_effect.FixEffect``.
        level: of the interval, 0..1.
    """
    stopped = "It was stopped; the same call goes on." if partial else ""
    if table.empty:
        return f"No pair of trainings is finished yet. {stopped}".strip()
    was, now = (_row(table, val) for val in ("as it was", "repaired"))
    low, high = float(now["low"]), float(now["high"])
    each = by_seed[(by_seed["val"] == "repaired") & (by_seed["measure"] == MEASURE)]["difference"]
    agree = not ((each > 0).any() and (each < 0).any())
    if not changed["train"]:
        verdict = "The detectors are the same: no annotation of train was changed, so there was nothing to learn"
    elif low > 0 and agree:
        verdict = "The fix helped"
    elif high < 0 and agree:
        verdict = "The fix did harm"
    else:
        verdict = f"Whether the fix helped cannot be told from these {'frames' if agree else 'trainings'}"
    told = [
        f"{verdict}: on the repaired val {_numbers(now, level)}; on val as it was {_numbers(was, level)}.",
        f"{_annotations(changed['train'])} of train and {changed['val']} of val were changed.",
    ]
    if changed["train"]:
        told.append(_luck(each, agree))
    told += [f"{one}." for one in warnings]
    return " ".join([*told, *([stopped] if stopped else [])])


def _row(table: pd.DataFrame, val: str) -> dict[str, float]:
    rows = table[(table["val"] == val) & (table["measure"] == MEASURE)]
    return {name: float(cast(float, rows[name].iloc[0])) for name in ("before", "after", "difference", "low", "high")}


def _numbers(row: Mapping[str, float], level: float) -> str:
    limits = f"{level:.0%} interval {row['low']:+.3f} to {row['high']:+.3f}"
    return f"{MEASURE} went from {row['before']:.3f} to {row['after']:.3f}, {row['difference']:+.3f} ({limits})"


def _luck(differences: pd.Series, agree: bool) -> str:
    """What the interval does not hold: how much one training differs from another."""
    if len(differences) == 1:
        return (
            "The interval is over other frames; one training a side says nothing of the luck of training, so repeat it "
            "with more seeds."
        )
    each = ", ".join(f"{value:+.3f}" for value in differences)
    luck = "" if agree else ": they disagree, so it may be luck of the training; add seeds"
    return f"The interval is over other frames; by seed the difference is {each}{luck}."


def _annotations(count: int) -> str:
    return f"{count} annotation{'' if count == 1 else 's'}"
