"""One epoch of training: order, steps, losses, timings. ``training.fit`` makes runs out of epochs."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from obdb_lib.cache import content_hash
from obdb_lib.dataset import DetectionDataset, collate
from obdb_lib.distributed import World
from obdb_lib.options import TrainingOptions
from obdb_lib.progress import Task
from obdb_lib.steps import take_step
from obdb_lib.trainer import RunState, StopTraining, Trainer

MAX_WORKERS = 8


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
        Mean losses (``loss`` and its parts) and timings of the epoch: seconds, step_s, wait_s, wait_share (of the
        seconds, 0..1), images_per_s, memory_mb.

    Raises:
        TrainingError: a loss is not finite; the message names the batch's frames.
        StopTraining: ``stop()`` said so; ``state`` tells how far it came.
    """
    options, device, world = trainer.options, trainer.device, trainer.world
    trainer.detector.train()
    dataset.set_epoch(state.epoch)
    every = epoch_batches(len(dataset), options, state.epoch, world)
    batches = every[state.step :]
    started = waited_from = time.monotonic()
    waited, seen = 0.0, 0
    for batch, (images, targets) in zip(batches, _loader(dataset, batches, options, device), strict=True):
        waited += time.monotonic() - waited_from
        seed = step_seed(options, state.epoch, state.step, world.rank)
        losses = take_step(trainer, images, targets, [dataset.img_paths[i] for i in batch], seed=seed)
        state.step += 1
        seen += len(batch)
        for name, value in losses.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        task.advance(1, **_told(trainer, state, len(every), losses, time.monotonic() - started, waited, seen))
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
        "wait_share": waited / max(seconds, 1e-9),
        "images_per_s": seen * world.size / max(seconds, 1e-9),
        "memory_mb": _peak_memory_mb(device),
    }


def _told(
    trainer: Trainer,
    state: RunState,
    steps: int,
    losses: dict[str, float],
    seconds: float,
    waited: float,
    seen: int,
) -> dict[str, object]:
    """What is shown beside the bar: epochs done of all, losses, rate, seconds a step, waits for data (s and share)."""
    return {
        "epoch": f"{state.epoch + state.step / steps:.2f}",
        "epochs": trainer.options.epochs,
        **{name: f"{value:.3f}" for name, value in losses.items()},
        "lr": f"{float(trainer.optimizer.param_groups[0]['lr']):.2g}",
        "step_s": f"{seconds * trainer.options.batch_size / seen:.2f}",
        "wait_s": f"{waited:.1f}",
        "wait": f"{waited / max(seconds, 1e-9):.0%}",
    }


def _loader(
    dataset: DetectionDataset, batches: list[list[int]], options: TrainingOptions, device: torch.device
) -> DataLoader[Any]:
    workers = options.workers
    if workers is None:
        workers = min(MAX_WORKERS, torch.get_num_threads()) if device.type == "cuda" else 0
    return DataLoader(
        dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers, pin_memory=device.type == "cuda"
    )


def step_seed(options: TrainingOptions, epoch: int, step: int, rank: int = 0) -> int:
    """Seed of all that is random inside the network in a step, so that a resumed run draws what the whole one drew."""
    return _number(options.seed, epoch, step, rank)


def _number(*parts: int) -> int:
    """A seed from parts: the same parts, the same dice."""
    return int(content_hash(list(parts)), 16) % 2**63


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
