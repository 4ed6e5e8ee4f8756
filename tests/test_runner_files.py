"""``torch_model_runner -t -v -m -l --no_training``: train and val as two files, upstream's way, read and written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from obdb_lib.annotate.sources import restricted
from obdb_lib.checkpoints import load_checkpoint
from obdb_lib.cli.torch_model_runner import main
from obdb_lib.formats import detect_and_read, write
from obdb_lib.records import TaskRecord
from obdb_lib.splits import split_from_documents
from obdb_lib.stages import read_result
from obdb_lib.store import Store, open_store
from tests.helpers import task, write_frames
from tests.test_model_runner import NAMES, run_dir, settings_file

__all__ = ["run_dir"]
QUICK = {"mobilenet_v2": {"run_hpo": 0}, "max_train_epochs": 1}


@pytest.fixture
def files(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/train with upstream's two tables; one task has frames in both. Nothing of it is in the store."""
    folder = tmp_path / "train"
    (folder / "pickled_weed").mkdir(parents=True)
    records = [task(name, 2, {0: [("Fat hen", [10, 10, 40, 40])]}) for name in NAMES[:3]]
    write_frames(tmp_path / "weed_data", records)
    own = {"train": [*records[:2], part(records[2], 0)], "val": [part(records[2], 1)]}
    for name, found in own.items():
        write(found, folder / f"pickled_weed/pd_{name}_full_hd.pkl", "pickle")
    monkeypatch.setenv("OBDB_TRAIN", str(folder))
    monkeypatch.setenv("OBDB_WEED_DATA", str(tmp_path / "weed_data"))
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    return folder


def part(record: TaskRecord, number: int) -> TaskRecord:
    """One frame of a task."""
    return restricted(record, {record.meta["frames"][number]["name"]})


def test_default_files_are_taken_where_there_is_no_split(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = str(tmp_path / "empty")
    assert main(["-f", settings_file(tmp_path, **QUICK), "--run-dir", empty, "--no_training", "True"]) == 0
    told = capsys.readouterr().out
    assert "train and val from " in told
    assert "Fat hen" in told
    assert "best model" not in told
    assert not list((tmp_path / "empty").glob("models*"))


@pytest.mark.slow
def test_two_files_train(files: Path, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "own"
    given = ["-t", "/train/pickled_weed/pd_train_full_hd.pkl", "-v", "/train/pickled_weed/pd_val_full_hd.pkl"]
    assert main(["-f", settings_file(tmp_path, **QUICK), "--run-dir", str(folder), *given]) == 0
    (run,) = store.runs()
    assert (run["train_frames"], run["val_frames"]) == (5, 1)
    assert load_checkpoint(read_result(folder, "03_tune_and_train")["checkpoint"]).spec.classes == ("Fat hen",)
    assert store.task_names() == [], "nothing was stored but the run"


@pytest.mark.parametrize("ending", ["pkl", "parquet", "json"])
def test_new_dataset__the_split_as_two_files(
    ending: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = tmp_path / f"pd_train.{ending}", tmp_path / f"pd_val.{ending}"
    given = ["-f", settings_file(tmp_path, **QUICK), "--run-dir", str(run_dir), "-m", "True", "--no_training"]
    assert main([*given, "-t", str(train), "-v", str(val)]) == 0
    told = capsys.readouterr().out
    assert f"{train}: 6 frames" in told
    assert f"{val}: 2 frames" in told
    found = {file: detect_and_read(file).tasks for file in (train, val)}
    assert [len(found[train]), len(found[val])] == [3, 1]
    assert {record.name for tasks in found.values() for record in tasks} == set(NAMES)
    if ending == "pkl":
        table = pd.read_pickle(train)
        assert list(table["labels"].iloc[0]) == ["Fat hen"]
        assert table["img_path"].iloc[0].startswith("/weed_data/")


def test_list_of_tasks(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = detect_tasks(run_dir)
    wanted = settings_file(tmp_path, **QUICK, first_year_tasks=split, annotations_list=["no such task"])
    files = ["-t", str(tmp_path / "a.pkl"), "-v", str(tmp_path / "b.pkl")]
    given = ["-f", wanted, "--run-dir", str(run_dir), "-m", "--no_training", *files]
    assert main([*given, "-l", "first_year_tasks"]) == 0
    assert f"{tmp_path / 'a.pkl'}: 2 frames" in capsys.readouterr().out
    assert main(given) == 2
    assert "annotations_list: the snapshot has no task 'no such task'" in capsys.readouterr().err
    assert main([*given, "-l", "annotations_list_4k"]) == 2
    assert "-l annotations_list_4k: the list is empty" in capsys.readouterr().err


def detect_tasks(run_dir: Path) -> list[str]:
    """A task that trains and one that judges."""
    with open_store() as store:
        split = split_from_documents(*store.split(read_result(run_dir, "02_explore_and_split")["split_id"]))
        home = {f["name"]: name for name in store.task_names() for f in store.record(name).meta["frames"]}
    return [home[split.part(name)[0]] for name in ("train", "val")]


def test_mistakes(files: Path, tmp_path: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["-f", settings_file(tmp_path, **QUICK), "--no_training"]
    pickled = "/train/pickled_weed/pd_train_full_hd.pkl"
    for arguments, code, told in (
        (["-t", "/train/none.pkl"], 1, "none.pkl does not exist"),
        (["-t", pickled, "-v", pickled], 1, "5 frames stand in two lists"),
        (["-m", "-t", "a.txt", "-v", "b.txt", "--run-dir", str(run_dir)], 1, "its name must end in .pkl, .pickle"),
        (["-m", "--run-dir", str(tmp_path / "none")], 1, "02_explore_and_split has not been run yet"),
    ):
        assert main([*own, *arguments]) == code
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*own, "-m", "perhaps"])
    assert ended.value.code == 2
