"""The review of a small field in a real JupyterLab: what its browser tests start, press and look at."""

from __future__ import annotations

import os
import signal
from typing import Any

from obdb_lib.store import Store
from tests.browser.harness import LabPage
from tests.review_world import suggestions

DATABASE = "review_in_browser"
PAGE = 8
QUEUE = suggestions()
ORDER = [one["_id"] for one in sorted(QUEUE, key=lambda one: -one["probability"])]
CELL = f"""
from obdb_lib.review import Journal
from obdb_lib.store import open_store
from tests import review_world as world
from widgets import BoxReview

queue = world.suggestions()
review = BoxReview(
    queue, annotations=world.annotations, load_frame=world.load_frame, detections=world.detections,
    journal=Journal(open_store(), who="ann", queue=queue), classes=["purslane"], view="grid", page_size={PAGE},
)
review
"""
ROOT = ".obdb-review"
CLASSES = ["nutsedge", "purslane", "sesame"]


def start(lab: LabPage) -> None:
    lab.run_all()
    lab.page.locator(ROOT).evaluate("(node) => node.scrollIntoView({block: 'start'})")
    ready(lab)
    lab.page.locator(f"{ROOT} .obdb-place").click()


def ready(lab: LabPage) -> None:
    tiles = lab.page.locator(f"{ROOT} .obdb-tile[data-ready=yes]")
    lab.wait_for(lambda: tiles.count() == lab.page.locator(f"{ROOT} .obdb-tile").count() > 0, "the crops of the page")


def cursor(lab: LabPage, name: str) -> None:
    lab.wait_for(lambda: lab.page.locator(ROOT).get_attribute("data-cursor") == name, f"the cursor on {name}")


def shown(lab: LabPage, name: str) -> None:
    lab.wait_for(lambda: lab.page.locator(ROOT).get_attribute("data-shown") == name, f"{name} on its frame")


def message(lab: LabPage, part: str) -> None:
    text = lab.page.locator(f"{ROOT} .obdb-message")
    lab.wait_for(lambda: part in text.inner_text(), f"the message {part!r}")


def tile(lab: LabPage, name: str) -> Any:
    return lab.page.locator(f"{ROOT} .obdb-tile[data-id={name}]")


def entries(lab: LabPage, store: Store, count: int) -> list[dict[str, Any]]:
    lab.wait_for(lambda: len(store.decisions()) >= count, f"{count} entries in MongoDB")
    return sorted(store.decisions(), key=lambda entry: int(entry["seq"]))


def said(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["suggestion_id"], entry["verdict"]) for entry in found]


def kill_kernel(lab: LabPage) -> None:
    """kill -9 of the kernel process; waits for the one that JupyterLab starts in its place."""
    number = lab.eval_in_kernel("__import__('os').getpid()")
    lab._kernel_thread.submit(lab._hang_up).result(10)
    os.kill(number, signal.SIGKILL)
    button = lab.page.locator(".jp-Dialog button")  # Lab tells the person that the kernel died
    lab.wait_for(lambda: button.count() > 0, "Lab's word of the dead kernel")
    button.first.click()
    lab.wait_for(lambda: lab.eval_in_kernel("__import__('os').getpid()") != number, "the new kernel to answer")
    lab.wait_for(
        lambda: lab.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
        ),
        "an idle kernel",
    )
