"""No plant is sent twice: accepted boxes are held against those sent before and against each other, by their place."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from obdb_lib.boxes import DEFAULT_MATCH_IOU
from obdb_lib.frame_matching import flat_boxes, overlapping
from obdb_lib.memory import same_proposal
from obdb_lib.records import Document, Problem
from obdb_lib.snapshots import BOX


def pushed_places(
    pushed: Collection[str], suggestions: Iterable[Document], entries: Iterable[Document]
) -> list[Document]:
    """Where boxes lie that stand on CVAT already.

    Args:
        pushed: ids of their suggestions (``push.pushed_suggestions``).
        suggestions: those documents (``Store.suggestions_by_id``).
        entries: decisions on them in the order they were written; a box was sent as it was accepted last, even if that
            was taken back since.

    Returns:
        ``_id``, ``img_path`` and ``points`` (x1, y1, x2, y2 in pixels) of each.
    """
    accepted = {str(entry["suggestion_id"]): entry for entry in entries if entry["verdict"] == "accept"}
    found = []
    for one in suggestions:
        name = str(one["_id"])
        if name in pushed:
            points = accepted.get(name, {}).get("points") or one["points"]
            found.append({"_id": name, "img_path": str(one["img_path"]), "points": list(points)})
    return found


def sent_once(
    accepted: Sequence[Document],
    places: Sequence[Document],
    problems: list[Problem],
    *,
    min_iou: float = DEFAULT_MATCH_IOU,
) -> list[Document]:
    """``accepted`` without those that lie where a box was sent before, or where an accepted one lies that is given
    earlier; each of these becomes a problem. The class does not matter.

    Two boxes that one model proposed for the same data stay: it saw two plants, and a person said yes to both.

    Args:
        places: ``pushed_places``.
        min_iou: overlap in one frame from which two boxes are one plant, above 0 and at most 1.
    """
    own, sent = flat_boxes(_table(accepted), _table(places))
    why: dict[int, str] = {}
    before = overlapping(own, sent, min_iou=min_iou)
    for row, column in zip(before.first.tolist(), before.second.tolist(), strict=True):
        why.setdefault(row, f"a box was sent there before (suggestion {places[column]['_id']}); not sent again")
    among = overlapping(own, own, min_iou=min_iou)
    for first, second in zip(among.first.tolist(), among.second.tolist(), strict=True):
        one, other = accepted[first], accepted[second]
        if first < second and first not in why and not same_proposal(one, other):
            why.setdefault(second, f"suggestion {one['_id']} of another look lies there and is sent; this one is not")
    for row in sorted(why):
        problems.append(Problem(f"suggestion {accepted[row]['_id']} on {accepted[row]['img_path']}", why[row]))
    return [one for row, one in enumerate(accepted) if row not in why]


def _table(boxes: Sequence[Document]) -> pd.DataFrame:
    """Corners in order, as a person may have drawn them otherwise. What is no box overlaps nothing: the checks of the
    plan tell of it."""
    rows = []
    for one in boxes:
        points = [float(value) for value in one["points"]]
        if len(points) != 4 or not all(map(math.isfinite, points)):
            points = [0.0] * 4
        x1, y1, x2, y2 = points
        rows.append((str(one["img_path"]), "", min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    return pd.DataFrame(rows, columns=["img_path", "object_class", *BOX])
