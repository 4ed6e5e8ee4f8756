"""The split explorer in a real JupyterLab: lasso, assign by button and key, live numbers, undo, filter, save."""

from __future__ import annotations

import pytest

from obdb_lib.split_draft import replay
from obdb_lib.splits import split_from_documents
from obdb_lib.store import Store
from tests.browser.conftest import OpenLab
from tests.browser.harness import MAP_CANVAS, LabPage, lasso, save_notebook

DATABASE = "explorer_browser"
CELLS = [
    """
from obdb_lib.split_draft import SplitDraft
from obdb_lib.splits import by_groups
from obdb_lib.store import open_store
from tests.explorer_world import explorer_world
from widgets import SplitExplorer

world = explorer_world(1200, 400)
split = by_groups(world.snapshot, group_by=["video"], clusters=world.clusters)
draft = SplitDraft(split, world.snapshot, duplicates=world.duplicates, clusters=world.clusters)
store = open_store()
store.save_split(*split.documents())
""",
    """
explorer = SplitExplorer(world.points, draft, crops=world.crops, save=lambda s: store.save_split(*s.documents()))
explorer
""",
]


@pytest.fixture(scope="module")
def lab(open_module_lab: OpenLab, tmp_path_factory: pytest.TempPathFactory) -> LabPage:
    root = tmp_path_factory.mktemp("explorer")
    save_notebook(root / "explorer.ipynb", CELLS)
    lab = open_module_lab(root, env={"OBDB_DATABASE": DATABASE})
    lab.open_notebook("explorer.ipynb")
    lab.run_all()
    lab.page.wait_for_selector(MAP_CANVAS)
    # Not into view "if needed": the map has to stand in the middle of the page for the mouse to reach all of it.
    lab.page.evaluate("() => document.querySelector('.obdb-split-explorer').scrollIntoView({block: 'start'})")
    return lab


def shown(lab: LabPage, part: str) -> str:
    """What the panel says about the frames of a part."""
    words = lab.page.locator(".obdb-frames-word", has_text=part)
    return words.first.inner_text() if words.count() else ""


def wait_for_edits(lab: LabPage, count: int) -> None:
    lab.wait_for(lambda: lab.eval_in_kernel("len(draft.edits)") == count, f"{count} edits")
    turn = lab.eval_in_kernel("explorer._panel.turn")
    panel = lab.page.locator(".obdb-split-panel")
    lab.wait_for(lambda: panel.get_attribute("data-turn") == str(turn), "the panel to follow")


def test_lasso_edit_undo_filter_save_and_read_back(lab: LabPage) -> None:
    page = lab.page
    train, val = lab.eval_in_kernel("[draft.numbers().frames[p] for p in ('train', 'val')]")
    assert str(val) in shown(lab, "val")
    lab.screenshot("explorer-0")

    # Hide all but one class; then a ring around everything selects what is shown and no more.
    page.locator(".obdb-filter-button", has_text="class").click()
    page.locator(".obdb-filter-row", has_text="Fat hen").hover()
    page.locator(".obdb-filter-row", has_text="Fat hen").locator(".obdb-filter-only").click()
    lab.wait_for(lambda: lab.eval_in_kernel("explorer._filter.shown") < 1200, "the filter")
    x, y = lab.eval_in_kernel("[float(world.points.x.mean()), float(world.points.y.mean())]")
    lasso(lab, "explorer", (x, y), 15)
    lab.wait_for(lambda: lab.eval_in_kernel("len(explorer.selected)"), "a selection")
    assert lab.eval_in_kernel("explorer.data().object_class.unique().tolist()") == ["Fat hen"]
    page.locator(".obdb-filter-clear").click()
    lab.wait_for(lambda: lab.eval_in_kernel("explorer._filter.mask() is None"), "all points")
    page.keyboard.press("Escape")
    lab.wait_for(lambda: lab.eval_in_kernel("len(explorer.selected)") == 0, "an empty selection")

    # A few frames by the button, with their groups.
    lasso(lab, "explorer", (0, 0), 0.35)
    lab.wait_for(lambda: lab.eval_in_kernel("len(explorer.selected)"), "a selection")
    chosen = lab.eval_in_kernel("len(explorer.selected_frames)")
    lab.wait_for(lambda: "with their groups" in page.locator(".obdb-selection").inner_text(), "the reach")
    page.locator(".obdb-act-test").click()
    wait_for_edits(lab, 1)
    moved = lab.eval_in_kernel("len(draft.edits[0].img_paths)")
    assert moved > chosen
    assert f"test {moved}" in shown(lab, "test")
    assert f"+{moved}" in shown(lab, "test")
    assert page.locator(".obdb-leak.obdb-bad", has_text="Torn group").count() == 0
    lab.screenshot("explorer-1-test")

    # One key a step: undo, redo, then frames alone, whose leak is shown.
    page.keyboard.press("u")
    wait_for_edits(lab, 0)
    assert str(train) in shown(lab, "train")
    page.keyboard.press("Shift+U")
    wait_for_edits(lab, 1)
    page.locator(".obdb-whole input").click()
    lab.wait_for(lambda: not lab.eval_in_kernel("draft.keep_groups_whole"), "groups switched off")
    page.keyboard.press("v")
    wait_for_edits(lab, 2)
    torn = page.locator(".obdb-leak.obdb-bad", has_text="Torn group")
    assert torn.locator(".obdb-leak-cell").count() == 2, (
        "test frames whose video is in val leak into test, not into val"
    )
    assert torn.locator(".obdb-leak-cell.obdb-good").count() == 1
    page.keyboard.press("u")
    page.keyboard.press("u")
    wait_for_edits(lab, 0)
    page.keyboard.press("v")
    wait_for_edits(lab, 1)
    assert page.locator(".obdb-leak.obdb-bad", has_text="Torn group").count() == 1
    leak = lab.eval_in_kernel("draft.numbers().val.group_overlap")
    assert (
        f"{100 * leak:.{int(leak < 0.0995)}f} %"
        in page.locator(".obdb-leak.obdb-bad", has_text="Torn group").inner_text()
    )
    page.locator(".obdb-map-bar select").select_option(label="split")
    lab.wait_for(lambda: lab.eval_in_kernel("explorer.colour_by") == "split", "colours of the parts")
    page.keyboard.press("x")
    wait_for_edits(lab, 2)
    redrawn = lab.eval_in_kernel("explorer._legend.redrawn")
    drawn = page.locator(".obdb-legend")
    lab.wait_for(lambda: drawn.get_attribute("data-drawn") == str(redrawn), "the colours of the latest edit")
    lab.screenshot("explorer-2-split")
    assert len(lab.notebook()["cells"]) == 2, "no key reached JupyterLab's own shortcuts (x cuts a cell, b adds one)"

    # Saved, and read back from MongoDB.
    assert "2 edits not saved" in page.locator(".obdb-unsaved").inner_text()
    page.locator(".obdb-act-save").click()
    lab.wait_for(lambda: "Saved split" in page.locator(".obdb-split-message").inner_text(), "the split to be saved")
    assert page.locator(".obdb-unsaved").inner_text() == ""
    ids = lab.eval_in_kernel("[split.id, draft.result().id]")
    with Store(database=DATABASE) as store:
        built, edited = (split_from_documents(*store.split(one)) for one in ids)
    assert [edit.part for edit in edited.edits] == ["val", "excluded"]
    assert sorted(edited.part("excluded")) == lab.eval_in_kernel("list(explorer.selected_frames)")
    assert replay(built, edited.edits).id == edited.id


def test_help_opens_and_a_list_can_be_typed_into(lab: LabPage) -> None:
    page = lab.page
    edits = lab.eval_in_kernel("len(draft.edits)")
    page.locator(".obdb-keys-on").click()
    page.keyboard.press("?")
    lab.wait_for(lambda: page.locator(".obdb-split-help").is_visible(), "the help")
    lab.screenshot("explorer-3-help")
    page.keyboard.press("Escape")
    lab.wait_for(lambda: not page.locator(".obdb-split-help").is_visible(), "the help to close")
    assert lab.eval_in_kernel("len(explorer.selected)") > 0, "Esc closed the help and nothing else"
    # Letters typed into a search field are no edits.
    page.locator(".obdb-filter-button", has_text="video").click()
    page.locator(".obdb-filter-search").click()
    page.keyboard.type("ute")
    lab.wait_for(lambda: page.locator(".obdb-filter-list .obdb-filter-row").count() == 0, "a search without a hit")
    page.locator(".obdb-keys-on").click()
    assert page.locator(".obdb-filter-menu").count() == 0
    assert lab.eval_in_kernel("len(draft.edits)") == edits
    # Esc closes an open menu, and leaves the selection alone.
    chosen = lab.eval_in_kernel("len(explorer.selected)")
    assert chosen > 0
    turn = lab.eval_in_kernel("explorer._bar.turn")
    page.locator(".obdb-filter-button", has_text="video").click()
    page.locator(".obdb-filter-row").first.wait_for()
    page.keyboard.press("Escape")
    lab.wait_for(lambda: page.locator(".obdb-filter-menu").count() == 0, "the menu to close")
    page.keyboard.press("v")
    lab.wait_for(lambda: lab.eval_in_kernel("explorer._bar.turn") == turn + 1, "one act of keys: v")
    assert lab.eval_in_kernel("len(explorer.selected)") == chosen


def test_the_map_stands_still_and_empty_parts_have_no_tick(lab: LabPage) -> None:
    page = lab.page
    lab.eval_in_kernel("setattr(explorer, 'selected', ())")
    lab.wait_for(lambda: "Nothing selected" in page.locator(".obdb-selection").inner_text(), "an empty selection")
    assert page.locator(".obdb-split-message").inner_text() == ""
    canvas = page.locator(MAP_CANVAS).first
    place = canvas.bounding_box()
    lab.eval_in_kernel("setattr(explorer, 'selected', tuple(world.points.annotation_id))")
    edits = lab.eval_in_kernel("len(draft.edits)")
    lab.eval_in_kernel("(draft.assign(draft.img_paths, 'train'), explorer.refresh()) and None")  # boxless frames, too
    wait_for_edits(lab, edits + 1)
    leaks = page.locator(".obdb-leak")
    assert [one.locator(".obdb-leak-sign").inner_text() for one in leaks.all()] == ["\N{EN DASH}"] * 3
    assert [one.locator(".obdb-leak-value").inner_text() for one in leaks.all()] == ["no val frames"] * 3
    assert page.locator(".obdb-leak .obdb-good, .obdb-leak.obdb-good").count() == 0
    val = page.locator(".obdb-frames-word.obdb-odd", has_text="val")
    assert "wanted 20 %" in val.inner_text()
    lab.eval_in_kernel("explorer._say('x ' * 400, 'error')")
    lab.wait_for(lambda: page.locator(".obdb-split-error").count() == 1, "a long error")
    lab.screenshot("explorer-4-all-train")
    assert canvas.bounding_box() == place, "no message moves the map"
    lab.eval_in_kernel("explorer.undo() and None")
    wait_for_edits(lab, edits)
