"""What decides about epochs and what a run tells: on_epoch, best_by, the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from obdb_lib import training
from obdb_lib.checkpoints import load_checkpoint
from obdb_lib.dataset import DetectionDataset
from obdb_lib.errors import TrainingError
from obdb_lib.models import Detector, build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.training import fit
from obdb_lib.validation import Judged
from tests.tiny_field import CLASSES
from tests.train_script import datasets

Data = tuple[DetectionDataset, DetectionDataset]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return datasets(tmp_path_factory.mktemp("field"))


def network() -> Detector:
    return build_detector("mobilenet_v2", CLASSES, image_size=64)


def options(epochs: int, **changes: object) -> TrainingOptions:
    return TrainingOptions(epochs=epochs, **{"batch_size": 4, "device": "cpu", "lr": 1e-4, **changes})


def test_on_epoch__gets_the_row_of_each_judged_epoch(tmp_path: Path, data: Data) -> None:
    rows: list[dict[str, float]] = []
    result = fit(network(), *data, options(3, judge_every=2, val_loss=True), save_dir=tmp_path, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [2, 3]
    for row in rows:
        stored = result.history[result.history["epoch"] == row["epoch"]].iloc[0].to_dict()
        assert row == stored
        assert {"val_ap50", "val_ap", "val_loss", "val_loss_classifier", "loss", "lr", "wait_share"} <= set(row)


class PrunedError(Exception):
    """What a search raises."""


def test_on_epoch__may_end_the_run_and_nothing_is_lost(tmp_path: Path, data: Data) -> None:
    def prune(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise PrunedError

    with pytest.raises(PrunedError):
        fit(network(), *data, options(4), save_dir=tmp_path, on_epoch=prune)
    assert load_checkpoint(tmp_path / "mobilenet_v2_last.pth").resume["state"]["epoch"] == 2
    assert (tmp_path / "mobilenet_v2_model.pth").exists()
    rest = fit(network(), *data, options(4), save_dir=tmp_path, resume=True)
    assert rest.history["epoch"].tolist() == [1, 2, 3, 4]


def judged_as(losses: list[float]) -> Callable[..., Judged]:
    """A judge whose val losses are those given, epoch by epoch."""
    given = iter(losses)
    judge = training.judge

    def stand_in(*arguments: object, **more: object) -> Judged:
        return Judged(judge(*arguments, **more).detections, {"val_loss": next(given)})

    return stand_in


def test_best_by_val_loss__keeps_the_lowest_and_stops_on_its_plateau(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "judge", judged_as([3.0, 1.0, 2.0, 1.5, 0.1]))
    wanted = options(9, best_by="val_loss", val_loss=True, max_plateau_count=2)
    result = fit(network(), *data, wanted, save_dir=tmp_path)
    assert len(result.history) == 4
    assert result.settings["best_epoch"] == 2
    assert load_checkpoint(tmp_path / "mobilenet_v2_model.pth").metrics["epoch"] == 2


def test_wrong_choices__are_refused() -> None:
    with pytest.raises(TrainingError, match=r"clip_norm must be above 0.*best_by must be one of val_ap50, .*'ap'"):
        TrainingOptions(epochs=1, clip_norm=0, best_by="ap")
    with pytest.raises(TrainingError, match="needs val_loss switched on"):
        TrainingOptions(epochs=1, best_by="val_loss")


def test_record__tells_machine_versions_seed_and_metrics_also_after_a_resume(tmp_path: Path, data: Data) -> None:
    fit(network(), *data, options(2, lr=0.02, seed=5), save_dir=tmp_path, stop=lambda: False)
    first = json.loads((tmp_path / "mobilenet_v2_run.json").read_text())
    again = fit(network(), *data, options(2, lr=0.02, seed=5), save_dir=tmp_path, resume=True)
    assert first["seed"] == 5
    assert first["versions"]["torch"] == torch.__version__
    assert first["hardware"]["device"] == "cpu"
    assert first["hardware"]["cores"] >= 1
    assert len(first["hardware"]["cpu"]) > 2
    assert [row["object_class"] for row in first["metrics"]["per_class"]] == list(CLASSES)
    assert first["metrics"]["ap50"] == first["best_ap50"]
    assert first["images_per_s"] > 0
    assert first["augmentation"]["scale"] == [0.8, 1.25]
    assert again.settings["metrics"] == first["metrics"]
