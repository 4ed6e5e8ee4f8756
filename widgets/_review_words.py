"""What a suggestion proposes and what accepting it does, in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np

from obdb_lib.boxes import BoxSet, iou_matrix
from widgets._review_queue import kind_of, number

Record = dict[str, Any]

KIND_NAMES = {
    "missing": "missing box",
    "swapped_class": "wrong class",
    "bad_location": "bad box",
    "spurious": "box without a plant",
}
ACCEPT_DOES = {
    "missing": "add the box as {name}",
    "swapped_class": "call the annotation {name}",
    "bad_location": "move the annotation to this box",
    "spurious": "remove the annotation",
}
RELABELLED_DOES = ACCEPT_DOES | {"bad_location": "move the annotation to this box and call it {name}"}
TAKE, TAKE_AS = "take it as proposed", "take it as {name}"
EVIDENCE_NAMES = {"second_look": "second look", "folds": "folds agree", "twins": "twin frames"}


def proposal(suggestion: Record) -> str:
    """What the person is asked, in one sentence: "annotated as weed, the model sees crop 0.93"."""
    name = str(suggestion["object_class"])
    score = number(suggestion.get("score"))
    seen = f"{name} {score:.2f}" if score is not None else name
    annotated = str(suggestion.get("annotation_class") or "")
    was = f"annotated as {annotated}" if annotated else "annotated"
    kind = kind_of(suggestion)
    if kind == "swapped_class":
        return f"{was}, the model sees {seen}"
    if kind == "bad_location":
        overlap = _overlap(suggestion)
        fits = "lies elsewhere" if overlap is None else f"shares {overlap:.0%} with that box"
        return f"{was}, what the model sees ({seen}) {fits}"
    if kind == "spurious":
        best = f" (best {name} here: {score:.2f})" if score else ""
        return f"{was if annotated else f'annotated as {name}'}, the model sees no such plant{best}"
    if kind == "missing":
        return f"not annotated, the model sees {seen}"
    return f"{kind}: the model sees {seen}"


def _overlap(suggestion: Record) -> float | None:
    """Overlap (IoU) of the box proposed with the one annotated; None when that is not known."""
    if not suggestion.get("annotation_points"):
        return None
    boxes = (np.array([suggestion[key]], dtype=np.float32) for key in ("points", "annotation_points"))
    return float(iou_matrix(*(BoxSet(box) for box in boxes))[0, 0])


def accept_does(suggestion: Record) -> str:
    """What an accept of it as proposed leads to."""
    return ACCEPT_DOES.get(kind_of(suggestion), TAKE).format(name=suggestion["object_class"])


def accept_as(suggestion: Record) -> str:
    """What an accept with another class leads to; the class comes where ``{name}`` is."""
    return RELABELLED_DOES.get(kind_of(suggestion), TAKE_AS)


def evidence_rows(suggestion: Record) -> list[list[str]]:
    """Name and value of what speaks for or against it; numbers without digits that nobody reads."""
    rows = []
    for key, value in dict(suggestion.get("evidence") or {}).items():
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        rows.append([EVIDENCE_NAMES.get(str(key), str(key).replace("_", " ")), shown])
    return rows
