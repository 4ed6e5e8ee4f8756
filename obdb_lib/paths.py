"""Where things lie. The only module that reads the environment.

Variables (all optional): ``OBDB_DATA_CACHE`` (folder for everything that can be made again), ``MONGODB_URI`` (the
user's own server instead of the embedded one), ``OBDB_MONGOD_PORT`` (loopback port of the embedded server; a free one
is chosen otherwise), ``OBDB_DATABASE`` (database name), ``OBDB_USER`` (name written into decisions), ``CVAT_URL``,
``CVAT_USERNAME``, ``CVAT_PASSWORD``, ``CVAT_TOKEN``, ``CVAT_ORG``, ``OBDB_PAGE_HOST`` (address on which TensorBoard
and the search's dashboard listen; the loopback unless it is set, as in the container), ``OBDB_TRAIN``,
``OBDB_WEED_DATA``, ``OBDB_AUTO_ANNOTATION`` (where upstream's folders ``/train``, ``/weed_data`` and
``/auto_annotation`` lie outside the container).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from obdb_lib.errors import CacheError, SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_DATABASE = "annotations"
LOOPBACK = "127.0.0.1"
CONTAINER_FOLDERS = {
    "/train": "OBDB_TRAIN",
    "/weed_data": "OBDB_WEED_DATA",
    "/auto_annotation": "OBDB_AUTO_ANNOTATION",
}
"""Upstream's folders in the container, and the variables that say where they lie outside it."""
SETTINGS_NAMES = (Path("/code/settings_file.json"), PROJECT_ROOT / "settings.cpu.json")
"""Settings of the command lines that are told none: the container's file where it is there, else the lab's recipe."""


def data_cache() -> Path:
    """Folder for all that can be made again, made on first use (default ``data_cache/`` in the project).

    Raises:
        CacheError: it is a file, or cannot be made.
    """
    path = Path(os.environ.get("OBDB_DATA_CACHE") or PROJECT_ROOT / "data_cache").resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror or error
        raise CacheError(
            f"the folder data_cache, {path}, cannot be made ({reason}). Set OBDB_DATA_CACHE to a folder you may write."
        ) from error
    return path


def mapped(path: Path | str) -> Path:
    """A path as typed, with ``~`` and, where its variable is set, a folder of the container (CONTAINER_FOLDERS) put in.

    ``/train/pickled_weed/pd_val.pkl`` is ``$OBDB_TRAIN/pickled_weed/pd_val.pkl``; ``/training`` stays as it is.
    """
    given = Path(path).expanduser()
    for folder, variable in CONTAINER_FOLDERS.items():
        place = os.environ.get(variable)
        if place and given.is_relative_to(folder):
            return Path(place).expanduser() / given.relative_to(folder)
    return given


def default_settings() -> Path:
    """The first of SETTINGS_NAMES that is there."""
    return next((path for path in SETTINGS_NAMES if path.is_file()), SETTINGS_NAMES[-1])


def locate(path: Path | str) -> Path:
    """A path of the settings as an absolute one, folders of the container mapped (``mapped``).

    ``data_cache/...`` means this lab's data_cache, wherever it lies; other relative paths start at the project.
    """
    given = mapped(path)
    if not given.is_absolute() and given.parts[:1] == ("data_cache",):
        return data_cache().joinpath(*given.parts[1:])
    return (PROJECT_ROOT / given).resolve()


def mongodb_uri() -> str | None:
    """Address of the user's own MongoDB, or None for the embedded server."""
    return os.environ.get("MONGODB_URI") or None


def mongod_port() -> int | None:
    """Loopback port asked for the embedded MongoDB, or None for any free one."""
    value = os.environ.get("OBDB_MONGOD_PORT")
    if not value:
        return None
    if not value.isdigit() or not 1024 <= int(value) <= 65535:
        raise SettingsError(f"OBDB_MONGOD_PORT must be a port number from 1024 to 65535; got {value!r}")
    return int(value)


def database_name() -> str:
    """Name of the MongoDB database (default ``annotations``, as upstream)."""
    return os.environ.get("OBDB_DATABASE") or DEFAULT_DATABASE


def user_name() -> str:
    """Name written as ``who`` into decisions."""
    return os.environ.get("OBDB_USER") or os.environ.get("USER") or "unknown"


def page_host() -> str:
    """Address on which the pages beside a notebook listen: the loopback, unless ``OBDB_PAGE_HOST`` says another one."""
    return os.environ.get("OBDB_PAGE_HOST") or LOOPBACK


def share_cores() -> None:
    """Let the threads of this process's children sleep, not spin, while they wait for each other.

    OpenMP's threads spin by default. As soon as anything else wants a core (a browser, a second notebook), a training
    step on two cores then takes 18 times as long; sleeping costs nothing measurable when alone. A value that the user
    has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def environment() -> dict[str, str]:
    """A copy of the environment, for child processes."""
    return dict(os.environ)


@dataclass(frozen=True)
class CvatAccess:
    """How to reach a CVAT server; secrets do not show in ``repr``."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    organization: str | None = None


def cvat_access() -> CvatAccess | None:
    """CVAT address and credentials from the environment, or None when ``CVAT_URL`` is not set."""
    url = os.environ.get("CVAT_URL")
    if not url:
        return None
    return CvatAccess(
        url=url,
        username=os.environ.get("CVAT_USERNAME") or None,
        password=os.environ.get("CVAT_PASSWORD") or None,
        token=os.environ.get("CVAT_TOKEN") or None,
        organization=os.environ.get("CVAT_ORG") or None,
    )
