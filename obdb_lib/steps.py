"""One step of SGD: losses, gradients in as many groups as memory asks for, clipping.

A batch that does not fit into the GPU's memory goes through the network in smaller groups. Their gradients are added
up, weighted by frames, so that the step is the one of the whole batch and the recipe stays the same.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from obdb_lib.dataset import Target
from obdb_lib.errors import TrainingError
from obdb_lib.trainer import Trainer

logger = logging.getLogger(__name__)

Losses = dict[str, float]


def take_step(
    trainer: Trainer, images: Sequence[Tensor], targets: Sequence[Target], img_paths: Sequence[str], *, seed: int
) -> Losses:
    """Learn from one batch; returns its losses (``loss`` is their sum).

    When the GPU's memory does not suffice, the batch is halved and tried again, with the same ``seed``;
    ``trainer.group`` remembers the size that fits.

    Args:
        img_paths: names of the frames, for messages.
        seed: of all that is random inside the network (dropout, sampled proposals).

    Raises:
        TrainingError: a loss is not finite (nothing was changed then), or not even one frame fits into memory.
    """
    while True:
        torch.manual_seed(seed)
        trainer.optimizer.zero_grad(set_to_none=True)
        try:
            losses = _gradients(trainer, images, targets, img_paths)
            break
        except torch.cuda.OutOfMemoryError as error:
            _halve(trainer, len(images), error)
    trainer.scaler.unscale_(trainer.optimizer)
    if math.isfinite(trainer.options.clip_norm):
        parameters = [p for p in trainer.detector.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(parameters, trainer.options.clip_norm)
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    if trainer.cosine:
        trainer.schedule.step()
    return losses


def _gradients(
    trainer: Trainer, images: Sequence[Tensor], targets: Sequence[Target], img_paths: Sequence[str]
) -> Losses:
    """Gradients of the whole batch, group by group; the mean losses over its frames."""
    device, scaler = trainer.device, trainer.scaler
    group = min(trainer.group, len(images))
    sums: Losses = {}
    for first in range(0, len(images), group):
        some = slice(first, first + group)
        last = first + group >= len(images)
        share = len(images[some]) / len(images)
        with _together(trainer, last=last):
            with torch.autocast(device.type, enabled=scaler.is_enabled()):
                parts: dict[str, Tensor] = trainer.network(
                    [image.to(device, non_blocking=True) for image in images[some]],
                    [to_device(target, device) for target in targets[some]],
                )
                total = torch.stack(list(parts.values())).sum()
            losses = {"loss": float(total.detach()), **{name: float(value.detach()) for name, value in parts.items()}}
            _refuse_bad(trainer, losses, img_paths[some])
            scaler.scale(total * share if share < 1 else total).backward()  # type: ignore[no-untyped-call]  # torch is untyped
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value * share
    return sums


def _together(trainer: Trainer, *, last: bool) -> AbstractContextManager[None]:
    """Processes exchange gradients once a step, with the last group."""
    if trainer.world.size > 1 and not last:
        apart: AbstractContextManager[None] = trainer.network.no_sync()  # type: ignore[operator]  # DDP's alone
        return apart
    return nullcontext()


def _refuse_bad(trainer: Trainer, losses: Losses, img_paths: Sequence[str]) -> None:
    bad = not math.isfinite(losses["loss"])
    if not trainer.world.any(bad):
        return
    where = f"on the frames {', '.join(img_paths)}" if bad else "in another process"
    numbers = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    raise TrainingError(
        f"the loss is not finite ({numbers}) {where}. Look at their boxes; if they are right, "
        f"lower lr (now {trainer.options.lr:g}). The last good model is kept."
    )


def _halve(trainer: Trainer, count: int, error: BaseException) -> None:
    """Take half as many frames at once from now on, or say that nothing can be done."""
    group = min(trainer.group, count)
    size = trainer.detector.spec.image_size
    if group == 1:
        raise TrainingError(
            f"not even one frame of {size} px fits into the memory of {trainer.device} ({error}). Lower image_size, "
            "take a smaller network, or end other programs that use the GPU."
        ) from error
    if trainer.world.size > 1:  # the others wait for this process's gradients and cannot step back
        raise TrainingError(
            f"{group} frames of {size} px at once do not fit into the memory of {trainer.device}, and several "
            f"processes cannot try again in the middle of a step. Set batch_size to {group // 2} or lower image_size."
        ) from error
    trainer.group = group // 2
    trainer.optimizer.zero_grad(set_to_none=True)
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
    logger.warning(
        "out of memory on %s with %d frames of %d px at once: from now on %d go through the network at a time and "
        "their gradients are added up; batch_size stays %d",
        *(trainer.device, group, size, trainer.group, trainer.options.batch_size),
    )


def to_device(target: Target, device: torch.device) -> Target:
    """A target's tensors on a device."""
    return {name: value.to(device, non_blocking=True) for name, value in target.items()}
