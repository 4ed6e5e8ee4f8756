"""What training changes in its pictures (torchvision.transforms.v2): flips, light, zoom, crop; boxes move along."""

from __future__ import annotations

from dataclasses import dataclass

from torchvision.transforms import v2

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


def transform_of(wanted: Augmentation) -> v2.Transform:
    """The transform for ``(image, {"boxes", "labels"})``: uint8 (3, H, W) in, the same out, boxes kept right."""
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
        move = v2.RandomAffine(degrees=0, translate=(wanted.shift, wanted.shift), scale=wanted.scale, fill=LOST)
        steps.append(v2.RandomApply([move], p=wanted.zoom))
    if wanted.colour or wanted.hue:
        colour = (wanted.colour, wanted.colour, wanted.colour, wanted.hue)
        steps.append(v2.ColorJitter(*colour))
    steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=MIN_SIDE_PX)]
    return v2.Compose(steps)
