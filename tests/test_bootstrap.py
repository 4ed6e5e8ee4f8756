"""Limits corrected for bias and skew: equal to SciPy's where both can be asked, and right where the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from obdb_lib.bootstrap import bca_limits
from obdb_lib.intervals import ALL, Intervals, group_intervals, paired_difference
from obdb_lib.matches import Matches, match_detections

CLASSES = ["Dandelion", "Fat hen"]


def test_limits_equal_scipys() -> None:
    values = np.random.default_rng(3).exponential(size=25)
    theirs = stats.bootstrap(
        (values,), np.var, n_resamples=500, method="BCa", vectorized=True, rng=np.random.default_rng(1)
    )
    left_out = np.array([np.var(np.delete(values, i)) for i in range(25)])
    low, high = bca_limits(np.array(np.var(values)), theirs.bootstrap_distribution, left_out, 0.95)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)
    plain = np.quantile(theirs.bootstrap_distribution, [0.025, 0.975])
    assert low > plain[0]
    assert high > plain[1]


def test_without_bias_and_skew_they_are_the_percentiles() -> None:
    draws = np.linspace(-1, 1, 401)
    low, high = bca_limits(np.array(0.0), draws, np.array([-0.1, 0.1]), 0.9)
    assert (low, high) == pytest.approx((-0.9, 0.9))


def test_bias_moves_both_limits_the_other_way_and_a_score_is_within_them() -> None:
    draws = np.linspace(0, 1, 1001)
    skewless = np.array([0.4, 0.6])
    low, high = bca_limits(np.array(0.4), draws, skewless, 0.95)
    assert low < 0.025
    assert high < 0.975, "the draws lie above the score: they are too high, and so would be the percentiles"
    for point in (-0.5, 1.5):
        low, high = bca_limits(np.array(point), draws, skewless, 0.95)
        assert low <= point <= high
    low, high = bca_limits(np.array(1.0), np.ones(50), np.ones(5), 0.95)
    assert (low, high) == (1.0, 1.0)


def test_what_cannot_be_judged_is_left_out() -> None:
    draws = np.stack([np.linspace(0, 1, 101), np.full(101, np.nan)], axis=1)
    draws[::2, 0] = np.nan
    low, high = bca_limits(np.array([0.5, 0.5]), draws, np.array([[0.4, np.nan], [0.6, np.nan]]), 0.9)
    assert 0 < low[0] < 0.1
    assert 0.9 < high[0] < 1
    assert np.isnan([low[1], high[1]]).all()


def field(dice: np.random.Generator, count: int) -> tuple[Matches, pd.Series]:
    """Frames of one or more boxes, some of them hard; a few frames have many boxes, and a few many false detections."""
    truths, found = [], []
    for frame in range(count):
        easy, own = dice.beta(0.8, 0.6), int(dice.random() < 0.45)
        for box in range(1 + dice.negative_binomial(1, 0.35)):
            row = [f"f{frame}", CLASSES[own if dice.random() < 0.9 else 1 - own], 40 * box, 0, 40 * box + 30, 30]
            truths.append(row)
            if dice.random() < 0.4 + 0.5 * easy:
                found.append([*row, stats.norm.cdf(dice.normal(0.9 * easy, 0.7))])
        for number in range(dice.negative_binomial(0.35, 0.06)):
            row = [f"f{frame}", CLASSES[int(dice.random() < 0.5)], 40 * number, 200, 40 * number + 30, 230]
            found.append([*row, stats.norm.cdf(dice.normal(-0.3, 0.7))])
    names = ["img_path", "object_class", "x1", "y1", "x2", "y2"]
    truth, detections = pd.DataFrame(truths, columns=names), pd.DataFrame(found, columns=[*names, "score"])
    img_paths = [f"f{frame}" for frame in range(count)]
    matches = match_detections(detections, truth, img_paths, CLASSES, ious=(0.5,))
    return matches, pd.Series(range(count), index=img_paths)


@pytest.fixture(scope="module")
def samples() -> tuple[float, list[Intervals]]:
    """AP50 of a field so large that it is the truth, and intervals from 100 samples of 30 frames."""
    dice = np.random.default_rng(5)
    true = group_intervals(*field(dice, 4000), resamples=1).of()["ap50"]
    return true, [group_intervals(*field(dice, 30), resamples=200, seed=n) for n in range(100)]


def test_intervals_hold_the_true_score_of_a_skewed_field(samples: tuple[float, list[Intervals]]) -> None:
    true, found = samples
    rows = [one.of() for one in found]
    held = np.mean([row["ap50_low"] <= true <= row["ap50_high"] for row in rows])
    assert 0.87 <= held <= 1
    assert all(row["ap50_low"] < row["ap50"] < row["ap50_high"] for row in rows)


def test_intervals_do_not_sit_above_the_score_as_percentiles_do(samples: tuple[float, list[Intervals]]) -> None:
    _, found = samples
    middle, plain = [], []
    for one in found:
        row = one.of()
        middle.append((row["ap50_low"] + row["ap50_high"]) / 2 - row["ap50"])
        plain.append(np.quantile(one.draws[:, 1], [0.025, 0.975]).mean() - row["ap50"])
    assert np.mean(plain) > 0.01, "a resample looks better than the sample, as a sample does than the field"
    assert np.mean(middle) < np.mean(plain) / 4


def test_a_difference_of_nothing_is_symmetric() -> None:
    """Two detectors of one quality, whose luck on each frame is their own."""
    dice = np.random.default_rng(2)
    count, low, high = 60, [], []
    img_paths = [f"f{frame}" for frame in range(count)]
    truth = pd.DataFrame({"img_path": img_paths, "object_class": "Fat hen", "x1": 0, "y1": 0, "x2": 50, "y2": 50})
    for number in range(40):
        both = [
            match_detections(truth.assign(score=0.9)[dice.random(count) < 0.7], truth, img_paths, CLASSES, ious=(0.5,))
            for _ in range(2)
        ]
        groups = pd.Series(range(count), index=img_paths)
        row = paired_difference(*both, groups, resamples=200, seed=number).table.set_index("object_class").loc[ALL]
        low.append(row["ap50_low"])
        high.append(row["ap50_high"])
    held = np.mean([a <= 0 <= b for a, b in zip(low, high, strict=True)])
    assert held >= 0.85
    assert abs(np.mean(low) + np.mean(high)) < 0.1 * (np.mean(high) - np.mean(low))


def test_two_groups_do_not_give_a_hair_of_an_interval() -> None:
    matches, _ = field(np.random.default_rng(4), 40)
    by_video, by_frame = (pd.Series(np.arange(40) // size, index=matches.img_paths) for size in (20, 1))
    two, many = (group_intervals(matches, groups, resamples=300) for groups in (by_video, by_frame))
    wide, narrow = (row["ap50_high"] - row["ap50_low"] for row in (two.of(), many.of()))
    assert len(set(two.draws[:, 1])) > 200
    assert wide > 0.9 * narrow
    assert two.warning.startswith("Only 2 groups of frames were judged: the limits tell next to nothing")


def test_a_group_that_rules_a_class_is_said_and_no_class_drops_out_of_the_mean() -> None:
    truth = pd.DataFrame(
        [[f"f{n}", "Fat hen", 0, 0, 50, 50] for n in range(30)] + [["f0", "Dandelion", 100, 0, 150, 50]],
        columns=["img_path", "object_class", "x1", "y1", "x2", "y2"],
    )
    img_paths = [f"f{n}" for n in range(30)]
    matches = match_detections(truth[truth["object_class"] == "Fat hen"].assign(score=0.9), truth, img_paths, CLASSES)
    found = group_intervals(matches, pd.Series(range(30), index=img_paths), resamples=100)
    assert found.warning == (
        "One group holds much of the boxes of Dandelion (100%): their intervals are likely too narrow"
    )
    assert found.of()["ap50"] == 0.5
    assert set(found.draws[:, 1]) == {0.5}, "draws without the dandelion do not count as perfect"
