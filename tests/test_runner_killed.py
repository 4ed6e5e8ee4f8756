"""The real command, killed with 9 in a trial, in a promoted trial and in the training: the results do not change.

Same machine, same seed, CPU. Everything random hangs on seed, epoch and step and a checkpoint holds every tensor whole,
so the numbers are the same to the last digit; TOLERANCE allows for sums in another order.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from obdb_lib.cli.torch_model_runner import main
from obdb_lib.stages import read_result, write_result
from obdb_lib.store import Store
from tests.conftest import PROJECT
from tests.test_model_runner import run_dir, settings_file

__all__ = ["run_dir"]

TOLERANCE = 1e-6
TIMES = ["seconds", "step_s", "wait_s", "wait_share", "images_per_s", "memory_mb", "judge_s"]
DEADLINE_S = 200.0


def command(settings: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "obdb_lib.cli.torch_model_runner", "-f", settings, "--run-dir", str(folder)]


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(arguments, cwd=PROJECT, stdout=log, stderr=log)


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not ready():
        assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
        assert time.monotonic() < deadline, "the moment to kill never came"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.wait(DEADLINE_S) == 0, (folder / "log.txt").read_text()[-2000:]


def trials_of(folder: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / "models" / "search" / "mobilenet_v2_trials.json").read_text())
    return stored


def in_trial(folder: Path, number: int, begun: Callable[[], bool]) -> Callable[[], bool]:
    """Trial ``number`` runs and has saved an epoch of its own."""

    def ready() -> bool:
        try:
            running = trials_of(folder)["running"]
        except FileNotFoundError:
            return False
        return running is not None and running["trial"] == number and begun()

    return ready


def assert_same_results(one: Path, other: Path, store: Store) -> None:
    first, second = (pd.DataFrame(trials_of(folder)["trials"]).drop(columns="seconds") for folder in (one, other))
    plain = first.drop(columns="curve")
    pd.testing.assert_frame_equal(plain, second.drop(columns="curve"), rtol=0, atol=TOLERANCE)
    for ours, theirs in zip(first["curve"], second["curve"], strict=True):
        assert [row[0] for row in ours] == [row[0] for row in theirs]
        assert [row[1] for row in ours] == pytest.approx([row[1] for row in theirs], abs=TOLERANCE)
    answers = [read_result(folder, "03_tune_and_train") for folder in (one, other)]
    histories = [pd.read_csv(Path(answer["checkpoint"]).parent / "history.csv") for answer in answers]
    assert len(histories[0]) == 3
    pd.testing.assert_frame_equal(*(h.drop(columns=TIMES) for h in histories), rtol=0, atol=TOLERANCE)
    settings = [json.loads((folder / "models" / "mobilenet_v2_settings.json").read_text()) for folder in (one, other)]
    assert settings[0] == pytest.approx(settings[1], abs=TOLERANCE)
    runs = {run["_id"]: run for run in store.runs()}
    documents = [runs[answer["run_id"]] for answer in answers]
    assert documents[0]["hyperparameters"] == pytest.approx(documents[1]["hyperparameters"], abs=TOLERANCE)
    assert documents[0]["search"] == pytest.approx(documents[1]["search"], abs=TOLERANCE)
    assert documents[0]["metrics"]["ap50"] == pytest.approx(documents[1]["metrics"]["ap50"], abs=TOLERANCE)
    assert not documents[1]["partial"]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["bayesian", "successive_halving"])
def test_command__killed_and_given_again_ends_as_if_undisturbed(
    algorithm: str, run_dir: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    halving = algorithm == "successive_halving"
    more = {
        "hpo_algorithm": algorithm,
        "hpo_objective": "val_loss",
        "val_loss": 1,
        "mobilenet_v2": {"run_hpo": 1, "pretrained": 0},
    }
    settings = settings_file(
        tmp_path, max_train_epochs=3, search_epochs=3, max_num_trials=4 if halving else 2, hpo_early_stopping=0, **more
    )
    killed = tmp_path / "killed"
    killed.mkdir()
    write_result(killed, "02_explore_and_split", read_result(run_dir, "02_explore_and_split"))
    assert main(["-f", settings, "--run-dir", str(run_dir)]) == 0, "undisturbed, and without a second start"
    search = killed / "models" / "search" / "mobilenet_v2"
    # A promoted trial goes on in a folder of its own, where its history begins with the epoch it was promoted after.
    file = search / "parts" / "4" / "mobilenet_v2_run.json" if halving else search / "mobilenet_v2_last.pth"
    number = 4 if halving else 2
    kill_when(start(command(settings, killed), killed), in_trial(killed, number, file.exists), killed)
    assert [row["trial"] for row in trials_of(killed)["trials"]] == list(range(1, number)), "it was in this trial"
    assert not (killed / "models" / "mobilenet_v2_last.pth").exists()
    if not halving:
        run, last = (killed / "models" / f"mobilenet_v2_{name}" for name in ("run.json", "last.pth"))
        kill_when(start(command(settings, killed), killed), lambda: run.exists() and last.exists(), killed)
        assert json.loads(run.read_text())["epochs_done"] < 3
        assert not (killed / "models" / "runs").exists()
    if halving:  # the same command once more, without the seconds that another start takes
        assert main(command(settings, killed)[3:]) == 0
    else:
        finish(start(command(settings, killed), killed), killed)
    log = (killed / "log.txt").read_text() + caplog.text
    assert f"trial {number} was cut off" in log
    assert "resume mobilenet_v2" in log
    assert_same_results(run_dir, killed, store)
