"""Metrics against numbers computed by hand, and detection that accounts for every image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from obdb_lib.errors import DatasetError
from obdb_lib.evaluation import DETECTION_COLUMNS, coco_metrics, detect, detect_dataset
from obdb_lib.models import Detector, DetectorSpec
from tests.tiny_field import CLASSES, COLOURS, COLUMNS, make_field

SPEC = DetectorSpec("resnet18", "resnet18", CLASSES, 48, False, "none")


class ColourFinder(nn.Module):
    """A network that finds the tiny field's squares by their colour: exact, so results can be computed by hand."""

    score_thresh = 0.0

    def forward(self, images: list[torch.Tensor], targets: object = None) -> list[dict[str, torch.Tensor]]:
        outputs = []
        for image in images:
            boxes, labels = [], []
            for label, name in enumerate(CLASSES, 1):
                colour = torch.tensor(COLOURS[name]).view(3, 1, 1) / 255
                mask = ((image - colour).abs().amax(0) < 0.2).cpu().numpy()
                columns = np.flatnonzero(mask.any(0))
                if columns.size:
                    rows = np.flatnonzero(mask.any(1))
                    boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                    labels.append(label)
            outputs.append(
                {
                    "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                    "labels": torch.tensor(labels, dtype=torch.int64),
                    "scores": torch.full((len(boxes),), 0.9),
                }
            )
        return outputs


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    columns = DETECTION_COLUMNS if rows and len(rows[0]) == 7 else COLUMNS
    return pd.DataFrame(rows, columns=columns)


TRUTH = table(("a", "dock", 0, 0, 100, 100), ("b", "dock", 0, 0, 100, 100), ("b", "rape", 200, 0, 220, 20))


def test_perfect_detections__give_one() -> None:
    found = table(
        ("a", 0, 0, 100, 100, "dock", 0.9), ("b", 0, 0, 100, 100, "dock", 0.8), ("b", 200, 0, 220, 20, "rape", 0.7)
    )
    metrics = coco_metrics(found, TRUTH, ["a", "b"], CLASSES)
    assert [metrics.ap, metrics.ap50, metrics.ap75, metrics.ar] == [1.0] * 4
    assert (metrics.ap_small, metrics.ap_large) == (1.0, 1.0)
    assert math.isnan(metrics.ap_medium)
    assert metrics.per_class["truth"].tolist() == [2, 1]
    assert (metrics.images, metrics.truth, metrics.detections) == (2, 3, 3)


def test_one_false_positive_above__halves_the_start_of_the_curve() -> None:
    truth = table(("a", "dock", 0, 0, 100, 100), ("b", "dock", 0, 0, 100, 100))
    found = table(
        ("a", 300, 300, 400, 400, "dock", 0.95), ("a", 0, 0, 100, 100, "dock", 0.9), ("b", 0, 0, 100, 100, "dock", 0.8)
    )
    metrics = coco_metrics(found, truth, ["a", "b"], CLASSES)
    # recall .5 at precision 1/2, recall 1 at 2/3; the envelope makes it 2/3 throughout
    assert metrics.ap50 == pytest.approx(2 / 3, abs=1e-6)
    assert math.isnan(metrics.per_class.loc[1, "ap50"])


def test_loose_box__counts_up_to_its_overlap() -> None:
    truth = table(("a", "dock", 0, 0, 100, 100))
    found = table(("a", 0, 0, 100, 72, "dock", 0.9))  # IoU .72: right at .50 .55 .60 .65 .70
    metrics = coco_metrics(found, truth, ["a"], CLASSES)
    assert (metrics.ap50, metrics.ap75) == (1.0, 0.0)
    assert metrics.ap == pytest.approx(0.5, abs=1e-6)


def test_detections_on_an_image_without_boxes__are_false_positives() -> None:
    truth = table(("a", "dock", 0, 0, 100, 100))
    found = table(("empty", 0, 0, 50, 50, "dock", 0.99), ("a", 0, 0, 100, 100, "dock", 0.9))
    assert coco_metrics(found, truth, ["a", "empty"], CLASSES).ap50 == pytest.approx(0.5, abs=1e-6)
    assert coco_metrics(found, truth, ["a"], CLASSES).ap50 == 1.0


def test_second_detection_of_one_plant__is_a_false_positive() -> None:
    truth = table(("a", "dock", 0, 0, 100, 100), ("b", "dock", 0, 0, 100, 100))
    found = table(
        ("a", 0, 0, 100, 100, "dock", 0.9), ("a", 0, 0, 100, 98, "dock", 0.85), ("b", 0, 0, 100, 100, "dock", 0.8)
    )
    # recall .5 at precision 1 (51 of 101 points), recall 1 at 2/3
    assert coco_metrics(found, truth, ["a", "b"], CLASSES).ap50 == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6)


def test_nothing_found_and_nothing_wanted() -> None:
    none = pd.DataFrame(columns=DETECTION_COLUMNS)
    metrics = coco_metrics(none, TRUTH, ["a", "b"], CLASSES)
    assert (metrics.ap, metrics.ap50, metrics.per_class["ap50"].tolist()) == (0.0, 0.0, [0.0, 0.0])
    assert math.isnan(coco_metrics(none, TRUTH.iloc[:0], ["a"], CLASSES).ap50)
    assert coco_metrics(none, TRUTH.iloc[:0], ["a"], CLASSES).to_dict()["ap50"] is None


def test_wrong_input__is_named() -> None:
    with pytest.raises(DatasetError, match="at least one image"):
        coco_metrics(TRUTH, TRUTH, [], CLASSES)
    with pytest.raises(DatasetError, match="oak"):
        coco_metrics(TRUTH.assign(score=0.5, object_class="oak"), TRUTH, ["a", "b"], CLASSES)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_every_image_is_accounted_for__odd_counts_too(tmp_path: Path, batch: int) -> None:
    frames, img_paths, _ = make_field(tmp_path, 7, size=(96, 48))
    frames.path(img_paths[3]).write_bytes(b"no picture")
    detector = Detector(ColourFinder(), SPEC)
    found = detect(detector, frames, img_paths, batch=batch, device="cpu")
    assert set(found["img_path"]) == set(img_paths) - {img_paths[3]}
    assert set(found.attrs["unreadable"]) == {img_paths[3]}
    assert found.attrs["images"] == 6


def test_boxes__are_in_pixels_of_the_full_frame(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path, 5, size=(192, 96))
    alone = truth[~truth.duplicated(["img_path", "object_class"], keep=False)]
    found = detect(Detector(ColourFinder(), SPEC), frames, img_paths, device="cpu")
    both = alone.merge(found, on=["img_path", "object_class"], suffixes=("", "_found"))
    assert len(both) >= 3
    for side in ("x1", "y1", "x2", "y2"):
        assert (both[side] - both[f"{side}_found"]).abs().max() <= 4.5  # one pixel at 48 px is four at 192 px
    assert found["score"].dtype == found["x1"].dtype == np.float32


def test_detect_dataset__agrees_with_detect(tmp_path: Path) -> None:
    from obdb_lib.dataset import DetectionDataset

    frames, img_paths, truth = make_field(tmp_path / "images", 3, size=(96, 48))
    data = DetectionDataset(frames, img_paths, truth, CLASSES, image_size=48, cache_dir=tmp_path / "cache")
    detector = Detector(ColourFinder(), SPEC)
    pd.testing.assert_frame_equal(
        detect_dataset(detector, data, device="cpu"),
        detect(detector, frames, img_paths, device="cpu"),
        check_flags=False,
    )


def test_no_image_at_all__gives_an_empty_table(tmp_path: Path) -> None:
    frames, _, _ = make_field(tmp_path, 1)
    found = detect(Detector(ColourFinder(), SPEC), frames, [], device="cpu")
    assert list(found.columns) == DETECTION_COLUMNS
    assert len(found) == 0
