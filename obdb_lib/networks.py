"""Networks at work: pictures in, vectors out, as fast as the device allows, with the same result on every run.

On a CPU each worker thread takes small batches of its own: what a layer makes then stays in that core's cache, and no
core waits for another (2.2 times a batch of 64 shared by two cores, MobileNetV2 at 96 px). Batch norms are folded into
the convolutions before them. On CUDA one thread feeds large batches in half precision.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray

if TYPE_CHECKING:
    from torch import nn

Images = NDArray[np.uint8]

CPU_PRECISION, CUDA_PRECISION = "float32", "cuda-float16"
PRECISIONS = (CPU_PRECISION, CUDA_PRECISION)
"""How vectors can have been computed. Their last digits differ, so they are never mixed in one result."""
CPU_BATCH_PIXELS = 130_000
"""Pixels of one batch on one core (5 crops of 160, 14 of 96): more falls out of the cache, less leaves it idle."""
LARGE_BATCH_PIXELS = 6_500_000
"""Pixels of one batch on CUDA, or for work that does not care (254 crops of 160)."""
MOST_PICTURES = 512
"""Pictures of one batch, however small they are."""


def usable_cores() -> int:
    """Cores this process may run on (a container's share, not the machine's)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Network:
    """Something ready to embed.

    Attributes:
        embed: pictures (N, S, S, 3) uint8 RGB to features (N, D) float32; may be called from several threads.
        precision: one of PRECISIONS.
        batch_pixels: pixels that one call should get.
        threads: calls that may run at once; 0 means one for each core.
        prepare: run once in each thread that calls ``embed``.
    """

    embed: Callable[[Images], FloatArray]
    precision: str = CPU_PRECISION
    batch_pixels: int = LARGE_BATCH_PIXELS
    threads: int = 0
    prepare: Callable[[], None] | None = None

    def batch_of(self, size: int) -> int:
        """Pictures of ``size`` x ``size`` pixels that one call should get."""
        return min(max(1, self.batch_pixels // (size * size)), MOST_PICTURES)


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors (N, D) at length 1; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def network_of(module: nn.Module) -> Network:
    """A module from normalised pictures (N, 3, S, S) to features (N, D), on the best device there is."""
    import torch

    from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    kind = torch.float16 if cuda else torch.float32
    fast = _folded(module.eval()).to(device, kind).to(memory_format=torch.channels_last)
    mean = torch.tensor(IMAGENET_MEAN, device=device).mul(255).view(1, 3, 1, 1)
    scale = torch.tensor(IMAGENET_STD, device=device).mul(255).reciprocal().view(1, 3, 1, 1)

    def embed(images: Images) -> FloatArray:
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
            found: torch.Tensor = fast(pixels.float().sub_(mean).mul_(scale).to(kind))
            return found.float().cpu().numpy()

    if cuda:
        return Network(embed, CUDA_PRECISION, threads=1)
    return Network(embed, CPU_PRECISION, CPU_BATCH_PIXELS, prepare=lambda: torch.set_num_threads(1))


def _folded(module: nn.Module) -> nn.Module:
    """The module with batch norms folded into convolutions where torch.fx can follow it, else as it is."""
    from torch.fx.experimental.optimization import fuse
    from torch.fx.proxy import TraceError

    try:
        return fuse(module)
    except (TraceError, TypeError, RuntimeError, NotImplementedError, AttributeError):  # its flow depends on data
        return module


@contextmanager
def kept_threads() -> Iterator[None]:
    """After the block torch computes with as many threads as before it, whatever workers set."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)
