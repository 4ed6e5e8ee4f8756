"""CVAT as a source of annotations: completed tasks into the store."""

from __future__ import annotations

from collections.abc import Sequence

from obdb_lib import paths
from obdb_lib.collect import Collected, collect_result
from obdb_lib.cvat.client import CvatClient, connect
from obdb_lib.cvat.pull import pull_tasks
from obdb_lib.errors import CvatError
from obdb_lib.progress import Progress
from obdb_lib.store import Store


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


def collect_cvat(store: Store, *, names: Sequence[str] | None = None, progress: Progress | None = None) -> Collected:
    """Pull completed tasks with their frames; images land in ``data_cache/cvat``."""
    client = open_cvat()
    root = paths.data_cache() / "cvat"
    known = store.frame_names()
    found = pull_tasks(client, names=names, image_root=root, known_paths=known, progress=progress)
    return collect_result(store, f"CVAT at {client.url}", found, [root], progress=progress)
