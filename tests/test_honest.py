"""The honest score: equal trainings on ever harder splits, kept part by part; and the command line that judges."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib import honest
from obdb_lib.checkpoints import Checkpoint, cpu_state, save_checkpoint
from obdb_lib.cli import test_model as command
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import DatasetError
from obdb_lib.formats import coco
from obdb_lib.frames import FrameStore
from obdb_lib.honest import NEW_DAY, RANDOM, WHOLE_TWINS, WHOLE_VIDEOS, honest_scores, random_frames, strategies
from obdb_lib.models import build_detector
from obdb_lib.settings import Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.tuning import Workbench
from tests.helpers import CLASSES, random_boxes, snapshot_of, task, write_frames

SETTINGS = Settings.parse({"variants": ["mobilenet_v2"], "image_size": 64, "max_train_epochs": 2})
NAMES = [f"FieldData 2020052{day}145736 {camera} GH0{day}0068" for day in range(3) for camera in ("1L", "2R")]


def records(names: list[str], frames: int = 5) -> list:
    rng = np.random.default_rng(1)
    return [
        task(name, frames, {f: [(CLASSES[f % 2], box) for box in random_boxes(rng, 2)] for f in range(frames)})
        for name in names
    ]


def alone(snapshot: Snapshot) -> DuplicateGroups:
    groups = pd.Series(range(len(snapshot.frames)), index=pd.Index(snapshot.frames["img_path"], name="img_path"))
    return DuplicateGroups(groups, pd.DataFrame(columns=["first", "second", "correlation"]))


def sides(snapshot: Snapshot, split: honest.Split, column: str) -> list[set[str]]:
    value = snapshot.frames.set_index("img_path")[column]
    return [set(value[split.part(part)]) for part in ("train", "val")]


def test_strategies_grow_harder() -> None:
    snapshot = snapshot_of(records(NAMES, 10))
    found = strategies(snapshot, alone(snapshot))
    assert list(found) == ["every 10th frame", RANDOM, WHOLE_VIDEOS, NEW_DAY]
    for easy in list(found)[:2]:
        train, val = sides(snapshot, found[easy], "video")
        assert val
        assert val <= train, "the easy ones have every video on both sides"
    train, val = sides(snapshot, found[WHOLE_VIDEOS], "video")
    assert val
    assert not train & val
    train, val = sides(snapshot, found[NEW_DAY], "session")
    assert val
    assert not train & val
    assert not found[NEW_DAY].part("test")


def test_where_names_tell_no_video_twins_are_kept_whole() -> None:
    snapshot = snapshot_of(records(NAMES[:2], 10))
    frames = snapshot.frames.assign(video="", session="", camera="")
    snapshot = Snapshot(snapshot.id, snapshot.task_names, snapshot.classes, frames, snapshot.annotations)
    twins = alone(snapshot)
    twins.groups[:] = np.arange(20) // 4
    found = strategies(snapshot, twins)
    assert list(found) == ["every 10th frame", RANDOM, WHOLE_TWINS]
    train, val = (set(twins.groups[found[WHOLE_TWINS].part(part)]) for part in ("train", "val"))
    assert val
    assert not train & val
    again, other = (random_frames(snapshot, share=0.1, seed=seed) for seed in (0, 1))
    assert again.id == found[RANDOM].id
    assert again.id != other.id
    assert len(other.part("val")) == 2


@pytest.mark.slow
def test_parts_are_equal_judged_on_the_last_epoch_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = records(NAMES[:4])
    snapshot, frames = snapshot_of(tasks), FrameStore([write_frames(tmp_path / "images", tasks)])
    splits = strategies(snapshot, alone(snapshot), nth=5)
    splits = {name: splits[name] for name in ("every 5th frame", WHOLE_VIDEOS)}
    trained: list[tuple[int, object]] = []
    real = Workbench.train

    def counted(self: Workbench, variant: str, *args: object, **changes: object) -> object:
        trained.append((len(self.part("train")), changes["judge_every"]))
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(self, variant, *args, **changes)

    monkeypatch.setattr(Workbench, "train", counted)
    asked = {"duplicates": alone(snapshot), "folder": tmp_path, "splits": splits, "resamples": 20}
    with pytest.raises(KeyboardInterrupt):
        honest_scores(snapshot, frames, SETTINGS, **asked)
    found = honest_scores(snapshot, frames, SETTINGS, **asked)
    sizes, judged = zip(*trained, strict=True)
    assert len(trained) == 3, "the part that was finished is not trained again"
    assert len(set(sizes)) == 1, "all parts train on equally many frames"
    assert set(judged) == {2}, "no epoch is chosen on val"
    assert found.table["strategy"].tolist() == list(splits)
    assert not found.partial
    assert found.table["train"].nunique() == 1
    assert found.table.loc[0, "leak"] > 0.5
    assert found.table.loc[1, "leak"] == 0
    assert (found.table["ap50_low"] <= found.table["ap50_high"]).all()
    again = honest_scores(snapshot, frames, SETTINGS, **asked)
    assert len(trained) == 3
    pd.testing.assert_frame_equal(again.table, found.table)
    json.dumps(found.to_dict())


def test_parts_with_more_train_frames_give_some_up(tmp_path: Path) -> None:
    snapshot = snapshot_of(records(NAMES, 10))
    twins = alone(snapshot)
    recipe = honest._Recipe(snapshot, FrameStore([]), SETTINGS, twins, tmp_path, "mobilenet_v2", None, None)
    found = strategies(snapshot, twins, nth=5)
    uneven = {"small": found[WHOLE_VIDEOS], "large": strategies(snapshot, twins)["every 10th frame"]}
    equal = recipe.equal(uneven, 0)
    assert [len(split.part("train")) for split in uneven.values()] == [50, 54]
    assert [len(split.part("train")) for split in equal.values()] == [50, 50]
    assert len(equal["large"].part("excluded")) == 4
    assert all(equal[name].part("val") == split.part("val") for name, split in uneven.items())
    assert set(equal["large"].part("train")) <= set(uneven["large"].part("train"))
    assert equal["large"].id == recipe.equal(uneven, 0)["large"].id != recipe.equal(uneven, 1)["large"].id


def test_a_training_that_was_stopped_is_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = snapshot_of(records(NAMES[:4]))
    monkeypatch.setattr(honest._Recipe, "judged", lambda *_: None)
    found = honest_scores(snapshot, FrameStore([]), SETTINGS, duplicates=alone(snapshot), folder=tmp_path)
    assert found.partial
    assert found.table.empty
    with pytest.raises(DatasetError, match="name no variant"):
        honest_scores(
            snapshot,
            FrameStore([]),
            SETTINGS.model_copy(update={"variants": []}),
            duplicates=alone(snapshot),
            folder=tmp_path,
        )


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, annotations and an untrained model of their classes."""
    folder = tmp_path_factory.mktemp("given")
    tasks = records(NAMES[:1], 3)
    write_frames(folder, tasks)
    coco.write(tasks, folder / "annotations.json")
    detector = build_detector("mobilenet_v2", sorted(CLASSES), image_size=64)
    save_checkpoint(folder / "model.pth", Checkpoint(detector.spec, cpu_state(detector), split_id="s"))
    return folder


def test_command_line_writes_upstreams_files_and_ours(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "-m",
        f"{given}/model.pth",
        "-p",
        f"{given}/annotations.json",
        "-s",
        str(tmp_path),
        "-l",
        "False",
        "-i",
        "True",
    ]
    assert command.main(flags) == 0
    assert "on 3 frames, 6 boxes" in capsys.readouterr().out
    grid = json.loads((tmp_path / "class_metrics.json").read_text())
    assert set(grid) == set(CLASSES)
    assert list(grid["Dandelion"]["TP"]) == [str(value) for value in SETTINGS.metrics_confidence_range]
    assert list(grid["Dandelion"]["TP"]["0.5"]) == [str(value) for value in SETTINGS.metrics_iou_range]
    assert len(list((tmp_path / "result_figures").glob("*.svg"))) == 6
    assert len(list((tmp_path / "test_imgs").glob("*.jpg"))) == 3
    (voc,) = tmp_path.glob("AveragePrecision_*.json")
    assert json.loads(voc.read_text())["classes"]["Fat hen"]["total positives"] == 4
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["frames"], metrics["truth"]) == (3, 6)
    assert metrics["intervals"]["groups"] == 1


def test_command_line_takes_false_for_false_and_names_mistakes(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-m", f"{given}/model.pth", "-p", f"{given}/annotations.json", "-s", str(tmp_path), "-i", "False"]
    assert command.main(flags) == 0
    assert not (tmp_path / "test_imgs").exists(), "upstream's -i False was true"
    small = json.loads((tmp_path / "class_metrics.json").read_text())["Fat hen"]["f1"]
    assert list(small) == [str(value) for value in SETTINGS.metrics_confidence_range_small]
    capsys.readouterr()
    for wrong, said in [
        (["-p", f"{given}/annotations.json"], "-m names the checkpoint"),
        (["-p", f"{given}/none.pkl", "-m", "x"], "none.pkl does not exist"),
        (["-p", f"{given}/annotations.json", "-m", f"{given}/none.pth"], "none.pth"),
        (["--run_dir", str(tmp_path)], "notebook 03_tune_and_train has not been run yet"),
    ]:
        assert command.main(wrong) == 1
        assert said in capsys.readouterr().err
    assert command.main(["-f", f"{given}/none.json"]) == 2, "wrong settings"
    assert "none.json cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["-i", "maybe"])
    assert "wants True or False; got 'maybe'" in capsys.readouterr().err
