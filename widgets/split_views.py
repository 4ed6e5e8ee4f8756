"""The two views a split explorer adds to the map: the bar that puts the selection into a part, and the live numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from traitlets import Bool, Dict, Int, List, Unicode

from obdb_lib.split_draft import Balance, SplitNumbers
from widgets._base import STATIC, PlainWidget
from widgets.palette import PART_COLOURS

Record = dict[str, Any]

LOW_SHARE = 0.5
"""A class or cluster with less than this part of its wanted share of boxes in val is pointed out; lower warns later."""
HIGH_SHARE = 2.0
"""One with more than this many times its wanted share is pointed out, too."""

LEAKS = (
    ("adjacent_leak", "Adjacent frame", "frames whose next or previous keyframe of the same video is in train"),
    ("near_duplicate_leak", "Near duplicate", "frames with a proven near copy in train"),
    ("group_overlap", "Torn group", "frames whose group (what the split keeps together) is also in train"),
)


class SplitBar(PlainWidget):
    """Buttons and keys that edit the split; the keys work anywhere in the explorer once it was clicked.

    Attributes:
        parts: one {name, label, key, colour} per button.
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
        frames: one {part, colour, count, before} per part.
        leaks: one {title, help, value, before, test, test_before} per leak: rates 0..1 of the frames of val (test),
            None where not known. Test's is the larger of train and val leaking into it, None without a test part.
        classes, clusters: {rows, jsd, before, target, test_target}; a row is {label, share, before, test, boxes, note}.
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
            self.frames = [
                {"part": part, "colour": colour, "count": numbers.frames[part], "before": before.frames[part]}
                for part, colour in PART_COLOURS.items()
            ]
            self.leaks = [
                {
                    "title": title,
                    "help": text,
                    "value": numbers.worst("val", name),
                    "before": before.worst("val", name),
                    "test": numbers.worst("test", name),
                    "test_before": before.worst("test", name),
                }
                for name, title, text in LEAKS
            ]
            self.classes = balance_rows(numbers.classes, before.classes, target, by_size=True)
            clusters, earlier = numbers.clusters, before.clusters
            known = clusters is not None and earlier is not None
            self.clusters = balance_rows(clusters, earlier, target, by_size=False) if known else {}  # type: ignore[arg-type]
            self.turn += 1


def balance_rows(now: Balance, before: Balance, target: dict[str, float], *, by_size: bool) -> Record:
    """What a balance looks like to a person: its rows (largest first if ``by_size``), shares, and warnings."""
    sides = target["train"] + target["val"]
    wanted = target["val"] / sides if sides else 0.0
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
        }
        for place in order
    ]
    total = sides + target["test"]
    test_target = target["test"] / total if total else 0.0
    return {"rows": rows, "jsd": now.jsd, "before": before.jsd, "target": wanted, "test_target": test_target}


def share_note(share: float, wanted: float) -> str:
    """``none``, ``low`` or ``high`` where a share in val misses the wanted one by far, else nothing."""
    if not wanted:
        return ""
    if share == 0:
        return "none"
    return "low" if share < LOW_SHARE * wanted else "high" if share > HIGH_SHARE * wanted else ""
