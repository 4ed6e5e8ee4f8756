"""The journal of pushes: one note before and one after each request that changes something on CVAT.

Entries have ``push_id``, ``when`` (UTC), ``step`` (create, upload, shapes, copies, delete, verified), ``phase``
(before or after), ``server``, ``source_task``, ``task_name``, ``model``, ``snapshot_id``; ``task_id`` once it is known
and ``suggestion_ids`` where boxes are concerned. The ``verified`` entry closes a task and names all its suggestions.
"""

from __future__ import annotations

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
