"""The undo of one push in its tasks: which shapes are still as they were sent, and what somebody made since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.push_journal import PushJournal, since_undone
from obdb_lib.cvat.push_shapes import Key, delete_by_job, shape_key, some
from obdb_lib.errors import CvatError
from obdb_lib.records import Document


@dataclass(frozen=True)
class UndoneTask:
    """One task of an undo.

    Attributes:
        status: of the task on CVAT, "completed" when somebody has accepted all of it; "" when it is not there.
        act: "delete task", "delete boxes", "keep" (nothing of the push is left as it was), "gone" (the task is not
            there any more) or "undone before".
        boxes: number of boxes that go.
        kept: boxes of the push that stay because somebody changed them, in words.
        added: number of annotations that somebody added to a task which the push made.
    """

    name: str
    source_task: str
    task_id: int
    url: str
    status: str
    act: str
    boxes: int = 0
    kept: tuple[str, ...] = ()
    added: int = 0


@dataclass
class _Look:
    """What stands in a task: shapes as sent, names of suggestions that stay with words, and a person's annotations."""

    unchanged: list[Document] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    added: int = 0


class UndoTask:
    """The undo of one push for one source task.

    Args:
        about: all notes about the source task on this server, oldest first. Those of other pushes count in a task that
            this push made: a push goes on in the task of a predecessor that was cut off.
    """

    def __init__(self, client: CvatClient, journal: PushJournal, push_id: str, about: Sequence[Document]) -> None:
        self.client, self.journal = client, journal
        own = [entry for entry in about if entry["push_id"] == push_id]
        self.last = own[-1]
        self.entries = since_undone(own)
        self.about = since_undone(about)

    def run(self, *, really: bool) -> list[UndoneTask]:
        if not self.entries:
            return [self._row(int(self.last.get("task_id") or 0), None, "undone before")]
        made, others = self._tasks()
        if really and not made and not others:  # the push never came as far as a task
            self._note("undone", "after", suggestion_ids=[], kept_ids=[])
        return [self._one(task_id, made=task_id in made, really=really) for task_id in [*made, *others]]

    def _tasks(self) -> tuple[list[int], list[int]]:
        """Ids of tasks that the push made, and of those that it only added to."""
        made: dict[int, None] = {}
        pending = ""
        for entry in self.entries:
            if entry["step"] == "create":
                pending = str(entry["task_name"]) if entry["phase"] == "before" else ""
                if entry["phase"] == "after":
                    made[int(entry["task_id"])] = None
        if pending:
            made |= {int(task["id"]): None for task in self.client.tasks(pending)}
        touched = [int(entry["task_id"]) for entry in self.entries if entry["step"] == "shapes"]
        return list(made), [number for number in dict.fromkeys(touched) if number not in made]

    def _one(self, task_id: int, *, made: bool, really: bool) -> UndoneTask:
        task = self.client.task(task_id)
        if task is None:
            if really:
                self._close(task_id, self.about, {})
            return self._row(task_id, None, "gone")
        noted = self.about if made else self.entries
        entries = [e for e in noted if e["step"] in ("shapes", "verified") and e["task_id"] == task_id]
        look = self._look(task_id, entries) if task.get("size") else _Look()
        if not made:
            look.added = 0  # it was somebody's task before
        if made and not look.added and not look.kept:
            act = "delete task"
        else:
            act = "delete boxes" if look.unchanged else "keep"
        if really:
            if act == "delete task":
                self._note("undo_task", "before", task_id=task_id)
                self.client.delete_task(task_id)
                self._note("undo_task", "after", task_id=task_id)
            elif act == "delete boxes":
                self._delete(task_id, look.unchanged)
            self._close(task_id, entries, look.kept)
        return self._row(task_id, task, act, look)

    def _row(self, task_id: int, task: Document | None, act: str, look: _Look | None = None) -> UndoneTask:
        look = look or _Look()
        return UndoneTask(
            name=str(task["name"] if task else self.last["task_name"]),
            source_task=str(self.last["source_task"]),
            task_id=task_id,
            url=self.client.task_url(task_id),
            status=str(task.get("status", "")) if task else "",
            act=act,
            boxes=len(look.unchanged),
            kept=tuple(look.kept.values()),
            added=look.added,
        )

    # -- what stands there -------------------------------------------------------------------------------------------

    def _look(self, task_id: int, entries: Sequence[Document]) -> _Look:
        """Hold what is there against what was sent: by id where the server told it, else by the shape itself."""
        sent, names = _sent(entries), _told_ids(entries)
        defaults = _defaults(self.client.labels(task_id=task_id))
        found = self.client.annotations(task_id)
        look = _Look(added=len(found.get("tags", ())) + len(found.get("tracks", ())))
        # Copies of a try whose answer was lost are the push's own, too.
        alike: dict[Key, list[Document]] = defaultdict(list)
        for document in sent.values():
            alike[shape_key(document)].append(document)
        for shape in found["shapes"]:
            name = names.get(int(shape["id"]))
            if name is not None and name in sent:
                changes = _changes(sent[name], shape, defaults)
                if changes:
                    where = f"frame {shape['frame']}, shape {shape['id']}"
                    look.kept[name] = f"box {name} ({where}) stays: {changes} changed since"
                else:
                    look.unchanged.append(shape)
            elif name is None and any(not _changes(one, shape, defaults) for one in alike[shape_key(shape)]):
                look.unchanged.append(shape)
            else:
                look.added += 1
        return look

    # -- what goes ---------------------------------------------------------------------------------------------------

    def _delete(self, task_id: int, shapes: Sequence[Document]) -> None:
        where = f"task {task_id}"

        def note(step: str, phase: str, **more: object) -> None:
            self._note(step, phase, task_id=task_id, **more)

        delete_by_job(self.client, task_id, where, shapes, note=note, step="undo_shapes")
        gone = {int(shape["id"]) for shape in shapes}
        left = [shape for shape in self.client.annotations(task_id)["shapes"] if int(shape["id"]) in gone]
        if left:
            raise CvatError(
                f"CVAT answered without an error but did not delete {len(left)} boxes of {where}: shapes "
                f"{some([str(shape['id']) for shape in left])}; run the undo again"
            )

    def _close(self, task_id: int, entries: Sequence[Document], kept: Mapping[str, str]) -> None:
        boxes = [e for e in entries if e["step"] in ("shapes", "verified") and e["task_id"] == task_id]
        gone = sorted({str(name) for entry in boxes for name in entry["suggestion_ids"]} - set(kept))
        self._note("undone", "after", task_id=task_id, suggestion_ids=gone, kept_ids=sorted(kept))

    def _note(self, step: str, phase: str, **more: object) -> None:
        same = ("push_id", "server", "source_task", "task_name", "model", "snapshot_id", "kind")
        head = {key: self.last[key] for key in same if key in self.last}
        self.journal.append({**head, "when": datetime.now(UTC), "step": step, "phase": phase, **more})


def _sent(entries: Sequence[Document]) -> dict[str, Document]:
    """The shapes that were sent, or about to be, by name of their suggestion."""
    found: dict[str, Document] = {}
    for entry in entries:
        if entry["step"] == "shapes" and entry["phase"] == "before":
            found |= dict(zip(map(str, entry["suggestion_ids"]), entry.get("shapes", ()), strict=False))
    return found


def _told_ids(entries: Sequence[Document]) -> dict[int, str]:
    """Name of the suggestion of each shape id that the server told."""
    return {
        int(number): str(name)
        for entry in entries
        if entry["step"] == "shapes" and entry["phase"] == "after"
        for name, number in zip(entry["suggestion_ids"], entry.get("shape_ids", ()), strict=False)
    }


def _defaults(labels: Sequence[Document]) -> dict[int, str]:
    """Default value of each attribute, which the server fills in where none was sent."""
    return {
        int(spec["id"]): str(spec.get("default_value", "")) for label in labels for spec in label.get("attributes", ())
    }


def _changes(sent: Document, found: Document, defaults: Mapping[int, str]) -> str:
    """What somebody changed, in words; "" when the shape is as it was sent."""
    told = []
    if int(sent["label_id"]) != int(found["label_id"]):
        told.append("class")
    if shape_key({**sent, "label_id": 0}) != shape_key({**found, "label_id": 0}):
        told.append("place")
    if bool(sent.get("occluded")) != bool(found.get("occluded")):
        told.append("occlusion")
    if _attributes(sent, defaults) != _attributes(found, defaults):
        told.append("attributes")
    if str(sent.get("source")) != str(found.get("source")):
        told.append("source")  # the server's own page marks what a person touched
    return ", ".join(told)


def _attributes(shape: Document, defaults: Mapping[int, str]) -> dict[int, str]:
    given = {int(one["spec_id"]): str(one["value"]) for one in shape.get("attributes", ())}
    return {number: value for number, value in given.items() if value != defaults.get(number)}
