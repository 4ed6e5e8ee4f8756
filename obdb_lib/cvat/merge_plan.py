"""What a merge would add: shapes of verified auto tasks that the matching ground-truth tasks do not have yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from obdb_lib.cache import content_hash
from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.labels import match_labels, names_by_id
from obdb_lib.cvat.merge_match import ADD, AMBIGUOUS, DUPLICATE, Place, judge, places_there, shape_box
from obdb_lib.cvat.merge_tasks import DEFAULT_PREFIX, pair_frames, pair_tasks
from obdb_lib.cvat.push_journal import PushJournal, merged_shapes
from obdb_lib.cvat.push_shapes import some
from obdb_lib.errors import CvatError
from obdb_lib.progress import Progress, tracked
from obdb_lib.records import Document, Problem

DEFAULT_MERGE_IOU = 0.7
"""Two shapes of a class with at least this overlap are one plant; lower it to add fewer."""
SHOWN_IN_SUMMARY = 20


@dataclass(frozen=True)
class MergeShape:
    """One verified shape to add: ``name`` is ``task:shape`` of where it was verified, ``document`` what is sent."""

    name: str
    frame_name: str
    object_class: str
    document: Document

    @property
    def place(self) -> Place:
        frame, home = int(self.document["frame"]), int(self.name.split(":")[0])
        return Place(frame, self.object_class, shape_box(self.document), f"verified shape {self.name}", home)

    def __str__(self) -> str:
        box = [round(value, 1) for value in shape_box(self.document)]
        return f"{self.object_class} at {box} on {self.frame_name} (verified shape {self.name})"


@dataclass(frozen=True)
class TargetPlan:
    """What one ground-truth task takes.

    Attributes:
        sources: names of the verified tasks.
        duplicates: number of verified shapes that stand there already.
        known: number of shapes that an earlier merge has put there, whatever became of them since.
        ambiguous: shapes that are not added, as nobody can tell what they are, with the reason.
    """

    task_id: int
    name: str
    sources: tuple[str, ...]
    shapes: tuple[MergeShape, ...]
    duplicates: int
    known: int
    ambiguous: tuple[tuple[MergeShape, str], ...]


@dataclass(frozen=True)
class MergePlan:
    """All that a merge would add.

    Attributes:
        merge_id: of the tasks and rules, not of what is left to do: a repeat after an accident has the same one, and
            ``undo_push`` takes it.
        problems: tasks, frames and annotations that are left out.
    """

    merge_id: str
    server: str
    min_iou: float
    tasks: tuple[TargetPlan, ...]
    problems: list[Problem] = field(default_factory=list)

    @property
    def boxes(self) -> int:
        return sum(len(task.shapes) for task in self.tasks)

    def table(self) -> pd.DataFrame:
        """One row per ground-truth task: task, task_id, sources, add, duplicates, merged_before, ambiguous, classes."""
        classes = sorted({shape.object_class for task in self.tasks for shape in task.shapes})
        rows = []
        for task in self.tasks:
            counts = Counter(shape.object_class for shape in task.shapes)
            row: dict[str, object] = {"task": task.name, "task_id": task.task_id, "sources": len(task.sources)}
            row |= {"add": len(task.shapes), "duplicates": task.duplicates, "merged_before": task.known}
            rows.append(row | {"ambiguous": len(task.ambiguous)} | {name: counts[name] for name in classes})
        columns = ["task", "task_id", "sources", "add", "duplicates", "merged_before", "ambiguous", *classes]
        return pd.DataFrame(rows, columns=columns)

    def changes(self) -> pd.DataFrame:
        """One row per shape that is added or ambiguous: task, frame, shape, object_class, box corners, act, why."""
        rows = []
        for task in self.tasks:
            listed = [(shape, ADD, "") for shape in task.shapes]
            listed += [(shape, AMBIGUOUS, why) for shape, why in task.ambiguous]
            for shape, act, why in listed:
                box = [round(value, 2) for value in shape_box(shape.document)]
                rows.append((task.name, shape.frame_name, shape.name, shape.object_class, *box, act, why))
        columns = ["task", "frame", "shape", "object_class", "x1", "y1", "x2", "y2", "act", "why"]
        return pd.DataFrame(rows, columns=columns)

    def records(self) -> list[Document]:
        """The shapes to add in the form of suggestions, for pictures; ``img_path`` is for ``frame_loader``."""
        return [
            {
                "_id": shape.name,
                "img_path": f"{task.task_id}:{shape.document['frame']}",
                "frame": shape.document["frame"],
                "task_name": task.name,
                "object_class": shape.object_class,
                "points": list(shape_box(shape.document)),
                "score": shape.document["score"],
            }
            for task in self.tasks
            for shape in task.shapes
        ]

    def summary(self) -> str:
        """One sentence, then what is ambiguous and what is left out."""
        duplicates, known = (sum(getattr(task, name) for task in self.tasks) for name in ("duplicates", "known"))
        unsure = [f"{task.name}: {shape}: {why}" for task in self.tasks for shape, why in task.ambiguous]
        head = (
            f"{self.boxes} verified boxes to add to {sum(bool(task.shapes) for task in self.tasks)} ground-truth tasks"
        )
        lines = [f"{head}; {duplicates} stand there already, {known} were merged before (merge {self.merge_id})"]
        if unsure:
            lines.append(f"{len(unsure)} are ambiguous and not added; decide them in CVAT:")
            lines += [f"- {text}" for text in unsure[:SHOWN_IN_SUMMARY]]
            lines += [f"- and {len(unsure) - SHOWN_IN_SUMMARY} more"] * (len(unsure) > SHOWN_IN_SUMMARY)
        return "\n".join([*lines, *(f"- {problem}" for problem in self.problems)])


def plan_merge(
    client: CvatClient,
    *,
    source_prefix: str = DEFAULT_PREFIX,
    target: str | None = None,
    min_iou: float = DEFAULT_MERGE_IOU,
    only_completed: bool = True,
    journal: PushJournal | None = None,
    progress: Progress | None = None,
) -> MergePlan:
    """Plan the merge of verified auto tasks into their ground-truth tasks; nothing is sent.

    Args:
        source_prefix: beginning of the auto tasks' names, up to the end of a word.
        target: part of the ground-truth tasks' names beside that of the source task; None: they are named just as it.
        min_iou: overlap (0..1) of the boxes around two shapes of a class from which they are one plant.
        only_completed: only auto tasks of which every job is accepted and completed.
        journal: of earlier merges; what they added is not added again even where somebody moved or deleted it since.

    Raises:
        CvatError: no task of the prefix; a class that a ground-truth task has no label for; trouble with the server.
    """
    if not 0 < min_iou <= 1:
        raise CvatError(f"min_iou must be above 0 and at most 1; got {min_iou}")
    pairing = pair_tasks(client.tasks(), source_prefix, target, only_completed=only_completed)
    known = merged_shapes(journal.entries(), client.url) if journal else set()
    problems = pairing.problems
    tasks = [
        _Target(client, truth, sources, known, problems).plan(min_iou)
        for truth, sources in tracked(pairing.groups, progress, "compare with ground truth")
    ]
    content = [
        [int(truth["id"]), [[int(task["id"]), str(task.get("updated_date"))] for task in sources]]
        for truth, sources in pairing.groups
    ]
    merge_id = content_hash("merge", client.url, source_prefix, target or "", min_iou, content)
    return MergePlan(merge_id, client.url, min_iou, tuple(tasks), problems)


class _Target:
    """One ground-truth task and what its verified tasks hold."""

    def __init__(
        self, client: CvatClient, truth: Document, sources: Sequence[Document], known: set[str], problems: list[Problem]
    ) -> None:
        self.client, self.sources, self.known, self.problems = client, sources, known, problems
        self.task_id, self.name = int(truth["id"]), str(truth["name"])
        self.labels = client.labels(task_id=self.task_id)
        self.meta = client.meta(self.task_id)

    def plan(self, min_iou: float) -> TargetPlan:
        shapes = [shape for source in self.sources for shape in self._verified(source)]
        new = [shape for shape in shapes if shape.name not in self.known]
        there = places_there(self.client.annotations(self.task_id), names_by_id(self.labels), self.task_id)
        verdicts = judge([shape.place for shape in new], there, min_iou=min_iou)
        judged = list(zip(new, verdicts, strict=True))
        return TargetPlan(
            self.task_id,
            self.name,
            tuple(str(source["name"]) for source in self.sources),
            tuple(shape for shape, verdict in judged if verdict.act == ADD),
            sum(verdict.act == DUPLICATE for verdict in verdicts),
            len(shapes) - len(new),
            tuple((shape, verdict.why) for shape, verdict in judged if verdict.act == AMBIGUOUS),
        )

    def _verified(self, source: Document) -> list[MergeShape]:
        """Shapes of a verified task, as they would be sent to this one."""
        source_id, where = int(source["id"]), f"task {source['name']!r} (id {source['id']})"
        found = self.client.annotations(source_id)
        self._tell_left_out(found, where)
        shapes = [shape for shape in found["shapes"] if shape["type"] != "skeleton"]
        if not shapes:
            return []
        labels = self.client.labels(task_id=source_id)
        names = names_by_id(labels)
        ids = match_labels(
            (names[int(shape["label_id"])] for shape in shapes),
            self.labels,
            where=f"ground-truth task {self.name!r} (id {self.task_id})",
        )
        meta = self.client.meta(source_id)
        frames, lost = pair_frames(sorted({int(shape["frame"]) for shape in shapes}), meta, self.meta, self.name)
        if lost:
            count = sum(int(shape["frame"]) in lost for shape in shapes)
            what = f"{count} boxes left out: {self.name!r} has not their images: {some(list(lost.values()))}"
            self.problems.append(Problem(where, what))
        verified = []
        for shape in shapes:
            frame, label = frames.get(int(shape["frame"])), names[int(shape["label_id"])]
            if frame is not None:
                document = _document(shape, frame, ids[label], self._attributes(shape, label, labels))
                name = str(self.meta["frames"][frame]["name"])
                verified.append(MergeShape(f"{source_id}:{shape['id']}", name, label, document))
        return verified

    def _tell_left_out(self, found: Document, where: str) -> None:
        skeletons = sum(shape["type"] == "skeleton" for shape in found["shapes"])
        counts = {"tags": len(found.get("tags", ())), "tracks": len(found.get("tracks", ())), "skeletons": skeletons}
        told = [f"{count} {what}" for what, count in counts.items() if count]
        if told:
            self.problems.append(Problem(where, f"{' and '.join(told)} left out: only single shapes are merged"))

    def _attributes(self, shape: Document, label: str, labels: Sequence[Document]) -> list[Document]:
        """Values by the attribute's name; ids belong to one task. What the ground-truth task does not know is left."""
        names = {int(spec["id"]): str(spec["name"]) for one in labels for spec in one.get("attributes", ())}
        ids = {
            str(spec["name"]): int(spec["id"])
            for one in self.labels
            if one["name"] == label
            for spec in one.get("attributes", ())
        }
        given = [(names.get(int(one["spec_id"]), ""), one["value"]) for one in shape.get("attributes", ())]
        return [{"spec_id": ids[name], "value": value} for name, value in given if name in ids]


def _document(shape: Document, frame: int, label_id: int, attributes: list[Document]) -> Document:
    return {
        "type": shape["type"],
        "frame": frame,
        "label_id": label_id,
        "points": list(shape["points"]),
        "rotation": shape.get("rotation") or 0,
        "occluded": bool(shape.get("occluded")),
        "z_order": int(shape.get("z_order") or 0),
        "source": str(shape.get("source", "manual")),
        "score": float(shape.get("score", 1)),
        "attributes": attributes,
    }
