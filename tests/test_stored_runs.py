"""A stored run is found by its id, its folder or its save_dir, and judged on the val frames of its own split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cli import test_model as command
from obdb_lib.cli import torch_model_runner as runner
from obdb_lib.errors import CacheError, DatasetError
from obdb_lib.splits import by_groups
from obdb_lib.stages import write_result
from obdb_lib.store import Store
from obdb_lib.stored_runs import find_run
from tests.helpers import task, write_frames

NAMES = [f"FieldData 2020052{day}145736 1L GH0{day}0068" for day in range(4)]
SETTINGS: dict[str, Any] = {
    "variants": ["mobilenet_v2"],
    "image_size": 64,
    "max_train_epochs": 1,
    "metrics_confidence_range_small": [0.3],
}


def document(run_id: str, model: Path, created: str, **more: object) -> dict[str, Any]:
    return {"_id": run_id, "created": created, "checkpoint": str(model), "snapshot_id": "s", "split_id": "p", **more}


def save(folder: Path, run_id: str, created: str, **more: object) -> Path:
    """``folder/runs/<id>`` as a training leaves it, with an empty model."""
    own = folder / "runs" / run_id
    own.mkdir(parents=True)
    (own / f"{run_id}.pth").write_bytes(b"")
    # What the record says of the place is that of the machine that trained; the folder may have been copied.
    (own / "record.json").write_text(json.dumps(document(run_id, Path("/elsewhere/model.pth"), created, **more)))
    return own


def test_found_by_id_folder_and_save_dir(store: Store, tmp_path: Path) -> None:
    own = save(tmp_path, "first-1", "2026-01-01T00:00:00", settings=SETTINGS)
    newer = save(tmp_path, "second-2", "2026-01-02T00:00:00")
    store.save_run(document("first-1", own / "first-1.pth", "2026-01-01T00:00:00"))
    assert find_run(store, "first-1").model == own / "first-1.pth"
    found = find_run(store, str(own))
    assert (found.id, found.model) == ("first-1", own / "first-1.pth"), "where it lies now"
    assert found.settings is not None
    assert found.settings.image_size == 64
    newest = find_run(store, str(tmp_path))
    assert (newest.id, newest.model, newest.settings) == ("second-2", newer / "second-2.pth", None)


def test_what_cannot_be_found_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no runs yet; notebook 03"):
        find_run(store, "mobilenet_v2-1")
    for number in range(7):
        store.save_run(document(f"mobilenet_v2-{number}", tmp_path / "gone.pth", f"2026-01-0{number + 1}"))
    with pytest.raises(DatasetError, match=r"Did you mean 'mobilenet_v2-3'\? There are .* and 2 more"):
        find_run(store, "mobilenet_v2-3 ")
    with pytest.raises(DatasetError, match=r"model of run mobilenet_v2-0 is gone: .*gone.pth does not exist"):
        find_run(store, "mobilenet_v2-0")
    with pytest.raises(DatasetError, match=r"holds no trained run: neither record.json nor runs/"):
        find_run(store, str(tmp_path))
    (save(tmp_path, "odd", "2026") / "record.json").write_text("[]")
    with pytest.raises(CacheError, match=r"record.json is no record of a run"):
        find_run(store, str(tmp_path))


@pytest.fixture
def trained(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The save_dir of a short training through the command that trains; only two of four tasks were asked for."""
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    records = [task(name, 2, {frame: [("Fat hen", [10, 10, 40, 40])] for frame in range(2)}) for name in NAMES]
    store.import_tasks(records)
    images = write_frames(tmp_path / "images", records)
    store.add_image_roots([images])
    snapshot = store.load(store.snapshot())
    split = by_groups(snapshot, group_by=["video"], shares={"train": 0.5, "val": 0.5})
    store.save_split(*split.documents())
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    chosen = {"snapshot_id": snapshot.id, "split_id": split.id, "image_roots": [str(images)]}
    write_result(run_dir, "02_explore_and_split", chosen)
    by_part = split.frames.merge(snapshot.frames, on="img_path").groupby("part")["task_name"]
    wanted = [by_part.get_group(part).iloc[0] for part in ("train", "val")]
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(SETTINGS | {"annotations_list": wanted}))
    assert runner.main(["-f", str(settings), "--run-dir", str(run_dir)]) == 0
    return run_dir / "models"


@pytest.mark.slow
def test_command_judges_a_stored_run(
    trained: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = store.runs()
    said = []
    for number, name in enumerate([run["_id"], str(trained), str(trained / "runs" / run["_id"])]):
        folder = tmp_path / f"out{number}"
        assert command.main(["--run", name, "-s", str(folder)]) == 0
        said.append(capsys.readouterr().out.splitlines()[0])
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["run_id"] == run["_id"]
        assert metrics["ap50"] == pytest.approx(run["best_map50"], abs=1e-6), "as the training judged it"
        assert (metrics["frames"], metrics["truth"]) == (2, 2), "val frames of the tasks it was trained for, no others"
        grid = json.loads((folder / "class_metrics.json").read_text())
        assert list(grid["Fat hen"]["TP"]) == ["0.3"], "the run's own settings"
    assert len(set(said)) == 1
    given = ["--run", run["_id"], "-s", str(tmp_path / "given")]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(SETTINGS | {"metrics_confidence_range_small": [0.6]}))
    assert command.main([*given, "-f", str(other)]) == 0
    assert list(json.loads((tmp_path / "given" / "class_metrics.json").read_text())["Fat hen"]["TP"]) == ["0.6"]

    capsys.readouterr()
    for wrong, told in [
        (["--run", "no such run"], f"There are {run['_id']}"),
        (["--run", run["_id"], "-m", "x.pth"], "--run and -m both name a model"),
        (["--run", run["_id"], "--run_dir", str(trained)], "--run and --run_dir both name a run"),
        (["--run", str(tmp_path / "images")], "holds no trained run"),
    ]:
        assert command.main([*wrong, "-s", str(tmp_path / "wrong")]) == 1
        assert told in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
    store.save_run({**run, "split_id": "gone"})
    assert command.main(["--run", run["_id"]]) == 1
    assert "cannot be judged on its own val frames: there is no split 'gone'" in capsys.readouterr().err
