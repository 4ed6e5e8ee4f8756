"""What a CVAT server has: tasks with the jobs that count, and a stamp that tells whether a task changed."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from obdb_lib.cache import content_hash
from obdb_lib.cvat.client import CvatClient, RefusedError
from obdb_lib.cvat.pull_answers import Label, ListedJob, ListedTask, checked
from obdb_lib.cvat.pull_jobs import ALL_JOBS, JobFilter, annotation_jobs
from obdb_lib.errors import CvatError
from obdb_lib.records import Document

PAUSES_S = (1.0, 4.0)
"""Waits before a read is tried again that broke off: a read changes nothing, and one cut line should not end a pull."""
FORMAT = 1
"""Grows when documents are made otherwise from the same answers, so that tasks are read again."""

T = TypeVar("T")


@dataclass(frozen=True)
class ServerTask:
    """A task as the server lists it.

    Attributes:
        document: what ``GET tasks`` says.
        jobs: its annotation jobs in the order of their frames.
        passing: those that count.
        labels: of its project; None when it has labels of its own, which are asked for when the task is read.
    """

    document: Document
    jobs: list[Document]
    passing: list[Document]
    labels: list[Label] | None = None

    @property
    def id(self) -> int:
        return int(self.document["id"])

    @property
    def name(self) -> str:
        return str(self.document["name"])

    def stamp(self, *options: object) -> str:
        """Changes whenever anything that a pull reads may have changed.

        The task's ``updated_date`` stays when only a job's state changes, and the labels of a project change without
        it; a project's own date changes with every box in any of its tasks.
        """
        keys = ("id", "updated_date", "state", "stage")
        jobs = [[job.get(key) for key in keys] for job in self.passing]
        labels = None if self.labels is None else [label.model_dump() for label in self.labels]
        task = [self.document.get(key) for key in ("id", "name", "updated_date", "size", "status")]
        return content_hash(FORMAT, task, jobs, len(self.jobs), labels, list(options))


@dataclass(frozen=True)
class Survey:
    """Tasks to pull, tasks none of whose jobs counts, and the names of all tasks that the account sees."""

    chosen: list[ServerTask]
    waiting: list[ServerTask]
    all_names: set[str] = field(default_factory=set)


def patiently(client: CvatClient, read: Callable[[], T]) -> T:
    """``read``, tried again after a pause when the connection or the answer broke.

    Raises:
        CvatError: as ``read`` does, at once for what the server refuses (status below 500), else the last of all tries.
    """
    for pause in PAUSES_S:
        try:
            return read()
        except RefusedError as error:
            if error.status < 500:
                raise
        except CvatError:
            pass
        client.pause(pause)
    return read()


def survey(client: CvatClient, names: Collection[str] | None, jobs: JobFilter) -> Survey:
    """List tasks, jobs and projects' labels: a few requests for all tasks together.

    Raises:
        CvatError: a name that is not there, two tasks of one name, or trouble with the server.
    """
    tasks = patiently(client, client.tasks)
    for task in tasks:
        checked(ListedTask, task, "list of tasks")
    all_names = {str(task["name"]) for task in tasks}
    if names is not None:
        _require_names(names, all_names)
        tasks = [task for task in tasks if task["name"] in set(names)]
    by_task = _jobs(client, tasks, all_tasks=names is None)
    found = []
    for task in tasks:
        own = annotation_jobs(by_task[int(task["id"])])
        found.append(ServerTask(task, own, [job for job in own if jobs.passes(job)]))
    passing = [task for task in found if task.passing or (jobs == ALL_JOBS and not task.jobs)]
    _require_one_of_a_name(passing)
    chosen = _with_project_labels(client, passing)
    return Survey(chosen, [task for task in found if task not in passing], all_names)


def _jobs(client: CvatClient, tasks: Sequence[Document], *, all_tasks: bool) -> dict[int, list[Document]]:
    """Jobs by task: all of them in one list, or one list a task where only some tasks are wanted."""
    found: dict[int, list[Document]] = defaultdict(list)
    for task_id in [None] if all_tasks else [int(task["id"]) for task in tasks]:
        for job in patiently(client, partial(client.jobs, task_id)):
            found[checked(ListedJob, job, "list of jobs").task_id].append(job)
    return found


def _with_project_labels(client: CvatClient, tasks: Sequence[ServerTask]) -> list[ServerTask]:
    labels: dict[int, list[Label]] = {}
    done = []
    for task in tasks:
        project = task.document.get("project_id")
        if project is not None and project not in labels:
            answer = patiently(client, partial(client.labels, project_id=project))
            labels[project] = [checked(Label, label, f"labels of project {project}") for label in answer]
        done.append(ServerTask(task.document, task.jobs, task.passing, labels.get(project) if project else None))
    return done


def _require_names(names: Collection[str], there: Collection[str]) -> None:
    missing = [name for name in names if name not in there]
    if missing:
        near = {name: difflib.get_close_matches(name, there, n=1) for name in missing}
        hints = {name: f" (did you mean {found[0]!r}?)" if found else "" for name, found in near.items()}
        listed = ", ".join(f"{name!r}{hints[name]}" for name in missing)
        raise CvatError(f"CVAT shows this account no task {listed}; check names, the account's rights and CVAT_ORG")


def _require_one_of_a_name(tasks: Sequence[ServerTask]) -> None:
    twice = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if twice:
        listed = "; ".join(
            f"{name!r} (ids {', '.join(str(task.id) for task in tasks if task.name == name)})" for name in twice
        )
        raise CvatError(
            f"CVAT has several tasks of one name: {listed}. The store knows tasks by name, so one would overwrite the "
            "other. Rename or delete all but one of each on CVAT, or pull others by name."
        )
