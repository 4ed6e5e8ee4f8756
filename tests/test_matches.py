"""One matching for all measures: COCO's numbers, equal boxes, ties, and weights."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pandas as pd
import pytest

from obdb_lib.evaluation import Metrics, coco_metrics
from obdb_lib.matches import NOTHING, average_precision, class_precisions, match_detections
from tests.judging_world import CLASSES, boxes_of, random_tables

KINDS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@pytest.mark.parametrize("seed", range(4))
def test_matches_give_cocos_precision_of_each_class_and_overlap(seed: int) -> None:
    detections, truth, img_paths = random_tables(40, 12, seed=seed, size=250)
    metrics = coco_metrics(detections, truth, img_paths, CLASSES)
    table = class_precisions(match_detections(detections, truth, img_paths, CLASSES))
    np.testing.assert_allclose(table.mean(axis=1), metrics.per_class["ap"], atol=1e-12)
    np.testing.assert_allclose(table[:, 0], metrics.per_class["ap50"], atol=1e-12)
    np.testing.assert_allclose(table[:, 5], metrics.per_class["ap75"], atol=1e-12)
    assert 0.1 < metrics.ap < 0.9, "a world where everything is right or wrong would prove nothing"


def pycocos(detections: pd.DataFrame, truth: pd.DataFrame, img_paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' twelve numbers and its precision array."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is only needed for comparison")
    judge_class = pytest.importorskip("pycocotools.cocoeval").COCOeval

    def rows(table: pd.DataFrame) -> list[dict[str, object]]:
        boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float64, copy=True)
        boxes[:, 2:] -= boxes[:, :2]
        names = zip(
            table["img_path"], table["object_class"], table.get("score", [1.0] * len(table)), boxes, strict=True
        )
        return [
            {
                **{"id": number, "image_id": img_paths.index(path) + 1, "category_id": CLASSES.index(name) + 1},
                **{"bbox": box.tolist(), "area": float(box[2] * box[3]), "iscrowd": 0, "score": float(score)},
            }
            for number, (path, name, score, box) in enumerate(names, 1)
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        given = coco.COCO()
        given.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(1, len(img_paths) + 1)],
            "annotations": rows(truth),
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
        }
        given.createIndex()
        judge = judge_class(given, given.loadRes(rows(detections)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats, judge.eval["precision"]


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_pycocotools(seed: int) -> None:
    detections, truth, img_paths = random_tables(60, 15, seed=seed)
    ours: Metrics = coco_metrics(detections, truth, img_paths, CLASSES)
    stats, precision = pycocos(detections, truth, img_paths)
    np.testing.assert_allclose([getattr(ours, kind) for kind in KINDS], stats[:6], atol=1e-6)
    assert ours.ar == pytest.approx(stats[8], abs=1e-6)
    np.testing.assert_allclose(ours.per_size["ar"], stats[9:12], atol=1e-6)
    for k, row in ours.per_class.iterrows():
        for place, kind in enumerate(KINDS[3:], 1):
            values = precision[:, :, k, place, -1]
            assert row[kind] == pytest.approx(values[values > -1].mean(), abs=1e-6)


def test_more_than_a_hundred_detections_of_a_class__the_surest_count() -> None:
    truth = boxes_of(("a", "Fat hen", 0, 0, 50, 50))
    found = [("a", "Fat hen", 200, 0, 250, 50, 0.9)] * 100 + [("a", "Fat hen", 0, 0, 50, 50, 0.1)]
    detections = boxes_of(*found)
    matches = match_detections(detections, truth, ["a"], CLASSES)
    assert len(matches.score) == 100
    assert coco_metrics(detections, truth, ["a"], CLASSES).ap50 == 0.0
    assert (matches.at(0.5) == NOTHING).all()


def test_the_surest_detection_chooses_first_and_takes_what_it_overlaps_most() -> None:
    truth = boxes_of(("a", "Fat hen", 0, 0, 100, 100), ("a", "Fat hen", 0, 20, 100, 120))
    detections = boxes_of(
        ("a", "Fat hen", 0, 2, 100, 102, 0.5),
        ("a", "Fat hen", 0, 12, 100, 112, 0.9),
        ("a", "Dandelion", 0, 0, 100, 100, 1),
    )
    matches = match_detections(detections, truth, ["a"], CLASSES)
    by_score = dict(zip(matches.score.round(2), matches.at(0.5), strict=True))
    assert by_score == {0.9: 1, 0.5: 0, 1.0: NOTHING}
    assert matches.overlap.round(2).tolist() == [0.0, 0.85, 0.96]
    with pytest.raises(ValueError, match=r"matched at IoU 0\.5, .*, not at 0\.42"):
        matches.at(0.42)


def test_equal_boxes_match_at_every_overlap() -> None:
    truth = boxes_of(("a", "Fat hen", 0.3, 0.1, 77.7, 91.3))
    matches = match_detections(truth.assign(score=0.5), truth, ["a"], CLASSES, ious=(0.5, 1.0))
    assert matches.truth.tolist() == [[0], [0]]


def test_a_weight_of_two_is_the_image_twice() -> None:
    detections, truth, img_paths = random_tables(12, 8, seed=5, classes=("Fat hen",))
    twice = img_paths[3:7]
    doubled = [
        pd.concat([t, t[t["img_path"].isin(twice)].assign(img_path=lambda d: d["img_path"] + "_copy")])
        for t in (detections.drop_duplicates("score"), truth)
    ]
    paths = [*img_paths, *(f"{path}_copy" for path in twice)]
    wanted = coco_metrics(doubled[0], doubled[1], paths, ["Fat hen"]).ap50
    matches = match_detections(detections.drop_duplicates("score"), truth, img_paths, ["Fat hen"])
    weights = np.where(np.isin(img_paths, twice), 2.0, 1.0)
    truths = weights[matches.truth_image].sum()
    found = average_precision(matches.at(0.5) != NOTHING, truths, weights[matches.image])
    assert found == pytest.approx(wanted, abs=0.01)  # copies share their score, so their order within the pair is free
    assert np.isnan(average_precision(np.zeros(3, dtype=bool), 0))
