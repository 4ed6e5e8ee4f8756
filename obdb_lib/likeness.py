"""How much a crop looks like the plants that are drawn: nearest neighbours among their embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.embeddings import embed_crops
from obdb_lib.evidence import Claims, Floats
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress
from obdb_lib.snapshots import BOX, Snapshot

NEIGHBOURS = 5
"""Drawn plants that are asked; more are steadier, fewer find rare looks."""
AT_ONCE = 1024
"""Claims compared with all annotations at a time."""
DEFAULT_LOOK = "mobilenet_v2+colour_lab"
UNLIKE = 0.0
"""Likeness of what cannot be compared: no picture, or no plant of the class elsewhere."""


def likeness(
    claims: Claims,
    snapshot: Snapshot,
    frames: FrameStore,
    *,
    ground: pd.Series | None = None,
    embedder: str = DEFAULT_LOOK,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Cosine likeness of each claim's crop to drawn plants of other ground; those of its own frames do not count.

    Vectors are cached by content (``embeddings``). A claim whose frame cannot be read is like nothing.

    Args:
        ground: img_path -> group of frames that show the same ground; each frame by itself when None.

    Returns:
        like_class, like_other (mean of the NEIGHBOURS most alike of the claim's class, and of all other classes, -1..1)
        and like_margin (their difference).
    """
    crops = claims.table.assign(annotation_id=[f"claim {row}" for row in range(len(claims))])
    asked = _vectors(crops, snapshot, frames, embedder, progress)
    drawn = _vectors(snapshot.annotations, snapshot, frames, embedder, progress)
    places = [table["img_path"].astype(object) for table in (claims.table, snapshot.annotations)]
    if ground is not None:
        places = [names.map(ground).astype(object).where(names.isin(ground.index), names) for names in places]
    frame, known_frame = _codes(*places)
    label, known_label = _codes(claims.table["object_class"], snapshot.annotations["object_class"])
    same, other = np.zeros(len(claims)), np.zeros(len(claims))
    for start in range(0, len(claims), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        alike = asked[rows] @ drawn.T
        foreign = frame[rows, None] != known_frame[None, :]
        of_class = label[rows, None] == known_label[None, :]
        same[rows] = _nearest(np.where(foreign & of_class, alike, np.nan))
        other[rows] = _nearest(np.where(foreign & ~of_class, alike, np.nan))
    return pd.DataFrame({"like_class": same, "like_other": other, "like_margin": same - other})


def _vectors(
    table: pd.DataFrame, snapshot: Snapshot, frames: FrameStore, embedder: str, progress: Progress | None
) -> FloatArray:
    """(N, D) in the order of the table; zeros where there is no picture."""
    if not len(table):
        return np.zeros((0, 1), dtype=np.float32)
    crops = table[["annotation_id", "img_path", "object_class", *BOX]].reset_index(drop=True)
    found = embed_crops(replace(snapshot, annotations=crops), frames, embedder=embedder, progress=progress)
    place = pd.Index(found.ids).get_indexer(pd.Index(crops["annotation_id"]))
    vectors = np.zeros((len(table), found.vectors.shape[1]), dtype=np.float32)
    vectors[place >= 0] = found.vectors[place[place >= 0]]
    return vectors


def _codes(first: pd.Series, second: pd.Series) -> tuple[IntArray, IntArray]:
    codes = pd.factorize(np.concatenate([first.to_numpy(object), second.to_numpy(object)]))[0].astype(np.int64)
    return codes[: len(first)], codes[len(first) :]


def _nearest(alike: Floats) -> Floats:
    """Mean of the NEIGHBOURS largest of each row that are not NaN, UNLIKE where there are none."""
    if not alike.shape[1]:
        return np.full(len(alike), UNLIKE)
    top = -np.sort(-alike, axis=1)[:, :NEIGHBOURS]  # NaN sort last
    there = ~np.isnan(top)
    return np.asarray(np.where(there, top, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1), dtype=np.float64)
