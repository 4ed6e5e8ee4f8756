"""Search for hyperparameters with Sherpa, which is reached through ``sherpa_door`` only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import ValidationError

from obdb_lib.cache import content_hash
from obdb_lib.early_stopping import EarlyStopping
from obdb_lib.errors import TrainingError
from obdb_lib.progress import Progress
from obdb_lib.search_algorithms import Algorithm, make_algorithm
from obdb_lib.search_objective import EpochObjective, Objective, training_objective
from obdb_lib.search_record import Record
from obdb_lib.search_report import importance
from obdb_lib.search_run import SearchRun, make_study, open_dashboard, trials_table
from obdb_lib.search_space import LOG_SCALE, WHOLE_NUMBERS, Space
from obdb_lib.settings import HYPERPARAMETERS, Hyperparameters, SearchRanges, save_hyperparameters

__all__ = [
    "LOG_SCALE",
    "WHOLE_NUMBERS",
    "Objective",
    "SearchResult",
    "importance",
    "open_dashboard",
    "search",
    "training_objective",
]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        trials: one row a trial: trial, the parameters, objective (NaN when it failed), status ("COMPLETED", "STOPPED"
            when it was behind, "FAILED"), epochs (judged; 0 for an objective that does not tell), seconds, note.
        best: the best trial's values in the settings' keys, with ``best_value``.
        partial: stopped by time, ``stop`` or interrupt before ``max_num_trials``.
        path: where ``best`` was written (``<variant>_settings.json``), if asked for.
        seconds: wall time of this session.
        study: name of the study.
        objective: name of what was made large or small.
        lower_is_better: the objective is a loss.
        algorithm: by which the trials were suggested.
        suggest_s: most seconds that a suggestion took in this session; NaN when none was made.
    """

    trials: pd.DataFrame
    best: Hyperparameters
    partial: bool
    path: Path | None
    seconds: float
    study: str = "search"
    objective: str = "objective"
    lower_is_better: bool = False
    algorithm: str = "bayesian"
    suggest_s: float = math.nan


def search(
    objective: Objective | EpochObjective,
    parameters: SearchRanges | Mapping[str, Sequence[float]],
    *,
    max_num_trials: int,
    num_initial_data_points: int | Literal["infer"] = "infer",
    seed: int,
    algorithm: Algorithm = "bayesian",
    first: Hyperparameters | Sequence[Hyperparameters] | None = None,
    settings_path: Path | str | None = None,
    record: Path | str | None = None,
    data_key: object = None,
    about: Mapping[str, object] | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    dashboard_port: int | None = None,
    study: str | None = None,
    early_stopping: EarlyStopping | None = None,
) -> SearchResult:
    """Look for the parameters with the best objective.

    Args:
        objective: value to make large (val mAP50 on a group-disjoint part of train, say), or an ``EpochObjective``,
            which says itself whether lower is better. An ``ObdbError`` or a value that is not finite counts as a failed
            trial; the search goes on.
        parameters: ``[low, high]`` by upstream's names; ``lr`` and ``weight_decay`` on a log scale.
        max_num_trials: trials in all, those of ``record`` too.
        num_initial_data_points: trials before the model speaks, ``first`` among them; "infer" is one more than there
            are parameters (GPyOpt raises a smaller number to that).
        seed: same seed and objective, same trials.
        algorithm: "bayesian" (ours), "gpyopt", "tpe" (Optuna's), "random" or "successive_halving" (which needs an
            ``EpochObjective``; only trials that got the most epochs can be the best).
        first: tried first, those that name all parameters; the search cannot end below them.
        settings_path: write the best there, where training reads it.
        record: JSON file of the trials, written before and after each; a search with the same ranges, seed and
            ``data_key`` goes on from it and begins a trial that was cut off again; another search puts it aside as
            ``<name>_previous.json``.
        data_key: JSON-able; what else makes trials comparable (snapshot, split, options of a trial).
        about: JSON-able facts for readers of the record (which data, which network); no part of what is compared.
        timeout: seconds after which no new trial begins.
        dashboard_port: show Sherpa's dashboard on 127.0.0.1 at this port while the search runs, or at the next free one
            (said in the log); None shows none.
        study: name of the study; the record's file name when None.
        early_stopping: give up trials that are behind; works with an ``EpochObjective`` only. None stops none.

    Raises:
        TrainingError: no parameters, unknown algorithm, or no trial that succeeded.
    """
    ranges = parameters.given() if isinstance(parameters, SearchRanges) else _checked(parameters)
    if not ranges or max_num_trials < 1:
        raise TrainingError("a search needs at least one parameter with [low, high] and max_num_trials of at least 1")
    started = time.monotonic()
    by_epoch = objective if isinstance(objective, EpochObjective) else None
    name = study or (Path(record).stem.removesuffix("_trials") if record is not None else "search")
    goal, lower = (by_epoch.name, by_epoch.lower_is_better) if by_epoch else ("objective", False)
    facts = {"study": name, "algorithm": algorithm, "objective": goal, "lower_is_better": lower, "ranges": ranges}
    facts.update(about or {})
    space, points = Space(ranges), _first_points(first, ranges)
    rules = [asdict(early_stopping) if early_stopping else None, num_initial_data_points]
    key = content_hash(ranges, seed, algorithm, data_key, goal, rules)
    method = make_algorithm(
        algorithm,
        space,
        seed=seed,
        max_num_trials=max_num_trials,
        num_initial_data_points=num_initial_data_points,
        first=points,
        epochs=by_epoch.epochs if by_epoch else None,
    )
    run = SearchRun(space, objective, Record.open(record, key, facts), seed)
    run.study = make_study(space, method, lower, early_stopping, dashboard_port)
    try:
        run.replay()
        partial = run.go(max_num_trials, progress, lambda: _over(started, timeout) or (stop is not None and stop()))
    finally:
        run.study.close()
    best = run.best()
    path = Path(settings_path) if settings_path is not None else None
    if path is not None:
        save_hyperparameters(path, best)
    return SearchResult(
        trials_table(run.record.trials, list(ranges)),
        best,
        partial,
        path,
        time.monotonic() - started,
        name,
        goal,
        lower,
        algorithm,
        max(run.waits, default=math.nan),
    )


def _checked(parameters: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    unknown = sorted(set(parameters) - set(HYPERPARAMETERS))
    if unknown:
        raise TrainingError(f"unknown search parameters {unknown}; known: {', '.join(HYPERPARAMETERS)}")
    try:
        return SearchRanges.model_validate({name: list(pair) for name, pair in parameters.items()}).given()
    except ValidationError as error:
        raise TrainingError("search parameters: " + "; ".join(item["msg"] for item in error.errors())) from error


def _first_points(
    first: Hyperparameters | Sequence[Hyperparameters] | None, ranges: Mapping[str, Sequence[float]]
) -> list[dict[str, float]]:
    """Those that name all parameters, each once; the others cannot be tried."""
    given = [first] if isinstance(first, Hyperparameters) else list(first or ())
    points = [{name: getattr(one, name) for name in ranges} for one in given]
    whole = [point for point in points if None not in point.values()]
    return [point for number, point in enumerate(whole) if point not in whole[:number]]


def _over(started: float, timeout: float | None) -> bool:
    return timeout is not None and time.monotonic() - started > timeout
