"""The dataset: boxes at training size, frames decoded once, augmentation that keeps boxes on their plants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from obdb_lib import dataset as dataset_module
from obdb_lib.dataset import DetectionDataset, collate, resize_frame, sized_frame
from obdb_lib.errors import DatasetError
from obdb_lib.frames import FrameStore
from tests.tiny_field import CLASSES, COLOURS, COLUMNS, make_field


def make_dataset(root: Path, count: int = 4, **changes: object) -> DetectionDataset:
    frames, img_paths, truth = make_field(root / "images", count, size=(96, 64), empty=1)
    options = {"image_size": 48, "cache_dir": root / "cache", **changes}
    return DetectionDataset(frames, img_paths, truth, CLASSES, **options)


def test_sample__shapes_types_and_scaled_boxes(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    image, target = data[0]
    assert image.shape == (3, 32, 48)
    assert image.dtype == torch.float32
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    rows = data.truth[data.truth["img_path"] == data.img_paths[0]]
    expected = rows[["x1", "y1", "x2", "y2"]].to_numpy(np.float32) / 2
    np.testing.assert_allclose(target["boxes"].numpy(), expected)
    assert [CLASSES[label - 1] for label in target["labels"].tolist()] == rows["object_class"].tolist()
    assert data.factors(0) == (0.5, 0.5)


def test_frame_without_boxes__is_a_negative(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    _, target = data[len(data) - 1]
    assert target["boxes"].shape == (0, 4)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64


def test_augmented_boxes__stay_on_their_plants(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, count=6, augment=True, image_size=96)
    checked = 0
    for epoch in range(6):
        data.set_epoch(epoch)
        for index in range(6):
            image, target = data[index]
            for box, label in zip(target["boxes"], target["labels"], strict=True):
                x, y = ((box[:2] + box[2:]) / 2).long().tolist()
                middle = image[:, y, x]
                assert int(middle.argmax()) == int(np.argmax(COLOURS[CLASSES[int(label) - 1]]))
                checked += 1
    assert checked > 30


def test_augmentation__hangs_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    first, second = make_dataset(tmp_path, augment=True, seed=3), make_dataset(tmp_path, augment=True, seed=3)
    torch.manual_seed(1)
    one = first[1]
    torch.manual_seed(2)
    other = second[1]
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1]["boxes"], other[1]["boxes"])
    second.set_epoch(1)
    assert not torch.equal(one[0], second[1][0])
    before = torch.get_rng_state()
    _ = first[2]
    assert torch.equal(before, torch.get_rng_state())


def test_frames__are_decoded_once_and_again_when_replaced(tmp_path: Path) -> None:
    frames, img_paths, _ = make_field(tmp_path / "images", 1)
    loads: list[str] = []

    class Counting(FrameStore):
        def load(self, img_path: str) -> np.ndarray:
            loads.append(img_path)
            return super().load(img_path)

    counting = Counting(frames.roots)
    first = sized_frame(counting, img_paths[0], 32, tmp_path / "cache")
    again = sized_frame(counting, img_paths[0], 32, tmp_path / "cache")
    assert len(loads) == 1
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (again.full_width, again.full_height) == (96, 96)
    Image.new("RGB", (80, 40), (9, 9, 9)).save(counting.path(img_paths[0]))
    changed = sized_frame(counting, img_paths[0], 32, tmp_path / "cache")
    assert changed.pixels.shape == (16, 32, 3)
    assert len(loads) == 2


def test_damaged_cache_file__is_made_again(tmp_path: Path) -> None:
    frames, img_paths, _ = make_field(tmp_path / "images", 1)
    first = sized_frame(frames, img_paths[0], 32, tmp_path / "cache")
    (cached,) = (tmp_path / "cache").rglob("*.npy")
    cached.write_bytes(cached.read_bytes()[:200])
    np.testing.assert_array_equal(sized_frame(frames, img_paths[0], 32, tmp_path / "cache").pixels, first.pixels)


def test_unreadable_frames__are_reported_and_left_out(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path / "images", 4)
    frames.path(img_paths[1]).write_bytes(b"no picture")
    whole = frames.path(img_paths[2]).read_bytes()
    frames.path(img_paths[2]).write_bytes(whole[: len(whole) // 2])
    wanted = [*img_paths, "field/gone.png"]
    data = DetectionDataset(frames, wanted, truth, CLASSES, image_size=32, cache_dir=tmp_path / "cache")
    assert data.img_paths == [img_paths[0], img_paths[3]]
    assert set(data.unreadable) == {img_paths[1], img_paths[2], "field/gone.png"}
    assert set(data.truth["img_path"]) <= set(data.img_paths)
    with pytest.raises(DatasetError, match="none of the 1 frames"):
        DetectionDataset(frames, ["field/gone.png"], truth, CLASSES, image_size=32, cache_dir=tmp_path / "cache")


def test_wrong_input__is_named(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path / "images", 2)
    where = {"image_size": 32, "cache_dir": tmp_path / "cache"}
    with pytest.raises(DatasetError, match="no frames"):
        DetectionDataset(frames, [], truth, CLASSES, **where)
    with pytest.raises(DatasetError, match="listed twice"):
        DetectionDataset(frames, [*img_paths, img_paths[0]], truth, CLASSES, **where)
    foreign = pd.DataFrame([(img_paths[0], "oak", 1.0, 1.0, 9.0, 9.0)], columns=COLUMNS)
    with pytest.raises(DatasetError, match="'oak'"):
        DetectionDataset(frames, img_paths, foreign, CLASSES, **where)


def test_resize__keeps_small_frames_whole_and_the_longest_side(tmp_path: Path) -> None:
    assert resize_frame(np.zeros((1080, 1920, 3), np.uint8), 448).pixels.shape == (252, 448, 3)
    assert resize_frame(np.zeros((1, 500, 3), np.uint8), 100).pixels.shape == (1, 100, 3)


def test_collate__keeps_every_sample(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    images, targets = collate([data[i] for i in range(5)])
    assert len(images) == len(targets) == 5
    assert [int(t["image_id"]) for t in targets] == [0, 1, 2, 3, 4]


def test_caching_folder__is_in_data_cache_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    frames, img_paths, _ = make_field(tmp_path / "images", 1)
    dataset_module.sized_frame(frames, img_paths[0], 32)
    assert list((tmp_path / "cache" / "training_frames" / "32").rglob("*.npy"))
