"""A client for code that shall first say what it would change: reads go through, changes wait for leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import urllib3

from obdb_lib.cvat.client import CvatClient
from obdb_lib.errors import CvatError

READS = ("GET", "HEAD", "OPTIONS")


class GuardedClient(CvatClient):
    """The session of another client; until ``may_write`` and ``may_delete`` are set, such requests are not sent."""

    def __init__(self, client: CvatClient) -> None:
        self.__dict__.update(vars(client))
        self.may_write = self.may_delete = False

    def send(self, method: str, path: str, body: Any, query: dict[str, object]) -> urllib3.BaseHTTPResponse:
        """As ``CvatClient.send``.

        Raises:
            CvatError: a change without leave; nothing is sent.
        """
        self._check(method, path, deletes=method in ("DELETE", "PUT") or query.get("action") == "delete")
        return super().send(method, path, body, query)

    def upload(self, task_id: int, files: Sequence[Path]) -> str:
        self._check("POST", f"tasks/{task_id}/data", deletes=False)
        return super().upload(task_id, files)

    def _check(self, method: str, path: str, *, deletes: bool) -> None:
        if method in READS:
            return
        if not self.may_write:
            raise CvatError(
                f"{method} /api/{path} was not sent: before anything is changed an act says what it would do; put the "
                "change into a step"
            )
        if deletes and not self.may_delete:
            raise CvatError(f"{method} /api/{path} was not sent: it deletes, and that needs --yes")
