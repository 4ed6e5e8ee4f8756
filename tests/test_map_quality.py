"""The numbers beside a map are those of the papers, and say where it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from obdb_lib import map_quality as module
from obdb_lib.errors import DatasetError
from obdb_lib.map_quality import map_quality
from tests.blobs import blobs


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("k", [1, 5, 15])
def test_trustworthiness_is_that_of_scikit_learn(k: int) -> None:
    from sklearn.manifold import trustworthiness

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(150, 6)).astype(np.float32)
    xy = (vectors[:, :2] + rng.normal(0, 0.5, (150, 2))).astype(np.float32)
    assert map_quality(vectors, xy, k=k).trustworthiness == pytest.approx(
        trustworthiness(vectors, xy, n_neighbors=k), abs=1e-6
    )


def test_recall_and_distortion_count_lost_neighbours() -> None:
    vectors = np.arange(10, dtype=np.float32)[:, None] ** 1.1
    xy = np.hstack([vectors, np.zeros_like(vectors)])
    perfect = map_quality(vectors, xy, k=2)
    assert (perfect.trustworthiness, perfect.knn_recall) == (1, 1)
    assert perfect.distortion.tolist() == [0] * 10
    torn = xy.copy()
    torn[4] = [100, 100]
    found = map_quality(vectors, torn, k=2)
    assert found.distortion[4] == 1, "its true neighbours 3 and 5 are no longer near"
    assert found.distortion[0] == 0
    assert found.distortion[3] == found.distortion[5] == 0.5
    assert found.knn_recall == pytest.approx(1 - found.distortion.mean())


def test_a_shuffled_map_is_worthless_and_says_so() -> None:
    vectors = blobs(10, 40)
    rng = np.random.default_rng(0)
    found = map_quality(vectors, rng.normal(size=(400, 2)).astype(np.float32), k=10)
    assert found.trustworthiness == pytest.approx(0.5, abs=0.05)
    assert found.knn_recall == pytest.approx(10 / 400, abs=0.02)
    assert "trustworthiness 0." in str(found)
    assert "10-NN recall 0.0" in str(found)


def test_a_sample_of_the_points_gives_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(10, 60)
    xy = vectors[:, :2].copy()
    whole = map_quality(vectors, xy)
    monkeypatch.setattr(module, "TRUST_SAMPLE", 200)
    part = map_quality(vectors, xy)
    assert part.sampled == 200
    assert part.trustworthiness != whole.trustworthiness
    assert part.trustworthiness == pytest.approx(whole.trustworthiness, abs=0.02)
    np.testing.assert_array_equal(part.distortion, whole.distortion)
    assert map_quality(vectors, xy, seed=1).trustworthiness != part.trustworthiness


def test_few_crops_and_wrong_input() -> None:
    assert map_quality(np.eye(4, dtype=np.float32), np.eye(4, 2, dtype=np.float32)).k == 1
    with pytest.raises(DatasetError, match="there are 5 vectors"):
        map_quality(np.eye(5, dtype=np.float32), np.zeros((4, 2), dtype=np.float32))
    with pytest.raises(DatasetError, match="at least 4 crops"):
        map_quality(np.eye(3, dtype=np.float32), np.zeros((3, 2), dtype=np.float32))
