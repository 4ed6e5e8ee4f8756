"""Names of networks: they are torchvision's, near misses are named, nothing heavy is loaded for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torchvision import models as torchvision_models

from obdb_lib.variants import (
    ARCHITECTURES,
    BACKBONES,
    DETECTORS,
    RETINA_NET,
    UNUSABLE,
    architecture_of,
    variant_mistake,
)
from tests.conftest import PROJECT


def test_lists_are_torchvisions_own() -> None:
    detectors = set(torchvision_models.list_models(module=torchvision_models.detection))
    classifiers = set(torchvision_models.list_models(module=torchvision_models))
    assert set(ARCHITECTURES) | set(UNUSABLE) == detectors | classifiers | {RETINA_NET}
    assert not set(ARCHITECTURES) & set(UNUSABLE)
    assert set(DETECTORS) < detectors
    assert set(BACKBONES) < classifiers


@pytest.mark.parametrize(
    ("variant", "network"),
    [
        ("resnet18", "resnet18"),
        ("resnet18_weeds_pretrained", "resnet18"),
        ("resnet152", "resnet152"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("mobilenet_v3_large_v2", "mobilenet_v3_large"),
        ("retina_net", "retina_net"),
        ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn"),
        ("retinanet_resnet50_fpn_v2", "retinanet_resnet50_fpn_v2"),
        ("retinanet_resnet50_fpn_v2_weeds", "retinanet_resnet50_fpn_v2"),
        ("retinanet_resnet50_fpn_weeds", "retinanet_resnet50_fpn"),
        ("vgg16_bn_4k", "vgg16_bn"),
        ("vgg16_4k", "vgg16"),
        ("swin_v2_t", "swin_v2_t"),
        ("resnet181", None),
        ("resnet18weeds", None),
        ("ResNet18", None),
        ("retinanet_resnet50_fpn_v3", None),
        ("retinanet_resnet50_fpn_v3_weeds", None),
        ("maskrcnn_resnet50_fpn", None),
        ("vit_b_16_mine", None),
        ("", None),
    ],
)
def test_architecture_of(variant: str, network: str | None) -> None:
    assert architecture_of(variant) == network
    assert (variant_mistake(variant) is None) == (network is not None)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("resnet81", "is no known network (did you mean 'resnet18'?)"),
        ("ResNet-50", "is no known network (did you mean 'resnet50'?)"),
        ("convnext_tinny_weeds_of_2020", "is no known network (did you mean 'convnext_tiny'?)"),
        ("fcos_resnet_50", "is no known network (did you mean 'fcos_resnet50_fpn'?)"),
        ("efficientnet_b8", "is no known network (did you mean 'efficientnet_b"),
        ("retinanet_resnet50_fpn_v3", "or a misspelt 'retinanet_resnet50_fpn_v2'"),
        ("vgg16_bm", "or a misspelt 'vgg16_bn'"),
        ("maskrcnn_resnet50_fpn_v2", "is trained on masks, this lab on boxes; take fasterrcnn_resnet50_fpn_v2"),
        ("vit_b_16", "no feature maps of several scales; take swin_t"),
        ("xyz", "'xyz' is no known network"),
    ],
)
def test_near_misses_are_named(variant: str, message: str) -> None:
    assert message in str(variant_mistake(variant))


def test_nothing_heavy_is_loaded_for_a_name() -> None:
    script = "import sys, obdb_lib.settings; print([m for m in ('torch', 'torchvision') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == "[]"
