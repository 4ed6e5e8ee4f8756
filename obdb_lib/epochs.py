"""One epoch of training: order, steps, losses, timings. ``training.fit`` makes runs out of epochs."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from obdb_lib.cache import content_hash
from obdb_lib.dataset import DetectionDataset, Target, collate
from obdb_lib.distributed import World
from obdb_lib.errors import TrainingError
from obdb_lib.evaluation import choose_device
from obdb_lib.models import Detector
from obdb_lib.options import TrainingOptions
from obdb_lib.progress import Task

WARMUP_STEPS = 60
"""The learning rate grows over the first steps (at most a tenth of the run); raise it when the first losses explode."""
CLIP_NORM = 5.0
"""Gradients longer than this are shortened; lower it when single batches throw the training off."""
MAX_WORKERS = 8


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
    return Trainer(detector, network, optimizer, schedule, scaler, device, options, world)


def _cosine(step: int, total: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1.0)))


def epoch_batches(count: int, options: TrainingOptions, epoch: int, world: World | None = None) -> list[list[int]]:
    """Indices of each step of this process: a permutation by seed and epoch, every frame at least once.

    The last batch may be smaller. With several processes the order is dealt out in turn and padded from its beginning,
    so that all take the same number of steps.
    """
    world = world or World()
    dice = torch.Generator().manual_seed(_number(options.seed, epoch))
    order: list[int] = torch.randperm(count, generator=dice).tolist()
    if world.size > 1:
        order += [order[i % count] for i in range(-count % world.size)]
        order = order[world.rank :: world.size]
    return [order[i : i + options.batch_size] for i in range(0, len(order), options.batch_size)]


def train_one_epoch(
    trainer: Trainer,
    dataset: DetectionDataset,
    state: RunState,
    *,
    task: Task,
    stop: Callable[[], bool] | None = None,
    after_step: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Train from ``state.step`` to the end of ``state.epoch``; counts steps and loss sums into ``state``.

    Returns:
        Mean losses (``loss`` and its parts) and timings of the epoch: seconds, step_s, wait_s, images_per_s, memory_mb.

    Raises:
        TrainingError: a loss is not finite; the message names the batch's frames.
        StopTraining: ``stop()`` said so; ``state`` tells how far it came.
    """
    options, device, world = trainer.options, trainer.device, trainer.world
    trainer.detector.train()
    dataset.set_epoch(state.epoch)
    batches = epoch_batches(len(dataset), options, state.epoch, world)[state.step :]
    started = waited_from = time.monotonic()
    waited, seen = 0.0, 0
    for batch, (images, targets) in zip(batches, _loader(dataset, batches, options, device), strict=True):
        waited += time.monotonic() - waited_from
        torch.manual_seed(_number(options.seed, state.epoch, state.step, world.rank))
        losses = _step(trainer, images, targets, [dataset.img_paths[i] for i in batch])
        state.step += 1
        seen += len(batch)
        for name, value in losses.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        step_s = (time.monotonic() - started) * options.batch_size / seen
        task.advance(
            1, epoch=state.epoch + 1, loss=f"{losses['loss']:.3f}", step_s=f"{step_s:.2f}", wait_s=f"{waited:.1f}"
        )
        if after_step is not None:
            after_step()
        if world.any(stop is not None and stop()):
            raise StopTraining
        waited_from = time.monotonic()
    seconds = time.monotonic() - started
    means = world.mean({name: total / max(state.step, 1) for name, total in state.sums.items()})
    return {
        **means,
        "seconds": seconds,
        "step_s": seconds / max(len(batches), 1),
        "wait_s": waited,
        "images_per_s": seen * world.size / max(seconds, 1e-9),
        "memory_mb": _peak_memory_mb(device),
    }


def _step(trainer: Trainer, images: list[Tensor], targets: list[Target], img_paths: Sequence[str]) -> dict[str, float]:
    """One step of SGD; returns the losses. A loss that is not finite changes nothing and raises."""
    device, scaler = trainer.device, trainer.scaler
    with torch.autocast(device.type, enabled=scaler.is_enabled()):
        parts: dict[str, Tensor] = trainer.network([i.to(device) for i in images], [_to(t, device) for t in targets])
        total = torch.stack(list(parts.values())).sum()
    losses = {"loss": float(total.detach()), **{name: float(value.detach()) for name, value in parts.items()}}
    bad = not math.isfinite(losses["loss"])
    if trainer.world.any(bad):
        where = f"on the frames {', '.join(img_paths)}" if bad else "in another process"
        numbers = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise TrainingError(
            f"the loss is not finite ({numbers}) {where}. Look at their boxes; if they are right, "
            f"lower lr (now {trainer.options.lr:g}). The last good model is kept."
        )
    trainer.optimizer.zero_grad(set_to_none=True)
    scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(trainer.optimizer)
    nn.utils.clip_grad_norm_([p for p in trainer.detector.parameters() if p.requires_grad], CLIP_NORM)
    scaler.step(trainer.optimizer)
    scaler.update()
    if trainer.cosine:
        trainer.schedule.step()
    return losses


def mean_loss(detector: Detector, dataset: DetectionDataset, batch: int, device: torch.device) -> float:
    """Mean summed loss on a dataset, as in training but without learning."""
    was_training = detector.training
    detector.train()
    total = 0.0
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for first in range(0, len(dataset), batch):
                images, targets = collate([dataset[i] for i in range(first, min(first + batch, len(dataset)))])
                losses = detector([image.to(device) for image in images], [_to(t, device) for t in targets])
                total += float(torch.stack(list(losses.values())).sum()) * len(images)
    finally:
        detector.train(was_training)
    return total / len(dataset)


def _loader(
    dataset: DetectionDataset, batches: list[list[int]], options: TrainingOptions, device: torch.device
) -> DataLoader[Any]:
    workers = options.workers
    if workers is None:
        workers = min(MAX_WORKERS, torch.get_num_threads()) if device.type == "cuda" else 0
    return DataLoader(
        dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers, pin_memory=device.type == "cuda"
    )


def _to(target: Target, device: torch.device) -> Target:
    return {name: value.to(device) for name, value in target.items()}


def _number(*parts: int) -> int:
    """A seed from parts: the same parts, the same dice."""
    return int(content_hash(list(parts)), 16) % 2**63


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
