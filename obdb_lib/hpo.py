"""Search for hyperparameters with Sherpa, which is reached through ``sherpa_door`` only."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from obdb_lib.cache import content_hash, read_json, write_json
from obdb_lib.dataset import DetectionDataset
from obdb_lib.errors import ObdbError, TrainingError
from obdb_lib.models import Detector
from obdb_lib.options import TrainingOptions
from obdb_lib.progress import Progress, track
from obdb_lib.settings import HYPERPARAMETERS, Hyperparameters, SearchRanges, save_hyperparameters
from obdb_lib.sherpa_door import load_sherpa, study_class
from obdb_lib.training import fit

logger = logging.getLogger(__name__)

LOG_SCALE = ("lr", "weight_decay")
"""Searched by their exponent: a log scale reaches in half the trials what a linear one reaches."""
WHOLE_NUMBERS = ("step_size",)

Objective = Callable[[Hyperparameters], float]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        trials: one row a trial: trial, the parameters, objective (higher is better, NaN when it failed), status
            ("COMPLETED" or "FAILED"), seconds, note.
        best: the best trial's values in the settings' keys, with ``best_value``.
        partial: stopped by time, ``stop`` or interrupt before ``max_num_trials``.
        path: where ``best`` was written (``<variant>_settings.json``), if asked for.
        seconds: wall time of this session.
    """

    trials: pd.DataFrame
    best: Hyperparameters
    partial: bool
    path: Path | None
    seconds: float


def search(
    objective: Objective,
    parameters: SearchRanges | Mapping[str, Sequence[float]],
    *,
    max_num_trials: int,
    num_initial_data_points: int | Literal["infer"] = "infer",
    seed: int,
    algorithm: Literal["bayesian", "random"] = "bayesian",
    first: Hyperparameters | None = None,
    settings_path: Path | str | None = None,
    record: Path | str | None = None,
    data_key: object = None,
    timeout: float | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    dashboard_port: int | None = None,
) -> SearchResult:
    """Look for the parameters with the highest objective.

    Args:
        objective: value to make large (val mAP50 on a group-disjoint part of train, say). An ``ObdbError`` or a value
            that is not finite counts as a failed trial; the search goes on.
        parameters: ``[low, high]`` by upstream's names; ``lr`` and ``weight_decay`` on a log scale.
        max_num_trials: trials in all, those of ``record`` too.
        num_initial_data_points: random trials before the model speaks; "infer" is one more than there are parameters
            (Sherpa raises a smaller number to that).
        seed: same seed and objective, same trials.
        algorithm: "bayesian" (Gaussian process by GPyOpt) or "random".
        first: tried first by the bayesian search when it names all parameters, so that the search cannot end below it.
        settings_path: write the best there, where training reads it.
        record: JSON file of the trials, written after each; a search with the same ranges, seed and ``data_key`` goes
            on from it, another one puts it aside as ``<name>_previous.json``.
        data_key: JSON-able; what else makes trials comparable (snapshot, split, options of a trial).
        timeout: seconds after which no new trial begins.
        dashboard_port: show Sherpa's dashboard on 127.0.0.1 at this port; None shows none.

    Raises:
        TrainingError: no parameters, or no trial that succeeded.
    """
    ranges = parameters.given() if isinstance(parameters, SearchRanges) else _checked(parameters)
    if not ranges or max_num_trials < 1:
        raise TrainingError("a search needs at least one parameter with [low, high] and max_num_trials of at least 1")
    started = time.monotonic()
    key = content_hash(ranges, seed, algorithm, data_key)
    rows = _read_record(record, key)
    study = _make_study(ranges, algorithm, num_initial_data_points, max_num_trials, first, dashboard_port)
    _replay(study, ranges, rows, seed)
    partial = False
    try:
        with track(progress, "search", max_num_trials) as task:
            task.advance(len(rows))
            while len(rows) < max_num_trials:
                if (timeout is not None and time.monotonic() - started > timeout) or (stop is not None and stop()):
                    partial = True
                    break
                rows.append(_one_trial(study, objective, ranges, seed))
                if record is not None:
                    write_json(record, {"key": key, "ranges": ranges, "trials": rows})
                task.advance(1, best=f"{_best_value(rows):.3f}")
    except KeyboardInterrupt:
        partial = True
        logger.warning("search interrupted after %d trials; they are kept", len(rows))
    finally:
        study.close()
    best = _best(rows, ranges)
    path = Path(settings_path) if settings_path is not None else None
    if path is not None:
        save_hyperparameters(path, best)
    columns = ["trial", *ranges, "objective", "status", "seconds", "note"]
    trials = pd.DataFrame([{**row, "objective": _nan(row["objective"])} for row in rows], columns=columns)
    return SearchResult(trials, best, partial, path, time.monotonic() - started)


def training_objective(
    make_detector: Callable[[], Detector],
    train: DetectionDataset,
    judge: DetectionDataset,
    options: TrainingOptions,
    *,
    work_dir: Path | str,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Objective:
    """An objective that trains shortly and returns mAP50 on ``judge``.

    Args:
        make_detector: a fresh network for each trial.
        train, judge: parts of TRAIN that share no group; never the val part that judges the final model.
        options: epochs and batch size of a trial; the trial's hyperparameters replace those in it.
        work_dir: the trials' files, each trial over the last.

    Raises:
        TrainingError: (from the objective) a part holds frames of the other, non-finite loss.
    """

    def objective(hyperparameters: Hyperparameters) -> float:
        given = hyperparameters.model_dump(exclude_none=True, exclude={"best_value"})
        if ("step_size" in given) != ("gamma" in given):
            given = {"step_size": options.epochs, "gamma": 1.0, **given}
        trial = replace(options, **given, judge_every=options.epochs)
        result = fit(make_detector(), train, judge, trial, save_dir=work_dir, progress=progress, stop=stop)
        if result.partial:
            raise KeyboardInterrupt
        return result.best_map50

    return objective


def importance(trials: pd.DataFrame, parameters: Sequence[str]) -> pd.Series:
    """How much each parameter went with the objective: absolute rank correlation, 0..1; NaN below three trials."""
    good = trials[trials["status"] == "COMPLETED"]
    values = {
        name: abs(float(good[name].corr(good["objective"], method="spearman"))) if len(good) >= 3 else math.nan
        for name in parameters
    }
    return pd.Series(values, name="importance").sort_values(ascending=False)


def _checked(parameters: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    unknown = sorted(set(parameters) - set(HYPERPARAMETERS))
    if unknown:
        raise TrainingError(f"unknown search parameters {unknown}; known: {', '.join(HYPERPARAMETERS)}")
    try:
        return SearchRanges.model_validate({name: list(pair) for name, pair in parameters.items()}).given()
    except ValidationError as error:
        raise TrainingError("search parameters: " + "; ".join(item["msg"] for item in error.errors())) from error


def _one_trial(study: Any, objective: Objective, ranges: dict[str, list[float]], seed: int) -> dict[str, Any]:
    with _dice(seed, study.num_trials):
        trial = study.get_suggestion()
    if trial is None:
        raise TrainingError("Sherpa has no further suggestion")
    values = {name: int(v) if name in WHOLE_NUMBERS else float(v) for name, v in trial.parameters.items()}
    row: dict[str, Any] = {"trial": trial.id, **values, "objective": None, "status": "FAILED", "note": ""}
    begun = time.monotonic()
    try:
        value = float(objective(Hyperparameters.model_validate({name: values[name] for name in ranges})))
        if math.isfinite(value):
            row.update(objective=value, status="COMPLETED")
        else:
            row["note"] = f"the objective was {value}"
    except ObdbError as error:
        row["note"] = str(error)
    if row["note"]:
        logger.warning("trial %d failed: %s", trial.id, row["note"])
    row["seconds"] = round(time.monotonic() - begun, 2)
    _observe(study, trial, row)
    return row


def _observe(study: Any, trial: Any, row: dict[str, Any]) -> None:
    study.add_observation(trial, _nan(row["objective"]))
    study.finalize(trial, row["status"])


def _replay(study: Any, ranges: dict[str, list[float]], rows: list[dict[str, Any]], seed: int) -> None:
    """Bring a new study to where the recorded one stood."""
    sherpa = load_sherpa()
    for row in rows:
        with _dice(seed, study.num_trials):
            study.get_suggestion()
        _observe(study, sherpa.Trial(row["trial"], {name: row[name] for name in ranges}), row)


def _read_record(record: Path | str | None, key: str) -> list[dict[str, Any]]:
    if record is None or not Path(record).exists():
        return []
    stored = read_json(record)
    if not isinstance(stored, dict) or stored.get("key") != key:
        aside = Path(record).with_name(f"{Path(record).stem}_previous.json")
        Path(record).replace(aside)
        logger.warning("%s is the record of another search; it is kept as %s and this one starts anew", record, aside)
        return []
    return list(stored["trials"])


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _best_value(rows: list[dict[str, Any]]) -> float:
    return max((row["objective"] for row in rows if row["objective"] is not None), default=math.nan)


def _best(rows: list[dict[str, Any]], ranges: dict[str, list[float]]) -> Hyperparameters:
    good = [row for row in rows if row["objective"] is not None]
    if not good:
        notes = "; ".join(dict.fromkeys(row["note"] for row in rows)) or "no trial was run"
        raise TrainingError(f"the search has no successful trial: {notes}")
    best = max(good, key=lambda row: row["objective"])
    return Hyperparameters(**{name: best[name] for name in ranges}, best_value=best["objective"])


@contextmanager
def _dice(seed: int, number: int) -> Iterator[None]:
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


def _make_study(
    ranges: dict[str, list[float]],
    algorithm: str,
    num_initial_data_points: int | Literal["infer"],
    max_num_trials: int,
    first: Hyperparameters | None,
    dashboard_port: int | None,
) -> Any:
    sherpa = load_sherpa()
    parameters: list[Any] = []
    for name, (low, high) in ranges.items():
        if name in WHOLE_NUMBERS:
            parameters.append(sherpa.Discrete(name, [int(low), int(high)]))
        else:
            scale = "log" if name in LOG_SCALE else "linear"
            parameters.append(sherpa.Continuous(name, [float(low), float(high)], scale))
    start = {} if first is None else {name: getattr(first, name) for name in ranges}
    known_start = [start] if start and None not in start.values() else []
    if algorithm == "random":
        method = sherpa.algorithms.RandomSearch(max_num_trials=max_num_trials)
    else:
        # more than one at a time fails in GPyOpt's local penalisation
        method = sherpa.algorithms.GPyOpt(
            num_initial_data_points=num_initial_data_points,
            initial_data_points=known_start,
            max_concurrent=1,
            max_num_trials=max_num_trials,
        )
    return study_class()(
        parameters,
        method,
        lower_is_better=False,
        disable_dashboard=dashboard_port is None,
        dashboard_port=dashboard_port,
    )
