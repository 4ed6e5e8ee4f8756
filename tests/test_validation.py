"""Judging on val: losses and detections in one pass agree with two, and val leaves no trace in the network."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from obdb_lib.dataset import DetectionDataset, collate
from obdb_lib.evaluation import detect_dataset
from obdb_lib.models import Detector, build_detector
from obdb_lib.validation import SEED, judge, shared_features
from tests.tiny_field import CLASSES, make_field

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    root = tmp_path_factory.mktemp("val")
    frames, img_paths, truth = make_field(root / "images", 4, size=(64, 64), empty=1)
    return DetectionDataset(frames, img_paths, truth, CLASSES, image_size=64, cache_dir=root / "cache")


def runs_of_backbone(detector: Detector) -> list[int]:
    seen: list[int] = []
    detector.network.backbone.body.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_one_pass__gives_what_two_give(val: DetectionDataset) -> None:
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64)
    seen = runs_of_backbone(detector)
    judged = judge(detector, val, device=CPU, losses=True, batch=2)
    assert len(seen) == 3, "five frames in twos: the backbone ran once a batch"
    alone = judge(detector, val, device=CPU, losses=False, batch=2)
    assert alone.losses == {}
    pd.testing.assert_frame_equal(judged.detections, alone.detections)
    pd.testing.assert_frame_equal(judged.detections, detect_dataset(detector, val, device="cpu", batch=2))
    total = 0.0
    detector.train()  # its batch norms are frozen, so this is the loss by torchvision's own rules
    for first in (0, 2, 4):
        images, targets = collate([val[i] for i in range(first, min(first + 2, 5))])
        torch.manual_seed(SEED)
        with torch.no_grad():
            total += sum(float(value) for value in detector(images, targets).values()) * len(images)
    assert judged.losses["val_loss"] == pytest.approx(total / 5, rel=1e-5)
    parts = [value for name, value in judged.losses.items() if name != "val_loss"]
    assert sum(parts) == pytest.approx(judged.losses["val_loss"])


def test_judging__changes_neither_weights_nor_mode_nor_dice(val: DetectionDataset) -> None:
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64, pretrained=False)  # with batch norms that learn
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    for training in (True, False):
        detector.train(training)
        dice = torch.get_rng_state()
        judge(detector, val, device=CPU, losses=True)
        assert detector.training is training
        assert all(module.training is training for module in detector.modules())
        assert torch.equal(dice, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_backbone__runs_as_in_judging_and_not_as_in_learning(val: DetectionDataset) -> None:
    """Dropped paths (convnext, swin) must not get into the features that the detections are made of."""
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64)
    modes: list[bool] = []
    for module in detector.network.backbone.modules():
        module.register_forward_hook(lambda module, *_: modes.append(module.training))
    judge(detector.train(), val, device=CPU, losses=True)
    assert modes
    assert not any(modes)


def test_shared_features__are_forgotten_with_the_block_and_for_other_images() -> None:
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64).eval()
    seen = runs_of_backbone(detector)
    one, other = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad(), shared_features(detector.network):
        first = detector.network.backbone(one)["0"]
        assert detector.network.backbone(one)["0"] is first
        assert not torch.equal(detector.network.backbone(other)["0"], first)
    assert len(seen) == 2
    with torch.no_grad():
        detector.network.backbone(one)
        detector.network.backbone(one)
    assert len(seen) == 4
