"""What a suggestion proposes and what accepting it does, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from obdb_lib.boxes import BoxSet, iou_matrix
from widgets._review_queue import BAD_LOCATION, SPURIOUS, kind_of, number

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
EVIDENCE_TOLD = ("second_look", "folds", "twins", "drawn_share", "detected_share", "overlap", "inside", "merged")
"""Numbers that have words of their own."""
LEAST_SHARE = 0.005
"""An overlap that rounds to less than one hundredth is none."""


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


def evidence_words(suggestion: Record) -> list[str]:
    """What speaks for or against it, each in plain words; what is always so or says nothing is left out."""
    noted = {str(key): value for key, value in dict(suggestion.get("evidence") or {}).items() if value is not None}
    known = {key: float(value) for key, value in noted.items() if isinstance(value, int | float)}
    spurious = kind_of(suggestion) == SPURIOUS
    words = [*_looks(known), *_same_ground(known), *_around(known, "another" if spurious else "an", suggestion)]
    others = {key: value for key, value in noted.items() if key not in EVIDENCE_TOLD}
    shown = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in others.items()}
    return words + [f"{key.replace('_', ' ')} {value}" for key, value in shown.items()]


def _looks(known: Mapping[str, float]) -> list[str]:
    """How sure the model is at the mirrored frame, and how many of the models of the folds agree."""
    words = [f"second look {known['second_look']:.2f}"] if "second_look" in known else []
    return [*words, f"{known['folds']:.0%} of the models of the folds agree"] if "folds" in known else words


def _same_ground(known: Mapping[str, float]) -> list[str]:
    """What the other frames of the same ground have at this place."""
    twins, drawn, seen = (known.get(key) for key in ("twins", "drawn_share", "detected_share"))
    if twins == 0:
        return ["no other frame shows the same ground"]
    words = [_drawn(drawn, None if twins is None else round(twins))]
    if seen is not None:
        words.append(
            f"the model sees it there with {seen:.2f} on average" if seen else "the model does not see it there"
        )
    return [word for word in words if word]


def _drawn(share: float | None, count: int | None) -> str:
    """In how many of ``count`` other frames of the same ground it is drawn, as far as that is known."""
    if count == 1:
        drawn = "" if share is None else "drawn in the " if share else "not drawn in the "
        return f"{drawn or 'one '}other frame {'that ' if drawn else ''}shows the same ground"
    if share is None:
        return "" if count is None else f"{count} other frames show the same ground"
    part = f"{share:.0%} of the" if count is None else f"{round(share * count)} of {count}"
    return f"drawn in {part} frames that show the same ground"


def _around(known: Mapping[str, float], which: str, suggestion: Record) -> list[str]:
    """How it lies to the annotations of its frame, and what was taken together for it."""
    words = []
    overlap, inside, merged = (known.get(key) or 0.0 for key in ("overlap", "inside", "merged"))
    told = kind_of(suggestion) == BAD_LOCATION and suggestion.get("annotation_points")  # by ``proposal``
    if overlap >= LEAST_SHARE and not told:
        words.append(f"shares {overlap:.0%} with {which} annotated box")
    if inside >= LEAST_SHARE:
        words.append(f"{inside:.0%} of it inside {which} annotated box")
    if merged:
        words.append(f"{merged:.0f} weaker detection{'' if merged == 1 else 's'} of the same place")
    return words
