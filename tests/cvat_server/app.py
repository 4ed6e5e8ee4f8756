"""The server: transport, faults, who is asking, throttling, and the table of addresses."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import accounts, annotations, data, tasks
from .answers import Answer, Refusal, detail, forbidden, no_such_url, server_error
from .faults import Fault, Late
from .request import Request
from .world import User, World

ANONYMOUS_PER_MINUTE = 100
SAFE = ("GET", "HEAD", "OPTIONS")
LONGEST_SILENCE_S = 30.0

Endpoint = Callable[..., Answer]
ROUTES: list[tuple[re.Pattern[str], dict[str, Endpoint]]] = [
    (re.compile(f"^/api/{pattern}$"), table)
    for pattern, table in [
        ("server/about", {"GET": accounts.about}),
        ("server/plugins", {"GET": accounts.plugins}),
        ("auth/login", {"POST": accounts.login}),
        ("auth/logout", {"POST": accounts.logout}),
        ("auth/access_tokens", {"POST": accounts.create_token}),
        ("auth/access_tokens/self", {"GET": accounts.own_token}),
        ("users/self", {"GET": accounts.me}),
        ("organizations", {"POST": accounts.create_organization}),
        ("projects", {"GET": tasks.list_projects, "POST": tasks.create_project}),
        (
            r"projects/(\d+)",
            {"GET": tasks.get_project, "PATCH": tasks.patch_project, "DELETE": tasks.delete_project},
        ),
        ("tasks", {"GET": tasks.list_tasks, "POST": tasks.create_task}),
        (r"tasks/(\d+)", {"GET": tasks.get_task, "PATCH": tasks.patch_task, "DELETE": tasks.delete_task}),
        (r"tasks/(\d+)/data/?", {"GET": data.get_frame, "POST": data.upload}),
        (r"tasks/(\d+)/data/meta", {"GET": data.get_meta, "PATCH": data.patch_meta}),
        (
            r"(tasks|jobs)/(\d+)/annotations/?",
            {
                "GET": annotations.get,
                "PATCH": annotations.patch,
                "PUT": annotations.replace,
                "DELETE": annotations.clear,
            },
        ),
        ("labels", {"GET": tasks.list_labels}),
        (r"labels/(\d+)", {"PATCH": tasks.patch_label, "DELETE": tasks.delete_label}),
        ("jobs", {"GET": tasks.list_jobs, "POST": tasks.create_job}),
        (r"jobs/(\d+)", {"GET": tasks.get_job, "PATCH": tasks.patch_job}),
        ("requests", {"GET": data.list_requests}),
        ("requests/(.+)/cancel", {"POST": data.get_request}),
        ("requests/(.+)", {"GET": data.get_request}),
    ]
]
OPEN_TO_ALL = ("/api/server/about", "/api/auth/login")


class Clock:
    """Wall time that a test can push forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass
class StandIn:
    """A CVAT stand-in on 127.0.0.1 while the ``with`` block runs.

    Attributes:
        world: all it remembers; tests may look and arrange.
        log: (method, path with query) of every request that came in.
        faults: what is to go wrong.
    """

    faults: list[Fault] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.world = World(self.clock)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"app": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Requests that could change something, logins left out."""
        return [(method, path) for method, path in self.log if method not in SAFE and "/auth/" not in path]

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer | None:
        """Handle one request; None closes the connection without an answer."""
        with self._lock:
            self.log.append((method, target))
            fault = next((fault for fault in self.faults if fault.applies(method, target)), None)

            def act(content: bytes) -> Answer:
                try:
                    return self._dispatch(method, target, headers, content)
                except Refusal as refusal:
                    return refusal.answer

            return fault.carry_out(self.world, body, act) if fault else act(body)

    def _dispatch(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(target)
        path = unquote(parts.path)
        found = next(((match, table) for pattern, table in ROUTES if (match := pattern.match(path))), None)
        if found is None:
            return no_such_url()
        match, table = found
        user, how = self._who(headers, method)
        if user is None:
            if path not in OPEN_TO_ALL:
                return detail("Authentication credentials were not provided.", 401, ("WWW-Authenticate", "Token"))
            self._throttle()
        if method not in table:
            return detail(f'Method "{method}" not allowed.', 405)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request(
            self.world,
            method,
            path,
            query,
            parts.query,
            headers,
            body,
            self._base(headers),
            user or self._nobody(),
            how,
        )
        request.check_body()
        return table[method](request, *match.groups())

    def _base(self, headers: dict[str, str]) -> str:
        """Absolute addresses in answers are made from the Host header."""
        return f"http://{headers.get('host', '127.0.0.1')}"

    def _nobody(self) -> User:
        return User(0, "", "", False, self.clock())

    def _who(self, headers: dict[str, str], method: str) -> tuple[User | None, str]:
        kind, _, value = headers.get("authorization", "").partition(" ")
        bad = Refusal(detail("Invalid token.", 401, ("WWW-Authenticate", "Token")))
        if kind == "Token":
            for user in self.world.users.values():
                if user.token == value:
                    return user, value
            raise bad
        if kind == "Bearer":
            token = self.world.access_tokens.get(value)
            if token is None:
                raise bad
            token.last_used = self.clock()
            if token.read_only and method not in SAFE:
                raise forbidden()
            return token.owner, value
        if kind == "Basic":
            name, _, password = base64.b64decode(value).decode().partition(":")
            for user in self.world.users.values():
                if (user.username, user.password) == (name, password):
                    return user, ""
            raise Refusal(detail("Invalid username/password.", 401, ("WWW-Authenticate", "Token")))
        cookies = SimpleCookie(headers.get("cookie", ""))
        session = cookies["sessionid"].value if "sessionid" in cookies else ""
        owner = self.world.sessions.get(session)
        if owner is not None and method not in SAFE and "x-csrftoken" not in headers:
            raise forbidden("CSRF Failed: CSRF token missing.")
        return owner, ""

    def _throttle(self) -> None:
        now = self.clock()
        recent = [when for when in self.world.anonymous_calls if now - when < timedelta(minutes=1)]
        self.world.anonymous_calls = recent
        if len(recent) >= ANONYMOUS_PER_MINUTE:
            wait = max(1, round(60 - (now - recent[0]).total_seconds()))
            message = f"Request was throttled. Expected available in {wait} seconds."
            raise Refusal(detail(message, 429, ("Retry-After", str(wait))))
        recent.append(now)


class _Handler(BaseHTTPRequestHandler):
    app: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        try:
            answer = self.app.answer(self.command, self.path, headers, body)
        except Exception:  # a mistake of the stand-in must show as a failure, not as silence
            self._send(server_error())
            raise
        if isinstance(answer, Late):
            self.connection.settimeout(LONGEST_SILENCE_S)
            with contextlib.suppress(OSError):
                self.connection.recv(1)  # returns when the client hangs up
            answer = None
        if answer is None:
            self.close_connection = True
            return
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.content_type:
            self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:
        return


def loads(answer: Answer) -> Any:
    """JSON of an answer, for tests that talk to the stand-in without a socket."""
    return json.loads(answer.body)
