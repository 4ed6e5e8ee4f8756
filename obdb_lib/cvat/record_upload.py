"""Upload whole annotated tasks so that it can be repeated after any accident without a duplicate and without a loss.

As with a push, every request that changes something stands in the journal before and after it. A task of the same name
that this upload did not make is left alone.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from obdb_lib.cvat.client import CvatClient, RefusedError
from obdb_lib.cvat.labels import match_labels
from obdb_lib.cvat.names import named_files
from obdb_lib.cvat.push_journal import PushJournal, same_server, since_undone
from obdb_lib.cvat.push_shapes import ShapeSender, some
from obdb_lib.cvat.record_plan import RecordPlan, RecordTask, shape_document
from obdb_lib.errors import CvatError
from obdb_lib.progress import Progress, Task, track
from obdb_lib.records import Document

logger = logging.getLogger(__name__)

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
    progress: Progress | None = None,
) -> Uploaded:
    """Make the planned tasks on CVAT; run it again after an accident and it goes on where it stopped.

    Args:
        confirm: must be True; without it nothing is sent.

    Raises:
        CvatError: not confirmed; no answer or a refusal (run it again); shapes that CVAT did not keep, by name.
    """
    if not confirm:
        raise CvatError(f"dry run: nothing was sent. {plan.summary().splitlines()[0]} would be made on {client.url}.")
    done = []
    with track(progress, "upload tasks to CVAT", sum(len(task.shapes) for task in plan.tasks)) as bar:
        for task in plan.tasks:
            done.append(_Upload(task, client, journal, bar).run())
    return Uploaded(tuple(done))


class _Upload:
    """One task on its way; a later process with the same journal goes on."""

    def __init__(self, task: RecordTask, client: CvatClient, journal: PushJournal, bar: Task) -> None:
        self.task, self.client, self.journal, self.bar = task, client, journal, bar
        own = [entry for entry in journal.entries(task.name) if entry["push_id"] == task.push_id]
        self.entries = since_undone([entry for entry in own if same_server(entry["server"], client.url)])

    def run(self) -> UploadedTask:
        found, ours = self._existing()
        if found is not None and not ours:
            number = int(found["id"])
            self.bar.advance(len(self.task.shapes))
            return UploadedTask(self.task.name, number, self.client.task_url(number), 0, 0, 0, skipped=True)
        if found is not None and self._finished(int(found["id"])):  # what people changed since is theirs
            task_id, counts = int(found["id"]), (0, len(self.task.shapes))
            self.bar.advance(len(self.task.shapes))
        else:
            task_id = self._task_with_data(found)
            counts = self._shapes(task_id, self._documents(task_id))
        url = self.client.task_url(task_id)
        return UploadedTask(self.task.name, task_id, url, len(self.task.frames), *counts)

    def _note(self, step: str, phase: str, **more: object) -> None:
        entry: Document = {
            "push_id": self.task.push_id,
            "when": datetime.now(UTC),
            "step": step,
            "phase": phase,
            "server": self.client.url,
            "source_task": self.task.name,
            "task_name": self.task.name,
            "model": MODEL,
            "snapshot_id": "",
            **more,
        }
        self.journal.append(entry)
        self.entries.append(entry)

    def _finished(self, task_id: int) -> bool:
        return any(entry["step"] == "verified" and entry["task_id"] == task_id for entry in self.entries)

    # -- the task and its images -------------------------------------------------------------------------------------

    def _existing(self) -> tuple[Document | None, bool]:
        """The task of this name, and whether this upload made it."""
        made: int | None = None
        pending = False
        for entry in self.entries:
            if entry["step"] == "create":
                pending = entry["phase"] == "before"
                made = None if pending else int(entry["task_id"])
            elif entry["step"] == "delete" and entry["phase"] == "after":
                made = None
        if made is not None:
            found = self.client.task(made)
            if found is not None:
                return found, True
        same = self.client.tasks(self.task.name)
        if len(same) > 1 and pending:
            numbers = ", ".join(str(task["id"]) for task in same)
            raise CvatError(
                f"CVAT has {len(same)} tasks of the name {self.task.name!r} (ids {numbers}), so it is not clear which "
                "one to go on with. Delete or rename all but one, then run this again."
            )
        return (same[0], pending) if same else (None, False)

    def _task_with_data(self, found: Document | None) -> int:
        if found is not None:
            task_id = int(found["id"])
            if found.get("size") or self._reading_ends_well(task_id):
                return task_id
            self._delete(task_id)  # left behind by a failed upload
        body = {"name": self.task.name, "labels": list(self.task.labels)}
        self._note("create", "before")
        task_id = int(self.client.ask("POST", "tasks", "id", body=body)["id"])
        self._note("create", "after", task_id=task_id)
        self._note("upload", "before", task_id=task_id, frames=len(self.task.frames))
        try:
            with ExitStack() as stack:
                files = named_files([(frame.file, frame.upload_name) for frame in self.task.frames], stack)
                self.client.wait(self.client.upload(task_id, files))
        except RefusedError as error:
            self._take_back(task_id)
            raise CvatError(f"the images of {self.task.name!r} were not taken, so it is not made: {error}") from error
        self._note("upload", "after", task_id=task_id)
        return task_id

    def _reading_ends_well(self, task_id: int) -> bool:
        """Whether the server is still reading images of an earlier try and gets through."""
        request = self.client.upload_request(task_id)
        if request is None or request.get("status") == "failed":
            return False
        try:
            self.client.wait(str(request["id"]))
        except RefusedError:
            return False
        task = self.client.task(task_id)
        return bool(task and task.get("size"))

    def _delete(self, task_id: int) -> None:
        self._note("delete", "before", task_id=task_id)
        self.client.delete_task(task_id)
        self._note("delete", "after", task_id=task_id)

    def _take_back(self, task_id: int) -> None:
        try:
            self._delete(task_id)
        except CvatError as error:
            logger.warning("task %d stays empty on CVAT until the upload is repeated: %s", task_id, error)

    # -- shapes ------------------------------------------------------------------------------------------------------

    def _documents(self, task_id: int) -> dict[str, Document]:
        """Every shape as it is sent, by its id; frames by name, because CVAT orders them by name."""
        frames = self.client.meta(task_id)["frames"]
        places = {str(frame["name"]).rsplit("/", 1)[-1]: number for number, frame in enumerate(frames)}
        wrong = []
        for one in self.task.frames:
            size = frames[places[one.upload_name]] if one.upload_name in places else {}
            if (size.get("width"), size.get("height")) != (one.width, one.height):
                wrong.append(f"{one.upload_name} {'has another size' if size else 'is not there'}")
        if wrong:
            raise CvatError(
                f"task {self.task.name!r} (id {task_id}) on CVAT does not hold the images of this upload: "
                f"{some(wrong)}. Delete it there and run this again; no shape was sent to it."
            )
        numbers = {frame.img_path: places[frame.upload_name] for frame in self.task.frames}
        labels = self.client.labels(task_id=task_id)
        used = {str(shape["object_class"]) for shape in self.task.shapes.values()}
        ids = match_labels(used, labels, where=f"task {self.task.name!r}")
        by_id = {int(label["id"]): label for label in labels}
        return {
            key: shape_document(self.task, one, numbers[one["img_path"]], by_id[ids[one["object_class"]]])
            for key, one in self.task.shapes.items()
        }

    def _shapes(self, task_id: int, wanted: dict[str, Document]) -> tuple[int, int]:
        """Send what is not there yet; numbers of shapes sent and found."""
        words = {key: f"{one['object_class']} on {one['img_path']}" for key, one in self.task.shapes.items()}
        sender = ShapeSender(
            self.client,
            task_id,
            f"task {self.task.name!r} (id {task_id})",
            note=lambda step, phase, **more: self._note(step, phase, task_id=task_id, **more),
            entries=self.entries,
            words=words,
            bar=self.bar,
        )
        counts = sender.send(wanted)
        self._note("verified", "after", task_id=task_id, suggestion_ids=sorted(wanted))
        return counts
