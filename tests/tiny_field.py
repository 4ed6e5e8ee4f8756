"""Tiny pictures with plain coloured shapes on soil, for tests of datasets and detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from obdb_lib.frames import FrameStore

CLASSES = ("dock", "rape")
COLOURS = {"dock": (200, 40, 40), "rape": (40, 60, 220)}
COLUMNS = ["img_path", "object_class", "x1", "y1", "x2", "y2"]


def make_field(
    root: Path, count: int, *, seed: int = 0, size: tuple[int, int] = (96, 96), empty: int = 0
) -> tuple[FrameStore, list[str], pd.DataFrame]:
    """``count`` PNG frames (width, height) with one or two squares each, then ``empty`` frames without any."""
    dice = np.random.default_rng(seed)
    width, height = size
    img_paths, rows = [], []
    for number in range(count + empty):
        pixels = dice.integers(90, 120, (height, width, 3)).astype(np.uint8)
        img_path = f"field/{seed}/frame{number:04d}.png"
        for left in (0, width // 2)[: 0 if number >= count else int(dice.integers(1, 3))]:
            name = CLASSES[int(dice.integers(2))]
            side = int(dice.integers(height // 4, height // 3))
            x, y = left + int(dice.integers(2, width // 2 - side - 2)), int(dice.integers(2, height - side - 2))
            pixels[y : y + side, x : x + side] = COLOURS[name]
            rows.append((img_path, name, float(x), float(y), float(x + side), float(y + side)))
        path = root / img_path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        img_paths.append(img_path)
    return FrameStore([root]), img_paths, pd.DataFrame(rows, columns=COLUMNS)
