"""Session, camera, video and frame number, read from upstream's names.

Task names read ``FieldData YYYYMMDDhhmmss CAM VIDEO`` (``FieldData 20200520145736 1L GH020068``; underscores instead of
spaces and any prefix such as ``gt_val_`` are understood). Frame paths read
``.../<session>/<camera>/<video>/<video>frameNNNN.png``. Other conventions: pass your own pattern with the named groups
``session``, ``camera``, ``video``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obdb_lib.errors import SettingsError

TASK_PATTERN = r"(?P<session>\d{14})[ _](?P<camera>[0-9A-Za-z]+)[ _](?P<video>[0-9A-Za-z]+)$"
PATH_PATTERN = r"(?:^|/)(?P<session>\d{14})/(?P<camera>[^/]+)/(?P<video>[^/]+)/[^/]+$"
FRAME_NUMBER = re.compile(r"(\d+)(?=\.[A-Za-z0-9]+$)")


@dataclass(frozen=True)
class Recording:
    """Where a frame comes from; empty strings where the names do not say."""

    session: str = ""
    camera: str = ""
    video: str = ""

    @property
    def key(self) -> str:
        """One name for the video across sessions and cameras, or "" when unknown."""
        return f"{self.session}/{self.camera}/{self.video}" if self.video else ""


def parse_recording(img_path: str, task_name: str = "", pattern: str | None = None) -> Recording:
    """Session, camera and video from the frame's path, else from the task's name, else empty.

    Args:
        pattern: a regular expression with groups session, camera, video, searched in ``img_path`` and ``task_name``.

    Raises:
        SettingsError: the pattern is no regular expression or lacks the group ``video``.
    """
    searches = [(PATH_PATTERN, img_path), (TASK_PATTERN, task_name)]
    if pattern:
        searches = [(pattern, img_path), (pattern, task_name)]
    for expression, text in searches:
        try:
            found = re.search(expression, text)
        except re.error as error:
            raise SettingsError(f"the naming pattern {expression!r} is no regular expression: {error}") from error
        if found:
            groups = found.groupdict()
            if "video" not in groups:
                raise SettingsError(f"the naming pattern {expression!r} needs a group (?P<video>...)")
            return Recording(groups.get("session") or "", groups.get("camera") or "", groups["video"] or "")
    return Recording()


def frame_number(img_path: str) -> int | None:
    """Number in front of the file's extension (``GH020068frame0017.png`` -> 17), or None."""
    found = FRAME_NUMBER.search(img_path)
    return int(found.group(1)) if found else None
