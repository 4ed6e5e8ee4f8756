"""Many pairs of frames put to the proof, in threads; what was tried survives an interrupt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import psutil

from obdb_lib import paths
from obdb_lib.cache import load_arrays, save_arrays
from obdb_lib.frame_features import Features, FeatureTable
from obdb_lib.frame_match import Match, match
from obdb_lib.progress import Progress, track

Try = tuple[int, int, bool]
"""Smaller number, larger number, whether the larger one is mirrored."""

KEPT_FEATURES = 512
"""Frames whose features are kept unpacked, about 100 kB each."""
FRIENDS = 48
"""Strongest twins of a frame that are tried on each other; more finds more pairs of very large groups."""
CLOSING_ROUNDS = 4
_BATCH = 256


class Proofs:
    """Tries made and pairs proved for one set of frames, kept in ``data_cache/duplicates`` while unfinished.

    Attributes:
        proved: (first, second) -> the orientation with most matches.
    """

    def __init__(self, table: FeatureTable, key: str, min_correlation: float) -> None:
        self.proved: dict[tuple[int, int], Match] = {}
        self._table, self._min_correlation = table, min_correlation
        self._tried: set[Try] = set()
        self._path: Path = paths.data_cache() / "duplicates" / f"{key}.unfinished.npz"
        self._resume()

    def close_under(self, tries: Iterable[Try], progress: Progress | None = None) -> None:
        """Prove ``tries``, then try twins of a frame on each other, until nothing new is found.

        The first step finds a few twins of each frame of a large group; the second one finds the rest.
        """
        waiting = [one for one in tries if one not in self._tried]
        try:
            for _ in range(CLOSING_ROUNDS + 1):
                self._prove(sorted(waiting), progress)
                waiting = [one for one in self._friends_of_friends() if one not in self._tried]
                if not waiting:
                    break
        except BaseException:
            self._save()
            raise

    def finished(self) -> None:
        """The result is stored elsewhere; the unfinished one is not needed any more."""
        self._path.unlink(missing_ok=True)

    def _prove(self, tries: list[Try], progress: Progress | None) -> None:
        from threadpoolctl import threadpool_limits

        features = lru_cache(maxsize=KEPT_FEATURES)(self._table.get)

        def one(item: Try) -> Match | None:
            return _proof(features(item[0]), features(item[1]), item[2], self._min_correlation)

        # Small products are slower when BLAS splits them among threads that wait for each other.
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(psutil.cpu_count() or 1) as pool,
            track(progress, "compare frames", len(tries)) as task,
        ):
            for start in range(0, len(tries), _BATCH):
                batch = tries[start : start + _BATCH]
                for item, found in zip(batch, pool.map(one, batch), strict=True):
                    self._note(item, found)
                task.advance(len(batch), pairs=len(self.proved))

    def _note(self, item: Try, found: Match | None) -> None:
        self._tried.add(item)
        known = self.proved.get(item[:2])
        if found is not None and (known is None or found.matches > known.matches):
            self.proved[item[:2]] = found

    def _friends_of_friends(self) -> Iterator[Try]:
        friends: dict[int, list[tuple[int, int, bool]]] = {}
        for (first, second), found in self.proved.items():
            friends.setdefault(first, []).append((-found.matches, second, found.mirrored))
            friends.setdefault(second, []).append((-found.matches, first, found.mirrored))
        seen: set[Try] = set()
        for several in friends.values():
            nearest = sorted(several)[:FRIENDS]
            for (_, one, turned), (_, other, other_turned) in combinations(nearest, 2):
                item = (min(one, other), max(one, other), turned != other_turned)
                if item[:2] not in self.proved and item not in seen:
                    seen.add(item)
                    yield item

    def _resume(self) -> None:
        stored = load_arrays(self._path) if self._path.exists() else None
        if stored is None:
            return
        self._tried = {(int(a), int(b), bool(mirrored)) for a, b, mirrored in stored["tried"]}
        self.proved = unpacked(stored["pairs"], stored["numbers"])

    def _save(self) -> None:
        if not self._tried:
            return
        pairs, numbers = packed(self.proved)
        tried = np.array(sorted(self._tried), dtype=np.int64)
        save_arrays(self._path, {"tried": tried, "pairs": pairs, "numbers": numbers})


def packed(proved: dict[tuple[int, int], Match]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (P, 2) int64 and what is known of them (P, 9) float64, sorted by pair."""
    items = sorted(proved.items())
    pairs = np.array([pair for pair, _ in items], dtype=np.int64).reshape(-1, 2)
    numbers = [
        (m.matches, m.correlation, m.overlap, m.agreeing, m.mirrored, m.turn, m.zoom, *m.shift) for _, m in items
    ]
    return pairs, np.array(numbers, dtype=np.float64).reshape(-1, 9)


def unpacked(pairs: np.ndarray, numbers: np.ndarray) -> dict[tuple[int, int], Match]:
    """The reverse of ``packed``."""
    return {
        (int(first), int(second)): Match(int(n[0]), n[1], n[2], n[3], bool(n[4]), n[5], n[6], (n[7], n[8]))
        for (first, second), n in zip(pairs, numbers.tolist(), strict=True)
    }


def _proof(first: Features, second: Features, mirrored: bool, min_correlation: float) -> Match | None:
    found = match(first, second, mirrored=mirrored)
    return found if found is not None and found.proves(min_correlation) else None
