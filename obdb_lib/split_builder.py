"""From groups, shares and a person's fixed frames to the part of each frame; ``splits`` makes splits of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from obdb_lib.balance import Assignment, balance_groups
from obdb_lib.balance_problem import Problem, make_problem, mix_factor
from obdb_lib.boxes import IntArray
from obdb_lib.errors import SplitError
from obdb_lib.grouping import GroupSources, frame_groups, group_counts, in_buffer
from obdb_lib.snapshots import Snapshot

EXCLUDED = "excluded"
BALANCE = {"frames": 1.0, "classes": 1.0, "clusters": 1.0, "sizes": 0.05}
"""Weight of the squared deviations of each kind; 0 leaves a kind out. Sizes come last: on field video they go with the
session, and would otherwise pull the classes apart."""
PEAK_KINDS = ("frames", "classes", "clusters")
"""Kinds whose worst column is minimised, too."""
COARSE_CLUSTERS = 0.25
"""Share of the crops in clusters that whole groups cannot divide as wanted. Above it (looks that belong to single
videos) their mix cannot be had; it then weighs what sizes weigh, or it would pull frames and classes apart."""
CLASS_MINIMUM = 1
"""Boxes of each class that each part holds where that is feasible."""
NAMED = 5
"""Names in a sentence; more are counted."""


@dataclass(frozen=True)
class Wish:
    """What is asked of the builder.

    Attributes:
        shares: target share of frames by part, in sum 1.
        group_by, sources: what may not be torn apart (grouping.frame_groups).
        fixed: img_path -> part, set by a person; its whole group goes there. ``excluded`` takes out the frame alone.
        class_minimum: hard minimum of boxes of each class in each part, where feasible.
        balance: weights by kind that differ from BALANCE.
    """

    shares: Mapping[str, float]
    group_by: Sequence[str]
    sources: GroupSources
    fixed: Mapping[str, str] = field(default_factory=dict)
    class_minimum: int = CLASS_MINIMUM
    balance: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


def build_parts(snapshot: Snapshot, table: pd.DataFrame, wish: Wish) -> tuple[pd.DataFrame, dict[str, object]]:
    """Part of each frame of ``table`` (rows of Snapshot.frames): columns img_path and part; and the parameters to keep.

    Raises:
        SplitError: shares or weights that make no sense, fixed frames that contradict each other or the buffer, or
            fewer groups than parts.
    """
    weights = _weights(wish)
    parts: dict[str, str] = {}
    paths = table["img_path"].tolist()
    out, fixed = _taken_out(table, wish)
    parts.update(dict.fromkeys(table["img_path"][out], EXCLUDED))
    table = table[~out]
    groups = frame_groups(table, wish.group_by, sources=wish.sources)
    given = _fixed_groups(table, groups, fixed)
    outside = np.array([given.get(int(group), "") not in ("", *wish.shares) for group in groups], dtype=bool)
    parts.update({p: given[g] for p, g in zip(table["img_path"][outside], groups[outside].tolist(), strict=True)})
    names, table, old = list(wish.shares), table[~outside], groups[~outside]
    numbers, groups = np.unique(old, return_inverse=True)
    pinned = np.array([names.index(given[n]) if n in given else -1 for n in numbers.tolist()], dtype=np.int64)
    _check_enough(pinned, table, wish)
    found = _solve(snapshot, table, groups.astype(np.int64), pinned, wish, weights)
    parts.update(zip(table["img_path"], [names[part] for part in found[0].parts[groups]], strict=True))
    result = pd.DataFrame({"img_path": paths, "part": [parts[path] for path in paths]})
    return result, _parameters(wish, weights, len(numbers), *found)


def _weights(wish: Wish) -> dict[str, float]:
    unknown = sorted(set(wish.balance) - set(BALANCE))
    weights = {**BALANCE, **wish.balance}
    if unknown or min(weights.values()) < 0 or not weights["frames"] + weights["classes"] > 0:
        raise SplitError(
            f"balance gives weights of 0 or more to {', '.join(BALANCE)}, and frames or classes must have one; got "
            f"{dict(wish.balance)}"
        )
    if wish.class_minimum < 0:
        raise SplitError(f"class_minimum must be 0 or more boxes; got {wish.class_minimum}")
    return weights


def _taken_out(table: pd.DataFrame, wish: Wish) -> tuple[np.ndarray, dict[str, str]]:
    """Which rows take no part (fixed as excluded, or in a buffer), and the fixed frames that do."""
    known = set(table["img_path"])
    lost = sorted(set(wish.fixed) - known)
    if lost:
        raise SplitError(
            f"{len(lost)} fixed frame(s) are not among the {len(known)} frames to split, such as {lost[0]}; take them "
            "out of fixed"
        )
    buffered = np.zeros(len(table), dtype=bool)
    if "time_block" in wish.group_by and wish.sources.block_frames is not None:
        buffered = in_buffer(table, wish.sources.block_frames, wish.sources.buffer_frames)
    fixed = {path: part for path, part in wish.fixed.items() if part != EXCLUDED}
    for path in table["img_path"][buffered]:
        if path in fixed:
            raise SplitError(
                f"{path} is fixed to {fixed[path]}, but lies in the buffer between two time blocks, which no part may "
                "have; take it out of fixed, or choose other block_frames and buffer_frames"
            )
    excluded = table["img_path"].map(lambda path: wish.fixed.get(path) == EXCLUDED).to_numpy(bool)
    return buffered | excluded, fixed


def _fixed_groups(table: pd.DataFrame, groups: IntArray, fixed: Mapping[str, str]) -> dict[int, str]:
    """Group -> the part a person gave it."""
    first: dict[int, tuple[str, str]] = {}
    for path, group in zip(table["img_path"], groups.tolist(), strict=True):
        part = fixed.get(path)
        if part is None:
            continue
        before = first.setdefault(group, (path, part))
        if before[1] != part:
            raise SplitError(
                f"{before[0]} is fixed to {before[1]} and {path} to {part}, but both are in one group of "
                f"{int((groups == group).sum())} frames that may not be torn apart; fix them alike, or group by less"
            )
    return {group: part for group, (_, part) in first.items()}


def _check_enough(pinned: IntArray, table: pd.DataFrame, wish: Wish) -> None:
    names = list(wish.shares)
    empty = [name for number, name in enumerate(names) if not (pinned == number).any()]
    if len(empty) <= int((pinned < 0).sum()):
        return
    hint = " Large clusters join everything: leave cluster out." if "cluster" in wish.group_by else ""
    raise SplitError(
        f"the {len(table)} frames form {len(pinned)} group(s) by {', '.join(wish.group_by)}: too few for {len(names)} "
        f"parts ({', '.join(names)}). Group by something finer, or collect more videos.{hint}"
    )


def _solve(
    snapshot: Snapshot, table: pd.DataFrame, groups: IntArray, pinned: IntArray, wish: Wish, weights: dict[str, float]
) -> tuple[Assignment, Problem]:
    clusters = wish.sources.clusters if weights["clusters"] else None
    found = group_counts(table, groups, snapshot.annotations, clusters)
    keep = np.array([weights[kind] > 0 or kind == "classes" for kind in found.kinds])
    kinds = [kind for kind, kept in zip(found.kinds, keep, strict=True) if kept]
    counts = found.counts[:, keep]
    names = [name for name, kept in zip(found.names, keep, strict=True) if kept]

    def problem(weights: dict[str, float], peak_kinds: Sequence[str]) -> Problem:
        return make_problem(
            counts,
            np.array([wish.shares[name] for name in wish.shares], dtype=np.float64),
            mix_factor(counts.sum(axis=0), kinds, weights),
            names=names,
            peak=np.array([kind in peak_kinds and weights[kind] > 0 for kind in kinds]),
            minimum=np.array([wish.class_minimum * (kind == "classes") for kind in kinds]),
            fixed=pinned,
        )

    asked = problem(weights, PEAK_KINDS)
    crops = {name: counts[:, n].sum() for n, name in enumerate(names) if kinds[n] == "clusters"}
    if sum(crops.get(name, 0) for name in asked.coarse) > COARSE_CLUSTERS * sum(crops.values()):
        light = {**weights, "clusters": min(weights["clusters"], BALANCE["sizes"])}
        asked = problem(light, [kind for kind in PEAK_KINDS if kind != "clusters"])
    return balance_groups(asked, seed=wish.seed), asked


def _parameters(
    wish: Wish, weights: dict[str, float], groups: int, found: Assignment, problem: Problem
) -> dict[str, object]:
    """Plain values: what was asked, and under ``solver`` how near to the best possible it came."""
    solver = {
        "method": found.method,
        "programme": found.programme,
        "restarts": found.restarts,
        "objective": _short(found.objective),
        "bound": _short(found.bound),
        "gap": _short(found.gap),
        "largest_deviation": _short(found.largest),
        "largest_deviation_bound": _short(found.largest_bound),
        "too_coarse": list(problem.coarse),
        "lacking": found.lacking,
    }
    parameters: dict[str, object] = {
        "group_by": list(wish.group_by),
        "shares": dict(wish.shares),
        "seed": wish.seed,
        "groups": groups,
        "class_minimum": wish.class_minimum,
        "balance": weights,
        "fixed": len(wish.fixed),
        "solver": solver,
    }
    if "time_block" in wish.group_by:
        parameters["block_frames"] = wish.sources.block_frames
        parameters["buffer_frames"] = wish.sources.buffer_frames
    return parameters


def choose_sessions(
    snapshot: Snapshot, table: pd.DataFrame, wish: Wish, sessions: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Frames of whole sessions to be held out, as (N,) bool, and the sessions; what else joins them comes along.

    Args:
        wish: its shares are those of the rest and of what is held out, in this order.
        sessions: which; None takes those that are most like the rest.

    Raises:
        SplitError: names that do not tell sessions, an unknown session, or nothing left besides.
    """
    known = sorted(set(table["session"]) - {""})
    if not known:
        raise SplitError("the names of the frames tell no session; a new-day test needs a naming pattern that does")
    strangers = sorted(set(sessions or ()) - set(known))
    if strangers:
        raise SplitError(f"no session {', '.join(strangers)}; there are {', '.join(known)}")
    together = replace(wish, group_by=tuple(dict.fromkeys(("session", *wish.group_by))))
    groups = frame_groups(table, together.group_by, sources=wish.sources)
    rest, away = list(wish.shares)
    if sessions:
        held = np.isin(groups, groups[table["session"].isin(list(sessions)).to_numpy(bool)])
    else:
        stay = dict.fromkeys(table.loc[table["session"] == "", "img_path"], rest)
        parts, _ = build_parts(snapshot, table, replace(together, fixed=stay))
        held = (parts["part"] == away).to_numpy(bool)
    if held.all():
        raise SplitError(f"the sessions {', '.join(sessions or known)} hold all frames: nothing is left to train on")
    return held, tuple(sorted(set(table["session"][held]) - {""}))


def how_near(parameters: Mapping[str, object], frames: Mapping[str, int]) -> str:
    """A few sentences on how near to what was wanted the builder came, and whether better is possible.

    Args:
        parameters: those of the split; "" comes back for strategies that build nothing.
        frames: frames of each part.
    """
    solver = cast("Mapping[str, Any]", parameters.get("solver"))
    if not solver:
        return ""
    total = sum(count for part, count in frames.items() if part != EXCLUDED)
    shares = cast("Mapping[str, float]", parameters["shares"])
    parts = [f"{part} {frames.get(part, 0) / max(total, 1):.1%} (wanted {share:.0%})" for part, share in shares.items()]
    told = [f"Frames: {', '.join(parts)}, in {parameters['groups']} groups that stay whole."]
    if solver["too_coarse"]:
        told.append(f"Too few or too large groups to share these out as wanted: {_some(solver['too_coarse'])}.")
    worst, bound = solver["largest_deviation"], solver["largest_deviation_bound"]
    best = "the best that is possible" if worst <= bound + 5e-4 else f"no split of these groups gets below {bound:.1%}"
    told.append(f"Of all else the share furthest off misses its size by {worst:.1%} of it; {best}.")
    told += [f"{name} is not in every part: {reason}." for name, reason in solver["lacking"].items()]
    return " ".join(told)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _short(number: float) -> float:
    return float(f"{number:.6g}")
