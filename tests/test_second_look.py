"""The second look: the mirrored boxes lie where the plain ones do, every frame accounted for, decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from obdb_lib.dataset import DetectionDataset
from obdb_lib.detecting import DETECTION_COLUMNS, LOOKS, MIRRORED, PLAIN, detect
from obdb_lib.detections import read_detections, write_detections
from obdb_lib.models import Detector, DetectorSpec
from tests.test_evaluation import SPEC, ColourFinder
from tests.tiny_field import CLASSES, make_field


class LeftHalfFinder(ColourFinder):
    """Finds plants in the left half of the picture it is shown, and nothing in the right half."""

    def forward(self, images: list[torch.Tensor], targets: object = None) -> list[dict[str, torch.Tensor]]:
        found = super().forward(images, targets)
        for image, one in zip(images, found, strict=True):
            kept = one["boxes"][:, 2] <= image.shape[-1] / 2
            one.update({name: one[name][kept] for name in ("boxes", "labels", "scores")})
        return found


def looks_of(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    assert list(table.columns) == [*DETECTION_COLUMNS, "look"]
    plain, mirrored = (
        table[table["look"] == look].drop(columns="look").sort_values(DETECTION_COLUMNS[:6], ignore_index=True)
        for look in LOOKS
    )
    return plain, mirrored


@pytest.mark.parametrize("size", [(192, 96), (95, 63)])  # wide and scaled; odd sides
def test_mirrored_boxes__lie_where_the_plain_ones_do(tmp_path: Path, size: tuple[int, int]) -> None:
    frames, img_paths, _ = make_field(tmp_path, 7, size=size, empty=1)
    frames.path(img_paths[3]).write_bytes(b"no picture")
    detector = Detector(ColourFinder(), SPEC)
    found = detect(detector, frames, img_paths, batch=3, device="cpu", second_look=True)
    plain, mirrored = looks_of(found)
    assert len(plain) >= 6
    pd.testing.assert_frame_equal(plain, mirrored, atol=1e-3)
    assert found.attrs["images"] == 7
    assert set(found.attrs["unreadable"]) == {img_paths[3]}
    alone = detect(detector, frames, img_paths, batch=3, device="cpu")
    pd.testing.assert_frame_equal(
        alone.sort_values(DETECTION_COLUMNS[:6], ignore_index=True), plain, check_like=True, check_flags=False
    )


def test_second_look__sees_what_the_first_is_blind_to(tmp_path: Path) -> None:
    frames, img_paths, truth = make_field(tmp_path, 8, size=(48, 48))
    plain, mirrored = looks_of(
        detect(Detector(LeftHalfFinder(), SPEC), frames, img_paths, device="cpu", second_look=True)
    )
    assert len(plain)
    assert len(mirrored)
    assert (plain["x2"] <= 24).all()
    assert (mirrored["x1"] >= 24).all(), "the mirrored look is at the right half, in the frame's own pixels"
    assert mirrored["x2"].max() <= 48
    assert truth["x1"].max() >= 24


def test_no_detection__still_has_the_column_and_its_types(tmp_path: Path) -> None:
    frames, img_paths, _ = make_field(tmp_path, 0, empty=2)
    for asked in (img_paths, []):
        found = detect(Detector(ColourFinder(), SPEC), frames, asked, device="cpu", second_look=True)
        assert list(found.columns) == [*DETECTION_COLUMNS, "look"]
        assert len(found) == 0
        assert found.attrs["images"] == len(asked)
        write_detections(tmp_path / "none.csv.gz", found)
        back = read_detections(tmp_path / "none.csv.gz")
        assert list(back.columns) == list(found.columns)
        assert back["score"].dtype == np.float32


def test_looks_survive_their_file(tmp_path: Path) -> None:
    frames, img_paths, _ = make_field(tmp_path, 4)
    named = DetectorSpec("resnet18", "resnet18", ("NA", "rape"), 48, False, "none")  # a class that reads like a gap
    found = detect(Detector(ColourFinder(), named), frames, img_paths, device="cpu", second_look=True).assign(fold=2)
    write_detections(tmp_path / "d.csv.gz", found)
    back = read_detections(tmp_path / "d.csv.gz")
    pd.testing.assert_frame_equal(back, found, atol=1e-3, check_dtype=False, check_flags=False)
    assert set(back["look"]) == {PLAIN, MIRRORED}
    assert set(back["object_class"]) == {"NA", "rape"}
    assert back["fold"].tolist() == [2] * len(found)


def test_cached_frames__give_the_same_boxes_and_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, img_paths, truth = make_field(tmp_path, 4, size=(96, 48))
    frames.path(img_paths[1]).write_bytes(b"no picture")
    detector = Detector(ColourFinder(), SPEC)
    plain = detect(detector, frames, img_paths, device="cpu")
    DetectionDataset(frames, img_paths, truth, CLASSES, image_size=48)  # what training leaves behind
    asked: list[str] = []
    real = frames.load
    monkeypatch.setattr(frames, "load", lambda img_path: asked.append(img_path) or real(img_path))
    found = detect(detector, frames, img_paths, device="cpu", cached=True)
    pd.testing.assert_frame_equal(found, plain)
    assert asked == [img_paths[1]], "only what cannot be read is tried again"
    assert set(found.attrs["unreadable"]) == {img_paths[1]}
