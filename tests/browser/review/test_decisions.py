"""Every kind of decision, by keys and by mouse, read back from MongoDB."""

from __future__ import annotations

from typing import Any

import pytest

from obdb_lib.review import fold
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
    message,
    ready,
    said,
    shown,
    tile,
)


def test_crops_by_keys(lab: LabPage, store: Store) -> None:
    keys = lab.page.keyboard
    cells = [cell["source"] for cell in lab.notebook()["cells"]]
    lab.screenshot("grid")
    cursor(lab, ORDER[0])
    keys.press("a")
    keys.press("r")
    keys.press("s")
    cursor(lab, ORDER[3])
    keys.press(str(CLASSES.index("purslane") + 1))
    assert "→ purslane" in tile(lab, ORDER[3]).inner_text()
    keys.press("a")
    found = entries(lab, store, 4)
    assert said(found) == list(zip(ORDER[:4], ["accept", "reject", "skip", "accept"], strict=True))
    assert [entry["object_class"] for entry in found] == ["sesame", "sesame", "sesame", "purslane"]
    assert {entry["who"] for entry in found} == {"ann"}
    keys.press("u")
    cursor(lab, ORDER[3])
    keys.press("u")
    cursor(lab, ORDER[2])
    keys.press("Shift+U")
    cursor(lab, ORDER[2])
    lab.wait_for(lambda: tile(lab, ORDER[2]).get_attribute("data-verdict") == "skipped", "the skip again")
    assert said(entries(lab, store, 7))[4:] == [(ORDER[3], "undo"), (ORDER[2], "undo"), (ORDER[2], "skip")]
    keys.press("x")
    for key, name in (("Home", 0), ("ArrowRight", 1), ("End", PAGE - 1), ("ArrowLeft", PAGE - 2)):
        keys.press(key)
        cursor(lab, ORDER[name])
    keys.press("Shift+Enter")
    confirm = lab.page.locator(f"{ROOT} .obdb-confirm")
    assert "Accept all 5 on this page" in confirm.inner_text()
    lab.screenshot("grid-confirm")
    keys.press("Escape")
    assert not confirm.is_visible()
    assert len(store.decisions()) == 7
    keys.press("Shift+Enter")
    keys.press("Enter")
    message(lab, "Accepted 5 on this page")
    assert said(entries(lab, store, 12))[7:] == [(name, "accept") for name in ORDER[3:PAGE]]
    cursor(lab, ORDER[PAGE])
    ready(lab)
    assert "Page 2 of 3" in lab.page.locator(f"{ROOT} .obdb-place").inner_text()
    keys.press("u")
    cursor(lab, ORDER[3])
    message(lab, "Took back 5 decisions of one page")
    keys.press("Shift+U")
    message(lab, "Repeated 5 decisions of one page")
    assert said(entries(lab, store, 22))[17:] == [(name, "accept") for name in ORDER[3:PAGE]]
    keys.press("Home")
    cursor(lab, ORDER[0])
    lab.screenshot("grid-decided")
    assert [cell["source"] for cell in lab.notebook()["cells"]] == cells, "Lab's own shortcuts stay quiet"
    assert len(lab.notebook()["cells"]) == 1


def test_frame_by_keys(lab: LabPage, store: Store) -> None:
    keys = lab.page.keyboard
    keys.press("ArrowRight")
    keys.press("Enter")
    shown(lab, ORDER[1])
    lab.screenshot("frame")
    proposed = next(one["points"] for one in QUEUE if one["_id"] == ORDER[1])
    keys.press("z")
    keys.press("e")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowLeft", "Shift+ArrowDown"):
        keys.press(key)
    lab.screenshot("frame-editing")
    assert "box; x resets" in lab.page.locator(f"{ROOT} .obdb-facts").inner_text()
    keys.press("x")
    assert "x resets" not in lab.page.locator(f"{ROOT} .obdb-facts").inner_text()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowLeft", "Shift+ArrowDown"):
        keys.press(key)
    keys.press("Escape")
    keys.press(str(CLASSES.index("nutsedge") + 1))
    keys.press("a")
    shown(lab, ORDER[2])
    (entry,) = entries(lab, store, 1)
    assert (entry["suggestion_id"], entry["object_class"]) == (ORDER[1], "nutsedge")
    moved = [new - old for new, old in zip(entry["points"], proposed, strict=True)]
    step = moved[1]  # one step down
    assert step > 0
    assert moved == pytest.approx([2 * step, step, step, 2 * step], abs=0.05)
    keys.press("u")
    shown(lab, ORDER[1])
    keys.press("Shift+U")
    shown(lab, ORDER[1])
    again = entries(lab, store, 3)[-1]
    assert (again["points"], again["object_class"]) == (entry["points"], "nutsedge")
    before = lab.page.locator(f"{ROOT} .obdb-stage canvas").get_attribute("data-view")
    keys.press("+")
    keys.press("Shift+ArrowRight")
    view = lab.page.locator(f"{ROOT} .obdb-stage canvas")
    lab.wait_for(lambda: view.get_attribute("data-view") != before, "zoom and pan")
    keys.press("n")
    shown(lab, ORDER[2])
    keys.press("r")
    shown(lab, ORDER[3])
    keys.press("s")
    shown(lab, ORDER[4])
    assert said(entries(lab, store, 5))[3:] == [(ORDER[2], "reject"), (ORDER[3], "skip")]
    keys.press("Escape")
    cursor(lab, ORDER[4])
    assert tile(lab, ORDER[1]).get_attribute("data-verdict") == "accepted"


def test_crops_by_mouse(lab: LabPage, store: Store) -> None:
    def button(name: str) -> Any:
        return lab.page.locator(f"{ROOT} .obdb-button-{name}")

    tile(lab, ORDER[2]).click()
    cursor(lab, ORDER[2])
    button("accept").click()
    cursor(lab, ORDER[3])
    tile(lab, ORDER[5]).hover()
    tile(lab, ORDER[5]).locator(".obdb-tile-reject").click()
    cursor(lab, ORDER[6])
    button("skip").click()
    cursor(lab, ORDER[7])
    assert said(entries(lab, store, 3)) == [(ORDER[2], "accept"), (ORDER[5], "reject"), (ORDER[6], "skip")]
    button("undo").click()
    cursor(lab, ORDER[6])
    button("redo").click()
    assert said(entries(lab, store, 5))[3:] == [(ORDER[6], "undo"), (ORDER[6], "skip")]
    button("accept_page").click()
    lab.page.locator(f"{ROOT} .obdb-yes").click()
    message(lab, "Accepted 5 on this page")
    assert {name for name, verdict in said(entries(lab, store, 10))[5:] if verdict == "accept"} == {
        ORDER[number] for number in (0, 1, 3, 4, 7)
    }
    lab.page.locator(f"{ROOT} .obdb-menu-only_kind").select_option("spurious")
    lab.wait_for(lambda: lab.page.locator(f"{ROOT} .obdb-tile").count() == 4, "the boxes without a plant")
    ready(lab)
    assert all(name.endswith("n5") for name in lab.eval_in_kernel("[t['id'] for t in review.tiles]"))
    lab.page.locator(f"{ROOT} .obdb-menu-only_kind").select_option("")
    lab.page.locator(f"{ROOT} .obdb-menu-order").select_option("uncertain")
    lab.wait_for(lambda: lab.eval_in_kernel("review.tiles[0]['id']") in ("f0n3", "f1n3", "f2n3", "f3n3"), "the order")


def test_frame_by_mouse(lab: LabPage, store: Store) -> None:
    mouse = lab.page.mouse
    tile(lab, ORDER[0]).dblclick()
    shown(lab, ORDER[0])
    canvas = lab.page.locator(f"{ROOT} .obdb-stage canvas")
    bounds = canvas.bounding_box()
    assert bounds is not None

    def view() -> list[float]:
        return [float(part) for part in str(canvas.get_attribute("data-view")).split()]

    def at(x: float, y: float) -> tuple[float, float]:
        left, top, scale = view()
        return bounds["x"] + (x - left) * scale, bounds["y"] + (y - top) * scale

    def drag(start: tuple[float, float], right: float, down: float) -> None:
        mouse.move(*start)
        mouse.down()
        mouse.move(start[0] + right / 2, start[1] + down / 2)
        mouse.move(start[0] + right, start[1] + down)
        mouse.up()

    whole = view()
    x1, y1, x2, y2 = next(one["points"] for one in QUEUE if one["_id"] == ORDER[0])
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    mouse.move(*at(*middle))
    mouse.wheel(0, -400)
    lab.wait_for(lambda: view()[2] > 2 * whole[2], "the zoom at the pointer")
    place = at(*middle)
    drag(at(x1 - 60, y1 - 40), 50, 30)
    lab.wait_for(lambda: abs(at(*middle)[0] - place[0] - 50) < 1 and abs(at(*middle)[1] - place[1] - 30) < 1, "the pan")
    scale = view()[2]
    lab.page.locator(f"{ROOT} .obdb-button-edit").click()
    drag(at(*middle), 24, 12)
    drag(at(x2 + 24 / scale, y2 + 12 / scale), 16, 20)  # the lower right handle of the moved box
    lab.screenshot("frame-edited")
    lab.page.locator(f"{ROOT} .obdb-class").select_option("purslane")
    lab.page.locator(f"{ROOT} .obdb-button-accept").click()
    shown(lab, ORDER[1])
    (entry,) = entries(lab, store, 1)
    wanted = [x1 + 24 / scale, y1 + 12 / scale, x2 + 40 / scale, y2 + 32 / scale]
    assert entry["points"] == pytest.approx(wanted, abs=1.5)
    assert (entry["object_class"], entry["kind"], entry["snapshot_id"]) == ("purslane", "missing", "snap")
    lab.page.locator(f"{ROOT} .obdb-button-reject").click()
    shown(lab, ORDER[2])
    lab.page.locator(f"{ROOT} .obdb-button-skip").click()
    shown(lab, ORDER[3])
    lab.page.locator(f"{ROOT} .obdb-button-undo").click()
    shown(lab, ORDER[2])
    lab.page.locator(f"{ROOT} .obdb-button-redo").click()
    assert [verdict for _, verdict in said(entries(lab, store, 5))] == ["accept", "reject", "skip", "undo", "skip"]
    lab.page.locator(f"{ROOT} .obdb-button-grid").click()
    lab.wait_for(lambda: tile(lab, ORDER[0]).get_attribute("data-verdict") == "accepted", "the page of crops")


def test_every_kind_says_what_it_proposes(lab: LabPage, store: Store) -> None:
    words = {
        "f0n3": "Annotated as sesame, the model sees nutsedge 0.93.",
        "f0n4": "Annotated as nutsedge, what the model sees (nutsedge 0.85) shares 48% with that box.",
        "f0n5": "Annotated as sesame, the model sees no such plant (best sesame here: 0.10).",
    }
    lab.eval_in_kernel("setattr(review, 'view', 'frame')")
    seen = lab.page.locator(ROOT)
    for name, text in words.items():
        lab.eval_in_kernel(f"setattr(review, 'index', review._queue.place['{name}'])")
        shown(lab, name)
        assert lab.page.locator(f"{ROOT} .obdb-words").inner_text() == text
        lab.screenshot(f"frame-{name}")
        lab.page.keyboard.press("a")
        lab.wait_for(lambda n=name: seen.get_attribute("data-shown") != n, "the next suggestion")  # the act is over
    found = store.decisions()
    assert fold(found).keys() == words.keys()
    assert [(entry["kind"], entry["annotation_id"]) for entry in found] == [
        ("swapped_class", "field_0.png/0"),
        ("bad_location", "field_0.png/2"),
        ("spurious", "field_0.png/0"),
    ]
