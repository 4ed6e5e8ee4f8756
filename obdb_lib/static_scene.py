"""Whether a camera stood still between two frames, and whether a place looks the same in both.

The frame is judged by the proof of ``frame_match`` (features and pixels agree on one turn, zoom and shift) and has to
have moved by next to nothing; the place by the correlation of its own pixels, so that a plant that came up since is not
taken for the soil of before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray
from obdb_lib.crops import iterate_crops
from obdb_lib.errors import FrameError
from obdb_lib.frame_features import FeatureTable, frame_features
from obdb_lib.frame_match import Match, match
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress
from obdb_lib.snapshots import BOX

MAX_SHIFT = 0.01
"""Share of the longer side that a static frame may have moved (19 px of full-HD): wind on the mast, and how exactly the
shift can be told; lower it to be stricter."""
MAX_TURN_DEGREES = 1.0
MAX_ZOOM = 1.02
PLACE_PX = 32
"""Side of the grey picture in which a place is compared."""
PLACE_CORRELATION = 0.6
"""Pixels of the place have to correlate this well (-1..1); raise it to silence less where plants move in the wind."""
FLAT = 1.0
"""Standard deviation in grey levels below which a place has no picture to compare."""


def same_places(
    here: Sequence[str],
    there: Sequence[str],
    boxes: FloatArray,
    frames: FrameStore,
    *,
    progress: Progress | None = None,
) -> NDArray[np.bool_]:
    """Whether each box shows the same place of a static scene in both of its frames.

    Args:
        here, there: (N,) img_paths of two frames each.
        boxes: (N, 4) float32, pixels of the full frame.

    Returns:
        (N,) bool; False where a frame cannot be read, or shows too little to tell.
    """
    names = sorted({*here, *there})
    number = {name: place for place, name in enumerate(names)}
    table = frame_features(frames, names, progress)
    proved: dict[tuple[int, int], bool] = {}
    result = np.zeros(len(here), dtype=bool)
    for row, (one, other) in enumerate(zip(here, there, strict=True)):
        pair = (min(number[one], number[other]), max(number[one], number[other]))
        if pair not in proved:
            proved[pair] = stood_still(table, *pair)
        result[row] = proved[pair]
    rows = np.flatnonzero(result)
    pictures = [_pictures([name[row] for row in rows.tolist()], boxes[rows], frames) for name in (here, there)]
    result[rows] = _correlation(*pictures) >= PLACE_CORRELATION
    return result


def stood_still(table: FeatureTable, first: int, second: int) -> bool:
    """Whether two frames show the same ground from the same place."""
    try:
        found: Match | None = match(table.get(first), table.get(second), mirrored=False)
    except FrameError:
        return False
    if found is None or not found.proves():
        return False
    zoom = max(found.zoom, 1 / found.zoom)
    return bool(np.hypot(*found.shift) <= MAX_SHIFT and abs(found.turn) <= MAX_TURN_DEGREES and zoom <= MAX_ZOOM)


def _pictures(img_paths: Sequence[str], boxes: FloatArray, frames: FrameStore) -> NDArray[np.float32]:
    """(N, PLACE_PX * PLACE_PX) grey, NaN where the frame cannot be read."""
    table = pd.DataFrame(boxes, columns=BOX).assign(img_path=list(img_paths))
    result = np.full((len(table), PLACE_PX * PLACE_PX), np.nan, dtype=np.float32)
    for rows, crops in iterate_crops(table, frames, PLACE_PX):
        if not isinstance(crops, FrameError):
            result[rows] = crops.mean(axis=3, dtype=np.float32).reshape(len(rows), -1)
    return result


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) correlation of the pixels, -1 where there is no picture or a flat one."""
    first, second = (one - one.mean(axis=1, keepdims=True) for one in (first, second))
    spread = first.std(axis=1), second.std(axis=1)
    seen = np.minimum(*spread) >= FLAT  # False for NaN, too
    result = np.full(len(first), -1, dtype=np.float32)
    result[seen] = (first * second).mean(axis=1)[seen] / (spread[0] * spread[1])[seen]
    return result
