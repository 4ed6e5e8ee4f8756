"""The networks themselves, with random weights: light Faster R-CNN, upstream's, torchvision's detectors, any backbone.

All take lists of (3, H, W) pictures in 0..1 and give labels 1..K, boxes in pixels of the picture given and scores above
SCORE_FLOOR, at most DETECTIONS_PER_IMAGE a picture, whatever torchvision's builder would do by default.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model, mobilenet_v2
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from obdb_lib.backbones import PyramidBackbone
from obdb_lib.variants import DETECTORS, LIGHT, RESNETS, RETINA_NET
from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD

# The light head of the CPU network: measured to train at about five images a CPU-second at 256 px.
LIGHT_FPN_WIDTH = 96
LIGHT_BOX_HEAD = 256
LIGHT_ROIS = 64
LIGHT_PROPOSALS = 128
MOBILENET_LEVELS = {"6": "0", "13": "1", "17": "2"}
"""Stages of MobileNetV2's features used by the pyramid (strides 8, 16, 32)."""
MOBILENET_WIDTHS = [32, 96, 320]
ANCHOR_SHARES = ((1 / 24, 1 / 16), (1 / 10, 1 / 7), (1 / 4.5, 1 / 3), (1 / 2, 3 / 4))
"""Anchor sides of the light network's four pyramid levels as shares of the image size."""
ANCHOR_STRIDES = 8
"""Anchor side of a pyramid level in steps of that level: 32 to 512 pixels, as torchvision's Faster R-CNN."""
ASPECTS = (0.5, 1.0, 2.0)
DETECTIONS_PER_IMAGE = 100
SCORE_FLOOR = 0.05
"""Detections scoring less are not given: a lower floor makes longer lists and a slightly higher mAP."""
SSD300_SIDE = 300
"""SSD300's last maps have one pixel at this size: it works at no other."""


def build_network(architecture: str, count: int, image_size: int) -> nn.Module:
    """A network with random weights and batch norms that learn.

    Args:
        architecture: one of ``variants.ARCHITECTURES``.
        count: classes with background.
        image_size: longest side at work, pixels; SSDLite squeezes pictures to a square of it, SSD300 to 300 x 300.
    """
    if architecture == LIGHT:
        light: nn.Module = _light_faster_rcnn(mobilenet_v2(weights=None).features, count, image_size)
        return light
    if architecture in (*RESNETS, RETINA_NET):
        return _upstream(architecture, count, image_size)
    if architecture in DETECTORS:
        return _of_torchvision(architecture, count, image_size)
    return _on_backbone(architecture, count, image_size)


def trunk_of(network: nn.Module) -> nn.Module:
    """The part of a network that ImageNet features are for: pixels to feature maps, before pyramid and heads."""
    backbone: Any = network.backbone
    trunk: nn.Module = getattr(backbone, "body", backbone)
    return trunk


class FeatureMaps(nn.Module):
    """A network's trunk alone: normalised pictures (N, 3, H, W) to its maps (N, C, h, w), finest first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        backbone: Any = network.backbone
        # SSD's further maps need the size it was built for; its first one does not.
        self.trunk: nn.Module = backbone.features if isinstance(network, SSD) else backbone.body
        pyramid = isinstance(backbone, PyramidBackbone)
        self.channels_last = [stage.channels_last for stage in backbone.levels] if pyramid else []

    def forward(self, pixels: Tensor) -> list[Tensor]:
        found = self.trunk(pixels)
        maps = list(found.values()) if isinstance(found, dict) else [found]
        turned = self.channels_last or [False] * len(maps)
        return [one.permute(0, 3, 1, 2) if last else one for one, last in zip(maps, turned, strict=True)]


def square_of(network: nn.Module) -> int | None:
    """Side in pixels of the square that a network squeezes every picture into, or None when it keeps their shape."""
    transform: Any = network.transform
    return int(transform.fixed_size[0]) if transform.fixed_size else None


def _sizes(image_size: int) -> dict[str, int]:
    return {"min_size": image_size, "max_size": image_size}


def _imagenet() -> dict[str, list[float]]:
    return {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}


def _light_faster_rcnn(features: nn.Module, count: int, image_size: int) -> FasterRCNN:
    stages = OrderedDict(list(features.named_children())[:18])
    backbone = BackboneWithFPN(
        nn.Sequential(stages), MOBILENET_LEVELS, MOBILENET_WIDTHS, LIGHT_FPN_WIDTH, LastLevelMaxPool()
    )
    sizes = tuple(tuple(max(round(share * image_size), 4) for share in level) for level in ANCHOR_SHARES)
    pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2"], output_size=7, sampling_ratio=2)
    return FasterRCNN(
        backbone,
        **_sizes(image_size),
        **_imagenet(),
        rpn_anchor_generator=AnchorGenerator(sizes, (ASPECTS,) * len(sizes)),
        rpn_pre_nms_top_n_train=4 * LIGHT_PROPOSALS,
        rpn_pre_nms_top_n_test=4 * LIGHT_PROPOSALS,
        rpn_post_nms_top_n_train=2 * LIGHT_PROPOSALS,
        rpn_post_nms_top_n_test=LIGHT_PROPOSALS,
        box_roi_pool=pool,
        box_head=TwoMLPHead(LIGHT_FPN_WIDTH * 49, LIGHT_BOX_HEAD),
        box_predictor=FastRCNNPredictor(LIGHT_BOX_HEAD, count),
        box_batch_size_per_image=LIGHT_ROIS,
        box_score_thresh=SCORE_FLOOR,
        box_detections_per_img=DETECTIONS_PER_IMAGE,
    )


def _upstream(architecture: str, count: int, image_size: int) -> nn.Module:
    retina = architecture == RETINA_NET
    more: dict[str, Any] = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)} if retina else {}
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50" if retina else architecture,
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        **more,
    )
    common: dict[str, Any] = {**_sizes(image_size), **_imagenet()}
    if retina:
        return _limited(RetinaNet(backbone, count, **common))
    return _limited(FasterRCNN(backbone, count, **common))


def _of_torchvision(architecture: str, count: int, image_size: int) -> nn.Module:
    sizes = {} if architecture.startswith("ssd") else _sizes(image_size)
    network: nn.Module = get_model(architecture, weights=None, weights_backbone=None, num_classes=count, **sizes)
    if isinstance(network, SSD) and architecture != "ssd300_vgg16":  # SSDLite's padded convolutions take any size
        network.transform.fixed_size = (image_size, image_size)
    return _limited(network)


def _on_backbone(architecture: str, count: int, image_size: int) -> nn.Module:
    backbone = PyramidBackbone(architecture)
    strides = [*backbone.strides, 2 * backbone.strides[-1]]
    names = [str(number) for number in range(len(backbone.strides))]
    network = FasterRCNN(
        backbone,
        count,
        **_sizes(image_size),
        **_imagenet(),
        rpn_anchor_generator=AnchorGenerator(
            tuple((ANCHOR_STRIDES * stride,) for stride in strides), (ASPECTS,) * len(strides)
        ),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=names, output_size=7, sampling_ratio=2),
    )
    return _limited(network)


def _limited(network: nn.Module) -> nn.Module:
    """The same floor and number of detections for every family."""
    part: Any = network.roi_heads if isinstance(network, FasterRCNN) else network
    part.score_thresh, part.detections_per_img = SCORE_FLOOR, DETECTIONS_PER_IMAGE
    return network
