"""Where a box of one frame lies in the frames that show the same ground: neighbours on the video, and copies.

A plant that was annotated in a neighbouring frame stands in this one, too; that is the best hint that its box is
missing here. ``duplicates`` has proved which frames show the same ground and how one lies over the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.duplicates import DuplicateGroups

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TwinFrames:
    """Frames and how their twins lie over them, both ways.

    Attributes:
        names: img_path of each frame; the numbers below count them.
        sizes: (F, 2) float64, width and height in pixels.
        start: (F + 1,) int64, frame f's twins are the rows start[f]..start[f + 1].
        twin: (T,) int64, the other frame.
        matrix: (T, 2, 3) float64, from pixels of the frame to pixels of its twin.
    """

    names: tuple[str, ...]
    sizes: Floats
    start: IntArray
    twin: IntArray
    matrix: Floats

    def number(self, img_paths: pd.Series) -> IntArray:
        """(N,) number of each frame, -1 for one that is not there."""
        return pd.Index(self.names).get_indexer(pd.Index(img_paths)).astype(np.int64)

    def projected(self, frame: IntArray, boxes: FloatArray) -> tuple[IntArray, IntArray, Floats]:
        """Each box laid into each twin that shows its middle.

        Args:
            frame: (N,) number of each box's frame.
            boxes: (N, 4) pixels of its frame.

        Returns:
            (M,) row of the box, (M,) number of the twin, (M, 4) float64 the upright box around it there, cut at the
            twin's border.
        """
        counts = np.where(frame >= 0, self.start[frame + 1] - self.start[frame], 0)
        row = np.repeat(np.arange(len(boxes)), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + self.start[frame[row]]
        corners = boxes.astype(np.float64)[row][:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        matrix = self.matrix[place]
        moved = np.einsum("nij,nkj->nki", matrix[:, :, :2], corners) + matrix[:, None, :, 2]
        size = self.sizes[self.twin[place]]
        middle = moved.mean(axis=1)
        inside = ((middle >= 0) & (middle <= size)).all(axis=1)
        low, high = np.clip(moved.min(axis=1), 0, size), np.clip(moved.max(axis=1), 0, size)
        found = np.concatenate([low, high], axis=1)
        return row[inside].astype(np.int64), self.twin[place][inside], found[inside]


def twin_frames(frames: pd.DataFrame, duplicates: DuplicateGroups | None) -> TwinFrames:
    """From proved pairs to transforms between frames; without any, frames have no twins.

    Args:
        frames: columns img_path, width, height (pixels), as ``Snapshot.frames``.
        duplicates: of ``find_duplicates``; pairs with a frame that is not in ``frames`` are left out.
    """
    names = tuple(frames["img_path"].astype(str))
    sizes = frames[["width", "height"]].to_numpy(np.float64)
    nothing = np.zeros(len(names) + 1, dtype=np.int64)
    if duplicates is None or not len(duplicates.pairs):
        return TwinFrames(names, sizes, nothing, np.empty(0, dtype=np.int64), np.empty((0, 2, 3)))
    pairs, index = duplicates.pairs, pd.Index(names)
    first, second = index.get_indexer(pd.Index(pairs["first"])), index.get_indexer(pd.Index(pairs["second"]))
    known = (first >= 0) & (second >= 0)
    first, second, pairs = first[known], second[known], pairs[known]
    onto_first = _onto_first(pairs, sizes[first], sizes[second])
    back = np.linalg.inv(np.concatenate([onto_first, np.tile([[[0.0, 0.0, 1.0]]], (len(pairs), 1, 1))], axis=1))[:, :2]
    frame, twin = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.lexsort((twin, frame))
    start = np.searchsorted(frame[order], np.arange(len(names) + 1)).astype(np.int64)
    matrix = np.concatenate([back, onto_first])[order]
    return TwinFrames(names, sizes, start, twin[order].astype(np.int64), matrix)


def _onto_first(pairs: pd.DataFrame, first: Floats, second: Floats) -> Floats:
    """(P, 2, 3) from pixels of the second frame to the first, as ``frame_match.Match`` measured it."""
    exact = pairs["kind"].to_numpy(object) == "exact"
    turn = np.radians(-np.where(exact, 0.0, pairs["turn"].to_numpy(np.float64)))
    zoom = np.where(exact, 1.0, pairs["zoom"].to_numpy(np.float64))
    shift = np.where(exact[:, None], 0.0, pairs[["shift_x", "shift_y"]].to_numpy(np.float64))
    mirrored = np.where(exact, 0.0, pairs["mirrored"].to_numpy(np.float64)) > 0
    longer_first, longer_second = first.max(axis=1), second.max(axis=1)
    turning = np.stack([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)], axis=1).reshape(-1, 2, 2)
    linear = turning * (zoom * longer_first / longer_second)[:, None, None]
    offset = first / 2 + shift * longer_first[:, None] - np.einsum("nij,nj->ni", linear, second / 2)
    # A mirrored frame is turned left to right before anything else: x becomes width - x.
    offset += np.where(mirrored[:, None], linear[:, :, 0] * second[:, :1], 0.0)
    linear[:, :, 0] *= np.where(mirrored, -1.0, 1.0)[:, None]
    return np.concatenate([linear, offset[:, :, None]], axis=2)
