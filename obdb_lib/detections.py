"""Detections of a model as a table: kept in a file, looked up by frame, compared with the annotations."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from obdb_lib.boxes import DEFAULT_MATCH_IOU, BoxSet, match
from obdb_lib.cache import atomic_writer
from obdb_lib.detecting import DETECTION_COLUMNS
from obdb_lib.errors import CacheError
from obdb_lib.snapshots import BOX, Snapshot

LOOK_COLUMNS = ("look", "fold")
"""Columns that a table may have besides DETECTION_COLUMNS: which look (``detecting.LOOKS``), which model (int)."""


def write_detections(path: Path, detections: pd.DataFrame) -> None:
    """Write a table of detections (DETECTION_COLUMNS, and LOOK_COLUMNS if it has them) as gzipped CSV, whole or not at
    all."""
    text = detections[_known_columns(detections)].to_csv(index=False, float_format="%.4f")
    with atomic_writer(path) as file:
        file.write(gzip.compress(text.encode("utf-8"), mtime=0))


def read_detections(path: Path) -> pd.DataFrame:
    """Read what ``write_detections`` wrote.

    Raises:
        CacheError: the file is missing or damaged.
    """
    try:
        table = pd.read_csv(
            io.BytesIO(gzip.decompress(path.read_bytes())),
            dtype={"img_path": str, "object_class": str, "look": str, "fold": np.int64},
            keep_default_na=False,  # a class may be called NA
        )
        table[[*BOX, "score"]] = table[[*BOX, "score"]].astype(np.float32)
        return table[_known_columns(table)]
    except FileNotFoundError as error:
        raise CacheError(f"{path} does not exist; run notebook 04 to make it") from error
    except (OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error) as error:
        raise CacheError(f"{path} is damaged ({str(error)[:120]}); run notebook 04 to make it again") from error


def _known_columns(table: pd.DataFrame) -> list[str]:
    return [*DETECTION_COLUMNS, *(name for name in LOOK_COLUMNS if name in table.columns)]


def boxes_by_frame(detections: pd.DataFrame, *, min_score: float = 0.0) -> Callable[[str], BoxSet]:
    """Function img_path -> its detections scoring ``min_score`` or more, as boxes of the full frame."""
    kept = detections[detections["score"] >= min_score]
    rows = {str(img_path): part for img_path, part in kept.groupby("img_path")}

    def lookup(img_path: str) -> BoxSet:
        part = rows.get(img_path)
        if part is None:
            return BoxSet(np.empty((0, 4), dtype=np.float32))
        return BoxSet(
            part[BOX].to_numpy(np.float32), part["object_class"].to_numpy(object), part["score"].to_numpy(np.float32)
        )

    return lookup


def frame_errors(
    detections: Callable[[str], BoxSet],
    snapshot: Snapshot,
    img_paths: Sequence[str],
    *,
    min_iou: float = DEFAULT_MATCH_IOU,
) -> pd.DataFrame:
    """Matched, missed and extra boxes of each frame (one to one, class by class), the worst frames first.

    Returns:
        Index img_path; columns matched, missed, extra (boxes), confused (how many of the missed ones lie under an extra
        one of another class; they stand in both), errors (missed and extra, a confused plant counted once).
    """
    rows = []
    for img_path in img_paths:
        found, wanted = detections(img_path), snapshot.boxes(img_path)
        matching = match(found, wanted, min_iou=min_iou)
        extra, missed = matching.unmatched_first, matching.unmatched_second
        confused = len(match(found[extra], wanted[missed], min_iou=min_iou, class_aware=False).pairs)
        errors = len(missed) + len(extra) - confused
        rows.append((img_path, len(matching.pairs), len(missed), len(extra), confused, errors))
    table = pd.DataFrame(rows, columns=["img_path", "matched", "missed", "extra", "confused", "errors"])
    return table.sort_values(["errors", "img_path"], ascending=[False, True]).set_index("img_path")
