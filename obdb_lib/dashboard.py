"""Sherpa's dashboard made fit for a lab without a network: its style and script served from here.

It listens on the loopback; in a container on all addresses of that (``paths.page_host``), and still answers only a
browser that calls it by a name of this machine.
"""

from __future__ import annotations

import importlib.resources
import re
import socket
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from obdb_lib import paths
from obdb_lib.errors import TrainingError
from obdb_lib.paths import page_host

LOOPBACK = paths.LOOPBACK
PORT = 8880
"""Where upstream's dashboard was, and where the container's port is kept free for it."""
PORTS_TRIED = 20
OWN_PATH = "/obdb/"
FILES = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
HOSTS = (LOOPBACK, "localhost")
SAME_SITE = ("same-origin", "none")
"""What a browser says of a click on the page itself, or of an address typed in; other pages may not stop trials."""
FOREIGN = re.compile(rb'[ \t]*<(?:link|script)\b[^>]*(?:href|src)="https?://[^>]*>(?:\s*</script>)?\n?')
"""Every style and script that Sherpa's pages ask the network for."""
OWN = (
    f'<link rel="stylesheet" href="{OWN_PATH}dashboard.css">\n<script defer src="{OWN_PATH}dashboard.js"></script>\n'
).encode()


def free_port(wanted: int = PORT) -> int:
    """``wanted`` when it is free on this machine, else the next free one of ``PORTS_TRIED``.

    Raises:
        TrainingError: all are taken, or ``wanted`` is no port that a user may open.
    """
    if not 1024 <= wanted <= 65535:
        raise TrainingError(f"the dashboard's port must lie from 1024 to 65535; got {wanted}")
    last = min(wanted + PORTS_TRIED, 65536)
    for port in range(wanted, last):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((page_host(), port))
            except OSError:
                continue
            return port
    raise TrainingError(
        f"the ports {wanted} to {last - 1} of {page_host()} are all taken; end what listens there, or give the search "
        "another dashboard_port"
    )


@dataclass
class OfflinePages:
    """A WSGI application around Sherpa's: no address outside is asked, and no other site may call it.

    Attributes:
        app: Sherpa's Flask application.
    """

    app: Callable[..., Iterable[bytes]]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = str(environ.get("HTTP_HOST", "")).rsplit(":", 1)[0]
        if host not in HOSTS:
            return _answer(start_response, "403 Forbidden", "text/plain", b"This page is for this machine only.")
        path = str(environ.get("PATH_INFO", ""))
        if path.startswith("/stop") and str(environ.get("HTTP_SEC_FETCH_SITE", "none")) not in SAME_SITE:
            return _answer(
                start_response, "403 Forbidden", "text/plain", b"Only the dashboard itself may stop a trial."
            )
        name = path.removeprefix(OWN_PATH)
        if path.startswith(OWN_PATH) and name in FILES:
            return _answer(start_response, "200 OK", FILES[name], static_file(name))
        return self._page(environ, start_response)

    def _page(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen: list[Any] = []

        def remember(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], None]:
            seen[:] = [status, headers]
            return lambda data: None

        answer = self.app(environ, remember)
        body = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        status, headers = seen
        kind = dict(headers).get("Content-Type", "")
        if kind.startswith("text/html"):
            body = FOREIGN.sub(b"", body).replace(b"<head>", b"<head>\n" + OWN, 1)
            headers = [(n, v) for n, v in headers if n.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers)
        return [body]


def serve(app: Any, port: int) -> None:
    """Serve Sherpa's application on ``paths.page_host`` until the process is ended; without reloader and debugger."""
    from werkzeug.serving import run_simple

    run_simple(page_host(), port, OfflinePages(app), use_reloader=False, use_debugger=False, threaded=True)


def answers(port: int, timeout_s: float = 1.0) -> bool:
    """Does a dashboard answer at this port of the loopback?"""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{OWN_PATH}dashboard.css", timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def static_file(name: str) -> bytes:
    """One of ``FILES``, as it lies in the package."""
    return importlib.resources.files("obdb_lib").joinpath("static", name).read_bytes()


def _answer(start_response: Callable[..., Any], status: str, kind: str, body: bytes) -> list[bytes]:
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
