"""Send a plan to CVAT so that it can be repeated after any accident without a duplicate and without a loss.

Every request that changes something is noted in an append-only journal before and after. A repeat reads the journal
first and then looks at the server: tasks and shapes that are there are not made again.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.labels import match_labels
from obdb_lib.cvat.push_journal import PushJournal, StoreJournal, pushed_suggestions
from obdb_lib.cvat.push_once import pushed_places
from obdb_lib.cvat.push_plan import PlannedTask, PushPlan, plan_push
from obdb_lib.cvat.push_shapes import SHAPES_PER_REQUEST
from obdb_lib.cvat.push_task import PushedTask, TaskPush
from obdb_lib.cvat.share import Share
from obdb_lib.cvat.undo import UndoneTask, UndoResult, undo_push
from obdb_lib.errors import CvatError
from obdb_lib.progress import Progress, track

__all__ = [
    "PlannedTask",
    "PushJournal",
    "PushPlan",
    "PushResult",
    "PushedTask",
    "Share",
    "StoreJournal",
    "UndoResult",
    "UndoneTask",
    "plan_push",
    "pushed_places",
    "pushed_suggestions",
    "send",
    "undo_push",
]


@dataclass(frozen=True)
class PushResult:
    """What stands on CVAT after a push."""

    push_id: str
    tasks: tuple[PushedTask, ...]

    def table(self) -> pd.DataFrame:
        """One row per task."""
        columns = ["name", "source_task", "task_id", "url", "frames", "sent", "already_there"]
        return pd.DataFrame([vars(task) for task in self.tasks], columns=columns)

    def summary(self) -> str:
        sent, there = sum(task.sent for task in self.tasks), sum(task.already_there for task in self.tasks)
        more = f", {there} were there already" if there else ""
        return f"{sent} boxes sent to {len(self.tasks)} tasks{more} (push {self.push_id})"


def send(
    plan: PushPlan,
    client: CvatClient,
    *,
    journal: PushJournal,
    confirm: bool = False,
    project_id: int | None = None,
    shapes_per_request: int = SHAPES_PER_REQUEST,
    share: Share | None = None,
    progress: Progress | None = None,
) -> PushResult:
    """Make the planned tasks on CVAT; run it again after an accident and it goes on where it stopped.

    Args:
        confirm: must be True; without it nothing is sent.
        project_id: put the tasks into this project and use its labels; default are tasks with labels of their own.
        shapes_per_request: boxes go job by job, at most so many in one request, at least 1.
        share: folders that the server has mounted as its share; tasks whose images all lie there are made without an
            upload. None uploads.

    Raises:
        CvatError: not confirmed; a label that the project lacks (nothing is sent then); no answer or a refusal (run it
            again); boxes that CVAT did not keep, by name.
    """
    if not confirm:
        raise CvatError(
            f"dry run: nothing was sent. {plan.summary().splitlines()[0]} would be made on {client.url}. Look at the "
            "plan's table and call send(..., confirm=True)."
        )
    if not plan.tasks:
        raise CvatError("nothing to push: no accepted suggestion is left in the plan")
    if project_id is not None:
        used = {shape.object_class for task in plan.tasks for shape in task.shapes}
        match_labels(used, client.labels(project_id=project_id), where=f"project {project_id}")
    pushed = []
    with track(progress, "push boxes to CVAT", plan.boxes) as bar:
        for task in plan.tasks:
            pushed.append(
                TaskPush(
                    plan, task, client, journal, project_id, bar, shapes_per_request=shapes_per_request, share=share
                ).run()
            )
    return PushResult(plan.push_id, tuple(pushed))
