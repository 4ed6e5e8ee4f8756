"""The command that trains: the same as notebook 03, with an exit code and clear words for mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.checkpoints import load_checkpoint, load_detector
from obdb_lib.cli.torch_model_runner import main
from obdb_lib.splits import by_groups
from obdb_lib.stages import read_result, write_result
from obdb_lib.store import Store
from obdb_lib.tuning import runs_table
from tests.conftest import PROJECT
from tests.helpers import task, write_frames

NAMES = [f"FieldData 2020052{day}145736 1L GH0{day}0068" for day in range(4)]
SETTINGS: dict[str, Any] = {
    "variants": ["mobilenet_v2"],
    "mobilenet_v2": {"run_hpo": 1},
    "image_size": 64,
    "max_train_epochs": 2,
    "fake_dataset_len": 4,
    "search_epochs": 1,
    "max_num_trials": 1,
    "sherpa_parameters": {"lr": [0.001, 0.02]},
}


@pytest.fixture
def run_dir(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which notebooks 01 and 02 have done their part."""
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    boxes = {frame: [("Fat hen", [10, 10, 40, 40])] for frame in range(2)}
    records = [task(name, 2, boxes) for name in NAMES]
    store.import_tasks(records)
    images = write_frames(tmp_path / "images", records)
    snapshot = store.load(store.snapshot())
    split = by_groups(snapshot, group_by=["video"], shares={"train": 0.75, "val": 0.25})
    store.save_split(*split.documents())
    chosen = {"snapshot_id": snapshot.id, "split_id": split.id, "image_roots": [str(images)]}
    folder = tmp_path / "run"
    folder.mkdir()
    write_result(folder, "02_explore_and_split", chosen)
    return folder


def settings_file(folder: Path, **changes: object) -> str:
    path = folder / "settings.json"
    path.write_text(json.dumps(SETTINGS | changes))
    return str(path)


@pytest.mark.slow
def test_command__searches_trains_and_records(
    run_dir: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings_file(tmp_path)
    assert main(["-f", given, "--run-dir", str(run_dir)]) == 0
    answer = read_result(run_dir, "03_tune_and_train")
    (document,) = store.runs()
    assert document["_id"] == answer["run_id"]
    assert answer["summary"]["trials"] == 1
    assert load_detector(answer["checkpoint"]).spec.classes == ("Fat hen",)
    assert {"mobilenet_v2_model.pth", "mobilenet_v2_settings.json"} <= {p.name for p in (run_dir / "models").iterdir()}
    own = Path(answer["checkpoint"]).parent
    record = json.loads((own / "record.json").read_text())
    assert record["settings"]["max_train_epochs"] == 2
    assert record["split_id"] == document["split_id"]
    assert record["hardware"] == document["hardware"]
    assert len((own / "history.csv").read_text().splitlines()) == 3
    row = runs_table(store.runs()).loc[answer["run_id"]]
    assert row["val mAP50"] == pytest.approx(answer["summary"]["val mAP50"])
    assert (row["epochs"], row["device"]) == (2, document["hardware"]["cpu"])
    assert row["images/s"] > 0
    assert "val mAP50" in capsys.readouterr().out


@pytest.mark.slow
def test_train_top__trains_the_best_in_full_once_and_tells_the_rank_correlation(
    run_dir: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings_file(tmp_path, max_train_epochs=1, max_num_trials=3, hpo_objective="val_loss")
    assert main(["-f", given, "--run-dir", str(run_dir)]) == 0
    assert "not enough pairs (1 of 3)" in capsys.readouterr().out
    alone = read_result(run_dir, "03_tune_and_train")["run_id"]
    for _ in range(2):  # the second time everything is there
        assert main(["-f", given, "--run-dir", str(run_dir), "--train-top", "3"]) == 0
        told = capsys.readouterr().out
        assert "over 3 settings" in told or "3 pairs: one side has one value only" in told
        runs = store.runs()
        assert alone in [run["_id"] for run in runs], "the best trial was not trained again"
        assert sorted(run["search"]["trial"] for run in runs) == [1, 2, 3]
        lrs = {row["trial"]: row["lr"] for row in stored_trials(run_dir)}
        assert all(run["hyperparameters"]["lr"] == lrs[run["search"]["trial"]] for run in runs)
        assert runs_table(runs)["from trial"].str.startswith("mobilenet_v2 ").all()
        answer = read_result(run_dir, "03_tune_and_train")
        assert answer["summary"]["val mAP50"] == max(run["best_map50"] for run in runs)
        kept = load_checkpoint(run_dir / "models" / "mobilenet_v2_model.pth")
        assert kept.run_id == answer["run_id"]


def stored_trials(folder: Path) -> list[dict[str, Any]]:
    record = json.loads((folder / "models" / "search" / "mobilenet_v2_trials.json").read_text())
    trials: list[dict[str, Any]] = record["trials"]
    return trials


def test_mistakes__all_at_once_with_an_exit_code(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = settings_file(tmp_path, max_train_epoch=3, batch_size=0)
    assert main(["-f", wrong, "--run-dir", str(run_dir)]) == 2
    told = capsys.readouterr().err
    assert "2 mistakes" in told
    assert "max_train_epochs" in told
    assert "batch_size" in told
    assert main(["-f", str(tmp_path / "none.json"), "--run-dir", str(run_dir)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    right = settings_file(tmp_path)
    assert main(["-f", right, "--run-dir", str(run_dir), "--variant", "resnet99"]) == 2
    assert "resnet99: not in" in capsys.readouterr().err
    assert main(["-f", right, "--run-dir", str(run_dir), "--train-top", "0"]) == 2
    assert "--train-top must be at least 1" in capsys.readouterr().err
    assert main(["-f", right, "--run-dir", str(tmp_path / "empty")]) == 1
    assert "02_explore_and_split has not been run yet" in capsys.readouterr().err


def test_what_is_not_there__is_told_before_any_work(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "models").write_text("no folder")
    assert main(["-f", settings_file(tmp_path), "--run-dir", str(run_dir)]) == 1
    assert "save_dir: " in capsys.readouterr().err
    assert not (run_dir / "tensorboard").exists()
    (run_dir / "models").unlink()
    lost = settings_file(tmp_path, mobilenet_v2={"pretrained_model_path": "lost.pth"})
    assert main(["-f", lost, "--run-dir", str(run_dir)]) == 2
    assert "mobilenet_v2.pretrained_model_path: lost.pth does not exist" in capsys.readouterr().err
    typo = settings_file(tmp_path, annotations_list=[NAMES[1][:-1]])
    assert main(["-f", typo, "--run-dir", str(run_dir)]) == 2
    assert f"the snapshot has no task {NAMES[1][:-1]!r} (did you mean {NAMES[1]!r}?)" in capsys.readouterr().err


def test_search_under_torchrun__is_refused(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["-f", settings_file(tmp_path), "--run-dir", str(run_dir)]) == 2
    assert "Search without torchrun first" in capsys.readouterr().err


def test_process__ends_with_the_code() -> None:
    command = [sys.executable, "-m", "obdb_lib.cli.torch_model_runner", "-f", "nowhere.json"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("torch_model_runner: settings file nowhere.json cannot be")


def test_runs_of_earlier_versions__have_gaps() -> None:
    table = runs_table([{"_id": "old", "variant": "resnet18", "best_map50": 0.5}])
    assert table.loc["old", "val mAP50"] == 0.5
    assert runs_table([]).empty
