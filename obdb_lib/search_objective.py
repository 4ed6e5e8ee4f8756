"""What a search makes large or small: a short training on parts of train, judged after each epoch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import pandas as pd

from obdb_lib.checkpoints import load_checkpoint
from obdb_lib.dataset import DetectionDataset
from obdb_lib.errors import TrainingError
from obdb_lib.models import Detector
from obdb_lib.options import TrainingOptions
from obdb_lib.progress import Progress
from obdb_lib.settings import Hyperparameters
from obdb_lib.trainer import StopTraining
from obdb_lib.training import fit

ObjectiveName = Literal["val_map", "val_loss", "train_loss"]
COLUMNS = {"val_map": "val_ap50", "val_loss": "val_loss", "train_loss": "loss"}
"""Column of a training's history that each objective reads; ``val_map`` is mAP50, which also chooses the best model."""

PARTS = "parts"
"""Folder of the checkpoints from which promoted trials go on."""

Objective = Callable[[Hyperparameters], float]
Report = Callable[[int, float], bool]
"""``report(epoch, value)``, epochs from 1; True asks the trial to stop."""


@runtime_checkable
class EpochObjective(Protocol):
    """An objective that tells its value by epoch, so that a trial which is behind can be stopped.

    Attributes:
        name: of the value, for charts and records.
        lower_is_better: a loss.
        epochs: of a whole trial.
    """

    name: str
    lower_is_better: bool
    epochs: int

    def by_epoch(self, hyperparameters: Hyperparameters, report: Report, epochs: int) -> float:
        """Run one trial of ``epochs`` epochs; stop soon when ``report`` says so. The best value reached."""


@runtime_checkable
class ContinuedObjective(EpochObjective, Protocol):
    """An objective whose trials can be cut at any epoch and go on later, for ``successive_halving``."""

    def go_on(
        self, hyperparameters: Hyperparameters, report: Report, epochs: int, *, load_from: str, save_to: str
    ) -> float:
        """As ``by_epoch``, but up to epoch ``epochs`` of a whole trial, from where ``load_from`` ended.

        All epochs are reported, those of ``load_from`` too.

        Args:
            load_from, save_to: names of checkpoints, Sherpa's; ``load_from`` is "" for a trial that begins.
        """


@dataclass
class TrainingObjective:
    """A short training as a ``ContinuedObjective``; called with hyperparameters alone it trains to the end."""

    make_detector: Callable[[], Detector]
    train: DetectionDataset
    judge: DetectionDataset
    options: TrainingOptions
    work_dir: Path
    name: str = "val_map"
    progress: Progress | None = None
    stop: Callable[[], bool] | None = None

    @property
    def lower_is_better(self) -> bool:
        return self.name != "val_map"

    @property
    def epochs(self) -> int:
        return self.options.epochs

    def __call__(self, hyperparameters: Hyperparameters) -> float:
        return self.by_epoch(hyperparameters, lambda epoch, value: False, self.epochs)

    def by_epoch(self, hyperparameters: Hyperparameters, report: Report, epochs: int) -> float:
        """See ``EpochObjective``.

        Raises:
            TrainingError: a part holds frames of the other, non-finite loss.
            KeyboardInterrupt: ``stop`` or the person stopped the training.
        """
        return self._train(self._options(hyperparameters, epochs), report, epochs, self.work_dir)

    def go_on(
        self, hyperparameters: Hyperparameters, report: Report, epochs: int, *, load_from: str, save_to: str
    ) -> float:
        """See ``ContinuedObjective``; the schedule is a whole trial's, so a trial in parts equals one in one go.

        A checkpoint that is missing or damaged costs time alone: the trial then begins at its first epoch again.

        Raises:
            TrainingError, KeyboardInterrupt: as ``by_epoch``.
        """
        folder = self.work_dir / PARTS / save_to
        # A trial that was cut off in the middle begins again where this part of it began.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if load_from:
            for last in sorted((self.work_dir / PARTS / load_from).glob("*_last.pth")):
                shutil.copyfile(last, folder / last.name)
        options = self._options(hyperparameters, self.epochs)
        if self.name == "train_loss":
            options = replace(options, judge_every=1)  # a part may end at any epoch, and only judged ones are told
        value = self._train(options, report, epochs, folder, resume=bool(load_from))
        for path in folder.iterdir():
            if not path.name.endswith("_last.pth"):
                path.unlink()
        return value

    def forget(self) -> None:
        """Remove the checkpoints of ``go_on``; a later trial that would have gone on from one begins anew."""
        shutil.rmtree(self.work_dir / PARTS, ignore_errors=True)

    def _train(
        self, options: TrainingOptions, report: Report, epochs: int, folder: Path, *, resume: bool = False
    ) -> float:
        """Train up to epoch ``epochs`` (of ``options.epochs``) in ``folder``; the best value reached."""
        column = COLUMNS[self.name]
        behind = done = False
        told = 0

        def tell(row: dict[str, float]) -> None:
            nonlocal behind, told
            value = row.get(column, math.nan)
            if not math.isnan(value) and row["epoch"] > told:
                told = int(row["epoch"])
                behind = report(told, value) or behind

        def on_epoch(row: dict[str, float]) -> None:
            nonlocal done
            tell(row)
            done = row["epoch"] >= epochs
            if done and epochs < options.epochs:
                raise StopTraining  # the epoch is saved: this part ends exactly here

        detector = self.make_detector()
        for row in _history(folder / f"{detector.spec.variant}_last.pth") if resume else ():
            tell(row)
        behind = False  # that was decided when the trial was promoted
        result = fit(
            detector,
            self.train,
            self.judge,
            options,
            save_dir=folder,
            resume="auto" if resume else False,
            progress=self.progress,
            stop=lambda: behind or (self.stop is not None and self.stop()),
            on_epoch=on_epoch,
        )
        if result.partial and not behind and not done:
            raise KeyboardInterrupt
        values = result.history[column].dropna() if column in result.history else pd.Series(dtype=float)
        if not len(values):
            return math.nan
        return float(values.min() if self.lower_is_better else values.max())

    def _options(self, hyperparameters: Hyperparameters, epochs: int) -> TrainingOptions:
        given = hyperparameters.model_dump(exclude_none=True, exclude={"best_value"})
        if ("step_size" in given) != ("gamma" in given):
            given = {"step_size": epochs, "gamma": 1.0, **given}
        judge_every = epochs if self.name == "train_loss" else 1
        loss = self.options.val_loss or self.name == "val_loss"
        # A trial may not end on a plateau of its own: all are to be compared at the same epochs.
        return replace(
            self.options, **given, epochs=epochs, judge_every=judge_every, val_loss=loss, max_plateau_count=epochs + 1
        )


def _history(last: Path) -> list[dict[str, float]]:
    """Rows of the epochs that a resume of this file has behind it; none where it cannot be read."""
    try:
        return list(load_checkpoint(last).resume["state"]["history"])
    except (TrainingError, KeyError):
        return []


def training_objective(
    make_detector: Callable[[], Detector],
    train: DetectionDataset,
    judge: DetectionDataset,
    options: TrainingOptions,
    *,
    work_dir: Path | str,
    objective: ObjectiveName = "val_map",
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainingObjective:
    """An objective that trains shortly and is judged after each epoch.

    Args:
        make_detector: a fresh network for each trial.
        train, judge: parts of TRAIN that share no group; never the val part that judges the final model.
        options: epochs and batch size of a trial; the trial's hyperparameters replace those in it.
        work_dir: the trials' files, each trial over the last.
        objective: "val_map" (mAP50 on ``judge``, 0..1, the best epoch's), "val_loss" (mean summed loss on ``judge``) or
            "train_loss" (of the training itself, which upstream minimised: it rewards learning by heart).

    Raises:
        TrainingError: no such objective.
    """
    if objective not in get_args(ObjectiveName):
        raise TrainingError(f"unknown objective {objective!r} of a search; known: {', '.join(get_args(ObjectiveName))}")
    return TrainingObjective(make_detector, train, judge, options, Path(work_dir), objective, progress, stop)
