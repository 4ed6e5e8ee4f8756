"""The manifest: a split as one readable file that tells what it rests on, and notices when that is no longer so.

It is JSON with a line a frame, in order, so that a diff of two manifests is a list of moved frames. Beside each frame
stands a stamp of its drawing (snapshots.frame_stamps), which tells later what has changed, not only that something has.

The hash covers what the split *is*: format, snapshot id, strategy, parameters, edits, where the strategy had put the
edited frames, and the frames of each part with their stamps. It does not cover the report, which is computed from these
and whose last digits differ between machines, nor the parameter ``solver``, which tells how a search went. Dates and
paths of a machine are not in the file at all.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.cache import content_hash, write_json
from obdb_lib.errors import DriftError, FormatError, SplitError
from obdb_lib.leaks import SplitReport
from obdb_lib.migration import Migration as Migration
from obdb_lib.migration import migrate as migrate
from obdb_lib.snapshots import Snapshot, frame_stamps
from obdb_lib.splits import PARTS, Edit, Split, make_split

FORMAT = "obdb-lab split manifest 1"
NOT_HASHED = ("solver",)
"""Parameters that tell how the making went (seconds, bounds), not what was asked for."""
DIGITS = 9
"""Floating-point parameters are hashed to so many significant digits."""
SHOWN = 5
WANTED = ("snapshot_id", "strategy", "parameters", "edits", "built", "frames", "hash")


@dataclass(frozen=True)
class Manifest:
    """A split as it was written.

    Attributes:
        hash: content hash; two manifests of the same hash are the same split of the same data, made the same way.
        split: the split.
        stamps: Series img_path -> stamp of its drawing when the manifest was written.
        report: ``SplitReport.as_dict()`` of that time, or empty.
    """

    hash: str
    split: Split
    stamps: pd.Series
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drift:
    """Frames, sorted, by what became of them since the manifest was written."""

    new: list[str]
    gone: list[str]
    changed: list[str]

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changed)

    def __str__(self) -> str:
        told = (("new", self.new), ("gone", self.gone), ("with other boxes or size", self.changed))
        return "; ".join(f"{len(names)} frames {what} ({_listed(names)})" for what, names in told if names)


def make(split: Split, snapshot: Snapshot, report: SplitReport | Mapping[str, Any] | None = None) -> Manifest:
    """The manifest of a split of this snapshot.

    Raises:
        SplitError: the split was made for another snapshot.
    """
    if split.snapshot_id != snapshot.id:
        raise SplitError(
            f"split {split.id} was made for snapshot {split.snapshot_id}, not for {snapshot.id}; load that one, or "
            "move the split over with manifest.migrate"
        )
    stamps = frame_stamps(snapshot).reindex(split.frames["img_path"])
    if stamps.isna().any():
        gone = stamps.index[stamps.isna()].tolist()
        raise SplitError(f"{len(gone)} frames of split {split.id} are not in its snapshot ({_listed(gone)})")
    told = report.as_dict() if isinstance(report, SplitReport) else dict(report or {})
    return Manifest(_hash(split, stamps), split, stamps, told)


def write(
    path: Path | str, split: Split, snapshot: Snapshot, report: SplitReport | Mapping[str, Any] | None = None
) -> Manifest:
    """Write the manifest of a split, whole or not at all; return it.

    Raises:
        SplitError: as ``make``.
        CacheError: the file cannot be written.
    """
    made = make(split, snapshot, report)
    content = {"format": FORMAT, "hash": made.hash, **_content(split, made.stamps)}
    content["counts"] = {part: len(rows) for part, rows in content["frames"].items()}
    frames = content.pop("frames")
    write_json(path, {**content, "frames": frames, "report": _plain(made.report)})
    return made


def read(path: Path | str) -> Split:
    """The split of a manifest; ``load`` gives its stamps and report, too, and ``check`` holds it against the data."""
    return load(path).split


def load(path: Path | str) -> Manifest:
    """Read a manifest.

    Raises:
        FormatError: the file is no manifest, is damaged, or was changed by hand; the message says what is wrong.
    """
    path = Path(path)
    content = _json(path)
    missing = [key for key in WANTED if key not in content]
    if content.get("format") != FORMAT or missing:
        what = f"lacks {', '.join(missing)}" if content.get("format") == FORMAT else f"is {content.get('format')!r}"
        raise FormatError(f"{path} is no manifest that this version reads: wanted {FORMAT!r}, it {what}")
    rows = _frames(content["frames"], path)
    try:
        edits = tuple(Edit(one["part"], tuple(one["img_paths"])) for one in content["edits"])
        table = pd.DataFrame(rows, columns=["img_path", "part", "stamp"])
        split = make_split(
            str(content["snapshot_id"]),
            str(content["strategy"]),
            table[["img_path", "part"]],
            dict(content["parameters"]),
            edits,
            built={str(name): str(part) for name, part in content["built"].items()},
        )
    except (TypeError, KeyError, ValueError, AttributeError, SplitError) as error:
        raise FormatError(f"{path} is damaged: its edits or parameters cannot be read ({error}). {_NEXT}") from error
    stamps = table.set_index("img_path")["stamp"].reindex(split.frames["img_path"])
    found = _hash(split, stamps)
    if found != content["hash"]:
        raise FormatError(
            f"{path} was changed after it was written: it says hash {content['hash']!r}, its content gives {found}"
            f"{_whereabouts(content, split)}. {_NEXT}"
        )
    return Manifest(found, split, stamps, content.get("report") or {})


_NEXT = (
    "Restore the file; frames are moved with the split explorer, which keeps the edits, or by strategy 'given' from a "
    "CSV with columns img_path and part."
)


def is_manifest(path: Path | str) -> bool:
    """Whether a file begins like a manifest, intact or not."""
    try:
        with Path(path).open("rb") as file:
            return b'"obdb-lab split manifest' in file.read(200)
    except OSError:
        return False


def drift(manifest: Manifest, snapshot: Snapshot) -> Drift:
    """What has become of the frames since.

    All frames that the split does not have are new; a split of chosen frames only is better made again.
    """
    now, then = frame_stamps(snapshot), manifest.stamps
    both = now.index.intersection(then.index)
    changed = both[(now[both] != then[both]).to_numpy(bool)]
    return Drift(
        new=sorted(now.index.difference(then.index)),
        gone=sorted(then.index.difference(now.index)),
        changed=sorted(changed),
    )


def check(manifest: Manifest | Path | str, snapshot: Snapshot) -> Split:
    """The split of a manifest, if the data is still what it was made for.

    Raises:
        DriftError: frames are new, gone or drawn differently; the message counts and names them.
        FormatError: as ``load``.
    """
    manifest = manifest if isinstance(manifest, Manifest) else load(manifest)
    if manifest.split.snapshot_id == snapshot.id:
        return manifest.split
    found = drift(manifest, snapshot)
    raise DriftError(
        f"the data is no longer what split {manifest.split.id} was made for (snapshot {manifest.split.snapshot_id}, "
        f"now {snapshot.id}): {found}. Move the split over with manifest.migrate(manifest, snapshot), which keeps "
        "every frame where it was and places new ones by their group, or make a new split in notebook 02."
    )


def _content(split: Split, stamps: pd.Series) -> dict[str, Any]:
    """What is written and hashed, in plain values."""
    frames: dict[str, dict[str, str]] = {part: {} for part in PARTS}
    for img_path, part, stamp in zip(split.frames["img_path"], split.frames["part"], stamps, strict=True):
        frames[part][img_path] = stamp
    return {
        "snapshot_id": split.snapshot_id,
        "strategy": split.strategy,
        "parameters": _plain(split.parameters),
        "edits": [{"part": edit.part, "img_paths": list(edit.img_paths)} for edit in split.edits],
        "built": {path: split.built[path] for path in sorted(split.built)},
        "frames": {part: rows for part, rows in frames.items() if rows},
    }


def _hash(split: Split, stamps: pd.Series) -> str:
    content = _content(split, stamps)
    asked = {name: value for name, value in content["parameters"].items() if name not in NOT_HASHED}
    return content_hash(FORMAT, _rounded({**content, "parameters": asked}))


def _plain(value: Any) -> Any:
    """As JSON gives it back: lists for tuples, Python numbers for numpy's, text for keys."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [_plain(item) for item in items]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _rounded(value: Any) -> Any:
    """Broken numbers as text of DIGITS significant digits, so that 0.2 and 1 - 0.8 are hashed alike."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value


def _json(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            double = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise FormatError(f"{path} was changed by hand: {double!r} stands twice in one list. {_NEXT}")
        return found

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not whole JSON ({error}). {_NEXT}") from error
    if not isinstance(content, dict):
        raise FormatError(f"{path} is no manifest: it holds a {type(content).__name__}, not an object")
    return content


def _frames(parts: Any, path: Path) -> list[tuple[str, str, str]]:
    if not isinstance(parts, dict) or not all(isinstance(rows, dict) for rows in parts.values()):
        raise FormatError(f"{path} is damaged: its frames are not grouped by part. {_NEXT}")
    rows: list[tuple[str, str, str]] = []
    seen: dict[str, str] = {}
    for part, frames in parts.items():
        if part not in PARTS:
            raise FormatError(f"{path} was changed by hand: {part!r} is no part ({', '.join(PARTS)}). {_NEXT}")
        for img_path, stamp in frames.items():
            if img_path in seen:
                raise FormatError(
                    f"{path} was changed by hand: {img_path!r} stands in {seen[img_path]} and in {part}. {_NEXT}"
                )
            seen[img_path] = part
            rows.append((img_path, part, str(stamp)))
    if not rows:
        raise FormatError(f"{path} is damaged: it has no frame at all. {_NEXT}")
    return rows


def _whereabouts(content: Mapping[str, Any], split: Split) -> str:
    """A hint where the change is, as far as the file gives itself away."""
    counts = split.frames["part"].value_counts().to_dict()
    told = content.get("counts")
    if not isinstance(told, dict):
        return ""
    apart = [part for part in PARTS if told.get(part, 0) != counts.get(part, 0)]
    return "".join(
        f"; it counts {told.get(part, 0)} frames in {part}, {counts.get(part, 0)} are there" for part in apart
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
