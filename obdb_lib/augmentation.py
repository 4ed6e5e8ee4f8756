"""What training changes in its pictures (torchvision.transforms.v2): flips, light, zoom, crop; boxes move along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from obdb_lib.errors import TrainingError

MIN_SIDE_PX = 2.0
"""A box that a change leaves thinner than this (pixels at training size) is taken out of the picture's truth."""
LOST = 114
"""Grey level (0..255) of what lies outside the picture."""
CROP_SIDES = (0.5, 1.0)
"""A crop keeps this share of each side, drawn between the two."""


@dataclass(frozen=True)
class Augmentation:
    """How much training pictures are changed. Shares are chances a picture, 0..1; 0 switches a change off.

    Attributes:
        horizontal_flip, vertical_flip: mirror half of the pictures; vertical is right for pictures taken straight down
            and wrong for a slanted view with a horizon.
        colour: largest change of brightness, contrast and saturation, as a share of themselves.
        hue: largest turn of the colour circle, -0.5..0.5 as a share of it.
        zoom: chance of a change of scale and place.
        scale: (low, high) factors of that change: widen it for cameras at other heights.
        shift: it moves the picture by at most this share of its side.
        crop: chance of cutting a part out; boxes whose middle is lost are lost, the others are cut at the border.

    Raises:
        TrainingError: a value outside of its range; all of them are named.
    """

    horizontal_flip: bool = True
    vertical_flip: bool = True
    colour: float = 0.2
    hue: float = 0.0
    zoom: float = 0.5
    scale: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.1
    crop: float = 0.0

    def __post_init__(self) -> None:
        limits = {"colour": 1.0, "hue": 0.5, "zoom": 1.0, "shift": 1.0, "crop": 1.0}
        mistakes = [
            f"{name} must lie from 0 to {high:g}; got {getattr(self, name)}"
            for name, high in limits.items()
            if not 0 <= getattr(self, name) <= high
        ]
        if not 0 < self.scale[0] <= self.scale[1]:
            mistakes.append(f"scale must be (low, high) above 0 with low <= high; got {self.scale}")
        if mistakes:
            raise TrainingError("augmentation: " + "; ".join(mistakes))


class Zoom(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Another scale and place: what ``v2.RandomAffine`` does without turning, at a quarter of its time.

    Without a turn the change is a window of the picture brought to the picture's size. So it is cut, padded and resized
    by v2's functions on uint8, instead of sampled point by point; bilinear, where RandomAffine takes the nearest pixel.

    Args:
        scale: (low, high) factors, drawn evenly.
        shift: largest move of the picture, as a share of its side, either way.
        fill: grey level 0..255 of what lies outside the picture.
    """

    def __init__(self, scale: tuple[float, float], shift: float, fill: int) -> None:
        super().__init__()
        self.scale, self.shift, self.fill = scale, shift, fill

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The window in whole pixels of the picture: left, top, width, height; it may reach outside."""
        factor = float(torch.empty(1).uniform_(*self.scale))
        window: list[int] = []
        sides = v2.query_size(flat_inputs)  # height, width
        for side in sides[::-1]:
            move = float(torch.empty(1).uniform_(-self.shift, self.shift)) * side
            length = max(round(side / factor), 1)
            # Some of the picture always stays in the window, so that there is something to cut.
            start = round(side / 2 - (side / 2 + move) / factor)
            window += [min(max(start, 1 - length), side - 1), length]
        left, width, top, height = window
        return {"window": (left, top, width, height), "sides": list(sides)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut what lies in the picture, pad what does not, bring it back to the picture's size."""
        left, top, width, height = params["window"]
        rows, columns = params["sides"]
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, columns), min(top + height, rows)
        inside = self._call_kernel(functional.crop, inpt, y1, x1, y2 - y1, x2 - x1)
        around = [x1 - left, y1 - top, left + width - x2, top + height - y2]
        if any(around):
            inside = self._call_kernel(functional.pad, inside, around, fill=self.fill)
        return self._call_kernel(functional.resize, inside, params["sides"])


def as_floats(image: Tensor) -> Tensor:
    """Bytes in any order of memory as float32 0..1, one channel after the other, as changes of light like it."""
    return image.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


class Floats(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """``as_floats`` as a step between others; boxes and labels pass."""

    _transformed_types = (tv_tensors.Image,)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """A picture as floats."""
        return tv_tensors.wrap(as_floats(inpt.as_subclass(Tensor)), like=inpt)


def transform_of(wanted: Augmentation) -> v2.Transform:
    """The transform for ``(image, {"boxes", "labels"})``: uint8 (3, H, W) in, float32 0..1 out, boxes kept right.

    What moves pixels works on bytes; what changes light works on floats, where nothing is rounded and v2 is faster.
    """
    steps: list[v2.Transform] = []
    if wanted.horizontal_flip:
        steps.append(v2.RandomHorizontalFlip())
    if wanted.vertical_flip:
        steps.append(v2.RandomVerticalFlip())
    if wanted.crop:
        crop = v2.RandomIoUCrop(
            min_scale=CROP_SIDES[0], max_scale=CROP_SIDES[1], min_aspect_ratio=0.5, max_aspect_ratio=2.0
        )
        steps.append(v2.RandomApply([crop], p=wanted.crop))
    if wanted.zoom:
        steps.append(v2.RandomApply([Zoom(wanted.scale, wanted.shift, LOST)], p=wanted.zoom))
    steps.append(Floats())
    if wanted.colour or wanted.hue:
        colour = (wanted.colour, wanted.colour, wanted.colour, wanted.hue)
        steps.append(v2.ColorJitter(*colour))
    steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=MIN_SIDE_PX)]
    return v2.Compose(steps)
