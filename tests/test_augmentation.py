"""Changes of training pictures: each can be set, and boxes stay on their plants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from obdb_lib.augmentation import LOST, Augmentation, Zoom
from obdb_lib.dataset import DetectionDataset
from obdb_lib.errors import TrainingError
from obdb_lib.models import build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.settings import Settings
from obdb_lib.training import fit
from obdb_lib.tuning import augmentation_of
from tests.tiny_field import CLASSES, COLOURS, make_field

STILL = {"horizontal_flip": False, "vertical_flip": False, "colour": 0.0, "zoom": 0.0}


def field(root: Path, wanted: Augmentation | bool) -> DetectionDataset:
    frames, img_paths, truth = make_field(root / "images", 6, size=(96, 96))
    where = {"image_size": 96, "cache_dir": root / "cache"}
    return DetectionDataset(frames, img_paths, truth, CLASSES, augment=wanted, **where)


@pytest.mark.parametrize(
    "changes",
    [
        {"horizontal_flip": True},
        {"vertical_flip": True},
        {"zoom": 1.0, "scale": (0.5, 2.0), "shift": 0.3},
        {"crop": 1.0},
        {"zoom": 1.0, "crop": 1.0, "horizontal_flip": True, "colour": 0.3},
    ],
    ids=["mirrored", "upside down", "zoomed", "cropped", "all"],
)
def test_boxes__hold_their_colour_from_edge_to_edge(tmp_path: Path, changes: dict[str, object]) -> None:
    data, plain = field(tmp_path, Augmentation(**{**STILL, **changes})), field(tmp_path, False)
    checked = moved = 0
    for epoch in range(5):
        data.set_epoch(epoch)
        for index in range(len(data)):
            image, target = data[index]
            moved += not torch.equal(target["boxes"], plain.target(index)["boxes"])
            for box, label in zip(target["boxes"], target["labels"], strict=True):
                x1, y1, x2, y2 = box.tolist()
                if min(x2 - x1, y2 - y1) < 8:
                    continue
                inside = image[:, int(y1) + 3 : int(y2) - 2, int(x1) + 3 : int(x2) - 2]
                wanted = int(np.argmax(COLOURS[CLASSES[int(label) - 1]]))
                assert (inside.argmax(0) == wanted).float().mean() > 0.95
                assert 0 <= x1 < x2 <= image.shape[2]
                assert 0 <= y1 < y2 <= image.shape[1]
                checked += 1
    assert checked > 20
    assert moved > 5


def test_nothing_switched_on__changes_nothing(tmp_path: Path) -> None:
    data, plain = field(tmp_path, Augmentation(**STILL)), field(tmp_path, False)
    for index in range(3):
        assert torch.equal(data[index][0], plain[index][0])
        assert torch.equal(data[index][1]["boxes"], plain[index][1]["boxes"])


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.0, 1.25, 2.0])
def test_zoom__is_torchvisions_affine_without_a_turn(factor: float) -> None:
    dice = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 255, (3, 6, 9), generator=dice, dtype=torch.uint8)
    picture = tv_tensors.Image(coarse.repeat_interleave(24, 1).repeat_interleave(24, 2))  # 144 x 216
    boxes = tv_tensors.BoundingBoxes(
        [[90.0, 60.0, 130.0, 90.0], [0.0, 0.0, 216.0, 144.0]], format="XYXY", canvas_size=(144, 216)
    )
    zoom = Zoom((factor, factor), 0.2, LOST)
    torch.manual_seed(3)
    torch.empty(1).uniform_(factor, factor)
    moves = [float(torch.empty(1).uniform_(-0.2, 0.2)) * side for side in (216, 144)]
    torch.manual_seed(3)
    mine, where = zoom(picture, boxes)
    theirs = functional.affine(picture, 0.0, moves, factor, [0.0, 0.0], fill=LOST)
    expected = functional.clamp_bounding_boxes(functional.affine(boxes, 0.0, moves, factor, [0.0, 0.0]))
    assert mine.shape == picture.shape
    assert (mine.float() - theirs.float()).abs().median() <= 2
    assert (mine.float() - theirs.float()).abs().mean() < 12  # the edges of the squares, soft here, hard there
    assert (where - expected).abs().max() <= 1.5 * max(factor, 1)
    assert where.canvas_size == (144, 216)


def test_zoom_far_beyond_the_picture__keeps_its_size(tmp_path: Path) -> None:
    data = field(tmp_path, Augmentation(**{**STILL, "zoom": 1.0, "scale": (8.0, 9.0), "shift": 1.0}))
    for index in range(len(data)):
        image, target = data[index]
        assert image.shape == (3, 96, 96)
        assert len(target["boxes"]) == len(target["labels"])


def test_cropped_pictures_and_frames_without_boxes__train(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path / "images", 5, size=(96, 96), empty=3)
    where = {"image_size": 96, "cache_dir": tmp_path / "cache"}
    train = DetectionDataset(frames, img_paths[2:], truth, CLASSES, augment=Augmentation(crop=1.0), **where)
    val = DetectionDataset(frames, img_paths[:2], truth, CLASSES, **where)
    result = fit(
        build_detector("mobilenet_v2", CLASSES, image_size=96),
        train,
        val,
        TrainingOptions(epochs=1, batch_size=3, device="cpu"),
        save_dir=tmp_path / "out",
    )
    assert result.history["loss"].notna().all()
    assert result.settings["augmentation"]["crop"] == 1.0


def test_wrong_values__are_all_named() -> None:
    with pytest.raises(TrainingError, match=r"colour must lie from 0 to 1; got 2.*scale must be \(low, high\)"):
        Augmentation(colour=2, scale=(2.0, 1.0))


def test_settings__say_what_differs_from_the_usual() -> None:
    settings = Settings.parse({"variants": ["mobilenet_v2"], "vertical_flip": 0})
    assert augmentation_of(settings) == Augmentation(vertical_flip=False)
