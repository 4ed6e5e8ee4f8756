"""The moving parts of one training (network, optimiser, schedule, scaler), and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from obdb_lib.distributed import World
from obdb_lib.evaluation import choose_device
from obdb_lib.models import Detector
from obdb_lib.options import TrainingOptions

WARMUP_STEPS = 60
"""The learning rate grows over the first steps (at most a tenth of the run); raise it when the first losses explode."""


@dataclass
class RunState:
    """Where a run stands; all of it goes into the ``last`` file."""

    run_id: str
    epoch: int = 0
    step: int = 0  # steps done in ``epoch``
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_ap50: float = math.nan
    best_ap: float = math.nan
    best_value: float = math.nan  # of the column that ``best_by`` names
    best_epoch: int = 0
    best_metrics: dict[str, Any] = field(default_factory=dict)  # ``Metrics.to_dict`` of the best epoch
    plateau: int = 0
    seconds: float = 0.0
    finished: bool = False


@dataclass
class Trainer:
    """The moving parts of one training."""

    detector: Detector
    network: nn.Module  # the detector, or its wrapper for several processes
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    device: torch.device
    options: TrainingOptions
    world: World
    group: int
    """Frames that go through the network at once; less than ``batch_size`` where memory did not suffice."""

    @property
    def cosine(self) -> bool:
        """The schedule moves every step (cosine), not every epoch (StepLR)."""
        return self.options.step_size is None


class StopTraining(Exception):  # noqa: N818  # a signal between the two training modules, not an error
    """Training was asked to stop between two steps."""


def make_trainer(detector: Detector, options: TrainingOptions, world: World, *, steps_per_epoch: int) -> Trainer:
    """Optimiser, schedule and device for a detector."""
    device = world.device(choose_device(options.device))
    detector.to(device)
    parameters = [p for p in detector.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay)
    schedule: torch.optim.lr_scheduler.LRScheduler
    if options.step_size is None or options.gamma is None:
        total = options.epochs * steps_per_epoch
        warmup = max(min(WARMUP_STEPS, total // 10), 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, total, warmup))
    else:
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, options.step_size, options.gamma)
    scaler = torch.amp.GradScaler(device.type, enabled=options.amp and device.type == "cuda")
    network = world.wrap(detector, device)
    return Trainer(detector, network, optimizer, schedule, scaler, device, options, world, options.batch_size)


def _cosine(step: int, total: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1.0)))
