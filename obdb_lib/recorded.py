"""Decisions in a file: written on one machine, read, checked and laid on suggestions on another.

JSON (a list of records, or the same under ``decisions``) or CSV. A record has a ``verdict`` (accept, reject, skip) and
says which suggestion it is about: by ``suggestion_id``, or by ``img_path``, box and class, or both. ``x1 .. y2`` (JSON:
``points``, too) and ``object_class`` are as decided; ``suggested_x1 .. suggested_y2`` (``suggested_points``) and
``suggested_class`` as proposed, where a person changed them. ``kind``, ``who`` and ``rule`` are optional. An exported
journal is read as it is: of several records with one suggestion_id the last one counts, and undo entries take back.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from obdb_lib.cache import atomic_writer
from obdb_lib.candidates import MISSING
from obdb_lib.cells import guarded, unguarded
from obdb_lib.decision_log import UNDO, fold
from obdb_lib.errors import ReviewError
from obdb_lib.frame_matching import flat_boxes, match_frames
from obdb_lib.records import Document, Problem
from obdb_lib.review import VERDICTS
from obdb_lib.snapshots import BOX

DEFAULT_SAME_IOU = 0.75
"""Overlap from which a recorded box and a suggestion of another id are the same proposal; raise it to be stricter."""
SUGGESTED_BOX = [f"suggested_{name}" for name in BOX]
COLUMNS = (
    *("suggestion_id", "img_path", "kind", "suggested_class", *SUGGESTED_BOX),
    *("verdict", "object_class", *BOX, "who", "rule"),
)
SHOWN = 8
Points = tuple[float, float, float, float]


@dataclass(frozen=True)
class RecordedDecision:
    """One record, checked.

    Attributes:
        where: its place in the file, for messages.
        suggestion_id, img_path: "" where it does not say.
        object_class, points: as decided; "" and None where it does not say.
        rule: words of the rule that decided, "" for a person.
        suggested_class, suggested_points: as proposed; as decided where the record does not say more.
    """

    where: str
    suggestion_id: str
    verdict: str
    img_path: str
    kind: str
    object_class: str
    points: Points | None
    suggested_class: str
    suggested_points: Points | None
    who: str
    rule: str


@dataclass(frozen=True)
class Recorded:
    """Decisions of a file, those that stand; ``source`` is its name."""

    source: str
    decisions: list[RecordedDecision]


def write_decisions(path: Path, suggestions: Sequence[Document], decisions: Mapping[str, Document]) -> int:
    """Write the standing decisions on ``suggestions`` as CSV or JSON (by the ending), whole or not at all.

    Args:
        decisions: suggestion id -> entry (``Journal.standing``).

    Returns:
        How many were written.

    Raises:
        ReviewError: an ending other than .csv and .json.
        CacheError: the file cannot be written.
    """
    rows = []
    for one in suggestions:
        decision = decisions.get(one["_id"])
        if decision is None:
            continue
        points = decision.get("points") or one["points"]
        rows.append(
            {
                **{"suggestion_id": one["_id"], "img_path": one["img_path"], "kind": one.get("kind") or MISSING},
                **{"suggested_class": one["object_class"], **dict(zip(SUGGESTED_BOX, one["points"], strict=True))},
                **{"verdict": decision["verdict"], "object_class": decision.get("object_class") or one["object_class"]},
                **dict(zip(BOX, points, strict=True)),
                **{"who": decision.get("who") or "", "rule": decision.get("rule") or ""},
            }
        )
    if path.suffix == ".json":
        text = json.dumps(rows, indent=1, ensure_ascii=False)
    elif path.suffix == ".csv":
        safe = [
            {key: guarded(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows
        ]
        text = pd.DataFrame(safe, columns=list(COLUMNS)).to_csv(index=False)
    else:
        raise ReviewError(f"decisions are written as .csv or .json; got {path.name!r}")
    with atomic_writer(path, "w") as file:
        file.write(text)
    return len(rows)


def read_decisions(path: Path) -> Recorded:
    """Read and check a file of decisions.

    Raises:
        ReviewError: the file is missing or malformed; the mistakes are named together, with their places.
    """
    mistakes: list[str] = []
    checked: list[RecordedDecision] = []
    records = _records(path)
    for where, record in records:
        try:
            checked.append(_checked(where, record))
        except ValueError as error:
            mistakes.append(f"{where}: {error}")
    if mistakes:
        more = f"; and {len(mistakes) - SHOWN} more" if len(mistakes) > SHOWN else ""
        raise ReviewError(
            f"{path.name} has {len(mistakes)} wrong records, and nothing of it was used: "
            f"{'; '.join(mistakes[:SHOWN])}{more}. Mend them and run this step again"
        )
    return Recorded(path.name, _standing(checked, records))


def _records(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Records with their places."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = csv.DictReader(io.StringIO(text, newline=""))
            return [(f"line {rows.line_num}", {str(key): _unguarded(row[key]) for key in row}) for row in rows]
        found = json.loads(text)
    except FileNotFoundError as error:
        raise ReviewError(
            f"there is no file {path} to take decisions from; give the path of a .json or .csv"
        ) from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise ReviewError(f"{path} cannot be read as decisions ({error}); it should be JSON or CSV") from error
    found = found.get("decisions") if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ReviewError(
            f"{path} should hold a list of records, by itself or under 'decisions'; it holds something else"
        )
    return [(f"record {number}", one) for number, one in enumerate(found, 1)]


def _unguarded(cell: Any) -> Any:
    return unguarded(cell) if isinstance(cell, str) else cell


def _checked(where: str, record: Mapping[str, Any]) -> RecordedDecision:
    """ValueError says what is wrong."""
    verdict = _text(record, "verdict")
    name, img_path = _text(record, "suggestion_id"), _text(record, "img_path")
    if verdict not in (*VERDICTS, UNDO):
        raise ValueError(f"the verdict must be one of {', '.join(VERDICTS)}; it is {verdict!r}")
    if verdict == UNDO and not name:
        raise ValueError("an undo needs a suggestion_id")
    points = _box(record, "points", BOX)
    suggested = _box(record, "suggested_points", SUGGESTED_BOX) or points
    object_class = _text(record, "object_class")
    suggested_class = _text(record, "suggested_class") or object_class
    if not name and not (img_path and suggested and suggested_class):
        raise ValueError("it needs a suggestion_id, or img_path with a box (x1, y1, x2, y2) and a class")
    return RecordedDecision(
        where=where,
        suggestion_id=name,
        verdict=verdict,
        img_path=img_path,
        kind=_text(record, "kind") or MISSING,
        object_class=object_class,
        points=points,
        suggested_class=suggested_class,
        suggested_points=suggested,
        who=_text(record, "who"),
        rule=_text(record, "rule"),
    )


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return "" if value is None else str(value).strip()


def _box(record: Mapping[str, Any], key: str, names: Sequence[str]) -> Points | None:
    values = record.get(key) or [record.get(name) for name in names]
    if isinstance(values, str) or all(value is None or value == "" for value in values):
        return None
    try:
        x1, y1, x2, y2 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a box must be four numbers; it is {values!r}") from error
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 >= x2 or y1 >= y2:
        raise ValueError(f"a box must be finite with x1 < x2 and y1 < y2; it is {[x1, y1, x2, y2]}")
    return x1, y1, x2, y2


def _standing(
    checked: list[RecordedDecision], records: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[RecordedDecision]:
    """Without what was undone or decided anew later; records without an id all stand."""
    entries = [
        {
            **{"_id": str(record.get("_id") or one.where), "undoes": _text(record, "undoes") or None},
            **{"suggestion_id": one.suggestion_id, "verdict": one.verdict, "who": one.who, "place": number},
        }
        for number, (one, (_, record)) in enumerate(zip(checked, records, strict=True))
        if one.suggestion_id
    ]
    kept = {int(entry["place"]) for entry in fold(entries).values()}
    return [one for number, one in enumerate(checked) if not one.suggestion_id or number in kept]


def assign_recorded(
    recorded: Recorded, suggestions: Sequence[Document], *, same_iou: float = DEFAULT_SAME_IOU
) -> tuple[dict[int, tuple[int, bool]], list[Problem]]:
    """Which suggestion each recorded decision is about: by id, else one to one by image, kind, class and box.

    Returns:
        Place in ``recorded.decisions`` -> (place in ``suggestions``, whether by id); and those that fit none.
    """
    number = {str(one["_id"]): place for place, one in enumerate(suggestions)}
    found: dict[int, tuple[int, bool]] = {}
    for row, one in enumerate(recorded.decisions):
        if one.suggestion_id in number:
            found[row] = (number[one.suggestion_id], True)
    used = {place for place, _ in found.values()}
    left = [row for row, one in enumerate(recorded.decisions) if row not in found and _has_place(one)]
    free = [place for place in range(len(suggestions)) if place not in used]
    tables = [
        _table([_place(recorded.decisions[row]) for row in left]),
        _table(
            [
                (s["img_path"], s.get("kind") or MISSING, s["object_class"], s["points"])
                for s in map(suggestions.__getitem__, free)
            ]
        ),
    ]
    for row, place in match_frames(*flat_boxes(*tables), min_iou=same_iou).pairs.tolist():
        found[left[row]] = (free[place], False)
    problems = [
        Problem(f"{recorded.source}, {one.where}", f"no suggestion here is like it ({_told(one)}); nothing was decided")
        for row, one in enumerate(recorded.decisions)
        if row not in found
    ]
    return found, problems


def _has_place(one: RecordedDecision) -> bool:
    return bool(one.img_path and one.suggested_points and one.suggested_class)


def _place(one: RecordedDecision) -> tuple[str, str, str, Points | None]:
    return one.img_path, one.kind, one.suggested_class, one.suggested_points


def _table(rows: Sequence[tuple[str, str, str, Any]]) -> pd.DataFrame:
    """Kind and class together are the class that has to agree."""
    made = [(img_path, f"{kind}|{name}", *points) for img_path, kind, name, points in rows]
    return pd.DataFrame(made, columns=["img_path", "object_class", *BOX])


def _told(one: RecordedDecision) -> str:
    place = f"{one.suggested_class} on {one.img_path}" if _has_place(one) else "no image, box and class to go by"
    return f"id {one.suggestion_id or 'none'}, {place}"
