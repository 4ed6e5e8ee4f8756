"""The only door to a CVAT server (2.x), over the session and the upload protocol of cvat-sdk.

Log in once and keep the client: one token belongs to a user on all machines, so a log-out here would throw out
everybody who works with the same account. Nothing in this module logs out. An address without a scheme is taken as
https. Behind every method stands: wait and ask again on 429, never assume that an answer is JSON, say what to do next.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import urllib3
from cvat_sdk import Client as SdkClient
from cvat_sdk.core.client import AccessTokenCredentials
from cvat_sdk.core.uploading import DataUploader
from cvat_sdk.exceptions import ApiException, CvatSdkException

from obdb_lib.cvat.transport import Connection, NoAnswerError, RefusedError, Session, words
from obdb_lib.errors import CvatError
from obdb_lib.paths import CvatAccess
from obdb_lib.records import Document

__all__ = ["CvatClient", "NoAnswerError", "RefusedError", "connect"]
logger = logging.getLogger(__name__)

POLL_FIRST_S, POLL_LAST_S = 0.2, 5.0
REQUEST_TIMEOUT_S = 3600.0
IMAGE_QUALITY = 95
"""Quality (0..100) of the reduced copies that annotators see; the originals are kept as they are."""
USER_TOKEN = re.compile(r"^[0-9a-f]{40}$")
"""Form of the token that a login gives; a personal access token looks otherwise and is sent as Bearer."""


class CvatClient(Session):
    """A logged-in CVAT session; make one with ``connect``."""

    # -- tasks -------------------------------------------------------------------------------------------------------

    def tasks(self, name: str | None = None) -> list[Document]:
        """Tasks that the account sees, oldest first; with ``name`` those of exactly this name: it is not unique."""
        found = self.list_all("tasks", name=name)
        return [task for task in found if name is None or task.get("name") == name]

    def task(self, task_id: int) -> Document | None:
        """One task, or None when there is none of this id."""
        try:
            return self.ask("GET", f"tasks/{task_id}", "id", "name")
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def create_task(self, name: str, *, labels: Sequence[str], project_id: int | None = None) -> Document:
        """Make a task without data; in a project its labels are the project's and ``labels`` is not sent.

        A repeated call makes a second task of the same name: look first.
        """
        body: Document = {"name": name}
        if project_id is None:
            body["labels"] = [{"name": label} for label in labels]
        else:
            body["project_id"] = project_id
        return self.ask("POST", "tasks", "id", body=body)

    def delete_task(self, task_id: int) -> None:
        """Delete a task; one that is gone already is fine."""
        try:
            self.request("DELETE", f"tasks/{task_id}")
        except RefusedError as error:
            if error.status != 404:
                raise

    def task_url(self, task_id: int) -> str:
        """Address of a task for a person's browser."""
        return f"{self.url}/tasks/{task_id}"

    def labels(self, *, task_id: int | None = None, project_id: int | None = None) -> list[Document]:
        """Labels of a task (those of its project where it is in one), or of a project."""
        return self.list_all("labels", task_id=task_id, project_id=project_id)

    # -- data --------------------------------------------------------------------------------------------------------

    def meta(self, task_id: int) -> Document:
        """``data/meta``: frames (name, width, height) in CVAT's order, and deleted_frames."""
        return self.ask("GET", f"tasks/{task_id}/data/meta", "frames")

    def frame(self, task_id: int, number: int) -> bytes:
        """Original image file of a frame, as uploaded."""
        query = {"type": "frame", "number": number, "quality": "original"}
        return bytes(self.send("GET", f"tasks/{task_id}/data", None, query).data)

    def upload(self, task_id: int, files: Sequence[Path]) -> str:
        """Upload images to an empty task; returns the id of the server's background request.

        The server keeps only base names, breaks (500) over two of the same, and follows no order of ours. Symbolic
        links are followed, so the name sent is that of the file behind: use hard links or copies to rename.

        Raises:
            NoAnswerError, RefusedError: as for ``request``; an empty task stays behind.
        """
        path = f"tasks/{task_id}/data/"
        try:
            answer = DataUploader(self._sdk).upload_files(
                f"{self.url}/api/{path}", list(files), image_quality=IMAGE_QUALITY
            )
        except ApiException as error:
            if not error.status:
                raise self.no_answer("POST", path, error) from None
            told = self.hide(words(error.body or b""))
            raise RefusedError(
                f"CVAT refused the images of task {task_id}: {error.status} {told}", error.status
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise self.no_answer("POST", path, error) from None
        except CvatSdkException as error:
            raise NoAnswerError(f"upload to task {task_id} broke off: {self.hide(str(error))}") from None
        try:
            told = json.loads(answer.data)
        except ValueError:
            told = answer.data
        return str(self.checked(told, f"the upload to task {task_id}", "rq_id")["rq_id"])

    def attach(self, task_id: int, server_files: Sequence[str]) -> str:
        """Have the server take images from its mounted share; returns the id of its background request.

        Args:
            server_files: paths below the share's root; they become the names of the frames.
        """
        body = {"server_files": list(server_files), "image_quality": IMAGE_QUALITY, "use_cache": True}
        return str(self.ask("POST", f"tasks/{task_id}/data/", "rq_id", body=body)["rq_id"])

    def upload_request(self, task_id: int) -> Document | None:
        """The background request that reads a task's images, or None when there was none (or it is forgotten)."""
        found = self.list_all("requests", sort=None, task_id=task_id, action="create", target="task")
        return max(found, key=lambda request: str(request.get("created_date")), default=None)

    def wait(self, request_id: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Wait until a background request is finished.

        Raises:
            RefusedError: it failed (status 400), with the server's message.
            NoAnswerError: it did not end in ``timeout_s`` seconds.
        """
        pause, ends = POLL_FIRST_S, time.monotonic() + timeout_s
        while True:
            state = self.ask("GET", f"requests/{quote(request_id, safe='')}", "status")
            if state.get("status") == "finished":
                return
            if state.get("status") == "failed":
                reason = self.hide(words(state.get("message") or "no reason given"))
                raise RefusedError(f"CVAT could not carry out {request_id!r}: {reason}", 400)
            if time.monotonic() > ends:
                raise NoAnswerError(
                    f"CVAT still has {request_id!r} as {state.get('status')!r} after {timeout_s:.0f} s; its workers "
                    "may be busy. Run this step again later: it goes on where it stopped."
                )
            self._sleep(pause)
            pause = min(pause * 1.5, POLL_LAST_S)

    # -- annotations -------------------------------------------------------------------------------------------------

    def annotations(self, task_id: int) -> Document:
        """All annotations of a task: ``{tags, shapes, tracks, ...}``."""
        return self.ask("GET", f"tasks/{task_id}/annotations", "shapes")

    def annotations_json(self, number: int, of: str = "tasks") -> bytes:
        """All annotations of a task, or of a job (``of="jobs"``), as JSON that nobody has looked at yet."""
        return bytes(self.send("GET", f"{of}/{number}/annotations", None, {}).data)

    def jobs(self, task_id: int | None = None) -> list[Document]:
        """Jobs of a task, or all that the account sees, oldest first."""
        return self.list_all("jobs", task_id=task_id)

    def add_shapes(self, task_id: int, shapes: Sequence[Document], *, job_id: int | None = None) -> list[Document]:
        """Add shapes and give back those that the server stored, which can be fewer: compare.

        Args:
            job_id: the job that owns the frames of the shapes; None leaves it to the server to find each one's job.
        """
        path, body = _annotations_of(task_id, job_id), {"shapes": list(shapes)}
        return list(self.ask("PATCH", path, "shapes", body=body, action="create")["shapes"])

    def delete_shapes(self, task_id: int, shapes: Sequence[Document], *, job_id: int | None = None) -> None:
        """Delete shapes as they were read from the server (id, type, label_id and frame are needed)."""
        path, body = _annotations_of(task_id, job_id), {"shapes": list(shapes)}
        self.ask("PATCH", path, "shapes", body=body, action="delete")


def connect(access: CvatAccess, *, sleep: Callable[[float], None] = time.sleep) -> CvatClient:
    """Log in (or take the token) and check that a CVAT server answers.

    Args:
        access: a token is taken before a password. Without ``organization`` the account's personal and organisation
            tasks are seen together and new tasks are personal.
        sleep: how to wait; tests pass their own.

    Raises:
        CvatError: no credentials, not reachable, not a CVAT server, wrong password or bad token.
    """
    if not access.token and not (access.username and access.password):
        raise CvatError("no credentials for CVAT: set CVAT_TOKEN, or CVAT_USERNAME and CVAT_PASSWORD")
    try:
        sdk = SdkClient(access.url, check_server_version=False)
    except CvatSdkException as error:
        raise CvatError(f"CVAT_URL {access.url!r} is not usable: {error}") from None
    sdk.api_client.rest_client = Connection(sdk)
    if access.organization:
        sdk.organization_slug = access.organization
    client = CvatClient(sdk, secrets=[access.password or "", access.token or ""], sleep=sleep)
    about = client.request("GET", "server/about")
    if not isinstance(about, dict) or "version" not in about:
        raise CvatError(f"{client.url} answers, but not as a CVAT server does; check CVAT_URL")
    _authenticate(client, sdk, access)
    client.user = str(client.ask("GET", "users/self", "username")["username"])
    logger.info("CVAT %s at %s as %s", about["version"], client.url, client.user)
    return client


def _annotations_of(task_id: int, job_id: int | None) -> str:
    return f"tasks/{task_id}/annotations" if job_id is None else f"jobs/{job_id}/annotations"


def _authenticate(client: CvatClient, sdk: SdkClient, access: CvatAccess) -> None:
    if access.token and USER_TOKEN.match(access.token):
        sdk.api_client.default_headers["Authorization"] = f"Token {access.token}"
        return
    if access.token:
        sdk.login(AccessTokenCredentials(access.token))
        return
    body = {"username": access.username, "password": access.password}
    try:
        key = client.ask("POST", "auth/login", "key", body=body)["key"]
    except RefusedError as error:
        if error.status == 400:
            raise RefusedError(
                f"CVAT at {client.url} does not accept the password of {access.username!r}. Check CVAT_USERNAME and "
                "CVAT_PASSWORD (or log in with the browser once).",
                400,
            ) from None
        raise
    client.keep_secret(str(key))
    sdk.api_client.default_headers["Authorization"] = f"Token {key}"
