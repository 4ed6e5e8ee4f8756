"""Decoding, cutting and inference side by side, with a bounded amount of work under way.

Frames are read in worker threads a few ahead of the batches, so the device never waits for a decoder and memory holds a
handful of frames whatever the size of the data. Batches are filled in the order of the frames, so a run computes the
same batches, and so the same vectors, every time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from obdb_lib.boxes import FloatArray
from obdb_lib.errors import FrameError
from obdb_lib.networks import Images, Network, usable_cores
from obdb_lib.records import Problem

Reader = Callable[[str, Sequence[int]], Images]
"""A frame's img_path and rows of its pictures to the pictures (n, S, S, 3) uint8; FrameError when it is unreadable."""
Done = tuple[list[int], FloatArray]

READ_AHEAD = 3
"""Frames for each core that are read before their batch is due."""
BATCHES_AHEAD = 2
"""Batches for each thread that wait for it or for whoever takes their vectors."""


def computed(
    frames: Mapping[str, Sequence[int]], read: Reader, network: Network, size: int, problems: list[Problem]
) -> Generator[Done, None, None]:
    """Rows and their vectors (n, D) float32, batch by batch.

    Args:
        frames: rows of the wanted pictures by the frame they lie in; each frame is read once.
        read: gives a frame's pictures; called in worker threads.
        network: what makes vectors of them.
        size: side of the pictures in pixels.
        problems: unreadable frames are added here and left out.
    """
    cores = usable_cores()
    with ExitStack() as stack:
        readers = stack.enter_context(_pool(cores, network))
        # One pool on a CPU: as many threads as cores, each decoding or computing, whichever is due.
        threads = network.threads or cores
        workers = readers if network.threads == 0 else stack.enter_context(_pool(threads, network))
        under_way: deque[tuple[list[int], Future[FloatArray]]] = deque()
        try:
            for rows, images in _batches(_read_ahead(frames, read, readers, cores, problems), network.batch_of(size)):
                under_way.append((rows, workers.submit(network.embed, images)))
                while len(under_way) > BATCHES_AHEAD * threads or (under_way and under_way[0][1].done()):
                    done, future = under_way.popleft()
                    yield done, future.result()
            while under_way:
                done, future = under_way.popleft()
                yield done, future.result()
        finally:  # an interrupt or an error: what has not begun is dropped, so that leaving takes a batch, not a queue
            for pool in (readers, workers):
                pool.shutdown(wait=False, cancel_futures=True)


def _pool(threads: int, network: Network) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="embed", initializer=network.prepare)


def _read_ahead(
    frames: Mapping[str, Sequence[int]], read: Reader, pool: ThreadPoolExecutor, cores: int, problems: list[Problem]
) -> Iterator[tuple[Sequence[int], Images]]:
    waiting = iter(frames.items())
    reads: deque[tuple[Sequence[int], Future[Images]]] = deque()
    while True:
        while len(reads) < READ_AHEAD * cores and (item := next(waiting, None)):
            reads.append((item[1], pool.submit(read, *item)))
        if not reads:
            return
        rows, future = reads.popleft()
        try:
            yield rows, future.result()
        except FrameError as error:
            problems.append(Problem("embeddings", str(error)))


def _batches(read: Iterator[tuple[Sequence[int], Images]], batch: int) -> Iterator[tuple[list[int], Images]]:
    rows: list[int] = []
    parts: list[Images] = []
    for some, images in read:
        rows.extend(some)
        parts.append(images)
        if len(rows) >= batch:
            together = np.concatenate(parts) if len(parts) > 1 else parts[0]
            full = len(rows) - len(rows) % batch
            for start in range(0, full, batch):
                yield rows[start : start + batch], together[start : start + batch]
            rows, parts = rows[full:], [together[full:]]
    if rows:
        yield rows, np.concatenate(parts)
