"""What the stand-in remembers: users, projects, tasks, jobs, labels, annotations, background requests."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def stamp(when: datetime | None) -> str | None:
    """A date as CVAT writes it, microseconds always there."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if when else None


@dataclass
class User:
    id: int
    username: str
    password: str
    superuser: bool
    joined: datetime
    last_login: datetime | None = None
    token: str | None = None

    def short(self, base: str) -> Json:
        return {
            "url": f"{base}/api/users/{self.id}",
            "id": self.id,
            "username": self.username,
            "first_name": "",
            "last_name": "",
        }


@dataclass
class AccessToken:
    id: int
    name: str
    read_only: bool
    owner: User
    value: str
    created: datetime
    last_used: datetime | None = None


@dataclass
class Label:
    id: int
    name: str
    color: str
    attributes: list[Json]
    project_id: int | None = None
    task_id: int | None = None
    type: str = "any"


@dataclass
class Project:
    id: int
    name: str
    owner: User
    created: datetime
    updated: datetime
    organization: int | None = None


@dataclass
class Frame:
    name: str
    width: int
    height: int
    content: bytes
    mime: str


@dataclass
class Data:
    """Media of a task; ``frames`` is empty until the background request has read the files."""

    id: int
    created: datetime
    image_quality: int = 70
    sorting: str = "lexicographical"
    uploads: dict[str, bytes | None] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    submitted: bool = False


@dataclass
class Task:
    id: int
    name: str
    owner: User
    created: datetime
    updated: datetime
    project_id: int | None = None
    organization: int | None = None
    segment_size: int = 0
    overlap: int | None = None
    data: Data | None = None
    assignee: User | None = None
    subset: str = ""

    @property
    def ready(self) -> bool:
        return self.data is not None and bool(self.data.frames)


@dataclass
class Job:
    id: int
    task_id: int
    start: int
    stop: int
    created: datetime
    updated: datetime
    stage: str = "annotation"
    state: str = "new"
    assignee: User | None = None
    assigned: datetime | None = None
    shapes: list[Json] = field(default_factory=list)
    tags: list[Json] = field(default_factory=list)
    tracks: list[Json] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.stage == "acceptance" and self.state == "completed":
            return "completed"
        return "validation" if self.stage == "validation" else "annotation"


@dataclass
class Background:
    """A background request; it moves on by one state each time somebody asks for it."""

    id: str
    task_id: int
    project_id: int | None
    owner: User
    created: datetime
    work: Callable[[], None]
    status: str = "queued"
    message: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    polls: int = 0


@dataclass
class Organization:
    id: int
    slug: str
    owner: User
    created: datetime


class World:
    """All of it, with the counters that give ids; ``now`` is the clock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self._counters: dict[str, Iterator[int]] = {}
        self.users: dict[int, User] = {}
        self.sessions: dict[str, User] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        self.organizations: dict[int, Organization] = {}
        self.projects: dict[int, Project] = {}
        self.tasks: dict[int, Task] = {}
        self.jobs: dict[int, Job] = {}
        self.labels: dict[int, Label] = {}
        self.requests: dict[str, Background] = {}
        self.share: dict[str, bytes] = {}
        self.anonymous_calls: list[datetime] = []
        self.add_user("admin", "admin-password", superuser=True)

    def next_id(self, kind: str) -> int:
        return next(self._counters.setdefault(kind, itertools.count(1)))

    def add_user(self, username: str, password: str, *, superuser: bool = False) -> User:
        user = User(self.next_id("user"), username, password, superuser, self.now())
        self.users[user.id] = user
        return user

    def log_in(self, user: User) -> tuple[str, str]:
        """The user's one token (the same for every client) and a new session id."""
        user.last_login = self.now()
        user.token = user.token or secrets.token_hex(20)
        session = secrets.token_hex(16)
        self.sessions[session] = user
        return user.token, session

    def log_out(self, user: User) -> None:
        user.token = None
        self.sessions = {key: owner for key, owner in self.sessions.items() if owner is not user}

    def add_label(self, spec: Json, *, project_id: int | None = None, task_id: int | None = None) -> Label:
        number = self.next_id("label")
        color = spec.get("color") or f"#{(number * 2654435761) % 0xFFFFFF:06x}"
        attributes = [
            {
                "id": self.next_id("attribute"),
                "name": given["name"],
                "mutable": given.get("mutable", False),
                "input_type": given.get("input_type", "text"),
                "default_value": given.get("default_value", ""),
                "values": given.get("values", []),
            }
            for given in spec.get("attributes", [])
        ]
        label = Label(number, spec["name"], color, attributes, project_id, task_id, spec.get("type", "any"))
        self.labels[number] = label
        return label

    def labels_of(self, task: Task) -> list[Label]:
        """Labels of the project where the task is in one, else its own."""
        if task.project_id is not None:
            return [label for label in self.labels.values() if label.project_id == task.project_id]
        return [label for label in self.labels.values() if label.task_id == task.id]

    def jobs_of(self, task_id: int) -> list[Job]:
        return sorted((job for job in self.jobs.values() if job.task_id == task_id), key=lambda job: job.start)

    def delete_label(self, label: Label) -> None:
        """Remove a label and, without a word, its annotations."""
        del self.labels[label.id]
        for job in self.jobs.values():
            job.shapes = [shape for shape in job.shapes if shape["label_id"] != label.id]
            job.tags = [tag for tag in job.tags if tag["label_id"] != label.id]
            job.tracks = [track for track in job.tracks if track["label_id"] != label.id]

    def delete_task(self, task: Task) -> None:
        del self.tasks[task.id]
        self.jobs = {key: job for key, job in self.jobs.items() if job.task_id != task.id}
        self.labels = {key: label for key, label in self.labels.items() if label.task_id != task.id}
        self.requests = {key: found for key, found in self.requests.items() if found.task_id != task.id}

    def delete_project(self, project: Project) -> None:
        for task in [task for task in self.tasks.values() if task.project_id == project.id]:
            self.delete_task(task)
        del self.projects[project.id]
        self.labels = {key: label for key, label in self.labels.items() if label.project_id != project.id}

    def may_see(self, user: User, task: Task) -> bool:
        return user.superuser or task.owner is user or task.assignee is user

    def may_work(self, user: User, job: Job) -> bool:
        return job.assignee is user or self.may_see(user, self.tasks[job.task_id])
