"""Frames whose decoded pixels are the same, whatever the file around them: a re-saved identical picture counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache

from obdb_lib.errors import FrameError
from obdb_lib.frame_features import FeatureTable
from obdb_lib.frame_match import Match
from obdb_lib.frames import FrameStore

ALIKE_CORRELATION = 0.98
"""Near pairs below this, or moved at all, are not decoded again to look for equality: they cannot be equal."""
ALIKE_DEGREES, ALIKE_SHARE = 0.5, 0.01

Digest = Callable[[str], str | None]


def pixel_digests(frames: FrameStore) -> Digest:
    """A function from img_path to the hash of size and RGB pixels of the upright frame (None: it cannot be read)."""

    @cache
    def digest(img_path: str) -> str | None:
        try:
            pixels = frames.load(img_path)
        except FrameError:
            return None
        return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()

    return digest


def exact_classes(table: FeatureTable, digest: Digest) -> list[list[int]]:
    """Numbers of the readable frames in classes of equal pixels, each class and all of them in order.

    Only frames whose small picture, size and features agree are decoded whole.
    """
    alike: dict[bytes, list[int]] = {}
    for number in table.readable().tolist():
        row = table.row(number)
        content = b"".join(row[name].tobytes() for name in ("size", "small", "count", "picture", "points"))
        alike.setdefault(hashlib.blake2b(content, digest_size=16).digest(), []).append(number)
    classes: list[list[int]] = []
    for numbers in alike.values():
        classes.extend(_by_digest(table, numbers, digest) if len(numbers) > 1 else [numbers])
    return sorted(classes)


def _by_digest(table: FeatureTable, numbers: Iterable[int], digest: Digest) -> list[list[int]]:
    classes: dict[object, list[int]] = {}
    for number in numbers:
        found = digest(table.names[number])
        classes.setdefault(number if found is None else found, []).append(number)
    return list(classes.values())


def equal_pixels(table: FeatureTable, pair: tuple[int, int], found: Match, digest: Digest) -> bool:
    """Whether a proven pair is equal after all (a PNG made of a JPEG, say, is read at another scale than that)."""
    first, second = (table.row(number) for number in pair)
    unmoved = abs(found.turn) < ALIKE_DEGREES and max(abs(found.zoom - 1), *map(abs, found.shift)) < ALIKE_SHARE
    same_size = bool((first["size"] == second["size"]).all())
    if found.mirrored or not unmoved or not same_size or found.correlation < ALIKE_CORRELATION:
        return False
    one, other = (digest(table.names[number]) for number in pair)
    return one is not None and one == other
