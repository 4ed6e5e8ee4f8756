"""Vectors with known groups, and a data_cache of its own."""

from __future__ import annotations

import numpy as np

from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.embeddings import Embeddings


def blobs(groups: int = 3, each: int = 30, *, dimensions: int = 16, spread: float = 6, seed: int = 0) -> FloatArray:
    """(groups * each, dimensions) float32: ``each`` points round each of some centres, in order."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dimensions)) * spread
    return (np.repeat(centres, each, axis=0) + rng.normal(size=(groups * each, dimensions))).astype(np.float32)


def group_of(groups: int = 3, each: int = 30) -> IntArray:
    return np.repeat(np.arange(groups), each)


def embeddings_of(vectors: FloatArray) -> Embeddings:
    return Embeddings(np.array([f"a{n}" for n in range(len(vectors))], dtype=object), vectors, "own")
