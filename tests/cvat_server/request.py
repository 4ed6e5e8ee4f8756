"""One incoming request, and what endpoints read from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from .answers import Answer, Refusal, as_json, detail, refuse
from .world import Json, User, World

T = TypeVar("T")
DEFAULT_PAGE = 10


@dataclass(frozen=True)
class Part:
    """One part of a multipart body; ``filename`` is "" for a plain field."""

    name: str
    filename: str
    content: bytes


@dataclass
class Request:
    world: World
    method: str
    path: str
    query: dict[str, str]
    raw_query: str
    headers: dict[str, str]
    body: bytes
    base: str
    user: User
    credential: str

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def check_body(self) -> None:
        """Refuse other bodies than JSON and multipart, as the API's parsers do."""
        kind = self.content_type.split(";")[0]
        if self.body and kind not in ("", "application/json", "multipart/form-data", "application/offset+octet-stream"):
            raise Refusal(detail(f'Unsupported media type "{self.content_type}" in request.', 415))

    def json(self) -> Any:
        def constant(name: str) -> None:
            raise Refusal(detail(f"JSON parse error - Out of range float values are not JSON compliant: {name!r}", 400))

        if not self.body:
            return {}
        try:
            return json.loads(self.body, parse_constant=constant)
        except ValueError as error:
            raise Refusal(detail(f"JSON parse error - {error}", 400)) from error

    def parts(self) -> list[Part]:
        """The parts of a multipart body."""
        boundary = re.search('boundary="?([^";]+)', self.content_type)
        if not boundary:
            return []
        found = []
        for chunk in self.body.split(b"--" + boundary.group(1).encode())[1:-1]:
            head, _, content = chunk.partition(b"\r\n\r\n")
            text = head.decode("utf-8", "replace")
            name = re.search(r'[ ;]name="([^"]*)"', text)
            filename = re.search(r'filename="([^"]*)"', text)
            found.append(
                Part(
                    name.group(1) if name else "", filename.group(1) if filename else "", content.removesuffix(b"\r\n")
                )
            )
        return found

    def organization(self) -> int | str | None:
        """Id of the organisation asked for, None for the personal space, "any" when not said."""
        slug = self.query.get("org", self.headers.get("x-organization"))
        if slug is None:
            return "any"
        if slug == "":
            return None
        for found in self.world.organizations.values():
            if found.slug == slug:
                return found.id
        raise Refusal(detail(f"{slug} organization does not exist.", 404))

    def filtered(self, items: list[T], fields: Sequence[str]) -> list[T]:
        """Apply ``name=value`` filters of the query, and the equality form of ``filter=`` (JSON logic)."""
        wanted = {name: self.query[name] for name in fields if name in self.query}
        if "filter" in self.query:
            try:
                rule = json.loads(self.query["filter"])
            except ValueError as error:
                raise refuse([f"filter: can't parse filter expression: {error}"]) from error
            for condition in rule.get("and", []):
                variable, value = condition["=="]
                wanted[variable["var"]] = value
        return [item for item in items if all(str(getattr(item, key)) == str(v) for key, v in wanted.items())]

    def paged(self, items: Sequence[T], render: Callable[[T], Json]) -> Answer:
        """One page of a list: ten unless told otherwise, ``next`` and ``previous`` absolute."""
        asked, size = self.query.get("page_size", ""), DEFAULT_PAGE
        if asked == "all":
            size = max(len(items), 1)
        elif asked.isdigit() and int(asked) > 0:
            size = int(asked)
        page = self.query.get("page", "1")
        last = max(1, -(-len(items) // size))
        if not page.isdigit() or not 1 <= int(page) <= last:
            raise Refusal(detail("Invalid page.", 404))
        number = int(page)
        return as_json(
            {
                "count": len(items),
                "next": self._page_url(number + 1) if number < last else None,
                "previous": self._page_url(number - 1) if number > 1 else None,
                "results": [render(item) for item in items[(number - 1) * size : number * size]],
            }
        )

    def _page_url(self, number: int) -> str:
        query = dict(parse_qsl(self.raw_query, keep_blank_values=True))
        query.pop("page", None)
        if number > 1:
            query["page"] = str(number)
        return f"{self.base}{self.path}?{urlencode(sorted(query.items()))}"
