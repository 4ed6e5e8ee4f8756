"""Merge verified auto tasks into ground-truth tasks, so that it can be repeated after any accident and be undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.labels import names_by_id
from obdb_lib.cvat.merge_match import ADD, judge, places_there
from obdb_lib.cvat.merge_plan import MergePlan, MergeShape, TargetPlan, plan_merge
from obdb_lib.cvat.push_journal import PushJournal, same_server, since_undone
from obdb_lib.cvat.push_shapes import SHAPES_PER_REQUEST, ShapeSender, shape_key
from obdb_lib.errors import CvatError
from obdb_lib.frames import decode
from obdb_lib.progress import Progress, Task, track
from obdb_lib.records import Document, Problem

__all__ = ["MergePlan", "MergeResult", "MergedTask", "frame_loader", "merge", "plan_merge"]


@dataclass(frozen=True)
class MergedTask:
    """One ground-truth task after a merge; ``already_there`` boxes were found from an earlier try."""

    name: str
    task_id: int
    url: str
    sent: int
    already_there: int


@dataclass(frozen=True)
class MergeResult:
    """What a merge added; ``problems`` are boxes that were left out as the task changed since it was planned."""

    merge_id: str
    tasks: tuple[MergedTask, ...]
    problems: list[Problem]

    def table(self) -> pd.DataFrame:
        """One row per ground-truth task."""
        columns = ["name", "task_id", "url", "sent", "already_there"]
        return pd.DataFrame([vars(task) for task in self.tasks], columns=columns)

    def summary(self) -> str:
        sent, there = sum(task.sent for task in self.tasks), sum(task.already_there for task in self.tasks)
        more = f", {there} were there already" if there else ""
        head = f"{sent} boxes added to {sum(bool(task.sent) for task in self.tasks)} ground-truth tasks{more}"
        lines = [f"{head} (merge {self.merge_id})", *(f"- {problem}" for problem in self.problems)]
        if sent or there:
            lines.append("The auto tasks still hold these boxes: pull them no more, or the store has each box twice.")
        return "\n".join(lines)


def merge(
    plan: MergePlan,
    client: CvatClient,
    *,
    journal: PushJournal,
    confirm: bool = False,
    shapes_per_request: int = SHAPES_PER_REQUEST,
    progress: Progress | None = None,
) -> MergeResult:
    """Add the planned shapes; run plan and merge again after an accident and they go on where they stopped.

    Each ground-truth task is looked at once more: what came to stand there since it was planned is not sent.

    Args:
        confirm: must be True; without it nothing is sent.
        shapes_per_request: shapes go job by job, at most so many in one request, at least 1.

    Raises:
        CvatError: not confirmed; a plan for another server; no answer or a refusal (run it again); boxes that CVAT did
            not keep, by name.
    """
    if not same_server(plan.server, client.url):
        raise CvatError(f"this merge was planned for {plan.server}, not for {client.url}; plan it again there")
    if not confirm:
        raise CvatError(
            f"dry run: nothing was sent. {plan.summary().splitlines()[0]} would be done on {client.url}. Look at the "
            "plan's table and call merge(..., confirm=True)."
        )
    merged, problems = [], list[Problem]()
    with track(progress, "merge verified boxes", plan.boxes) as bar:
        for target in plan.tasks:
            entries = journal.entries(target.name)
            work = _TargetMerge(plan, target, client, journal, entries, bar, shapes_per_request)
            merged.append(work.run(problems))
    return MergeResult(plan.merge_id, tuple(merged), problems)


class _TargetMerge:
    """The merge into one ground-truth task; ``entries`` are all notes about it, oldest first."""

    def __init__(
        self,
        plan: MergePlan,
        target: TargetPlan,
        client: CvatClient,
        journal: PushJournal,
        entries: Sequence[Document],
        bar: Task,
        shapes_per_request: int,
    ) -> None:
        self.plan, self.target, self.client, self.journal, self.bar = plan, target, client, journal, bar
        own = [entry for entry in entries if entry["push_id"] == plan.merge_id]
        here = [entry for entry in own if same_server(entry["server"], client.url)]
        self.entries = [entry for entry in since_undone(here) if entry.get("task_id") == target.task_id]
        self.shapes_per_request = shapes_per_request

    def run(self, problems: list[Problem]) -> MergedTask:
        open_ = self._open()
        sent, there = 0, 0
        shapes = [*open_, *self._still_new(open_, problems)]
        if shapes:
            sender = ShapeSender(
                self.client,
                self.target.task_id,
                f"ground-truth task {self.target.name!r} (id {self.target.task_id})",
                note=self._note,
                entries=self.entries,
                words={shape.name: str(shape) for shape in shapes},
                bar=self.bar,
                shapes_per_request=self.shapes_per_request,
            )
            sent, there = sender.send({shape.name: shape.document for shape in shapes})
            self._note("merged", "after", suggestion_ids=sorted(shape.name for shape in shapes))
        url = self.client.task_url(self.target.task_id)
        return MergedTask(self.target.name, self.target.task_id, url, sent, there)

    def _open(self) -> list[MergeShape]:
        """Shapes of an earlier try of which it is not known whether they arrived, and which the plan has no more: it
        found them standing there."""
        told = {
            str(name)
            for e in self.entries
            if (e["step"], e["phase"]) == ("shapes", "after")
            for name in e["suggestion_ids"]
        }
        planned = {shape.name for shape in self.target.shapes}
        found: dict[str, MergeShape] = {}
        for entry in self.entries:
            if (entry["step"], entry["phase"]) == ("shapes", "before"):
                for name, document in zip(entry["suggestion_ids"], entry["shapes"], strict=True):
                    if name not in told and name not in planned:
                        found[name] = MergeShape(name, f"frame {document['frame']}", "a box", document)
        if not found:
            return []
        there = {shape_key(shape) for shape in self.client.annotations(self.target.task_id)["shapes"]}
        return [shape for shape in found.values() if shape_key(shape.document) in there]

    def _still_new(self, open_: Sequence[MergeShape], problems: list[Problem]) -> list[MergeShape]:
        """The planned shapes without those whose place was taken since; what an earlier try sent is taken along."""
        planned = list(self.target.shapes)
        if not planned:
            return []
        labels = names_by_id(self.client.labels(task_id=self.target.task_id))
        found = self.client.annotations(self.target.task_id)
        known = {shape_key(shape.document) for shape in (*planned, *open_)}
        others = [shape for shape in found["shapes"] if shape_key(shape) not in known]
        there = places_there({**found, "shapes": others}, labels, self.target.task_id)
        verdicts = judge([shape.place for shape in planned], there, min_iou=self.plan.min_iou)
        kept = []
        for shape, verdict in zip(planned, verdicts, strict=True):
            if verdict.act == ADD:
                kept.append(shape)
            else:
                what = f"{shape}: {verdict.why} since this was planned; not sent"
                problems.append(Problem(f"task {self.target.name!r}", what))
        return kept

    def _note(self, step: str, phase: str, **more: object) -> None:
        entry: Document = {
            "push_id": self.plan.merge_id,
            "kind": "merge",
            "when": datetime.now(UTC),
            "step": step,
            "phase": phase,
            "server": self.client.url,
            "source_task": self.target.name,
            "task_name": self.target.name,
            "task_id": self.target.task_id,
            "model": "",
            "snapshot_id": "",
            **more,
        }
        self.journal.append(entry)
        self.entries.append(entry)


def frame_loader(client: CvatClient) -> Callable[[str], NDArray[np.uint8]]:
    """Loads the frame of a record of ``MergePlan.records`` from CVAT: (H, W, 3) uint8 RGB."""

    def load(img_path: str) -> NDArray[np.uint8]:
        task_id, number = img_path.split(":")
        return decode(client.frame(int(task_id), int(number)))

    return load
