"""Suggestions: candidates as documents of the database, for a person or a rule to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from obdb_lib.boxes import DEFAULT_MATCH_IOU
from obdb_lib.cache import content_hash
from obdb_lib.candidates import ANNOTATION_BOX, MISSING, SPURIOUS, find_candidates
from obdb_lib.errors import DatasetError
from obdb_lib.explained import DEFAULT_LOOSE_IOU
from obdb_lib.frame_matching import flat_boxes, match_frames
from obdb_lib.records import Document
from obdb_lib.snapshots import BOX, Snapshot

DEFAULT_MIN_SCORE = 0.5
"""Detections below this are not looked at; lower it to find more missing plants at the price of more false ones."""
EVIDENCE = ("overlap", "inside", "merged")
"""Columns of a candidate that are shown to the person as plain numbers."""
PIXEL_DECIMALS, SCORE_DECIMALS = 2, 4


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
    """Suggestions of missing annotations alone, the most certain first; detections on unknown frames are left out.

    Args:
        detections: columns img_path, x1, y1, x2, y2 (pixels of the full frame), object_class, score (0..1).
        run_id: the model that made them, carried by each suggestion.
        parts: img_path -> train/val/..., noted on each suggestion.
        min_score: one threshold, or one for each class (a class that is not named takes DEFAULT_MIN_SCORE).
        min_iou, loose_iou: see ``explained.Limits``.
    """
    found = find_candidates(
        detections,
        snapshot,
        min_score=min_score,
        default_score=DEFAULT_MIN_SCORE,
        min_iou=min_iou,
        loose_iou=loose_iou,
        kinds=[MISSING],
    )
    return suggestions_of(found, snapshot, run_id=run_id, parts=parts)


def suggestions_of(
    candidates: pd.DataFrame,
    snapshot: Snapshot,
    *,
    run_id: str,
    parts: pd.Series | None = None,
    evidence: Sequence[str] = EVIDENCE,
) -> list[Document]:
    """Documents of ``suggestions`` from a candidate table, the largest expected gain first (``gain``).

    The same candidate of the same model and data has the same ``_id`` each time.

    Args:
        candidates: as ``find_candidates`` returns; with a column ``probability`` (0..1, NaN for not known) where a
            person's acceptance was estimated.
        run_id: the model that made them, carried by each suggestion.
        parts: img_path -> train/val/..., noted on each suggestion.
        evidence: columns of numbers to note under ``evidence``; those that the table lacks, and NaN, are left out.

    Raises:
        DatasetError: a candidate lies on a frame that is not in the snapshot.
    """
    columns = (snapshot.frames[name].tolist() for name in ("img_path", "task_name", "frame"))
    places = {img_path: (str(task), int(number)) for img_path, task, number in zip(*columns, strict=True)}
    unknown = sorted(set(candidates["img_path"]) - set(places))
    if unknown:
        raise DatasetError(
            f"{len(unknown)} frames with candidates are not in snapshot {snapshot.id}, the first is {unknown[0]!r}; "
            "make the candidates with this snapshot, or collect the frames first"
        )
    shown = [name for name in evidence if name in candidates]
    created = datetime.now(UTC)
    documents: dict[str, Document] = {}
    for row in candidates.to_dict("records"):
        document = _document(row, snapshot.id, run_id, shown)
        document["task_name"], document["frame"] = places[row["img_path"]]
        document["part"] = "" if parts is None else str(parts.get(row["img_path"], ""))
        document["created"] = created
        documents.setdefault(document["_id"], document)
    return in_order(list(documents.values()))


def gain(suggestion: Document) -> float:
    """0..1, how likely the suggestion is right: its probability, else what the score says.

    Where nothing supports an annotation its score is low, and so much the likelier is it spurious.
    """
    probability = suggestion.get("probability")
    if probability is not None:
        return float(probability)
    score = float(suggestion.get("score", 0.0))
    return 1 - score if suggestion.get("kind") == SPURIOUS else score


def in_order(suggestions: Sequence[Document]) -> list[Document]:
    """Suggestions by falling ``gain``; of equals, by id."""
    return sorted(suggestions, key=lambda document: (-gain(document), document["_id"]))


def _document(row: Mapping[Any, Any], snapshot_id: str, run_id: str, shown: Sequence[str]) -> Document:
    points = _points(row, BOX)
    kind, name = str(row["kind"]), str(row["object_class"])
    annotation = str(row["annotation_id"])
    # Without more for a missing one, as ever: decisions made on it before keep their suggestion.
    more = () if kind == MISSING else (kind, annotation, _points(row, ANNOTATION_BOX))
    probability = row.get("probability")
    return {
        "_id": content_hash(snapshot_id, run_id, row["img_path"], name, points, *more, length=24),
        "snapshot_id": snapshot_id,
        "run_id": run_id,
        "img_path": str(row["img_path"]),
        "kind": kind,
        "object_class": name,
        "points": points,
        "score": round(float(row["score"]), SCORE_DECIMALS),
        "probability": None if probability is None or pd.isna(probability) else float(probability),
        "annotation_id": annotation,
        "annotation_class": "" if kind == MISSING else str(row["annotation_class"]),
        "annotation_points": None if kind == MISSING else _points(row, ANNOTATION_BOX),
        "silenced_by": "",
        "evidence": {column: round(float(row[column]), SCORE_DECIMALS) for column in shown if not pd.isna(row[column])},
    }


def _points(row: Mapping[Any, Any], columns: Sequence[str]) -> list[float]:
    return [round(float(row[name]), PIXEL_DECIMALS) for name in columns]


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
