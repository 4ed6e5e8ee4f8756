"""What a run stands on: versions of what computes, and the hardware."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil
import torch
import torchvision

from obdb_lib import __version__

CPU_FACTS = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Versions by name: python, torch, torchvision, the lab's own, and CUDA's where torch was built for it."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "obdb_lib": __version__,
    }
    return {**found, "cuda": str(torch.version.cuda)} if torch.version.cuda else found


def hardware(device: torch.device) -> dict[str, Any]:
    """The machine as a training sees it.

    Returns:
        device ("cpu", "cuda:0"); cpu (name), cores (that this process may use), threads (of torch), memory_gb (whole
        machine); on a GPU also gpu (name), gpus (count) and gpu_memory_gb.
    """
    found: dict[str, Any] = {
        "device": str(device),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": facts.name,
            "gpus": torch.cuda.device_count(),
            "gpu_memory_gb": round(facts.total_memory / 2**30, 1),
        }
    return found


def _cpu_name() -> str:
    """The model's name as Linux tells it; elsewhere what Python knows of the processor."""
    try:
        lines = CPU_FACTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
