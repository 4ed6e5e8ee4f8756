"""Studies: killed ones go on, trials that are behind end early, every algorithm runs, losses are made small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib.early_stopping import EarlyStopping
from obdb_lib.errors import CacheError, TrainingError
from obdb_lib.hpo import search
from obdb_lib.paths import PROJECT_ROOT
from obdb_lib.search_algorithms import ALGORITHMS
from obdb_lib.search_record import studies
from obdb_lib.settings import Hyperparameters, load_hyperparameters
from tests.search_script import EPOCHS, TRIALS, Hill

RANGES = {"lr": [1e-4, 1.0], "momentum": [0.1, 0.9]}


def test_kill_nine_in_the_middle_of_a_trial__then_the_same_command_gives_the_same_result(tmp_path: Path) -> None:
    def command(folder: Path, pause: str) -> list[str]:
        return [sys.executable, "-m", "tests.search_script", str(folder), pause]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, "0"), cwd=PROJECT_ROOT, env=environment, check=True, timeout=300)
    process = subprocess.Popen(command(killed, "0.2"), cwd=PROJECT_ROOT, env=environment)
    noted = killed / "epochs.txt"
    deadline = time.monotonic() + 240
    # Trials 1 to 4 have 4 epochs each at most; the 18th line lies inside a trial that the model suggested.
    while time.monotonic() < deadline and not (noted.exists() and len(noted.read_text().splitlines()) >= 18):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = json.loads((killed / "hill_trials.json").read_text())
    assert 4 <= len(stored["trials"]) < TRIALS
    running = stored["running"]
    assert running["trial"] == len(stored["trials"]) + 1
    assert studies(killed)["running"].tolist() == [running["trial"]]
    assert not (killed / "answer.json").exists()
    seen = len(noted.read_text().splitlines())
    subprocess.run(command(killed, "0"), cwd=PROJECT_ROOT, env=environment, check=True, timeout=300)
    again = noted.read_text().splitlines()[seen]
    assert again == f"{running['parameters']['lr']!r} 1", "the trial is begun again with the same parameters"
    assert json.loads((killed / "answer.json").read_text()) == json.loads((whole / "answer.json").read_text())
    best = [load_hyperparameters(folder / "hill_settings.json") for folder in (killed, whole)]
    assert best[0] == best[1]
    assert studies(killed)[["study", "trials"]].values.tolist() == [["hill", TRIALS]]


def test_trials_that_are_behind__end_early_and_never_win(tmp_path: Path) -> None:
    rule = EarlyStopping(warmup_epochs=1, min_trials=3)
    result = search(Hill(tmp_path), RANGES, max_num_trials=10, seed=0, algorithm="random", early_stopping=rule)
    trials = result.trials
    stopped = trials[trials["status"] == "STOPPED"]
    assert len(stopped)
    assert (stopped["epochs"] < EPOCHS).all()
    assert (trials[trials["status"] == "COMPLETED"]["epochs"] == EPOCHS).all()
    epochs_run = len((tmp_path / "epochs.txt").read_text().splitlines())
    assert epochs_run == trials["epochs"].sum() < 10 * EPOCHS
    whole = search(Hill(tmp_path), RANGES, max_num_trials=10, seed=0, algorithm="random").trials
    assert whole["epochs"].tolist() == [EPOCHS] * 10
    assert whole["objective"].max() == pytest.approx(result.best.best_value), "the best trial was not stopped"


def test_rule__compares_at_the_same_epoch() -> None:
    rows = [(1, 1, 0.2), (1, 2, 0.8), (2, 1, 0.3), (2, 2, 0.9), (3, 1, 0.4), (3, 2, 0.7), (4, 1, 0.35)]
    results = pd.DataFrame(rows, columns=["Trial-ID", "Iteration", "Objective"]).assign(Status="INTERMEDIATE")
    rule = EarlyStopping(warmup_epochs=1, min_trials=3)
    assert not rule.behind(results, 4, lower_is_better=False), ".35 is above the .3 of epoch 1, whatever came later"
    assert rule.behind(results, 4, lower_is_better=True)
    assert not EarlyStopping(warmup_epochs=2, min_trials=3).behind(results, 4, lower_is_better=True)
    assert not EarlyStopping(warmup_epochs=1, min_trials=4).behind(results, 4, lower_is_better=True)
    assert not EarlyStopping(percentile=20, warmup_epochs=1, min_trials=3).behind(results, 1, lower_is_better=False)
    with pytest.raises(TrainingError, match="percentile between 0 and 100"):
        EarlyStopping(percentile=100)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm__runs_a_study_begins_with_the_known_point_and_repeats(algorithm: str, tmp_path: Path) -> None:
    known = Hyperparameters(lr=0.02, momentum=0.95)  # moved into the range
    found = [
        search(
            Hill(tmp_path),
            RANGES,
            max_num_trials=8,
            seed=1,
            algorithm=algorithm,
            first=known,
            num_initial_data_points=4,
        )
        for _ in range(2)
    ]
    trials = found[0].trials
    assert trials.loc[0, ["lr", "momentum"]].tolist() == pytest.approx([0.02, 0.9])
    assert (trials["status"] == "COMPLETED").all()
    assert trials["lr"].between(*RANGES["lr"]).all()
    pd.testing.assert_frame_equal(trials.drop(columns="seconds"), found[1].trials.drop(columns="seconds"))
    if algorithm != "successive_halving":
        assert found[0].best.best_value == trials["objective"].max()
    else:
        assert set(trials["epochs"]) == {1, 3}
        assert found[0].best.best_value == trials[trials["epochs"] == 3]["objective"].max()


def test_models_beat_chance(tmp_path: Path) -> None:
    def tops(algorithm: str) -> float:
        seeds = range(4)
        runs = [search(Hill(tmp_path), RANGES, max_num_trials=12, seed=s, algorithm=algorithm) for s in seeds]
        return float(np.mean([run.best.best_value for run in runs]))

    assert tops("bayesian") > 0.99
    assert tops("tpe") > tops("random") - 0.02


def test_losses__are_made_small(tmp_path: Path) -> None:
    class Loss(Hill):
        def by_epoch(self, hyperparameters, report, epochs):
            lowest = np.inf

            def turned(epoch: int, value: float) -> bool:
                nonlocal lowest
                lowest = min(lowest, 1 - value)
                return report(epoch, 1 - value)

            super().by_epoch(hyperparameters, turned, epochs)
            return lowest

    objective = Loss(tmp_path, name="val_loss", lower_is_better=True)
    record = tmp_path / "loss_trials.json"
    result = search(objective, RANGES, max_num_trials=8, seed=0, record=record)
    assert result.lower_is_better
    assert result.best.best_value == result.trials["objective"].min() < 0.1
    (study,) = studies(tmp_path).to_dict("records")
    assert (study["study"], study["objective"], study["best"]) == ("loss", "val_loss", result.best.best_value)


def test_wrong_requests__are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="unknown search algorithm 'bayes'; known: bayesian, gpyopt"):
        search(Hill(tmp_path), RANGES, max_num_trials=2, seed=0, algorithm="bayes")
    with pytest.raises(TrainingError, match="reports by epoch"):
        search(lambda h: 0.5, RANGES, max_num_trials=2, seed=0, algorithm="successive_halving")
    (tmp_path / "x_trials.json").write_text("[]")
    with pytest.raises(CacheError, match="no record of a search"):
        studies(tmp_path)


def test_trial_that_was_cut_off__is_begun_with_the_recorded_parameters(tmp_path: Path) -> None:
    """Not with what the algorithm would say now: another machine's last digits must not change a trial half-way."""
    record = tmp_path / "hill_trials.json"
    search(Hill(tmp_path), RANGES, max_num_trials=2, seed=0, record=record)
    stored = json.loads(record.read_text())
    stored["running"] = {"trial": 3, "parameters": {"lr": 0.0123, "momentum": 0.5}}
    record.write_text(json.dumps(stored))
    trials = search(Hill(tmp_path), RANGES, max_num_trials=4, seed=0, record=record).trials
    assert trials.loc[2, ["lr", "momentum"]].tolist() == [0.0123, 0.5]
    assert trials.loc[3, "lr"] != 0.0123
