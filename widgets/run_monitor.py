"""A training while it runs: curves, progress, time left, and a button that ends it politely.

Headless, the same curves are a still picture::

    monitor = run_monitor("Training of resnet18", INTERACTIVE, name="curves-resnet18")
    result = workbench.train(variant, progress=monitor.progress, stop=monitor.stop, on_epoch=monitor.on_epoch)
    monitor.show_whole(result.history)
"""

from __future__ import annotations

import html
import itertools
import math
import signal
import threading
import time
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
import plotly.graph_objects as go
from IPython.display import display
from plotly.subplots import make_subplots
from traitlets import Bool, Int, Unicode

from obdb_lib.progress import LogProgress, Progress, Task, duration
from widgets._base import STATIC, CallbackErrors, PlainWidget
from widgets.bars import bars
from widgets.charts import CONFIG, house_style, show
from widgets.palette import EXTENDED

SHOWN_EVERY_S = 1.0
"""Least time between two updates of the page; raise it on slow connections."""
HEIGHT_PX = 340
MOST_POINTS = 400
"""Points of the loss-by-step line; beyond, every second one is dropped."""
PANELS = ("Loss", "mAP50 on val", "Learning rate")
MOST_TICKS = 8
"""Whole epochs with a tick; plotly alone would also mark broken ones."""
FINISHED = "finished"
TRAINING = "train "
"""Title of the task that a training reports (``training.fit``)."""


class Curves:
    """What was seen of a training, as three panels over epochs: losses, mAP50 on val, learning rate.

    The same lines are in the live figure and in the still picture.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.steps: list[tuple[float, float]] = []
        self.rows: list[dict[str, float]] = []
        self._stride = 1
        self._seen = 0

    def step(self, epoch: float, loss: float) -> None:
        """A step's loss at a (broken) number of epochs."""
        self._seen += 1
        if self._seen % self._stride == 0:
            self.steps.append((epoch, loss))
        if len(self.steps) > MOST_POINTS:
            self.steps, self._stride = self.steps[1::2], self._stride * 2

    def lines(self) -> list[tuple[list[float], list[float | None]]]:
        """x and y of: loss by step, train loss, val loss, val mAP50, lr."""
        epochs = [row["epoch"] for row in self.rows]
        columns = [self._column(name) for name in ("loss", "val_loss", "val_ap50", "lr")]
        by_step: tuple[list[float], list[float | None]] = ([x for x, _ in self.steps], [y for _, y in self.steps])
        return [by_step, *((epochs, column) for column in columns)]

    def _column(self, name: str) -> list[float | None]:
        values = [row.get(name, math.nan) for row in self.rows]
        return [None if math.isnan(value) else float(value) for value in values]

    def epoch_tick(self) -> int | None:
        """Epochs between two ticks: 1, 2, 5, 10, 20, ...; None before the first epoch's end leaves it to plotly."""
        if not self.rows:
            return None
        span = self.rows[-1]["epoch"] - self.rows[0]["epoch"]
        steps = (first * 10**power for power in itertools.count() for first in (1, 2, 5))
        return next(int(step) for step in steps if span < MOST_TICKS * step)

    def figure(self) -> go.Figure:
        """The three panels."""
        figure = make_subplots(1, 3, subplot_titles=PANELS, horizontal_spacing=0.08)
        names = ("loss of a step", "train loss", "val loss", "val mAP50", "learning rate")
        places, colours = (1, 1, 1, 2, 3), (EXTENDED[0], EXTENDED[0], EXTENDED[1], EXTENDED[2], EXTENDED[3])
        for number, (x, y) in enumerate(self.lines()):
            line = go.Scatter(
                x=x,
                y=y,
                name=names[number],
                showlegend=_any(y),  # val loss is a choice; the others come with the first step or epoch
                mode="lines" if number == 0 else "lines+markers",
                opacity=0.35 if number == 0 else 1.0,
                line={"color": colours[number], "width": 1 if number == 0 else 2},
                marker={"size": 6},
                cliponaxis=False,  # a point at 0 is a whole point
            )
            figure.add_trace(line, row=1, col=places[number])
        figure.update_xaxes(title_text="epoch", dtick=self.epoch_tick())
        figure.update_yaxes(rangemode="tozero")
        return house_style(figure, self.title, HEIGHT_PX)


def _any(values: list[float | None]) -> bool:
    return any(value is not None for value in values)


class StopButton(PlainWidget):
    """A button that interrupts the kernel through the server (``static/stop_button.js``).

    Attributes:
        kernel: id of the kernel, as the server knows it; "" where there is none.
        label, enabled: what the button shows.
        asked: how often it was pressed, where the front end can tell while a cell runs.
    """

    _esm = STATIC / "stop_button.js"
    kernel = Unicode().tag(sync=True)
    label = Unicode("Stop").tag(sync=True)
    enabled = Bool(True).tag(sync=True)
    asked = Int(0).tag(sync=True)


class WidthFollower(PlainWidget):
    """An empty line as wide as its box, which has the figures of the page fit theirs (``static/follow_width.js``)."""

    _esm = STATIC / "follow_width.js"


def live_figure(curves: Curves) -> go.FigureWidget:
    """The curves as a figure that follows new data and fills the width of its place."""
    figure = go.FigureWidget(curves.figure())
    figure.update_layout(autosize=True)  # else the first drawing has the 700 px of a figure without a place
    figure._config = dict(CONFIG)  # responsive; the widget has no public argument for it
    return figure


def kernel_id() -> str:
    """Id of the kernel this code runs in (its connection file is called ``kernel-<id>.json``); "" outside of one."""
    from ipykernel.connect import get_connection_file

    try:
        return Path(get_connection_file()).stem.removeprefix("kernel-")
    except RuntimeError:  # no kernel
        return ""


class _Watch:
    """The training's task: passes steps on to the monitor."""

    def __init__(self, monitor: RunMonitor, total: int | None) -> None:
        self.monitor, self.total = monitor, total
        self.done, self.started = 0, time.monotonic()

    def advance(self, steps: int = 1, **info: object) -> None:
        self.done += steps
        self.monitor.stepped(self, info)

    def left_s(self) -> float | None:
        """Seconds until the end at the speed so far, judging included."""
        if not self.total or not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * max(self.total - self.done, 0)


class RunMonitor(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets is untyped
    """Live view of one training; hand its ``progress``, ``stop`` and ``on_epoch`` to ``Workbench.train``.

    The button works while the cell runs: it interrupts the kernel, and while a training is under way an interrupt is a
    polite request that is met after the step. A second interrupt ends the cell at once (what was earned is kept).
    """

    def __init__(self, title: str, name: str | None = None) -> None:
        self.curves, self.name = Curves(title), name
        self._stop = threading.Event()
        self._default: Any = None
        self._shown_at = -math.inf
        self._errors = CallbackErrors()
        self._bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "260px"})
        self._line = ipywidgets.HTML("<span>waiting for the first step</span>")
        self._button = StopButton(kernel=kernel_id())
        self._button.observe(self._errors.guard(self._asked), "asked")
        self._figure = live_figure(self.curves)
        self._row = ipywidgets.HBox([self._button, self._bar, self._line], layout={"align_items": "center"})
        super().__init__([self._row, WidthFollower(), self._figure, self._errors.output])
        self.add_class("obdb-run-monitor")

    @property
    def progress(self) -> Progress:
        """For the library: the training's steps come here, other work gets a bar of its own."""
        return self

    def start(self, title: str, total: int | None) -> Task:
        """Part of ``Progress``."""
        if not title.startswith(TRAINING):
            return bars().start(title, total)
        self._catch_interrupts()
        return _Watch(self, total)

    def finish(self, task: Task) -> None:
        """Part of ``Progress``."""
        if not isinstance(task, _Watch):
            bars().finish(task)
            return
        if self._default is not None:
            signal.signal(signal.SIGINT, self._default)
            self._default = None
        self._redraw()
        if task.total is None or task.done >= task.total:
            self._end(FINISHED)
            return
        kept = "best model" if self.curves.rows else "model so far"
        word = "stopped" if self.stop() else "ended"  # by its patience or an error, which speaks for itself
        self._end(f"{word} after {task.done} of {task.total} steps; the {kept} is kept")

    def stop(self) -> bool:
        """True once somebody has pressed the button."""
        return self._stop.is_set()

    def on_epoch(self, row: dict[str, float]) -> None:
        """A judged epoch's row of the history."""
        self.curves.rows.append(dict(row))
        self._redraw()

    def stepped(self, watch: _Watch, info: dict[str, object]) -> None:
        """A step is done; the page follows at most every second."""
        self.curves.step(float(str(info["epoch"])), float(str(info["loss"])))
        now = time.monotonic()
        if now - self._shown_at >= SHOWN_EVERY_S:
            self._shown_at = now
            self._tell(watch, info)
            self._redraw()

    def show_whole(self, history: pd.DataFrame) -> None:
        """The whole run, with the epochs of earlier sessions, as a chart that stays when the notebook is reopened."""
        self.curves.rows = rows_of(history)
        self.children = [self._row, self._errors.output]
        show(self.curves.figure(), self.name)

    def _tell(self, watch: _Watch, info: dict[str, object]) -> None:
        left = watch.left_s()
        self._bar.value = watch.done / watch.total if watch.total else 0.0
        words = [
            epoch_words(info),
            f"loss {info['loss']}",
            f"{info['step_s']} s a step, {info['wait']} of it waiting for data",
            f"about {duration(left)} left" if left is not None else "",
        ]
        self._line.value = f"<span>{html.escape(' · '.join(word for word in words if word))}</span>"

    def _redraw(self) -> None:
        with self._figure.batch_update():
            for trace, (x, y) in zip(self._figure.data, self.curves.lines(), strict=True):
                trace.x, trace.y, trace.showlegend = x, y, _any(y)
            self._figure.update_xaxes(dtick=self.curves.epoch_tick())

    def _catch_interrupts(self) -> None:
        """The first interrupt asks for a stop, the next one is an interrupt again."""
        if threading.current_thread() is not threading.main_thread():
            return  # signals are the main thread's; a training elsewhere is stopped by the button's message
        self._default = signal.getsignal(signal.SIGINT)

        def ask(number: int, frame: object) -> None:
            self._stop.set()
            signal.signal(signal.SIGINT, self._default)

        signal.signal(signal.SIGINT, ask)

    def _asked(self, change: object) -> None:
        self._stop.set()

    def _end(self, words: str) -> None:
        self._button.enabled, self._button.label = False, words.split()[0].capitalize()
        self._bar.value = 1.0 if words == FINISHED else self._bar.value
        self._line.value = f"<span>{html.escape(words)}</span>"


class StillMonitor:
    """The same without a page: lines of text while it runs, a picture at the end."""

    def __init__(self, title: str, name: str | None = None) -> None:
        self.curves, self.name = Curves(title), name
        self.progress: Progress = LogProgress()

    def stop(self) -> bool:
        """Nobody is there to press a button."""
        return False

    def on_epoch(self, row: dict[str, float]) -> None:
        """A judged epoch's row of the history."""
        self.curves.rows.append(dict(row))

    def show_whole(self, history: pd.DataFrame) -> None:
        """The picture of the whole run."""
        self.curves.rows = rows_of(history)
        show(self.curves.figure(), self.name)


def run_monitor(title: str, interactive: bool, *, name: str | None = None) -> RunMonitor | StillMonitor:
    """A monitor of one training: shown at once in the lab, a picture at the end when headless.

    Args:
        title: over the curves.
        name: id of the chart in an exported page.
    """
    if not interactive:
        return StillMonitor(title, name)
    monitor = RunMonitor(title, name)
    display(monitor)  # type: ignore[no-untyped-call]  # IPython is untyped here
    return monitor


def epoch_words(info: dict[str, object]) -> str:
    """Which epoch is under way, "epoch 12 of 30", from the (broken) number of epochs done."""
    number = max(math.ceil(float(str(info["epoch"]))), 1)
    return f"epoch {number} of {info['epochs']}" if "epochs" in info else f"epoch {number}"


def rows_of(history: pd.DataFrame) -> list[dict[str, float]]:
    """Rows of ``FitResult.history`` as ``on_epoch`` gets them."""
    return [{str(name): float(value) for name, value in row.items()} for row in history.to_dict("records")]
