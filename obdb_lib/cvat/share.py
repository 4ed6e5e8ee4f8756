"""Folders that the CVAT server sees as its mounted share: images there need no upload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from obdb_lib.cvat.push_plan import PlannedFrame
from obdb_lib.errors import CvatError

MAX_SERVER_FILE = 1024
"""Characters of a path in the share: CVAT's limit."""


@dataclass(frozen=True)
class Share:
    """How local folders are called in the share of the CVAT server.

    Attributes:
        folders: local folder -> its path in the share, "" for the share's own root; ``{Path("/weed_data"): ""}`` where
            the server has the same disk mounted as its share.
        least_frames: tasks with fewer frames are uploaded all the same.

    Raises:
        CvatError: a path in the share that leads out of it.
    """

    folders: Mapping[Path, str]
    least_frames: int = 0

    def __post_init__(self) -> None:
        for folder, name in self.folders.items():
            if ".." in PurePosixPath(name).parts:
                raise CvatError(f"the share's path {name!r} for {folder} leads out of the share; write it without ..")

    def server_file(self, file: Path) -> str | None:
        """Path of a local file in the share; None when it is in none of the folders. The innermost folder counts."""
        place = file.absolute()
        roots = {folder.absolute(): name for folder, name in self.folders.items()}
        inside = [root for root in roots if place.is_relative_to(root) and ".." not in place.parts]
        if not inside:
            return None
        root = max(inside, key=lambda one: len(one.parts))
        name = (PurePosixPath(roots[root]) / place.relative_to(root).as_posix()).as_posix().lstrip("/")
        return name if len(name) <= MAX_SERVER_FILE else None

    def server_files(self, frames: Iterable[PlannedFrame]) -> dict[str, str]:
        """Path in the share by ``img_path``; nothing when there are too few frames or one of them is not in it."""
        found = {frame.img_path: self.server_file(frame.file) for frame in frames}
        names = {img_path: name for img_path, name in found.items() if name is not None}
        return names if len(names) == len(found) >= self.least_frames else {}
