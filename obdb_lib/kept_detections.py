"""Detecting in parts that are kept, so that what was detected before a stop or a kill is not detected again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from obdb_lib.cache import content_hash, read_json, write_json
from obdb_lib.checkpoints import load_detector
from obdb_lib.dataset import Frames
from obdb_lib.detecting import DETECTION_COLUMNS, detect
from obdb_lib.detections import read_detections, write_detections
from obdb_lib.errors import CacheError, FrameError
from obdb_lib.models import Detector
from obdb_lib.progress import Forwarded, Progress, track

logger = logging.getLogger(__name__)

KEPT_FRAMES = 256
"""Frames a part: a kill loses the detecting of fewer frames than this. Lower it for slow detectors."""


@dataclass(frozen=True)
class Kept:
    """What was detected.

    Attributes:
        detections: as ``detect`` returns, with the column fold.
        judged: frames that were looked at.
        unreadable: img_path -> reason.
        partial: it was stopped; the same call goes on.
    """

    detections: pd.DataFrame
    judged: tuple[str, ...]
    unreadable: dict[str, str]
    partial: bool


def detect_kept(
    checkpoint: Path,
    frames: Frames,
    img_paths: Sequence[str],
    *,
    folder: Path,
    number: int = 0,
    score_threshold: float,
    second_look: bool,
    device: str | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Kept:
    """Run the detector of a checkpoint over frames, ``KEPT_FRAMES`` at a time, each part in a file below ``folder``.

    A part that is there is read; frames of it that could not be read are tried once more. Where a picture was replaced
    (another size or time of its file) its part is detected anew.

    Args:
        folder: named by whatever decides the detections beside frames, threshold and looks (the weights).
        number: of the model, becomes the column fold.
        stop: asked after each part; True ends the work politely. So does KeyboardInterrupt.

    Raises:
        TrainingError: the checkpoint cannot be used.
        CacheError: the disk is full.
    """
    detector: Detector | None = None
    tables: list[pd.DataFrame] = []
    judged: list[str] = []
    unreadable: dict[str, str] = {}
    partial = False
    with track(progress, "detect", len(img_paths)) as task:
        for start in range(0, len(img_paths), KEPT_FRAMES):
            part = list(img_paths[start : start + KEPT_FRAMES])
            path = folder / f"{content_hash(_files(part, frames), score_threshold, second_look)}.csv.gz"
            table = _read(path, frames)
            if table is not None:
                task.advance(len(part))
            else:
                try:
                    detector = detector or load_detector(checkpoint)
                    table = detect(
                        detector,
                        frames,
                        part,
                        score_threshold=score_threshold,
                        device=device,
                        second_look=second_look,
                        cached=True,
                        progress=Forwarded(task),
                    )
                except KeyboardInterrupt:
                    logger.warning("stopped; the detections of %d frames are kept", len(judged))
                    partial = True
                    break
                table = _write(path, table.assign(fold=number), part)
                partial = stop is not None and stop() and start + KEPT_FRAMES < len(img_paths)
            unreadable |= table.attrs["unreadable"]
            judged += [one for one in part if one not in unreadable]
            tables.append(table)
            if partial:
                break
    return Kept(together(tables, second_look=second_look), tuple(judged), unreadable, partial)


def together(tables: Sequence[pd.DataFrame], *, second_look: bool) -> pd.DataFrame:
    """Tables of detections one below the other; with all columns even when there is none."""
    filled = [table for table in tables if len(table)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return pd.DataFrame(columns=[*DETECTION_COLUMNS, *(["look"] if second_look else []), "fold"])


def _files(part: Sequence[str], frames: Frames) -> list[tuple[str, int, int]]:
    """What a part is made of: img_path, size in bytes and time of each file, zeros for one that is not there."""
    found = []
    for img_path in part:
        try:
            stat = frames.path(img_path).stat()
        except (FrameError, OSError):
            found.append((img_path, 0, 0))
            continue
        found.append((img_path, stat.st_size, stat.st_mtime_ns))
    return found


def _write(path: Path, table: pd.DataFrame, part: Sequence[str]) -> pd.DataFrame:
    """Keep a part; what is read back, so that a run gives the same numbers as one that goes on after a stop."""
    unreadable = dict(table.attrs["unreadable"])
    write_detections(path, table)
    write_json(path.with_suffix(".json"), {"frames": len(part), "unreadable": unreadable})
    back = read_detections(path)
    back.attrs["unreadable"] = unreadable
    return back


def _read(path: Path, frames: Frames) -> pd.DataFrame | None:
    """A kept part, or None when it is to be made (again): not there, damaged, or a frame has become readable."""
    note = path.with_suffix(".json")
    if not note.exists():
        return None
    try:
        unreadable: dict[str, str] = read_json(note)["unreadable"]
        table = read_detections(path)
    except (CacheError, KeyError, TypeError) as error:
        logger.warning("%s; these frames are detected again", error)
        return None
    for img_path in unreadable:
        try:
            frames.load(img_path)
        except (FrameError, OSError):
            continue
        return None
    table.attrs["unreadable"] = unreadable
    return table
