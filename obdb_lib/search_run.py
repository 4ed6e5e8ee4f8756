"""One search under way: trials one after the other, in a Sherpa study and in the record from which it is continued."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.cache import content_hash, read_json
from obdb_lib.dashboard import PORT
from obdb_lib.early_stopping import EarlyStopping, sherpa_rule
from obdb_lib.errors import ObdbError, TrainingError
from obdb_lib.progress import Progress, track
from obdb_lib.search_objective import ContinuedObjective, EpochObjective, Objective
from obdb_lib.search_record import Record
from obdb_lib.search_space import WHOLE_NUMBERS, Space
from obdb_lib.settings import Hyperparameters
from obdb_lib.sherpa_door import load_sherpa, study_class

logger = logging.getLogger(__name__)


@dataclass
class SearchRun:
    """A search under way: Sherpa's study beside the record of it."""

    space: Space
    objective: Objective | EpochObjective
    record: Record
    seed: int
    study: Any = None

    def __post_init__(self) -> None:
        self.waits: list[float] = []

    def replay(self) -> None:
        """Bring a new study to where the recorded one stood."""
        sherpa = load_sherpa()
        for row in self.record.trials:
            with dice(self.seed, self.study.num_trials):
                suggested = self.study.get_suggestion()
            extra = {k: v for k, v in suggested.parameters.items() if k not in self.space.names}
            parameters = {**{name: row[name] for name in self.space.names}, **extra}
            trial = sherpa.Trial(row["trial"], parameters)
            for epoch, value in row.get("curve", []):
                self.study.add_observation(trial, _nan(value), int(epoch))
            self._finish(trial, row)

    def go(self, max_num_trials: int, progress: Progress | None, over: Callable[[], bool]) -> bool:
        """Run trials until there are enough; True when it ended before."""
        rows = self.record.trials
        try:
            with track(progress, "search", max_num_trials) as task:
                task.advance(len(rows))
                while len(rows) < max_num_trials:
                    if over():
                        return True
                    self.record.end(self._one_trial())
                    task.advance(1, best=f"{self._best_value():.3f}")
        except KeyboardInterrupt:
            logger.warning("search interrupted after %d trials; they are kept", len(rows))
            return True
        return False

    def _one_trial(self) -> dict[str, Any]:
        trial = self._next_trial()
        values = {
            n: int(v) if n in WHOLE_NUMBERS else float(v) for n, v in trial.parameters.items() if n in self.space.names
        }
        self.record.begin(trial.id, values)
        row: dict[str, Any] = {"trial": trial.id, **values, "objective": None, "status": "FAILED", "note": ""}
        curve: list[tuple[int, float]] = []
        begun = time.monotonic()
        try:
            value, stopped = self._value(trial, Hyperparameters.model_validate(values), curve)
            if math.isfinite(value):
                row.update(objective=value, status="STOPPED" if stopped else "COMPLETED")
            else:
                row["note"] = f"the objective was {value}"
        except ObdbError as error:
            row["note"] = str(error)
        if row["note"]:
            logger.warning("trial %d failed: %s", trial.id, row["note"])
        row.update(seconds=round(time.monotonic() - begun, 2), curve=curve, epochs=curve[-1][0] if curve else 0)
        self._finish(trial, row)
        return row

    def _next_trial(self) -> Any:
        """The study's suggestion; with the recorded parameters when this trial had begun before."""
        begun = time.monotonic()
        with dice(self.seed, self.study.num_trials):
            trial = self.study.get_suggestion()
        self.waits.append(time.monotonic() - begun)
        if trial is None:
            raise TrainingError("Sherpa has no further suggestion")
        running = self.record.running
        if running is not None and running["trial"] == trial.id:
            trial.parameters.update(running["parameters"])
            logger.info("trial %d was cut off; it is begun again with the same parameters", trial.id)
        return trial

    def _value(self, trial: Any, given: Hyperparameters, curve: list[tuple[int, float]]) -> tuple[float, bool]:
        """The objective, and whether the trial was stopped before its end; ``curve`` is filled by epoch."""
        if not isinstance(self.objective, EpochObjective):
            return float(self.objective(given)), False
        stopped = False
        epochs = int(trial.parameters.get("resource", self.objective.epochs))

        def report(epoch: int, value: float) -> bool:
            nonlocal stopped
            curve.append((epoch, value))
            self.study.add_observation(trial, value, epoch)
            stopped = epoch < epochs and bool(self.study.should_trial_stop(trial))
            return stopped

        names = {name: str(trial.parameters.get(name, "")) for name in ("load_from", "save_to")}
        if names["save_to"] and isinstance(self.objective, ContinuedObjective):
            return float(self.objective.go_on(given, report, epochs, **names)), stopped
        return float(self.objective.by_epoch(given, report, epochs)), stopped

    def _finish(self, trial: Any, row: dict[str, Any]) -> None:
        if not row.get("curve"):
            self.study.add_observation(trial, _nan(row["objective"]))
        self.study.finalize(trial, row["status"])

    def _best_row(self) -> Mapping[str, Any] | None:
        return next(iter(best_first(self.record.trials, self.record.facts["lower_is_better"])), None)

    def _best_value(self) -> float:
        row = self._best_row()
        return math.nan if row is None else float(row["objective"])

    def best(self) -> Hyperparameters:
        """The best trial's parameters."""
        row = self._best_row()
        if row is None:
            notes = "; ".join(dict.fromkeys(row["note"] for row in self.record.trials)) or "no trial was run"
            raise TrainingError(f"the search has no successful trial: {notes}")
        return Hyperparameters(**{name: row[name] for name in self.space.names}, best_value=row["objective"])


def best_first(rows: Sequence[Mapping[str, Any]], lower_is_better: bool) -> list[Mapping[str, Any]]:
    """Trials with a value, best first: whole ones of the most epochs before those that were stopped or given less."""
    good = [row for row in rows if row["objective"] is not None]
    most = max((row["epochs"] for row in good if row["status"] == "COMPLETED"), default=0)

    def place(row: Mapping[str, Any]) -> tuple[bool, float]:
        whole = row["status"] == "COMPLETED" and row["epochs"] == most
        return not whole, row["objective"] if lower_is_better else -row["objective"]

    return sorted(good, key=place)


def make_study(
    space: Space,
    method: Any,
    lower_is_better: bool = False,
    early_stopping: EarlyStopping | None = None,
    dashboard_port: int | None = None,
) -> Any:
    """A Sherpa study of ``space``; with its dashboard when a port is given."""
    return study_class()(
        space.sherpa_parameters(load_sherpa()),
        method,
        lower_is_better=lower_is_better,
        stopping_rule=sherpa_rule(early_stopping) if early_stopping else None,
        disable_dashboard=dashboard_port is None,
        dashboard_port=dashboard_port,
    )


def open_dashboard(record: Path | str, port: int = PORT) -> Any:
    """Sherpa's dashboard of a recorded search; its ``close()`` ends it, ``dashboard_port`` says where it is.

    Raises:
        CacheError: no such record.
        TrainingError: the file is no record, or no port is free.
    """
    sherpa = load_sherpa()
    stored = read_json(record)
    if not isinstance(stored, dict) or not {"ranges", "trials"} <= set(stored):
        raise TrainingError(f"{record} is no record of a search; search_record.studies lists those of a folder")
    space = Space(stored["ranges"])
    study = make_study(space, None, bool(stored.get("lower_is_better")), dashboard_port=port)
    for row in stored["trials"]:
        trial = sherpa.Trial(row["trial"], {name: row[name] for name in space.names})
        for epoch, value in row.get("curve") or [(1, row["objective"])]:
            study.add_observation(trial, _nan(value), int(epoch))
        study.finalize(trial, row["status"])
    return study


def trials_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Trials of a record as ``SearchResult.trials``."""
    columns = ["trial", *names, "objective", "status", "epochs", "seconds", "note"]
    return pd.DataFrame([{**row, "objective": _nan(row["objective"])} for row in rows], columns=columns)


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


@contextmanager
def dice(seed: int, number: int) -> Iterator[None]:
    """Sherpa and GPyOpt throw numpy's global dice: load them for one suggestion and put them back."""
    sherpa = load_sherpa()
    before = np.random.get_state()
    loaded = int(content_hash([seed, number]), 16) % 2**32
    np.random.seed(loaded)
    sherpa.core.rng.seed(loaded)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside GPy, and Sherpa's note on few initial points
            yield
    finally:
        np.random.set_state(before)
