"""Requests to a CVAT server over cvat-sdk's connection: waiting, refusals of every form, lists in pages.

Wait and ask again on 429, never assume that an answer is JSON, never show a secret, say what to do next. Only
``client`` uses this module.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import urllib3
from cvat_sdk import Client as SdkClient
from cvat_sdk.api_client.rest import RESTClientObject
from cvat_sdk.core.helpers import make_request_headers
from cvat_sdk.exceptions import ApiException

from obdb_lib.errors import CvatError
from obdb_lib.records import Document

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 180.0
"""Of silence. 20,000 shapes in one request took a real server 5 s."""
CONNECT_TRIES = 3
MAX_THROTTLE_WAITS = 4
MAX_THROTTLE_WAIT_S = 90.0
"""A server that asks for a longer pause than this gets an error instead of a silent wait."""
PAGE_SIZE = 100
MAX_DETAIL = 300


class Connection(RESTClientObject):  # type: ignore[misc]  # the SDK has no types
    """The SDK's connection, but silence ends it, and only a connection that was never made is tried again.

    As it comes, the SDK waits for ever, repeats reads three times and sleeps on 429 by itself.
    """

    def __init__(self, sdk: SdkClient) -> None:
        retries = urllib3.Retry(
            total=None,
            connect=CONNECT_TRIES - 1,
            read=0,
            redirect=0,
            status=0,
            other=0,
            raise_on_redirect=False,
            respect_retry_after_header=False,
        )
        sdk.api_client.configuration.retries = retries
        super().__init__(sdk.api_client.configuration)

    def request(self, *args: Any, **more: Any) -> urllib3.BaseHTTPResponse:
        more["_request_timeout"] = more.get("_request_timeout") or (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        response: urllib3.BaseHTTPResponse = super().request(*args, **more)
        return response


class NoAnswerError(CvatError):
    """The server did not answer: whether the request took effect is not known."""


class RefusedError(CvatError):
    """The server answered, and refused."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Session:
    """Requests of one account to one server. Its ``repr`` shows no secret."""

    def __init__(self, sdk: SdkClient, *, secrets: Sequence[str] = (), sleep: Callable[[float], None] = time.sleep):
        self._sdk = sdk
        self._secrets = [secret for secret in secrets if secret]
        self._sleep = sleep
        self.url = str(sdk.api_map.host)
        self.user = ""

    def keep_secret(self, secret: str) -> None:
        """Never show this in an error."""
        self._secrets.append(secret)

    def __repr__(self) -> str:
        return f"CvatClient({self.url!r}, user={self.user!r})"

    # -- one request -------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, *, body: Any = None, **query: object) -> Any:
        """Send one request and give back its JSON (None for an empty answer).

        Args:
            path: below ``/api/``, for example ``tasks/5``.
            query: appended to the address; None values are left out.

        Raises:
            NoAnswerError: not reachable, or the connection broke; a write may have taken effect all the same.
            RefusedError: any status of 400 and above, with the server's own words.
            CvatError: the answer is no JSON, or the server asks to wait too long.
        """
        response = self.send(method, path, body, query)
        if not response.data:
            return None
        try:
            return json.loads(response.data)
        except ValueError:
            raise CvatError(
                f"{method} {self.url}/api/{path} answered {response.status} with something that is no JSON "
                f"({words(response.data)!r}). Check that CVAT_URL is the address of the CVAT server itself and not of "
                "a login page or proxy in front of it."
            ) from None

    def ask(self, method: str, path: str, *needed: str, body: Any = None, **query: object) -> Document:
        """As ``request``, for an answer that must be an object with the keys ``needed``.

        Raises:
            CvatError: it is something else: a page in front of the server, or another server.
        """
        return self.checked(self.request(method, path, body=body, **query), f"{method} {path}", *needed)

    def checked(self, answer: Any, what: str, *needed: str) -> Document:
        """``answer`` when it is an object with the keys ``needed``; ``what`` names the request in the error."""
        if isinstance(answer, dict) and all(key in answer for key in needed):
            return answer
        raise CvatError(
            f"{self.url} answered {what} with something else than asked ({self.hide(words(answer))!r}, without "
            f"{', '.join(needed)}). Check that CVAT_URL is the address of the CVAT server itself; then run this step "
            "again."
        )

    def send(self, method: str, path: str, body: Any, query: dict[str, object]) -> urllib3.BaseHTTPResponse:
        """As ``request``, but gives back the answer as it came."""
        api = self._sdk.api_client
        given = {key: str(value) for key, value in query.items() if value is not None}
        address = f"{self.url}/api/{path}" + (f"?{urlencode(given)}" if given else "")
        for waits in range(MAX_THROTTLE_WAITS + 1):
            headers = {"Accept": "application/vnd.cvat+json, application/json, */*", **make_request_headers(api)}
            try:
                response: urllib3.BaseHTTPResponse = api.rest_client.request(
                    method, address, headers=headers, body=body, _check_status=False
                )
            except (urllib3.exceptions.HTTPError, ApiException) as error:
                raise self.no_answer(method, path, error) from None
            if response.status != 429:
                break
            self._wait(response, last=waits == MAX_THROTTLE_WAITS)
        if response.status >= 300:
            raise self._refused(method, path, response)
        return response

    def _wait(self, response: urllib3.BaseHTTPResponse, *, last: bool) -> None:
        seconds = _retry_after(response.headers.get("Retry-After"))
        if last or seconds > MAX_THROTTLE_WAIT_S:
            raise CvatError(
                f"{self.url} takes no more requests for now (429, {seconds:.0f} s to wait). CVAT allows 100 requests a "
                "minute to clients that are not logged in, logins included, and the limit is shared by all behind one "
                "address. Wait a minute and run this step again."
            )
        logger.info("CVAT asks to wait %.0f s", seconds)
        self._sleep(seconds)

    def no_answer(self, method: str, path: str, error: Exception) -> NoAnswerError:
        """The error for a connection that was not made or broke."""
        reason = getattr(error, "reason", None) or error
        return NoAnswerError(
            f"no answer from {self.url} to {method} /api/{path} ({self.hide(_first_line(str(reason)))}). Check that "
            "CVAT_URL is right (an address without http:// is taken as https) and that the server runs; then run this "
            "step again."
        )

    def _refused(self, method: str, path: str, response: urllib3.BaseHTTPResponse) -> RefusedError:
        status, told = response.status, self.hide(words(response.data))
        hints = {
            401: "The token is wrong, expired or was ended by a log-out elsewhere; set a fresh CVAT_TOKEN, or "
            "CVAT_USERNAME and CVAT_PASSWORD.",
            403: "This account may not do that (or a field is unknown to this CVAT version); ask for the rights, or "
            "check CVAT_ORG.",
            404: "It is not there, or no longer, or this account does not see it.",
            500: "The server broke over it; its own log says why. Nothing is known to be stored; look before sending "
            "again.",
        }
        if 300 <= status < 400:
            told = f"redirects to {response.headers.get('Location', '?')}"
            hints[status] = "Set CVAT_URL to that address (http or https)."
        hint = hints.get(500 if status >= 500 else status, "")
        return RefusedError(f"CVAT refused {method} {self.url}/api/{path}: {status} {told}. {hint}".rstrip(), status)

    def pause(self, seconds: float) -> None:
        """Wait before asking again."""
        self._sleep(seconds)

    def hide(self, text: str) -> str:
        """Text without passwords and tokens."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    # -- lists -------------------------------------------------------------------------------------------------------

    def list_all(self, path: str, *, sort: str | None = "id", **query: object) -> list[Document]:
        """All results of a list, oldest first unless ``sort`` says otherwise, page by page.

        Pages are counted here: ``next`` carries the host name that the server believes in, which is wrong behind some
        proxies.
        """
        found: list[Document] = []
        page = 1
        while True:
            try:
                answer = self.request("GET", path, page=page, page_size=PAGE_SIZE, sort=sort, **query)
            except RefusedError as error:
                if error.status == 404 and page > 1:  # the list became shorter meanwhile
                    return found
                raise
            if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
                raise CvatError(f"{self.url}/api/{path} should answer a list in pages; got {words(answer)!r}")
            found += answer["results"]
            if not answer.get("next"):
                return found
            page += 1


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 1 when it says nothing."""
    if not value:
        return 1.0
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return 1.0


def words(body: Any) -> str:
    """The message in an answer of any form: JSON of every kind, plain text, or a web page (its title)."""
    if isinstance(body, bytes):
        text = body.decode("utf-8", "replace")
        try:
            return words(json.loads(text))
        except ValueError:
            title = re.search(r"<title>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
            return _shorten(title[1] if title else text)
    if isinstance(body, dict):
        if set(body) == {"detail"}:
            return words(body["detail"])
        return _shorten("; ".join(f"{key}: {words(value)}" for key, value in body.items()))
    if isinstance(body, list):
        return _shorten(", ".join(words(item) for item in body if item not in ({}, None)))
    return _shorten(str(body))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 3] + "..."


def _first_line(text: str) -> str:
    return _shorten(text.splitlines()[0] if text else "no reason given")
