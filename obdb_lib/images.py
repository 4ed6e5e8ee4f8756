"""Size of an image as frames are loaded: turned upright by its EXIF tag, without decoding it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

UNREADABLE = (UnidentifiedImageError, OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, are cut off, or are too large to be true."""
ORIENTATION = 0x0112
"""EXIF tag that says which way is up; 1 (or absent) is upright."""
_ON_ITS_SIDE = (5, 6, 7, 8)


FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
"""What is opened as an image, whatever a file is called; Pillow knows others that start programs (EPS)."""


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """The image, not decoded yet.

    Raises:
        one of UNREADABLE: none of FORMATS, damaged, or declared so large that decoding it would fill the memory.
    """
    try:
        return Image.open(file, formats=FORMATS)
    except (EOFError, struct.error, IndexError, KeyError, TypeError, zlib.error) as error:
        raise OSError(f"the image is damaged ({error})") from error


def upright_size(file: Path | IO[bytes]) -> tuple[int, int]:
    """(width, height) in pixels.

    Raises:
        one of UNREADABLE: not an image that can be read.
    """
    with open_image(file) as image:
        width, height = image.size
        try:
            turned = image.getexif().get(ORIENTATION, 1) in _ON_ITS_SIDE
        except (EOFError, struct.error, IndexError, KeyError, TypeError, zlib.error) as error:
            raise OSError(f"the image is damaged ({error})") from error
    return (height, width) if turned else (width, height)


JPEG_END = b"\xff\xd9"


def whole_size(content: bytes) -> tuple[int, int]:
    """As ``upright_size``, for an image that must be there to its last byte; it is decoded only where that is needed.

    Raises:
        one of UNREADABLE: not an image, or cut off.
    """
    size = upright_size(io.BytesIO(content))
    with open_image(io.BytesIO(content)) as image:
        try:
            if image.format == "PNG":
                image.verify()  # goes through all chunks and their check sums
            elif image.format != "JPEG" or not content.rstrip(b"\0").endswith(JPEG_END):
                image.load()
        except (struct.error, EOFError) as error:
            raise OSError(f"the image is cut off ({error})") from error
    return size
