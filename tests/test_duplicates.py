"""Near-duplicate frames are found through shift, flip and light; strangers are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from obdb_lib.duplicates import find_duplicates
from obdb_lib.embeddings import embed_frames
from obdb_lib.frames import FrameStore


def ground(seed: int, size: int = 256) -> np.ndarray:
    """Soil-like texture: noise at several scales."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(size, size, 3)), (s, s, 0)) * s for s in (1.5, 4, 10)]
    pixels = 110 + 40 * sum(layers)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture
def frames(tmp_path: Path) -> FrameStore:
    world = ground(1, 400)
    pictures = {f"stranger{i}.png": ground(10 + i) for i in range(6)}
    pictures["a.png"] = world[:256, :256]
    pictures["shifted.png"] = world[40:296, 60:316]
    pictures["flipped.png"] = pictures["a.png"][:, ::-1]
    pictures["brighter.png"] = np.clip(pictures["a.png"].astype(float) * 1.3 + 10, 0, 255).astype(np.uint8)
    pictures["half_turn.png"] = pictures["shifted.png"][::-1, ::-1]
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / name)
    return FrameStore([tmp_path])


def test_copies_form_one_group_and_strangers_none(frames: FrameStore) -> None:
    names = sorted(path.name for path in frames.roots[0].glob("*.png"))
    groups = find_duplicates(embed_frames(frames, names), frames).groups
    copies = ["a.png", "shifted.png", "flipped.png", "brighter.png", "half_turn.png"]
    assert groups[copies].nunique() == 1
    strangers = [name for name in names if name.startswith("stranger")]
    assert groups[strangers].nunique() == len(strangers)
    assert not set(groups[strangers]) & set(groups[copies])


def test_one_frame_is_a_group_of_its_own(frames: FrameStore) -> None:
    found = find_duplicates(embed_frames(frames, ["a.png"]), frames)
    assert found.groups.tolist() == [0]
    assert found.count == 0


def test_augmented_photographs_of_sesame_form_groups(shared_data: Path) -> None:
    """Known of this set: 739 augmented copies of far fewer photographs."""
    frames = FrameStore([shared_data / "sesame"])
    names = sorted(f"images/{path.name}" for path in (shared_data / "sesame" / "images").glob("*.jpg"))[:160]
    found = find_duplicates(embed_frames(frames, names), frames)
    sizes = found.groups.value_counts()
    assert sizes.max() <= 20, "groups must not run into each other"
    assert 20 <= found.count <= 120
    assert (sizes > 1).sum() * 2 <= len(names)
