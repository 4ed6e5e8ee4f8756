"""Duplicate frames: the same picture, or the same ground seen twice, by a moving camera or by augmentation.

Equal pixels make exact copies. Other frames are compared with those whose features are most alike (frame_candidates),
and a pair counts when features and pixels prove it (frame_match): shifted, mirrored, turned, zoomed and re-lit copies
are found, and so are frames of a video that share enough ground. No file name is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import cast

import numpy as np
import pandas as pd
from scipy import sparse

from obdb_lib.boxes import IntArray
from obdb_lib.cache import artefact_arrays, content_hash
from obdb_lib.exact_copies import equal_pixels, exact_classes, pixel_digests
from obdb_lib.frame_candidates import candidate_pairs
from obdb_lib.frame_features import VERSION, FeatureTable, frame_features, stamp
from obdb_lib.frame_match import MIN_AGREEING, MIN_CORRELATION, MIN_EVIDENCE, MIN_MATCHES, MIN_OVERLAP, Match
from obdb_lib.frame_proofs import Proofs, packed
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress
from obdb_lib.records import Problem

CANDIDATES = 24
"""Frames most alike that each one is compared with, upright and mirrored together; more finds more, but slower."""
CLIQUE = 300
"""Of more equal frames than this (a covered lens), only pairs with the first one are listed; the group has all."""
COLUMNS = ("matches", "correlation", "overlap", "agreeing", "mirrored", "turn", "zoom", "shift_x", "shift_y")


@dataclass(frozen=True)
class DuplicateGroups:
    """Which frames show the same ground.

    Attributes:
        groups: Series img_path -> group number; a frame without a twin is a group of its own.
        pairs: what was proved, a row a pair: first, second (img_path); correlation (float32, of what both show, at most
            1); kind "exact" (equal pixels) or "near"; and how the second frame lies over the first: matches (features
            that agree), overlap (share of the smaller frame, 0..1), agreeing (share of the overlap
            that correlates by itself), mirrored, turn (degrees anticlockwise), zoom,
            shift_x, shift_y (of the centre, in longer sides of the first frame).
        problems: frames that cannot be read; they are groups of their own.
    """

    groups: pd.Series
    pairs: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of groups of two or more frames."""
        return int((self.groups.value_counts() > 1).sum())


def find_duplicates(
    img_paths: Sequence[str],
    frames: FrameStore,
    *,
    min_correlation: float = MIN_CORRELATION,
    candidates: int = CANDIDATES,
    seed: int = 0,
    progress: Progress | None = None,
) -> DuplicateGroups:
    """Exact and near duplicates among whole frames, in groups (everything that pairs connect is one group).

    The result is cached by the files' stamps and the parameters; frames read and pairs tried before an interrupt count.

    Args:
        img_paths: the frames to look at.
        min_correlation: stricter when raised, 0..1.
        candidates: frames each frame is compared with.
        seed: for the sample that the candidates' vocabulary is fitted to.

    Raises:
        CacheError: data_cache cannot be written.
    """
    names = list(dict.fromkeys(str(name) for name in img_paths))
    inputs: dict[str, object] = {
        "frames": len(names),
        "files": content_hash([(name, stamp(frames, name)) for name in names]),
        "version": VERSION,
        "limits": [min_correlation, MIN_MATCHES, MIN_EVIDENCE, MIN_OVERLAP, MIN_AGREEING],
        "candidates": candidates,
        "seed": seed,
    }

    def make() -> dict[str, np.ndarray]:
        table = frame_features(frames, names, progress)
        return _found(table, frames, inputs, min_correlation, candidates, seed, progress)

    arrays = artefact_arrays("duplicates", inputs, make)
    labels = connected(len(names), np.concatenate([arrays["pairs"], arrays["joined"]]))
    problems = [Problem("duplicates", str(text)) for text in arrays["problems"]]
    groups = pd.Series(labels, index=pd.Index(names, name="img_path"), name="duplicate_group")
    return DuplicateGroups(groups, _pair_table(names, arrays), problems)


def connected(count: int, pairs: IntArray) -> IntArray:
    """Component number of each of ``count`` items joined by ``pairs`` (P, 2)."""
    ones = np.ones(len(pairs), dtype=np.int8)
    graph = sparse.coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    return cast(IntArray, labels.astype(np.int64))


def _found(
    table: FeatureTable,
    frames: FrameStore,
    inputs: dict[str, object],
    min_correlation: float,
    candidates: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """One frame of each class of equal ones is compared; what is found holds for the whole class."""
    digest = pixel_digests(frames)
    classes = exact_classes(table, digest)
    first_ones = np.array([numbers[0] for numbers in classes], dtype=np.int64)
    likely = candidate_pairs(table, first_ones, candidates, seed=seed, progress=progress)
    proofs = Proofs(table, content_hash(inputs), min_correlation)
    tries = [(first, second, mirrored) for (first, second), ways in likely.items() for mirrored in ways]
    proofs.close_under(tries, progress)
    exact = {pair for pair, found in proofs.proved.items() if equal_pixels(table, pair, found, digest)}
    members = {numbers[0]: numbers for numbers in classes}
    every: dict[tuple[int, int], Match] = {}
    joined: list[tuple[int, int]] = []
    for numbers in classes:
        joined += [(numbers[0], other) for other in numbers[1:]]
        for pair in _listed(numbers):
            count = int(table.row(pair[0])["count"])
            every[pair] = Match(count, 1.0, 1.0, 1.0, False, 0.0, 1.0, (0.0, 0.0))
            exact.add(pair)
    for (first, second), found in proofs.proved.items():
        for one in members[first][:CLIQUE]:
            for other in members[second][:CLIQUE]:
                every[min(one, other), max(one, other)] = found
                if (first, second) in exact:
                    exact.add((min(one, other), max(one, other)))
    proofs.finished()
    pairs, numbers_of = packed(every)
    return {
        "pairs": pairs,
        "numbers": numbers_of,
        "exact": np.array([tuple(pair) in exact for pair in pairs.tolist()], dtype=bool),
        "joined": np.array(joined, dtype=np.int64).reshape(-1, 2),
        "problems": np.array([problem.what for problem in table.problems], dtype=np.str_),
    }


def _listed(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) > CLIQUE:
        return [(numbers[0], other) for other in numbers[1:]]
    return list(combinations(numbers, 2))


def _pair_table(names: list[str], arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    columns: dict[str, object] = {
        "first": [names[i] for i in arrays["pairs"][:, 0]],
        "second": [names[i] for i in arrays["pairs"][:, 1]],
        "correlation": arrays["numbers"][:, 1].astype(np.float32),
        "kind": np.where(arrays["exact"], "exact", "near").astype(object),
    }
    for number, name in enumerate(COLUMNS):
        if name != "correlation":
            columns[name] = arrays["numbers"][:, number]
    table = pd.DataFrame(columns)
    return table.astype({"matches": np.int64, "mirrored": bool})
