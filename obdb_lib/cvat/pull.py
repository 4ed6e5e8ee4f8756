"""Bring CVAT tasks in: labels, frames and shapes as upstream documents, and images that are not here yet.

``pull_into`` keeps a store up to date: only what changed is read, each task changes as a whole, and what was stored
stays when the pull is interrupted. ``pull_tasks`` reads without a store.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from obdb_lib.cvat.client import CvatClient, RefusedError
from obdb_lib.cvat.names import paths_by_name
from obdb_lib.cvat.pull_images import ImageSource
from obdb_lib.cvat.pull_jobs import JobFilter, job_filter
from obdb_lib.cvat.pull_read import Pulled, ReadOptions, StoppedError, read_task
from obdb_lib.cvat.pull_summary import GoneTask, PullSummary
from obdb_lib.cvat.pull_survey import ServerTask, Survey, patiently, survey
from obdb_lib.cvat.pull_tracks import KEYFRAMES, require_way
from obdb_lib.errors import CvatError
from obdb_lib.progress import Progress, track
from obdb_lib.records import Document, Problem, ReadResult
from obdb_lib.store import Store

logger = logging.getLogger(__name__)

WORKERS = 3
"""Tasks that are read at once: enough to hide the waiting, few enough for a server that others work on."""
IMAGE_TRIES = 2
POLL_S = 0.2
KEEP, REMOVE = "keep", "remove"
Share = Mapping[str, Path | str]


def pull_tasks(
    client: CvatClient,
    *,
    only_completed: bool = True,
    jobs: str | JobFilter | None = None,
    names: Sequence[str] | None = None,
    tracks: str = KEYFRAMES,
    image_root: Path | None = None,
    share: Share | None = None,
    known_paths: Collection[str] = (),
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> ReadResult:
    """Read tasks with their annotations.

    A frame's ``img_path`` is its name on CVAT when that has folders (files of a share). A bare name is looked up among
    ``known_paths`` (so that frames of a push get their own path back), else the task's name is put in front, because
    two tasks may well have different images of one name. Each annotation carries ``cvat_id``: ``{task, frame, shape}``
    and ``track`` where it comes from one. Deleted frames and those of jobs that do not count are left out, and the
    others are numbered without them.

    Args:
        only_completed: False is ``jobs="all"``.
        jobs: which jobs count, see pull_jobs.job_filter; default ``completed``.
        names: only these tasks; default all that the account sees.
        tracks: "keyframes", or "linear" for the boxes between them, too; see pull_tracks.
        image_root: folder below which missing images are put under their ``img_path``; None gets none.
        share: where images lie on this machine, see pull_images.ImageSource.
        known_paths: ``img_path`` of the frames that the store has.
        workers: tasks that are read at once, 1 or more.

    Returns:
        Whole tasks, checked as by records.check_task, in CVAT's order, and what was left out or mended.

    Raises:
        CvatError: a name that is not there, two tasks of one name, or any trouble with the server.
    """
    require_way(tracks)
    wanted = job_filter(jobs if jobs is not None else "completed" if only_completed else "all")
    found = survey(client, names, wanted)
    images = None if image_root is None else ImageSource(image_root, share=share or {})
    options = ReadOptions(tracks, paths_by_name(known_paths), images)
    by_id: dict[int, Pulled] = {}
    result = ReadResult(problems=_told(found, names, wanted))
    for task, pulled in _read_all(
        client, found.chosen, _Stamps(client.url, wanted, tracks), options, workers, progress
    ):
        if pulled is None:
            result.problems.append(_empty(task))
        else:
            by_id[task.id] = pulled
    for task in found.chosen:
        if task.id in by_id:
            result.tasks.append(by_id[task.id].record)
            result.problems += by_id[task.id].problems
    return result


def pull_into(
    store: Store,
    client: CvatClient,
    *,
    names: Sequence[str] | None = None,
    jobs: str | JobFilter = "completed",
    tracks: str = KEYFRAMES,
    force: bool = False,
    gone: str = KEEP,
    image_root: Path | None = None,
    share: Share | None = None,
    workers: int = WORKERS,
    merged: Collection[int] = (),
    progress: Progress | None = None,
) -> PullSummary:
    """Bring a store up to date with CVAT.

    Tasks that did not change since they were pulled with the same options are not read again. Every task is stored as
    soon as it was read, whole; what is stored stays when the pull is interrupted or breaks off, and repeating it goes
    on from there. A task that CVAT does not have any more, and one that has no job left that counts, stays in the store
    and is told.

    Args:
        names, jobs, tracks, image_root, share, workers: as for ``pull_tasks``.
        force: read every task again.
        gone: "keep", or "remove" to take tasks out of the store of which CVAT says that they are not there; only
            together with ``names=None``.
        merged: ids of auto tasks whose boxes stand in their ground-truth tasks, too (``push_journal.merged_tasks``);
            they are left out unless ``names`` names them, as each box would be there twice.

    Raises:
        CvatError: as ``pull_tasks`` does; tasks that were read before it are stored.
        StoreError: the store refuses.
    """
    require_way(tracks)
    if gone not in (KEEP, REMOVE):
        raise CvatError(f"gone={gone!r} is not known: wanted {KEEP!r} or {REMOVE!r}")
    wanted = job_filter(jobs)
    found = survey(client, names, wanted)
    twice = [task for task in found.chosen if names is None and task.id in merged]
    found = replace(found, chosen=[task for task in found.chosen if task not in twice])
    stamps = _Stamps(client.url, wanted, tracks)
    images = None
    if image_root is not None:
        images = ImageSource(image_root, others=store.image_roots(), share=share or {})
    options = ReadOptions(tracks, paths_by_name(store.frame_names()), images, image_tries=IMAGE_TRIES)
    summary = PullSummary(waiting=sorted(task.name for task in found.waiting), problems=_told(found, names, wanted))
    summary.problems += [Problem(f"task {task.name!r}", "merged into its ground truth, left out") for task in twice]
    known = {} if force else _known(store, found.chosen)
    fresh = [task for task in found.chosen if not stamps.is_known(task, known.get(task.name), store, images)]
    summary.not_read = sorted({task.name for task in found.chosen} - {task.name for task in fresh})
    for task, pulled in _read_all(client, fresh, stamps, options, workers, progress):
        if pulled is None:
            summary.problems.append(_empty(task))
            continue
        summary.changes += store.put_tasks([pulled.record])
        summary.problems += pulled.problems
        summary.images_fetched += pulled.fetched
        summary.images_linked += pulled.linked
    if names is None:
        summary.gone = _gone(store, client, found)
        if gone == REMOVE:
            summary.changes += store.remove_tasks([task.name for task in summary.gone if task.certain])
    summary.changes.sort(key=lambda change: change.name)
    summary.problems.sort(key=lambda problem: problem.where)
    return summary


def _told(found: Survey, names: Collection[str] | None, wanted: JobFilter) -> list[Problem]:
    """Tasks that were asked for by name and do not count."""
    if names is None:
        return []
    what = "no job of it has the wanted state" if wanted != job_filter("completed") else "not completed on CVAT"
    return [Problem(f"task {task.name!r}", f"{what}, left out") for task in found.waiting]


def _empty(task: ServerTask) -> Problem:
    return Problem(f"task {task.name!r}", "has no images on CVAT (or was deleted while it was read), left out")


# -- what changed --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stamps:
    """What is kept with a task so that the next pull knows whether it changed."""

    server: str
    jobs: JobFilter
    tracks: str

    def of(self, task: ServerTask) -> Document:
        jobs = [list(self.jobs.states), list(self.jobs.stages)]
        return {"server": self.server, "stamp": task.stamp(jobs, self.tracks)}

    def is_known(self, task: ServerTask, stored: Document | None, store: Store, images: ImageSource | None) -> bool:
        """Whether the store has the task as it is, and its images are where they should be."""
        if stored is None or stored.get("pulled") != self.of(task):
            return False
        return images is None or not images.missing(store.frames_of_task(task.name))


def _known(store: Store, tasks: Sequence[ServerTask]) -> dict[str, Document]:
    return {document["name"]: document for document in store.tasks([task.name for task in tasks])}


def _gone(store: Store, client: CvatClient, found: Survey) -> list[GoneTask]:
    """Tasks of the store that came from this server and are not on it under their name."""
    gone = []
    for document in store.tasks():
        number, name = document.get("cvat_id"), str(document["name"])
        if (document.get("pulled") or {}).get("server") != client.url or name in found.all_names or number is None:
            continue
        try:
            there = patiently(client, partial(client.task, int(number)))
        except RefusedError as error:
            gone.append(GoneTask(name, f"hidden from this account ({error.status})", certain=False))
            continue
        if there is None:
            gone.append(GoneTask(name, "deleted", certain=True))
        elif there["name"] != name:
            gone.append(GoneTask(name, f"renamed to {there['name']!r}", certain=True))
        else:
            gone.append(GoneTask(name, "not listed, though it is there (another organisation?)", certain=False))
    return gone


# -- several at once -----------------------------------------------------------------------------------------------


def _read_all(
    client: CvatClient,
    tasks: Sequence[ServerTask],
    stamps: _Stamps,
    options: ReadOptions,
    workers: int,
    progress: Progress | None,
) -> Iterator[tuple[ServerTask, Pulled | None]]:
    """Read tasks, ``workers`` at once, and give each as soon as it is there (None: it has no images, or is gone).

    When one fails, those under way are still given, then the error is raised. Progress is told from this thread alone.
    """
    ticks: SimpleQueue[int] = SimpleQueue()
    options = replace(options, tick=ticks.put)
    waiting, error = list(reversed(tasks)), None
    running: dict[Future[Pulled | None], ServerTask] = {}
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="pull")
    try:
        shown = progress if options.images else None
        with track(progress, "read CVAT tasks", len(tasks)) as bar, track(shown, "get images", None) as image_bar:
            while running or (waiting and error is None):
                while waiting and error is None and len(running) < max(1, workers):
                    task = waiting.pop()
                    running[pool.submit(read_task, client, task, stamps.of(task), options)] = task
                done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
                while not ticks.empty():
                    image_bar.advance(ticks.get())
                for future in done:
                    task = running.pop(future)
                    try:
                        pulled = _result(future, task)
                    except CvatError as raised:
                        error = error or raised
                        continue
                    bar.advance(task=task.name)
                    yield task, pulled
        if error is not None:
            raise error
    finally:
        options.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[Pulled | None], task: ServerTask) -> Pulled | None:
    try:
        return future.result()
    except StoppedError:  # never while the pull goes on
        return None
    except RefusedError as error:
        if error.status != 404:
            raise
        logger.info("task %s was deleted on CVAT while it was read", task.name)
        return None
