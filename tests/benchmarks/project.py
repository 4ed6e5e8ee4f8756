"""Maps: CPU time and quality of t-SNE beside scikit-learn's, a large map, and how quickly it can be stopped.

``python -m tests.benchmarks.project --json``: 10,000 crops for the comparison, 50,000 for the large map. The vectors
are made up (``_vectors.field_vectors``). scikit-learn gets what it advises: PCA to 50 first, PCA start, its defaults.
CPU time is that of the process with all its threads. ``--quick`` measures the same bars on 5,000 and 8,000 crops.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import numpy as np

from obdb_lib import paths
from obdb_lib.boxes import FloatArray
from obdb_lib.map_quality import MapQuality, map_quality
from obdb_lib.progress import Progress, Task
from obdb_lib.projection import Projection, place, project
from tests.benchmarks._bars import Bar, arguments, bar, report
from tests.benchmarks._vectors import field_vectors

FULL, QUICK = (10_000, 50_000), (5_000, 8_000)
STOP_AFTER = 100
"""Iterations of t-SNE after which the interrupt is sent."""
PLACED = 500


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Interrupter:
    """A Progress that sends SIGINT to this process, from another thread, a while into t-SNE."""

    done: int = 0
    sent: float | None = None

    def start(self, title: str, total: int | None) -> Task:
        return _Watched(self, title)

    def finish(self, task: Task) -> None:
        return

    def send(self) -> None:
        self.sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)


@dataclass
class _Watched:
    owner: Interrupter
    title: str

    def advance(self, steps: int = 1, **info: object) -> None:
        if self.title != "t-SNE":
            return
        self.owner.done += steps
        if self.owner.done == STOP_AFTER:
            threading.Timer(0.3, self.owner.send).start()


def fresh(vectors: FloatArray, progress: Progress | None = None) -> tuple[Projection, float, float]:
    """A t-SNE made in an empty data_cache; its CPU and wall seconds."""
    with tempfile.TemporaryDirectory(prefix="obdb_project_") as folder:
        os.environ["OBDB_DATA_CACHE"] = folder
        cpu, wall = cpu_seconds(), time.monotonic()
        made = project(vectors, progress=progress)
        return made, cpu_seconds() - cpu, time.monotonic() - wall


def judge(reduced: FloatArray, xy: FloatArray) -> MapQuality:
    with tempfile.TemporaryDirectory(prefix="obdb_project_") as folder:
        os.environ["OBDB_DATA_CACHE"] = folder
        return map_quality(reduced, xy, k=10)


def scikit_learn(vectors: FloatArray) -> tuple[FloatArray, float]:
    """The same by scikit-learn's PCA and t-SNE; its CPU seconds."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    cpu = cpu_seconds()
    xy = TSNE(init="pca", random_state=0).fit_transform(PCA(50, random_state=0).fit_transform(vectors))
    return np.asarray(xy, dtype=np.float32), cpu_seconds() - cpu


def compare(count: int) -> list[Bar]:
    every, every_look = field_vectors(count + PLACED)
    vectors, look = every[:count], every_look[:count]
    fresh(vectors[:500])  # what both need is imported before the clock starts
    ours, cpu, _ = fresh(vectors)
    theirs_xy, theirs_cpu = scikit_learn(vectors)
    mine, theirs = judge(ours.reduced, ours.xy), judge(ours.reduced, theirs_xy)
    placed = place(every[count:], ours)
    near = np.linalg.norm(placed[:, None] - ours.xy[None], axis=2).argmin(axis=1)
    said = f"{count:,} crops: {cpu:.1f} against {theirs_cpu:.1f} CPU seconds"
    return [
        bar("t-SNE, CPU time by scikit-learn's", cpu / theirs_cpu, "<= 0.5", said),
        bar(
            "10-NN recall less scikit-learn's",
            mine.knn_recall - theirs.knn_recall,
            ">= -0.01",
            f"{mine.knn_recall:.3f} against {theirs.knn_recall:.3f}",
        ),
        bar(
            "trustworthiness less scikit-learn's",
            mine.trustworthiness - theirs.trustworthiness,
            ">= -0.01",
            f"{mine.trustworthiness:.4f} against {theirs.trustworthiness:.4f}",
        ),
        bar(
            "new crops placed beside their own look, share",
            float((look[near] == every_look[count:]).mean()),
            ">= 0.95",
            f"{PLACED} crops placed without a refit",
        ),
    ]


def large(count: int) -> list[Bar]:
    vectors, _ = field_vectors(count, seed=1)
    made, cpu, wall = fresh(vectors)
    quality = judge(made.reduced, made.xy)
    interrupter = Interrupter()
    stopped, _, _ = fresh(vectors, interrupter)
    answered = None
    if stopped.partial and interrupter.sent is not None and stopped.parameters["iterations"] >= STOP_AFTER:
        answered = time.monotonic() - interrupter.sent
    said = f"{count:,} crops, {cpu:.0f} CPU seconds, {quality}"
    return [
        bar("a large map, wall seconds", wall, "< 120", said),
        bar(
            "from interrupt to the partial map, seconds",
            answered,
            "< 5",
            f"after {stopped.parameters.get('iterations', 'all')} iterations of {count:,} crops",
        ),
    ]


def main() -> int:
    options = arguments(__doc__)
    paths.share_cores()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore the interrupt
    compared, mapped = QUICK if options.quick else FULL
    report("project", [*compare(compared), *large(mapped)], only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
