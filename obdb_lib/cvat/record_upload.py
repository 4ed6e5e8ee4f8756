"""Upload whole annotated tasks so that it can be repeated after any accident without a duplicate and without a loss.

As with a push, every request that changes something stands in the journal before and after it. A task of the same name
that this upload did not make is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.labels import match_labels
from obdb_lib.cvat.push_journal import PushJournal
from obdb_lib.cvat.push_plan import PlannedTask, PushPlan
from obdb_lib.cvat.push_shapes import ShapeSender
from obdb_lib.cvat.push_task import TaskPush
from obdb_lib.cvat.record_plan import RecordPlan, RecordTask, shape_document
from obdb_lib.cvat.share import Share
from obdb_lib.errors import CvatError
from obdb_lib.progress import Progress, Task, track
from obdb_lib.records import Document

MODEL = "annotations"
"""In the journal, where a push names its model."""


@dataclass(frozen=True)
class UploadedTask:
    """One task; ``skipped`` when CVAT had one of this name that is not ours."""

    name: str
    task_id: int
    url: str
    frames: int
    sent: int
    already_there: int
    skipped: bool = False


@dataclass(frozen=True)
class Uploaded:
    """What stands on CVAT after an upload."""

    tasks: tuple[UploadedTask, ...]

    def table(self) -> pd.DataFrame:
        """One row a task: columns as the fields of UploadedTask."""
        columns = ["name", "task_id", "url", "frames", "sent", "already_there", "skipped"]
        return pd.DataFrame([vars(task) for task in self.tasks], columns=columns)

    def summary(self) -> str:
        made = [task for task in self.tasks if not task.skipped]
        there = sum(task.already_there for task in made)
        more = f", {there} were there already" if there else ""
        lines = [f"{sum(task.sent for task in made)} shapes sent to {len(made)} tasks{more}"]
        for task in self.tasks:
            if task.skipped:
                lines.append(f"- {task.name!r} is on CVAT already (id {task.task_id}) and was left alone")
        return "\n".join(lines)


def upload_records(
    plan: RecordPlan,
    client: CvatClient,
    *,
    journal: PushJournal,
    confirm: bool = False,
    share: Share | None = None,
    progress: Progress | None = None,
) -> Uploaded:
    """Make the planned tasks on CVAT; run it again after an accident and it goes on where it stopped.

    Args:
        confirm: must be True; without it nothing is sent.
        share: folders that the server has mounted as its share; tasks whose images all lie there are not uploaded.

    Raises:
        CvatError: not confirmed; no answer or a refusal (run it again); shapes that CVAT did not keep, by name.
    """
    if not confirm:
        raise CvatError(f"dry run: nothing was sent. {plan.summary().splitlines()[0]} would be made on {client.url}.")
    done = []
    with track(progress, "upload tasks to CVAT", sum(len(task.shapes) for task in plan.tasks)) as bar:
        for task in plan.tasks:
            done.append(_Upload(task, client, journal, bar, share).upload())
    return Uploaded(tuple(done))


class _Upload(TaskPush):
    """One task on its way, made and filled as a push does, but with described labels and shapes of all kinds."""

    def __init__(
        self, record: RecordTask, client: CvatClient, journal: PushJournal, bar: Task, share: Share | None
    ) -> None:
        classes = tuple(str(label["name"]) for label in record.labels)
        plan = PushPlan(record.push_id, MODEL, record.push_id, classes, ())
        super().__init__(
            plan, PlannedTask(record.name, record.name, record.frames, ()), client, journal, None, bar, share=share
        )
        self.record = record

    def upload(self) -> UploadedTask:
        shapes = len(self.record.shapes)
        other = self._of_somebody_else()
        if other is not None:
            self.bar.advance(shapes)
            return UploadedTask(self.name, other, self.client.task_url(other), 0, 0, 0, skipped=True)
        found, _ = self._existing()
        if found is not None and self._finished(int(found["id"])):  # what people changed since is theirs
            task_id, counts = int(found["id"]), (0, shapes)
            self.bar.advance(shapes)
        else:
            task_id = self._filled(found)
            counts = self._send(task_id)
        return UploadedTask(self.name, task_id, self.client.task_url(task_id), len(self.task.frames), *counts)

    def _of_somebody_else(self) -> int | None:
        """A task of this name, when this upload has not begun to make one."""
        if any(entry["step"] == "create" for entry in self.entries):
            return None
        return next((int(task["id"]) for task in self.client.tasks(self.name)), None)

    def _finished(self, task_id: int) -> bool:
        return any(entry["step"] == "verified" and entry["task_id"] == task_id for entry in self.entries)

    def _filled(self, found: Document | None) -> int:
        """Id of the task, with all its images read by the server."""
        if found is not None:
            task_id = int(found["id"])
            if found.get("size") or self._reading_ends_well(task_id):
                return task_id
            self._delete(task_id)  # left behind by a failed upload
        self._note("create", "before")
        body = {"name": self.name, "labels": list(self.record.labels)}
        task_id = int(self.client.ask("POST", "tasks", "id", body=body)["id"])
        self._note("create", "after", task_id=task_id)
        self._upload(task_id)
        return task_id

    def _send(self, task_id: int) -> tuple[int, int]:
        """Send what is not there yet; numbers of shapes sent and found."""
        wanted = self._documents(task_id)
        sender = ShapeSender(
            self.client,
            task_id,
            f"task {self.name!r} (id {task_id})",
            note=lambda step, phase, **more: self._note(step, phase, task_id=task_id, **more),
            entries=self.entries,
            words={key: f"{one['object_class']} on {one['img_path']}" for key, one in self.record.shapes.items()},
            bar=self.bar,
        )
        counts = sender.send(wanted)
        self._delete_late_twins(task_id)
        self._note("verified", "after", task_id=task_id, suggestion_ids=sorted(wanted))
        return counts

    def _documents(self, task_id: int) -> dict[str, Document]:
        """Every shape as it is sent, by its id."""
        numbers = self._frame_numbers(task_id)
        labels = self.client.labels(task_id=task_id)
        used = {str(shape["object_class"]) for shape in self.record.shapes.values()}
        ids = match_labels(used, labels, where=f"task {self.name!r}")
        by_id = {int(label["id"]): label for label in labels}
        return {
            key: shape_document(self.record, one, numbers[one["img_path"]], by_id[ids[one["object_class"]]])
            for key, one in self.record.shapes.items()
        }
