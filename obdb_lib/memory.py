"""Memory: a place that was decided stays silent for later models, unless asked for.

A place is a box in a frame for one kind of suggestion. A new suggestion lies there when it overlaps the rejected box,
or overlaps it less but shows the same thing (its crop's vector), in the same frame or in a neighbouring frame of a
static scene. Likeness alone never silences: two seedlings look alike, and one of them was rejected. Nor does a moving
camera: the same pixels then show other ground.

The class does not matter, but where it is the question itself (swapped_class): who rejects a box as Fat hen, though a
key to rename it stands ready, says that nothing is to be added there, and a later model that calls the same thing
Dandelion would ask the same again. ``any_class=False`` asks once for each class.

A missing box that was accepted is silent, too, until the annotations hold it and nothing is missing there any more;
meanwhile the accepted suggestion itself is carried over to be sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import DEFAULT_MATCH_IOU, IntArray
from obdb_lib.candidates import MISSING, SWAPPED_CLASS
from obdb_lib.decision_log import fold
from obdb_lib.embeddings import embed_crops
from obdb_lib.errors import DatasetError
from obdb_lib.frame_matching import FlatBoxes, Overlaps, flat_boxes, overlapping
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress
from obdb_lib.records import Document, Problem
from obdb_lib.snapshots import BOX, Snapshot
from obdb_lib.static_scene import same_places

DEFAULT_NEAR_IOU = 0.2
"""Less overlap than this is another place, however alike the crops are; lower it to silence more."""
DEFAULT_LIKENESS = 0.85
"""Cosine of two crops' vectors from which boxes that overlap by ``near_iou`` only show the same thing; raise it to
silence less. On sesame, boxes of one plant that are off by 10 % of its size reach .87 in 95 of 100 cases."""
DEFAULT_FRAMES_APART = 3
"""Frames of one task so many numbers apart are neighbours; 0 looks at the same frame alone."""
DEFAULT_EMBEDDER = "mobilenet_v2"


@dataclass(frozen=True)
class Rejections:
    """Places that stand rejected.

    Attributes:
        places: suggestions with the ``points`` and ``object_class`` of the decision, its id as ``decision_id``.
        problems: rejections that cannot be placed because their suggestion is not at hand.
    """

    places: list[Document]
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.places)


def rejected_places(entries: Iterable[Document], earlier: Iterable[Document]) -> Rejections:
    """What stands rejected in a journal.

    An undone rejection is none, nor is one that was followed by an acceptance of the same place.

    Args:
        entries: decisions in the order they were written, undo entries included (``Store.decisions``).
        earlier: the suggestions that they are about (``Store.suggestions_by_id``).
    """
    rejected, accepted, problems = _decided(entries, earlier)
    return Rejections(_not_overruled(rejected, accepted), problems)


def accepted_places(entries: Iterable[Document], earlier: Iterable[Document]) -> list[Document]:
    """Missing boxes that stand accepted in a journal, whoever accepted them, as ``Rejections.places`` has the others.

    An undone acceptance is none, nor is one that was followed by a rejection of the same place.

    Args:
        entries, earlier: as in ``rejected_places``.
    """
    rejected, accepted, _ = _decided(entries, earlier)
    missing = [one for one in accepted if str(one.get("kind") or MISSING) == MISSING]
    return _not_overruled(missing, rejected)


def _decided(
    entries: Iterable[Document], earlier: Iterable[Document]
) -> tuple[list[Document], list[Document], list[Problem]]:
    """What stands rejected, what accepted, and rejections that cannot be placed."""
    known = {str(document["_id"]): document for document in earlier}
    rejected: list[Document] = []
    accepted: list[Document] = []
    problems: list[Problem] = []
    for name, decision in fold(entries).items():
        if decision["verdict"] not in ("reject", "accept"):
            continue
        if name not in known:
            if decision["verdict"] == "reject":
                problems.append(Problem(f"decision {decision['_id']}", f"its suggestion {name} is not at hand"))
            continue
        kept = {key: decision[key] for key in ("points", "object_class") if decision.get(key) is not None}
        place = {**known[name], **kept, "decision_id": str(decision["_id"]), "decided": decision.get("when")}
        (rejected if decision["verdict"] == "reject" else accepted).append(place)
    return rejected, accepted, problems


def silence_accepted(
    suggestions: Sequence[Document],
    accepted: Sequence[Document],
    *,
    min_iou: float = DEFAULT_MATCH_IOU,
    include_silenced: bool = False,
) -> list[Document]:
    """Suggestions without the missing boxes that were accepted before, as whatever class; call it after ``silence``.

    Args:
        accepted: ``accepted_places``.
        min_iou: overlap in the same frame from which a box lies at the accepted place.
        include_silenced: bring the silent ones back, in the order they were given, ``silenced_by`` the decision that
            accepted; what ``silence`` marked stays marked.

    Returns:
        Copies, in the given order. What is accepted itself is not silenced, nor is what the same model proposed beside
        an accepted one for the same data: it saw two plants there.

    Raises:
        DatasetError: the threshold is not above 0 and at most 1.
    """
    silenced_by = [str(one.get("silenced_by") or "") for one in suggestions]
    own = {one["_id"] for one in accepted}
    if suggestions and accepted:
        pairs, _ = _near(suggestions, accepted, min_iou, 0, True)
        for row, column in zip(pairs.first, pairs.second, strict=True):
            one, place = suggestions[row], accepted[column]
            if one["_id"] not in own and not same_proposal(one, place):
                silenced_by[row] = silenced_by[row] or place["decision_id"]
    marked = [{**one, "silenced_by": by} for one, by in zip(suggestions, silenced_by, strict=True)]
    return [one for one in marked if include_silenced or not one["silenced_by"]]


def same_proposal(one: Document, other: Document) -> bool:
    """Whether one model proposed both for the same data; no where a suggestion does not say."""
    made = [(str(each.get("run_id") or ""), str(each.get("snapshot_id") or "")) for each in (one, other)]
    return made[0] == made[1] and all(made[0])


def carried_over(
    accepted: Sequence[Document],
    suggestions: Sequence[Document],
    snapshot: Snapshot,
    *,
    min_iou: float = DEFAULT_MATCH_IOU,
) -> list[Document]:
    """Accepted missing boxes of earlier models that are still to be drawn: those that ``silence_accepted`` keeps from
    being asked again, to be sent and repaired with the decisions of today.

    Args:
        accepted: ``accepted_places``.
        suggestions: those of today; an accepted one among them is not carried over.
        snapshot: places on other frames are left out, and those where an annotation of their class lies by now.
        min_iou: overlap from which two boxes are one plant. Of several accepted at one place the one of today counts,
            else the last one.
    """
    today = {one["_id"] for one in suggestions}
    known = set(snapshot.frames["img_path"])
    late_first = sorted(accepted, key=lambda one: (one["decided"] is not None, one["decided"]), reverse=True)
    found = [one for one in late_first if one["img_path"] in known]
    found.sort(key=lambda one: one["_id"] not in today)
    if not found:
        return []
    boxes = pd.DataFrame([one["points"] for one in found], columns=BOX)
    boxes = boxes.assign(img_path=[str(one["img_path"]) for one in found])
    boxes = boxes.assign(object_class=[str(one["object_class"]) for one in found])
    own, drawn = flat_boxes(boxes, snapshot.annotations)
    gone = set(overlapping(own, drawn, min_iou=min_iou, class_aware=True).first.tolist())
    pairs = overlapping(own, own, min_iou=min_iou)
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        if first < second and first not in gone:
            gone.add(second)
    return [one for row, one in enumerate(found) if row not in gone and one["_id"] not in today]


def silence(
    suggestions: Sequence[Document],
    rejections: Rejections,
    *,
    frames: FrameStore | None = None,
    min_iou: float = DEFAULT_MATCH_IOU,
    near_iou: float = DEFAULT_NEAR_IOU,
    min_likeness: float = DEFAULT_LIKENESS,
    frames_apart: int = DEFAULT_FRAMES_APART,
    any_class: bool = True,
    embedder: str = DEFAULT_EMBEDDER,
    include_silenced: bool = False,
    progress: Progress | None = None,
) -> list[Document]:
    """Suggestions without those at a rejected place; each one's ``silenced_by`` names the decision, "" for none.

    Args:
        frames: where the pictures lie; without them only ``min_iou`` in the same frame counts.
        min_iou: overlap from which a box lies at the rejected place.
        near_iou, min_likeness: a box that overlaps by ``near_iou`` lies there, too, when the crops are so alike.
        frames_apart: numbers between two frames of one task that are still neighbours; they count when the camera
            stood still and the place looks the same (``static_scene``).
        any_class: whether a place rejected as one class is silent for all.
        embedder: see ``embeddings.embed_crops``.
        include_silenced: bring the silent ones back, marked, in the order they were given.

    Returns:
        Copies, in the given order. A suggestion is not silenced by its own decision. Frames that cannot be read
        silence nothing.

    Raises:
        DatasetError: a threshold out of range, or an unknown embedder.
    """
    if not 0 < near_iou <= min_iou <= 1:
        raise DatasetError(
            f"near_iou must be above 0 and at most min_iou, and that at most 1; got {near_iou}, {min_iou}"
        )
    if frames_apart < 0 or not -1 <= min_likeness <= 1:
        raise DatasetError(f"frames_apart must be 0 or more and min_likeness -1..1; got {frames_apart}, {min_likeness}")
    silenced_by = np.full(len(suggestions), "", dtype=object)
    if suggestions and rejections.places:
        pairs, apart = _near(suggestions, rejections.places, near_iou, frames_apart if frames else 0, any_class)
        alike = pairs.iou >= min_iou
        if frames is not None:
            # The cheaper question first: pictures are read only where it matters.
            still = _undecided(pairs, alike, ~apart, len(suggestions))
            moved = np.flatnonzero(still & apart)
            stands = ~apart
            stands[moved] = _same(suggestions, rejections.places, pairs[moved], frames, progress)
            unsure = np.flatnonzero(_undecided(pairs, alike, stands, len(suggestions)) & stands & ~alike)
            likeness = _likeness(suggestions, rejections.places, pairs[unsure], frames, embedder, progress)
            alike[unsure] = likeness >= min_likeness
            alike &= stands
        for row, column in zip(pairs.first[alike], pairs.second[alike], strict=True):
            silenced_by[row] = silenced_by[row] or rejections.places[column]["decision_id"]
    marked = [{**one, "silenced_by": by} for one, by in zip(suggestions, silenced_by, strict=True)]
    return [one for one in marked if include_silenced or not one["silenced_by"]]


def _undecided(pairs: Overlaps, alike: NDArray[np.bool_], stands: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Pairs whose suggestion no other pair has silenced."""
    done = np.zeros(count, dtype=bool)
    done[pairs.first[alike & stands]] = True
    return ~done[pairs.first]


def _near(
    suggestions: Sequence[Document], places: Sequence[Document], near_iou: float, apart: int, any_class: bool
) -> tuple[Overlaps, NDArray[np.bool_]]:
    """Pairs (suggestion, place) that overlap in one frame or in frames ``apart``; which of them are in two frames."""
    groups = [suggestions, places]
    points = [np.array([one["points"] for one in group], dtype=np.float32) for group in groups]
    questions = _numbered([[_question(one, any_class) for one in group] for group in groups])
    images = _numbered([[str(one["img_path"]) for one in group] for group in groups])
    found = [overlapping(*_flat(points, images, questions), min_iou=near_iou, class_aware=True)]
    # Where neither task nor number is known there are no neighbours.
    tasks = _numbered([[str(one.get("task_name", "")) for one in group] for group in groups])
    numbers = [np.array([int(one.get("frame") or 0) for one in group], dtype=np.int64) for group in groups]
    wide = 2 * apart + 1 + max(int(one.max(initial=0)) for one in numbers)
    for step in [step for step in range(-apart, apart + 1) if step]:
        keys = [task * wide + number + apart for task, number in zip(tasks, numbers, strict=True)]
        keys[1] = keys[1] + step
        pairs = overlapping(*_flat(points, keys, questions), min_iou=near_iou, class_aware=True)
        found.append(pairs[images[0][pairs.first] != images[1][pairs.second]])
    lengths = [len(one) for one in found]
    joined = Overlaps(
        np.concatenate([one.first for one in found]),
        np.concatenate([one.second for one in found]),
        np.concatenate([one.iou for one in found]),
    )
    own = np.array(
        [suggestions[a]["_id"] == places[b]["_id"] for a, b in zip(joined.first, joined.second, strict=True)],
        dtype=bool,
    )
    elsewhere = np.arange(len(joined)) >= lengths[0]
    # The best first, so that a suggestion names the decision nearest to it.
    order = np.lexsort((-joined.iou, elsewhere, joined.first))
    order = order[~own[order]]
    return joined[order], elsewhere[order]


def _question(one: Document, any_class: bool) -> str:
    """What was rejected: only the same question is silent."""
    kind = str(one.get("kind") or MISSING)
    return f"{kind}|{one['object_class']}" if kind == SWAPPED_CLASS or not any_class else kind


def _numbered(groups: Sequence[Sequence[str]]) -> list[IntArray]:
    codes = pd.factorize(np.array([name for group in groups for name in group], dtype=object))[0].astype(np.int64)
    return np.split(codes, [len(groups[0])])


def _flat(
    points: Sequence[NDArray[np.float32]], frame: Sequence[IntArray], label: Sequence[IntArray]
) -> list[FlatBoxes]:
    return [FlatBoxes(*one) for one in zip(points, frame, label, strict=True)]


def _same(
    suggestions: Sequence[Document],
    places: Sequence[Document],
    pairs: Overlaps,
    frames: FrameStore,
    progress: Progress | None,
) -> NDArray[np.bool_]:
    here = [str(suggestions[row]["img_path"]) for row in pairs.first]
    there = [str(places[column]["img_path"]) for column in pairs.second]
    boxes = np.array([places[column]["points"] for column in pairs.second], dtype=np.float32).reshape(-1, 4)
    return same_places(here, there, boxes, frames, progress=progress)


def _likeness(
    suggestions: Sequence[Document],
    places: Sequence[Document],
    pairs: Overlaps,
    frames: FrameStore,
    embedder: str,
    progress: Progress | None,
) -> NDArray[np.float32]:
    """Cosine of the two crops of each pair, -1 where one cannot be read."""
    result = np.full(len(pairs), -1, dtype=np.float32)
    if not len(pairs):
        return result
    rows = [suggestions[row] for row in pairs.first] + [places[column] for column in pairs.second]
    table = pd.DataFrame([one["points"] for one in rows], columns=BOX)
    table = table.assign(img_path=[one["img_path"] for one in rows], annotation_id=np.arange(len(rows)))
    try:
        found = embed_crops(Snapshot("", (), (), pd.DataFrame(), table), frames, embedder=embedder, progress=progress)
    except DatasetError:
        if frames.missing(table["img_path"]):
            return result
        raise
    place = np.full(len(rows), -1)
    place[found.ids.astype(np.int64)] = np.arange(len(found))
    first, second = place[: len(pairs)], place[len(pairs) :]
    there = (first >= 0) & (second >= 0)
    result[there] = (found.vectors[first[there]] * found.vectors[second[there]]).sum(axis=1)
    return result


def _not_overruled(places: list[Document], others: list[Document]) -> list[Document]:
    """Without the places where a later decision among the others said the opposite of the very thing."""
    if not places or not others:
        return places
    pairs, _ = _near(places, others, DEFAULT_MATCH_IOU, 0, True)
    overruled = {
        int(row)
        for row, column in zip(pairs.first, pairs.second, strict=True)
        if _later(others[column]["decided"], places[row]["decided"])
    }
    return [one for row, one in enumerate(places) if row not in overruled]


def _later(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one > other
