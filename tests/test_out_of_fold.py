"""Out-of-fold detections: no frame judged by a model that trained on its group, none lost, nothing made twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib import kept_detections
from obdb_lib.checkpoints import Checkpoint, cpu_state, load_checkpoint, save_checkpoint
from obdb_lib.detecting import DETECTION_COLUMNS, LOOKS
from obdb_lib.errors import CacheError, DatasetError, SettingsError, TrainingError
from obdb_lib.evaluation import coco_metrics
from obdb_lib.fold_plan import NO_FOLD, plan_folds
from obdb_lib.fold_training import JUDGED_WHILE_TRAINING, FoldRecipe
from obdb_lib.frames import FrameStore
from obdb_lib.models import build_detector
from obdb_lib.out_of_fold import OutOfFold, one_model, out_of_fold
from obdb_lib.progress import Progress
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import by_groups
from tests.few_proposals import quick
from tests.folds_world import SETTINGS, Trainings, field, twins, videos

World = tuple[Snapshot, FrameStore]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Six videos of three frames: an empty frame each, one frame unreadable, two videos that show the same ground."""
    snapshot, frames = field(tmp_path / "images", videos())
    frames.path(snapshot.frames["img_path"][4]).write_bytes(b"no picture")
    return snapshot, frames


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    return Trainings(monkeypatch)


def asked(world: World, folder: Path, **more: object) -> OutOfFold:
    paths = list(dict.fromkeys([*world[0].frames["img_path"], *more.get("unannotated", ())]))
    same = twins(paths, (paths[0], paths[9]))
    # Nearly anything is a detection to a network trained for a second.
    given = {"duplicates": same, "save_dir": folder, "score_threshold": 0.001, **more}
    return out_of_fold(*world, SETTINGS, **given)


def same_result(one: OutOfFold, other: OutOfFold) -> None:
    pd.testing.assert_frame_equal(one.detections, other.detections)
    pd.testing.assert_frame_equal(one.frames, other.frames)
    pd.testing.assert_frame_equal(one.models.drop(columns="seconds"), other.models.drop(columns="seconds"))
    assert (one.trust, one.partial) == (other.trust, other.partial)


class Titles:
    """Progress that notes what was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int | None]] = []

    def start(self, title: str, total: int | None) -> Titles:
        self.shown.append((title, total))
        return self

    def advance(self, steps: int = 1, **info: object) -> None:
        return

    def finish(self, task: object) -> None:
        return


def test_no_frame_is_judged_by_a_model_that_trained_on_its_group__and_none_is_lost(
    world: World, tmp_path: Path, trainings: Trainings
) -> None:
    snapshot, _ = world
    titles: Progress = Titles()
    found = asked(world, tmp_path, progress=titles)
    assert not found.partial
    assert len(trainings.train) == 3
    video = snapshot.frames.set_index("img_path")["video"]
    paths = snapshot.frames["img_path"].tolist()
    for path, row in found.frames.iterrows():
        for judge in row["judges"]:
            trained = set(trainings.train[judge])
            assert not {one for one in trained if video[one] == video[path]}, "its video"
            assert not trained & {paths[0], paths[9]} or path not in (paths[0], paths[9]), "its near twin"
            assert found.fold_of[path] == judge
    lost = paths[4]
    assert sorted(found.frames.index) == sorted(paths)
    assert found.frames["judges"].map(len).to_dict() == {path: int(path != lost) for path in paths}
    assert list(found.unreadable) == [lost]
    assert "cannot be read" in found.unreadable[lost]
    assert not found.frames["seen"].any()
    assert set(found.detections.columns) == {*DETECTION_COLUMNS, "look", "fold"}
    assert set(found.detections["look"]) == set(LOOKS)
    assert lost not in set(found.detections["img_path"])
    ones = found.detections.drop_duplicates(["img_path", "fold"])
    assert (ones["fold"] == found.fold_of[ones["img_path"]].to_numpy()).all()
    assert "17 frames were judged by 1 of 3 models" in found.trust
    assert "its video or a near twin" in found.trust
    assert "1 frame could not be read" in found.trust
    shown = [title for title, _ in titles.shown]
    assert shown[0] == "out-of-fold detections, models to train"
    assert [f"fold {n} of 3: train mobilenet_v2" in shown for n in (1, 2, 3)] == [True] * 3
    assert "fold 3 of 3: detect" in shown


def test_last_epoch_is_taken__judged_once_on_a_few_held_out_frames(
    world: World, tmp_path: Path, trainings: Trainings
) -> None:
    snapshot, _ = world
    found = asked(world, tmp_path, k=2, epochs=3)
    for number, checkpoint in found.checkpoints.items():
        stored, result = load_checkpoint(checkpoint), trainings.results[number]
        assert stored.metrics["epoch"] == 3
        assert result.history["val_ap50"].notna().tolist() == [False, False, True]
        assert len(trainings.val[number]) == min(JUDGED_WHILE_TRAINING, int(found.models["judged"][number]))
        assert set(trainings.val[number]) <= set(found.fold_of.index[found.fold_of == number])
        held = [p for p, judges in found.frames["judges"].items() if number in judges]
        plain = found.plain()
        wanted = coco_metrics(plain[plain["fold"] == number], snapshot.annotations, held, snapshot.classes).ap50
        assert found.models["ap50"][number] == pytest.approx(wanted)
    assert found.models["train"].tolist() == [len(train) for train in trainings.train]


def test_second_call__makes_nothing_twice(
    world: World, tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asked(world, tmp_path, k=2)
    detected: list[int] = []
    real = kept_detections.detect

    def counted(model: object, frames: object, img_paths: list[str], **how: object) -> pd.DataFrame:
        detected.append(len(img_paths))
        return real(model, frames, img_paths, **how)

    monkeypatch.setattr(kept_detections, "detect", counted)
    same_result(asked(world, tmp_path, k=2, device="cpu"), first)
    assert (len(trainings.train), detected) == (2, []), "the device is no part of what was learned"
    plain = asked(world, tmp_path, k=2, second_look=False)
    assert "look" not in plain.detections.columns
    pd.testing.assert_frame_equal(plain.detections, first.plain().drop(columns="look"), check_dtype=False)
    assert (len(trainings.train), sum(detected)) == (2, 18), "the same models look again"
    left = list(tmp_path.rglob("*.pth"))
    assert sorted(left) == sorted(first.checkpoints.values()), "one file a model stays on the disk"
    left[0].unlink()
    assert asked(world, tmp_path, k=2).frames.equals(first.frames)
    assert len(trainings.train) == 3, "a checkpoint that was thrown away is made again"


def test_another_recipe__is_another_model(world: World, tmp_path: Path) -> None:
    model = plan_folds(world[0], duplicates=twins(world[0].frames["img_path"].tolist()), k=2).models[0]

    def home(settings: Settings = SETTINGS, train: tuple[str, ...] = model.train, **changes: object) -> Path:
        recipe = FoldRecipe(*world, settings, None, tmp_path, "mobilenet_v2", Hyperparameters(lr=0.1), changes)
        return recipe.home(replace(model, train=train))

    others = [
        home(SETTINGS.model_copy(update={"seed": 5})),
        home(SETTINGS.model_copy(update={"image_size": 96})),
        home(train=model.train[1:]),
        home(lr=0.001),
    ]
    assert len({home(), *others}) == 5
    assert home(device="cpu", workers=2) == home(SETTINGS.model_copy(update={"save_dir": "elsewhere"})) == home()


def test_stop_in_the_middle__goes_on_to_the_same_end(world: World, tmp_path: Path, trainings: Trainings) -> None:
    whole = asked(world, tmp_path / "whole", k=2)
    steps: list[int] = []
    per_model = -(-len(trainings.train[0]) // 2)

    def stop() -> bool:
        steps.append(1)
        return len(steps) == per_model + 3  # in the second model's training

    part = asked(world, tmp_path / "stopped", k=2, stop=stop)
    assert part.partial
    assert [result.partial for result in trainings.results[2:]] == [False, True]
    assert part.models["fold"].tolist() == [0]
    assert "It was stopped" in part.trust
    judged = part.frames["judges"].map(len) > 0
    assert 0 < judged.sum() < 17
    assert (part.fold_of[judged] == 0).all()
    assert set(part.detections["fold"]) == {0}
    rest = asked(world, tmp_path / "stopped", k=2)
    assert len(trainings.train) == 5, "the first model is not trained again"
    assert trainings.results[4].run_id == trainings.results[3].run_id, "and the second one goes on"
    assert not rest.partial
    pd.testing.assert_frame_equal(rest.frames, whole.frames)
    columns = [*DETECTION_COLUMNS[1:5], "score"]
    assert len(rest.detections) == len(whole.detections)
    np.testing.assert_allclose(rest.detections[columns], whole.detections[columns], atol=0.05)


def test_interrupt_while_detecting__loses_one_part_at_most(
    world: World, tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_detections, "KEPT_FRAMES", 2)
    calls: list[list[str]] = []
    real = kept_detections.detect

    def interrupted(model: object, frames: object, img_paths: list[str], **how: object) -> pd.DataFrame:
        calls.append(list(img_paths))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(model, frames, img_paths, **how)

    monkeypatch.setattr(kept_detections, "detect", interrupted)
    part = asked(world, tmp_path / "killed", k=2)
    assert part.partial
    assert part.frames["judges"].map(len).sum() == sum(p not in part.unreadable for c in calls[:2] for p in c)
    rest = asked(world, tmp_path / "killed", k=2)
    assert calls[3] == calls[2], "the part that was cut off is the next one"
    assert not [c for c in calls[3:] if c in calls[:2]], "what was kept is not detected again"
    assert len(trainings.train) == 2
    damaged = next(tmp_path.rglob("*.csv.gz"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    count = len(calls)
    same_result(asked(world, tmp_path / "killed", k=2), rest)
    assert len(calls) == count + 1, "a damaged file is made again"
    for folder in tmp_path.rglob("detected"):
        shutil.rmtree(folder)
    same_result(asked(world, tmp_path / "killed", k=2), rest)


def test_replaced_picture__is_judged_anew(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, frames = world
    detector = quick(build_detector("mobilenet_v2", snapshot.classes, image_size=64))
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector), snapshot.id, "", "run"))
    monkeypatch.setattr(kept_detections, "KEPT_FRAMES", 2)
    calls: list[list[str]] = []
    real = kept_detections.detect

    def watched(model: object, frames: object, img_paths: list[str], **how: object) -> pd.DataFrame:
        calls.append(list(img_paths))
        return real(model, frames, img_paths, **how)

    monkeypatch.setattr(kept_detections, "detect", watched)
    paths = snapshot.frames["img_path"].tolist()[:4]
    how = {"folder": tmp_path / "kept", "score_threshold": 0.001, "second_look": False}
    first = kept_detections.detect_kept(path, frames, paths, **how)
    assert calls == [paths[:2], paths[2:]]
    file = frames.path(paths[0])
    file.write_bytes(frames.path(snapshot.frames["img_path"][8]).read_bytes())
    second = kept_detections.detect_kept(path, frames, paths, **how)
    assert calls[2:] == [paths[:2]], "the other part stays"
    old, new = (one.detections[one.detections["img_path"] == paths[0]] for one in (first, second))
    assert not old.reset_index(drop=True).equals(new.reset_index(drop=True))
    file.unlink()
    assert list(kept_detections.detect_kept(path, FrameStore(frames.roots), paths, **how).unreadable) == [paths[0]]


def test_frames_without_annotations__are_judged_by_all_models(
    world: World, tmp_path: Path, trainings: Trainings
) -> None:
    snapshot, frames = world
    other, _ = field(tmp_path / "images", videos(8)[7:])  # an odd number of frames nobody has annotated
    new = other.frames["img_path"].tolist()
    blank = snapshot.frames["img_path"][snapshot.frames["video"] == snapshot.frames["video"].iloc[-1]].tolist()
    (tmp_path / "images" / "cut.png").write_bytes(b"")
    wanted = [*new, *blank, "cut.png", "nowhere.png"]
    found = asked(world, tmp_path, unannotated=wanted, looks=2)
    assert (found.fold_of[wanted] == NO_FOLD).all()
    assert found.frames.loc[[*new, *blank], "judges"].tolist() == [(0, 1, 2)] * 6
    assert not [path for train in trainings.train for path in train if path in wanted]
    assert {"cut.png", "nowhere.png"} <= set(found.unreadable)
    assert "was not found" in found.unreadable["nowhere.png"]
    inside = found.frames[(found.fold_of != NO_FOLD) & (found.frames["unreadable"] == "")]
    assert (inside["judges"].map(len) == 2).all()
    assert len(inside) == 14
    assert set(found.detections["img_path"]) & set(new)
    assert "6 frames without annotations were judged by models that were not trained on them" in found.trust
    assert "2 of 3 models" in found.trust
    assert "33% of the frames" in found.trust
    (tmp_path / "images" / "cut.png").write_bytes(frames.path(new[0]).read_bytes())
    again = asked(world, tmp_path, unannotated=wanted, looks=2)
    assert again.frames.loc["cut.png", "judges"] == (0, 1, 2), "a picture that was mended is tried again"
    assert len(trainings.train) == 3


def test_fold_of_unreadable_frames__is_reported_and_trains_nothing(tmp_path: Path, trainings: Trainings) -> None:
    world = field(tmp_path / "images", videos(3))
    paths = world[0].frames["img_path"].tolist()
    for path in paths[:3]:
        world[1].path(path).unlink()
    found = out_of_fold(*world, SETTINGS, duplicates=twins(paths), save_dir=tmp_path, score_threshold=0.001)
    assert not found.partial
    assert set(found.unreadable) == set(paths[:3])
    assert len(found.models) == len(trainings.train) == 2
    assert (found.frames["judges"].map(len) > 0).sum() == 6


def test_tasks_that_settings_leave_out__train_none_and_are_judged(
    world: World, tmp_path: Path, trainings: Trainings
) -> None:
    snapshot, frames = world
    names = list(snapshot.task_names)
    few = SETTINGS.model_copy(update={"annotations_list": names[:4]})
    same = twins(snapshot.frames["img_path"].tolist())
    found = out_of_fold(snapshot, frames, few, duplicates=same, save_dir=tmp_path, k=2)
    tasks = snapshot.frames.set_index("img_path")["task_name"]
    assert {tasks[path] for train in trainings.train for path in train} == set(names[:4])
    assert (found.frames["judges"].map(len) == 1).sum() == 17


def test_start_from_an_earlier_model__costs_trust_and_is_told(
    world: World, tmp_path: Path, trainings: Trainings
) -> None:
    snapshot, frames = world
    detector = build_detector("mobilenet_v2", snapshot.classes, image_size=64)
    start = tmp_path / "earlier.pth"
    save_checkpoint(start, Checkpoint(detector.spec, cpu_state(detector)))
    block = {"mobilenet_v2": {"pretrained_model_path": str(start)}}
    settings = Settings.parse({**SETTINGS.dump(), **block})
    same = twins(snapshot.frames["img_path"].tolist())
    found = out_of_fold(snapshot, frames, settings, duplicates=same, save_dir=tmp_path, stop=lambda: True)
    assert f"all began with the weights of {start}" in found.trust
    assert "began" not in asked(world, tmp_path, stop=lambda: True).trust


def test_mistakes__are_told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = world[0].frames["img_path"].tolist()
    with pytest.raises(DatasetError, match="name no variant"):
        out_of_fold(*world, SETTINGS.model_copy(update={"variants": []}), duplicates=twins(paths), save_dir=tmp_path)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CacheError, match="save_dir"):
        asked(world, tmp_path / "file" / "x")
    monkeypatch.setattr("obdb_lib.out_of_fold.processes", lambda: 2)
    with pytest.raises(SettingsError, match="without torchrun"):
        asked(world, tmp_path)


def test_one_model__marks_what_it_has_seen(world: World, tmp_path: Path) -> None:
    snapshot, frames = world
    paths = snapshot.frames["img_path"].tolist()
    split = by_groups(snapshot, group_by=["video"], shares={"train": 0.67, "val": 0.33})
    detector = quick(build_detector("mobilenet_v2", snapshot.classes, image_size=64))
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector), snapshot.id, split.id, "run"))
    train, val = split.part("train"), split.part("val")
    same = twins([*paths, "new.png"], (train[0], val[0]), (train[1], "new.png"))
    (tmp_path / "images" / "new.png").write_bytes(frames.path(paths[0]).read_bytes())
    how = {"split": split, "save_dir": tmp_path, "duplicates": same, "unannotated": ["new.png"]}
    found = one_model(path, snapshot, frames, score_threshold=0.001, **how)
    assert found.frames["seen"].to_dict() == {p: p in {*train, val[0], "new.png"} for p in [*paths, "new.png"]}
    assert (found.fold_of == NO_FOLD).all()
    assert list(found.unreadable) == [paths[4]]
    assert found.frames["judges"].tolist() == [() if p == paths[4] else (0,) for p in [*paths, "new.png"]]
    assert set(found.detections.columns) == {*DETECTION_COLUMNS, "look", "fold"}
    assert found.checkpoints == {0: path}
    unseen = 18 - int((found.frames["seen"] & (found.frames["unreadable"] == "")).sum())
    assert f"Only {unseen} frames are out of its sight" in found.trust
    assert "shy to find" in found.trust
    same_result(one_model(path, snapshot, frames, score_threshold=0.001, **how), found)
    foreign = one_model(path, snapshot, frames, split=None, save_dir=tmp_path, score_threshold=0.001)
    assert "unknown training" in foreign.trust
    assert not foreign.frames["seen"].any()
    other = by_groups(snapshot, group_by=["video"], shares={"train": 0.5, "val": 0.5})
    with pytest.raises(TrainingError, match=f"trained with split {split.id}, but split {other.id}"):
        one_model(path, snapshot, frames, split=other, save_dir=tmp_path)
