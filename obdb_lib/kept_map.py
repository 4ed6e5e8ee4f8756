"""The map of notebook 02, kept beside the run's results for the notebooks that follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray
from obdb_lib.cache import load_arrays, save_arrays
from obdb_lib.errors import CacheError

MAP_NAME = "map.npz"
"""File in the folder of the run."""


def write_map(path: Path, ids: NDArray[np.object_], xy: FloatArray, labels: pd.Series) -> None:
    """Keep notebook 02's map: annotation ids (N,), coordinates (N, 2) and cluster of each (-1: none).

    Raises:
        CacheError: the folder cannot be written.
    """
    clusters = labels.reindex(ids).fillna(-1).to_numpy(np.int64)
    save_arrays(path, {"ids": np.asarray(ids, dtype=str), "xy": np.asarray(xy, np.float32), "clusters": clusters})


def read_map(path: Path) -> pd.DataFrame:
    """What ``write_map`` kept: columns annotation_id, x, y (float32), cluster (int, -1: in none).

    Raises:
        CacheError: missing or damaged.
    """
    again = "run notebook 02 again; it makes it"
    if not path.exists():
        raise CacheError(f"the map {path} does not exist; {again}")
    stored = load_arrays(path)
    if stored is None or not {"ids", "xy", "clusters"} <= set(stored):
        raise CacheError(f"the map {path} is damaged; {again}")
    columns = {"annotation_id": stored["ids"].astype(object), "x": stored["xy"][:, 0], "y": stored["xy"][:, 1]}
    return pd.DataFrame({**columns, "cluster": stored["clusters"]})
