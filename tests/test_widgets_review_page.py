"""Accepting a page of the box review: what was decided meanwhile stays, and a failing store is told."""

from __future__ import annotations

from typing import Any

import pytest

from obdb_lib.errors import StoreError
from tests.test_widgets_box_review import ListJournal, ListStore, press
from tests.test_widgets_review_grid import grid_of, queue_of

Record = dict[str, Any]


def test_a_page_does_not_overwrite_a_verdict_given_before_it_arrived() -> None:
    journal = ListJournal()
    review = grid_of(queue_of(4), journal)
    press(review, "reject", "s0", seen="")
    press(review, "accept_page", items=[{"id": name, "seen": ""} for name in ("s0", "s1")])
    assert [(one["suggestion_id"], one["verdict"]) for one in journal.records] == [("s0", "reject"), ("s1", "accept")]
    assert review.message["text"].startswith("Accepted 1 on this page. 1 were decided meanwhile")


class FailingStore(ListStore):
    """Fails at an entry; ``unreadable`` then, too, when asked for entries."""

    def __init__(self, fails_at: int, *, unreadable: bool) -> None:
        super().__init__()
        self.fails_at, self.unreadable = fails_at, unreadable

    def append_decision(self, document: Record) -> Record:
        if len(self.entries) == self.fails_at:
            raise StoreError("the database did not answer")
        return super().append_decision(document)

    def decisions(self, suggestion_ids: Any = None, *, since: Any = None) -> list[Record]:
        if self.unreadable and len(self.entries) == self.fails_at:
            raise StoreError("the database did not answer")
        return super().decisions(suggestion_ids, since=since)


@pytest.mark.parametrize("unreadable", [False, True])
def test_a_page_half_saved_is_shown_as_what_was_saved(unreadable: bool) -> None:
    store = FailingStore(2, unreadable=unreadable)
    review = grid_of(queue_of(4), ListJournal("ann", store))
    press(review, "accept_page", items=[{"id": one["id"], "seen": ""} for one in review.tiles])
    assert [one["suggestion_id"] for one in store.entries] == ["s0", "s1"]
    assert [one["verdict"] for one in review.tiles] == ["accepted", "accepted", "", ""]
    assert review.message == {"kind": "error", "text": "Saved 2 of 4. Not saved: the database did not answer"}
    assert (review.item["id"], review.progress["accepted"]) == ("s2", 2)
