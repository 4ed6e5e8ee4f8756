"""The journal of pushes and merges: one note before and one after each request that changes something on CVAT.

Entries have ``push_id``, ``when`` (UTC), ``step``, ``phase`` (before or after), ``server``, ``source_task``,
``task_name``, ``model``, ``snapshot_id``; ``task_id`` once it is known, ``suggestion_ids`` where boxes are concerned.
Steps are create, upload, shapes, copies, delete, undo_shapes, undo_task; of ``shapes`` the note before holds what is
sent (``shapes``), the one after the ids that the server gave (``shape_ids``), in the order of ``suggestion_ids``; what
is deleted is noted as ``deleted_ids``. Entries of a merge have ``kind`` "merge" and ``task:shape`` as suggestion ids.
``verified`` closes a task of a push and names all its suggestions, ``merged`` closes a task of a merge, ``undone`` one
of either: its ``suggestion_ids`` do not stand there any more, its ``kept_ids`` do, as somebody changed them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from obdb_lib.records import Document

if TYPE_CHECKING:
    from obdb_lib.store import Store


class PushJournal(Protocol):
    """Append-only notes of pushes; ``append`` returns when the note is safe, ``entries`` are in the order written."""

    def append(self, document: Document) -> None: ...

    def entries(self, source_task: str | None = None) -> list[Document]: ...


class StoreJournal:
    """The journal in collection ``pushes`` of the lab's store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, document: Document) -> None:
        self._store.append_push(document)

    def entries(self, source_task: str | None = None) -> list[Document]:
        return self._store.pushes(source_task)


def pushed_suggestions(entries: Iterable[Document], *, server: str | None = None) -> set[str]:
    """Ids of suggestions whose boxes are known to stand on CVAT, from journal entries of any pushes.

    Args:
        server: only on this one; on any when None.
    """
    standing: set[str] = set()
    for entry in entries:
        if server is None or same_server(entry["server"], server):
            numbers = {str(number) for number in entry.get("suggestion_ids", [])}
            if entry["step"] == "verified":
                standing |= numbers
            elif entry["step"] == "undone":
                standing -= numbers
    return standing


def merged_shapes(entries: Iterable[Document], server: str) -> set[str]:
    """Names (``task:shape`` on CVAT) of shapes that merges have put into ground-truth tasks of this server."""
    standing: set[str] = set()
    for entry in entries:
        if entry.get("kind") == "merge" and same_server(entry["server"], server):
            names = {str(name) for name in entry.get("suggestion_ids", ())}
            if entry["step"] == "shapes" and entry["phase"] == "after":
                standing |= names
            elif entry["step"] == "undone":
                standing -= names
    return standing


def merged_tasks(entries: Iterable[Document], server: str) -> set[int]:
    """Ids of auto tasks whose shapes stand in ground-truth tasks of this server: a pull of both has them twice."""
    return {int(name.split(":")[0]) for name in merged_shapes(entries, server)}


def same_server(first: str, second: str) -> bool:
    """Whether two addresses are of one server, with or without their scheme."""
    return first.split("://")[-1].rstrip("/") == second.split("://")[-1].rstrip("/")


def since_undone(entries: Sequence[Document]) -> list[Document]:
    """The notes of a push about a source task that no undo has closed."""
    closed: dict[int | None, int] = {}
    for place, entry in enumerate(entries):
        if entry["step"] == "undone":
            closed[entry.get("task_id")] = closed[None] = place
    return [
        entry
        for place, entry in enumerate(entries)
        if entry["step"] != "undone" and place > closed.get(entry.get("task_id"), -1)
    ]


def kept_by_undo(entries: Iterable[Document]) -> set[str]:
    """Names of boxes that an undo left standing, because somebody had changed them."""
    return {str(name) for entry in entries if entry["step"] == "undone" for name in entry.get("kept_ids", ())}
