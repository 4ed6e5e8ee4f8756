"""What can go wrong on purpose with one request: cut connections, refusals of every kind, answers that lie."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .answers import HTML, Answer, detail, page, server_error
from .world import World

ANY = "*"
"""As a fault's method: every method."""
KINDS = (
    "drop_before",
    "drop_after",
    "throttled",
    "error_500",
    "error_502",
    "slow",
    "wrong_json",
    "other_json",
    "shapes_dropped",
)
"""All that may happen to any request; ``happens_to`` says which requests a kind can meet at all."""
RETRY_AFTER_S = 7


@dataclass(frozen=True)
class Late(Answer):
    """An answer that leaves when the client has given up waiting: it never arrives."""


@dataclass
class Fault:
    """Something that goes wrong on purpose, for the next ``times`` matching requests after ``skip`` of them.

    Attributes:
        method, pattern: which requests (``pattern`` is searched in the path with its query); method ``"*"`` is any.
        kind: what happens instead.

            - "drop_before" closes the connection before anything is done; "drop_after" does it and closes without an
              answer; "slow" does it and keeps silent until the client gives up.
            - "throttled" does nothing and answers 429 with Retry-After; "error_500" does nothing and answers a web
              page; "error_502" does it, but a proxy in front answers for the server.
            - "wrong_json" does it and cuts the answer in its middle; "other_json" does it and answers another object.
            - "shapes_dropped" stores all shapes of the request but the last, and answers 200.
            - "answer" sends ``answer`` and does nothing; "hook" calls ``hook(world)`` first and goes on.
        met: (method, path with query) of the requests that met it.
    """

    method: str
    pattern: str
    kind: str = "answer"
    answer: Answer | None = None
    hook: Callable[[World], None] | None = None
    times: int = 1
    skip: int = 0
    met: list[tuple[str, str]] = field(default_factory=list)

    def applies(self, method: str, path: str) -> bool:
        if self.times == 0 or self.method not in (ANY, method) or not re.search(self.pattern, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        self.met.append((method, path))
        return True

    def carry_out(self, world: World, body: bytes, act: Callable[[bytes], Answer]) -> Answer | None:
        """What goes back (None: the connection is closed); ``act`` does what the request asks for."""
        instead = {
            "drop_before": None,
            "throttled": detail("Request was throttled.", 429, ("Retry-After", str(RETRY_AFTER_S))),
            "error_500": server_error(),
            "answer": self.answer,
        }
        if self.kind in instead:
            return instead[self.kind]
        if self.kind == "hook" and self.hook:
            self.hook(world)
        answer = act(_without_last_shape(body) if self.kind == "shapes_dropped" else body)
        if self.kind == "drop_after":
            return None
        if self.kind == "slow":
            return Late(answer.status, answer.body, answer.content_type, answer.headers)
        if self.kind == "error_502":
            return page("502 Bad Gateway", "nginx", 502)
        if self.kind == "wrong_json":
            return Answer(200, answer.body[: len(answer.body) // 2] or b'{"count": ', answer.content_type or HTML)
        if self.kind == "other_json":
            return Answer(200, b'{"motd": "planned works tonight"}', "application/json")
        return answer


def happens_to(kind: str, method: str, path: str) -> bool:
    """Whether a kind of fault can meet this request; only what is added can be dropped."""
    if kind == "shapes_dropped":
        return method in ("PATCH", "PUT") and "/annotations" in path and "action=delete" not in path
    return True


def _without_last_shape(body: bytes) -> bytes:
    given = json.loads(body)
    given["shapes"] = given.get("shapes", [])[:-1]
    return json.dumps(given).encode()
