"""Batch size by memory (``batch_size: "auto"``): two small steps are measured before the training, not run into.

What a step needs grows evenly with its frames: once what the network needs anyway, and so much for each frame. Steps of
one and of two frames tell both. On CUDA the allocator's peak is read; on a CPU the bytes that the forward pass keeps
for the backward pass are counted, for a process's own peak never falls again and would say nothing.
"""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import psutil
import torch
from torch import Tensor

from obdb_lib.dataset import DetectionDataset, Sample
from obdb_lib.distributed import World
from obdb_lib.evaluation import choose_device
from obdb_lib.models import Detector
from obdb_lib.options import AUTO_BATCH, TrainingOptions
from obdb_lib.steps import to_device

logger = logging.getLogger(__name__)

MOST_FRAMES = 16
"""Larger batches are no faster and want another learning rate (torchvision's reference trains with 16)."""
LEAST_STEPS = 10
"""Steps an epoch that a batch must leave; larger batches would learn little from few frames."""
USED_SHARE = 0.8
"""Share of the free memory that a step may take; lower it when other programs grow during a training."""
CPU_PEAK = 1.5
"""What a step on a CPU takes at its peak, as a multiple of what it keeps for the backward pass."""
CGROUP = Path("/sys/fs/cgroup")


class Memory(Protocol):
    """A device's memory as a training sees it, in bytes."""

    def free(self) -> int:
        """What can still be taken."""

    def step(self, frames: int) -> int:
        """What a step with so many frames takes at its peak."""


def settle_batch_size(
    detector: Detector, train: DetectionDataset, options: TrainingOptions, world: World, earlier: Path | None = None
) -> tuple[TrainingOptions, str]:
    """Options with a number as ``batch_size``, and a sentence on how it was chosen ("" when it was given).

    Args:
        earlier: record of the run (``<variant>_run.json``) that may be resumed; a size chosen there stays.
    """
    if options.batch_size != AUTO_BATCH:
        return options, ""
    size, sentence = _earlier_size(earlier, detector, train), "the size that was chosen when the run began"
    if size is None:
        device = world.device(choose_device(options.device))
        memory = ProbedMemory(detector, train, device, amp=options.amp) if world.first else None
        most = min(MOST_FRAMES, max(len(train) // (world.size * LEAST_STEPS), 1))
        size, sentence = world.share(choose(memory, most) if memory else (1, ""))
    sentence = f"batch_size auto: {size}, {sentence}"
    logger.info("%s", sentence)
    return replace(options, batch_size=size), sentence


def choose(memory: Memory, most: int) -> tuple[int, str]:
    """The largest power of two up to ``most`` whose step fits into memory (1 at least), and why."""
    gigabytes = 2**30
    try:
        one, two = memory.step(1), memory.step(2)
    except torch.cuda.OutOfMemoryError:
        return 1, "two frames at once do not fit into the GPU's memory"
    each, room = max(two - one, 1), memory.free() * USED_SHARE
    fitting = max(int((room - (one - each)) // each), 1)
    size = 2 ** (min(fitting, most).bit_length() - 1)
    told = f"{each / gigabytes:.2f} GB a frame, {room / gigabytes:.1f} GB to use"
    reason = "more would leave too few steps an epoch" if most < MOST_FRAMES else "more is not wanted"
    return size, f"{told}; {'more would not fit' if fitting < most else reason}"


class ProbedMemory:
    """Memory of a device, measured with steps on a copy of the detector: the detector itself learns nothing."""

    def __init__(self, detector: Detector, train: DetectionDataset, device: torch.device, *, amp: bool) -> None:
        self.device, self.half = device, amp and device.type == "cuda"
        self.detector = copy.deepcopy(detector).to(device).train()
        fullest = sorted(range(len(train)), key=lambda index: -len(train.target(index)["boxes"]))
        self.samples = [train[index] for index in (fullest * 2)[:2]]

    def free(self) -> int:
        """Free memory of the GPU with what torch holds unused; on a CPU the free memory of machine and container."""
        if self.device.type == "cuda":
            held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return int(torch.cuda.mem_get_info(self.device)[0]) + held
        return min(int(psutil.virtual_memory().available), container_memory())

    def step(self, frames: int) -> int:
        """Bytes of a step, with the gradients, momentum and update of the weights."""
        weights = sum(one.nbytes for one in self.detector.parameters() if one.requires_grad)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)
            peak = self._cuda if self.device.type == "cuda" else self._cpu
            return peak(self.samples[:frames]) + 3 * weights

    def _loss(self, samples: list[Sample]) -> Tensor:
        images = [image.to(self.device) for image, _ in samples]
        targets = [to_device(target, self.device) for _, target in samples]
        with torch.autocast(self.device.type, enabled=self.half):
            return torch.stack(list(self.detector(images, targets).values())).sum()

    def _cuda(self, samples: list[Sample]) -> int:
        self.detector.zero_grad(set_to_none=True)
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self._loss(samples).backward()  # type: ignore[no-untyped-call]  # torch is untyped here
        peak = int(torch.cuda.max_memory_allocated(self.device)) - before
        self.detector.zero_grad(set_to_none=True)
        return peak

    def _cpu(self, samples: list[Sample]) -> int:
        kept: dict[int, int] = {}

        def keep(one: Tensor) -> Tensor:
            storage = one.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return one

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
            self._loss(samples)
        return int(sum(kept.values()) * CPU_PEAK)


def container_memory(folder: Path = CGROUP) -> int:
    """Bytes that the container's limit (cgroup v2) still leaves; the whole address space where there is none."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return max(int(limit) - int(used), 0)
    except (OSError, ValueError):  # no cgroup v2 here, or the limit reads "max"
        return 2**63


def _earlier_size(record: Path | None, detector: Detector, train: DetectionDataset) -> int | None:
    """Batch size of a run of the same kind whose size was chosen, too; None when there is none."""
    if record is None or not record.exists():
        return None
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        same = (told["train_frames"], told["spec"]["image_size"]) == (len(train), detector.spec.image_size)
        return int(told["options"]["batch_size"]) if same and told.get("batch_size_choice") else None
    except (OSError, ValueError, KeyError, TypeError):  # a record of an older version, or a damaged one
        return None
