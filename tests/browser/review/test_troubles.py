"""What can go wrong in a review: others, a dead kernel, a page of before; nothing is lost or decided unseen."""

from __future__ import annotations

import os
import signal

from obdb_lib.review import Journal, fold
from obdb_lib.store import Store
from tests.browser.harness import LabPage
from tests.browser.review.page import (
    CLASSES,
    ORDER,
    PAGE,
    QUEUE,
    ROOT,
    cursor,
    entries,
    kill_kernel,
    message,
    said,
    shown,
    start,
    tile,
)


def test_what_was_accepted_with_changes_stays_so_when_accepted_again(opened: LabPage, store: Store) -> None:
    (one,) = (one for one in QUEUE if one["_id"] == ORDER[0])
    moved = [value + 25 for value in one["points"]]
    Journal(store, who="ann", queue=QUEUE).decide(one, "accept", points=moved, object_class="purslane")
    start(opened)  # a page that knows nothing of how it came about
    keys = opened.page.keyboard
    keys.press("Home")
    cursor(opened, ORDER[0])
    assert "→ purslane" in tile(opened, ORDER[0]).inner_text()
    opened.screenshot("grid-accepted-changed")
    keys.press("a")
    again = entries(opened, store, 2)[-1]
    assert (again["points"], again["object_class"]) == (moved, "purslane")
    message(opened, "Accepted purslane")
    keys.press("Home")
    keys.press("Enter")
    shown(opened, ORDER[0])
    assert opened.page.locator(f"{ROOT} .obdb-class").input_value() == "purslane"
    opened.screenshot("frame-accepted-changed")
    keys.press("a")
    again = entries(opened, store, 3)[-1]
    assert (again["points"], again["object_class"]) == (moved, "purslane")
    shown(opened, ORDER[1])
    keys.press("Escape")
    cursor(opened, ORDER[1])
    keys.press("Home")
    cursor(opened, ORDER[0])
    keys.press("x")  # and back to what was proposed
    keys.press("a")
    again = entries(opened, store, 4)[-1]
    assert (again["points"], again["object_class"]) == (one["points"], one["object_class"])


def test_a_kernel_that_does_not_answer_is_told_and_no_verdict_is_taken(lab: LabPage, store: Store) -> None:
    keys = lab.page.keyboard
    number = lab.eval_in_kernel("__import__('os').getpid()")
    os.kill(number, signal.SIGSTOP)
    try:
        keys.press("r")
        keys.press("Shift+Enter")  # what is being saved is not asked about
        assert f"Accept all {PAGE - 1} on this page" in lab.page.locator(f"{ROOT} .obdb-confirm").inner_text()
        keys.press("Escape")
        assert "alive" not in lab.page.locator(f"{ROOT} .obdb-message").inner_text()
        message(lab, "not saved yet: is the kernel alive?")
        assert lab.page.locator(f"{ROOT} .obdb-message-error").count() == 1
        lab.screenshot("grid-silent")
        for key in ("a", "s", "u", "Shift+Enter", "Enter"):
            keys.press(key)
        cursor(lab, ORDER[1])
    finally:
        os.kill(number, signal.SIGCONT)
    message(lab, "Rejected sesame")
    assert said(entries(lab, store, 1)) == [(ORDER[0], "reject")]
    keys.press("s")
    assert said(entries(lab, store, 2)) == [(ORDER[0], "reject"), (ORDER[1], "skip")]


def test_a_filter_that_finds_nothing_shows_nothing(lab: LabPage, store: Store) -> None:
    lab.page.locator(f"{ROOT} .obdb-menu-only_kind").select_option("spurious")
    lab.page.locator(f"{ROOT} .obdb-menu-only_class").select_option("nutsedge")
    message(lab, "No suggestion is of this kind and class")
    lab.wait_for(lambda: not lab.page.locator(f"{ROOT} .obdb-grid").is_visible(), "the empty page")
    assert lab.page.locator(f"{ROOT} .obdb-place").inner_text() == "No suggestion of this kind and class"
    lab.screenshot("grid-nothing")
    for key in ("a", "r", "Enter", "Shift+Enter", "1", "x", "g"):
        lab.page.keyboard.press(key)
    lab.eval_in_kernel("setattr(review, 'view', 'frame')")
    lab.wait_for(lambda: lab.page.locator(ROOT).get_attribute("data-view") == "frame", "the other view")
    assert not lab.page.locator(f"{ROOT} .obdb-review-main").is_visible()
    lab.page.keyboard.press("a")
    lab.page.locator(f"{ROOT} .obdb-menu-only_class").select_option("")
    shown(lab, "f0n5")
    assert lab.page.locator(f"{ROOT} .obdb-stage canvas").is_visible()
    assert store.decisions() == []


def test_the_sentence_follows_the_class_and_caps_lock_changes_no_key(lab: LabPage, store: Store) -> None:
    keys = lab.page.keyboard
    leads = lab.page.locator(f"{ROOT} .obdb-leads")
    caps = """(node, key) => node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }))"""
    lab.eval_in_kernel("setattr(review, 'view', 'frame')")
    shown(lab, ORDER[0])
    assert leads.inner_text() == "Accept: add the box as sesame."
    keys.press(str(CLASSES.index("purslane") + 1))
    assert leads.inner_text() == "Accept: add the box as purslane."
    lab.page.locator(ROOT).evaluate(caps, "A")  # as with Caps Lock: the letter is large, Shift is not held
    shown(lab, ORDER[1])
    lab.page.locator(ROOT).evaluate(caps, "U")
    shown(lab, ORDER[0])
    assert [verdict for _, verdict in said(entries(lab, store, 2))] == ["accept", "undo"]
    keys.press("Shift+U")
    assert [verdict for _, verdict in said(entries(lab, store, 3))] == ["accept", "undo", "accept"]
    message(lab, "Repeated the decision")  # the act goes on after its entry, in a thread of its own
    lab.eval_in_kernel("setattr(review, 'index', review._queue.place['f0n4'])")
    shown(lab, "f0n4")
    assert leads.inner_text() == "Accept: move the annotation to this box."
    keys.press(str(CLASSES.index("purslane") + 1))
    assert leads.inner_text() == "Accept: move the annotation to this box and call it purslane."
    lab.eval_in_kernel("setattr(review, 'index', review._queue.place['f0n5'])")
    shown(lab, "f0n5")
    assert lab.page.locator(f"{ROOT} .obdb-class").is_disabled()
    keys.press(str(CLASSES.index("purslane") + 1))
    message(lab, "There is no class to change here")
    keys.press("a")
    entry = entries(lab, store, 4)[-1]
    assert (entry["suggestion_id"], entry["object_class"]) == ("f0n5", "sesame")


def test_what_another_decided_meanwhile_is_told(lab: LabPage, store: Store) -> None:
    bob = Journal(store, who="bob", queue=QUEUE)
    bob.decide(QUEUE[0], "reject")
    cursor(lab, ORDER[0])
    assert tile(lab, ORDER[0]).get_attribute("data-verdict") == ""
    lab.page.keyboard.press("a")
    message(lab, "bob rejected this on")
    lab.screenshot("grid-meanwhile")
    assert said(store.decisions()) == [(ORDER[0], "reject")]
    lab.wait_for(lambda: tile(lab, ORDER[0]).get_attribute("data-verdict") == "rejected", "Bob's verdict on the tile")
    cursor(lab, ORDER[0])
    lab.page.keyboard.press("a")  # on purpose
    assert said(entries(lab, store, 2)) == [(ORDER[0], "reject"), (ORDER[0], "accept")]


def test_a_killed_kernel_loses_no_decision(lab: LabPage, store: Store) -> None:
    keys = lab.page.keyboard
    for key in "ars":
        keys.press(key)
    cursor(lab, ORDER[3])
    entries(lab, store, 3)
    for key in "aaa":  # no waiting: some of these may be under way when the kernel dies
        keys.press(key)
    kill_kernel(lab)
    told = {name for name in ORDER[:PAGE] if tile(lab, name).get_attribute("data-verdict")}
    saved = fold(store.decisions())
    assert told <= set(saved), "what the page showed as decided is in MongoDB"
    assert {name: saved[name]["verdict"] for name in ORDER[:3]} == dict(
        zip(ORDER, ["accept", "reject", "skip"], strict=False)
    )
    lab.page.locator(f"{ROOT} .obdb-place").click()
    keys.press("r")
    message(lab, "not saved yet: is the kernel alive?")
    lab.screenshot("grid-dead")
    assert fold(store.decisions()) == saved
    start(lab)
    cursor(lab, next(name for name in ORDER if name not in saved))
    verdicts = {name: tile(lab, name).get_attribute("data-verdict") for name in ORDER[:PAGE]}
    words = {"accept": "accepted", "reject": "rejected", "skip": "skipped"}
    assert verdicts == {name: words[saved[name]["verdict"]] if name in saved else "" for name in ORDER[:PAGE]}
    keys.press("u")  # the person's history is the journal's, not the kernel's
    last = max(saved.values(), key=lambda entry: int(entry["seq"]))
    lab.wait_for(lambda: last["suggestion_id"] not in fold(store.decisions()), "the undo of an earlier kernel's entry")
    cursor(lab, last["suggestion_id"])
    keys.press("Enter")
    shown(lab, last["suggestion_id"])
    keys.press("r")
    lab.wait_for(
        lambda: fold(store.decisions()).get(last["suggestion_id"], {}).get("verdict") == "reject", "the new verdict"
    )
    kill_kernel(lab)
    start(lab)
    assert fold(store.decisions())[last["suggestion_id"]]["verdict"] == "reject"
    assert lab.eval_in_kernel("review.decided['decided']") == len(saved)
