"""Copies of photographs as augmentation and cameras make them, one function a kind of change."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def ground(seed: int, size: int = 256) -> NDArray[np.uint8]:
    """Soil-like texture: noise at several scales, (size, size, 3)."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(size, size, 3)), (s, s, 0)) * s for s in (1.5, 4, 10)]
    pixels = 110 + 40 * sum(layers)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def crop(image: Image.Image, rng: np.random.Generator, share: float) -> Image.Image:
    """A window of ``share`` of each side, anywhere, enlarged to the old size."""
    width, height = round(image.width * share), round(image.height * share)
    left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((left, top, left + width, top + height)).resize(image.size, Image.Resampling.BICUBIC)


def shift(image: Image.Image, rng: np.random.Generator, share: float = 0.3) -> Image.Image:
    """Moved by ``share`` of the sides in any direction; the edge is repeated where nothing is known."""
    rows = np.arange(image.height) + round(rng.choice([-1, 1]) * share * image.height)
    columns = np.arange(image.width) + round(rng.choice([-1, 1]) * share * image.width)
    pixels = np.asarray(image)[rows.clip(0, image.height - 1)][:, columns.clip(0, image.width - 1)]
    return Image.fromarray(pixels)


def light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brighter with less contrast, or darker with more."""
    gain, offset = (0.7, 60.0) if rng.random() < 0.5 else (1.3, -60.0)
    return Image.fromarray(np.clip(np.asarray(image) * gain + offset, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 25) -> Image.Image:
    """Through the coder at a low quality."""
    memory = io.BytesIO()
    image.save(memory, format="JPEG", quality=quality)
    return Image.open(io.BytesIO(memory.getvalue())).convert("RGB")


def mixed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirrored, shifted, re-lit, cropped and turned at once."""
    image = shift(light(ImageOps.mirror(image), rng), rng, 0.1)
    return crop(image.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC), rng, 0.8)


CHANGES: dict[str, Change] = {
    "shift": shift,
    "mirror": lambda image, _: ImageOps.mirror(image),
    "half turn": lambda image, _: image.transpose(Image.Transpose.ROTATE_180),
    "quarter turn": lambda image, _: image.transpose(Image.Transpose.ROTATE_90),
    "light": light,
    "crop to 0.8": lambda image, rng: crop(image, rng, 0.8),
    "crop to 0.6": lambda image, rng: crop(image, rng, 0.6),
    "jpeg 25": lambda image, _: jpeg(image),
    "turn": lambda image, rng: image.rotate(rng.uniform(3, 12), Image.Resampling.BICUBIC),
    "mixed": mixed,
}
