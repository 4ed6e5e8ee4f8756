"""One step: batches that do not fit go in groups with the same outcome; long gradients are cut."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from obdb_lib.distributed import World
from obdb_lib.errors import TrainingError
from obdb_lib.models import Detector, DetectorSpec, build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.steps import take_step
from obdb_lib.trainer import Trainer, make_trainer
from obdb_lib.training import fit
from tests.tiny_field import CLASSES
from tests.train_script import datasets

IMAGES = [torch.full((3, 4, 4), value) for value in (0.1, 0.5, 0.9, 0.3, 0.7)]
TARGETS = [{"boxes": torch.zeros(0, 4)} for _ in IMAGES]
NAMES = [f"frame{number}" for number in range(5)]


class Plain(nn.Module):
    """A network of one number; its loss is the mean over the images, as torchvision's losses are."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.room = room
        self.asked: list[int] = []

    def forward(self, images: list[Tensor], targets: object) -> dict[str, Tensor]:
        self.asked.append(len(images))
        if len(images) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        mean = torch.stack([image.mean() for image in images]).mean()
        return {"loss_box": (self.weight * mean - 1) ** 2 * 0 + self.weight**2 * mean, "loss_class": self.weight * 0.5}


def trainer(room: int, **changes: object) -> Trainer:
    spec = DetectorSpec("plain", "plain", CLASSES, 4, False, "none")
    options = TrainingOptions(epochs=1, **{"batch_size": 5, "lr": 0.1, "device": "cpu", **changes})
    return make_trainer(Detector(Plain(room), spec), options, World(), steps_per_epoch=100)


def test_groups__give_the_step_of_the_whole_batch(caplog: pytest.LogCaptureFixture) -> None:
    whole, groups = trainer(5), trainer(2)
    with caplog.at_level(logging.WARNING):
        losses = [take_step(one, IMAGES, TARGETS, NAMES, seed=0) for one in (whole, groups)]
    assert groups.detector.network.asked == [5, 2, 2, 1], "tried whole, then in twos"
    assert groups.group == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[0]["loss"] == pytest.approx(4 * 0.5 + 1.0)
    torch.testing.assert_close(groups.detector.network.weight, whole.detector.network.weight)
    assert "out of memory on cpu with 5 frames" in caplog.text
    assert "batch_size stays 5" in caplog.text
    take_step(groups, IMAGES, TARGETS, NAMES, seed=1)
    assert groups.detector.network.asked[4:] == [2, 2, 1], "the size that fits is remembered"


def test_not_even_one_frame__is_explained() -> None:
    one = trainer(0)
    with pytest.raises(TrainingError, match=r"not even one frame of 4 px fits .*Lower image_size"):
        take_step(one, IMAGES, TARGETS, NAMES, seed=0)
    assert one.detector.network.weight.item() == 2.0


def test_long_gradients__are_cut(caplog: pytest.LogCaptureFixture) -> None:
    free, cut = trainer(5, clip_norm=float("inf")), trainer(5, clip_norm=0.01)
    for one in (free, cut):
        take_step(one, IMAGES, TARGETS, NAMES, seed=0)
    moved = [2.0 - one.detector.network.weight.item() for one in (free, cut)]
    lr = cut.schedule.get_last_lr()[0]
    assert moved[0] > 100 * moved[1]
    assert moved[1] <= 0.01 * 0.1 + 1e-6
    assert lr > 0


def test_run_on_a_small_gpu__goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Detector.forward

    def small(self: Detector, images: list[Tensor], targets: object = None) -> object:
        if self.training and len(images) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(self, images, targets)

    monkeypatch.setattr(Detector, "forward", small)
    options = TrainingOptions(epochs=1, batch_size=4, device="cpu", val_loss=False)
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64)
    result = fit(detector, *datasets(tmp_path), options, save_dir=tmp_path / "out")
    assert result.settings["frames_at_once"] == 1
    assert result.settings["options"]["batch_size"] == 4
    assert result.history["loss"].notna().all()
    assert not result.partial
