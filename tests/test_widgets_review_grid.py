"""The Python side of the crop grid: pages, crops from the full resolution, order, outlook, several people."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image
from traitlets import TraitError

from obdb_lib.boxes import BoxSet
from obdb_lib.decision_log import fold
from obdb_lib.errors import FrameError, ReviewError
from obdb_lib.suggest import in_order
from tests import review_world as world
from tests.test_widgets_box_review import ListJournal, ListStore, load_frame, press, suggestion
from widgets import BoxReview
from widgets._review_queue import ReviewQueue
from widgets._review_tiles import TILE_PX, TileMaker, tile

Record = dict[str, Any]
WAIT_S = 20.0


def queue_of(count: int) -> list[Record]:
    """One suggestion a frame, falling probabilities."""
    return [{**suggestion(n, f"frame{n}.png"), "probability": round(0.9 - 0.05 * n, 2)} for n in range(count)]


def grid_of(queue: list[Record], journal: ListJournal | None = None, **more: Any) -> BoxReview:
    parts = {"annotations": lambda path: BoxSet(np.empty((0, 4))), "load_frame": load_frame, "view": "grid"}
    return BoxReview(queue, journal=journal or ListJournal(), **{**parts, "page_size": 4, **more})


class Page:
    """What a page gets of the crops."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.pictures: dict[str, bytes] = {}

    def take(self, records: list[Record], pictures: list[bytes]) -> None:
        for record, picture in zip(records, pictures, strict=True):
            self.pictures[record["id"]] = picture
            self.records[record["id"]] = record

    def wait(self, *names: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not set(names) <= set(self.records):
            assert time.monotonic() < deadline, f"only {sorted(self.records)} came"
            time.sleep(0.01)


def shown(review: BoxReview) -> list[str]:
    return [one["id"] for one in review.tiles]


def test_pages_follow_the_cursor_and_a_verdict_goes_on() -> None:
    review = grid_of(queue_of(10))
    assert (review.pages, review.page, shown(review)) == (3, 0, ["s0", "s1", "s2", "s3"])
    assert review.soon == ["s4", "s5", "s6", "s7"]
    press(review, "accept", "s0", tag=1)
    press(review, "reject", "s2", tag=2)
    assert [one["verdict"] for one in review.tiles] == ["accepted", "", "rejected", ""]
    assert (review.item["id"], review.answered) == ("s3", 2)
    press(review, "skip", "s3", tag=3)
    assert (review.item["id"], review.page) == ("s4", 1), "the next page when nothing further is open here"
    press(review, "page", page=2)
    assert (shown(review), review.item["id"]) == (["s8", "s9"], "s8")
    press(review, "page", page=99)
    assert review.page == 2
    press(review, "undo")
    assert (review.page, review.item["id"]) == (0, "s3"), "undo goes to the page of its box"
    press(review, "redo")
    assert [one["verdict"] for one in review.tiles] == ["accepted", "", "rejected", "skipped"]


def test_a_page_is_accepted_one_entry_each_and_others_decisions_stay() -> None:
    store = ListStore()
    queue = queue_of(6)
    review = grid_of(queue, ListJournal("ann", store))
    press(review, "reject", "s1", seen="")
    ListJournal("bob", store).decide(queue[2], "reject")
    items = [{"id": name, "seen": "", "object_class": None, "points": None} for name in ("s0", "s2", "s3")]
    items[2]["object_class"] = "pigweed"
    press(review, "accept_page", items=items)
    found = [(one["who"], one["suggestion_id"], one["verdict"], one["object_class"]) for one in store.entries]
    assert found == [
        ("ann", "s1", "reject", "sesame"),
        ("bob", "s2", "reject", "sesame"),
        ("ann", "s0", "accept", "sesame"),
        ("ann", "s3", "accept", "pigweed"),
    ]
    assert review.message["text"].startswith("Accepted 2 on this page. 1 were decided meanwhile")
    assert review.item["id"] == "s4"


def test_a_page_accepted_at_once_is_taken_back_and_repeated_at_once() -> None:
    store = ListStore()
    queue = queue_of(6)
    review = grid_of(queue, ListJournal("ann", store))
    press(review, "reject", "s1", seen="")
    press(review, "accept_page", items=[{"id": name, "seen": ""} for name in ("s0", "s2", "s3")])
    ListJournal("bob", store).decide(queue[2], "reject")  # stands over ann's word on it: nothing of hers to take back
    press(review, "undo")
    assert fold(store.entries, "ann").keys() == {"s1", "s2"}
    assert (review.item["id"], review.message["text"]) == ("s0", "Took back 2 decisions of one page.")
    press(review, "redo")
    assert {name: one["verdict"] for name, one in fold(store.entries, "ann").items()} == {
        "s0": "accept", "s1": "reject", "s2": "reject", "s3": "accept",
    }  # fmt: skip
    press(review, "undo")
    press(review, "undo")
    assert fold(store.entries, "ann").keys() == {"s2"}, "before the page there was a single decision"
    press(review, "redo")
    assert fold(store.entries, "ann").keys() == {"s1", "s2"}


def test_what_another_decided_is_told_and_can_be_decided_again() -> None:
    store = ListStore()
    queue = queue_of(3)
    review = grid_of(queue, ListJournal("ann", store))
    bobs = ListJournal("bob", store).decide(queue[0], "accept")
    press(review, "reject", "s0", seen="")
    assert review.message["kind"] == "warning"
    assert "bob accepted this as sesame on" in review.message["text"]
    assert (review.tiles[0]["verdict"], review.tiles[0]["by"], len(store.entries)) == ("accepted", "bob", 1)
    press(review, "reject", "s0", seen=str(bobs["_id"]))
    assert (review.tiles[0]["verdict"], review.tiles[0]["by"], len(store.entries)) == ("rejected", "", 2)


def test_a_changed_box_is_saved_and_one_outside_the_frame_is_refused() -> None:
    journal = ListJournal()
    review = grid_of(queue_of(3), journal)
    press(review, "frame", "s1")
    assert (review.view, review.item["id"], review.frame_size) == ("frame", "s1", [120, 80])
    press(review, "accept", "s1", seen="", points=[31, 21, 130, 41])
    assert "not inside its frame of 120 x 80" in review.message["text"]
    assert journal.records == []
    press(review, "accept", "s1", seen="", points=[31, 21, 52, 41], object_class="pigweed")
    assert journal.records[0]["points"] == [31, 21, 52, 41]
    press(review, "grid", "s0")
    assert review.tiles[1]["decided_points"] == [31, 21, 52, 41]
    assert (review.tiles[1]["decided_class"], review.item["id"]) == ("pigweed", "s0")


def test_order_and_filter() -> None:
    chances = {"a": 0.95, "b": 0.5, "c": 0.1, "d": 0.6}
    queue = [
        {**suggestion(0), "_id": name, "probability": p, "kind": "spurious" if name == "c" else "missing"}
        for name, p in chances.items()
    ]
    queue[3]["object_class"] = "pigweed"
    review = grid_of(queue)
    assert shown(review) == ["a", "d", "b", "c"]
    review.order = "uncertain"
    assert shown(review) == ["b", "d", "c", "a"]
    review.order = "given"
    assert shown(review) == ["a", "b", "c", "d"]
    review.only_kind = "missing"
    assert shown(review) == ["a", "b", "d"]
    review.only_class = "pigweed"
    assert (shown(review), review.item["number"]) == (["d"], 1)
    review.only_kind = "spurious"
    assert (shown(review), review.item, review.pages) == ([], {}, 0)
    assert "No suggestion is of this kind and class" in review.message["text"]
    press(review, "next")
    for view in ("grid", "frame"):
        review.view = view
        assert (review.item, review.boxes, review.picture) == ({}, [], b"")
        press(review, "accept", "d", seen="")  # what was on the screen before
        with pytest.raises(ReviewError, match="No suggestion is of this kind and class"):
            review.decide("accept")
    assert review.decided["decided"] == 0
    review.view = "grid"
    review.only_kind = review.only_class = ""
    assert len(shown(review)) == 4
    with pytest.raises(TraitError, match="order"):
        review.order = "random"
    assert [one for one, _ in review.menus["kinds"]] == ["missing", "spurious"]


def test_undo_of_what_the_filter_hides_is_told_and_shows_nothing_else() -> None:
    queue = [suggestion(0), {**suggestion(1), "kind": "spurious", "object_class": "pigweed"}]
    review = grid_of(queue)
    press(review, "accept", "s0", seen="")
    review.only_kind, review.only_class = "spurious", "sesame"
    press(review, "undo")
    assert (review.item, review.decided["decided"]) == ({}, 0)
    assert "the menus above hide" in review.message["text"]
    review.only_class = ""
    assert review.item["id"] == "s1"


def test_an_annotation_to_be_removed_gets_no_class_and_no_box() -> None:
    journal = ListJournal()
    review = grid_of([{**suggestion(0), "kind": "spurious"}], journal)
    for change in ({"object_class": "pigweed"}, {"points": [1, 2, 3, 4]}):
        press(review, "accept", "s0", seen="", **change)
        assert "cannot get another class or box" in review.message["text"]
    assert journal.records == []
    press(review, "accept", "s0", seen="", object_class="sesame", points=None)
    assert [one["verdict"] for one in journal.records] == ["accept"]


def test_without_probabilities_the_score_orders() -> None:
    queue = ReviewQueue([{**suggestion(0), "_id": str(n), "score": n / 10} for n in range(5)])
    assert queue.shown == [4, 3, 2, 1, 0]
    scores = [("spurious", 0.3), ("missing", 0.9), ("spurious", 0.02), ("missing", 0.5)]
    mixed = [{**suggestion(n), "kind": kind, "score": score} for n, (kind, score) in enumerate(scores)]
    queue = ReviewQueue(mixed)
    assert queue.shown == [2, 1, 0, 3], "where the detector sees least, an annotation is likeliest spurious"
    assert queue.shown == [mixed.index(one) for one in in_order(mixed)]
    queue.arrange("uncertain")
    assert queue.shown[0] == 3


def test_what_a_rule_skipped_waits_for_a_person() -> None:
    store = ListStore()
    queue = queue_of(5)
    rule = ListJournal("nightly", store)
    rule.decide(queue[0], "skip", rule="accept at 0.9 or more, else skip")
    rule.decide(queue[1], "accept", rule="accept at 0.9 or more, else skip")
    ListJournal("ann", store).decide(queue[2], "skip", rule="accept at 0.9 or more, else skip")  # Ann's own rule
    review = grid_of(queue, ListJournal("ann", store))
    assert review.item["id"] == "s0"
    assert [one["open"] for one in review.tiles] == [True, False, True, True]
    assert review.decided == {"total": 5, "decided": 1, "accepted": 1, "rejected": 0, "skipped": 0}
    assert review.outlook["left"] == 4
    press(review, "reject", "s0", seen=review.item["entry"])
    assert (review.item["id"], review.tiles[2]["verdict"]) == ("s2", "skipped")
    press(review, "skip", "s2", seen=review.item["entry"])
    assert (review.item["id"], review.decided["skipped"]) == ("s3", 1)


def test_outlook_is_the_mean_of_the_rest_and_the_persons_rate() -> None:
    store = ListStore()
    queue = [{**suggestion(n), "probability": p} for n, p in enumerate([0.9, 0.8, 0.6, 0.4, 0.2])]
    review = grid_of(queue, ListJournal("ann", store))
    assert (review.outlook["left"], review.outlook["judged"], review.outlook["accepted_rate"]) == (5, 0, None)
    assert review.outlook["rest_precision"] == pytest.approx(0.58)
    press(review, "accept", "s0")
    press(review, "reject", "s1")
    press(review, "skip", "s2")
    ListJournal("bob", store).decide(queue[3], "accept")
    press(review, "undo")
    press(review, "redo")
    assert review.outlook["left"] == 1
    assert review.outlook["expected"] == pytest.approx(0.2)
    assert review.outlook["judged"] == 2, "skips and Bob's verdicts are not Ann's"
    assert review.outlook["accepted_rate"] == pytest.approx(0.5)
    assert review.outlook["predicted_rate"] == pytest.approx(0.85)


def test_a_crop_is_cut_from_the_full_resolution_and_is_square_at_the_border() -> None:
    frame = np.zeros((200, 300, 3), dtype=np.uint8)
    frame[90:110:2, 140:160] = 255
    record, picture = tile("x", [140, 90, 160, 110], frame)
    left, top, right, bottom = record["rect"]
    assert right - left == bottom - top == 64
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), dtype=float)
    assert pixels.shape == (64, 64)
    assert pixels[90 - top, 150 - left] - pixels[91 - top, 150 - left] > 100, "single lines of the frame are seen"
    record, picture = tile("x", [0, 0, 200, 190], frame)
    assert record["rect"][0] < 0
    assert Image.open(io.BytesIO(picture)).size == (TILE_PX, TILE_PX)
    tile("x", [400, 300, 420, 320], frame)  # wholly outside: grey, no error


def test_crops_come_with_the_page_wanted_first_and_each_frame_is_decoded_once() -> None:
    loaded: list[str] = []
    gate = threading.Event()

    def slowly(path: str) -> Any:
        loaded.append(path)
        gate.wait(WAIT_S)
        return load_frame(path)

    page = Page()
    maker = TileMaker(ReviewQueue(queue_of(12)), slowly, page.take)
    maker.want(["s0", "s1", "s2", "s3"], ["s4", "s5"])
    maker.want(["s8", "s9"], ["s10"])  # the person went on: these come first now
    gate.set()
    page.wait("s8", "s9")
    assert set(loaded[2:4]) == {"frame8.png", "frame9.png"}, "after the two that were begun"
    assert not set(page.records) & {"s4", "s5", "s10"}, "what is only made ready is not sent"
    maker.want(["s8", "s10"])
    page.wait("s10")
    assert loaded.count("frame8.png") == loaded.count("frame10.png") == 1
    assert Image.open(io.BytesIO(page.pictures["s8"])).width > 0


def test_a_crop_asked_for_while_its_frame_is_in_hand_comes_too() -> None:
    gate, begun = threading.Event(), threading.Event()

    def slowly(path: str) -> Any:
        begun.set()
        gate.wait(WAIT_S)
        return load_frame(path)

    page = Page()
    maker = TileMaker(ReviewQueue([suggestion(0), suggestion(1)]), slowly, page.take)
    maker.want(["s0"])
    assert begun.wait(WAIT_S)
    maker.want(["s0", "s1"])
    gate.set()
    page.wait("s0", "s1")


def test_a_broken_frame_has_no_crop_and_can_only_be_skipped() -> None:
    journal = ListJournal()
    queue = [{**suggestion(0, "broken.png")}, suggestion(1, "one.png")]
    review = grid_of(queue, journal)
    page = Page()
    review._tiles._send = page.take
    press(review, "tiles", ids=["s0", "s1"], soon=[])
    page.wait("s0", "s1")
    assert page.records["s0"]["error"] == "This frame cannot be shown: broken.png cannot be decoded; fetch it again"
    press(review, "accept", "s0", seen="")
    assert "without its frame" in review.message["text"]
    press(review, "accept_page", items=[{"id": "s0", "seen": ""}, {"id": "s1", "seen": ""}])
    assert [(one["suggestion_id"], one["verdict"]) for one in journal.records] == [("s1", "accept")]
    press(review, "skip", "s0", seen="")
    assert journal.records[-1]["verdict"] == "skip"


def test_the_part_on_the_screen_comes_in_full_resolution() -> None:
    frame = np.zeros((2160, 3840, 3), dtype=np.uint8)
    frame[::2] = 200
    review = grid_of([suggestion(0, points=(2000, 1000, 2040, 1040))], load_frame=lambda path: frame, view="frame")
    sent: list[Any] = []
    review.send = lambda content, buffers=None: sent.append((content, buffers))
    press(review, "region", "s0", rect=[100.5, -20, 900, 500], width=2000)
    content, buffers = sent.pop()
    assert content["rect"] == [100, 0, 900, 500]
    pixels = np.asarray(Image.open(io.BytesIO(buffers[0])).convert("L"), dtype=float)
    assert pixels.shape == (500, 800)
    assert pixels[100, 400] - pixels[101, 400] > 100
    press(review, "region", "s0", rect=[5000, 0, 6000, 10], width=100)
    assert sent == []
    assert review.turn == 0, "pictures are no acts"


def test_boxes_of_a_frame_are_told_apart() -> None:
    queue = world.suggestions(1)
    review = BoxReview(
        queue,
        annotations=world.annotations,
        detections=world.detections,
        load_frame=world.load_frame,
        journal=ListJournal(),
    )
    review.index = 3  # a wrong class
    kinds = [(box["kind"], box["label"]) for box in review.boxes]
    assert kinds[:2] == [("concerned", "sesame"), ("annotation", "nutsedge")]
    assert [label for kind, label in kinds if kind == "detection"] == [
        "sesame 0.90",
        "nutsedge 0.85",
        "sesame 0.80",
        "sesame 0.70",
        "purslane 0.22",
    ], "the candidate itself is not drawn again"
    assert [kind for kind, _ in kinds].count("other") == 5
    assert review.item["words"] == "annotated as sesame, the model sees nutsedge 0.93"
    assert review.item["accept_does"] == "call the annotation nutsedge"
    assert review.item["accept_as"] == "call the annotation {name}"

    def broken(path: str) -> BoxSet:
        raise FrameError("no detections kept for this frame")

    review = BoxReview(
        queue, annotations=world.annotations, detections=broken, load_frame=world.load_frame, journal=ListJournal()
    )
    assert "detections of this frame cannot be shown: no detections kept" in review.message["text"]


def test_arguments_are_checked() -> None:
    with pytest.raises(ReviewError, match="page_size must be 1 to 200 crops; got 0"):
        grid_of(queue_of(2), page_size=0)
    with pytest.raises(TraitError, match="view"):
        grid_of(queue_of(2), view="list")
    assert grid_of(queue_of(2), classes=["thistle"]).classes == ["sesame", "thistle"]
    empty = grid_of([])
    assert "nothing to review" in empty.message["text"]
    press(empty, "accept_page", items=[])
    assert empty.tiles == []
