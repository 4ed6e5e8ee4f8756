"""Promoted trials of successive halving go on from their checkpoint, and end where a trial in one go would."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdb_lib.hpo import search
from obdb_lib.models import build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.search_objective import ContinuedObjective, TrainingObjective, training_objective
from obdb_lib.settings import Hyperparameters
from tests.tiny_field import CLASSES
from tests.train_script import TRAIN, datasets

STEPS = TRAIN // 2
"""Steps an epoch."""
TOLERANCE = 1e-6
"""Of a loss: a checkpoint holds every tensor whole, so only the order of sums on another core count may differ."""


class Bench:
    """A real objective of three epochs that counts its steps."""

    def __init__(self, folder: Path, name: str = "val_loss") -> None:
        self.steps = 0
        train, judge = datasets(folder.parent / "field")
        self.objective: TrainingObjective = training_objective(
            lambda: build_detector("mobilenet_v2", CLASSES, image_size=64, pretrained=False),
            train,
            judge,
            TrainingOptions(epochs=3, batch_size=2, device="cpu", lr=0.01),
            work_dir=folder,
            objective=name,
            stop=self.count,
        )

    def count(self) -> bool:
        self.steps += 1
        return False


@pytest.mark.parametrize("name", ["val_loss", "train_loss"])
def test_trial_in_parts__equals_one_in_one_go_and_trains_no_epoch_twice(tmp_path: Path, name: str) -> None:
    curves: list[list[float]] = [[], [], []]
    given = Hyperparameters(lr=0.02)  # on the cosine, which reaches over the whole trial

    def into(number: int):
        def report(epoch: int, value: float) -> bool:
            curves[number].append(value)
            assert len(curves[number]) == epoch
            return False

        return report

    parts, whole = Bench(tmp_path / "parts", name), Bench(tmp_path / "whole", name)
    assert isinstance(parts.objective, ContinuedObjective)
    parts.objective.go_on(given, into(0), 1, load_from="", save_to="1")
    assert parts.steps == STEPS
    value = parts.objective.go_on(given, into(1), 3, load_from="1", save_to="2")
    assert parts.steps == 3 * STEPS, "the second part trained two epochs"
    expected = whole.objective.go_on(given, into(2), 3, load_from="", save_to="1")
    assert value == pytest.approx(expected, abs=TOLERANCE)
    assert curves[1] == pytest.approx(curves[2], abs=TOLERANCE)
    assert curves[0] == curves[1][:1]
    if name == "val_loss":  # a lost checkpoint costs time alone
        parts.objective.forget()
        curves[1].clear()
        again = parts.objective.go_on(given, into(1), 3, load_from="1", save_to="2")
        assert parts.steps == 6 * STEPS
        assert again == pytest.approx(expected, abs=TOLERANCE)


def test_search__gives_each_promoted_trial_its_own_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "parts")
    seen: list[tuple[str, str, float]] = []
    whole = bench.objective.go_on

    def noted(hyperparameters, report, epochs, *, load_from, save_to):
        seen.append((load_from, save_to, hyperparameters.lr))
        return whole(hyperparameters, report, epochs, load_from=load_from, save_to=save_to)

    bench.objective.go_on = noted
    found = search(bench.objective, {"lr": [1e-3, 5e-2]}, max_num_trials=4, seed=0, algorithm="successive_halving")
    trials = found.trials
    best = trials.loc[trials["objective"][:3].idxmin()]
    assert [names[:2] for names in seen] == [("", "1"), ("", "2"), ("", "3"), (str(best["trial"]), "4")]
    assert seen[3][2] == best["lr"]
    assert trials["epochs"].tolist() == [1, 1, 1, 3]
    assert bench.steps == 5 * STEPS, "three trials of one epoch and two more of the promoted one"
    assert found.best.lr == best["lr"]
