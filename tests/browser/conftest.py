"""Fixtures for browser tests; how to use them is told in harness.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

REQUIRED = os.environ.get("OBDB_REQUIRE_BROWSER") == "1"

try:
    from playwright.sync_api import Browser, sync_playwright

    from tests.browser.harness import CHROMIUM, CHROMIUM_FLAGS, VIEWPORT, LabPage, LabServer
except ImportError as error:
    if REQUIRED:
        raise
    pytest.skip(f"browser tests need the test requirements: {error}", allow_module_level=True)

OpenLab = Callable[..., LabPage]
OPEN_PAGES: list[list[LabPage]] = []
"""Pages of the tests under way, for the pictures of failures."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a browser test."""
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for the whole run."""
    if not CHROMIUM.exists() and shutil.which(str(CHROMIUM)) is None:
        reason = f"no Chromium at {CHROMIUM}; install Debian's chromium or set OBDB_CHROMIUM"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
        yield chromium
        chromium.close()


def _labs(browser: Browser, folders: pytest.TempPathFactory, pages: list[LabPage]) -> Iterator[OpenLab]:
    servers: list[LabServer] = []

    def start(root: Path, *, env: Mapping[str, str] | None = None, viewport: tuple[int, int] = VIEWPORT) -> LabPage:
        work = folders.mktemp("lab")
        servers.append(LabServer(root, work, env))
        pages.append(LabPage(servers[-1], browser, work, viewport))
        return pages[-1]

    yield start
    for page in pages:
        page.close()
    for server in servers:
        server.stop()


@pytest.fixture
def open_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLab]:
    """``open_lab(root, env=None, viewport=(1280, 800))``: a JupyterLab on ``root`` and a page on it, for one test."""
    pages: list[LabPage] = []
    OPEN_PAGES.append(pages)
    yield from _labs(browser, tmp_path_factory, pages)
    OPEN_PAGES.remove(pages)


@pytest.fixture(scope="module")
def open_module_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLab]:
    """The same for all tests of a file; starting JupyterLab takes several seconds."""
    pages: list[LabPage] = []
    OPEN_PAGES.append(pages)
    yield from _labs(browser, tmp_path_factory, pages)
    OPEN_PAGES.remove(pages)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failing browser test leaves a picture and the browser's console."""
    report = yield
    if report.when in ("setup", "call") and report.failed:
        for number, lab in enumerate(page for pages in OPEN_PAGES for page in pages):
            path = lab.screenshot(f"failure-{item.name}-{number}")
            report.sections.append(("browser", f"screenshot: {path}\nserver log: {lab.server.log}"))
            report.sections.append(("browser console", "\n".join(lab.console[-30:])))
    return report
