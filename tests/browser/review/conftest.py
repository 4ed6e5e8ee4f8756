"""A review in JupyterLab that the tests of a file share, each with a fresh journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from obdb_lib.store import Store
from tests.browser.conftest import OpenLab
from tests.browser.harness import LabPage, save_notebook
from tests.browser.review.page import CELL, DATABASE, start


@pytest.fixture(scope="module")
def opened(open_module_lab: OpenLab, tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> LabPage:
    root = tmp_path_factory.mktemp("decisions")
    save_notebook(root / "review.ipynb", [CELL])
    lab = open_module_lab(root, env={"OBDB_DATABASE": DATABASE, "OBDB_DATA_CACHE": str(data_cache)})
    lab.open_notebook("review.ipynb")
    return lab


@pytest.fixture
def store(data_cache: Path) -> Iterator[Store]:
    with Store(database=DATABASE) as opened:
        opened._db.decisions.delete_many({})
        yield opened


@pytest.fixture
def lab(opened: LabPage, store: Store) -> LabPage:
    """The grid of a fresh journal, its first page there, and the keys on."""
    start(opened)
    return opened
