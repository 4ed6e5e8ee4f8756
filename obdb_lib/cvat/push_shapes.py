"""Shapes into a task that is there: each once, job by job, in parts, noted before and after, compared at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from obdb_lib.cvat.client import CvatClient
from obdb_lib.errors import CvatError
from obdb_lib.progress import Task
from obdb_lib.records import Document

SHAPES_PER_REQUEST = 2000
"""A tenth of what a real server took in 5 s; smaller requests lose less to a broken connection."""
MOST_SHAPES_PER_REQUEST = 20000
"""What a real server was seen to take in one request; the note of more would not fit into one document of MongoDB."""
NUMBERS_PER_REQUEST = 400_000
"""Coordinates in one request: polygons and masks with many points go in smaller parts, for the same reason."""
DECIMALS = 2
"""Of a pixel, in what is sent and compared: CVAT's own XML has no more."""
SHOWN = 5

Key = tuple[str, int, int, float, tuple[float, ...]]
"""Type, frame, label id, rotation and points: what makes two shapes the same."""


class Note(Protocol):
    """Write one entry of the journal: ``step``, ``phase`` ("before" or "after") and what else is to be known."""

    def __call__(self, step: str, phase: str, **more: object) -> None: ...


def shape_key(shape: Document) -> Key:
    """What makes a shape, as sent or as read, the same as another."""
    points = tuple(round(float(value), DECIMALS) for value in shape["points"])
    rotation = round(float(shape.get("rotation") or 0), DECIMALS)
    return str(shape["type"]), int(shape["frame"]), int(shape["label_id"]), rotation, points


def some(items: Sequence[str]) -> str:
    """The first few of a list, for an error."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return "; ".join(items[:SHOWN]) + more


def by_job(client: CvatClient, task_id: int, where: str, frames: Sequence[int]) -> list[int]:
    """Id of the job that owns each frame: where jobs overlap, the first one.

    Raises:
        CvatError: a frame of no job.
    """
    jobs = sorted(client.jobs(task_id), key=lambda job: (int(job["start_frame"]), int(job["id"])))
    owner: dict[int, int] = {}
    for job in jobs:
        if job.get("type", "annotation") == "annotation":  # others only check or repeat what annotators do
            for frame in range(int(job["start_frame"]), int(job["stop_frame"]) + 1):
                owner.setdefault(frame, int(job["id"]))
    lost = sorted(set(frames) - set(owner))
    if lost:
        raise CvatError(
            f"{where} has no job for frames {some([str(frame) for frame in lost])}; look at its jobs in CVAT. No box "
            "was sent to it."
        )
    return [owner[frame] for frame in frames]


class ShapeSender:
    """Shapes for one task on their way; a later process with the same journal goes on where this one stopped.

    Args:
        where: how to call the task in errors.
        note: writes to the journal.
        entries: what this push noted so far about this task, oldest first; ``note`` is expected to add to it.
        words: how to call a shape in errors, by its name.
        shapes_per_request: at most so many go in one request.
    """

    def __init__(
        self,
        client: CvatClient,
        task_id: int,
        where: str,
        *,
        note: Note,
        entries: Sequence[Document],
        words: Mapping[str, str],
        bar: Task,
        shapes_per_request: int = SHAPES_PER_REQUEST,
    ) -> None:
        if not 1 <= shapes_per_request <= MOST_SHAPES_PER_REQUEST:
            raise CvatError(
                f"shapes_per_request must be at least 1 and at most {MOST_SHAPES_PER_REQUEST}; got {shapes_per_request}"
            )
        self.client, self.task_id, self.where, self.note = client, task_id, where, note
        self.entries, self.words, self.bar = entries, words, bar
        self.shapes_per_request = shapes_per_request

    def send(self, wanted: Mapping[str, Document]) -> tuple[int, int]:
        """Add the shapes (by name) that are not there yet.

        Returns:
            Numbers of shapes sent now and found from an earlier try.

        Raises:
            CvatError: shapes that CVAT did not keep, by name; any trouble with the server.
        """
        begun, confirmed = self._noted("before"), self._noted("after") & set(wanted)
        shapes = self.client.annotations(self.task_id)["shapes"]
        free = _ids_by_key(shapes)
        for name in sorted(confirmed):  # a person may have changed or deleted it since; what is there is taken
            if free[shape_key(wanted[name])]:
                free[shape_key(wanted[name])].pop(0)
        missing: list[str] = []
        found: list[tuple[str, int]] = []
        for name, document in wanted.items():
            if name not in confirmed:
                ids = free[shape_key(document)]
                if ids:
                    found.append((name, ids.pop(0)))
                else:
                    missing.append(name)
        self._note_found([one for one in found if one[0] in begun])
        self.bar.advance(len(confirmed) + len(found))
        for job_id, part in self._parts(missing, wanted):
            self._send_part(job_id, part, wanted)
        if wanted:
            self._compare(wanted, {*missing, *(name for name, _ in found)})
        return len(missing), len(confirmed) + len(found)

    def _noted(self, phase: str) -> set[str]:
        """Names of shapes about to be sent, or that the server said to have stored."""
        return {
            str(name)
            for entry in self.entries
            if entry["step"] == "shapes" and entry["phase"] == phase and entry["task_id"] == self.task_id
            for name in entry["suggestion_ids"]
        }

    def _note_found(self, found: Sequence[tuple[str, int]]) -> None:
        """Ids of shapes that an earlier try sent without learning that they arrived."""
        for start in range(0, len(found), self.shapes_per_request):
            part = found[start : start + self.shapes_per_request]
            self.note("shapes", "after", suggestion_ids=[name for name, _ in part], shape_ids=[one for _, one in part])

    def _parts(self, missing: Sequence[str], wanted: Mapping[str, Document]) -> Iterator[tuple[int, list[str]]]:
        """One request a job; more where a job takes more shapes than go in one."""
        if not missing:
            return
        jobs = by_job(self.client, self.task_id, self.where, [int(wanted[name]["frame"]) for name in missing])
        names: dict[int, list[str]] = defaultdict(list)
        for job_id, name in zip(jobs, missing, strict=True):
            names[job_id].append(name)
        for job_id, some_names in names.items():
            part: list[str] = []
            numbers = 0
            for name in some_names:
                weight = len(wanted[name]["points"])
                if part and (len(part) == self.shapes_per_request or numbers + weight > NUMBERS_PER_REQUEST):
                    yield job_id, part
                    part, numbers = [], 0
                part.append(name)
                numbers += weight
            yield job_id, part

    def _send_part(self, job_id: int, part: Sequence[str], wanted: Mapping[str, Document]) -> None:
        documents = [wanted[name] for name in part]
        self.note("shapes", "before", job_id=job_id, suggestion_ids=list(part), shapes=documents)
        stored = _ids_by_key(self.client.add_shapes(self.task_id, documents, job_id=job_id))
        kept: list[str] = []
        ids: list[int] = []
        dropped: list[str] = []
        for name in part:
            places = stored[shape_key(wanted[name])]
            if places:
                kept.append(name)
                ids.append(places.pop(0))
            else:
                dropped.append(name)
        self.note("shapes", "after", job_id=job_id, suggestion_ids=kept, shape_ids=ids)
        self.bar.advance(len(kept))
        if dropped:
            raise self._lost(dropped)

    def _compare(self, wanted: Mapping[str, Document], checked: set[str]) -> None:
        """Hold what the server has now against what it was sent; take away copies that a broken connection made."""
        shapes = self.client.annotations(self.task_id)["shapes"]
        there = Counter(shape_key(shape) for shape in shapes)
        lost = []
        for name in sorted(checked):
            place = shape_key(wanted[name])
            if there[place] <= 0:
                lost.append(name)
            there[place] -= 1
        if lost:
            raise self._lost(lost)
        surplus = self._surplus(shapes, wanted)
        if surplus:
            delete_by_job(self.client, self.task_id, self.where, surplus, note=self.note, step="copies")

    def _surplus(self, shapes: Sequence[Document], wanted: Mapping[str, Document]) -> list[Document]:
        """Shapes equal to ours beyond their number; those whose ids are noted stay."""
        ours = Counter(shape_key(document) for document in wanted.values())
        sources = {shape_key(document): document.get("source") for document in wanted.values()}
        known = {one for entry in self.entries for one in entry.get("shape_ids", ()) if entry["step"] == "shapes"}
        alike = [
            shape for shape in shapes if ours[shape_key(shape)] and shape.get("source") == sources[shape_key(shape)]
        ]
        surplus = []
        for shape in sorted(alike, key=lambda shape: (shape["id"] not in known, shape["id"])):
            place = shape_key(shape)
            ours[place] -= 1
            if ours[place] < 0:
                surplus.append(shape)
        return surplus

    def _lost(self, names: Sequence[str]) -> CvatError:
        return CvatError(
            f"CVAT answered without an error but did not keep {len(names)} boxes of {self.where}: "
            f"{some([self.words[name] for name in names])}. It does so with boxes on frames that the task does "
            "not have; look at the task's frames, then run this step again."
        )


def delete_by_job(
    client: CvatClient, task_id: int, where: str, shapes: Sequence[Document], *, note: Note, step: str
) -> None:
    """Delete shapes as they were read, each through the job of its frame; noted before and after each request."""
    jobs = by_job(client, task_id, where, [int(shape["frame"]) for shape in shapes])
    groups: dict[int, list[Document]] = defaultdict(list)
    for job_id, shape in zip(jobs, shapes, strict=True):
        groups[job_id].append(shape)
    for job_id, group in groups.items():
        for start in range(0, len(group), SHAPES_PER_REQUEST):
            part = group[start : start + SHAPES_PER_REQUEST]
            ids = [int(shape["id"]) for shape in part]
            note(step, "before", job_id=job_id, deleted_ids=ids)
            client.delete_shapes(task_id, part, job_id=job_id)
            note(step, "after", job_id=job_id, deleted_ids=ids)


def _ids_by_key(shapes: Sequence[Document]) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = defaultdict(list)
    for shape in shapes:
        found[shape_key(shape)].append(int(shape["id"]))
    return found
