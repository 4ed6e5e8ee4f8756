"""Judging on val while training: losses and detections in one pass, with one run of the backbone for both.

torchvision's detectors give losses in training mode and detections in evaluation mode. Here every frame is loaded once
and goes through both modes; the backbone, most of the work, is remembered in between. Layers that would learn from what
they see (batch norm) or drop things at random stay in evaluation mode throughout, so that val leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn

from obdb_lib.dataset import DetectionDataset, Target
from obdb_lib.evaluation import detect_dataset
from obdb_lib.models import Detector
from obdb_lib.steps import to_device

JUDGED_AT_ONCE = 8
"""Frames a batch; lower it when judging runs out of memory."""
SEED = 0
"""Of the proposals that the losses sample: the same in every epoch, so that epochs can be compared."""


@dataclass(frozen=True)
class Judged:
    """What one pass over val gave.

    Attributes:
        detections: as of ``evaluation.detect``.
        losses: mean over the frames: ``val_loss`` (the sum) and ``val_<part>``; empty when not asked for.
    """

    detections: pd.DataFrame
    losses: dict[str, float]


def judge(
    detector: Detector, val: DetectionDataset, *, device: torch.device, losses: bool, batch: int = JUDGED_AT_ONCE
) -> Judged:
    """Detections and, when asked for, losses on val; the detector's mode and weights stay as they were."""
    if not losses:
        return Judged(detect_dataset(detector, val, device=device, batch=batch), {})
    watched = _Watched(detector, val, device)
    with shared_features(detector.network):
        detections = detect_dataset(cast(Detector, watched), val, device=device, batch=batch)
    return Judged(detections, {f"val_{name}": total / len(val) for name, total in watched.sums.items()})


class _Watched(nn.Module):
    """Stands in for the detector while it detects: each batch also has its losses counted, frame by frame in order."""

    def __init__(self, detector: Detector, val: DetectionDataset, device: torch.device) -> None:
        super().__init__()
        self.detector, self.spec = detector, detector.spec
        self.val, self.device = val, device
        self.training = detector.training
        self.next = 0
        self.sums: dict[str, float] = {}

    @property
    def network(self) -> nn.Module:
        return self.detector.network

    def forward(self, images: list[Tensor]) -> Any:
        targets = [self.val.target(index) for index in range(self.next, self.next + len(images))]
        self.next += len(images)
        for name, value in _losses(self.detector, images, [to_device(one, self.device) for one in targets]).items():
            self.sums[name] = self.sums.get(name, 0.0) + value * len(images)
        return self.detector(images)


def _losses(detector: Detector, images: list[Tensor], targets: list[Target]) -> dict[str, float]:
    """Losses of a batch without learning anything from it."""
    detector.train()
    backbone = getattr(detector.network, "backbone", None)
    for module in detector.modules():
        if module is backbone or isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            module.eval()
    try:
        with torch.random.fork_rng(devices=[images[0].device] if images[0].is_cuda else []):
            torch.manual_seed(SEED)
            parts: dict[str, Tensor] = detector(images, targets)
    finally:
        detector.eval()
    values = {name: float(value) for name, value in parts.items()}
    return {"loss": sum(values.values()), **values}


@contextmanager
def shared_features(network: nn.Module) -> Iterator[None]:
    """Within the block, the network's backbone answers at once when it is asked for the same images again."""
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        yield
        return
    run: Callable[[Tensor], Any] = backbone.forward
    kept: list[tuple[Tensor, Any]] = []

    def forward(images: Tensor) -> Any:
        if kept and kept[0][0].shape == images.shape and torch.equal(kept[0][0], images):
            return kept[0][1]
        kept[:] = [(images, run(images))]
        return kept[0][1]

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward  # the class's own shows again
