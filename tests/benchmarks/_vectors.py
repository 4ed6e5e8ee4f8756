"""Vectors like those of crops from field video, made up: for benchmarks that need more of them than the sample has."""

from __future__ import annotations

import numpy as np

from obdb_lib.boxes import FloatArray, IntArray

DIMENSIONS = 1280
LOOKS = 30
LATENT = 8
HIDDEN = 64
SIGHTINGS = 4


def field_vectors(count: int, *, looks: int = LOOKS, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """``count`` vectors (N, 1280) float32 of length 1 and the look (group) of each, (N,) int64.

    Each look (a class at an age in a light) is a curved sheet of 8 dimensions, of its own size, through a random
    two-layer network whose last step is a ReLU, as in MobileNetV2: no value is negative and many are 0. Each plant is
    seen in four neighbouring frames, so that it has three near copies; noise is added before the ReLU.
    """
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(looks, 5.0))
    plants = -(-count // SIGHTINGS)
    look = np.repeat(rng.choice(looks, plants, p=share), SIGHTINGS)[:count]
    place = np.repeat(rng.normal(0, 0.7, (plants, LATENT)), SIGHTINGS, axis=0)[:count]
    place += rng.normal(0, 0.05, place.shape)
    frames = rng.normal(0, 0.5, (looks, LATENT, HIDDEN))
    shifts = rng.normal(0, 1.4, (looks, HIDDEN))
    out = rng.normal(0, 1 / 8, (HIDDEN, DIMENSIONS))
    vectors = np.empty((count, DIMENSIONS), dtype=np.float32)
    for one in range(looks):
        rows = np.flatnonzero(look == one)
        hidden = np.tanh(place[rows] @ frames[one] + shifts[one])
        vectors[rows] = np.maximum(hidden @ out + rng.normal(0, 0.4, (len(rows), DIMENSIONS)), 0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, look.astype(np.int64)
