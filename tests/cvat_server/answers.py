"""What goes back over the wire, and the many forms in which CVAT refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

CVAT_JSON = "application/vnd.cvat+json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: status, body bytes, content type ("" for no body) and more headers."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = field(default_factory=tuple)


class Refusal(Exception):  # noqa: N818 - not an error of the stand-in but an answer of it
    """Raised by an endpoint to end the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def as_json(value: Any, status: int = 200, *headers: tuple[str, str]) -> Answer:
    return Answer(status, json.dumps(value).encode(), CVAT_JSON, headers)


def empty(status: int, *headers: tuple[str, str]) -> Answer:
    return Answer(status, b"", "", headers)


def text(value: str, status: int) -> Answer:
    """Plain text, which CVAT labels as HTML."""
    return Answer(status, value.encode(), HTML)


def page(title: str, paragraph: str, status: int) -> Answer:
    head = title if status != 404 else "Not Found"
    return Answer(
        status,
        f'\n<!doctype html>\n<html lang="en">\n<head>\n  <title>{head}</title>\n</head>\n<body>\n'
        f"  <h1>{head}</h1><p>{paragraph}</p>\n</body>\n</html>\n".encode(),
        HTML,
    )


def server_error() -> Answer:
    return page("Server Error (500)", "", 500)


def no_such_url() -> Answer:
    return page("Not Found", "The requested resource was not found on this server.", 404)


def detail(message: str, status: int, *headers: tuple[str, str]) -> Answer:
    return as_json({"detail": message}, status, *headers)


def refuse(value: Any, status: int = 400) -> Refusal:
    """A refusal with any JSON body: ``{"field": [...]}``, ``["msg"]`` or a bare string."""
    return Refusal(as_json(value, status))


def not_found(kind: str) -> Refusal:
    return Refusal(detail(f"No {kind} matches the given query.", 404))


def forbidden(message: str = "You do not have permission to perform this action.") -> Refusal:
    return Refusal(detail(message, 403))


REQUIRED = "This field is required."
NOT_NULL = "This field may not be null."


def not_a_choice(value: Any) -> str:
    return f'"{value}" is not a valid choice.'
