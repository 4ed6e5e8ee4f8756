"""Set tasks completed on CVAT, so that they are collected: every job to stage acceptance and state completed."""

from __future__ import annotations

from collections.abc import Callable

from obdb_lib.annotate.desk import DONE, DRY_RUN, Desk
from obdb_lib.cvat.client import CvatClient

COMPLETE = {"stage": "acceptance", "state": "completed"}
"""Both at once: a change of stage alone resets the state to new."""


def open_jobs(client: CvatClient, wanted: Callable[[str], bool]) -> list[tuple[str, list[int]]]:
    """Name of each task that is wanted and not completed, with the ids of its jobs that are not."""
    names = {int(task["id"]): str(task["name"]) for task in client.tasks()}
    found: dict[int, list[int]] = {}
    for job in client.list_all("jobs"):
        number = int(job["task_id"])
        if number in names and wanted(names[number]) and any(job.get(key) != value for key, value in COMPLETE.items()):
            found.setdefault(number, []).append(int(job["id"]))
    return [(names[number], jobs) for number, jobs in sorted(found.items())]


def complete_job(client: CvatClient, job_id: int) -> None:
    """Set one job completed; doing it twice is the same as once."""
    client.request("PATCH", f"jobs/{job_id}", body=COMPLETE)


def set_complete(desk: Desk, *, match: str = "") -> int:
    """Set all tasks completed, or those whose name holds ``match``; what is completed is left alone.

    Raises:
        CvatError: CVAT cannot be used or refused; run it again, it goes on with the rest.
    """
    client = desk.client()
    tasks = open_jobs(client, lambda name: match in name)
    if not tasks:
        desk.say("no task is left to set completed")
        return DONE
    desk.say("\n".join(f"{name}: {len(jobs)} jobs" for name, jobs in tasks))
    if not desk.agreed(f"Set these {len(tasks)} tasks completed on {client.url}"):
        return DRY_RUN
    for name, jobs in tasks:
        for job in jobs:
            complete_job(client, job)
        desk.say(f"completed: {name}")
    return DONE
