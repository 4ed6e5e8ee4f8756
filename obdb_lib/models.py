"""Networks by name: torchvision detectors with the variant names of upstream's settings.

``resnet18``..``resnet152`` are Faster R-CNN with a ResNet-FPN, as upstream trained them; ``mobilenet_v2`` is a light
Faster R-CNN that a CPU trains in minutes; ``retina_net`` is RetinaNet on ResNet-50. A longer variant name such as
``resnet18_weeds_pretrained`` means the network it begins with.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from obdb_lib.errors import TrainingError
from obdb_lib.settings import ARCHITECTURES, architecture_of
from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD, mobilenet_v2_backbone, torchvision_weights

logger = logging.getLogger(__name__)

# The light head of the CPU network: measured to train at about five images a CPU-second at 256 px.
LIGHT_FPN_WIDTH = 96
LIGHT_BOX_HEAD = 256
LIGHT_ROIS = 64
LIGHT_PROPOSALS = 128
LIGHT_FROZEN_STAGES = 4
MOBILENET_LEVELS = {"6": "0", "13": "1", "17": "2"}
"""Stages of MobileNetV2's features used by the pyramid (strides 8, 16, 32)."""
MOBILENET_WIDTHS = [32, 96, 320]
ANCHOR_SHARES = ((1 / 24, 1 / 16), (1 / 10, 1 / 7), (1 / 4.5, 1 / 3), (1 / 2, 3 / 4))
"""Anchor sides of the four pyramid levels as shares of the image size."""
DETECTIONS_PER_IMAGE = 100


@dataclass(frozen=True)
class DetectorSpec:
    """All that is needed to build the same network again (stored in every checkpoint).

    Attributes:
        variant: name in the settings, e.g. ``resnet18_weeds_pretrained``.
        architecture: the network it means, e.g. ``resnet18``.
        classes: class names; label = position + 1, 0 is background.
        image_size: longest side in pixels the network works at.
        frozen_norm: batch norm with fixed statistics (True with ImageNet features).
        weights: sentence saying which weights training began with.
    """

    variant: str
    architecture: str
    classes: tuple[str, ...]
    image_size: int
    frozen_norm: bool
    weights: str

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "classes": list(self.classes)}


class Detector(nn.Module):
    """A torchvision detector with its spec.

    Images are lists of (3, H, W) float32 in 0..1; resizing to ``spec.image_size`` and ImageNet normalisation happen in
    the network's own transform and nowhere else. In training mode ``forward`` returns losses, otherwise per image
    ``boxes`` (N, 4) xyxy in pixels of the image given, ``labels`` (N,), ``scores`` (N,) 0..1.
    """

    def __init__(self, network: nn.Module, spec: DetectorSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        return self.network(images, targets)


def build_detector(
    variant: str,
    classes: Sequence[str],
    *,
    image_size: int,
    pretrained: str | bool = "auto",
    trainable_layers: int = 3,
    seed: int = 0,
) -> Detector:
    """Build the network of a variant.

    Args:
        variant: a variant name; ``ARCHITECTURES`` lists the networks.
        classes: class names without background.
        image_size: longest side in pixels at training and detection.
        pretrained: "auto" takes ImageNet features when they can be had and says so when not; True insists (an error
            when they cannot be had); False starts from random numbers.
        trainable_layers: how many of the five ResNet stages are trained when ImageNet features are used.
        seed: of the layers that start from random numbers.

    Raises:
        TrainingError: unknown variant, no classes, or ``pretrained=True`` without weights at hand.
    """
    architecture = architecture_of(variant)
    if architecture is None:
        raise TrainingError(f"unknown variant {variant!r}; it must be or begin with one of {', '.join(ARCHITECTURES)}")
    if not classes:
        raise TrainingError("a detector needs at least one class; the snapshot has none")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if architecture == "mobilenet_v2":
            backbone, sentence, frozen = _mobilenet_features(pretrained)
            network = _light_faster_rcnn(backbone, len(classes) + 1, image_size)
        else:
            state, sentence, frozen = _resnet_features(architecture, pretrained)
            network = _resnet_detector(architecture, len(classes) + 1, image_size, state, trainable_layers)
    log = logger.info if frozen else logger.warning
    log("%s: %s", variant, sentence)
    return Detector(network, DetectorSpec(variant, architecture, tuple(classes), image_size, frozen, sentence))


def rebuild_detector(spec: DetectorSpec) -> Detector:
    """The network of a spec with random weights, ready for a checkpoint's state."""
    count = len(spec.classes) + 1
    if spec.architecture == "mobilenet_v2":
        from torchvision.models import mobilenet_v2

        features = mobilenet_v2(weights=None).features
        if spec.frozen_norm:
            features = _with_frozen_norm(features)
        network: nn.Module = _light_faster_rcnn(features, count, spec.image_size)
    else:
        network = _resnet_detector(spec.architecture, count, spec.image_size, None, 5, frozen_norm=spec.frozen_norm)
    return Detector(network, spec)


def take_over_weights(detector: Detector, state: dict[str, Tensor]) -> list[str]:
    """Load what fits from another detector's state (other classes allowed); returns the names that were left as is.

    Raises:
        TrainingError: hardly anything fits (another architecture).
    """
    own = detector.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) // 2:
        raise TrainingError(
            f"only {len(fitting)} of {len(own)} tensors fit {detector.spec.architecture}; start from a "
            "checkpoint of the same network"
        )
    detector.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def _mobilenet_features(pretrained: str | bool) -> tuple[nn.Module, str, bool]:
    if pretrained is False:
        from torchvision.models import mobilenet_v2

        return mobilenet_v2(weights=None).features, "random numbers, as asked (pretrained=False)", False
    try:
        model, sentence = mobilenet_v2_backbone()
    except TrainingError as error:
        if pretrained is True:
            raise
        from torchvision.models import mobilenet_v2

        return mobilenet_v2(weights=None).features, f"random numbers, because {error}", False
    features = _with_frozen_norm(cast(nn.Module, model.features))
    stages = list(features.children())
    for stage in stages[:LIGHT_FROZEN_STAGES]:
        stage.requires_grad_(False)
    return features, sentence, True


def _with_frozen_norm(module: nn.Module) -> nn.Module:
    """The module with every BatchNorm2d replaced by one whose statistics never change."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            state = {k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"}
            frozen.load_state_dict(state)
            setattr(module, name, frozen)
        else:
            _with_frozen_norm(child)
    return module


def _light_faster_rcnn(features: nn.Module, count: int, image_size: int) -> FasterRCNN:
    stages = OrderedDict(list(features.named_children())[:18])
    backbone = BackboneWithFPN(
        nn.Sequential(stages), MOBILENET_LEVELS, MOBILENET_WIDTHS, LIGHT_FPN_WIDTH, LastLevelMaxPool()
    )
    sizes = tuple(tuple(max(round(share * image_size), 4) for share in level) for level in ANCHOR_SHARES)
    pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2"], output_size=7, sampling_ratio=2)
    return FasterRCNN(
        backbone,
        min_size=image_size,
        max_size=image_size,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        rpn_pre_nms_top_n_train=4 * LIGHT_PROPOSALS,
        rpn_pre_nms_top_n_test=4 * LIGHT_PROPOSALS,
        rpn_post_nms_top_n_train=2 * LIGHT_PROPOSALS,
        rpn_post_nms_top_n_test=LIGHT_PROPOSALS,
        box_roi_pool=pool,
        box_head=TwoMLPHead(LIGHT_FPN_WIDTH * 49, LIGHT_BOX_HEAD),
        box_predictor=FastRCNNPredictor(LIGHT_BOX_HEAD, count),
        box_batch_size_per_image=LIGHT_ROIS,
        box_detections_per_img=DETECTIONS_PER_IMAGE,
    )


def _resnet_detector(
    architecture: str,
    count: int,
    image_size: int,
    state: dict[str, Tensor] | None,
    trainable_layers: int,
    *,
    frozen_norm: bool | None = None,
) -> nn.Module:
    frozen = state is not None if frozen_norm is None else frozen_norm
    norm = cast("Callable[..., nn.Module]", FrozenBatchNorm2d if frozen else nn.BatchNorm2d)
    resnet = "resnet50" if architecture == "retina_net" else architecture
    more: dict[str, Any] = {}
    if architecture == "retina_net":
        more = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    backbone = resnet_fpn_backbone(
        backbone_name=resnet,
        weights=None,
        norm_layer=norm,
        trainable_layers=trainable_layers if state is not None else 5,
        **more,
    )
    if state is not None:
        backbone.body.load_state_dict(state, strict=False)
    common: dict[str, Any] = {
        "min_size": image_size,
        "max_size": image_size,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }
    if architecture == "retina_net":
        retina: nn.Module = RetinaNet(backbone, count, detections_per_img=DETECTIONS_PER_IMAGE, **common)
        return retina
    faster: nn.Module = FasterRCNN(backbone, count, box_detections_per_img=DETECTIONS_PER_IMAGE, **common)
    return faster


def _resnet_features(architecture: str, pretrained: str | bool) -> tuple[dict[str, Tensor] | None, str, bool]:
    if pretrained is False:
        return None, "random numbers, as asked (pretrained=False)", False
    resnet = "resnet50" if architecture == "retina_net" else architecture
    state, reason = torchvision_weights(resnet)
    if state is not None:
        return state, f"{resnet}, ImageNet weights of torchvision ({reason})", True
    sentence = f"random numbers, because torchvision's ImageNet weights of {resnet} could not be fetched ({reason})"
    if pretrained is True:
        raise TrainingError(f"{resnet}: {sentence}. Connect to the internet once, or use the variant mobilenet_v2.")
    return None, sentence, False
