"""What a pull did, for a person and for a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from obdb_lib.records import Problem
from obdb_lib.task_change import ADDED, CHANGED, REMOVED, UNCHANGED, TaskChange

COLUMNS = (
    *("task", "what", "frames", "boxes", "frames_added", "frames_changed", "frames_removed"),
    *("boxes_added", "boxes_changed", "boxes_removed"),
)
NOT_READ, GONE, WAITING = "not read again", "gone from CVAT", "no job counts yet"


@dataclass(frozen=True)
class GoneTask:
    """A task of the store that came from this server and is not there under its name any more.

    Attributes:
        why: for a person: deleted, renamed (to what), or hidden from this account.
        certain: whether the server said that it is not there; only then it may be removed from the store.
    """

    name: str
    why: str
    certain: bool


@dataclass
class PullSummary:
    """What a pull found and changed.

    Attributes:
        changes: what storing the tasks that were read changed, in the order of their names.
        not_read: tasks that are as they were at the last pull.
        waiting: tasks on CVAT none of whose jobs counts; the store keeps what it has of them.
        gone: tasks of the store that are no longer on CVAT; removed only where that was asked for.
        images_fetched, images_linked: images that came from CVAT, and from the share.
        problems: what was left out, mended, or could not be had.
    """

    changes: list[TaskChange] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    gone: list[GoneTask] = field(default_factory=list)
    images_fetched: int = 0
    images_linked: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Sorted names of the tasks that are on CVAT and count, read or not."""
        return sorted([*(change.name for change in self.changes if change.kind != REMOVED), *self.not_read])

    def table(self) -> pd.DataFrame:
        """One row a task, columns COLUMNS: numbers of frames and boxes by what happened to them."""
        counted = [(change.name, change.kind, *_numbers(change)) for change in self.changes]
        told = [(name, NOT_READ) for name in self.not_read] + [(name, WAITING) for name in self.waiting]
        removed = {change.name for change in self.changes if change.kind == REMOVED}
        told += [(task.name, f"{GONE}: {task.why}") for task in self.gone if task.name not in removed]
        empty = (None,) * (len(COLUMNS) - 2)
        table = pd.DataFrame([*counted, *((*row, *empty) for row in told)], columns=list(COLUMNS))
        return table.astype(dict.fromkeys(COLUMNS[2:], "Int64")).sort_values("task", ignore_index=True)

    def __str__(self) -> str:
        kinds = {kind: _count(self.changes, kind) for kind in (ADDED, CHANGED, UNCHANGED, REMOVED)}
        kinds[NOT_READ] = len(self.not_read)
        parts = ["tasks: " + (", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "none")]
        for word, ids in (
            ("added", [change.boxes_added for change in self.changes]),
            ("changed", [change.boxes_changed for change in self.changes]),
            ("removed", [change.boxes_removed for change in self.changes]),
        ):
            if any(ids):
                parts.append(f"{sum(map(len, ids))} boxes {word}")
        if self.images_fetched or self.images_linked:
            parts.append(f"images: {self.images_fetched} from CVAT, {self.images_linked} from the share")
        if self.waiting:
            parts.append(f"{len(self.waiting)} tasks without a job that counts")
        if self.gone:
            parts.append(f"{len(self.gone)} tasks gone from CVAT")
        return "; ".join(parts)


def _count(changes: Sequence[TaskChange], kind: str) -> int:
    return sum(change.kind == kind for change in changes)


def _numbers(change: TaskChange) -> tuple[int, ...]:
    lists = (change.frames_added, change.frames_changed, change.frames_removed)
    boxes = (change.boxes_added, change.boxes_changed, change.boxes_removed)
    return (change.frames, change.boxes, *map(len, lists), *map(len, boxes))
