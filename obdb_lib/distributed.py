"""Several training processes, as ``torchrun`` starts them; a single process is a world of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Who takes part. ``rank`` 0 judges and writes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """This process's own GPU when there are several processes."""
        return torch.device("cuda", self.local_rank) if self.size > 1 and device.type == "cuda" else device

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with gradients averaged over the processes."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)

    def any(self, flag: bool) -> bool:
        """True everywhere when one process says True."""
        if self.size == 1:
            return flag
        value = torch.tensor([float(flag)], device=self._device())
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return bool(value.item())

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Means over the processes."""
        if self.size == 1:
            return values
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=self._device())
        distributed.all_reduce(tensor)
        return dict(zip(values, (tensor / self.size).tolist(), strict=True))

    def share(self, value: T) -> T:
        """The first process's value, everywhere."""
        if self.size == 1:
            return value
        box: list[T] = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            distributed.barrier()

    def _device(self) -> torch.device:
        return torch.device("cuda", self.local_rank) if distributed.get_backend() == "nccl" else torch.device("cpu")


def processes() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """True in the process that judges and writes."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join() -> Iterator[World]:
    """The processes that torchrun's variables name; NCCL on GPUs, gloo on a CPU."""
    size = processes()
    if size <= 1:
        yield World()
        return
    mine = not distributed.is_initialized()
    if mine:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield World(distributed.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        if mine:
            distributed.destroy_process_group()
