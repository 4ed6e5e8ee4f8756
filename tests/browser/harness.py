"""A real JupyterLab and a real Chromium for tests: start, open a notebook, run it, look into its kernel.

Use the fixture ``open_lab`` (conftest.py)::

    def test_something(open_lab, tmp_path):
        save_notebook(tmp_path / "demo.ipynb", ["from widgets import BoxReview", "review"])
        lab = open_lab(tmp_path, env={"MONGODB_URI": uri})      # server rooted at tmp_path, page of 1280 x 800
        lab.open_notebook("demo.ipynb")
        lab.run_all()                                           # raises AssertionError with the first failing cell
        lab.page.click(".obdb-review canvas")                   # the Playwright page
        lab.page.keyboard.press("a")
        lab.wait_for(lambda: lab.eval_in_kernel("review.index") == 1, "the next suggestion")
        lab.screenshot("after-accept")

Every wait polls for a state with a deadline; nothing sleeps in the hope that something has happened meanwhile.
"""

from __future__ import annotations

import ast
import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import nbformat
import requests
from jupyter_client import BlockingKernelClient
from playwright.sync_api import Browser, Page

T = TypeVar("T")

CHROMIUM = Path(os.environ.get("OBDB_CHROMIUM", "/usr/bin/chromium"))
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEWPORT = (1280, 800)
PROJECT = Path(__file__).resolve().parents[2]
SERVER_START_S = 60.0
OPEN_S = 60.0
RUN_S = 180.0
STATE_S = 60.0
POLL_MS = 50
SETTLED_POLLS = 10
STOP_S = 10.0
MAP_CANVAS = ".obdb-map-canvas canvas"
ANNOUNCEMENTS = "@jupyterlab/apputils-extension:announcements"


def save_notebook(path: Path, cells: Sequence[str]) -> Path:
    """Write a notebook with one code cell per text."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    return path


def poll(check: Callable[[], T], what: str, timeout_s: float, pause: Callable[[], None]) -> T:
    """Ask until the answer is true; AssertionError names what was waited for and the last answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}; last answer: {answer!r}")
        pause()


class LabServer:
    """The environment's JupyterLab on a free loopback port, with its folders in ``work``."""

    def __init__(self, root: Path, work: Path, env: Mapping[str, str] | None = None) -> None:
        self.root, self.work = root.resolve(), work
        self.token = uuid.uuid4().hex
        self.runtime = work / "runtime"
        for folder in ("runtime", "data", "config/labconfig", "ipython"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        page_config = {"disabledExtensions": {ANNOUNCEMENTS: True}}
        (work / "config/labconfig/page_config.json").write_text(json.dumps(page_config))
        self.log = work / "lab.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(), env=self._env(env or {}), stdout=log, stderr=log, cwd=self.root, start_new_session=True
            )
        self.url = self._wait_for_url()

    def _command(self) -> list[str]:
        settings = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": 0,
            "ServerApp.open_browser": False,
            "ServerApp.root_dir": str(self.root),
            "ServerApp.allow_root": True,
            "IdentityProvider.token": self.token,
            "LabApp.expose_app_in_browser": True,
            "LabApp.collaborative": False,
        }
        return [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in settings.items())]

    def _env(self, extra: Mapping[str, str]) -> dict[str, str]:
        env = dict(os.environ)
        env.update(
            JUPYTER_RUNTIME_DIR=str(self.runtime),
            JUPYTER_DATA_DIR=str(self.work / "data"),
            JUPYTER_CONFIG_DIR=str(self.work / "config"),
            IPYTHONDIR=str(self.work / "ipython"),
            PYTHONPATH=os.pathsep.join(filter(None, [str(PROJECT), env.get("PYTHONPATH")])),
            PATH=os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]]),
        )
        env.update(extra)
        return env

    def _wait_for_url(self) -> str:
        def answering() -> str:
            if self.process.poll() is not None:
                raise AssertionError(f"JupyterLab ended at once:\n{self.log.read_text()[-3000:]}")
            for info in self.runtime.glob("jpserver-*.json"):
                url = str(json.loads(info.read_text() or "{}").get("url", "")).rstrip("/")
                try:
                    if url and requests.get(f"{url}/api/status", params={"token": self.token}, timeout=5).ok:
                        return url
                except requests.ConnectionError:
                    continue
            return ""

        return poll(answering, "JupyterLab to answer", SERVER_START_S, lambda: time.sleep(POLL_MS / 1000))

    def sessions(self) -> list[dict[str, Any]]:
        """The notebooks that have a kernel, as the REST interface tells them."""
        answer = requests.get(f"{self.url}/api/sessions", params={"token": self.token}, timeout=STATE_S)
        return list(answer.json())

    def stop(self) -> None:
        """End the kernels politely, then the server."""
        try:
            for session in self.sessions():
                requests.delete(
                    f"{self.url}/api/sessions/{session['id']}", params={"token": self.token}, timeout=STOP_S
                )
        except requests.RequestException:
            pass
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(STOP_S)


class LabPage:
    """One browser page on one JupyterLab."""

    def __init__(
        self, server: LabServer, browser: Browser, pictures: Path, viewport: tuple[int, int] = VIEWPORT
    ) -> None:
        self.server, self.pictures = server, pictures
        self.context = browser.new_context(viewport={"width": viewport[0], "height": viewport[1]})
        self.page: Page = self.context.new_page()
        self.console: list[str] = []
        self.page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"pageerror: {error}"))
        self.path = ""
        # jupyter_client runs its own event loop, which Playwright's would get in the way of.
        self._kernel_thread = ThreadPoolExecutor(max_workers=1)
        self._client: BlockingKernelClient | None = None

    def open_notebook(self, path: str, *, sidebar: bool = False) -> None:
        """Open ``path`` (relative to the server's root) and wait until its kernel is idle."""
        self._kernel_thread.submit(self._hang_up).result(STOP_S)
        self.path = path
        address = f"{self.server.url}/lab/workspaces/{uuid.uuid4().hex[:8]}/tree/{path}"
        self.page.goto(f"{address}?token={self.server.token}")
        ready = """() => {
            const panel = window.jupyterapp?.shell?.currentWidget;
            const session = panel?.sessionContext;
            return Boolean(session?.isReady && session.session?.kernel?.status === 'idle');
        }"""
        self.page.wait_for_function(ready, timeout=OPEN_S * 1000)
        collapsed = "() => window.jupyterapp.shell.leftCollapsed"
        if self.page.evaluate(collapsed) == sidebar:
            self.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")

    def run_all(self, timeout_s: float = RUN_S) -> None:
        """Run every cell; AssertionError tells the first one that failed."""
        self.page.evaluate(
            """() => {
                window.obdb_run = 'running';
                window.jupyterapp.commands.execute('notebook:run-all-cells')
                    .then(() => { window.obdb_run = 'done'; }, (error) => { window.obdb_run = `failed: ${error}`; });
            }"""
        )
        outcome = self.wait_for(
            lambda: (state := self.page.evaluate("() => window.obdb_run")) != "running" and state,
            "all cells to run",
            timeout_s,
        )
        failed = self.failed_cells()
        assert not failed, f"{self.path} failed: {failed[0]}"
        assert outcome == "done", outcome

    def notebook(self) -> dict[str, Any]:
        """The notebook as the page holds it, outputs included."""
        return dict(self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON()"))

    def failed_cells(self) -> list[str]:
        """One "cell 3: ValueError: ..." per cell with an error output."""
        failures = []
        for number, cell in enumerate(self.notebook()["cells"]):
            for output in cell.get("outputs", []):
                if output["output_type"] == "error":
                    failures.append(f"cell {number}: {output['ename']}: {output['evalue']}")
        return failures

    def wait_for(self, check: Callable[[], T], what: str, timeout_s: float = STATE_S) -> T:
        """Poll ``check`` until its answer is true and return the answer."""
        return poll(check, what, timeout_s, lambda: self.page.wait_for_timeout(POLL_MS))

    def eval_in_kernel(self, expression: str, timeout_s: float = STATE_S) -> Any:
        """Value of a Python expression in the notebook's own kernel; it must be what JSON can carry."""
        return self._kernel_thread.submit(self._evaluate, expression, timeout_s).result(timeout_s + STOP_S)

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
            self._client = None

    def _evaluate(self, expression: str, timeout_s: float) -> Any:
        if self._client is None:
            kernels = [s["kernel"]["id"] for s in self.server.sessions() if s["path"] == self.path]
            assert kernels, f"{self.path} has no running kernel"
            self._client = BlockingKernelClient(connection_file=str(self.server.runtime / f"kernel-{kernels[0]}.json"))
            self._client.load_connection_file()
            self._client.start_channels()
        asked = {"value": f"__import__('json').dumps({expression})"}
        reply = self._client.execute(
            "", silent=True, store_history=False, user_expressions=asked, reply=True, timeout=timeout_s
        )
        answer = reply["content"]["user_expressions"]["value"]
        assert answer["status"] == "ok", f"{expression}: {answer.get('ename')}: {answer.get('evalue')}"
        # The kernel shows the text as Python would write it: a quoted string that holds JSON.
        return json.loads(ast.literal_eval(answer["data"]["text/plain"]))

    def screenshot(self, name: str) -> Path:
        """Save the page as a PNG in the test's folder and return its path."""
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def close(self) -> None:
        """Close page and kernel connection; the server goes on."""
        if self._client is not None:
            self._kernel_thread.submit(self._client.stop_channels).result(STOP_S)
        self._kernel_thread.shutdown()
        self.context.close()


def bring_to_top(lab: LabPage, selector: str) -> None:
    """Scroll until what ``selector`` finds first stands still at the top: cells above it may still be growing."""
    place = lab.page.locator(selector).first
    places: list[str] = []

    def still() -> bool:
        place.evaluate("(node) => node.scrollIntoView({block: 'start'})")
        places.append(str(place.bounding_box()))
        return len(places) >= SETTLED_POLLS and len(set(places[-SETTLED_POLLS:])) == 1

    lab.wait_for(still, f"{selector} to stand still")


def point_on_map(lab: LabPage, name: str, x: float, y: float, *, canvas: str = MAP_CANVAS) -> tuple[float, float]:
    """Where the data point (x, y) of the ClusterMap called ``name`` is on the screen; ``canvas`` finds its canvas.

    The map shows a square around the middle of the data.
    """
    box = lab.page.locator(canvas).first.bounding_box()
    assert box is not None
    x_low, x_high = lab.eval_in_kernel(f"[float(v) for v in {name}._scatter.widget.x_scale_domain]")
    y_low, y_high = lab.eval_in_kernel(f"[float(v) for v in {name}._scatter.widget.y_scale_domain]")
    side = min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    return left + side * (x - x_low) / (x_high - x_low), top + side * (1 - (y - y_low) / (y_high - y_low))


def lasso(lab: LabPage, name: str, centre: tuple[float, float], radius: float, canvas: str = MAP_CANVAS) -> None:
    """Drag a ring of ``radius`` (in the map's units) around a point of the map called ``name``."""
    x, y = point_on_map(lab, name, *centre, canvas=canvas)
    edge = point_on_map(lab, name, centre[0] + radius, centre[1], canvas=canvas)[0] - x
    ring = [(x + edge * math.cos(a / 20 * math.pi), y - edge * math.sin(a / 20 * math.pi)) for a in range(40)]
    lab.page.mouse.move(*ring[0])
    lab.page.mouse.down()
    for place in ring:
        lab.page.mouse.move(*place)
    lab.page.mouse.up()
