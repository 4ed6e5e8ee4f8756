"""Clusters find known groups, leave outliers out, repeat, and count what they hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from obdb_lib import clusters as module
from obdb_lib.clusters import OUTLIER, Clusters, find_clusters
from obdb_lib.embeddings import embed_crops
from obdb_lib.errors import DatasetError
from obdb_lib.frames import FrameStore
from tests.blobs import blobs, embeddings_of, group_of
from tests.conftest import PROJECT
from tests.helpers import random_boxes, snapshot_of, task, write_frames


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_two_colours_form_clusters_of_one_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    names = ("Fat hen", "Dandelion")
    boxes = {i: [(names[i % 2], box)] for i in range(40) for box in random_boxes(rng, 1)}
    records = [task(frames=40, boxes=boxes)]
    snapshot = snapshot_of(records)
    embeddings = embed_crops(snapshot, FrameStore([write_frames(tmp_path, records)]), embedder="colour_histogram")
    found = find_clusters(embeddings, min_cluster_size=8)
    table = found.table(snapshot.annotations.set_index("annotation_id")["object_class"])
    table = table.drop(index=OUTLIER, errors="ignore")
    assert found.count >= 2
    assert (table.max(axis=1) == table.sum(axis=1)).all(), "no cluster mixes the two classes"


@pytest.mark.parametrize("given", [{"method": "hdbscan"}, {"method": "kmeans", "n_clusters": 5}])
def test_known_groups_are_found(given: dict[str, object]) -> None:
    sizes = [80, 60, 50, 40, 30]
    vectors = np.vstack([blobs(5, 80)[n * 80 : n * 80 + size] for n, size in enumerate(sizes)])
    truth = np.repeat(np.arange(5), sizes)
    found = find_clusters(embeddings_of(vectors), **given)
    assert found.count == 5
    assert adjusted_rand_score(truth, found.labels) > 0.97
    assert found.labels.value_counts()[0] == 80, "0 is the largest"
    assert found.labels.index.name == "annotation_id"
    again = find_clusters(embeddings_of(vectors), **given)
    pd.testing.assert_series_equal(found.labels, again.labels)


def test_curved_sheets_are_found_where_kmeans_cuts_them() -> None:
    """Two interlocked half circles in 40 dimensions: density tells them apart, distance to a centre does not."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 400)
    moon = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    moon[200:] = [1, 0.4] - moon[200:]
    vectors = (moon @ rng.normal(size=(2, 40)) + rng.normal(0, 0.03, (400, 40))).astype(np.float32)
    truth = group_of(2, 200)
    dense = find_clusters(embeddings_of(vectors), min_cluster_size=80)
    assert adjusted_rand_score(truth, dense.labels) > 0.9
    assert adjusted_rand_score(truth, find_clusters(embeddings_of(vectors), method="kmeans", n_clusters=2).labels) < 0.7


def test_groups_are_found_where_density_in_all_dimensions_shows_none() -> None:
    """What the diffusion coordinates are for: in 50 dimensions HDBSCAN alone calls most of these blobs outliers."""
    from sklearn.cluster import HDBSCAN

    vectors, truth = blobs(6, 80, dimensions=50, spread=1), group_of(6, 80)
    alone = HDBSCAN(min_cluster_size=8, min_samples=8, copy=True).fit_predict(vectors)
    assert adjusted_rand_score(truth, alone) < 0.5
    assert adjusted_rand_score(truth, find_clusters(embeddings_of(vectors)).labels) > 0.95


def test_lonely_crops_have_the_highest_scores() -> None:
    rng = np.random.default_rng(1)
    vectors = blobs(4, 60)
    strangers = rng.normal(size=(5, 16)).astype(np.float32) * 20
    found = find_clusters(embeddings_of(np.vstack([vectors, strangers])))
    assert set(found.outlier_scores.nlargest(5).index) == {f"a{n}" for n in range(240, 245)}
    assert found.outlier_scores.between(0, 1).all()
    assert found.centrality.isna().equals(found.labels == OUTLIER)


def test_the_most_central_crop_is_the_nearest_to_the_middle() -> None:
    vectors = blobs(2, 50)
    vectors[7] = vectors[:50].mean(axis=0)
    found = find_clusters(embeddings_of(vectors))
    assert found.centrality.iloc[:50].idxmax() == "a7"


def test_more_crops_than_the_limit_take_the_label_of_their_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, truth = blobs(4, 100), group_of(4, 100)
    monkeypatch.setattr(module, "FIT_LIMIT", 150)
    found = find_clusters(embeddings_of(vectors), min_cluster_size=20)
    assert found.count == 4
    assert adjusted_rand_score(truth, found.labels) > 0.97
    other = find_clusters(embeddings_of(vectors), min_cluster_size=20, seed=1)
    assert other.parameters != found.parameters


def test_few_crops_are_outliers_not_a_crash() -> None:
    for count in (0, 1, 5):
        found = find_clusters(embeddings_of(np.eye(8, dtype=np.float32)[:count]))
        assert found.count == 0
        assert len(found.labels) == len(found.outlier_scores) == count
        assert (found.labels == OUTLIER).all()
    same = find_clusters(embeddings_of(np.ones((40, 4), dtype=np.float32)))
    assert len(same.labels) == 40


def test_wrong_input_says_what_was_wanted() -> None:
    some = embeddings_of(blobs())
    for given, message in (
        ({"method": "dbscan"}, "hdbscan and kmeans"),
        ({"method": "kmeans"}, "n_clusters between 1 and the number of crops, 90; got None"),
        ({"method": "kmeans", "n_clusters": 91}, "got 91"),
        ({"n_clusters": 3}, "finds the number of clusters itself"),
        ({"min_cluster_size": 1}, "at least 2 crops"),
    ):
        with pytest.raises(DatasetError, match=message):
            find_clusters(some, **given)


def test_parameters_change_the_key(fresh_cache: Path) -> None:
    some = embeddings_of(blobs())
    for given in ({}, {"min_cluster_size": 10}, {"method": "kmeans", "n_clusters": 3}, {}):
        find_clusters(some, **given)
    assert len(list((fresh_cache / "clusters").glob("*.npz"))) == 3


@pytest.fixture
def small() -> tuple[Clusters, pd.DataFrame]:
    ids = pd.Index(list("abcdef"), name="annotation_id")
    labels = pd.Series([0, 0, 0, 1, 1, OUTLIER], index=ids, name="cluster")
    annotations = pd.DataFrame(
        {
            "annotation_id": list("fedcbaz"),
            "object_class": ["weed", "weed", "crop", "crop", "crop", "weed", "crop"],
            "task_name": ["t2", "t2", "t1", "t1", "t1", "t1", "t1"],
            "img_path": ["3", "3", "2", "1", "1", "1", "9"],
        }
    )
    return Clusters(labels, labels * 0.0, labels * 0.0), annotations


def test_the_long_table_counts_cluster_class_task_and_part(small: tuple[Clusters, pd.DataFrame]) -> None:
    found, annotations = small
    table = found.long_table(annotations, pd.Series({"1": "train", "2": "val"}))
    assert table.to_numpy().tolist() == [
        [-1, "weed", "t2", "excluded", 1],
        [0, "crop", "t1", "train", 2],
        [0, "weed", "t1", "train", 1],
        [1, "crop", "t1", "val", 1],
        [1, "weed", "t2", "excluded", 1],
    ]
    assert set(found.long_table(annotations)["part"]) == {"all"}
    wide = found.wide_table(annotations, "task_name")
    assert wide.to_dict("index") == {-1: {"t1": 0, "t2": 1}, 0: {"t1": 3, "t2": 0}, 1: {"t1": 1, "t2": 1}}
    assert found.table(annotations.set_index("annotation_id")["object_class"]).loc[0, "crop"] == 2


def test_tables_of_other_data_are_refused(small: tuple[Clusters, pd.DataFrame]) -> None:
    found, annotations = small
    with pytest.raises(DatasetError, match="missing: img_path"):
        found.long_table(annotations.drop(columns="img_path"))
    with pytest.raises(DatasetError, match="1 crops, the first a, are not among"):
        found.long_table(annotations[annotations["annotation_id"] != "a"])
    with pytest.raises(DatasetError, match="got 'colour'"):
        found.wide_table(annotations, "colour")


def test_clusters_and_tsne_need_no_numba() -> None:
    script = (
        "import sys\nfrom obdb_lib.clusters import find_clusters\nfrom obdb_lib.projection import project\n"
        "from tests.blobs import blobs, embeddings_of\nfind_clusters(embeddings_of(blobs()))\nproject(blobs())\n"
        "assert 'umap' not in sys.modules and 'torch' not in sys.modules, 'seconds of import'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=PROJECT)
