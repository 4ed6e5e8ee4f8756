"""The annotations with the accepted decisions applied, in memory: what a retraining learns from before CVAT has them.

Nothing is guessed: where two accepted decisions contradict each other neither is applied, and both are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from obdb_lib.boxes import DEFAULT_MATCH_IOU, BoxSet, iou_matrix
from obdb_lib.records import Document, TaskRecord, check_task, make_annotation, make_task
from obdb_lib.snapshots import ANNOTATION_COLUMNS, BOX, Snapshot, with_annotations

MISSING, SWAPPED, LOOSE, SPURIOUS = "missing", "swapped_class", "bad_location", "spurious"
KINDS = (MISSING, SWAPPED, LOOSE, SPURIOUS)
ADDED_SOURCE = "auto"
"""``source`` of an added box, as the CVAT shape gets it when it is pushed."""
CHANGE_COLUMNS = (
    *("suggestion_id", "kind", "img_path", "annotation_id", "class_before", "class_after"),
    *(f"{side}_before" for side in BOX),
    *(f"{side}_after" for side in BOX),
    "who",
)
CONFLICT_COLUMNS = ("suggestion_id", "kind", "img_path", "annotation_id", "why")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Repaired:
    """Annotations after the accepted decisions.

    Attributes:
        snapshot: with the id that ``build_snapshot`` would give these annotations.
        changes: what was done, one row a decision, columns CHANGE_COLUMNS; "" and NaN where there was nothing before
            (an added box) or is nothing after (a removed one).
        conflicts: accepted decisions that were not applied, columns CONFLICT_COLUMNS; ``why`` says what to do.
    """

    snapshot: Snapshot
    changes: pd.DataFrame
    conflicts: pd.DataFrame

    def summary(self) -> str:
        """Counts in a sentence."""
        counts = self.changes["kind"].value_counts()
        words = zip(KINDS, ("added", "given another class", "moved", "removed"), strict=True)
        done = ", ".join(f"{int(counts.get(kind, 0))} {word}" for kind, word in words)
        left = f"; {len(self.conflicts)} accepted decisions not applied, see conflicts" if len(self.conflicts) else ""
        return f"Annotations: {done}{left}."


@dataclass(frozen=True)
class _Edit:
    """One accepted decision: what it wants of which annotation. None leaves a thing as it is."""

    suggestion_id: str
    kind: str
    img_path: str
    task_name: str
    frame: int
    annotation_id: str
    object_class: str | None
    box: Box | None
    who: str


def repaired(
    snapshot: Snapshot,
    suggestions: Sequence[Document],
    decisions: Mapping[str, Document],
    *,
    min_iou: float = DEFAULT_MATCH_IOU,
) -> Repaired:
    """Apply the accepted decisions: missing boxes added, swapped classes changed, bad locations moved, spurious boxes
    removed. What the decision says of class and points goes before the suggestion.

    Decisions on one annotation that want different things of it (or one removes what another keeps), added boxes that
    overlap each other or an annotation of their class, and annotations that are not in the snapshot are reported and
    not applied. Decisions that say the same are applied once.

    Args:
        suggestions: those that were decided on; others of ``decisions`` are ignored.
        decisions: suggestion_id -> standing decision (``Journal.standing``).
        min_iou: overlap from which two boxes are one plant, 0..1.
    """
    conflicts: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    edits = _edits(snapshot, suggestions, decisions, conflicts)
    table = _changed(snapshot, [edit for edit in edits if edit.kind != MISSING], changes, conflicts)
    added = _additions(table, [edit for edit in edits if edit.kind == MISSING], min_iou, conflicts)
    changes += [_change(edit, None, row) for edit, row in added]
    rows = pd.DataFrame([row for _, row in added], columns=list(ANNOTATION_COLUMNS))
    whole = pd.concat([table, rows], ignore_index=True) if len(rows) else table
    whole["occluded"] = whole["occluded"].astype(bool)
    return Repaired(
        with_annotations(snapshot, whole),
        pd.DataFrame(changes, columns=list(CHANGE_COLUMNS)),
        pd.DataFrame(conflicts, columns=list(CONFLICT_COLUMNS)),
    )


def _edits(
    snapshot: Snapshot,
    suggestions: Sequence[Document],
    decisions: Mapping[str, Document],
    conflicts: list[dict[str, Any]],
) -> list[_Edit]:
    """What the accepted decisions want, sorted by image and suggestion; unusable ones become conflicts."""
    places = snapshot.frames.set_index("img_path")[["task_name", "frame", "width", "height"]].to_dict("index")
    found: dict[str, _Edit] = {}
    for suggestion in suggestions:
        decision = decisions.get(suggestion["_id"])
        if decision is None or decision["verdict"] != "accept":
            continue
        edit, why = _edit_of(suggestion, decision, places)
        if why:
            conflicts.append(_conflict(edit, why))
        else:
            found[edit.suggestion_id] = edit
    return sorted(found.values(), key=lambda edit: (edit.img_path, edit.suggestion_id))


def _edit_of(suggestion: Document, decision: Document, places: Mapping[Any, Any]) -> tuple[_Edit, str]:
    """The wish of one decision, and why it cannot be followed ("" if it can)."""
    kind = str(decision.get("kind") or suggestion.get("kind") or MISSING)
    name = decision.get("object_class") or suggestion.get("object_class")
    points = decision.get("points") if decision.get("points") is not None else suggestion.get("points")
    # A swapped class leaves the box alone and a bad location the class, unless the person changed that, too.
    relabelled = decision.get("object_class") not in (None, suggestion.get("object_class"))
    moved = decision.get("points") is not None and list(decision["points"]) != list(suggestion.get("points") or [])
    img_path = str(suggestion["img_path"])
    place = places.get(img_path, {})
    edit = _Edit(
        suggestion_id=str(suggestion["_id"]),
        kind=kind,
        img_path=img_path,
        task_name=str(suggestion.get("task_name") or place.get("task_name", "")),
        frame=int(suggestion["frame"] if suggestion.get("frame") is not None else place.get("frame", 0)),
        annotation_id=str(decision.get("annotation_id") or suggestion.get("annotation_id") or ""),
        object_class=str(name) if kind in (MISSING, SWAPPED) or (kind == LOOSE and relabelled) else None,
        box=None,
        who=str(decision.get("who") or ""),
    )
    if kind not in KINDS:
        return edit, f"{kind!r} is no kind of suggestion; there are {', '.join(KINDS)}"
    if not place:
        return edit, "its frame is not in this snapshot; make the suggestions again for it"
    if kind in (MISSING, LOOSE) or (kind == SWAPPED and moved):
        box, why = _checked_box(points or [], place)
        return _Edit(**{**edit.__dict__, "box": box}), why
    return edit, ""


def _checked_box(points: Sequence[float], place: Mapping[str, Any]) -> tuple[Box | None, str]:
    """Corners in order and inside the frame, or why they are no box."""
    frame = ("", int(place["width"]), int(place["height"]))
    record = make_task("", [""], [frame])
    box = make_annotation(record, 0, "", points)
    checked, problems = check_task(TaskRecord(record.task, record.meta, [box]))
    if not checked.annotations:
        return None, f"its box cannot be used ({problems[0].what}); decide on it again"
    x1, y1, x2, y2 = (round(float(value), 2) for value in checked.annotations[0]["points"])
    return (x1, y1, x2, y2), ""


def _changed(
    snapshot: Snapshot, edits: Sequence[_Edit], changes: list[dict[str, Any]], conflicts: list[dict[str, Any]]
) -> pd.DataFrame:
    """The snapshot's annotations after the edits of existing ones."""
    table = snapshot.annotations.set_index("annotation_id", drop=False)
    wanted: dict[str, list[_Edit]] = {}
    for edit in edits:
        if edit.annotation_id not in table.index:
            name = edit.annotation_id or "(none)"
            conflicts.append(_conflict(edit, f"annotation {name} is not in this snapshot; make the suggestions again"))
        else:
            wanted.setdefault(edit.annotation_id, []).append(edit)
    rows = {number: _row_of(cast(pd.Series, table.loc[number])) for number in wanted}
    for number, own in wanted.items():
        before, after = rows[number], _merged(rows[number], own)
        if after is None:
            names = ", ".join(edit.suggestion_id for edit in own)
            why = f"accepted decisions want different things of annotation {number} ({names}); reject all but one"
            conflicts += [_conflict(edit, why) for edit in own]
        elif after == before:
            conflicts += [_conflict(edit, "there is nothing to change: the annotation is so already") for edit in own]
        else:
            rows[number] = after
            changes += [_change(edit, before, after) for edit in own]
    kept = table[~table["annotation_id"].isin(rows)]
    edited = pd.DataFrame([row for row in rows.values() if row], columns=list(ANNOTATION_COLUMNS))
    return pd.concat([kept, edited], ignore_index=True) if len(edited) else kept.reset_index(drop=True)


def _merged(row: dict[str, Any], edits: Sequence[_Edit]) -> dict[str, Any] | None:
    """The annotation after all edits, {} when it is removed, None when they contradict each other."""
    removals = sum(edit.kind == SPURIOUS for edit in edits)
    names = {edit.object_class for edit in edits} - {None}
    boxes = {edit.box for edit in edits} - {None}
    if removals:
        return {} if removals == len(edits) else None
    if len(names) > 1 or len(boxes) > 1:
        return None
    after = dict(row)
    for name in names:
        after["object_class"] = name
    for box in boxes:
        if box is not None and box != tuple(round(float(row[side]), 2) for side in BOX):
            # A box around a polygon is no polygon any more.
            after |= {**dict(zip(BOX, box, strict=True)), "shape_type": "rectangle"}
    return after


def _additions(
    table: pd.DataFrame, edits: Sequence[_Edit], min_iou: float, conflicts: list[dict[str, Any]]
) -> list[tuple[_Edit, dict[str, Any]]]:
    """The boxes to add, as rows of annotations; those that overlap each other or their class are conflicts."""
    once = list({(edit.img_path, edit.object_class, edit.box): edit for edit in reversed(edits)}.values())[::-1]
    there = {str(path): part for path, part in table.groupby("img_path")}
    added = []
    for img_path in dict.fromkeys(edit.img_path for edit in once):
        own = [edit for edit in once if edit.img_path == img_path]
        boxes = _box_set([edit.box for edit in own], [edit.object_class for edit in own])
        among = iou_matrix(boxes, boxes)
        np.fill_diagonal(among, 0)
        part = there.get(img_path, table.iloc[:0])
        drawn = _box_set(part[BOX].to_numpy(np.float32), part["object_class"].tolist())
        known = iou_matrix(boxes, drawn) * (boxes.classes[:, None] == drawn.classes[None, :])
        for place, edit in enumerate(own):
            other = int(among[place].argmax())
            if known[place].max(initial=0) >= min_iou:
                number = part["annotation_id"].iloc[int(known[place].argmax())]
                conflicts.append(_conflict(edit, f"annotation {number} of its class is there already; reject it"))
            elif among[place, other] >= min_iou:
                told = f"it overlaps the added box {own[other].suggestion_id} (IoU {among[place, other]:.2f})"
                conflicts.append(_conflict(edit, f"{told}: one plant twice? Reject one of the two"))
            else:
                added.append((edit, _row(edit)))
    return added


def _row_of(series: pd.Series) -> dict[str, Any]:
    return {str(name): value for name, value in series.items()}


def _row(edit: _Edit) -> dict[str, Any]:
    """An added box as a row of annotations."""
    place = {"annotation_id": edit.suggestion_id, "img_path": edit.img_path, "task_name": edit.task_name}
    shape = {"shape_type": "rectangle", "occluded": False, "source": ADDED_SOURCE}
    return {
        **place,
        "frame": edit.frame,
        "object_class": edit.object_class,
        **dict(zip(BOX, cast(Box, edit.box), strict=True)),
        **shape,
    }


def _box_set(boxes: Any, names: Sequence[Any]) -> BoxSet:
    return BoxSet(np.asarray(boxes, dtype=np.float32).reshape(-1, 4), np.array(names, dtype=object))


def _change(edit: _Edit, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {name: getattr(edit, name) for name in ("suggestion_id", "kind", "img_path", "who")}
    told["annotation_id"] = edit.annotation_id or edit.suggestion_id
    for word, row in (("before", before), ("after", after)):
        told[f"class_{word}"] = row["object_class"] if row else ""
        told |= {f"{side}_{word}": float(row[side]) if row else np.nan for side in BOX}
    return told


def _conflict(edit: _Edit, why: str) -> dict[str, Any]:
    told = {name: getattr(edit, name) for name in ("suggestion_id", "kind", "img_path", "annotation_id")}
    return {**told, "why": why}
