"""The world every test starts in: a data_cache of its own, one real embedded mongod, one database for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from obdb_lib import mongod, paths
from obdb_lib.store import Store

paths.share_cores()  # before torch is loaded anywhere: tests run beside browsers and servers

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data_cache for the whole session, so that no test touches the user's; the embedded mongod ends with it."""
    folder = tmp_path_factory.mktemp("data_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OBDB_DATA_CACHE", str(folder))
        patch.setenv("OBDB_USER", "tester")
        for name in ("MONGODB_URI", "OBDB_DATABASE", "OBDB_MONGOD_PORT", "CVAT_URL"):
            patch.delenv(name, raising=False)
        yield folder
        mongod.stop()


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty database on the embedded server, dropped after the test."""
    with Store(database=f"test_{uuid.uuid4().hex[:12]}") as fresh:
        yield fresh
        fresh._client.drop_database(fresh._db.name)


@pytest.fixture
def shared_data() -> Path:
    """Folder with the real data sets; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout")
    return folder
