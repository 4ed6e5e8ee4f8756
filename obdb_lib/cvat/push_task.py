"""The push of one task: make it, upload its images, add its boxes, look that all is there."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from obdb_lib.cvat.client import CvatClient, RefusedError
from obdb_lib.cvat.labels import match_labels
from obdb_lib.cvat.names import named_files
from obdb_lib.cvat.push_journal import PushJournal, kept_by_undo, same_server, since_undone
from obdb_lib.cvat.push_plan import PlannedShape, PlannedTask, PushPlan
from obdb_lib.cvat.push_shapes import SHAPES_PER_REQUEST, ShapeSender, some
from obdb_lib.cvat.share import Share
from obdb_lib.errors import CvatError
from obdb_lib.progress import Task
from obdb_lib.records import Document

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PushedTask:
    """One task on CVAT; ``sent`` boxes went out now, ``already_there`` were found from an earlier try."""

    name: str
    source_task: str
    task_id: int
    url: str
    frames: int
    sent: int
    already_there: int


class TaskPush:
    """One planned task on its way; ``run`` may be called again by a later process with the same journal."""

    def __init__(
        self,
        plan: PushPlan,
        task: PlannedTask,
        client: CvatClient,
        journal: PushJournal,
        project_id: int | None,
        bar: Task,
        *,
        shapes_per_request: int = SHAPES_PER_REQUEST,
        share: Share | None = None,
    ) -> None:
        self.plan, self.task, self.client, self.journal = plan, task, client, journal
        self.project_id, self.bar, self.shapes_per_request = project_id, bar, shapes_per_request
        self.server_files = share.server_files(task.frames) if share else {}
        noted = journal.entries(task.source_task)
        self._refuse_what_an_undo_kept([entry for entry in noted if entry["push_id"] == plan.push_id])
        self.entries = _own_or_unfinished(noted, plan, client.url)
        begun = next((entry for entry in self.entries if entry["step"] == "create"), None)
        self.name = str(begun["task_name"]) if begun else task.name  # a repeat is planned at another hour

    def _refuse_what_an_undo_kept(self, own: list[Document]) -> None:
        here = [entry for entry in own if same_server(entry["server"], self.client.url)]
        kept = kept_by_undo(here) & {shape.suggestion_id for shape in self.task.shapes}
        if kept:
            raise CvatError(
                f"push {self.plan.push_id} was undone, but {len(kept)} of its boxes still stand on CVAT because "
                f"somebody changed them (suggestions {some(sorted(kept))}). Plan again, with already_pushed: it leaves "
                "these out."
            )

    def run(self) -> PushedTask:
        task_id = self._task_with_data()
        self._take_over(task_id)
        numbers = self._frame_numbers(task_id)
        labels = match_labels(
            {shape.object_class for shape in self.task.shapes},
            self.client.labels(task_id=task_id),
            where=f"task {self.name!r}",
        )
        sender = ShapeSender(
            self.client,
            task_id,
            f"task {self.name!r} (id {task_id})",
            note=lambda step, phase, **more: self._note(step, phase, task_id=task_id, **more),
            entries=self.entries,
            words={shape.suggestion_id: str(shape) for shape in self.task.shapes},
            bar=self.bar,
            shapes_per_request=self.shapes_per_request,
        )
        wanted = {shape.suggestion_id: _document(shape, numbers, labels) for shape in self.task.shapes}
        sent, there = sender.send(wanted)
        self._delete_late_twins(task_id)
        self._note("verified", "after", task_id=task_id, suggestion_ids=sorted(wanted))
        url = self.client.task_url(task_id)
        return PushedTask(self.name, self.task.source_task, task_id, url, len(self.task.frames), sent, there)

    def _note(self, step: str, phase: str, **more: object) -> None:
        entry: Document = {
            "push_id": self.plan.push_id,
            "when": datetime.now(UTC),
            "step": step,
            "phase": phase,
            "server": self.client.url,
            "source_task": self.task.source_task,
            "task_name": self.name,
            "model": self.plan.model,
            "snapshot_id": self.plan.snapshot_id,
            **more,
        }
        self.journal.append(entry)
        self.entries.append(entry)

    # -- the task and its images -------------------------------------------------------------------------------------

    def _task_with_data(self) -> int:
        """Id of the task, with all its images read by the server."""
        found, ours = self._existing()
        if found is not None:
            task_id = int(found["id"])
            if found.get("size") or self._reading_ends_well(task_id):
                return task_id
            if not ours:
                raise CvatError(
                    f"CVAT has an empty task {self.name!r} (id {task_id}) that this push did not make. Delete or "
                    "rename it there, then run this step again."
                )
            self._delete(task_id)  # left behind by a failed upload
        self._note("create", "before")
        made = self.client.create_task(self.name, labels=self.plan.classes, project_id=self.project_id)
        task_id = int(made["id"])
        self._note("create", "after", task_id=task_id)
        self._upload(task_id)
        return task_id

    def _existing(self) -> tuple[Document | None, bool]:
        """The task of an earlier try, and whether this push made it."""
        made: int | None = None
        pending = False
        for entry in self.entries:
            if entry["step"] == "create":
                pending = entry["phase"] == "before"
                made = None if pending else int(entry["task_id"])
            elif entry["step"] == "delete" and entry["phase"] == "after" and entry["task_id"] == made:
                made = None
        if made is not None:
            found = self.client.task(made)
            if found is not None:
                return found, True
        same = self.client.tasks(self.name)
        filled = [task for task in same if task.get("size")]
        if len(same) > 1 and len(filled) < 2 and self._creation_unsure():
            same = filled or same[:1]  # the others came late, and are empty: _delete_late_twins
        if len(same) > 1:
            numbers = ", ".join(str(task["id"]) for task in same)
            raise CvatError(
                f"CVAT has {len(same)} tasks of the name {self.name!r} (ids {numbers}), so it is not clear which one "
                "to go on with. Delete or rename all but one, then run this step again."
            )
        return (same[0], pending) if same else (None, False)

    def _take_over(self, task_id: int) -> None:
        """Note a task that an earlier plan made and left unfinished as this one's, so that an undo knows it."""
        makers = {
            entry["push_id"]
            for entry in self.entries
            if entry["step"] == "create" and entry["phase"] == "after" and entry["task_id"] == task_id
        }
        if makers and self.plan.push_id not in makers:
            self._note("create", "after", task_id=task_id)

    def _creation_unsure(self) -> bool:
        """Whether this push once asked for its task and never learned whether it was made."""
        phases = [entry["phase"] for entry in self.entries if entry["step"] == "create"]
        return phases.count("before") > phases.count("after")

    def _delete_late_twins(self, task_id: int) -> None:
        """Take away empty tasks that the server made after all, when this push had given up and made another one."""
        if self._creation_unsure():
            for task in self.client.tasks(self.name):
                if int(task["id"]) != task_id and not task.get("size"):
                    self._delete(int(task["id"]))

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

    def _upload(self, task_id: int) -> None:
        """Upload the images, or name them in the share; when the server refuses them, the empty task is deleted."""
        self._note("upload", "before", task_id=task_id, frames=len(self.task.frames))
        try:
            with ExitStack() as stack:
                if self.server_files:
                    request = self.client.attach(task_id, list(self.server_files.values()))
                else:
                    files = named_files([(frame.file, frame.upload_name) for frame in self.task.frames], stack)
                    request = self.client.upload(task_id, files)
                self.client.wait(request)
        except RefusedError as error:
            self._take_back(task_id)
            hint = " Does the server have these files in its share, under these names?" if self.server_files else ""
            raise CvatError(
                f"the images of {self.name!r} were not taken, so the task is not made: {error}{hint}"
            ) from error
        self._note("upload", "after", task_id=task_id)

    def _take_back(self, task_id: int) -> None:
        try:
            self._delete(task_id)
        except CvatError as error:
            logger.warning("task %d stays empty on CVAT until the push is repeated: %s", task_id, error)

    def _frame_numbers(self, task_id: int) -> dict[str, int]:
        """CVAT's number of each image path, by name: its order is by name and not that of the upload."""
        frames = self.client.meta(task_id)["frames"]
        numbers = {str(frame["name"]): number for number, frame in enumerate(frames)}
        found: dict[str, int] = {}
        wrong = []
        for planned in self.task.frames:
            # An earlier try may have uploaded what this one would name in the share, or the other way round.
            names = (self.server_files.get(planned.img_path, ""), planned.upload_name)
            place = next((numbers[name] for name in names if name in numbers), None)
            if place is None:
                wrong.append(f"{planned.upload_name} is not there")
            elif (frames[place]["width"], frames[place]["height"]) != (planned.width, planned.height):
                size = f"{frames[place]['width']} x {frames[place]['height']}"
                wrong.append(f"{planned.upload_name} is {size} there, {planned.width} x {planned.height} here")
            else:
                found[planned.img_path] = place
        if wrong:
            raise CvatError(
                f"task {self.name!r} (id {task_id}) on CVAT does not hold the images of this push: {some(wrong)}. "
                "Delete it there and run this step again; no box was sent to it."
            )
        return found


def _own_or_unfinished(entries: list[Document], plan: PushPlan, server: str) -> list[Document]:
    """Notes to go on from: of this very plan, else of an earlier one of the same model and data that was cut off.

    A plan made after more boxes were accepted goes on in the task that its predecessor left unfinished; a finished
    predecessor has nothing to go on with. Ids mean nothing on another server.
    """
    here = [entry for entry in entries if same_server(entry["server"], server)]
    own = [entry for entry in here if entry["push_id"] == plan.push_id]
    if own:
        return since_undone(own)
    alike = [e for e in here if (e["model"], e["snapshot_id"]) == (plan.model, plan.snapshot_id)]
    closed = max((place for place, entry in enumerate(alike) if entry["step"] in ("verified", "undone")), default=-1)
    return alike[closed + 1 :]


def _document(shape: PlannedShape, numbers: dict[str, int], labels: dict[str, int]) -> Document:
    return {
        "type": "rectangle",
        "frame": numbers[shape.img_path],
        "label_id": labels[shape.object_class],
        "points": list(shape.points),
        "source": "auto",
        "score": shape.score,
        "occluded": False,
        "z_order": 0,
        "attributes": [],
    }
