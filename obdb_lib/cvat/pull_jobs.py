"""Which jobs of a CVAT task count: those of some states and stages, and the frames that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from obdb_lib.errors import CvatError
from obdb_lib.records import Document

STATES = ("new", "in progress", "completed", "rejected")
STAGES = ("annotation", "validation", "acceptance")
ANNOTATION_JOB = "annotation"
"""Type of the jobs that hold a task's annotations; ground-truth jobs and replicas hold others of the same frames."""


@dataclass(frozen=True)
class JobFilter:
    """Jobs of any of these states and any of these stages; an empty tuple is all of them."""

    states: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()

    def passes(self, job: Document) -> bool:
        """Whether a job, as CVAT lists it, counts."""
        return (not self.states or job.get("state") in self.states) and (
            not self.stages or job.get("stage") in self.stages
        )


COMPLETED_JOBS = JobFilter(("completed",), ("acceptance",))
ALL_JOBS = JobFilter()


def job_filter(wanted: str | JobFilter) -> JobFilter:
    """A filter from words.

    Args:
        wanted: ``completed`` (accepted and completed, what CVAT counts as done), ``all``, or states and stages of jobs
            with commas between: ``validation, acceptance``; ``state:completed`` is that state at any stage.

    Raises:
        CvatError: a word is neither a state nor a stage.
    """
    if isinstance(wanted, JobFilter):
        return wanted
    words = [word.strip().lower() for word in wanted.split(",") if word.strip()]
    if words in (["completed"], ["all"]):
        return COMPLETED_JOBS if words == ["completed"] else ALL_JOBS
    plain = [word.removeprefix("state:").removeprefix("stage:").strip() for word in words]
    unknown = [word for word in plain if word not in (*STATES, *STAGES)]
    if unknown or not plain:
        raise CvatError(
            f"jobs={wanted!r} does not say which jobs: wanted 'completed', 'all', or states ({', '.join(STATES)}) and "
            f"stages ({', '.join(STAGES)}) with commas between"
        )
    return JobFilter(tuple(word for word in plain if word in STATES), tuple(word for word in plain if word in STAGES))


def annotation_jobs(jobs: Sequence[Document]) -> list[Document]:
    """Jobs that hold a task's annotations, in the order of their frames."""
    own = [job for job in jobs if job.get("type", ANNOTATION_JOB) == ANNOTATION_JOB]
    return sorted(own, key=lambda job: (job.get("start_frame", 0), job["id"]))


def owners(jobs: Sequence[Document]) -> dict[int, int]:
    """Id of the job that stands for each frame: the first, where jobs overlap."""
    found: dict[int, int] = {}
    for job in jobs:
        for frame in range(int(job["start_frame"]), int(job["stop_frame"]) + 1):
            found.setdefault(frame, int(job["id"]))
    return found
