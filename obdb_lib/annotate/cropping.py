"""Upstream's crop of 4K frames to full HD: the lower half, the middle half of the width."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from obdb_lib.cache import atomic_writer
from obdb_lib.errors import FrameError
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress, tracked
from obdb_lib.records import Problem

TOP, SIDE = 0.5, 0.25
"""Shares that fall away: of the height at the top, of the width at each side. 3840 x 2160 becomes 1920 x 1080."""
DEFAULT_EXT = "png"
JPEG_QUALITY = 95


@dataclass
class Cropped:
    """What was done: files written, files that were there already, and pictures that could not be read."""

    written: int = 0
    there: int = 0
    problems: list[Problem] = field(default_factory=list)

    def summary(self) -> str:
        lines = [f"{self.written} images cropped, {self.there} were there already"]
        return "\n".join([*lines, *(f"- {problem}" for problem in self.problems)])


def crop_images(src: Path, dst: Path, *, ext: str = DEFAULT_EXT, progress: Progress | None = None) -> Cropped:
    """Crop every image below ``src`` whose name ends in ``ext`` to the same place below ``dst``.

    A file that is there stays as it is, so an interrupted call goes on. Pictures are turned upright first.

    Raises:
        FrameError: ``src`` is no folder or holds no such image, or ``dst`` is ``src`` itself.
        CacheError: a crop cannot be written.
    """
    suffix = f".{ext.lower().lstrip('.')}"
    kinds = Image.registered_extensions()
    if suffix not in kinds:
        raise FrameError(f"--ext {ext}: no kind of picture ends so; png, jpg, tiff and so on do")
    if not src.is_dir():
        raise FrameError(f"--src {src} is no folder; name the folder that holds the images")
    if dst.resolve() == src.resolve():
        raise FrameError(f"--dst {dst} is --src itself: every image is there already. Name another folder")
    inside = dst.resolve()
    files = sorted(
        path
        for path in src.rglob("*")
        if path.is_file() and path.suffix.lower() == suffix and not path.resolve().is_relative_to(inside)
    )
    if not files:
        raise FrameError(f"{src} holds no image that ends in {suffix}; name its ending with --ext")
    frames, done = FrameStore([src]), Cropped()
    for path in tracked(files, progress, "crop images"):
        name = path.relative_to(src)
        target = dst / name
        if target.exists():
            done.there += 1
            continue
        try:
            pixels = frames.load(name.as_posix())
        except FrameError as error:
            done.problems.append(Problem(str(path), str(error)))
            continue
        height, width = pixels.shape[:2]
        left, top = int(SIDE * width), int(TOP * height)
        crop = Image.fromarray(pixels[top:, left : width - left])
        with atomic_writer(target) as file:
            crop.save(file, format=kinds[suffix], quality=JPEG_QUALITY)
        done.written += 1
    return done
