"""Checkpoints: everything travels with the weights, and nothing in a file is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from obdb_lib.checkpoints import Checkpoint, cpu_state, load_checkpoint, load_detector, save_checkpoint, start_from
from obdb_lib.errors import TrainingError
from obdb_lib.models import Detector, build_detector
from tests.tiny_field import CLASSES


@pytest.fixture(scope="module")
def detector() -> Detector:
    return build_detector("mobilenet_v2", CLASSES, image_size=64)


class Trap:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_saved_detector__comes_back_with_all_it_needs(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "mobilenet_v2_model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector), "snap1", "split1", "run1", {"ap50": 0.5}))
    plain = torch.load(path, weights_only=True)
    assert plain["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    stored = load_checkpoint(path)
    assert (stored.snapshot_id, stored.split_id, stored.run_id, stored.metrics) == (
        "snap1",
        "split1",
        "run1",
        {"ap50": 0.5},
    )
    assert stored.spec == detector.spec
    image = torch.rand(3, 64, 48)
    back = load_detector(path)
    with torch.inference_mode():
        first, second = detector.eval()([image])[0], back([image])[0]
    assert back.spec.classes == CLASSES
    assert torch.equal(first["boxes"], second["boxes"])
    assert torch.equal(first["scores"], second["scores"])


def test_malicious_pickle__is_refused_and_not_run(tmp_path: Path) -> None:
    trapped = tmp_path / "trapped"
    for number, content in enumerate((Trap(trapped), {"format": "obdb-lab-checkpoint", "state": Trap(trapped)})):
        path = tmp_path / f"evil{number}.pth"
        torch.save(content, path)
        with pytest.raises(TrainingError, match="could run code"):
            load_checkpoint(path)
    bare = tmp_path / "bare.pth"
    bare.write_bytes(pickle.dumps(Trap(trapped)))
    with pytest.raises(TrainingError, match=r"bare\.pth"):
        load_checkpoint(bare)
    assert not trapped.exists()


def test_whole_model_of_upstream__is_refused_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "resnet18_model.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(TrainingError, match=r"pickle of whole objects.*train the model again"):
        load_detector(path)


@pytest.mark.parametrize("keep", [0, 10, 3000, -100])
def test_damaged_file__is_named(tmp_path: Path, detector: Detector, keep: int) -> None:
    path = tmp_path / "cut.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TrainingError, match=r"cut\.pth"):
        load_checkpoint(path)


def test_foreign_and_missing_files__are_named(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(TrainingError, match="not written by this lab"):
        load_checkpoint(path)
    with pytest.raises(TrainingError, match="does not exist"):
        load_checkpoint(tmp_path / "none.pth")


def test_state_of_another_network__does_not_fit(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "mixed.pth"
    save_checkpoint(path, Checkpoint(detector.spec, {"network.weight": torch.zeros(2)}))
    with pytest.raises(TrainingError, match="does not fit mobilenet_v2"):
        load_detector(path)


def test_failed_write__leaves_the_old_file(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector), run_id="old"))
    with pytest.raises(Exception, match=r"pickle|lambda|local"):
        save_checkpoint(path, Checkpoint(detector.spec, {}, run_id="new", resume={"bad": lambda: 0}))
    assert load_checkpoint(path).run_id == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


def test_start_from__tells_what_was_taken_over(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector), run_id="run7"))
    other = build_detector("mobilenet_v2", ("one", "two", "three"), image_size=64, seed=5)
    sentence = start_from(other, path)
    assert sentence == (
        f"weights of {path} (run run7): class head of one, two, three anew; {', '.join(CLASSES)} left out"
    )
    assert other.spec.weights == sentence
    wider = build_detector("mobilenet_v2", ("nettle", *reversed(CLASSES)), image_size=64, pretrained=False)
    assert f"class head of {CLASSES[1]}, {CLASSES[0]} taken over; class head of nettle anew" in start_from(wider, path)
    scores = "network.roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(wider.state_dict()[scores][[0, 3, 2]], detector.state_dict()[scores])


def test_start_from__keeps_fixed_what_was_fixed(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector), run_id="run7"))
    other = build_detector("mobilenet_v2", CLASSES, image_size=64, pretrained=False)
    start_from(other, path)
    assert other.spec.frozen_norm
    learning = {name for name, one in detector.named_parameters() if one.requires_grad}
    assert {name for name, one in other.named_parameters() if one.requires_grad} == learning
    save_checkpoint(path, Checkpoint(other.spec, cpu_state(other)))
    image = torch.rand(3, 64, 48)
    with torch.inference_mode():
        first, second = detector.eval()([image])[0], load_detector(path)([image])[0]
    assert torch.equal(first["scores"], second["scores"])


def test_start_from__refuses_another_network_by_name(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector)))
    other = build_detector("resnet18", CLASSES, image_size=64, pretrained=False)
    with pytest.raises(TrainingError, match=r"model\.pth \(mobilenet_v2\) for resnet18: only 0 of .* same network"):
        start_from(other, path)


@pytest.mark.parametrize("missing", [("square_size", "mean", "std"), ()])
def test_checkpoint_of_an_earlier_version__loads(tmp_path: Path, detector: Detector, missing: tuple[str, ...]) -> None:
    """Version 0.1.0 wrote no square_size, mean and std."""
    path = tmp_path / "old.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector)))
    plain = torch.load(path, weights_only=True)
    plain["spec"] = {name: value for name, value in plain["spec"].items() if name not in missing}
    torch.save(plain, path)
    assert load_detector(path).spec == detector.spec
