"""Maps keep neighbours together, repeat, take new crops, and survive being stopped."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from obdb_lib import tsne
from obdb_lib.boxes import FloatArray, IntArray
from obdb_lib.errors import DatasetError
from obdb_lib.progress import Task
from obdb_lib.projection import METHODS, place, project
from obdb_lib.reduction import Components, neighbours, principal_components, vectors_hash
from tests.blobs import blobs, group_of
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def share_beside_own(xy: FloatArray, labels: IntArray) -> float:
    """Share of points whose nearest other point has the same label."""
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(axis=1)] == labels).mean())


@pytest.mark.parametrize("method", METHODS)
def test_maps_keep_blobs_apart_and_repeat(method: str, fresh_cache: Path) -> None:
    vectors, labels = blobs(), group_of()
    result = project(vectors, method=method, seed=1)
    assert result.xy.shape == (90, 2)
    assert share_beside_own(result.xy, labels) > 0.95
    assert project(vectors, method=method, seed=1).seconds == 0, "read back the second time"
    for path in (fresh_cache / "projections").glob("*"):
        path.unlink()
    np.testing.assert_allclose(project(vectors, method=method, seed=1).xy, result.xy, rtol=1e-3, atol=1e-3)


def test_tsne_mends_what_its_start_mixes() -> None:
    vectors, labels = blobs(12, 15, spread=1.5), group_of(12, 15)
    start = project(vectors, method="pca").xy
    assert share_beside_own(start, labels) < 0.75
    assert share_beside_own(project(vectors).xy, labels) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_new_crops_land_beside_their_own_on_a_map_read_back(method: str) -> None:
    vectors, labels = blobs(4, 40), group_of(4, 40)
    known = np.arange(len(vectors)) % 4 != 0
    made = project(vectors[known], method=method)
    before = made.xy.copy()
    placed = place(vectors[~known], project(vectors[known], method=method))
    np.testing.assert_array_equal(made.xy, before)
    near = np.linalg.norm(placed[:, None] - made.xy[None], axis=2).argmin(axis=1)
    assert (labels[known][near] == labels[~known]).mean() > 0.95
    np.testing.assert_allclose(place(vectors[~known], made), placed, rtol=1e-4, atol=1e-4)
    assert place(vectors[:0], made).shape == (0, 2)
    with pytest.raises(DatasetError, match=r"wanted \(N, 16\).*embedder that the map was made with"):
        place(np.zeros((2, 8), dtype=np.float32), made)


def test_a_crop_that_is_on_the_map_is_placed_where_it_is() -> None:
    vectors = blobs(4, 40)
    made = project(vectors)
    moved = np.linalg.norm(place(vectors, made) - made.xy, axis=1)
    assert np.median(moved) < 0.1 * made.xy.std()


def test_a_map_of_an_earlier_kernel_takes_new_crops_without_a_fit(fresh_cache: Path) -> None:
    vectors = blobs(4, 40)
    made = place(vectors[:5] + 0.1, project(vectors))
    script = (
        "import numpy as np\n"
        "from obdb_lib.projection import place, project\n"
        "from tests.blobs import blobs\n"
        "made = project(blobs(4, 40))\n"
        "assert made.seconds == 0, 'not read back'\n"
        "np.save(r'%s', place(blobs(4, 40)[:5] + 0.1, made))" % (fresh_cache / "placed.npy")
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=PROJECT)
    np.testing.assert_allclose(np.load(fresh_cache / "placed.npy"), made, rtol=1e-4, atol=1e-4)


class StopAt:
    """A Progress that interrupts this process, as the stop button does, at a number of iterations of a task."""

    def __init__(self, title: str, at: int) -> None:
        self.title, self.at, self.done = title, at, 0
        self.here = False

    def start(self, title: str, total: int | None) -> Task:
        self.here = title == self.title
        if self.here and self.at == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return self

    def finish(self, task: Task) -> None:
        self.here = False

    def advance(self, steps: int = 1, **info: object) -> None:
        self.done += steps if self.here else 0
        if self.here and self.done == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_stopping_keeps_the_map_so_far_and_does_not_cache_it(
    fresh_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors, labels = blobs(4, 40), group_of(4, 40)
    with caplog.at_level(logging.WARNING):
        stopped = project(vectors, progress=StopAt("t-SNE", 300))
    assert stopped.partial
    assert stopped.parameters["iterations"] == 300
    assert "stopped after 300 iterations" in caplog.text
    assert share_beside_own(stopped.xy, labels) > 0.95, "well on its way at 300 of 750"
    assert place(vectors[:3], stopped).shape == (3, 2)
    whole = project(vectors)
    assert not whole.partial
    assert whole.seconds > 0
    assert not np.allclose(whole.xy, stopped.xy, atol=0.1)


@pytest.mark.parametrize(("method", "title"), [("tsne", "find neighbours"), ("umap", "UMAP")])
def test_stopping_before_the_layout_gives_its_start(method: str, title: str) -> None:
    vectors = blobs(4, 40)
    stopped = project(vectors, method=method, progress=StopAt(title, 0))
    assert stopped.partial
    assert stopped.parameters["iterations"] == 0
    assert stopped.xy.std() > 0


def test_umap_stopped_in_the_middle_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from umap import layouts

    vectors, labels = blobs(4, 40), group_of(4, 40)
    calls = 0
    real = layouts._get_optimize_layout_euclidean_single_epoch_fn

    def counting(*given: object) -> object:
        step = real(*given)

        def epoch(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 50:
                raise KeyboardInterrupt
            return step(*arguments)

        return epoch

    monkeypatch.setattr(layouts, "_get_optimize_layout_euclidean_single_epoch_fn", counting)
    stopped = project(vectors, method="umap", progress=None)
    assert stopped.partial
    assert share_beside_own(stopped.xy, labels) > 0.95


def test_an_error_of_the_fit_is_no_partial_map(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **named: object) -> None:
        raise MemoryError("too many")

    monkeypatch.setattr(tsne, "neighbours", broken)
    with pytest.raises(MemoryError):
        project(blobs())


def test_parameters_change_the_key() -> None:
    vectors = blobs()
    base = project(vectors)
    assert project(vectors, perplexity=5).seconds > 0
    assert project(vectors, perplexity=5).seconds == 0
    assert not np.allclose(project(vectors, perplexity=5).xy, base.xy)
    assert project(vectors, method="umap", n_neighbors=5).seconds > 0
    assert project(vectors, method="umap", n_neighbors=5, seed=2).seconds > 0
    assert project(vectors + 1e-3).seconds > 0


def test_the_schedule_follows_the_number_of_crops() -> None:
    assert tsne.schedule(31).perplexity == 10
    assert tsne.schedule(10_000).perplexity == 30
    assert [phase.exaggeration for phase in tsne.schedule(10_000).phases] == [12, 1, 1]
    assert tsne.schedule(200_000).phases[-1].exaggeration == tsne.LATE_EXAGGERATION
    last = {n: tsne.schedule(n).phases[-1].gradient["negative_gradient_method"] for n in (500, 10_000, 50_000)}
    assert last == {500: "bh", 10_000: "bh", 50_000: "fft"}


def test_progress_counts_all_iterations() -> None:
    seen = StopAt("t-SNE", -1)
    project(blobs(), progress=seen)
    assert seen.done == tsne.schedule(90).iterations


def test_many_crops_take_the_fast_gradients() -> None:
    vectors, labels = blobs(6, 40), group_of(6, 40)
    phases = tsne.schedule(tsne.FFT_FROM).phases
    assert {phase.gradient["negative_gradient_method"] for phase in phases} == {"fft"}
    short = tuple(replace(phase, iterations=phase.iterations // 5) for phase in phases)
    xy = tsne.fit(vectors, tsne.Schedule(30.0, short))
    assert share_beside_own(xy, labels) > 0.95


def test_tiny_and_wrong_input() -> None:
    for method in METHODS:
        assert project(np.eye(4, dtype=np.float32), method=method).xy.shape == (4, 2)
        assert np.isfinite(project(np.ones((6, 3), dtype=np.float32), method=method).xy).all(), "all crops alike"
    assert project(np.arange(5, dtype=np.float32)[:, None], method="pca").xy.shape == (5, 2)
    with pytest.raises(DatasetError, match="at least 3"):
        project(np.eye(2, dtype=np.float32))
    with pytest.raises(DatasetError, match="tsne, umap, pca"):
        project(np.eye(5, dtype=np.float32), method="tsnee")
    with pytest.raises(DatasetError, match="perplexity of at least 1"):
        project(np.eye(5, dtype=np.float32), perplexity=0)


def test_components_are_those_of_scikit_learn_and_read_memory_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.decomposition import PCA

    monkeypatch.setattr("obdb_lib.reduction.CHUNK_ROWS", 37)
    vectors = blobs(5, 60, dimensions=80) + 3
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float16))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    wanted = PCA(10).fit_transform(vectors.astype(np.float64))
    found = principal_components(mapped, 10)(mapped)
    assert found.dtype == np.float32
    assert np.abs(np.abs(wanted) - np.abs(found)).max() < 0.1
    assert isinstance(principal_components(vectors), Components)
    assert vectors_hash(mapped) == vectors_hash(vectors.astype(np.float16))
    assert vectors_hash(vectors) != vectors_hash(vectors.reshape(600, 40))


def test_neighbours_leave_the_point_itself_out_even_among_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obdb_lib.reduction.NEIGHBOUR_ROWS", 7)
    vectors = np.repeat(blobs(2, 5), 4, axis=0)
    found, distances = neighbours(vectors, 3)
    assert (found != np.arange(40)[:, None]).all()
    np.testing.assert_array_equal(found // 4, np.arange(40)[:, None] // 4 * np.ones((1, 3), dtype=int))
    assert distances.max() < 0.05
    near, _ = neighbours(vectors, 2, queries=vectors[8:9])
    assert set(near[0] // 4) == {2}
