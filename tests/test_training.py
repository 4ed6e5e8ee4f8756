"""Training: it learns, stops politely, survives kill -9, repeats by seed, and explains itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from obdb_lib.checkpoints import load_checkpoint, load_detector
from obdb_lib.dataset import DetectionDataset
from obdb_lib.distributed import World
from obdb_lib.epochs import epoch_batches
from obdb_lib.errors import CacheError, TrainingError
from obdb_lib.evaluation import coco_metrics, detect
from obdb_lib.models import Detector, build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.paths import PROJECT_ROOT
from obdb_lib.settings import Hyperparameters, Settings, load_hyperparameters
from obdb_lib.training import fit
from tests.tiny_field import CLASSES, make_field
from tests.train_script import datasets

Data = tuple[DetectionDataset, DetectionDataset]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return datasets(tmp_path_factory.mktemp("field"))


def network(seed: int = 0) -> Detector:
    return build_detector("mobilenet_v2", CLASSES, image_size=64, seed=seed)


def options(epochs: int = 2, **changes: object) -> TrainingOptions:
    return TrainingOptions(epochs=epochs, **{"batch_size": 2, "device": "cpu", **changes})


class Recorder:
    """Progress that remembers, and may do something after some steps."""

    def __init__(self, act: object = None, at: int = -1) -> None:
        self.lines: list[dict[str, object]] = []
        self.total: int | None = None
        self.act, self.at = act, at

    def start(self, title: str, total: int | None) -> Recorder:
        if title.startswith("train"):
            self.total = total
        return self

    def advance(self, steps: int = 1, **info: object) -> None:
        if info:
            self.lines.append(info)
            if len(self.lines) == self.at:
                raise KeyboardInterrupt

    def finish(self, task: object) -> None:
        return


def test_detector__overfits_four_images(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path / "images", 5, size=(64, 64))
    where = {"image_size": 64, "cache_dir": tmp_path / "cache"}
    train = DetectionDataset(frames, img_paths[:4], truth, CLASSES, **where)
    val = DetectionDataset(frames, img_paths[4:], truth, CLASSES, **where)
    result = fit(network(), train, val, options(100, batch_size=4, judge_every=100, lr=0.02), save_dir=tmp_path / "out")
    found = detect(result.checkpoint, frames, img_paths[:4], score_threshold=0.01, device="cpu")
    assert coco_metrics(found, train.truth, train.img_paths, CLASSES).ap50 > 0.8
    assert result.history["loss"].iloc[-5:].mean() < result.history["loss"].iloc[:5].mean() / 3


def test_run__leaves_everything_that_explains_it(tmp_path: Path, data: Data) -> None:
    recorder = Recorder()
    result = fit(
        network(),
        *data,
        options(2, val_loss=True),
        save_dir=tmp_path,
        writer_dir=tmp_path / "runs",
        snapshot_id="snap1",
        split_id="split1",
        progress=recorder,
    )
    assert not result.partial
    assert result.checkpoint == tmp_path / "mobilenet_v2_model.pth"
    stored = load_checkpoint(result.checkpoint)
    assert (stored.snapshot_id, stored.split_id, stored.run_id) == ("snap1", "split1", result.run_id)
    assert stored.resume == {}
    assert stored.metrics["ap50"] == result.best_map50 == result.history["val_ap50"].max()
    assert load_hyperparameters(tmp_path / "mobilenet_v2_settings.json").lr == 0.01
    record = json.loads((tmp_path / "mobilenet_v2_run.json").read_text())
    assert record["options"]["seed"] == 0
    assert record["spec"]["weights"] == result.weights
    assert "ImageNet" in result.weights
    summary = pd.read_csv(tmp_path / "mobilenet_v2_summary.csv")
    assert len(summary) == len(result.history) == 2
    columns = {"epoch", "lr", "loss", "loss_classifier", "val_ap50", "val_ap", "val_loss", "images_per_s", "wait_s"}
    assert columns <= set(summary)
    assert recorder.total == len(recorder.lines) == 8
    assert {"loss", "step_s", "wait_s", "epoch", "epochs"} <= set(recorder.lines[0])
    assert list((tmp_path / "runs" / result.run_id).glob("events*"))
    assert load_detector(result.checkpoint).spec.classes == CLASSES


def test_tensorboard__holds_losses_map_and_images(tmp_path: Path, data: Data) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = fit(network(), *data, options(1), save_dir=tmp_path, writer_dir=tmp_path / "runs")
    events = EventAccumulator(str(tmp_path / "runs" / result.run_id))
    events.Reload()
    assert {"train/loss", "train/lr", "val/ap50", "val/ap", "time/seconds"} <= set(events.Tags()["scalars"])
    assert "val/0" in events.Tags()["images"]
    assert events.Scalars("train/loss")[0].value == pytest.approx(result.history["loss"][0], rel=1e-5)


def test_same_seed__same_losses_and_another_seed_others(tmp_path: Path, data: Data) -> None:
    first = fit(network(), *data, options(1), save_dir=tmp_path / "a").history["loss"][0]
    torch.rand(7)
    second = fit(network(), *data, options(1), save_dir=tmp_path / "b").history["loss"][0]
    other = fit(network(), *data, options(1, seed=1), save_dir=tmp_path / "c").history["loss"][0]
    assert first == second
    assert first != other


def test_interrupt__keeps_the_model_and_resumes_to_the_same_end(tmp_path: Path, data: Data) -> None:
    whole = fit(network(), *data, options(2), save_dir=tmp_path / "whole")
    for at in (2, 6):
        folder = tmp_path / f"at{at}"
        part = fit(network(), *data, options(2), save_dir=folder, progress=Recorder(at=at))
        assert part.partial
        assert load_detector(part.checkpoint).spec.classes == CLASSES
        rest = fit(network(seed=9), *data, options(2), save_dir=folder, resume=True)
        assert not rest.partial
        assert rest.run_id == part.run_id
        pd.testing.assert_series_equal(rest.history["loss"], whole.history["loss"], rtol=1e-5)
        assert rest.best_map50 == pytest.approx(whole.best_map50, abs=1e-6)


def test_stop__is_asked_after_every_step(tmp_path: Path, data: Data) -> None:
    calls: list[int] = []
    result = fit(network(), *data, options(5), save_dir=tmp_path, stop=lambda: calls.append(1) or len(calls) == 3)
    assert result.partial
    assert len(calls) == 3
    assert result.checkpoint.exists()


def test_kill_nine__then_resume_equals_the_undisturbed_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(folder: Path, resume: str, pause: str) -> list[str]:
        folder.mkdir(exist_ok=True)
        return [sys.executable, "-m", "tests.train_script", str(folder), "3", resume, pause]

    # A process of its own, too: sums of another number of threads differ in their last digits.
    subprocess.run(command(whole, "0", "0"), cwd=PROJECT_ROOT, env=environment, check=True, timeout=300)
    undisturbed = json.loads((whole / "answer0.json").read_text())
    process = subprocess.Popen(command(killed, "0", "0.3"), cwd=PROJECT_ROOT, env=environment)
    steps = killed / "steps.txt"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (steps.exists() and len(steps.read_text().split()) >= 6):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 6 <= len(steps.read_text().split()) < 12  # in the middle of the second epoch of four steps
    assert not (killed / "answer0.json").exists()
    assert load_checkpoint(killed / "out" / "mobilenet_v2_last.pth").resume["state"]["epoch"] == 1
    subprocess.run(command(killed, "1", "0"), cwd=PROJECT_ROOT, env=environment, check=True, timeout=300)
    resumed = json.loads((killed / "answer0.json").read_text())
    assert resumed["loss"] == pytest.approx(undisturbed["loss"], rel=1e-4)
    assert resumed["best"] == pytest.approx(undisturbed["best"], abs=1e-3)
    for row, wanted in zip(resumed["val"], undisturbed["val"], strict=True):
        assert row == pytest.approx(wanted, abs=1e-3)
    assert sorted(file.name for file in (killed / "out").iterdir()) == sorted(f.name for f in (whole / "out").iterdir())
    for name in ("mobilenet_v2_model.pth", "mobilenet_v2_last.pth"):  # the best and the last epoch's weights
        one, other = (load_checkpoint(folder / "out" / name) for folder in (killed, whole))
        torch.testing.assert_close(one.state, other.state, rtol=1e-4, atol=1e-6)
        assert one.metrics == pytest.approx(other.metrics, abs=1e-3)
    momenta = [
        [group["momentum_buffer"] for group in one.resume["optimizer"]["state"].values()] for one in (one, other)
    ]
    assert momenta[0]
    torch.testing.assert_close(*momenta, rtol=1e-4, atol=1e-6)
    for part in ("schedule", "scaler"):
        assert one.resume[part] == other.resume[part]
    for part in ("epoch", "best_epoch", "best_value", "plateau", "finished"):
        assert one.resume["state"][part] == pytest.approx(other.resume["state"][part], abs=1e-3), part


def test_finished_run__resumed_gives_its_result_at_once(tmp_path: Path, data: Data) -> None:
    first = fit(network(), *data, options(1), save_dir=tmp_path)
    recorder = Recorder()
    again = fit(network(), *data, options(1), save_dir=tmp_path, resume=True, progress=recorder)
    assert recorder.lines == []
    assert (again.run_id, again.best_map50) == (first.run_id, first.best_map50)


def test_last_file_of_another_run__is_refused(tmp_path: Path, data: Data) -> None:
    fit(network(), *data, options(1), save_dir=tmp_path)
    with pytest.raises(TrainingError, match="belongs to another run"):
        fit(network(), *data, options(1, lr=0.5), save_dir=tmp_path, resume=True)
    other = fit(network(), *data, options(1, lr=0.005), save_dir=tmp_path, resume="auto")
    assert other.history["lr"].notna().all()
    assert load_checkpoint(tmp_path / "mobilenet_v2_model.pth").run_id == other.run_id
    assert fit(network(), *data, options(1, lr=0.005), save_dir=tmp_path, resume="auto").run_id == other.run_id
    (tmp_path / "mobilenet_v2_last.pth").write_bytes(b"cut")
    with pytest.raises(TrainingError, match=r"damaged|refused"):
        fit(network(), *data, options(1, lr=0.005), save_dir=tmp_path, resume=True)
    assert not fit(network(), *data, options(1, lr=0.005), save_dir=tmp_path, resume="auto").partial


def test_earlier_model__is_kept_aside(tmp_path: Path, data: Data) -> None:
    first = fit(network(), *data, options(1), save_dir=tmp_path)
    second = fit(network(), *data, options(1, seed=1), save_dir=tmp_path)
    assert load_checkpoint(tmp_path / "mobilenet_v2_model_previous.pth").run_id == first.run_id
    assert load_checkpoint(second.checkpoint).run_id == second.run_id


def test_plateau__ends_the_training(tmp_path: Path, data: Data) -> None:
    result = fit(network(), *data, options(9, lr=1e-9, max_plateau_count=2), save_dir=tmp_path)
    assert len(result.history) == 3
    assert not result.partial


def test_bad_loss__names_the_frames_and_keeps_the_last_good_model(tmp_path: Path, data: Data) -> None:
    fit(network(), *data, options(1), save_dir=tmp_path)
    detector = network()
    with torch.no_grad():
        detector.get_parameter("network.roi_heads.box_predictor.cls_score.bias").fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite .*frame\d+\.png.*lower lr"):
        fit(detector, *data, options(1), save_dir=tmp_path / "bad")
    assert not (tmp_path / "bad" / "mobilenet_v2_model.pth").exists()


def test_step_schedule_of_upstream__cuts_the_rate(tmp_path: Path, data: Data) -> None:
    history = fit(network(), *data, options(3, lr=0.01, step_size=1, gamma=0.1), save_dir=tmp_path).history
    assert history["lr"].tolist() == pytest.approx([0.01, 0.001, 0.0001])


def test_data_that_does_not_fit__is_refused(tmp_path: Path, data: Data) -> None:
    train, val = data
    with pytest.raises(TrainingError, match="in train and in val"):
        fit(network(), train, train, options(), save_dir=tmp_path)
    with pytest.raises(TrainingError, match="the detector"):
        fit(build_detector("mobilenet_v2", ("oak",), image_size=64), train, val, options(), save_dir=tmp_path)
    with pytest.raises(TrainingError, match="sized to 64 px"):
        fit(build_detector("mobilenet_v2", CLASSES, image_size=96), train, val, options(), save_dir=tmp_path)
    with pytest.raises(TrainingError, match=r"epochs must be at least 1.*lr must be above 0"):
        TrainingOptions(epochs=0, lr=0.0)


@pytest.mark.parametrize("name", ["save_dir", "writer_dir"])
def test_folder_that_cannot_be_written__is_told_before_the_first_step(tmp_path: Path, data: Data, name: str) -> None:
    (tmp_path / "file").write_text("no folder")
    steps: list[int] = []

    def stop() -> bool:
        steps.append(1)
        return True

    folders = {"save_dir": tmp_path / "models", name: tmp_path / "file" / "x"}
    with pytest.raises(CacheError, match=f"{name}: .* cannot be written"):
        fit(network(), *data, options(1), **folders, stop=stop)
    assert not steps


def test_order__every_frame_once_and_equal_steps_for_all_processes() -> None:
    wanted = options(1, batch_size=4)
    batches = epoch_batches(11, wanted, 0)
    assert sorted(i for batch in batches for i in batch) == list(range(11))
    assert batches == epoch_batches(11, wanted, 0)
    assert batches != epoch_batches(11, wanted, 1)
    shares = [epoch_batches(11, wanted, 0, World(rank, 4)) for rank in range(4)]
    assert {len(share) for share in shares} == {1}
    assert {i for share in shares for batch in share for i in batch} == set(range(11))


def test_options_from_settings__a_searchs_best_goes_first(tmp_path: Path) -> None:
    block = {"optimal_hpo_settings": {"lr": 0.02, "gamma": 0.5, "step_size": 2}}
    settings = Settings.parse(
        {"variants": ["resnet18"], "resnet18": block, "max_train_epochs": 7, "batch_size": 3, "save_dir": str(tmp_path)}
    )
    given = TrainingOptions.from_settings(settings, "resnet18")
    assert (given.epochs, given.batch_size, given.lr, given.step_size, given.gamma) == (7, 3, 0.02, 2, 0.5)
    best = TrainingOptions.from_settings(settings, "resnet18", Hyperparameters(lr=0.3), epochs=1)
    assert (best.lr, best.epochs, best.step_size) == (0.3, 1, 2)
    half = Settings.parse({"variants": ["resnet18"], "resnet18": {"optimal_hpo_settings": {"gamma": 0.5}}})
    assert TrainingOptions.from_settings(half, "resnet18").gamma is None


def test_two_processes__train_together_and_one_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += [
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
        "-m",
        "tests.train_script",
        str(tmp_path),
        "2",
        "0",
        "0",
    ]
    subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=True, timeout=300, capture_output=True)
    first, second = (json.loads((tmp_path / f"answer{rank}.json").read_text()) for rank in (0, 1))
    assert first["run_id"] == second["run_id"]
    assert first["loss"] == second["loss"]
    assert len(first["loss"]) == 2
    alone = fit(network(), *datasets(tmp_path / "alone"), options(2), save_dir=tmp_path / "alone_out")
    assert first["loss"] == pytest.approx(alone.history["loss"].tolist(), rel=0.5)
    record = json.loads((tmp_path / "out" / "mobilenet_v2_run.json").read_text())
    assert record["processes"] == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu__half_precision_learns(tmp_path: Path, data: Data) -> None:
    result = fit(network(), *data, options(3, device="cuda"), save_dir=tmp_path)
    assert result.history["loss"].notna().all()
    assert next(load_detector(result.checkpoint).parameters()).device.type == "cpu"
