"""The push of one task: make it, upload its images, add its boxes, look that all is there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from obdb_lib.cvat.client import CvatClient, RefusedError
from obdb_lib.cvat.labels import match_labels
from obdb_lib.cvat.names import named_files
from obdb_lib.cvat.push_journal import PushJournal
from obdb_lib.cvat.push_plan import DECIMALS, PlannedShape, PlannedTask, PushPlan, some
from obdb_lib.errors import CvatError
from obdb_lib.progress import Task
from obdb_lib.records import Document

logger = logging.getLogger(__name__)

SHAPES_PER_REQUEST = 2000
"""A tenth of what a real server took in 5 s; smaller requests lose less to a broken connection."""
Key = tuple[int, int, tuple[float, ...]]
"""Frame, label id and points: what makes two boxes the same."""
Wanted = dict[str, tuple[PlannedShape, Document]]


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
    ) -> None:
        self.plan, self.task, self.client, self.journal = plan, task, client, journal
        self.project_id, self.bar = project_id, bar
        self.entries = _own_or_unfinished(journal.entries(task.source_task), plan, client.url)
        begun = next((entry for entry in self.entries if entry["step"] == "create"), None)
        self.name = str(begun["task_name"]) if begun else task.name  # a repeat is planned at another hour

    def run(self) -> PushedTask:
        task_id = self._task_with_data()
        numbers = self._frame_numbers(task_id)
        labels = match_labels(
            {shape.object_class for shape in self.task.shapes},
            self.client.labels(task_id=task_id),
            where=f"task {self.name!r}",
        )
        wanted = {shape.suggestion_id: (shape, _document(shape, numbers, labels)) for shape in self.task.shapes}
        sent, there = self._shapes(task_id, wanted)
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
            elif entry["step"] == "delete" and entry["phase"] == "after":
                made = None
        if made is not None:
            found = self.client.task(made)
            if found is not None:
                return found, True
        same = self.client.tasks(self.name)
        if len(same) > 1:
            numbers = ", ".join(str(task["id"]) for task in same)
            raise CvatError(
                f"CVAT has {len(same)} tasks of the name {self.name!r} (ids {numbers}), so it is not clear which one "
                "to go on with. Delete or rename all but one, then run this step again."
            )
        return (same[0], pending) if same else (None, False)

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
        """Upload the images; when the server refuses them, the empty task is deleted."""
        self._note("upload", "before", task_id=task_id, frames=len(self.task.frames))
        try:
            with ExitStack() as stack:
                files = named_files([(frame.file, frame.upload_name) for frame in self.task.frames], stack)
                self.client.wait(self.client.upload(task_id, files))
        except RefusedError as error:
            self._take_back(task_id)
            raise CvatError(f"the images of {self.name!r} were not taken, so the task is not made: {error}") from error
        self._note("upload", "after", task_id=task_id)

    def _take_back(self, task_id: int) -> None:
        try:
            self._delete(task_id)
        except CvatError as error:
            logger.warning("task %d stays empty on CVAT until the push is repeated: %s", task_id, error)

    def _frame_numbers(self, task_id: int) -> dict[str, int]:
        """CVAT's number of each image path, by name: its order is by name and not that of the upload."""
        frames = self.client.meta(task_id)["frames"]
        numbers: dict[str, int] = {}
        for number, frame in enumerate(frames):
            numbers.setdefault(str(frame["name"]).rsplit("/", 1)[-1], number)
        wrong = []
        for planned in self.task.frames:
            place = numbers.get(planned.upload_name)
            if place is None:
                wrong.append(f"{planned.upload_name} is not there")
            elif (frames[place]["width"], frames[place]["height"]) != (planned.width, planned.height):
                size = f"{frames[place]['width']} x {frames[place]['height']}"
                wrong.append(f"{planned.upload_name} is {size} there, {planned.width} x {planned.height} here")
        if wrong:
            raise CvatError(
                f"task {self.name!r} (id {task_id}) on CVAT does not hold the images of this push: {some(wrong)}. "
                "Delete it there and run this step again; no box was sent to it."
            )
        return {planned.img_path: numbers[planned.upload_name] for planned in self.task.frames}

    # -- boxes -------------------------------------------------------------------------------------------------------

    def _shapes(self, task_id: int, wanted: Wanted) -> tuple[int, int]:
        """Add the boxes that are not there yet; numbers of boxes sent and found."""
        confirmed = self._confirmed(task_id) & set(wanted)
        there = Counter(_key(shape) for shape in self.client.annotations(task_id)["shapes"])
        there.subtract(_key(wanted[number][1]) for number in confirmed)
        missing: list[str] = []
        found: list[str] = []
        for number, (_, document) in wanted.items():
            if number in confirmed:
                continue
            key = _key(document)
            (found if there[key] > 0 else missing).append(number)
            there[key] -= 1
        self.bar.advance(len(confirmed) + len(found))
        for start in range(0, len(missing), SHAPES_PER_REQUEST):
            self._send_part(task_id, missing[start : start + SHAPES_PER_REQUEST], wanted)
        self._verify(task_id, wanted, checked={*missing, *found})
        self._note("verified", "after", task_id=task_id, suggestion_ids=sorted(wanted))
        return len(missing), len(confirmed) + len(found)

    def _confirmed(self, task_id: int) -> set[str]:
        """Suggestions whose boxes the server said to have stored; a person may have changed or deleted them since."""
        return {
            number
            for entry in self.entries
            if entry["step"] == "shapes" and entry["phase"] == "after" and entry["task_id"] == task_id
            for number in entry["suggestion_ids"]
        }

    def _send_part(self, task_id: int, part: Sequence[str], wanted: Wanted) -> None:
        self._note("shapes", "before", task_id=task_id, suggestion_ids=list(part))
        answer = self.client.add_shapes(task_id, [wanted[number][1] for number in part])
        stored = Counter(_key(shape) for shape in answer)
        kept: list[str] = []
        dropped: list[str] = []
        for number in part:
            key = _key(wanted[number][1])
            (kept if stored[key] > 0 else dropped).append(number)
            stored[key] -= 1
        self._note("shapes", "after", task_id=task_id, suggestion_ids=kept)
        self.bar.advance(len(kept))
        if dropped:
            raise self._lost(task_id, [wanted[number][0] for number in dropped])

    def _verify(self, task_id: int, wanted: Wanted, *, checked: set[str]) -> None:
        """Compare what the server has now with what it was sent; take away copies that a broken connection made."""
        shapes = self.client.annotations(task_id)["shapes"]
        there = Counter(_key(shape) for shape in shapes)
        lost = []
        for number in sorted(checked):
            key = _key(wanted[number][1])
            if there[key] <= 0:
                lost.append(wanted[number][0])
            there[key] -= 1
        if lost:
            raise self._lost(task_id, lost)
        ours = Counter(_key(document) for _, document in wanted.values())
        seen: Counter[Key] = Counter()
        surplus = []
        for shape in shapes:
            key = _key(shape)
            seen[key] += 1
            if key in ours and seen[key] > ours[key] and shape.get("source") == "auto":
                surplus.append(shape)
        if surplus:
            self._note("copies", "before", task_id=task_id, count=len(surplus))
            self.client.delete_shapes(task_id, surplus)
            self._note("copies", "after", task_id=task_id, count=len(surplus))

    def _lost(self, task_id: int, shapes: Sequence[PlannedShape]) -> CvatError:
        return CvatError(
            f"CVAT answered without an error but did not keep {len(shapes)} boxes of task {self.name!r} (id "
            f"{task_id}): {some([str(shape) for shape in shapes])}. It does so with boxes on frames that the task does "
            "not have; look at the task's frames, then run this step again."
        )


def _own_or_unfinished(entries: list[Document], plan: PushPlan, server: str) -> list[Document]:
    """Notes to go on from: of this very plan, else of an earlier one of the same model and data that was cut off.

    A plan made after more boxes were accepted goes on in the task that its predecessor left unfinished; a finished
    predecessor has nothing to go on with. Ids mean nothing on another server.
    """
    here = [entry for entry in entries if entry["server"] == server]
    own = [entry for entry in here if entry["push_id"] == plan.push_id]
    if own:
        return own
    alike = [e for e in here if (e["model"], e["snapshot_id"]) == (plan.model, plan.snapshot_id)]
    closed = max((place for place, entry in enumerate(alike) if entry["step"] == "verified"), default=-1)
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


def _key(shape: Document) -> Key:
    points = tuple(round(float(value), DECIMALS) for value in shape["points"])
    return int(shape["frame"]), int(shape["label_id"]), points
