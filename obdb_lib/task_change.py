"""What putting a task into the store changed, and how two versions of one task are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from obdb_lib.records import Document

ADDED, CHANGED, UNCHANGED, REMOVED = "added", "changed", "unchanged", "removed"


@dataclass(frozen=True)
class TaskChange:
    """What happened to one task of the store.

    Attributes:
        name: the task's name.
        kind: ADDED, CHANGED, UNCHANGED (dates may differ all the same) or REMOVED.
        frames, boxes: how many the task has now; 0 after it was removed.
        frames_added, frames_changed, frames_removed: ``img_path`` of frames that came, have another size or tags, or
            went.
        boxes_added, boxes_changed, boxes_removed: ids of annotations (their ``_id`` as text, the ``annotation_id`` of a
            snapshot) that came, were moved or otherwise edited, or went.
        labels_changed: whether the task's labels are others than before.
    """

    name: str
    kind: str
    frames: int
    boxes: int
    frames_added: tuple[str, ...] = ()
    frames_changed: tuple[str, ...] = ()
    frames_removed: tuple[str, ...] = ()
    boxes_added: tuple[str, ...] = ()
    boxes_changed: tuple[str, ...] = ()
    boxes_removed: tuple[str, ...] = ()
    labels_changed: bool = False

    def __str__(self) -> str:
        parts = [
            f"{len(ids)} {what} {word}"
            for what, word, ids in (
                ("frames", "added", self.frames_added),
                ("frames", "changed", self.frames_changed),
                ("frames", "removed", self.frames_removed),
                ("boxes", "added", self.boxes_added),
                ("boxes", "changed", self.boxes_changed),
                ("boxes", "removed", self.boxes_removed),
            )
            if ids
        ]
        if self.labels_changed and self.kind == CHANGED:
            parts.append("labels changed")
        return f"{self.name}: {self.kind}" + (f" ({', '.join(parts)})" if parts else "")


def counts_of(changes: Sequence[TaskChange]) -> dict[str, int]:
    """Numbers of ``tasks``, ``frames`` and ``annotations`` that are in place after some changes."""
    frames, boxes = sum(change.frames for change in changes), sum(change.boxes for change in changes)
    return {"tasks": len(changes), "frames": frames, "annotations": boxes}


@dataclass(frozen=True)
class FrameChange:
    """Names of the frames that came, changed or went; ``other`` when their order or anything else differs."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    other: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.other)


def compare_frames(old: Document | None, new: Document) -> FrameChange:
    """What a new document of ``meta`` changes about the old one (None: there was none)."""
    before, after = _by_name(old), _by_name(new)
    return FrameChange(
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name, frame in after.items() if name in before and before[name] != frame),
        removed=tuple(name for name in before if name not in after),
        other=old is None or _plain(old) != _plain(new),
    )


def _by_name(meta: Document | None) -> Mapping[str, Document]:
    frames: Sequence[Document] = (meta or {}).get("frames", [])
    return {str(frame["name"]): frame for frame in frames}


def _plain(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != "_id"}
