"""Progress of long work: the library reports, the caller decides how it looks.

Long functions take ``progress: Progress | None = None``. Notebooks pass ``widgets.bars()``, command lines
``LogProgress()``, tests a recorder; None is silent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, **info: object) -> None:
        """Say that ``steps`` more are done; ``info`` is shown beside (losses, s/step)."""


class Progress(Protocol):
    """Something that can show tasks. ``total`` is a number of steps, or None when unknown."""

    def start(self, title: str, total: int | None) -> Task: ...

    def finish(self, task: Task) -> None: ...


class _Silent:
    def advance(self, steps: int = 1, **info: object) -> None:
        return


class _LogTask:
    """Writes a log line at most every ``every_s`` seconds, with the time left."""

    def __init__(self, title: str, total: int | None, every_s: float) -> None:
        self.title, self.total, self.every_s = title, total, every_s
        self.done = 0
        self.started = self.last = time.monotonic()
        self.info: dict[str, object] = {}

    def advance(self, steps: int = 1, **info: object) -> None:
        self.done += steps
        self.info.update(info)
        now = time.monotonic()
        if now - self.last >= self.every_s:
            self.last = now
            logger.info("%s", self.line(now))

    def line(self, now: float) -> str:
        spent = now - self.started
        details = " ".join(f"{key}={value}" for key, value in self.info.items())
        if self.total:
            left = spent / max(self.done, 1) * max(self.total - self.done, 0)
            return (
                f"{self.title}: {self.done}/{self.total}, {duration(spent)}, {duration(left)} left {details}".rstrip()
            )
        return f"{self.title}: {self.done}, {duration(spent)} {details}".rstrip()


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class LogProgress:
    """Progress as log lines, for command lines and batch runs."""

    def __init__(self, every_s: float = 5.0) -> None:
        self.every_s = every_s

    def start(self, title: str, total: int | None) -> Task:
        return _LogTask(title, total, self.every_s)

    def finish(self, task: Task) -> None:
        if isinstance(task, _LogTask):
            logger.info("%s", task.line(time.monotonic()))


@contextmanager
def track(progress: Progress | None, title: str, total: int | None = None) -> Iterator[Task]:
    """``with track(progress, "embed crops", n) as task: ... task.advance()``; silent when ``progress`` is None."""
    if progress is None:
        yield _Silent()
        return
    task = progress.start(title, total)
    try:
        yield task
    finally:
        progress.finish(task)


def tracked(items: Iterable[T], progress: Progress | None, title: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items`` and report each one; ``total`` defaults to ``len(items)`` where it has one."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    with track(progress, title, total) as task:
        for item in items:
            yield item
            task.advance()


class Forwarded:
    """Progress for work that is part of a task already shown: its steps count there."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def start(self, title: str, total: int | None) -> Task:
        return self._task

    def finish(self, task: Task) -> None:
        return


class Titled:
    """Progress whose titles say which part of longer work they belong to: ``fold 2 of 3: train mobilenet_v2``."""

    def __init__(self, progress: Progress, part: str) -> None:
        self._progress, self._part = progress, part

    def start(self, title: str, total: int | None) -> Task:
        return self._progress.start(f"{self._part}: {title}", total)

    def finish(self, task: Task) -> None:
        self._progress.finish(task)
