"""TensorBoard's files: which detections count as right, the curves made of that, truth beside detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from obdb_lib.dataset import DetectionDataset
from obdb_lib.runlog import GAP_PX, RunLog, graded, side_by_side
from tests.tiny_field import CLASSES, make_field

COLUMNS = ["img_path", "object_class", "x1", "y1", "x2", "y2"]


def detections_of(truth: pd.DataFrame, score: float = 0.9) -> pd.DataFrame:
    return truth.assign(score=np.float32(score))


def test_graded__one_detection_a_box_and_the_surest_first() -> None:
    truth = pd.DataFrame([("a", "dock", 0, 0, 10, 10), ("a", "dock", 50, 50, 60, 60)], columns=COLUMNS)
    rows = [
        ("a", "dock", 0, 0, 10, 9, 0.6),  # right, but a surer one has the box
        ("a", "dock", 0, 0, 10, 10, 0.8),
        ("a", "dock", 80, 80, 90, 90, 0.9),  # nothing there
        ("a", "rape", 50, 50, 60, 60, 0.9),  # another class
        ("b", "dock", 0, 0, 10, 10, 0.7),  # another frame
    ]
    scores, right, boxes = graded(pd.DataFrame(rows, columns=[*COLUMNS, "score"]), truth, "dock")
    assert boxes == 2
    assert {round(float(s), 2) for s, hit in zip(scores, right, strict=True) if hit} == {0.8}
    assert len(scores) == 4


def test_log__has_a_curve_a_class_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData  # noqa: F401
    from tensorboard.util import tensor_util

    frames, img_paths, truth = make_field(tmp_path / "images", 3, size=(64, 64))
    val = DetectionDataset(frames, img_paths, truth, CLASSES, image_size=64, cache_dir=tmp_path / "cache")
    found = detections_of(truth)
    with RunLog(tmp_path / "log") as log:
        log.val(1, val, found)
        log.scalars(1, {"epoch": 1.0, "loss": 2.0, "val_ap50": 0.5, "val_loss": float("nan"), "wait_share": 0.01})
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {"train/loss", "val/ap50", "time/wait_share"}
    assert set(tags["images"]) == {"val/0", "val/1", "val/2"}
    present = set(truth["object_class"])
    assert {tag for tag in tags["tensors"] if tag.startswith("pr/")} == {f"pr/{name}" for name in present}
    name = next(iter(present))
    true, false, _, missed, precision, recall = tensor_util.make_ndarray(events.Tensors(f"pr/{name}")[0].tensor_proto)
    boxes = int((truth["object_class"] == name).sum())
    assert (true[0], false[0], missed[0], precision[0], recall[0]) == (boxes, 0, 0, 1, 1)
    assert (true[-1], missed[-1], recall[-1]) == (0, boxes, 0)


def test_picture__truth_on_the_left_detections_on_the_right(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path / "images", 1, size=(64, 64))
    val = DetectionDataset(frames, img_paths, truth, CLASSES, image_size=64, cache_dir=tmp_path / "cache")
    empty = side_by_side(val, 0, detections_of(truth).iloc[:0])
    full = side_by_side(val, 0, detections_of(truth))
    assert full.shape == (3, 64, 128 + GAP_PX)
    plain = (val[0][0] * 255).to(torch.uint8)
    assert torch.equal(empty[:, :, 64 + GAP_PX :], plain)
    assert not torch.equal(empty[:, :, :64], plain)
    assert not torch.equal(full[:, :, 64 + GAP_PX :], plain)
