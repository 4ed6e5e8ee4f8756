"""What a report says in sentences, and several reports side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from obdb_lib.borders import Border
from obdb_lib.fairness import Fairness
from obdb_lib.nearest import SUSPICIOUS_NOVELTY, Nearest

if TYPE_CHECKING:
    from obdb_lib.leaks import SplitReport

GOOD, NOTE, BAD = "good", "note", "bad"
UNFAIR_FACTOR = 2.0
"""A class whose share is more than this many times the part's share of frames, or less than one part in so many, is
told. Raise it to hear of grosser misses only."""
UNLIKE_MIX = 0.05
"""Class mixes further apart than this (JSD, bit) are told. Random halves of field data stay below 0.01."""
FEW_BOXES = 10
"""Classes judged on fewer boxes than this are told: their AP is a matter of luck."""
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One sentence for a person, and whether it is good, to be known, or bad."""

    kind: str
    text: str


def findings(report: SplitReport) -> list[Finding]:
    """What a person should know of the split, leaks first."""
    found: list[Finding] = []
    if report.missing_frames:
        found.append(
            Finding(
                BAD, f"{report.missing_frames:,} frames of the split are not in the data: it was made for other data."
            )
        )
    for border in report.borders.values():
        if border.frames:
            found += _of_border(border)
    for part in report.fairness.values():
        found += _of_fairness(part, report)
    if report.single_video_classes:
        names = _listed(report.single_video_classes)
        found.append(Finding(NOTE, f"One video alone shows {names}: no split by videos can have it on both sides."))
    return found


def told(report: SplitReport) -> str:
    """The findings as lines to print: ``!`` bad, ``-`` to be known, ``+`` good."""
    signs = {BAD: "!", NOTE: "-", GOOD: "+"}
    found = findings(report)
    return "\n".join(f"{sign} {one.text}" for kind, sign in signs.items() for one in found if one.kind == kind)


def _of_border(border: Border) -> list[Finding]:
    judging, known, found = border.judging, border.known, []
    looked = []
    if border.gaps is None:
        found.append(
            Finding(NOTE, f"Names do not tell videos: neighbouring frames of {judging} and {known} are not known.")
        )
    else:
        looked.append("neighbouring keyframes")
        if border.gaps.adjacent:
            text = (
                f"{_share(border.gaps.adjacent, border.gaps.frames)} of the {judging} frames have the neighbouring "
                f"keyframe of their video in {known}: the score on {judging} will be too high."
            )
            found.append(Finding(BAD, text))
        elif border.shared["video"].shared_frames:
            share = _share(border.shared["video"].shared_frames, border.shared["video"].frames)
            text = f"{share} of the {judging} frames are of videos that {known} shows, too, though no neighbours."
            found.append(Finding(NOTE, text))
    if border.near_duplicates is None:
        found.append(Finding(NOTE, f"Nobody looked for near copies between {judging} and {known}."))
    else:
        looked.append("near copies")
        if border.near_duplicates:
            text = (
                f"{_share(border.near_duplicates, border.frames)} of the {judging} frames have a near copy in {known}."
            )
            found.append(Finding(BAD, text))
    if border.nearest is not None:
        looked.append("nearest crops")
        found.append(_of_nearest(border.nearest, judging, known))
    if looked and not any(one.kind == BAD for one in found):
        found.insert(0, Finding(GOOD, f"No leak from {known} into {judging} was found ({', '.join(looked)})."))
    session = border.shared["session"]
    if session.frames and session.shared == session.groups:
        text = f"All {session.groups} sessions of {judging} are in {known}, too: the score says nothing of a new day."
        found.append(Finding(NOTE, text))
    return found


def _of_nearest(nearest: Nearest, judging: str, known: str) -> Finding:
    text = f"The most similar crop in {known} is {nearest.ratio:.2f} times as far away for {judging} as within "
    text += known
    if nearest.novelty is not None:
        text += f" ({nearest.novelty:.2f} on the way from the same group, 0, to another group, 1)"
    if not nearest.suspicious:
        return Finding(GOOD, text + ".")
    reason = f"{nearest.same_picture:.0%} have practically the same picture there"
    if nearest.novelty is not None:
        reason = f"below {SUSPICIOUS_NOVELTY:g} {judging} looks like other frames of the same groups"
    return Finding(BAD, f"{judging} lies suspiciously near to {known}: {reason}. {text}.")


def _of_fairness(part: Fairness, report: SplitReport) -> list[Finding]:
    name, found = part.part, []
    if not report.boxes.get(name):
        return [Finding(BAD, f"{name} has no boxes: nothing can be judged on it.")]
    if not report.boxes.get("train"):
        return [Finding(BAD, f"train has no boxes in this data: {name} cannot be compared with it.")]
    counts = {one: row[name] for one, row in report.classes.items()}
    absent = [one for one, count in counts.items() if not count]
    few = [one for one, count in counts.items() if 0 < count < FEW_BOXES]
    wanted = part.frame_share if part.target is None else part.target
    apart = [
        f"{one} ({share:.0%})"
        for one, share in part.class_share.items()
        if one not in absent and not wanted / UNFAIR_FACTOR <= share <= wanted * UNFAIR_FACTOR
    ]
    if absent:
        found.append(Finding(BAD, f"{name} never shows {_listed(absent)}: that class is not judged at all."))
    if few:
        found.append(Finding(NOTE, f"{name} has fewer than {FEW_BOXES} boxes of {_listed(few)}: a matter of luck."))
    if apart:
        found.append(Finding(NOTE, f"Far from the wanted {wanted:.0%} of their boxes in {name}: {_listed(apart)}."))
    if part.class_jsd > UNLIKE_MIX:
        found.append(Finding(BAD, f"{name} shows another mix of classes than train (JSD {part.class_jsd:.3f} bit)."))
    if part.missing_clusters:
        total = len([one for one in report.clusters or {} if one != "-1"])
        text = f"{len(part.missing_clusters)} of {total} clusters have no crop in {name}: those looks are never judged."
        found.append(Finding(NOTE, text))
    if not any(one.kind == BAD for one in found):
        text = f"{name} shows every class; the least is {part.smallest_class} with {part.smallest_count:,} boxes"
        found.insert(0, Finding(GOOD, f"{text} ({part.smallest_share:.0%} of it)."))
    return found


def compare(reports: list[SplitReport]) -> pd.DataFrame:
    """Reports side by side, one column each, for a person; lines that no report can fill are left out."""
    rows: dict[str, Callable[[SplitReport], str | None]] = {
        "frames train / val": lambda r: f"{r.frames['train']} / {r.frames['val']}",
        "boxes train / val": lambda r: f"{r.boxes['train']} / {r.boxes['val']}",
        "smallest share of a class in val": lambda r: _percent(r.smallest_class_share),
        "boxes of that class in val": lambda r: _of_val(r, lambda f: f"{f.smallest_count:,} ({f.smallest_class})"),
        "class mix, JSD in bit": lambda r: f"{r.class_jsd:.4f}",
        "cluster mix, JSD in bit": lambda r: "-" if r.cluster_jsd is None else f"{r.cluster_jsd:.4f}",
        "clusters with crops in val": lambda r: _of_val(r, lambda f: _percent(f.cluster_coverage)),
        "box sizes apart, px": lambda r: _of_val(r, lambda f: _number(f.size_distance, ".1f")),
        "val frames whose session is in train": lambda r: _shared(r, "val/train", "session"),
        "val frames whose video is in train": lambda r: _percent(r.shared_videos),
        "val frames with the adjacent keyframe in train": lambda r: _percent(r.adjacent_leak),
        "val frames with a near-duplicate in train": lambda r: _percent(r.near_duplicate_leak),
        "nearest crop in train (0 same group, 1 another)": lambda r: _novelty(r, "val/train"),
        "frames in test": lambda r: str(r.frames["test"]) if "test" in r.frames else None,
        "test frames that leak from train": lambda r: _leak(r, "test/train"),
        "test frames that leak from val": lambda r: _leak(r, "test/val"),
        "test, class mix, JSD in bit": lambda r: (
            f"{r.fairness['test'].class_jsd:.4f}" if "test" in r.fairness else None
        ),
    }
    columns = {r.strategy: {title: show(r) for title, show in rows.items()} for r in reports}
    table = pd.DataFrame(columns, index=list(rows), dtype=object)
    return table.dropna(how="all").fillna("-")


def _of_val(report: SplitReport, show: Callable[[Fairness], str]) -> str:
    return show(report.fairness["val"])


def _shared(report: SplitReport, border: str, level: str) -> str:
    shared = report.borders[border].shared[level]
    return _percent(shared.rate if shared.frames else None)


def _novelty(report: SplitReport, border: str) -> str | None:
    nearest = report.borders[border].nearest
    if nearest is None:
        return None
    value = "not known" if nearest.novelty is None else f"{nearest.novelty:.2f}"
    return f"{value}, suspicious" if nearest.suspicious else value


def _leak(report: SplitReport, border: str) -> str | None:
    if border not in report.borders:
        return None
    rates = [report.borders[border].adjacent_rate, report.borders[border].near_duplicate_rate]
    known = [rate for rate in rates if rate is not None]
    return _percent(max(known) if known else None)


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, form: str) -> str:
    return "not known" if value is None else format(value, form)


def _share(count: int, of: int) -> str:
    return f"{100 * count / max(of, 1):.1f} % ({count:,} of {of:,})"


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest
