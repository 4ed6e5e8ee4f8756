"""Images of a pull: where they lie, linked from a share, or fetched from CVAT; checked by their size."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from obdb_lib.cache import atomic_writer
from obdb_lib.images import UNREADABLE, upright_size, whole_size
from obdb_lib.records import Document, Problem

logger = logging.getLogger(__name__)

MAX_FILE_NAME_BYTES = 230
"""File systems take 255; the temporary name beside a file that is being written is longer than its own."""


@dataclass(frozen=True)
class ImageSource:
    """Where images of a pull go and come from.

    Attributes:
        root: folder below which an image lies under its ``img_path``; folders in it are made as needed.
        others: more folders in which images may lie under their ``img_path`` already; nothing is written there.
        share: folder of this machine by the beginning of a frame's name on CVAT: ``{"fielddata": "/mnt/field"}`` finds
            ``fielddata/1L/a.png`` as ``/mnt/field/1L/a.png``, ``{"": "/mnt"}`` finds all below ``/mnt``. The longest
            beginning that fits is taken. A link to the image is made below ``root``.
    """

    root: Path
    others: Sequence[Path] = ()
    share: Mapping[str, Path | str] = field(default_factory=dict)

    def missing(self, frames: Sequence[Document]) -> list[int]:
        """Rows of the frames whose image is not here in its size."""
        return [row for row, frame in enumerate(frames) if not self._is_here(frame)]

    def _is_here(self, frame: Document) -> bool:
        roots = (self.root, *self.others)
        return any(image_size(place_of(root, str(frame["name"]))) == _wanted(frame) for root in roots)

    def can_hold(self, frame: Document) -> bool:
        """Whether file systems take the image's name."""
        return all(len(part.encode()) <= MAX_FILE_NAME_BYTES for part in _parts(str(frame["name"])))

    def link(self, frame: Document, name: str) -> bool:
        """Link an image of the share into ``root``; False when the share has none of the right size."""
        file = self._shared(name)
        if file is None or image_size(file) != _wanted(frame):
            return False
        target = place_of(self.root, str(frame["name"]))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # of another size, or a link whose share is gone
        target.symlink_to(file.absolute())
        return True

    def _shared(self, name: str) -> Path | None:
        for prefix in sorted(self.share, key=len, reverse=True):
            start, parts = _parts(prefix), _parts(name)
            if parts[: len(start)] == start and len(parts) > len(start):
                return Path(self.share[prefix]).expanduser().joinpath(*parts[len(start) :])
        return None

    def keep(self, frame: Document, content: bytes) -> Problem | None:
        """Write an image that was fetched, whole or not at all; one cut off or of another size is told and not kept."""
        try:
            size = whole_size(content)
        except UNREADABLE:
            size = None
        if size != _wanted(frame):
            what = f"has size {size}, not {_wanted(frame)}" if size else "is no readable image"
            return Problem(f"image {frame['name']}", f"{what}; not saved")
        with atomic_writer(place_of(self.root, str(frame["name"]))) as file:
            file.write(content)
        return None


def place_of(root: Path, img_path: str) -> Path:
    """Place of an image; a name from a server never leads out of the folder."""
    return root.joinpath(*_parts(img_path))


def _parts(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "//", ".", ".."))


def image_size(file: Path) -> tuple[int, int] | None:
    """(width, height) of an image file, None when there is none that can be read."""
    try:
        return upright_size(file) if file.is_file() else None
    except UNREADABLE:
        return None


def _wanted(frame: Document) -> tuple[int, int]:
    return int(frame["width"]), int(frame["height"])
