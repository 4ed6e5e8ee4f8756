"""Cameras that film a strip: tilt, colour, blur, noise and the boxes of what each frame shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from obdb_lib.sample.leaves import Colour, FloatArray
from obdb_lib.sample.strip import Strip

Rng = np.random.Generator
Matrix = NDArray[np.float64]

MIN_VISIBLE = 0.25
"""A plant of which a smaller share is in the frame and uncovered gets no box."""
MIN_SIDE = 14.0
"""A box with a shorter side (pixels of a 960 px wide frame) is left away: nobody could name the plant."""
OCCLUDED_ABOVE = 0.06
"""A plant counts as occluded when others cover more than this share of it, in or out of the frame."""
SIDEWAYS, ROLL, SPEED = 9.0, 0.004, 0.012
"""Deviation of the camera's sway (pixels of a 960 px wide frame), roll (radians) and place (share of the height)."""


@dataclass(frozen=True)
class Camera:
    """One camera of the tractor.

    Attributes:
        name: upstream's name, such as ``1L``.
        tilt: how much nearer the lower edge is than the middle (0 looks straight down).
        balance: gain of red, green, blue; ``saturation`` and ``contrast``, 1 is neutral.
        vignette: loss of light in the corners; ``blur`` of the lens in pixels; ``noise`` deviation in 0..255.
        motion: length of the motion blur along the travel, in pixels.
        step: travel between two frames as a share of the frame's height.
    """

    name: str
    tilt: float
    balance: Colour
    saturation: float
    contrast: float
    vignette: float
    blur: float
    noise: float
    motion: float
    step: float


@dataclass(frozen=True)
class SeenPlant:
    """A plant as one frame shows it: its number, class, tight box x1, y1, x2, y2 in pixels, whether others hide it."""

    number: int
    object_class: str
    box: tuple[float, float, float, float]
    occluded: bool


@dataclass(frozen=True)
class Shot:
    """One frame: ``image`` (H, W, 3) uint8 RGB and the plants that deserve a box."""

    image: NDArray[np.uint8]
    plants: list[SeenPlant]


def strip_size(camera: Camera, frames: int, width: int, height: int) -> tuple[int, int]:
    """Height and width of the strip that ``frames`` frames of ``width`` x ``height`` pixels need."""
    reach = 1 / (1 - camera.tilt)
    sway = 4 * SIDEWAYS * width / 960 + ROLL * 4 * height
    wide = width * reach + 2 * sway + 4
    long = height * reach + (frames - 1) * camera.step * height + 2 * (ROLL * 4 * width + 2 * SPEED * height) + 4
    return int(np.ceil(long)), int(np.ceil(wide))


def film(rng: Rng, strip: Strip, camera: Camera, frames: int, width: int, height: int) -> Iterator[Shot]:
    """Film ``strip`` from its lower end upwards, ``frames`` overlapping frames of ``width`` x ``height`` pixels."""
    scale = width / 960
    picture = _develop(strip.image, camera, scale)
    ids = Image.fromarray(strip.ids)
    numbers = np.arange(frames)
    long, wide = strip.ids.shape
    first = long - height / 2 - ROLL * 4 * width - 2 * SPEED * height - 2
    offsets = first - numbers * camera.step * height + np.clip(rng.normal(0, 1, frames), -2, 2) * SPEED * height
    sways = np.clip(ndimage.gaussian_filter1d(rng.normal(0, 2.2, frames), 1.5, mode="nearest"), -3, 3)
    rolls = np.clip(rng.normal(0, 1, frames), -2, 2) * ROLL
    gains = 1 + 0.02 * rng.normal(0, 1, frames)
    falloff = _vignette(camera, width, height)
    grain = rng.normal(0, camera.noise, (height + 64, width + 64, 3)).astype(np.float32)
    for offset, sway, roll, gain in zip(offsets, sways, rolls, gains, strict=True):
        middle = (wide / 2 + sway * SIDEWAYS * scale, offset)
        matrix = _frame_to_strip(middle, roll, camera.tilt, width, height)
        seen = _transformed(picture, matrix, width, height, Image.Resampling.BILINEAR).astype(np.float32)
        seen *= falloff * np.float32(gain)
        top, left = rng.integers(0, 64, 2)
        seen += grain[top : top + height, left : left + width]
        np.clip(seen, 0, 255, out=seen)
        shown = _transformed(ids, matrix, width, height, Image.Resampling.NEAREST).astype(np.int32)
        yield Shot(seen.astype(np.uint8), _boxes(shown, strip, matrix, scale))


def _develop(image: FloatArray, camera: Camera, scale: float) -> Image.Image:
    """The strip as this camera's sensor and lens render it, 8 bit."""
    grey = np.full((3, 3), (1 - camera.saturation) / 3)
    mixing = (np.diag(np.full(3, camera.saturation)) + grey) * np.asarray(camera.balance)[None, :]
    mixing = (mixing * camera.contrast * 255).astype(np.float32)
    lift = np.float32(0.4 * (1 - camera.contrast) * 255)
    seen = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), 256):
        # In bands, so that the intermediate arrays stay small.
        band = image[top : top + 256] @ mixing.T
        band += lift
        seen[top : top + 256] = np.clip(band, 0, 255, out=band)
    picture = Image.fromarray(seen)
    if camera.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(camera.blur * max(scale, 0.5)))
    if camera.motion:
        picture = picture.filter(ImageFilter.BoxBlur((0, camera.motion * scale / 2)))
    return picture


def _vignette(camera: Camera, width: int, height: int) -> FloatArray:
    """(H, W, 1) float32 gain that falls towards the corners."""
    ys, xs = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    gain: FloatArray = (1 - camera.vignette * (xs**2 + ys**2) ** 1.2 / 2).astype(np.float32)[..., None]
    return gain


def _frame_to_strip(middle: tuple[float, float], roll: float, tilt: float, width: int, height: int) -> Matrix:
    """(3, 3) homography from frame to strip pixels: the frame's middle maps to ``middle``."""
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    tilted = np.array([[1, 0, 0], [0, 1, 0], [0, 2 * tilt / height, 1]])
    cos, sin = np.cos(roll), np.sin(roll)
    placed = np.array([[cos, -sin, middle[0]], [sin, cos, middle[1]], [0, 0, 1]])
    matrix = placed @ tilted @ centre
    normed: Matrix = matrix / matrix[2, 2]
    return normed


def _transformed(
    image: Image.Image, matrix: Matrix, width: int, height: int, resampling: Image.Resampling
) -> NDArray[np.generic]:
    """The part of ``image`` that the frame sees."""
    coefficients = tuple(matrix.ravel()[:8])
    return np.asarray(image.transform((width, height), Image.Transform.PERSPECTIVE, coefficients, resampling))


def _boxes(shown: NDArray[np.int32], strip: Strip, matrix: Matrix, scale: float) -> list[SeenPlant]:
    """Tight boxes of the plants of which enough is seen; ``shown`` (H, W) holds plant numbers, 0 for soil."""
    visible = np.bincount(shown.ravel(), minlength=len(strip.plants) + 1)
    plants = []
    for number, slices in enumerate(ndimage.find_objects(shown), 1):
        if slices is None:
            continue
        plant = strip.plants[number - 1]
        top, bottom, left, right = slices[0].start, slices[0].stop, slices[1].start, slices[1].stop
        expected = plant.area / _strip_area(matrix, (left + right) / 2, (top + bottom) / 2)
        if visible[number] < MIN_VISIBLE * expected or min(bottom - top, right - left) < MIN_SIDE * scale:
            continue
        box = (float(left), float(top), float(right), float(bottom))
        plants.append(SeenPlant(number, plant.object_class, box, plant.covered > OCCLUDED_ABOVE))
    return plants


def _strip_area(matrix: Matrix, x: float, y: float) -> float:
    """Strip pixels that one frame pixel at (x, y) covers: the homography's Jacobian determinant."""
    depth = matrix[2] @ np.array([x, y, 1.0])
    return float(abs(np.linalg.det(matrix) / depth**3))
