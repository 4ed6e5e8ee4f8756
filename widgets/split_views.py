"""The two views a split explorer adds to the map: the bar that puts the selection into a part, and the live numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from traitlets import Bool, Dict, Int, List, Unicode

from obdb_lib.split_draft import EXCLUDED, Balance, SplitNumbers
from obdb_lib.splits import PARTS
from widgets._base import STATIC, PlainWidget
from widgets.palette import PART_COLOURS

Record = dict[str, Any]

LOW_SHARE = 0.5
"""A class or cluster with less than this part of its wanted share of boxes in val is pointed out; lower warns later."""
HIGH_SHARE = 2.0
"""One with more than this many times its wanted share is pointed out, too."""

FRAMES_OFF = 0.25
"""A part whose share of frames misses the wanted one by more than this (relative to it) is pointed out; a builder that
moves whole videos comes closer than that unless there are few of them. Lower warns sooner."""

SCALE_TARGETS = 2.5
"""A bar's full length is this many times the wanted share, so that misses on both sides can be seen. It hangs on what
is wanted alone: an edit never changes the scale, and what lies beyond its end is marked there."""

LEAKS = (
    ("adjacent_leak", "Adjacent frame", "frames whose next or previous keyframe of the same video is in train"),
    ("near_duplicate_leak", "Near duplicate", "frames with a proven near copy in train"),
    ("group_overlap", "Torn group", "frames whose group (what the split keeps together) is also in train"),
)


class SplitBar(PlainWidget):
    """Buttons and keys that edit the split; the keys work anywhere in the explorer once it was clicked.

    Attributes:
        parts: one {name, label, key, colour, help} per button.
        selection: the sentence that says what is selected and what an edit would take along.
        ready: True when something is selected that can be moved.
        can_undo, can_redo, can_save: which buttons work.
        has_groups, keep_whole: whether the split knows groups, and whether edits keep them whole.
        unsaved: the sentence about edits that are not saved; empty when all are.
        message: {kind, text}, kind ``info``, ``good`` or ``error``.
        turn: counts the acts that Python has finished with.
    """

    _esm = STATIC / "split_bar.js"
    _css = STATIC / "split_explorer.css"

    parts = List(Dict()).tag(sync=True)
    selection = Unicode().tag(sync=True)
    ready = Bool(False).tag(sync=True)
    can_undo = Bool(False).tag(sync=True)
    can_redo = Bool(False).tag(sync=True)
    can_save = Bool(False).tag(sync=True)
    has_groups = Bool(False).tag(sync=True)
    keep_whole = Bool(True).tag(sync=True)
    unsaved = Unicode().tag(sync=True)
    message = Dict().tag(sync=True)
    turn = Int(0).tag(sync=True)


class SplitPanel(PlainWidget):
    """Frames, leaks, classes and clusters of the split as it stands, each beside its value before the latest act.

    Attributes:
        frames: one {part, colour, count, before, share, target, note} per part; see ``frame_rows``.
        leaks: one {title, help, value, before, test, test_before, why, test_why} per leak: rates 0..1 of the frames of
            val (test), None where not known; ``why`` then says what is missing. Test's is the larger of train and val
            leaking into it, None without a test part.
        classes, clusters: {rows, jsd, before, target, test_target, scale, empty}; a row is {label, share, before, test,
            boxes, note, test_note}; a bar ends at ``scale``; ``empty`` names val or train where it has no boxes.
        turn: counts how often other numbers were told.
    """

    _esm = STATIC / "split_panel.js"
    _css = STATIC / "split_explorer.css"

    frames = List(Dict()).tag(sync=True)
    leaks = List(Dict()).tag(sync=True)
    classes = Dict().tag(sync=True)
    clusters = Dict().tag(sync=True)
    turn = Int(0).tag(sync=True)

    def tell(self, numbers: SplitNumbers, before: SplitNumbers, target: dict[str, float]) -> None:
        """Show ``numbers`` and how they differ from ``before``; ``target`` is the wanted share of frames by part."""
        with self.hold_sync():
            self.frames = frame_rows(numbers, before, target)
            self.leaks = [
                {
                    "title": title,
                    "help": text,
                    "value": numbers.worst("val", name),
                    "before": before.worst("val", name),
                    "test": numbers.worst("test", name),
                    "test_before": before.worst("test", name),
                    "why": why_unknown(numbers, "val"),
                    "test_why": why_unknown(numbers, "test"),
                }
                for name, title, text in LEAKS
            ]
            self.classes = balance_rows(numbers.classes, before.classes, target, by_size=True)
            clusters, earlier = numbers.clusters, before.clusters
            known = clusters is not None and earlier is not None
            self.clusters = balance_rows(clusters, earlier, target, by_size=False) if known else {}  # type: ignore[arg-type]
            self.turn += 1


def frame_rows(now: SplitNumbers, before: SplitNumbers, target: dict[str, float]) -> list[Record]:
    """Frames of each part beside the wanted ones.

    ``share`` and ``target`` are of the frames of train, val and test, 0..1; what is excluded is wanted nowhere and has
    neither (0). ``note`` is ``none``, ``low``, ``high`` or "".
    """
    used = [part for part in PART_COLOURS if part != EXCLUDED]
    total, wanted = sum(now.frames[part] for part in used), sum(target[part] for part in used)
    rows = []
    for part, colour in PART_COLOURS.items():
        share = now.frames[part] / total if total and part in used else 0.0
        aim = target[part] / wanted if wanted and part in used else 0.0
        rows.append(
            {
                "part": part,
                "colour": colour,
                "count": now.frames[part],
                "before": before.frames[part],
                "share": share,
                "target": aim,
                "note": share_note(share, aim, low=1 - FRAMES_OFF, high=1 + FRAMES_OFF),
            }
        )
    return rows


def why_unknown(numbers: SplitNumbers, judging: str) -> str:
    """Why the leaks into a part cannot be told: "no val frames", or "not known" where it has frames to ask about."""
    empty = numbers.empty_side(judging)
    return f"no {empty} frames" if empty else "not known"


def bar_scale(*targets: float) -> float:
    """Share at which a bar ends, for shares wanted in val and test."""
    most = max(targets, default=0.0)
    return min(1.0, SCALE_TARGETS * most) if most else 1.0


def balance_rows(now: Balance, before: Balance, target: dict[str, float], *, by_size: bool) -> Record:
    """What a balance looks like to a person: its rows (largest first if ``by_size``), shares, and warnings."""
    sides = target["train"] + target["val"]
    total = sides + target["test"]
    wanted = target["val"] / sides if sides else 0.0
    test_wanted = target["test"] / total if total else 0.0
    totals = now.boxes.sum(axis=1)
    order = np.argsort(-totals, kind="stable") if by_size else np.arange(len(totals))
    shares, earlier, tests = now.val_share, before.val_share, now.test_share
    rows = [
        {
            "label": "outliers" if now.labels[place] == -1 and not by_size else str(now.labels[place]),
            "share": float(shares[place]),
            "before": float(earlier[place]),
            "test": float(tests[place]),
            "boxes": [int(count) for count in now.boxes[place]],
            "note": share_note(float(shares[place]), wanted),
            "test_note": share_note(float(tests[place]), test_wanted),
        }
        for place in order
    ]
    told = {"rows": rows, "jsd": now.jsd, "before": before.jsd, "target": wanted, "test_target": test_wanted}
    empty = [part for part in ("val", "train") if not now.boxes[:, PARTS.index(part)].any()]
    return told | {"scale": bar_scale(wanted, test_wanted), "empty": "".join(empty[:1])}


def share_note(share: float, wanted: float, *, low: float = LOW_SHARE, high: float = HIGH_SHARE) -> str:
    """``none``, ``low`` or ``high`` where a share misses the wanted one by far (times ``low``, ``high``), else ""."""
    if not wanted:
        return ""
    if share == 0:
        return "none"
    return "low" if share < low * wanted else "high" if share > high * wanted else ""
