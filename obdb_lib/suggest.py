"""Suggestions: detections that no annotation explains, for a person to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from obdb_lib.boxes import DEFAULT_MATCH_IOU, BoxSet, IntArray, iou_matrix, match
from obdb_lib.cache import content_hash
from obdb_lib.frame_matching import flat_boxes, match_frames
from obdb_lib.records import Document
from obdb_lib.snapshots import BOX, Snapshot

DEFAULT_MIN_SCORE = 0.5
"""Detections below this are not looked at; lower it to find more missing plants at the price of more false ones."""
DEFAULT_LOOSE_IOU = 0.3
"""A detection that overlaps an annotation nothing else explains by this much is a loose box (or another class) of that
plant and not a missing one."""


def suggest_missing(
    detections: pd.DataFrame,
    snapshot: Snapshot,
    *,
    run_id: str,
    parts: pd.Series | None = None,
    min_score: float | Mapping[str, float] = DEFAULT_MIN_SCORE,
    min_iou: float = DEFAULT_MATCH_IOU,
    loose_iou: float = DEFAULT_LOOSE_IOU,
) -> list[Document]:
    """Candidates for missing annotations, the most certain first.

    Args:
        detections: columns img_path, x1, y1, x2, y2 (pixels of the full frame), object_class, score (0..1).
        run_id: the model that made them, carried by each suggestion.
        parts: img_path -> train/val/..., noted on each suggestion.
        min_score: one threshold, or one for each class (a class that is not named takes DEFAULT_MIN_SCORE).
        min_iou, loose_iou: see ``unexplained``.
    """
    thresholds = detections["object_class"].map(
        lambda name: min_score.get(name, DEFAULT_MIN_SCORE) if isinstance(min_score, Mapping) else min_score
    )
    kept = detections[detections["score"] >= thresholds] if len(detections) else detections
    columns = (snapshot.frames[name].tolist() for name in ("img_path", "task_name", "frame"))
    places = {img_path: (str(task), int(number)) for img_path, task, number in zip(*columns, strict=True)}
    documents: list[Document] = []
    for img_path, rows in kept.groupby("img_path", sort=True):
        if img_path not in places:
            continue
        found = BoxSet(
            rows[BOX].to_numpy(np.float32), rows["object_class"].to_numpy(object), rows["score"].to_numpy(np.float32)
        )
        task_name, frame = places[img_path]
        for index in unexplained(found, snapshot.boxes(str(img_path)), min_iou=min_iou, loose_iou=loose_iou):
            points = [round(float(value), 2) for value in found.xyxy[index]]
            name = str(found.classes[index])
            documents.append(
                {
                    "_id": content_hash(snapshot.id, run_id, img_path, name, points, length=24),
                    "snapshot_id": snapshot.id,
                    "run_id": run_id,
                    "img_path": str(img_path),
                    "task_name": task_name,
                    "frame": frame,
                    "kind": "missing",
                    "object_class": name,
                    "points": points,
                    "score": round(float(found.scores[index]), 4),
                    "part": "" if parts is None else str(parts.get(img_path, "")),
                    "created": datetime.now(UTC),
                }
            )
    return sorted(documents, key=lambda document: (-document["score"], document["_id"]))


def unexplained(
    detections: BoxSet,
    annotations: BoxSet,
    *,
    min_iou: float = DEFAULT_MATCH_IOU,
    loose_iou: float = DEFAULT_LOOSE_IOU,
) -> IntArray:
    """Indices of the detections that no annotation explains.

    Matching is one to one, so a neighbour's annotation explains one detection and no more. First the same class at
    ``min_iou``; then what is left, of any class, at ``loose_iou`` (a loose box or a swapped class, but that plant is
    annotated). A second box on an annotated plant, and the weaker of two candidates on one plant, overlap by
    ``min_iou`` or more and are repetitions.
    """
    first = match(detections, annotations, min_iou=min_iou)
    left, free = first.unmatched_first, first.unmatched_second
    second = match(detections[left], annotations[free], min_iou=loose_iou, class_aware=False)
    left = left[second.unmatched_first]
    repeats = iou_matrix(detections[left], annotations).max(axis=1, initial=0.0) >= min_iou
    left = left[~repeats]
    left = left[np.argsort(-detections.scores[left], kind="stable")]
    overlaps = iou_matrix(detections[left], detections[left])
    kept: list[int] = []
    for row in range(len(left)):
        if not kept or overlaps[row, kept].max() < min_iou:
            kept.append(row)
    return np.asarray(left[np.array(kept, dtype=np.int64)], dtype=np.int64)


def compare_with_truth(suggestions: Sequence[Document], hidden: Sequence[Document]) -> pd.DataFrame:
    """How many of the boxes left out on purpose were found: one row a class, columns suggested, correct, hidden.

    A suggestion is correct when it matches a hidden box of its class one to one at DEFAULT_MATCH_IOU.
    """
    table = pd.DataFrame(0, index=sorted({d["object_class"] for d in [*suggestions, *hidden]}), columns=_TRUTH_COLUMNS)
    for document in suggestions:
        table.loc[document["object_class"], "suggested"] += 1
    for document in hidden:
        table.loc[document["object_class"], "hidden"] += 1
    found = match_frames(*flat_boxes(_table(suggestions), _table(hidden)))
    for row in found.pairs[:, 0]:
        table.loc[suggestions[row]["object_class"], "correct"] += 1
    return table


_TRUTH_COLUMNS = ["suggested", "correct", "hidden"]


def _table(documents: Sequence[Document]) -> pd.DataFrame:
    rows = [(d["img_path"], d["object_class"], *d["points"]) for d in documents]
    return pd.DataFrame(rows, columns=["img_path", "object_class", *BOX])
