"""Frames on disk: where an image lies and how it is read."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from obdb_lib.errors import FrameError
from obdb_lib.images import ORIENTATION, UNREADABLE, open_image

LONGEST_PATH = 4096
"""Characters of a frame's name; Linux has no longer paths (PATH_MAX)."""
_OF_BYTES = re.compile(r" <_io\.BytesIO object at \w+>")
"""Pillow's name for the bytes it was given: an address that says nothing and differs at every run."""


class FrameStore:
    """Finds and decodes frames under one or more image roots.

    A frame is looked for as ``root/img_path``, then with leading folders of ``img_path`` taken off one by one, so that
    ``/weed_data/fielddata/x.png`` is found wherever ``fielddata`` or ``x.png`` lies under a root. The path with most
    folders in common wins.
    """

    def __init__(self, roots: Sequence[Path | str]) -> None:
        self.roots = [Path(root).expanduser() for root in roots]
        self._found: dict[str, Path] = {}

    def path(self, img_path: str) -> Path:
        """File of a frame.

        Raises:
            FrameError: it is under none of the roots.
        """
        if img_path in self._found:
            return self._found[img_path]
        if len(img_path) > LONGEST_PATH:
            raise FrameError(f"image {img_path[:60]!r}... was not found: its name has {len(img_path):,} characters")
        parts = PurePosixPath(img_path.replace("\\", "/")).parts
        # Never out of the roots: "//" is a root of its own in POSIX, and joining it would begin anew there.
        parts = tuple(part for part in parts if part not in ("/", "//", "..", "."))
        for start in range(len(parts)):
            for root in self.roots:
                candidate = root.joinpath(*parts[start:])
                if _is_file(candidate):
                    self._found[img_path] = candidate
                    return candidate
        looked = ", ".join(str(root) for root in self.roots) or "no image root at all"
        raise FrameError(
            f"image {img_path!r} was not found under {looked}. Add the folder that holds it to IMAGE_ROOTS (or "
            "dataset_dir in the settings)."
        )

    def load(self, img_path: str) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3) uint8, RGB, turned upright as its EXIF tag says.

        Raises:
            FrameError: missing, or not a readable image.
        """
        path = self.path(img_path)
        try:
            return decode(path.read_bytes())
        except UNREADABLE as error:
            why = _OF_BYTES.sub("", str(error))
            raise FrameError(f"image {path} cannot be read ({why}); replace the file or leave it out") from error

    def missing(self, img_paths: Iterable[str]) -> list[str]:
        """Those of ``img_paths`` that are under none of the roots."""
        absent = []
        for img_path in img_paths:
            try:
                self.path(img_path)
            except FrameError:
                absent.append(img_path)
        return absent


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL
        return False


def frames_below(folder: Path | str) -> list[str]:
    """Names of all pictures below a folder, sorted: ``<name of the folder>/...``, found by a FrameStore that has the
    folder's parent among its roots. Hidden files and folders are left out.

    Raises:
        FrameError: there is no such folder, or no picture in it.
    """
    folder = Path(folder).expanduser().absolute()
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = [path.relative_to(folder.parent) for path in folder.rglob("*") if path.suffix.lower() in suffixes]
    names = sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts[1:]))
    if not names:
        raise FrameError(
            f"{folder} {'holds no picture' if folder.is_dir() else 'is no folder'}; name the folder that holds them"
        )
    return names


_PNG_ORIENTED = (b"eXIf", b"Raw profile type", b"xmp", b"XML:com.adobe.xmp")
"""Marks of chunks of a PNG that may say which way is up; such chunks can stand behind the pixels."""
_PNG_PIXELS = b"IDAT"


def decode(data: bytes) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) uint8 RGB of an image file, turned upright.

    Plain JPEG and PNG go through libjpeg-turbo (simplejpeg) and libspng (imagecodecs): the same pixels as Pillow's in
    half its time, without holding other threads up. All else, and whatever those refuse, is Pillow's.

    Raises:
        one of images.UNREADABLE: not an image, or cut off.
    """
    with open_image(io.BytesIO(data)) as image:
        fast = _decode_plain(image, data)
        if fast is not None:
            return fast
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright.convert("RGB"), dtype=np.uint8)


def _decode_plain(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """The pixels, or None for what the fast decoders do not read as Pillow does."""
    if image.mode != "RGB" or getattr(image, "is_animated", False):
        return None
    if image.format == "JPEG" and image.getexif().get(ORIENTATION, 1) == 1:
        import simplejpeg

        try:
            pixels = simplejpeg.decode_jpeg(data)
        except ValueError:  # cut off or damaged: Pillow says what is wrong
            return None
    elif image.format == "PNG" and not _png_may_be_turned(data):
        from imagecodecs import spng_decode

        try:
            pixels = spng_decode(data)
        except RuntimeError:
            return None
    else:
        return None
    height_width = (image.height, image.width, 3)
    return pixels if pixels.shape == height_width and pixels.dtype == np.uint8 else None


def _png_may_be_turned(data: bytes) -> bool:
    """Whether a chunk beside the pixels has a mark of orientation (PNG specification, 5.3: length, type, data, CRC)."""
    place = 8
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        body = kind if kind == _PNG_PIXELS else data[place + 4 : place + 8 + length]
        if any(mark in body for mark in _PNG_ORIENTED):
            return True
        place += length + 12
    return False
