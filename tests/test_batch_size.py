"""Batch size by memory: what fits is taken, said, recorded and kept when the run goes on."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from obdb_lib import batch_size
from obdb_lib.batch_size import ProbedMemory, choose, container_memory
from obdb_lib.dataset import DetectionDataset
from obdb_lib.errors import SettingsError, TrainingError
from obdb_lib.models import Detector, build_detector
from obdb_lib.options import AUTO_BATCH, TrainingOptions
from obdb_lib.settings import Settings
from obdb_lib.training import FitResult, fit
from tests.tiny_field import CLASSES, make_field

GIGABYTE = 2**30


@dataclass
class Given:
    """A device with so much memory, gigabytes; steps of more than ``most`` frames do not fit."""

    room: float
    once: float = 1.0
    each: float = 0.5
    most: int = 99

    def free(self) -> int:
        return int(self.room * GIGABYTE)

    def step(self, frames: int) -> int:
        if frames > self.most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return int((self.once + self.each * frames) * GIGABYTE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[DetectionDataset, DetectionDataset]:
    root = tmp_path_factory.mktemp("field")
    frames, img_paths, truth = make_field(root / "images", 44, size=(64, 64))
    where = {"image_size": 64, "cache_dir": root / "cache"}
    train = DetectionDataset(frames, img_paths[:42], truth, CLASSES, augment=True, **where)
    return train, DetectionDataset(frames, img_paths[42:], truth, CLASSES, **where)


def network() -> Detector:
    return build_detector("mobilenet_v2", CLASSES, image_size=64)


def train_with(data: tuple[DetectionDataset, DetectionDataset], size: int, folder: Path, **more: object) -> FitResult:
    options = TrainingOptions(epochs=1, batch_size=size, device="cpu")
    return fit(network(), *data, options, save_dir=folder, **more)


@pytest.mark.parametrize(
    ("memory", "most", "size", "reason"),
    [
        (Given(80.0), 16, 16, "more is not wanted"),
        (Given(80.0), 5, 4, "too few steps an epoch"),
        (Given(5.0), 16, 4, "more would not fit"),  # 80 % of 5 = 4 = 1 + 6 x 0.5
        (Given(3.7), 16, 2, "more would not fit"),  # 2.96: not quite four frames
        (Given(1.0), 16, 1, "more would not fit"),
        (Given(80.0, most=1), 16, 1, "two frames at once do not fit"),
        (Given(80.0, most=0), 16, 1, "two frames at once do not fit"),
    ],
)
def test_largest_power_of_two_that_fits(memory: Given, most: int, size: int, reason: str) -> None:
    chosen, sentence = choose(memory, most)
    assert chosen == size
    assert reason in sentence


def test_probe_on_a_cpu__grows_evenly_and_touches_nothing(data: tuple[DetectionDataset, DetectionDataset]) -> None:
    detector = network()
    before = {name: one.clone() for name, one in detector.state_dict().items()}
    dice = torch.get_rng_state()
    memory = ProbedMemory(detector, data[0], torch.device("cpu"), amp=True)
    one, two = memory.step(1), memory.step(2)
    assert 0 < one < two < 2 * one
    memory.samples = memory.samples * 2
    assert memory.step(4) - two == pytest.approx(2 * (two - one), rel=0.2)
    assert torch.equal(dice, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_chosen_size__trains_as_if_given_and_stays_on_resume(
    tmp_path: Path,
    data: tuple[DetectionDataset, DetectionDataset],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = train_with(data, 4, tmp_path / "given")
    calls: list[int] = []
    with caplog.at_level(logging.INFO, "obdb_lib.batch_size"):
        part = train_with(data, AUTO_BATCH, tmp_path / "auto", stop=lambda: calls.append(1) or len(calls) == 5)
    assert part.partial
    assert "batch_size auto: 4" in caplog.text  # 42 frames leave ten steps of four
    monkeypatch.setattr(batch_size, "container_memory", lambda: 0)  # now one frame at most would be chosen
    rest = train_with(data, AUTO_BATCH, tmp_path / "auto", resume=True)
    assert rest.run_id == part.run_id
    assert rest.history["loss"].tolist() == pytest.approx(given.history["loss"].tolist(), rel=1e-5)
    record = json.loads((tmp_path / "auto" / "mobilenet_v2_run.json").read_text())
    assert record["options"]["batch_size"] == 4
    assert record["batch_size_choice"].startswith("batch_size auto: 4")
    assert "batch_size_choice" not in given.settings
    anew = train_with(data, AUTO_BATCH, tmp_path / "small", stop=lambda: True)
    assert anew.settings["options"]["batch_size"] == 1


def test_container_memory__is_the_limit_less_what_is_used(tmp_path: Path) -> None:
    assert container_memory(tmp_path / "none") == 2**63
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert container_memory(tmp_path) == 2**63
    (tmp_path / "memory.max").write_text("1000\n")
    assert container_memory(tmp_path) == 700


def test_settings__take_the_word() -> None:
    settings = Settings.parse({"variants": ["resnet18"], "batch_size": "auto"})
    assert TrainingOptions.from_settings(settings, "resnet18").batch_size == AUTO_BATCH
    for wrong in ("big", 0, True, 1.5):
        with pytest.raises(SettingsError, match=r"batch_size: input should be a whole number or 'auto'; got"):
            Settings.parse({"variants": ["resnet18"], "batch_size": wrong})
    with pytest.raises(TrainingError, match="batch_size must be at least 0; got -1"):
        TrainingOptions(epochs=1, batch_size=-1)
