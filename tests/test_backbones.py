"""Classifiers as backbones: their stages are found, and the fixed early ones are torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from obdb_lib.backbones import (
    FixedNorm,
    PyramidBackbone,
    Stage,
    classifier,
    freeze_early,
    freeze_norms,
    last_of_each_stride,
    stages_of,
)
from obdb_lib.errors import TrainingError


def test_stages_of_a_resnet__are_its_layers() -> None:
    network = classifier("resnet18").train()
    found = last_of_each_stride(stages_of(network))
    assert found == [Stage(f"layer{n + 1}", 4 * 2**n, 64 * 2**n, False) for n in range(4)]
    assert network.training
    assert all(not parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "strides", "names"),
    [
        ("convnext_tiny", [4, 8, 16, 32], ["features.1", "features.3", "features.5", "features.7"]),
        ("swin_t", [4, 8, 16, 32], ["features.1", "features.3", "features.5", "permute"]),
        ("densenet121", [4, 8, 16, 32], [*(f"features.denseblock{n}" for n in (1, 2, 3)), "features.norm5"]),
        ("regnet_y_400mf", [4, 8, 16, 32], [f"trunk_output.block{n}" for n in (1, 2, 3, 4)]),
        ("squeezenet1_1", [4, 8, 16], ["features.4", "features.7", "features.12"]),
        ("shufflenet_v2_x0_5", [4, 8, 16, 32], ["maxpool", "stage2", "stage3", "conv5"]),
    ],
)
def test_deepest_map_of_each_stride(name: str, strides: list[int], names: list[str]) -> None:
    found = last_of_each_stride(stages_of(classifier(name)))
    assert [stage.stride for stage in found] == strides
    assert [stage.name for stage in found] == names


def test_pyramid__maps_are_the_classifiers_own_whatever_their_order_of_axes() -> None:
    torch.manual_seed(0)
    backbone = PyramidBackbone("swin_t").eval()
    network = classifier("swin_t").eval()
    network.load_state_dict(backbone.body.state_dict(), strict=False)
    pixels = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = backbone.body(pixels)
        assert torch.allclose(maps["1"], network.features[:4](pixels), atol=1e-6)
        pyramid = backbone(pixels)
    assert {name: tuple(one.shape[1:]) for name, one in pyramid.items()} == {
        "0": (256, 16, 24),
        "1": (256, 8, 12),
        "2": (256, 4, 6),
        "3": (256, 2, 3),
        "pool": (256, 1, 2),
    }


def test_network_without_maps__is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    monkeypatch.setattr("obdb_lib.backbones.classifier", lambda name: flat)
    with pytest.raises(TrainingError, match="flat has no feature maps of several scales"):
        PyramidBackbone("flat")


@pytest.mark.parametrize("trainable", [1, 3, 4, 5])
def test_early_stages_that_stay_fixed__are_torchvisions(trainable: int) -> None:
    wanted = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=trainable).body
    found = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5).body
    freeze_early(found, trainable)
    fixed = {name for name, one in wanted.named_parameters() if not one.requires_grad}
    assert {name for name, one in found.named_parameters() if not one.requires_grad} == fixed


def test_early_stages_of_a_traced_backbone__are_fixed() -> None:
    backbone = PyramidBackbone("efficientnet_b0")
    freeze_early(backbone.body, 3, backbone.stages)
    fixed = {".".join(name.split(".")[:2]) for name, one in backbone.body.named_parameters() if not one.requires_grad}
    assert fixed == {"features.0", "features.1", "features.2"}


def test_early_stages_of_torchvisions_mobilenet__are_fixed() -> None:
    body = mobilenet_backbone(backbone_name="mobilenet_v3_large", weights=None, fpn=True, trainable_layers=6).body
    freeze_early(body, 3)
    assert {name.split(".")[0] for name, one in body.named_parameters() if not one.requires_grad} == {
        "0",
        "1",
        "2",
        "3",
    }


def test_fixed_norm__is_torchvisions_in_one_pass() -> None:
    dice = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(5).train()
    for _ in range(3):
        norm(torch.rand(4, 5, 6, 7, generator=dice) * 3 - 1)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.uniform_(norm.bias, -1.0, 1.0)
    theirs = FrozenBatchNorm2d(5)
    theirs.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})
    (mine,) = freeze_norms(nn.Sequential(norm)).children()
    assert isinstance(mine, FixedNorm)
    maps = torch.rand(4, 5, 6, 7, generator=dice) * 9 - 4
    expected, found = (maps.clone().requires_grad_() for _ in range(2))
    torch.testing.assert_close(mine(found), theirs(expected))
    torch.testing.assert_close(mine(maps), norm.eval()(maps))
    for given, one in ((expected, theirs), (found, mine)):
        one(given).square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad)
