"""The search: finds the best of a known hill, repeats by seed, survives failures, resumes, stays on the loopback."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from obdb_lib.dataset import DetectionDataset
from obdb_lib.errors import TrainingError
from obdb_lib.hpo import importance, search, training_objective
from obdb_lib.models import build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.search_algorithms import make_algorithm
from obdb_lib.search_run import make_study
from obdb_lib.search_space import Space
from obdb_lib.settings import Hyperparameters, SearchRanges, load_hyperparameters
from obdb_lib.sherpa_door import load_sherpa, study_class
from tests.tiny_field import CLASSES, make_field

RANGES = {"lr": [1e-5, 1.0], "momentum": [0.1, 0.9]}


def random_study(port: int | None = None) -> Any:
    space = Space({"lr": [0.1, 1.0]})
    return make_study(space, make_algorithm("random", space, seed=0, max_num_trials=3), dashboard_port=port)


def hill(values: Hyperparameters) -> float:
    """1 at lr .01 and momentum .6, falling off by the exponent of lr."""
    assert values.lr is not None
    assert values.momentum is not None
    return 1 - (math.log10(values.lr) + 2) ** 2 / 9 - (values.momentum - 0.6) ** 2


def test_bayesian_search__comes_near_the_top(tmp_path: Path) -> None:
    path = tmp_path / "resnet18_settings.json"
    result = search(hill, RANGES, max_num_trials=12, seed=1, settings_path=path)
    assert len(result.trials) == 12
    assert result.trials["objective"].max() == result.best.best_value
    assert result.best.best_value is not None
    assert result.best.best_value > 0.93
    assert not result.partial
    written = load_hyperparameters(path)
    assert written == result.best
    assert json.loads(path.read_text())["step_size"] is False


def test_model_trials__beat_the_random_ones() -> None:
    trials = search(hill, RANGES, max_num_trials=12, seed=3).trials
    assert trials["objective"][6:].mean() > trials["objective"][:3].mean()


def test_log_scale__spreads_lr_over_its_exponents() -> None:
    trials = search(hill, RANGES, max_num_trials=12, seed=0, algorithm="random").trials
    assert 2 <= (trials["lr"] < 1e-3).sum() <= 10


def test_same_seed__same_trials_whatever_else_throws_dice() -> None:
    def noisy(values: Hyperparameters) -> float:
        np.random.rand(3)
        return hill(values)

    np.random.seed(5)
    first = search(hill, RANGES, max_num_trials=5, seed=2).trials
    np.random.seed(6)
    before = np.random.get_state()[1].copy()
    second = search(noisy, RANGES, max_num_trials=5, seed=2).trials
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))
    assert not search(hill, RANGES, max_num_trials=2, seed=9).trials["lr"].equals(first["lr"][:2])
    np.random.seed(6)
    search(hill, RANGES, max_num_trials=2, seed=9)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


def test_all_five_parameters_of_upstream__with_whole_step_sizes() -> None:
    ranges = SearchRanges(
        lr=[5e-6, 1e-3], weight_decay=[1e-5, 0.9], momentum=[0.1, 0.9], step_size=[1, 5], gamma=[0.01, 0.5]
    )
    trials = search(lambda v: -abs((v.step_size or 0) - 3), ranges, max_num_trials=8, seed=0).trials
    assert set(trials["step_size"]) <= {1, 2, 3, 4, 5}
    for name, (low, high) in ranges.given().items():
        assert trials[name].between(low, high).all()


def test_first__is_tried_first_so_that_the_end_is_not_below_it() -> None:
    known = Hyperparameters(lr=0.01, momentum=0.6)
    result = search(hill, RANGES, max_num_trials=3, seed=0, first=known)
    assert result.trials.loc[0, "lr"] == pytest.approx(0.01)
    assert result.best.best_value == pytest.approx(1.0)


def test_failing_trials__are_noted_and_the_search_goes_on() -> None:
    count = 0

    def sometimes(values: Hyperparameters) -> float:
        nonlocal count
        count += 1
        if count == 2:
            raise TrainingError("the loss is not finite")
        return math.nan if count == 3 else hill(values)

    trials = search(sometimes, RANGES, max_num_trials=6, seed=1).trials
    assert trials["status"].tolist() == ["COMPLETED", "FAILED", "FAILED", "COMPLETED", "COMPLETED", "COMPLETED"]
    assert "not finite" in trials.loc[1, "note"]
    with pytest.raises(TrainingError, match="no successful trial"):
        search(lambda v: math.nan, RANGES, max_num_trials=2, seed=0)


def test_record__continues_where_it_stopped(tmp_path: Path) -> None:
    whole = search(hill, RANGES, max_num_trials=6, seed=4).trials
    record = tmp_path / "study.json"
    part = search(hill, RANGES, max_num_trials=6, seed=4, record=record, stop=lambda: _recorded(record) >= 4)
    assert part.partial
    assert len(part.trials) == 4
    calls: list[float] = []
    rest = search(lambda v: calls.append(0) or hill(v), RANGES, max_num_trials=6, seed=4, record=record)
    assert len(calls) == 2
    pd.testing.assert_frame_equal(rest.trials.drop(columns="seconds"), whole.drop(columns="seconds"), rtol=1e-6)
    other = search(hill, RANGES, max_num_trials=2, seed=4, record=record, data_key="another snapshot")
    assert len(other.trials) == 2
    assert _recorded(tmp_path / "study_previous.json") == 6


def _recorded(record: Path) -> int:
    return len(json.loads(record.read_text())["trials"]) if record.exists() else 0


def test_interrupt_and_timeout__keep_what_was_earned() -> None:
    count = 0

    def impatient(values: Hyperparameters) -> float:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return hill(values)

    result = search(impatient, RANGES, max_num_trials=9, seed=0)
    assert result.partial
    assert len(result.trials) == 2
    result = search(hill, RANGES, max_num_trials=500, seed=0, timeout=0.3)
    assert result.partial
    assert 1 <= len(result.trials) < 500


def test_wrong_arguments__are_named() -> None:
    with pytest.raises(TrainingError, match="at least one parameter"):
        search(hill, {}, max_num_trials=3, seed=0)
    with pytest.raises(TrainingError, match="learning_rate"):
        search(hill, {"learning_rate": [0.1, 0.2]}, max_num_trials=3, seed=0)
    with pytest.raises(TrainingError, match="low < high"):
        search(hill, {"lr": [0.3, 0.2]}, max_num_trials=3, seed=0)


def test_importance__finds_the_parameter_that_matters() -> None:
    trials = search(lambda v: -abs(math.log10(v.lr or 1)), RANGES, max_num_trials=10, seed=0, algorithm="random").trials
    assert importance(trials, list(RANGES)).index[0] == "lr"


def test_importing_sherpa__leaves_logging_alone() -> None:
    code = (
        "import logging; from obdb_lib import hpo; from obdb_lib.sherpa_door import load_sherpa; load_sherpa();"
        "root = logging.getLogger(); assert not root.handlers and root.level == logging.WARNING, root.handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_dashboard__answers_on_the_loopback_only_and_without_debugger() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    study = random_study(port)
    try:
        trial = study.get_suggestion()
        study.add_observation(trial, 0.4)
        study.finalize(trial)
        page = ""
        for _ in range(100):
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
                break
            except OSError:
                study.dashboard_process.join(0.1)
        assert "Trial-ID" in page
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        places = {row[1] for row in listening if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
        assert places == {f"0100007F:{port:04X}"}
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/console", timeout=5)
    finally:
        study.close()
    assert not study.dashboard_process.is_alive()


def test_stored_study_pickles__are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="pickles"):
        study_class().load_dashboard(str(tmp_path))


def test_study__repeats_sherpas_own_answers() -> None:
    study = random_study()
    assert study.get_best_result() == {}
    sherpa = load_sherpa()
    for number, value in ((1, 0.3), (2, 0.7), (3, math.nan)):
        trial = sherpa.Trial(number, {"lr": number / 10})
        study.add_observation(trial, value)
        study.finalize(trial)
    assert study.get_best_result()["Trial-ID"] == 2
    assert study.results["Status"].tolist()[-1] == "FAILED"
    with pytest.raises(TrainingError, match="already"):
        study.add_observation(trial, 0.1)
    with pytest.raises(TrainingError, match="no observation"):
        study.finalize(sherpa.Trial(9, {"lr": 0.1}))


def test_real_trials__train_and_judge(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path / "images", 8, size=(64, 64))
    options = {"image_size": 64, "cache_dir": tmp_path / "cache"}
    train = DetectionDataset(frames, img_paths[:5], truth, CLASSES, **options)
    judge = DetectionDataset(frames, img_paths[5:], truth, CLASSES, **options)
    objective = training_objective(
        lambda: build_detector("mobilenet_v2", CLASSES, image_size=64),
        train,
        judge,
        TrainingOptions(epochs=4, batch_size=2, device="cpu"),
        work_dir=tmp_path / "trials",
    )
    result = search(objective, {"lr": [1e-4, 0.02]}, max_num_trials=3, seed=0)
    assert result.trials["status"].tolist() == ["COMPLETED"] * 3
    assert result.trials["objective"].between(0, 1).all()
    again = search(objective, {"lr": [1e-4, 0.02]}, max_num_trials=1, seed=0)
    assert again.trials.loc[0, "objective"] == result.trials.loc[0, "objective"]
    assert result.objective == "val_map"
    assert result.trials["epochs"].tolist() == [4] * 3

    told: list[tuple[int, float]] = []
    values = Hyperparameters(lr=0.01)
    loss = replace(objective, name="val_loss")
    best = loss.by_epoch(values, lambda epoch, value: told.append((epoch, value)) or epoch == 2, 4)
    assert [epoch for epoch, _ in told] == [1, 2], "training ends soon after it was asked to"
    assert best == min(value for _, value in told) > 0
    with pytest.raises(KeyboardInterrupt):
        replace(objective, stop=lambda: True)(values)
    learnt = replace(objective, name="train_loss")(values)
    history = pd.read_csv(tmp_path / "trials" / "mobilenet_v2_summary.csv")
    assert learnt == pytest.approx(history["loss"].min())
    with pytest.raises(TrainingError, match="unknown objective 'map'"):
        training_objective(objective.make_detector, train, judge, objective.options, work_dir=tmp_path, objective="map")
