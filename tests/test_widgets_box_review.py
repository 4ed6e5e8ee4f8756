"""The Python side of the box review and its contact sheet, without a browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image
from traitlets import TraitError

from obdb_lib.boxes import BoxSet
from obdb_lib.errors import FrameError, ReviewError
from obdb_lib.review import Journal
from widgets import BoxReview, contact_sheet
from widgets._pictures import FRAME_WIDTH_PX, around

Record = dict[str, Any]


class ListStore:
    """A store of decisions in memory, which can be made to fail."""

    def __init__(self) -> None:
        self.entries: list[Record] = []
        self.failure: Exception | None = None

    def append_decision(self, document: Record) -> Record:
        if self.failure:
            raise self.failure
        entry = {**document, "when": datetime.now(UTC)}
        self.entries.append(entry)
        return entry

    def decisions(self, suggestion_ids: Sequence[str] | None = None, *, since: datetime | None = None) -> list[Record]:
        return [one for one in self.entries if suggestion_ids is None or one["suggestion_id"] in suggestion_ids]


class ListJournal(Journal):
    """The real journal on such a store."""

    def __init__(self, who: str = "tester", store: ListStore | None = None) -> None:
        self.list = store or ListStore()
        super().__init__(self.list, who=who)

    @property
    def records(self) -> list[Record]:
        return self.list.entries


def suggestion(number: int, path: str = "one.png", points: Any = (30, 20, 50, 40), name: str = "sesame") -> Record:
    return {"_id": f"s{number}", "img_path": path, "object_class": name, "points": list(points), "score": 0.5}


def load_frame(path: str) -> np.ndarray:
    if path == "broken.png":
        raise FrameError("broken.png cannot be decoded; fetch it again")
    frame = np.zeros((80, 120, 3), dtype=np.uint8)
    frame[20:40, 30:50] = (0, 200, 0)
    return frame


def annotations(path: str) -> BoxSet:
    return BoxSet(np.array([[1, 2, 11, 12]]), np.array(["purslane"], dtype=object))


def review_of(queue: list[Record], journal: ListJournal | None = None, **changes: Any) -> BoxReview:
    parts = {"annotations": annotations, "load_frame": load_frame, "journal": journal or ListJournal()}
    return BoxReview(queue, **{**parts, **changes})


def press(review: BoxReview, act: str, name: str | None = None, **more: Any) -> None:
    """What the page sends for a key."""
    review._on_message(review, {"act": act, "id": name, **more}, [])


@pytest.fixture
def queue() -> list[Record]:
    return [suggestion(0), suggestion(1, points=(60, 50, 80, 70), name="pigweed"), suggestion(2, "two.png")]


def test_verdicts_are_written_in_order_and_the_widget_goes_on(queue: list[Record]) -> None:
    journal = ListJournal()
    review = review_of(queue, journal)
    press(review, "accept", "s0")
    press(review, "reject", "s1")
    press(review, "skip", "s2")
    assert [(r["suggestion_id"], r["verdict"]) for r in journal.records] == [
        ("s0", "accept"),
        ("s1", "reject"),
        ("s2", "skip"),
    ]
    assert review.decided == {"total": 3, "decided": 3, "accepted": 1, "rejected": 1, "skipped": 1}
    assert review.progress == review.decided
    assert review.index == 2
    assert "Every suggestion in this queue has a decision" in review.message["text"]
    assert [record["suggestion_id"] for record in review.decisions()] == ["s0", "s1", "s2"]


def test_a_box_that_was_not_on_the_screen_is_not_decided(queue: list[Record]) -> None:
    journal = ListJournal()
    review = review_of(queue, journal)
    press(review, "accept", "s0")
    press(review, "accept", "s0")
    assert len(journal.records) == 1
    assert review.index == 1
    assert review.turn == 2


def test_undo_goes_back_to_the_box(queue: list[Record]) -> None:
    journal = ListJournal()
    review = review_of(queue, journal)
    press(review, "undo")
    assert "no decision of yours" in review.message["text"]
    press(review, "accept", "s0")
    press(review, "undo")
    assert review.index == 0
    assert journal.standing() == {}
    assert review.item["verdict"] == ""
    assert review.progress["decided"] == 0


def test_undo_of_a_decision_outside_the_queue_is_said(queue: list[Record]) -> None:
    journal = ListJournal()
    review = review_of(queue, journal)
    journal.decide(suggestion(99), "accept")
    press(review, "undo")
    assert "outside this queue" in review.message["text"]
    assert review.index == 0


def test_decided_suggestions_are_not_asked_again(queue: list[Record]) -> None:
    journal = ListJournal()
    journal.decide(queue[0], "reject")
    review = review_of(queue, journal)
    assert review.index == 1
    press(review, "accept", "s1")
    assert review.index == 2
    review.index = 0
    assert review.item["verdict"] == "rejected"
    # From the first one on, the only open one is the last.
    press(review, "skip", "s0")
    assert review.index == 2


def test_a_failing_journal_is_told_and_nothing_moves(queue: list[Record]) -> None:
    journal = ListJournal()
    review = review_of(queue, journal)
    journal.list.failure = ReviewError("the database did not answer")
    press(review, "accept", "s0")
    assert review.message == {"kind": "error", "text": "Not saved: the database did not answer"}
    assert review.index == 0
    assert review.progress["decided"] == 0
    assert review.turn == 1
    with pytest.raises(ReviewError, match="Not saved"):
        review.decide("accept")


def test_a_broken_frame_is_told_and_can_only_be_skipped(queue: list[Record]) -> None:
    journal = ListJournal()
    review = review_of([suggestion(0, "broken.png"), *queue[1:]], journal)
    assert review.frame_error == "This frame cannot be shown: broken.png cannot be decoded; fetch it again"
    assert review.picture == b""
    press(review, "accept", "s0")
    assert journal.records == []
    press(review, "skip", "s0")
    assert review.index == 1
    assert review.frame_error == ""
    assert review.picture


def test_failing_annotations_are_told(queue: list[Record]) -> None:
    def broken(path: str) -> BoxSet:
        raise OSError("gone")

    review = review_of(queue, annotations=broken)
    assert "existing annotations of this frame cannot be shown: OSError: gone" in review.message["text"]
    assert review.picture


def test_what_is_drawn(queue: list[Record]) -> None:
    review = review_of(queue)
    kinds = [(box["kind"], box["points"], box["label"]) for box in review.boxes]
    assert kinds == [("annotation", [1, 2, 11, 12], "purslane"), ("other", [60, 50, 80, 70], "")]
    assert review.frame_size == [120, 80]
    assert Image.open(io.BytesIO(review.picture)).size == (120, 80)
    x1, y1, x2, y2 = (int(value) for value in review.crop_rect)
    crop = np.asarray(Image.open(io.BytesIO(review.crop)))
    assert crop.shape[:2] == (y2 - y1, x2 - x1)
    assert crop[30 - y1, 40 - x1, 1] > 150


def test_large_frames_are_sent_smaller_but_cut_from_the_full_picture() -> None:
    frame = np.zeros((2160, 3840, 3), dtype=np.uint8)
    frame[1000:1040:2, 2000:2040] = 255
    review = review_of([suggestion(0, points=(2000, 1000, 2040, 1040))], load_frame=lambda path: frame)
    assert Image.open(io.BytesIO(review.picture)).width == FRAME_WIDTH_PX
    crop = np.asarray(Image.open(io.BytesIO(review.crop)).convert("L"), dtype=float)
    row = int(1000 - review.crop_rect[1])
    assert abs(crop[row, crop.shape[1] // 2] - crop[row + 1, crop.shape[1] // 2]) > 100
    assert review.frame_size == [3840, 2160]


def test_relabelling_is_handed_to_the_journal_only_when_it_differs(queue: list[Record]) -> None:
    journal = ListJournal()
    review = review_of(queue, journal)
    assert review.classes == ["pigweed", "sesame"]
    press(review, "accept", "s0", object_class="sesame")
    press(review, "accept", "s1", object_class="sesame")
    assert [record["object_class"] for record in journal.records] == ["sesame", "sesame"]


def test_next_and_previous_stop_at_the_ends(queue: list[Record]) -> None:
    review = review_of(queue)
    press(review, "previous")
    assert review.index == 0
    for _ in range(5):
        press(review, "next")
    assert review.index == 2
    with pytest.raises(TraitError, match="no number 3"):
        review.index = 3


def test_empty_queue() -> None:
    review = review_of([])
    assert review.index == -1
    assert "nothing to review" in review.message["text"]
    assert review.decisions() == []
    press(review, "accept", "s0")
    with pytest.raises(ReviewError, match="nothing to review"):
        review.decide("accept")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([{"_id": "s0", "img_path": "one.png"}], "lacks object_class, points"),
        ([suggestion(0), suggestion(0)], "in the queue twice"),
        ([suggestion(0, points=(1, 2, 3))], "needs points x1, y1, x2, y2"),
        ([suggestion(0, points=(5, 5, 1, 9))], "needs points x1, y1, x2, y2"),
        ([suggestion(0, points=(1, 1, float("nan"), 9))], "needs points x1, y1, x2, y2"),
    ],
)
def test_bad_suggestions_are_refused(bad: list[Record], message: str) -> None:
    with pytest.raises(ReviewError, match=message):
        review_of(bad)


def test_unknown_arguments_and_acts_are_refused(queue: list[Record]) -> None:
    with pytest.raises(TypeError, match=r"did you mean 'annotations'"):
        review_of(queue, annotation=annotations)
    review = review_of(queue)
    press(review, "explode")
    assert review.message["kind"] == "error"
    with pytest.raises(ReviewError, match="a verdict is one of accept, reject, skip"):
        review.decide("undo")


@pytest.mark.parametrize(
    ("points", "expected"),
    [((50, 50, 60, 60), (35, 35, 75, 75)), ((0, 0, 10, 10), (0, 0, 25, 25)), ((95, 95, 100, 100), (77, 77, 100, 100))],
)
def test_around_stays_in_the_frame(points: Any, expected: Any) -> None:
    assert around(points, 2.0, 40, 100, 100) == expected


def test_contact_sheet_marks_verdicts_and_survives_a_broken_frame(queue: list[Record]) -> None:
    plain = contact_sheet([*queue, suggestion(3, "broken.png")], load_frame, columns=2)
    marked = contact_sheet(queue, load_frame, {"s0": {"verdict": "accept"}}, columns=2)
    records = [{"suggestion_id": "s0", "verdict": "accept"}]
    assert marked.tobytes() == contact_sheet(queue, load_frame, records, columns=2).tobytes()
    assert plain.size == marked.size
    green = (0, 158, 115)
    assert green in {colour for _, colour in marked.getcolors(1_000_000) or []}
    assert green not in {colour for _, colour in plain.getcolors(1_000_000) or []}
    assert contact_sheet([], load_frame).width > 300
    with pytest.raises(ReviewError, match="at least one column; got 0"):
        contact_sheet(queue, load_frame, columns=0)
