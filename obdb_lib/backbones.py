"""Any classifier of torchvision as the backbone of a detector: its stages are found by looking at a picture's way.

A picture without content (torch's meta device) goes through the network; how much each part shrinks it tells which part
ends a stage. Nothing is computed, so it costs a fraction of a second for the largest network, too.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from obdb_lib.errors import TrainingError

PROBE = (1024, 768)
"""Height and width of the empty picture, pixels: large enough that convolutions without padding hardly count, and not
square, so that a map's height and width can be told from its channels."""
STRIDE_TOLERANCE = 0.2
"""How far log2 of a map's stride may be from a whole number; more admits maps that are pooled to a fixed size."""
PYRAMID_STRIDES = (4, 8, 16, 32)
PYRAMID_WIDTH = 256
HEADS = ("classifier", "fc", "head", "avgpool", "AuxLogits")
"""Beginnings of the names of what comes behind the feature maps."""
BUILDER_OPTIONS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": False, "transform_input": True}
    for name in ("googlenet", "inception_v3")
}
"""Their weights expect pictures in -1..1, which ``transform_input`` makes of ImageNet-normalised ones."""


@dataclass(frozen=True)
class Stage:
    """A part of a network and the feature map it gives.

    Attributes:
        name: of the module, e.g. ``features.3``.
        stride: pixels of the picture to one of the map: 1, 2, 4, 8, ...
        channels: of the map.
        channels_last: the map comes as (N, H, W, C).
    """

    name: str
    stride: int
    channels: int
    channels_last: bool


def classifier(name: str) -> nn.Module:
    """A classifier of torchvision with random weights."""
    built: nn.Module = get_model(name, weights=None, **BUILDER_OPTIONS.get(name, {}))
    return built


def stages_of(network: nn.Module) -> list[Stage]:
    """The parts of a network in the order a picture passes them; a part that spans several strides is taken apart.

    Works for any network that takes (N, 3, H, W), and leaves its mode and weights as they are.
    """
    seen: dict[str, tuple[Any, Any]] = {}
    hooks = [
        module.register_forward_hook(partial(_note, seen, name)) for name, module in network.named_modules() if name
    ]
    was_training = network.training
    empty = {name: value.to("meta") for name, value in [*network.named_parameters(), *network.named_buffers()]}
    try:
        with torch.no_grad():
            torch.func.functional_call(network.eval(), empty, (torch.empty(1, 3, *PROBE, device="meta"),))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return list(_parts(network, "", seen))


def last_of_each_stride(stages: list[Stage]) -> list[Stage]:
    """The deepest map of each of PYRAMID_STRIDES that a classifier has."""
    inner = [stage for stage in stages if not stage.name.startswith(HEADS)]
    found = {stage.stride: stage for stage in inner}
    return [found[stride] for stride in PYRAMID_STRIDES if stride in found]


class PyramidBackbone(nn.Module):
    """A classifier's feature maps with a feature pyramid (Lin et al. 2017) on them.

    ``forward`` takes normalised pictures (N, 3, H, W) and gives the maps "0", "1", ... and "pool", each
    (N, PYRAMID_WIDTH, h, w), finest first.

    Raises:
        TrainingError: the classifier has fewer than two usable maps.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        network = classifier(name)
        self.stages = stages_of(network)  # before tracing, which calls the innermost modules only
        self.levels = last_of_each_stride(self.stages)
        if len(self.levels) < 2:
            raise TrainingError(f"{name} has no feature maps of several scales, so no pyramid can stand on it")
        wanted = {stage.name: str(number) for number, stage in enumerate(self.levels)}
        with warnings.catch_warnings():  # train and eval differ in dropout alone, which create_feature_extractor keeps
            warnings.simplefilter("ignore")
            self.body: nn.Module = create_feature_extractor(network, wanted)
        widths = [stage.channels for stage in self.levels]
        self.fpn = FeaturePyramidNetwork(widths, PYRAMID_WIDTH, extra_blocks=LastLevelMaxPool())
        self.out_channels = PYRAMID_WIDTH

    @property
    def strides(self) -> list[int]:
        """Of the maps without "pool"."""
        return [stage.stride for stage in self.levels]

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        found = self.body(pixels)
        maps = OrderedDict(
            (str(number), found[str(number)].permute(0, 3, 1, 2) if stage.channels_last else found[str(number)])
            for number, stage in enumerate(self.levels)
        )
        pyramid: dict[str, Tensor] = self.fpn(maps)
        return pyramid


class FixedNorm(FrozenBatchNorm2d):  # type: ignore[misc]  # torchvision is untyped
    """``FrozenBatchNorm2d`` in one pass over the maps instead of two: a twentieth of a training step on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W), scaled and moved channel by channel."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        move = self.bias - self.running_mean * scale
        return torch.addcmul(move.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1))


def freeze_norms(module: nn.Module) -> nn.Module:
    """The module with every BatchNorm2d replaced by one whose statistics never change."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FixedNorm(child.num_features, child.eps)
            state = {k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"}
            frozen.load_state_dict(state)
            setattr(module, name, frozen)
        else:
            freeze_norms(child)
    return module


def freeze_early(trunk: nn.Module, trainable_layers: int, stages: list[Stage] | None = None) -> None:
    """Keep the first of the five stages (strides 2, 4, 8, 16, 32) as they are; the last ``trainable_layers`` learn.

    Args:
        stages: of the trunk; None looks for them.
    """
    stages = stages_of(trunk) if stages is None else stages
    ends = [number for number, stage in enumerate(stages) if stage.stride <= 2 ** (5 - trainable_layers)]
    names = {stage.name for stage in stages[: ends[-1] + 1]} if ends and trainable_layers < 5 else set()
    for name, module in trunk.named_modules():
        if name in names:
            module.requires_grad_(False)


def _note(seen: dict[str, tuple[Any, Any]], name: str, module: nn.Module, given: Any, made: Any) -> None:
    first = given[0] if given and isinstance(given[0], Tensor) else None
    before = None if first is None else _map_of(name, first)
    if isinstance(made, Tensor):
        seen[name] = (before.stride if before else None, _map_of(name, made))


def _parts(network: nn.Module, prefix: str, seen: dict[str, tuple[Any, Any]]) -> Iterator[Stage]:
    order = {name: number for number, name in enumerate(seen)}
    children = [(f"{prefix}{name}", child) for name, child in network.named_children()]
    for name, child in sorted(children, key=lambda item: order.get(item[0], -1)):
        before, stage = seen.get(name, (None, None))
        whole = stage is not None and before is not None and stage.stride <= 2 * before
        if stage is not None and (whole or not list(child.children())):
            yield stage
        else:
            yield from _parts(child, f"{name}.", seen)


def _map_of(name: str, made: Tensor) -> Stage | None:
    for channels_last in (False, True):
        stride = _stride(made, channels_last=channels_last)
        if stride is not None:
            return Stage(name, stride, int(made.shape[3 if channels_last else 1]), channels_last)
    return None


def _stride(one: Tensor, *, channels_last: bool = False) -> int | None:
    """Pixels of the probe to one of the map; None when the tensor is no map of the whole picture."""
    if one.dim() != 4:
        return None
    height, width = one.shape[1:3] if channels_last else one.shape[2:4]
    logs = [math.log2(whole / part) for whole, part in zip(PROBE, (height, width), strict=True)]
    exponent = round(sum(logs) / 2)
    return 2**exponent if exponent >= 0 and all(abs(log - exponent) <= STRIDE_TOLERANCE for log in logs) else None
