"""CVAT as a source of annotations: completed jobs into the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from obdb_lib import paths
from obdb_lib.collect import Collected, check_images
from obdb_lib.cvat.client import CvatClient, connect
from obdb_lib.cvat.pull import KEEP, WORKERS, Share, pull_into
from obdb_lib.cvat.pull_jobs import JobFilter
from obdb_lib.cvat.pull_summary import PullSummary
from obdb_lib.cvat.pull_tracks import KEYFRAMES
from obdb_lib.cvat.push_journal import merged_tasks
from obdb_lib.errors import CvatError, DatasetError
from obdb_lib.progress import Progress
from obdb_lib.store import Store

IMAGE_FOLDER = "cvat"
"""Below data_cache: images of CVAT's tasks under their ``img_path``, or links to them on a share."""


@dataclass(frozen=True)
class CvatCollected(Collected):
    """What was pulled; ``summary`` says what changed, ``tasks`` names all that are on CVAT and count, read or not."""

    summary: PullSummary = field(default_factory=PullSummary)


def cvat_address() -> str | None:
    """``CVAT_URL``, or None."""
    access = paths.cvat_access()
    return access.url if access else None


def open_cvat() -> CvatClient:
    """The server that the environment names.

    Raises:
        CvatError: ``CVAT_URL`` is not set, or the server cannot be used.
    """
    access = paths.cvat_access()
    if access is None:
        raise CvatError(
            "no CVAT server is named: set CVAT_URL and CVAT_TOKEN (or CVAT_USERNAME and CVAT_PASSWORD) in the "
            "environment before starting the lab"
        )
    return connect(access)


def collect_cvat(
    store: Store,
    *,
    names: Sequence[str] | None = None,
    jobs: str | JobFilter = "completed",
    tracks: str = KEYFRAMES,
    force: bool = False,
    gone: str = KEEP,
    share: Share | None = None,
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> CvatCollected:
    """Bring the store up to date with CVAT (see pull.pull_into); images land in ``data_cache/cvat``.

    Auto tasks that were merged into their ground truth are left out unless ``names`` names them.

    Raises:
        CvatError: the server cannot be used, or see pull_into.
        DatasetError: no task with images counts; the store is as it was.
    """
    client = open_cvat()
    root = paths.data_cache() / IMAGE_FOLDER
    root.mkdir(parents=True, exist_ok=True)
    store.add_image_roots([root])
    summary = pull_into(
        *(store, client),
        names=names,
        jobs=jobs,
        tracks=tracks,
        force=force,
        gone=gone,
        image_root=root,
        share=share,
        workers=workers,
        merged=merged_tasks(store.pushes(), client.url),
        progress=progress,
    )
    if not summary.names:
        told = f"; first problem: {summary.problems[0]}" if summary.problems else ""
        waiting = f" ({len(summary.waiting)} tasks have none yet)" if summary.waiting else ""
        raise DatasetError(
            f"CVAT at {client.url} has no task with images and a job that counts (jobs={jobs!r}){waiting}{told}. "
            "Accept and complete jobs there, or take others with jobs='all'."
        )
    frames = [frame for name in summary.names for frame in store.frames_of_task(name)]
    sizes = [(frame["name"], frame.get("width"), frame.get("height")) for frame in frames]
    lost = check_images(sizes, [str(root), *map(str, store.image_roots())])
    return CvatCollected(
        source=f"CVAT at {client.url}",
        tasks=summary.names,
        counts=store.counts(summary.names),
        roots=[str(root.resolve())],
        problems=[*summary.problems, *lost],
        summary=summary,
    )
