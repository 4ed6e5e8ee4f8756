"""Size of an image as frames are loaded: turned upright by its EXIF tag, without decoding it."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

UNREADABLE = (UnidentifiedImageError, OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, are cut off, or are too large to be true."""
ORIENTATION = 0x0112
"""EXIF tag that says which way is up; 1 (or absent) is upright."""
_ON_ITS_SIDE = (5, 6, 7, 8)


def upright_size(file: Path | IO[bytes]) -> tuple[int, int]:
    """(width, height) in pixels.

    Raises:
        one of UNREADABLE: not an image that can be read.
    """
    with Image.open(file) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION, 1) in _ON_ITS_SIDE
    return (height, width) if turned else (width, height)
