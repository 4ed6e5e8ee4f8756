"""Curves, confusion, VOC AP, clusters and failures against numbers computed by hand."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib.boxes import BoxSet
from obdb_lib.cluster_scores import OUTLIERS, cluster_scores, on_map
from obdb_lib.confusion import BACKGROUND, confusion
from obdb_lib.curves import best_thresholds, confidence_sweep, precision_recall
from obdb_lib.detections import boxes_by_frame, frame_errors
from obdb_lib.errors import CacheError
from obdb_lib.intervals import ALL
from obdb_lib.kept_map import read_map, write_map
from obdb_lib.matches import NOTHING, match_detections
from obdb_lib.metric_figures import safe_name, write_figures
from obdb_lib.voc import ELEVEN_POINT, class_metrics, voc_average_precision, write_average_precision
from tests.helpers import snapshot_of, task
from tests.judging_world import CLASSES, boxes_of, random_tables

HERE, THERE, FAR = (0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 500, 100)
TRUTH = boxes_of(("a", "Fat hen", *HERE), ("a", "Fat hen", *THERE), ("b", "Fat hen", *HERE), ("b", "Dandelion", *THERE))
FOUND = boxes_of(
    ("a", "Fat hen", *HERE, 0.9),
    ("a", "Fat hen", *FAR, 0.8),
    ("a", "Fat hen", *THERE, 0.7),
    ("b", "Dandelion", *HERE, 0.6),
    ("b", "Dandelion", *THERE, 0.55),
    ("b", "Dandelion", 202, 0, 300, 100, 0.3),
)
PATHS, NAMES = ["a", "b", "empty"], ["Dandelion", "Fat hen"]


def test_curve_of_a_class() -> None:
    curve = precision_recall(match_detections(FOUND, TRUTH, PATHS, NAMES))
    own = curve[curve["object_class"] == "Fat hen"]
    assert own["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert own["recall"].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert own["best_precision"].tolist() == pytest.approx([1, 2 / 3, 2 / 3])


def test_sweep_counts_at_each_threshold_and_the_best_f1() -> None:
    sweep = confidence_sweep(match_detections(FOUND, TRUTH, PATHS, NAMES)).set_index(["object_class", "threshold"])
    counts = sweep[["right", "false", "missed"]]
    assert counts.loc[("Fat hen", 0.01)].tolist() == [2, 1, 1]
    assert counts.loc[("Fat hen", 0.7)].tolist() == [2, 1, 1], "a score equal to the threshold stays"
    assert counts.loc[("Fat hen", 0.71)].tolist() == [1, 1, 2]
    assert counts.loc[("Fat hen", 0.85)].tolist() == [1, 0, 2]
    assert counts.loc[(ALL, 0.01)].tolist() == [3, 3, 1]
    assert np.isnan(sweep.loc[("Fat hen", 0.95), "precision"])
    assert sweep.loc[("Fat hen", 0.95), "f1"] == 0
    best = best_thresholds(sweep.reset_index())
    assert best.loc["Fat hen", "f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert best.loc["Fat hen", "threshold"] == 0.01
    assert best.loc["Dandelion", ["threshold", "f1"]].tolist() == pytest.approx([0.31, 2 / 3])


def test_confusion_pairs_boxes_one_to_one_and_names_the_frames() -> None:
    found = confusion(FOUND, TRUTH, PATHS, NAMES, min_score=0.5)
    matrix = found.matrix
    assert list(matrix.index) == list(matrix.columns) == [*NAMES, BACKGROUND]
    assert matrix.to_numpy().tolist() == [[1, 0, 0], [1, 2, 0], [0, 1, 0]]
    assert found.frames("Fat hen", "Dandelion") == ["b"]
    assert found.frames(BACKGROUND, "Fat hen") == ["a"]
    assert found.frames("Dandelion", "Fat hen") == []
    low = confusion(FOUND, TRUTH, PATHS, NAMES, min_score=0.2).matrix
    assert low.loc[BACKGROUND, "Dandelion"] == 1, "a second detection of a plant is a false one"
    strict = confusion(FOUND, TRUTH, PATHS, NAMES, min_score={"Fat hen": 0.75, "Dandelion": 0.99}).matrix
    assert strict.to_numpy().tolist() == [[0, 0, 1], [0, 1, 2], [0, 1, 0]]


def test_confusion_counts_every_box_once() -> None:
    detections, truth, img_paths = random_tables(30, 9, seed=4)
    matrix = confusion(detections, truth, img_paths, CLASSES, min_score=0.4).matrix
    rows, columns = matrix.drop(index=BACKGROUND).sum(axis=1), matrix.drop(columns=BACKGROUND).sum(axis=0)
    assert rows.to_dict() == truth["object_class"].value_counts().to_dict()
    kept = detections[detections["score"] >= np.float32(0.4)]
    assert columns.to_dict() == kept["object_class"].value_counts().to_dict()


def test_confusion_puts_frames_with_most_such_boxes_first() -> None:
    truth = boxes_of(("x", "Fat hen", *HERE), ("y", "Fat hen", *HERE), ("y", "Fat hen", *THERE))
    found = confusion(truth.iloc[:0].assign(score=0.5), truth, ["x", "y"], NAMES)
    assert found.frames("Fat hen", BACKGROUND) == ["y", "x"]


def test_voc_precision_by_hand() -> None:
    matches = match_detections(FOUND, TRUTH, PATHS, NAMES)
    found = voc_average_precision(matches)
    assert (found["iou_threshold"], found["method"]) == (0.3, "all-point")
    assert found["classes"]["Fat hen"] == {
        "AP": pytest.approx(1 / 3 + 1 / 3 * 2 / 3),
        "total positives": 3,
        "total TP": 2,
        "total FP": 1,
    }
    # Dandelion: false at .6, right at .55, a second one of the same plant at .3
    assert found["classes"]["Dandelion"]["AP"] == pytest.approx(1 / 2)
    assert found["mAP"] == pytest.approx((5 / 9 + 1 / 2) / 2)
    eleven = voc_average_precision(matches, method=ELEVEN_POINT)["classes"]["Fat hen"]["AP"]
    assert eleven == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)  # recalls 0 .1 .2 .3 and .4 .5 .6
    with pytest.raises(ValueError, match="11-point"):
        voc_average_precision(matches, method="12-point")


def test_voc_does_not_fall_back_on_another_annotation() -> None:
    truth = boxes_of(("a", "Fat hen", 0, 0, 100, 100), ("a", "Fat hen", 0, 30, 100, 130))
    both_near_the_first = boxes_of(("a", "Fat hen", 0, 2, 100, 102, 0.9), ("a", "Fat hen", 0, 10, 100, 110, 0.8))
    matches = match_detections(both_near_the_first, truth, ["a"], NAMES)
    assert matches.at(0.5).tolist() == [0, 1], "COCO's rule does"
    assert voc_average_precision(matches)["classes"]["Fat hen"]["total TP"] == 1


def test_voc_file_has_upstreams_name(tmp_path: Path) -> None:
    path = write_average_precision(
        tmp_path,
        voc_average_precision(match_detections(FOUND, TRUTH, PATHS, NAMES)),
        when=datetime(2026, 1, 2, 3, 4, 5),
    )
    assert path.name == "AveragePrecision_2026_01_02_03_04_05.json"
    assert json.loads(path.read_text())["classes"]["Fat hen"]["total positives"] == 3
    now = write_average_precision(tmp_path, {}).name
    assert re.fullmatch(r"AveragePrecision_\d{4}(_\d\d){5}\.json", now)


def test_class_metrics_have_upstreams_keys_and_each_plant_once(tmp_path: Path) -> None:
    twice = pd.concat([FOUND, FOUND[FOUND["score"] == np.float32(0.9)].assign(score=0.89)])
    grid = class_metrics(match_detections(twice, TRUTH, PATHS, NAMES, ious=(0.5, 0.9)), [0.5, 0.75])
    assert set(grid["Fat hen"]) == {"TP", "FP", "FN", "precision", "recall", "f1"}
    assert grid["Fat hen"]["TP"] == {"0.5": {"0.5": 2, "0.9": 2}, "0.75": {"0.5": 1, "0.9": 1}}
    assert grid["Fat hen"]["FP"]["0.5"]["0.5"] == 1
    assert grid["Fat hen"]["FN"]["0.75"]["0.9"] == 2
    assert grid["Fat hen"]["precision"]["0.75"]["0.5"] == pytest.approx(1 / 2)
    assert grid["Dandelion"]["f1"]["0.75"]["0.5"] == 0
    written = write_figures({**grid, "a/../b": grid["Fat hen"]}, tmp_path)
    assert len(written) == 9
    assert all(path.parent == tmp_path and b"<svg" in path.read_bytes()[:500] for path in written)
    assert safe_name("../../x y") == "x_y"


def test_clusters_are_judged_on_the_frames_that_show_them() -> None:
    truth = TRUTH.assign(annotation_id=["1", "2", "3", "4"])
    elsewhere = boxes_of(("empty", "Fat hen", *HERE, 0.99), ("b", "Fat hen", *FAR, 0.98))
    matches = match_detections(pd.concat([FOUND, elsewhere]), truth, PATHS, NAMES)
    scores = cluster_scores(matches, truth, pd.Series({"1": 0, "2": 0, "3": 1, "4": -1})).set_index("cluster")
    # cluster 0: both found, the false one of frame a (.8) between them
    assert scores.loc["0", "ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores.loc["0", ["truth", "frames", "false", "missed"]].tolist() == [2, 1, 1, 0]
    assert scores.loc["1", ["ap", "missed", "recall"]].tolist() == [0, 1, 0]
    # the plant in no cluster: found at .55, below the false Dandelion at .6
    assert scores.loc[OUTLIERS, "ap"] == pytest.approx(0.5)
    assert scores.index[0] == "1", "the worst first"


def test_a_stray_box_of_another_class_is_no_half_of_a_cluster() -> None:
    truth = TRUTH.assign(annotation_id=["1", "2", "3", "4"])
    hens = [number for number, name in zip("1234", truth["object_class"], strict=True) if name == "Fat hen"]
    others = [number for number in "1234" if number not in hens]
    matches = match_detections(FOUND, truth, PATHS, NAMES)
    alone = cluster_scores(matches, truth, pd.Series(dict.fromkeys(hens, 0))).set_index("cluster").loc["0", "ap"]
    mixed = cluster_scores(matches, truth, pd.Series({**dict.fromkeys(hens, 0), others[0]: 0})).set_index("cluster")
    stray = cluster_scores(matches, truth, pd.Series({others[0]: 0})).set_index("cluster").loc["0", "ap"]
    assert mixed.loc["0", "truth"] == len(hens) + 1
    assert mixed.loc["0", "ap"] == pytest.approx((len(hens) * alone + stray) / (len(hens) + 1))


def test_the_map_is_kept_and_shows_what_became_of_each_plant(tmp_path: Path) -> None:
    truth = TRUTH.assign(annotation_id=["1", "2", "3", "4"])
    path = tmp_path / "map.npz"
    labels = pd.Series({"1": 0, "2": 0, "3": 1})
    write_map(path, np.array(["4", "1", "2", "3", "elsewhere"], dtype=object), np.arange(10).reshape(5, 2), labels)
    points = read_map(path)
    assert points["cluster"].tolist() == [-1, 0, 0, 1, -1]
    matches = match_detections(FOUND, truth, PATHS, NAMES)
    shown = on_map(points, truth, matches, cluster_scores(matches, truth, labels)).set_index("annotation_id")
    assert shown["result"].to_dict() == {"4": "found", "1": "found", "2": "found", "3": "missed"}
    assert shown.loc["1", ["x", "y", "cluster"]].tolist() == [2, 3, "0"]
    assert shown.loc["3", "cluster_ap"] == 0
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CacheError, match="damaged; run notebook 02"):
        read_map(path)
    with pytest.raises(CacheError, match="does not exist; run notebook 02"):
        read_map(tmp_path / "none.npz")


def test_failures_count_a_confused_plant_once() -> None:
    boxes = {0: [("Fat hen", HERE)], 1: [("Fat hen", HERE), ("Dandelion", THERE)], 2: []}
    snapshot = snapshot_of([task(frames=3, boxes=boxes, size=(600, 200))])
    paths = list(snapshot.frames["img_path"])
    rows = [(paths[0], "Dandelion", *HERE, 0.9), (paths[0], "Fat hen", *FAR, 0.9), (paths[1], "Fat hen", *HERE, 0.9)]
    errors = frame_errors(boxes_by_frame(boxes_of(*rows)), snapshot, paths)
    assert errors.loc[paths[0]].to_dict() == {"matched": 0, "missed": 1, "extra": 2, "confused": 1, "errors": 2}
    assert errors.loc[paths[1]].to_dict() == {"matched": 1, "missed": 1, "extra": 0, "confused": 0, "errors": 1}
    assert errors.index.tolist() == paths
    assert isinstance(snapshot.boxes(paths[0]), BoxSet)


def test_nothing_found_at_all() -> None:
    none = FOUND.iloc[:0]
    matches = match_detections(none, TRUTH, PATHS, NAMES)
    assert precision_recall(matches).empty
    assert confidence_sweep(matches)["f1"].max() == 0
    assert best_thresholds(confidence_sweep(matches))["threshold"].isna().all(), "no threshold is the best of none"
    assert voc_average_precision(matches)["mAP"] == 0
    assert confusion(none, TRUTH, PATHS, NAMES).matrix[BACKGROUND].tolist() == [1, 3, 0]
    truth = TRUTH.assign(annotation_id=["1", "2", "3", "4"])
    assert cluster_scores(matches, truth, pd.Series({"1": 0}))["ap"].tolist() == [0, 0]
    assert (match_detections(FOUND, TRUTH.iloc[:0], PATHS, NAMES).at(0.5) == NOTHING).all()
