"""From a split to a trained variant: group-disjoint search parts, tasks by annotations_list, earlier models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obdb_lib.checkpoints import load_detector
from obdb_lib.collect import collect_files, collect_sample, collect_store, frames_of, overview
from obdb_lib.detections import boxes_by_frame, frame_errors, read_detections, write_detections
from obdb_lib.errors import CacheError, DatasetError, SettingsError
from obdb_lib.evaluation import detect
from obdb_lib.formats import coco
from obdb_lib.frames import FrameStore
from obdb_lib.settings import Hyperparameters, Settings, save_hyperparameters
from obdb_lib.splits import by_groups
from obdb_lib.store import Store
from obdb_lib.tuning import KNOWN_GOOD, Workbench, run_document
from tests.conftest import PROJECT
from tests.helpers import random_boxes, snapshot_of, task, write_frames

NAMES = [f"FieldData 2020052{day}145736 {camera} GH0{day}0068" for day in range(3) for camera in ("1L", "2R")]


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    rng = np.random.default_rng(1)
    records = [
        task(name, 4, {frame: [("Fat hen", box) for box in random_boxes(rng, 2)] for frame in range(4)})
        for name in NAMES
    ]
    snapshot = snapshot_of(records)
    split = by_groups(snapshot, group_by=["video"], shares={"train": 0.67, "val": 0.33})
    settings = Settings.parse(
        {
            "variants": ["mobilenet_v2"],
            "image_size": 96,
            "max_train_epochs": 1,
            "fake_dataset_len": 6,
            "search_epochs": 1,
            "max_num_trials": 2,
            "sherpa_parameters": {"lr": [0.001, 0.02]},
        }
    )
    frames = FrameStore([write_frames(tmp_path, records)])
    return Workbench(snapshot, split, frames, settings, tmp_path / "models", tmp_path / "logs")


def changed(workbench: Workbench, **settings: object) -> Workbench:
    return Workbench(**{**workbench.__dict__, "settings": workbench.settings.model_copy(update=settings)})


def test_search_parts_share_no_video_and_never_touch_val(workbench: Workbench) -> None:
    train, judge = workbench.search_parts()
    video = workbench.snapshot.frames.set_index("img_path")["video"]
    assert len(train) == 6
    assert judge
    assert not set(video[train]) & set(video[judge])
    assert not set(train + judge) & set(workbench.split.part("val"))


def test_annotations_list_chooses_tasks_and_unknown_ones_are_named(workbench: Workbench) -> None:
    task_of = workbench.snapshot.frames.set_index("img_path")["task_name"]
    wanted = task_of[workbench.split.part("train")].unique()[0]
    assert set(task_of[changed(workbench, annotations_list=[wanted]).part("train")]) == {wanted}
    with pytest.raises(DatasetError, match="no val frames among the tasks of annotations_list"):
        changed(workbench, annotations_list=[wanted]).part("val")
    with pytest.raises(SettingsError, match="the snapshot has no task 'FieldData X'"):
        changed(workbench, annotations_list=["FieldData X"]).part("train")


@pytest.mark.slow
def test_search_then_train_then_start_from_the_model(workbench: Workbench, store: Store) -> None:
    block = {"variants": ["mobilenet_v2"], "mobilenet_v2": {"use_settings_file": 1}}
    workbench = changed(workbench, blocks=Settings.parse(block).blocks)
    found = workbench.search("mobilenet_v2")
    assert len(found.trials) == 2
    assert found.trials.loc[0, "lr"] == KNOWN_GOOD.lr
    save_hyperparameters(workbench.save_dir / "mobilenet_v2_settings.json", Hyperparameters(lr=0.0123))
    again = workbench.search("mobilenet_v2")
    assert again.trials["seconds"].tolist() == found.trials["seconds"].tolist(), "recorded trials are not run again"
    result = workbench.train("mobilenet_v2", found.best)
    store.save_run(run_document(result, workbench))
    (run,) = store.runs(workbench.snapshot.id)
    assert (run["split_id"], run["checkpoint"]) == (workbench.split.id, str(result.checkpoint))
    assert result.run_id in result.checkpoint.name, "a later run does not write over it"
    assert (workbench.save_dir / "mobilenet_v2_model.pth").read_bytes() == result.checkpoint.read_bytes()
    blocks = Settings.parse(
        {"variants": ["mobilenet_v2"], "mobilenet_v2": {"pretrained_model_path": str(result.checkpoint)}}
    ).blocks
    later = changed(workbench, blocks=blocks).detector("mobilenet_v2")
    assert str(result.checkpoint) in later.spec.weights
    frames = workbench.split.part("val")
    both = [detect(model, workbench.frames, frames, score_threshold=0.01) for model in (later, result.checkpoint)]
    np.testing.assert_allclose(both[0]["score"], both[1]["score"], atol=1e-5)


@pytest.mark.slow
def test_upstreams_example_trains_its_resnet18(workbench: Workbench) -> None:
    """settings.example.json as it is, but for the size of frames and the number of epochs, which want a GPU."""
    settings = Settings.load(PROJECT / "settings.example.json")
    smaller = settings.model_copy(update={"image_size": 96, "max_train_epochs": 1})
    result = Workbench(**{**workbench.__dict__, "settings": smaller}).train("resnet18")
    assert result.history["loss"].notna().all()
    assert result.settings["options"]["lr"] == settings.hyperparameters("resnet18").lr
    assert load_detector(result.checkpoint).spec.architecture == "resnet18"


def test_detections_survive_their_file_and_errors_are_counted(workbench: Workbench, tmp_path: Path) -> None:
    snapshot, frames = workbench.snapshot, workbench.split.part("val")
    table = snapshot.annotations[snapshot.annotations["img_path"].isin(frames)].assign(score=0.9)
    path = tmp_path / "detections.csv.gz"
    write_detections(path, table.iloc[1:])
    back = read_detections(path)
    assert len(back) == len(table) - 1
    errors = frame_errors(boxes_by_frame(back, min_score=0.5), snapshot, frames)
    assert errors["missed"].sum() == 1
    assert errors["extra"].sum() == 0
    assert errors.index[0] == table["img_path"].iloc[0]
    assert frame_errors(boxes_by_frame(back, min_score=0.95), snapshot, frames)["missed"].sum() == len(table)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CacheError, match="damaged"):
        read_detections(path)
    with pytest.raises(CacheError, match="run notebook 04"):
        read_detections(tmp_path / "nothing.csv.gz")


def test_collecting_a_folder_reports_missing_images(store: Store, tmp_path: Path) -> None:
    record = task(frames=3, boxes={0: [("Fat hen", [10, 10, 30, 30])]})
    write_frames(tmp_path, [record])
    lost = record.meta["frames"][2]["name"]
    (tmp_path / lost).unlink()
    coco.write([record], tmp_path / "annotations.json")
    collected = collect_files(store, tmp_path)
    assert collected.counts == {"tasks": 1, "frames": 3, "annotations": 1}
    assert [problem.where for problem in collected.problems] == [lost]
    snapshot = store.load(store.snapshot())
    assert overview(snapshot).loc[record.name].to_dict() == {"frames": 3, "boxes": 1, "Fat hen": 1}
    assert frames_of(store).missing(snapshot.frames["img_path"]) == [lost]


def test_each_data_set_is_read_from_its_own_folder(store: Store, tmp_path: Path) -> None:
    """Two data sets with images of one name: the first one's notebooks must not see the second one's pictures."""
    found = []
    for name, size in (("a", (96, 64)), ("b", (48, 32))):
        record = task(frames=1, boxes={0: [("Fat hen", [5, 5, 25, 25])]}, size=size)
        write_frames(tmp_path / name, [record])
        coco.write([record], tmp_path / name / "annotations.json")
        found.append(collect_files(store, tmp_path / name))
    img_path = task(frames=1).meta["frames"][0]["name"]
    assert frames_of(store, *found[0].roots).load(img_path).shape == (64, 96, 3)
    assert frames_of(store, *found[1].roots, last=tmp_path / "a").load(img_path).shape == (32, 48, 3)


def test_images_of_another_size_are_reported(store: Store, tmp_path: Path) -> None:
    record = task(frames=2, boxes={0: [("Fat hen", [10, 10, 30, 30])]})
    write_frames(tmp_path, [record])
    wrong, broken = (frame["name"] for frame in record.meta["frames"])
    Image.new("RGB", (48, 32)).save(tmp_path / wrong)
    (tmp_path / broken).write_bytes(b"no image")
    coco.write([record], tmp_path / "annotations.json")
    problems = {problem.where: problem.what for problem in collect_files(store, tmp_path).problems}
    assert "is 48 x 32, but its boxes were drawn on 96 x 64" in problems[wrong]
    assert "cannot be read" in problems[broken]


def test_the_store_as_it_is(store: Store, tmp_path: Path) -> None:
    store.import_tasks([task(frames=2, boxes={0: [("Fat hen", [10, 10, 30, 30])]})])
    collected = collect_store(store)
    assert collected.tasks == [task().name]
    assert collected.counts == {"tasks": 1, "frames": 2, "annotations": 1}
    assert len(collected.problems) == 2, "both images are missing"


def test_the_sample_never_replaces_real_tasks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    names = collect_sample(store, size="tiny").tasks
    assert collect_sample(store, size="tiny").tasks == names, "the sample itself may be collected again"
    store.import_tasks([task(names[0], frames=1)])
    with pytest.raises(DatasetError, match="that are not the sample"):
        collect_sample(store, size="tiny")
    assert len(store.record(names[0]).meta["frames"]) == 1


def test_images_without_any_box_have_an_overview() -> None:
    table = overview(snapshot_of([task(frames=3)]))
    assert table.loc[task().name].to_dict() == {"frames": 3, "boxes": 0}


def test_unknown_sample_size_is_explained(store: Store) -> None:
    with pytest.raises(DatasetError, match="default, tiny"):
        collect_sample(store, size="huge")
