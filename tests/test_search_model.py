"""The Gaussian process equals scikit-learn's, its improvement a hand-made integral; reports say what is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from obdb_lib import bayesian, gaussian
from obdb_lib.errors import TrainingError
from obdb_lib.search_report import check_by_training, importance, rank_agreement
from obdb_lib.search_space import Space
from obdb_lib.settings import Hyperparameters


def test_posterior__equals_scikit_learns_for_the_same_hyperparameters() -> None:
    dice = np.random.default_rng(0)
    points, places, values = dice.random((9, 3)), dice.random((5, 3)), dice.normal(size=9)
    process = gaussian.fit(points, values, dice)
    mean, spread = process.predict(places)
    for k in (0, 7):
        kernel = ConstantKernel(process.signal[k]) * Matern(process.lengths[k], nu=2.5)
        kernel += ConstantKernel(process.slope[k]) * DotProduct(0.0)
        noise = process.noise[k] + gaussian.JITTER + 1e-7 * process.signal[k]
        other = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
        other.fit(points - gaussian.CENTRE, values - process.mean[k])
        wanted, deviation = other.predict(places - gaussian.CENTRE, return_std=True)
        np.testing.assert_allclose(mean[k], wanted + process.mean[k], atol=1e-6)
        np.testing.assert_allclose(spread[k], deviation, atol=1e-5)


def test_length_scales__learn_which_input_matters() -> None:
    dice = np.random.default_rng(1)
    points = dice.random((30, 2))
    values = np.sin(6 * points[:, 0])
    process = gaussian.fit(points, (values - values.mean()) / values.std(), dice)
    assert np.median(process.lengths[:, 1]) > 2 * np.median(process.lengths[:, 0])


@pytest.mark.parametrize("z", [-30.0, -8.0, -1.0, 0.0, 2.0])
def test_log_improvement__is_the_logarithm_of_the_integral(z: float) -> None:
    if z > -10:
        integral = quad(lambda x: (z - x) * norm.pdf(x), -40, z, epsabs=1e-30)[0]
        assert bayesian._log_h(np.array([z]))[0] == pytest.approx(math.log(integral), abs=1e-4)
    else:
        assert bayesian._log_h(np.array([z]))[0] == pytest.approx(norm.logpdf(z) - 2 * math.log(-z), abs=0.01)


def test_search__goes_to_the_corner_where_the_best_lies() -> None:
    dice = np.random.default_rng(0)
    corner = np.array([1.0, 0.0, 1.0, 1.0])
    points = bayesian.design(5, 4, np.empty((0, 4)), dice)
    for _ in range(8):
        values = np.abs(points - corner) @ np.array([3.0, 1.0, 1.0, 0.5])
        points = np.vstack([points, bayesian.suggest(points, values, dice, lambda places: places)])
    assert np.abs(points - corner).max(axis=1).min() < 0.05


def test_tamed__keeps_the_order_of_all_but_not_the_reach_of_a_diverged_one() -> None:
    values = np.array([0.5, 2.3, 1e3, 0.4, 2.2])
    tamed = bayesian.tamed(values)
    np.testing.assert_array_equal(np.argsort(tamed), np.argsort(values))
    assert tamed[1] - tamed[3] > 0.5
    assert np.isfinite(bayesian.tamed(np.ones(4))).all()


def test_design__fills_every_layer_and_keeps_away_from_the_known() -> None:
    points = bayesian.design(8, 3, np.array([[0.5, 0.5, 0.5]]), np.random.default_rng(0))
    for column in points.T:
        assert sorted(np.floor(column * 8).astype(int)) == list(range(8)), "one point in each eighth"
    assert np.linalg.norm(points - 0.5, axis=1).min() > 0.25


def test_space__goes_there_and_back() -> None:
    space = Space({"lr": [1e-5, 1e-1], "step_size": [1, 5], "gamma": [0.1, 0.5]})
    points = [{"lr": 1e-3, "step_size": 3, "gamma": 0.2}, {"lr": 1e-5, "step_size": 5, "gamma": 0.5}]
    units = space.to_unit(points)
    np.testing.assert_allclose(units[0], [0.5, 0.5, 0.25])
    for unit, point in zip(units, points, strict=True):
        assert space.to_point(unit) == pytest.approx(point)
        assert isinstance(space.to_point(unit)["step_size"], int)
    assert space.clip({"lr": 7.0, "step_size": 9, "gamma": 0.0, "momentum": 1.0}) == {
        "lr": 0.1,
        "step_size": 5,
        "gamma": 0.1,
    }
    np.testing.assert_allclose(space.snap(np.array([[0.3, 0.3, 0.3]]))[0], [0.3, 0.25, 0.3])
    with pytest.raises(TrainingError, match="begin above 0"):
        Space({"lr": [0.0, 1.0]}).to_unit([{"lr": 0.5}])


def made_trials(count: int = 24) -> pd.DataFrame:
    dice = np.random.default_rng(0)
    table = pd.DataFrame({"lr": 10 ** dice.uniform(-5, -1, count), "momentum": dice.uniform(0.1, 0.9, count)})
    table["objective"] = 1 - (np.log10(table["lr"]) + 3) ** 2 / 4 + 0.1 * table["momentum"]
    return table.assign(trial=range(1, count + 1), status="COMPLETED")


def test_importance__sees_an_optimum_inside_which_a_rank_correlation_does_not() -> None:
    trials = made_trials()
    assert abs(trials["lr"].corr(trials["objective"], method="spearman")) < 0.3
    found = importance(trials, ["lr", "momentum"])
    assert found["lr"] > 0.8
    assert found["momentum"] < 0.15
    assert importance(trials[:2], ["lr", "momentum"]).isna().all()


def test_rank_agreement__counts_and_warns() -> None:
    few = rank_agreement([1, 2, 3, 4], [10, 20, 40, 30])
    assert (few.pairs, few.spearman, few.kendall) == (4, pytest.approx(0.8), pytest.approx(2 / 3))
    assert few.low < 0 < few.spearman < few.high
    assert "say little" in few.text
    many = rank_agreement(range(40), np.arange(40) ** 2.0)
    assert many.spearman == 1.0
    assert many.low > 0.9
    assert "nothing can be said" in rank_agreement([1, 2], [1, 2]).text
    assert math.isnan(rank_agreement([1, 1, 1], [1, 2, 3]).spearman)
    assert "may as well be none" in rank_agreement(range(12), [3, 9, 1, 7, 5, 11, 0, 8, 2, 10, 4, 6]).text
    with pytest.raises(TrainingError, match="3 short and 2 full"):
        rank_agreement([1, 2, 3], [1, 2])


def test_check_by_training__trains_from_the_worst_to_the_best() -> None:
    trained: list[Hyperparameters] = []

    def train_fully(values: Hyperparameters) -> float:
        trained.append(values)
        return -float(values.lr or 0)

    trials = made_trials()
    table, agreement = check_by_training(trials, ["lr", "momentum"], train_fully, count=5)
    assert len(trained) == 5
    assert table["short"].iloc[0] == trials["objective"].min()
    assert table["short"].iloc[-1] == trials["objective"].max()
    assert agreement.pairs == 5
    with pytest.raises(TrainingError, match="two completed trials"):
        check_by_training(trials[:1], ["lr"], train_fully)
