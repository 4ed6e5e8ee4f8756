"""Progress bars for notebooks."""

from __future__ import annotations

import logging
import sys
import time

from tqdm.auto import tqdm

from obdb_lib.progress import LogProgress, Progress, Task


class _Bar:
    """One bar; ``info`` of the work is shown behind it."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total = title, total
        self.started = time.monotonic()
        self.done = 0
        self.bar = tqdm(total=total, desc=title, leave=False, dynamic_ncols=True)

    def advance(self, steps: int = 1, **info: object) -> None:
        self.done += steps
        if info:
            self.bar.set_postfix(info, refresh=False)
        self.bar.update(steps)

    def close(self) -> str:
        """Take the bar away; the line that stays."""
        self.bar.close()
        spent = time.monotonic() - self.started
        took = f"{spent:.1f} s" if spent < 60 else f"{spent / 60:.1f} min"
        if self.total is None or self.done >= self.total:
            return f"{self.title}: {self.done:,} in {took}"
        return f"{self.title}: stopped at {self.done:,} of {self.total:,} after {took}"


class _Bars:
    def start(self, title: str, total: int | None) -> Task:
        return _Bar(title, total)

    def finish(self, task: Task) -> None:
        # A finished bar would stay as a widget that is blank when the notebook is opened again; a line of text lasts.
        if isinstance(task, _Bar):
            sys.stdout.write(task.close() + "\n")


def bars() -> Progress:
    """Progress to hand to the library: a live bar while the work goes on, one short line when it is over."""
    return _Bars()


def progress_for(interactive: bool) -> Progress:
    """Bars in the lab; headless, lines of text in the notebook's output with the time left."""
    root = logging.getLogger("obdb_lib")
    if not root.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
    root.propagate = False
    root.setLevel(logging.WARNING if interactive else logging.INFO)
    return bars() if interactive else LogProgress()
