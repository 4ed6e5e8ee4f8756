"""t-SNE by openTSNE (Policar et al. 2019): the schedule by number of crops, the fit, and new crops on a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from obdb_lib.boxes import FloatArray
from obdb_lib.progress import Progress, Task, track
from obdb_lib.reduction import neighbours

DEFAULT_PERPLEXITY = 30.0
NEIGHBOURS_PER_PERPLEXITY = 3
"""The Gaussian of a point reaches this many times its perplexity in neighbours (van der Maaten 2014)."""
FFT_START_FROM = 3000
"""From so many crops the first phase takes the FFT gradient: the map is small then, and so is the grid."""
FFT_FROM = 30_000
"""From so many crops all phases do; below, Barnes-Hut keeps more neighbours for the same time."""
EXAGGERATED_FROM = 100_000
LATE_EXAGGERATION = 2.0
"""From so many crops attraction stays a little exaggerated (Kobak & Berens 2019 advise it for N >> 100,000), because
clusters otherwise fill the plane without a gap."""
THREADS_FROM = 5000
"""Fewer crops are laid out by one thread: the threads of a short iteration mostly wait for each other, and on a machine
with other work they take many times as long as one."""
EARLY_EXAGGERATION = 12.0
MOMENTUM = 0.8
REPORT_EVERY = 25
"""Iterations between two reports of progress; each evaluates the error, which costs as much as an iteration."""

PLACE_NEIGHBOURS = 25
PLACE_PERPLEXITY = 5.0
PLACE_ITERATIONS = 100
PLACE_EXAGGERATION = 1.5
PLACE_RATE = 0.1
PLACE_MAX_GRADIENT = 0.25
"""A new point starts at the median of its nearest crops and moves a little by its own affinities (Policar, Strazar &
Zupan 2019, "Embedding to reference t-SNE space"): a small rate and a clipped gradient keep it from shooting off."""

BARNES_HUT: Mapping[str, Any] = {"negative_gradient_method": "bh", "theta": 0.5}
START_FFT: Mapping[str, Any] = {"negative_gradient_method": "fft", "min_num_intervals": 20}
COARSE_FFT: Mapping[str, Any] = {"negative_gradient_method": "fft", "ints_in_interval": 2}
WIDE_FFT: Mapping[str, Any] = {"negative_gradient_method": "fft", "ints_in_interval": 2, "n_interpolation_points": 4}


class StoppedError(Exception):
    """A person stopped the fit.

    Attributes:
        xy: (N, 2) float32, the map so far.
        iterations: how many iterations it had.
    """

    def __init__(self, xy: FloatArray, iterations: int) -> None:
        super().__init__(f"stopped after {iterations} iterations")
        self.xy = xy
        self.iterations = iterations


@dataclass(frozen=True)
class Phase:
    """Some iterations of gradient descent.

    Attributes:
        iterations: how many.
        exaggeration: factor on the attraction; the learning rate is N / exaggeration (Belkina et al. 2019).
        gradient: openTSNE's arguments of the repulsion: its method and how fine it is.
    """

    iterations: int
    exaggeration: float
    gradient: Mapping[str, Any]


@dataclass(frozen=True)
class Schedule:
    """What a fit does: ``perplexity`` and its phases, one after another."""

    perplexity: float
    phases: tuple[Phase, ...]

    @property
    def iterations(self) -> int:
        """All of them together."""
        return sum(phase.iterations for phase in self.phases)

    def as_dict(self) -> dict[str, object]:
        """For the key of the cache and for a person."""
        return asdict(self)


def schedule(count: int, perplexity: float = DEFAULT_PERPLEXITY) -> Schedule:
    """Phases for ``count`` crops.

    Early exaggeration 12 for 250 iterations from a PCA start, learning rate N / exaggeration, perplexity 30 or what
    few crops allow (Kobak & Berens 2019, "The art of using t-SNE for single-cell transcriptomics"; Belkina et al.
    2019). The repulsion is coarse while the map still unfolds and fine at the end: measured on 10,000 crops it keeps
    as many neighbours (to .004) as scikit-learn's 1,000 iterations in a third of its CPU time.
    """
    late = LATE_EXAGGERATION if count >= EXAGGERATED_FROM else 1.0
    small = count < FFT_START_FROM
    start, unfold = (BARNES_HUT, BARNES_HUT) if small else (START_FFT, COARSE_FFT)
    settle = WIDE_FFT if count >= FFT_FROM else BARNES_HUT
    phases = (
        Phase(250, EARLY_EXAGGERATION, start),
        Phase(100, late, unfold),
        Phase(400 if small else 300, late, settle),
    )
    return Schedule(float(min(perplexity, (count - 1) / NEIGHBOURS_PER_PERPLEXITY)), phases)


def fit(reduced: FloatArray, plan: Schedule, progress: Progress | None = None) -> FloatArray:
    """Lay out reduced vectors (N, d) in the plane: (N, 2) float32.

    Deterministic: it starts from the first two components and draws nothing at random.

    Raises:
        StoppedError: an interrupt (KeyboardInterrupt) came; it carries the map so far.
    """
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.initialization import rescale
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    start = rescale(_two_columns(reduced).astype(np.float64))
    embedding = start
    done = _Counter()
    jobs = _jobs(len(reduced))
    try:
        k = min(len(reduced) - 1, int(NEIGHBOURS_PER_PERPLEXITY * plan.perplexity))
        found, distances = neighbours(reduced, max(k, 1), progress=progress)
        graph = PrecomputedNeighbors(found, distances)
        affinities = PerplexityBasedNN(knn_index=graph, perplexity=plan.perplexity, n_jobs=jobs)
        embedding = TSNE(n_jobs=jobs).prepare_initial(affinities=affinities, initialization=start)
        with track(progress, "t-SNE", plan.iterations) as task:
            for phase in plan.phases:
                embedding.optimize(
                    n_iter=phase.iterations,
                    exaggeration=phase.exaggeration,
                    learning_rate=len(reduced) / phase.exaggeration,
                    momentum=MOMENTUM,
                    inplace=True,
                    callbacks=done.watch(task),
                    callbacks_every_iters=REPORT_EVERY,
                    **phase.gradient,
                )
    except KeyboardInterrupt as stop:
        raise StoppedError(np.array(embedding, dtype=np.float32), done.iterations) from stop
    return np.array(embedding, dtype=np.float32)


class _Counter:
    """Iterations done, reported to a task."""

    def __init__(self) -> None:
        self.iterations = 0

    def watch(self, task: Task) -> Callable[[int, float, object], None]:
        def step(iteration: int, error: float, embedding: object) -> None:
            self.iterations += REPORT_EVERY
            task.advance(REPORT_EVERY, error=f"{error:.2f}")

        return step


def place(new: FloatArray, reduced: FloatArray, xy: FloatArray, progress: Progress | None = None) -> FloatArray:
    """Positions (M, 2) float32 of new reduced vectors (M, d) on the map ``xy`` (N, 2) of ``reduced`` (N, d).

    The map stays as it is and new crops do not push each other: each lands where its own neighbours are.
    """
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PrecomputedAffinities, joint_probabilities_nn
    from openTSNE.tsne import PartialTSNEEmbedding
    from scipy.sparse import csr_matrix

    found, distances = neighbours(reduced, min(PLACE_NEIGHBOURS, len(reduced)), queries=new, progress=progress)
    start = np.median(xy[found].astype(np.float64), axis=1)
    near = min(found.shape[1], int(NEIGHBOURS_PER_PERPLEXITY * PLACE_PERPLEXITY))
    affinities = joint_probabilities_nn(
        found[:, :near],
        distances[:, :near],
        [min(PLACE_PERPLEXITY, near / NEIGHBOURS_PER_PERPLEXITY)],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(reduced),
        n_jobs=_jobs(len(new)),
    )
    nothing = PrecomputedAffinities(csr_matrix((len(xy), len(xy))), normalize=False)  # the map itself does not move
    reference = TSNEEmbedding(xy.astype(np.float64), affinities=nothing)
    with track(progress, "place on the map", PLACE_ITERATIONS) as task:
        placed = PartialTSNEEmbedding(start, reference, P=affinities).optimize(
            n_iter=PLACE_ITERATIONS,
            exaggeration=PLACE_EXAGGERATION,
            learning_rate=PLACE_RATE,
            momentum=MOMENTUM,
            max_grad_norm=PLACE_MAX_GRADIENT,
            max_step_norm=None,
            n_jobs=_jobs(len(new)),
            callbacks=_Counter().watch(task),
            callbacks_every_iters=REPORT_EVERY,
            **BARNES_HUT,
        )
    return cast(FloatArray, np.array(placed, dtype=np.float32))


def _two_columns(reduced: FloatArray) -> FloatArray:
    flat = reduced[:, :2]
    return flat if flat.shape[1] == 2 else np.hstack([flat, np.zeros_like(flat)])


def _jobs(count: int) -> int:
    """openTSNE's number of threads; -1 is all cores."""
    return -1 if count >= THREADS_FROM else 1
