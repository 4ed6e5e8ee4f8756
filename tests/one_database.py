"""One database for the tests of a module, emptied between them: to make one with its indexes takes long.

``from tests.one_database import emptied_store, one_database`` in a test module takes the place of conftest's ``store``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from obdb_lib.store import Store

__all__ = ["emptied_store", "one_database"]


@pytest.fixture(scope="module")
def one_database() -> Iterator[Store]:
    with Store(database=f"test_{uuid.uuid4().hex[:12]}") as fresh:
        yield fresh
        fresh._client.drop_database(fresh._db.name)


@pytest.fixture(name="store")
def emptied_store(one_database: Store) -> Store:
    """An empty database on the embedded server, with its indexes."""
    for name in one_database._db.list_collection_names():
        one_database._db[name].delete_many({})
    return one_database
