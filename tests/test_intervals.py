"""Intervals over groups: coverage by simulation, groups against frames, paired differences, warnings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from obdb_lib.errors import DatasetError
from obdb_lib.evaluation import coco_metrics
from obdb_lib.intervals import ALL, group_intervals, judging_groups, paired_difference
from obdb_lib.matches import Matches, match_detections
from obdb_lib.splits import every_nth
from tests.helpers import snapshot_of, task
from tests.judging_world import CLASSES, random_tables


def test_the_value_is_cocos_and_the_limits_hold_it() -> None:
    detections, truth, img_paths = random_tables(60, 10, seed=1)
    metrics = coco_metrics(detections, truth, img_paths, CLASSES)
    matches = match_detections(detections, truth, img_paths, CLASSES)
    groups = pd.Series(range(60), index=img_paths)
    found = group_intervals(matches, groups, resamples=200, seed=3)
    assert found.of()["ap50"] == pytest.approx(metrics.ap50, abs=1e-12)
    assert found.of()["ap"] == pytest.approx(metrics.ap, abs=1e-12)
    for name in (ALL, *CLASSES):
        row = found.of(name)
        assert row["ap50_low"] < row["ap50"] < row["ap50_high"]
    assert (found.groups, found.warning) == (60, "")
    pd.testing.assert_frame_equal(found.table, group_intervals(matches, groups, resamples=200, seed=3).table)
    assert not found.table.equals(group_intervals(matches, groups, resamples=200, seed=4).table)
    assert found.to_dict()["groups"] == 60


def videos(dice: np.random.Generator, count: int, per_video: int) -> tuple[Matches, pd.Series, pd.Series]:
    """Videos that are easy or hard as a whole: nothing is found in a hard one. One box a frame."""
    hard = dice.random(count) < 0.4
    rows = [(f"v{v}/{f}", v) for v in range(count) for f in range(per_video)]
    img_paths, video = [name for name, _ in rows], np.array([v for _, v in rows])
    truth = pd.DataFrame({"img_path": img_paths, "object_class": "Fat hen", "x1": 0, "y1": 0, "x2": 50, "y2": 50})
    matches = match_detections(truth.assign(score=0.9)[~hard[video]], truth, img_paths, ["Fat hen"], ious=(0.5,))
    groups = pd.Series(video, index=img_paths)
    return matches, groups, pd.Series(range(len(rows)), index=img_paths)


def test_whole_groups_are_drawn__frames_alone_would_be_far_too_sure() -> None:
    matches, by_video, by_frame = videos(np.random.default_rng(0), 25, 20)
    wide, narrow = (group_intervals(matches, g, resamples=300).of() for g in (by_video, by_frame))
    assert wide["ap50_high"] - wide["ap50_low"] > 3 * (narrow["ap50_high"] - narrow["ap50_low"])


def test_95_of_100_intervals_hold_the_true_score() -> None:
    """Of this world the true AP50 is known: precision is 1 up to a recall of .6, which holds 61 of 101 points."""
    dice = np.random.default_rng(7)
    held = 0
    for _ in range(120):
        matches, groups, _ = videos(dice, 60, 2)
        row = group_intervals(matches, groups, resamples=200, seed=1).of()
        held += row["ap50_low"] <= 61 / 101 <= row["ap50_high"]
    assert 0.88 <= held / 120 <= 1.0


def test_a_paired_difference_is_sure_where_two_intervals_overlap() -> None:
    detections, truth, img_paths = random_tables(60, 10, seed=2)
    worse = detections[np.random.default_rng(0).random(len(detections)) < 0.9]
    groups = pd.Series(range(60), index=img_paths)
    first, second = (match_detections(table, truth, img_paths, CLASSES) for table in (worse, detections))
    apart = [group_intervals(matches, groups, resamples=200).of() for matches in (first, second)]
    assert apart[0]["ap50_high"] > apart[1]["ap50_low"], "each alone cannot tell them apart"
    found = paired_difference(first, second, groups, resamples=200)
    row = found.table.set_index("object_class").loc[ALL]
    assert row["ap50_difference"] == pytest.approx(apart[1]["ap50"] - apart[0]["ap50"])
    assert row["ap50_low"] > 0
    assert found.sentence().startswith("The second detector is better: AP50 +0.")
    back = paired_difference(second, first, groups, resamples=200)
    assert back.sentence().startswith("The second detector is worse: AP50 -0.")
    same = paired_difference(first, first, groups, resamples=200)
    assert same.sentence().startswith("These frames cannot tell")
    with pytest.raises(DatasetError, match="only on the same frames"):
        paired_difference(first, match_detections(worse, truth, img_paths[:-1], CLASSES), groups)


def test_several_trainings_a_side_are_compared_by_their_mean() -> None:
    detections, truth, img_paths = random_tables(60, 10, seed=2)
    groups = pd.Series(range(60), index=img_paths)
    dice = np.random.default_rng(0)
    tables = [detections[dice.random(len(detections)) < share] for share in (0.9, 0.7, 1.0, 0.8)]
    first, other, second, last = (match_detections(table, truth, img_paths, CLASSES) for table in tables)
    alone = [paired_difference(a, b, groups, resamples=200).table for a, b in ((first, second), (other, last))]
    found = paired_difference([first, other], [second, last], groups, resamples=200).table
    for name in ("ap50_first", "ap_second", "ap50_difference"):
        np.testing.assert_allclose(found[name], (alone[0][name] + alone[1][name]) / 2)
    widths = [float(table["ap50_high"][0] - table["ap50_low"][0]) for table in (*alone, found)]
    assert widths[2] < max(widths[:2]), "what happens to one training alone is averaged out"
    pd.testing.assert_frame_equal(paired_difference([first], [second], groups, resamples=200).table, alone[0])
    for wrong in ([[first], [second, last]], [[], []]):
        with pytest.raises(DatasetError, match="as many detectors"):
            paired_difference(*wrong, groups)
    with pytest.raises(DatasetError, match="only on the same frames"):
        paired_difference([first, match_detections(tables[1], truth, img_paths[:-1], CLASSES)], [second, last], groups)


def test_few_groups_and_one_that_rules_are_said() -> None:
    detections, truth, img_paths = random_tables(12, 4)
    matches = match_detections(detections, truth, img_paths, CLASSES)
    groups = pd.Series([0] * 8 + [1, 2, 3, 4], index=img_paths)
    found = group_intervals(matches, groups, resamples=20)
    assert found.groups == 5
    assert "Only 5 groups" in found.warning
    assert "67% of the judged frames" in found.warning
    alone = group_intervals(matches, groups.iloc[:8], resamples=20)
    assert alone.groups == 5, "frames that are not named are groups of their own"
    with pytest.raises(DatasetError, match="1 or more resamples"):
        group_intervals(matches, groups, resamples=0)


def test_a_class_without_boxes_has_no_score_and_no_say() -> None:
    detections, truth, img_paths = random_tables(30, 4)
    matches = match_detections(detections, truth, img_paths, [*CLASSES, "Rape"])
    found = group_intervals(matches, pd.Series(range(30), index=img_paths), resamples=30)
    assert np.isnan(found.of("Rape")["ap50"])
    known = found.table.iloc[1:-1]["ap50"].mean()
    assert found.of()["ap50"] == pytest.approx(known)
    assert found.to_dict()["table"][-1]["ap50"] is None


def test_groups_are_those_of_the_split_or_the_videos() -> None:
    boxes = {frame: [("Fat hen", [8, 8, 20, 20])] for frame in range(8)}
    snapshot = snapshot_of([task(f"FieldData 20200520145736 1L GH0{v}0068", 8, boxes) for v in range(4)])
    by_video = judging_groups(snapshot, list(snapshot.frames["img_path"]), every_nth(snapshot))
    assert by_video.nunique() == 4
    assert judging_groups(snapshot, list(snapshot.frames["img_path"][:3])).nunique() == 1
