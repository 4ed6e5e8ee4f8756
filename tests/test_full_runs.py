"""From trials to full trainings: which are trained, which stays, and whether the short ones may be believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from obdb_lib.errors import TrainingError
from obdb_lib.full_runs import agreement, conditions_of, take_over, top_trials, trial_of
from obdb_lib.search_record import SUFFIX

DATA = {"snapshot_id": "s1", "split_id": "p1", "variant": "mobilenet_v2", "image_size": 96}
FIXED = {"lr": None, "momentum": 0.9, "weight_decay": 1e-4, "step_size": 3, "gamma": 0.1}
SHORT = {0.01: 0.5, 0.02: 0.4, 0.03: 0.3, 0.04: 0.2, 0.05: 0.1}
"""val mAP50 of the trials by lr."""


def record(folder: Path, *, lower: bool = False, **changes: Any) -> Path:
    rows = [
        {"trial": n, "lr": lr, "objective": value, "status": "COMPLETED", "epochs": 2}
        for n, (lr, value) in enumerate(SHORT.items(), 1)
    ]
    rows.append({"trial": 6, "lr": 0.06, "objective": 0.9, "status": "STOPPED", "epochs": 1})
    rows.append({"trial": 7, "lr": 0.07, "objective": None, "status": "FAILED", "epochs": 0})
    plain = {
        **DATA,
        "study": "mobilenet_v2",
        "objective": "val_loss" if lower else "val_map",
        "lower_is_better": lower,
        "ranges": {"lr": [0.001, 0.1]},
        "fixed": FIXED,
        "trials": rows,
        **changes,
    }
    path = folder / f"mobilenet_v2{SUFFIX}"
    path.write_text(json.dumps(plain))
    return path


def run(lr: float, map50: float | None, **changes: Any) -> dict[str, Any]:
    options = {**FIXED, "lr": lr, "epochs": 30, "batch_size": 4, **changes.get("options", {})}
    return {"_id": f"run-{lr}", **DATA, "best_map50": map50, "partial": False, **changes, "options": options}


CONDITIONS = conditions_of(run(0.01, 0.5))


def test_correlation__is_of_the_trials_that_were_trained_in_full(tmp_path: Path) -> None:
    documents = [run(0.01, 0.7), run(0.01, 0.9), run(0.02, 0.85), run(0.03, 0.6), run(0.04, 0.65)]
    found, pairs = agreement(record(tmp_path), documents, CONDITIONS)
    assert pairs.to_dict("list") == {
        "trial": [1, 2, 3, 4],
        "short": [0.5, 0.4, 0.3, 0.2],
        "full": [pytest.approx(0.8), 0.85, 0.6, 0.65],  # two seeds of the first: their mean
    }
    assert (found.pairs, found.spearman) == (4, pytest.approx(0.6))
    assert "over 4 settings" in found.text
    assert "only the best of 5 trials" in found.text
    spread, _ = agreement(record(tmp_path), [run(0.01, 0.9), run(0.03, 0.6), run(0.05, 0.3)], CONDITIONS)
    assert spread.spearman == 1.0
    assert "only the best" not in spread.text


def test_losses__turn_their_sign(tmp_path: Path) -> None:
    """The lowest loss is the best trial: with the highest mAP in full, the two agree."""
    documents = [run(0.05, 0.9), run(0.04, 0.8), run(0.03, 0.7)]
    found, pairs = agreement(record(tmp_path, lower=True), documents, CONDITIONS)
    assert found.spearman == 1.0
    assert pairs["short"].tolist() == [-0.1, -0.2, -0.3]


@pytest.mark.parametrize(
    "other",
    [
        {"snapshot_id": "s2"},
        {"split_id": "p2"},
        {"variant": "resnet18"},
        {"image_size": 320},
        {"partial": True},
        {"best_map50": None},
        {"options": {"epochs": 3}},
        {"options": {"batch_size": 2}},
        {"options": {"momentum": 0.8}},
        {"options": {"lr": 0.06}},  # of a trial that was stopped early
        {"options": {"lr": 0.0100001}},
    ],
)
def test_runs_that_cannot_be_compared__make_no_pair(tmp_path: Path, other: dict[str, Any]) -> None:
    documents = [run(0.02, 0.8), run(0.03, 0.7), run(0.01, 0.9, **other)]
    found, pairs = agreement(record(tmp_path), documents, CONDITIONS)
    assert pairs["trial"].tolist() == [2, 3]
    assert found.pairs == 2
    assert (
        "not enough pairs (2 of 3). Of the 5 whole trials of study mobilenet_v2, 2 were trained in full" in found.text
    )
    assert "TRAIN_TOP = 3 in notebook 03 (--train-top 3)" in found.text


def test_no_search_or_too_small_a_one__says_what_to_do(tmp_path: Path) -> None:
    none, _ = agreement(tmp_path / "x.json", [], CONDITIONS)
    assert "no search is recorded for this split (set run_hpo to 1" in none.text
    elsewhere, _ = agreement(record(tmp_path, split_id="p2"), [run(0.01, 0.5)], CONDITIONS)
    assert elsewhere.pairs == 0
    small = record(tmp_path, trials=[{"trial": 1, "lr": 0.01, "objective": 0.5, "status": "COMPLETED", "epochs": 2}])
    text = agreement(small, [run(0.01, 0.5)], CONDITIONS)[0].text
    assert "not enough pairs (1 of 3)" in text
    assert "a search of more trials (max_num_trials)" in text


def test_trial_of__names_where_the_hyperparameters_came_from(tmp_path: Path) -> None:
    record(tmp_path)
    found = trial_of(tmp_path, run(0.02, 0.8))
    assert found == {
        "study": "mobilenet_v2",
        "trial": 2,
        "objective": "val_map",
        "lower_is_better": False,
        "value": 0.4,
        "epochs": 2,
    }
    assert trial_of(tmp_path, run(0.021, 0.8)) is None
    assert trial_of(tmp_path, run(0.02, 0.8, split_id="p2")) is None
    assert trial_of(tmp_path / "nowhere", run(0.02, 0.8)) is None
    (tmp_path / f"newer{SUFFIX}").write_text("{damaged")
    assert trial_of(tmp_path, run(0.02, 0.8)) == found, "a damaged record costs no finished training"


def test_top_trials__whole_ones_first_and_each_setting_once() -> None:
    rows = [
        (1, 0.01, 3, 0.3, "COMPLETED", 4),
        (2, 0.02, 3, 0.5, "COMPLETED", 4),
        (3, 0.02, 3, 0.4, "COMPLETED", 4),
        (4, 0.04, 3, 0.9, "STOPPED", 1),
        (5, 0.05, 3, float("nan"), "FAILED", 0),
    ]
    trials = pd.DataFrame(rows, columns=["trial", "lr", "step_size", "objective", "status", "epochs"])
    assert [one.lr for one in top_trials(trials, 9)] == [0.02, 0.01, 0.04]
    assert [one.lr for one in top_trials(trials, 2, lower_is_better=True)] == [0.01, 0.02]
    best = top_trials(trials, 1)[0]
    assert (best.best_value, best.step_size) == (0.5, 3)
    with pytest.raises(TrainingError, match="at least 1 trial"):
        top_trials(trials, 0)


def test_take_over__keeps_the_other_runs_model(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v_model.pth").write_text(name)
        (tmp_path / name / "v_run.json").write_text(json.dumps({"run_id": name, "options": {"lr": name}}))
    source, target = tmp_path / "one", tmp_path / "two"
    take_over(source, target, "v", only={"lr": "another"})
    assert (target / "v_model.pth").read_text() == "two"
    for _ in range(2):  # the second time nothing is new, so nothing is put aside
        take_over(source, target, "v")
        assert (target / "v_model.pth").read_text() == "one"
        assert (target / "v_model_previous.pth").read_text() == "two"
