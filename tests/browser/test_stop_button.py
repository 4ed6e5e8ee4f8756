"""The monitor's Stop button in a page: it asks the server to interrupt the kernel, and says so when it cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser

from tests.browser.harness import PROJECT

SCRIPT = PROJECT / "widgets" / "static" / "stop_button.js"
PAGE = """<script id="jupyter-config-data" type="application/json">{"baseUrl": "/user/x/", "token": "tok"}</script>
<div id="place"></div>
<script type="module">
import widget from "/stop_button.js";
const values = {label: "Stop", enabled: true, asked: 0, kernel: "k-1"}, calls = {};
window.model = {
  get: (name) => values[name],
  set: (name, value) => { values[name] = value; (calls[`change:${name}`] || (() => {}))(); },
  save_changes: () => { window.saved = values.asked; },
  on: (event, call) => { calls[event] = call; },
};
widget.render({model: window.model, el: document.getElementById("place")});
</script>"""


class _Server(BaseHTTPRequestHandler):
    """A page with the button, and the one address of Jupyter's interface that it calls: well once, then refused."""

    asked: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        script = self.path == "/stop_button.js"
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "text/html")
        self.end_headers()
        self.wfile.write((SCRIPT.read_text() if script else PAGE).encode())

    def do_POST(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(204 if len(self.asked) == 1 else 403)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture
def address() -> Iterator[str]:
    _Server.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/lab"
    server.shutdown()
    server.server_close()


def test_button_interrupts_the_kernel_through_the_server(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    button = page.locator("button.obdb-stop")
    with page.expect_response("**/interrupt"):
        button.click()
    assert button.inner_text() == "Stopping ..."
    assert button.is_disabled()
    assert page.evaluate("() => window.saved") == 1
    assert _Server.asked == [("/user/x/api/kernels/k-1/interrupt", "token tok")]
    page.evaluate("() => { model.set('enabled', true); model.set('label', 'Stop'); }")
    assert button.is_enabled()
    button.click()
    page.get_by_text("Use Kernel > Interrupt").wait_for(timeout=10_000)
    page.close()
