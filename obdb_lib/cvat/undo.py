"""Take a push or a merge back: what it created goes, what a person made of it stays and is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.push_journal import PushJournal, same_server
from obdb_lib.cvat.undo_task import UndoneTask, UndoTask
from obdb_lib.errors import CvatError
from obdb_lib.progress import Progress, tracked
from obdb_lib.records import Document

__all__ = ["UndoResult", "UndoneTask", "undo_push"]

SHOWN = 5


@dataclass(frozen=True)
class UndoResult:
    """What an undo would do (``done`` is False) or did."""

    push_id: str
    done: bool
    tasks: tuple[UndoneTask, ...]

    def table(self) -> pd.DataFrame:
        """One row per task: name, source_task, task_id, url, status, act, boxes that go, kept and added boxes."""
        columns = ["name", "source_task", "task_id", "url", "status", "act", "boxes", "kept", "added"]
        return pd.DataFrame([{**vars(task), "kept": len(task.kept)} for task in self.tasks], columns=columns)

    def summary(self) -> str:
        """One sentence, and a line for each thing that stays."""
        whole = [task for task in self.tasks if task.act == "delete task"]
        parts = [task for task in self.tasks if task.act == "delete boxes"]
        verb = "deleted" if self.done else "would be deleted"
        boxes = sum(task.boxes for task in parts)
        head = f"{len(whole)} tasks, and {boxes} boxes of {len(parts)} tasks that stay, {verb}"
        lines = [f"{head} (push {self.push_id})"]
        for task in self.tasks:
            where = f"- task {task.name!r} (id {task.task_id})"
            lines += [f"{where}: {kept}" for kept in task.kept]
            if task.added:
                lines.append(f"{where}: kept, as somebody added {task.added} annotations to it")
            if task.act == "delete task" and task.status == "completed":
                lines.append(f"{where}: was completed by somebody and goes all the same")
            if task.act in ("gone", "undone before"):
                lines.append(f"{where}: {'is not there any more' if task.act == 'gone' else 'was undone before'}")
        if not self.done and (whole or parts):
            lines.append("Dry run: nothing was deleted. Call undo_push(..., confirm=True) to do it.")
        return "\n".join(lines)


def undo_push(
    client: CvatClient,
    push_id: str,
    *,
    journal: PushJournal,
    confirm: bool = False,
    progress: Progress | None = None,
) -> UndoResult:
    """Delete what a push or a merge created on CVAT, and nothing else; run it again after an accident.

    A task that the push made goes whole, unless somebody added or changed annotations in it: then only the boxes go
    that are as they were sent. Of a task that was there before only those boxes go. Suggestions whose boxes are taken
    back can be pushed again.

    Args:
        push_id: of the push (``PushPlan.push_id``) or merge (``MergePlan.merge_id``).
        journal: where it was noted; the undo is noted there, too.
        confirm: must be True; without it the result tells what would be done and nothing is deleted.

    Raises:
        CvatError: no such push on this server, or any trouble with the server.
    """
    every = journal.entries()
    own = [entry for entry in every if entry["push_id"] == push_id]
    here = [entry for entry in own if same_server(entry["server"], client.url)]
    if not here:
        raise CvatError(_unknown(push_id, own, every, client.url))
    tasks: list[UndoneTask] = []
    for source in tracked(list(dict.fromkeys(str(entry["source_task"]) for entry in here)), progress, "undo"):
        about = [e for e in every if e["source_task"] == source and same_server(e["server"], client.url)]
        tasks += UndoTask(client, journal, push_id, about).run(really=confirm)
    return UndoResult(push_id, confirm, tuple(tasks))


def _unknown(push_id: str, own: Sequence[Document], every: Sequence[Document], url: str) -> str:
    if own:
        return f"push {push_id!r} went to {own[-1]['server']}, not to {url}; connect there to undo it"
    known = list(dict.fromkeys(str(entry["push_id"]) for entry in reversed(every)))[:SHOWN]
    listed = f"; the latest are {', '.join(known)}" if known else ", and it is empty"
    return f"the journal has no push {push_id!r}{listed}. Take the id that the push or merge told."
