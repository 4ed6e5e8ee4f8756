"""The Python side of the split explorer and its still picture, without a browser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from traitlets import TraitError

from obdb_lib.errors import DatasetError, SplitError, StoreError
from obdb_lib.split_draft import SplitDraft, replay
from obdb_lib.splits import PARTS, Split, by_groups
from tests.explorer_world import NAMES, ExplorerWorld, explorer_world
from widgets import SplitExplorer, split_picture
from widgets.palette import PART_COLOURS, part_colouring
from widgets.split_views import balance_rows, bar_scale, share_note


@pytest.fixture(scope="module")
def world() -> ExplorerWorld:
    return explorer_world(600, 200)


@pytest.fixture
def draft(world: ExplorerWorld) -> SplitDraft:
    split = by_groups(world.snapshot, group_by=["video"], clusters=world.clusters)
    return SplitDraft(split, world.snapshot, duplicates=world.duplicates, clusters=world.clusters)


@pytest.fixture
def saved() -> list[Split]:
    return []


@pytest.fixture
def explorer(world: ExplorerWorld, draft: SplitDraft, saved: list[Split]) -> SplitExplorer:
    return SplitExplorer(world.points, draft, crops=world.crops, save=saved.append)


def lasso(explorer: SplitExplorer, rows: list[int]) -> None:
    """What jupyter-scatter's trait does when the page sends a selection."""
    explorer._scatter.widget.selection = np.asarray(rows, dtype=np.uint32)


def press(explorer: SplitExplorer, act: str) -> None:
    """What the page sends for a key or a button."""
    explorer._bar._handle_custom_msg({"act": act}, [])


def rows_of_video(world: ExplorerWorld, draft: SplitDraft, part: str) -> list[int]:
    """Points of one whole video that is in ``part``."""
    parts = world.points["img_path"].map(draft.parts())
    video = world.points["video"][parts == part].iloc[0]
    return np.flatnonzero(world.points["video"] == video).tolist()


def test_a_key_moves_the_frames_of_the_selection_and_their_group(
    world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer
) -> None:
    rows = rows_of_video(world, draft, "train")
    lasso(explorer, rows[:3])
    assert explorer.selected == tuple(world.points["annotation_id"].iloc[rows[:3]])
    assert explorer.selected_frames == tuple(sorted(set(world.points["img_path"].iloc[rows[:3]])))
    assert explorer._bar.selection.startswith("3 boxes in 1 frame selected; with their groups 25 frames")
    before = draft.numbers()
    press(explorer, "val")
    video = world.points["video"].iloc[rows[0]]
    frames = world.snapshot.frames[world.snapshot.frames["video"] == video]["img_path"]
    assert (draft.parts()[frames] == "val").all()
    assert explorer.split.id == draft.result().id != draft.split.id
    assert explorer.selected_frames, "the selection stays"
    assert explorer._bar.message == {
        "kind": "good",
        "text": "Moved 25 frames to val, 24 of them along with their group. u takes it back.",
    }
    panel = {one["part"]: one for one in explorer._panel.frames}
    assert panel["val"]["count"] == panel["val"]["before"] + 25 == before.frames["val"] + 25
    assert [row["share"] for row in explorer._panel.classes["rows"]] != [
        row["before"] for row in explorer._panel.classes["rows"]
    ]
    assert (explorer.data()["split"] == "val").all()


def test_undo_redo_and_the_way_back(world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer) -> None:
    original, turn = draft.result().id, explorer._panel.turn
    press(explorer, "val")
    assert explorer._bar.message["text"].startswith("Select something first")
    lasso(explorer, rows_of_video(world, draft, "train"))
    press(explorer, "test")
    edited = draft.result().id
    assert (explorer._bar.can_undo, explorer._bar.can_redo) == (True, False)
    press(explorer, "undo")
    assert draft.result().id == original
    assert (explorer._bar.can_undo, explorer._bar.can_redo) == (False, True)
    press(explorer, "undo")
    assert explorer._bar.message["text"] == "There is no edit to take back."
    press(explorer, "redo")
    assert draft.result().id == edited
    press(explorer, "builder")
    assert draft.parts().equals(draft.split.parts())
    press(explorer, "builder")
    assert explorer._bar.message["text"].startswith("Nothing to move: these frames are where the builder")
    assert explorer._panel.turn == turn + 4, "test, undo, redo, builder; what moved nothing tells no new numbers"
    press(explorer, "clear")
    assert explorer.selected == ()
    assert explorer._bar.turn == 8


def test_switching_groups_off_shows_the_price(world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer) -> None:
    explorer._bar.keep_whole = False
    rows = rows_of_video(world, draft, "train")
    lasso(explorer, rows[:2])
    assert "groups" not in explorer._bar.selection
    explorer.assign("val")
    leaks = {one["title"]: one for one in explorer._panel.leaks}
    assert leaks["Adjacent frame"]["value"] > leaks["Adjacent frame"]["before"] == 0
    assert leaks["Torn group"]["value"] > 0


def test_save_hands_over_the_split_and_says_so(
    world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer, saved: list[Split]
) -> None:
    assert not explorer.unsaved
    assert not explorer._bar.can_save
    lasso(explorer, rows_of_video(world, draft, "train"))
    press(explorer, "test")
    assert explorer._bar.unsaved == "1 edit not saved"
    press(explorer, "save")
    assert [split.id for split in saved] == [draft.result().id]
    assert replay(draft.split, saved[0].edits).id == saved[0].id
    id_ = saved[0].id
    assert explorer._bar.message == {
        "kind": "good",
        "text": f"Saved split {id_}. Notebook 03 trains on it. "
        f'EDITS = "{id_}" in this notebook makes its edit again when it is run anew.',
    }
    assert explorer._bar.unsaved == ""
    assert not explorer._bar.can_save
    press(explorer, "undo")
    assert explorer._bar.unsaved == "changes not saved"
    assert explorer.save().id == draft.split.id
    assert not explorer.unsaved
    assert explorer._bar.message["text"] == f"Saved split {draft.split.id}. Notebook 03 trains on it."


def test_a_split_kept_elsewhere_counts_as_saved(
    world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer
) -> None:
    lasso(explorer, rows_of_video(world, draft, "train"))
    explorer.assign("test")
    kept = draft.result()
    explorer.assign("val")
    explorer.saved(kept)
    assert (explorer.unsaved, explorer._bar.unsaved) == (True, "1 edit not saved"), "the page is one edit further"
    explorer.undo()
    assert (explorer.unsaved, explorer._bar.unsaved, explorer._bar.can_save) == (False, "", False)
    other = by_groups(world.snapshot, group_by=["video"], frames=list(draft.img_paths[:100]))
    with pytest.raises(SplitError, match=f"split {other.id} is no version of split {draft.split.id}"):
        explorer.saved(other)
    assert not explorer.unsaved


def test_a_split_that_is_refused_keeps_its_edits(world: ExplorerWorld, draft: SplitDraft) -> None:
    def refuse(split: Split) -> None:
        raise SplitError("val has no boxes: put some frames into val")

    explorer = SplitExplorer(world.points, draft, save=refuse)
    explorer.selected = tuple(world.points["annotation_id"])
    press(explorer, "train")
    press(explorer, "save")
    assert explorer._bar.message == {"kind": "error", "text": "Not saved: val has no boxes: put some frames into val"}
    assert explorer._bar.unsaved == "1 edit not saved"
    assert explorer._bar.can_save
    assert (draft.parts() == "train").all()


@pytest.mark.parametrize(("part", "words"), [("train", "no val frames"), ("val", "no train frames")])
def test_an_empty_part_has_no_leak_to_be_glad_of(
    world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer, part: str, words: str
) -> None:
    assert [one["value"] for one in explorer._panel.leaks].count(None) == 0
    draft.assign(draft.img_paths, part)
    explorer.refresh()
    assert [(one["value"], one["why"], one["test"]) for one in explorer._panel.leaks] == [(None, words, None)] * 3
    assert f"no {explorer._panel.classes['empty']} frames" == words
    draft.assign(draft.img_paths[:30], "test")
    explorer.refresh()
    assert None not in [one["test"] for one in explorer._panel.leaks], "test can still be asked about the other part"
    draft.assign(draft.img_paths, "test")
    explorer.refresh()
    assert {(one["why"], one["test"], one["test_why"]) for one in explorer._panel.leaks} == {
        ("no val frames", None, "no train frames")
    }


def test_frames_are_shown_beside_the_wanted_share(world: ExplorerWorld) -> None:
    shares = {"train": 0.7, "val": 0.2, "test": 0.1}
    split = by_groups(world.snapshot, group_by=["video"], clusters=world.clusters, shares=shares)
    draft = SplitDraft(split, world.snapshot)
    explorer = SplitExplorer(world.points, draft)
    draft.keep_groups_whole = False
    draft.assign(draft.img_paths[:100], "train")
    draft.assign(draft.img_paths[100:150], "val")
    draft.assign(draft.img_paths[150:160], "test")
    draft.assign(draft.img_paths[160:], "excluded")
    explorer.refresh()
    rows = {row["part"]: row for row in explorer._panel.frames}
    assert {part: row["target"] for part, row in rows.items()} == pytest.approx({**shares, "excluded": 0})
    assert rows["train"]["share"] == pytest.approx(100 / 160)
    assert rows["val"]["share"] == pytest.approx(50 / 160)
    assert {part: row["note"] for part, row in rows.items()} == {
        "train": "",
        "val": "high",
        "test": "low",
        "excluded": "",
    }


def test_no_edit_changes_the_scale_of_the_bars(
    world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer
) -> None:
    def scales() -> list[float]:
        return [explorer._panel.classes["scale"], explorer._panel.clusters["scale"]]

    assert scales() == pytest.approx([0.5, 0.5])
    explorer.selected = tuple(world.points["annotation_id"][world.points["cluster"] != "3"])
    explorer._bar.keep_whole = False
    explorer.assign("val")
    assert max(row["share"] for row in explorer._panel.clusters["rows"]) > 0.5, "one goes beyond the end of its bar"
    assert scales() == pytest.approx([0.5, 0.5])
    assert [bar_scale(0.5, 0.1), bar_scale(0.1, 0.2), bar_scale(0.0)] == [1, 0.5, 1]


def test_excluding_says_that_it_takes_no_group_along(
    world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer
) -> None:
    rows = rows_of_video(world, draft, "train")
    lasso(explorer, rows[:3])
    assert explorer._bar.selection.endswith("; with their groups 25 frames (x: this frame alone)")
    press(explorer, "excluded")
    assert explorer._bar.message["text"] == (
        "Moved 1 frame to excluded, without the rest of their groups. u takes it back."
    )
    assert len(draft.edits[0].img_paths) == 1
    buttons = {button["name"]: button["help"] for button in explorer._bar.parts}
    assert "alone" in buttons["excluded"]
    assert "groups" in buttons["val"]


def test_news_go_with_the_selection_they_are_about(
    world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer
) -> None:
    lasso(explorer, rows_of_video(world, draft, "train"))
    press(explorer, "builder")
    press(explorer, "test")
    press(explorer, "builder")
    press(explorer, "undo")
    assert explorer._bar.message["text"] == (
        "Took back the move of 25 frames back to where the builder had put them. y makes it again."
    )
    press(explorer, "clear")
    assert explorer._bar.message["text"] == ""
    silent = SplitExplorer(world.points, draft)
    lasso(silent, [0])
    assert silent._bar.message["text"].startswith("No way to save was given")


def test_a_save_that_fails_is_told_and_leaves_the_edits_unsaved(world: ExplorerWorld, draft: SplitDraft) -> None:
    def refuse(split: Split) -> None:
        raise StoreError("MongoDB does not answer on port 1")

    explorer = SplitExplorer(world.points, draft, save=refuse)
    lasso(explorer, rows_of_video(world, draft, "train"))
    press(explorer, "test")
    press(explorer, "save")
    assert explorer._bar.message == {"kind": "error", "text": "Not saved: MongoDB does not answer on port 1"}
    assert explorer.unsaved
    assert explorer._bar.can_save
    silent = SplitExplorer(world.points, draft)
    assert "No way to save" in silent._bar.message["text"]
    with pytest.raises(SplitError, match="no way to save"):
        silent.save()
    press(silent, "explode")
    assert "'explode', which is no act here" in silent._bar.message["text"]


def test_colours_of_the_parts_follow_the_edits(world: ExplorerWorld, draft: SplitDraft) -> None:
    explorer = SplitExplorer(world.points, draft, colour_by="split")
    view = explorer._scatter.widget

    def drawn() -> list[str]:
        codes = view.points[:, 2].astype(int)
        return ["#" + "".join(f"{round(255 * part):02X}" for part in view.color[code][:3]) for code in codes]

    def wanted() -> list[str]:
        return [PART_COLOURS[part] for part in world.points["img_path"].map(draft.parts())]

    assert drawn() == wanted()
    rows = rows_of_video(world, draft, "train")
    lasso(explorer, rows)
    redrawn = explorer._legend.redrawn
    explorer.assign("excluded")
    assert drawn() == wanted()
    assert drawn()[rows[0]] == PART_COLOURS["excluded"]
    assert explorer._legend.redrawn == redrawn + 1
    assert {one["label"]: one["count"] for one in explorer._legend.entries}["excluded"] == len(rows)
    explorer.undo()
    assert drawn() == wanted()


def test_filters_hide_points_from_the_lasso(world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer) -> None:
    columns = {column["name"]: column for column in explorer._filter.columns}
    assert list(columns) == ["object_class", "cluster", "task_name", "session", "camera", "video", "split"]
    assert columns["cluster"]["labels"] == ["0", "1", "2", "3", "4", "5", "outlier"]
    assert columns["split"]["counts"][:2] == [
        int((world.points["img_path"].map(draft.parts()) == part).sum()) for part in PARTS[:2]
    ]
    lasso(explorer, list(range(50)))
    explorer._filter.chosen = {"cluster": [2], "camera": [0]}
    fits = np.flatnonzero((world.points["cluster"] == "2") & (world.points["camera"] == "1L"))
    assert explorer._scatter.widget.filter.tolist() == fits.tolist()
    assert explorer._filter.shown == len(fits)
    assert explorer.selected == tuple(world.points["annotation_id"].iloc[fits[fits < 50]])
    assert explorer._legend.filtered
    assert sum(one["count"] for one in explorer._legend.entries) == len(fits)
    explorer._filter.chosen = {}
    assert explorer._scatter.widget.filter is None
    with pytest.raises(TraitError, match="cannot filter by 'hue'"):
        explorer._filter.chosen = {"hue": [0]}
    with pytest.raises(TraitError, match="camera has 2 values"):
        explorer._filter.chosen = {"camera": [2]}


def test_a_filter_by_part_follows_the_edits(world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer) -> None:
    explorer._filter.chosen = {"split": [PARTS.index("val")]}
    before = explorer._filter.shown
    rows = rows_of_video(world, draft, "val")
    lasso(explorer, rows)
    explorer.assign("train")
    assert explorer._filter.shown == before - len(rows)
    assert explorer.selected == (), "what left the shown part is no longer selected"
    explorer.undo()
    assert explorer._filter.shown == before


def test_points_outside_the_split_are_said_and_stay(world: ExplorerWorld) -> None:
    frames = world.snapshot.frames["img_path"].tolist()
    split = by_groups(world.snapshot, group_by=["video"], frames=frames[:150])
    draft = SplitDraft(split, world.snapshot)
    explorer = SplitExplorer(world.points, draft, colour_by="split")
    outside = np.flatnonzero(world.points["img_path"].isin(frames[150:])).tolist()
    assert {one["label"]: one["count"] for one in explorer._legend.entries}["(not in the split)"] == len(outside)
    lasso(explorer, outside)
    assert explorer.selected_frames == ()
    assert not explorer._bar.ready
    lasso(explorer, [0, *outside])
    assert explorer._bar.selection.endswith(f"({len(outside):,} on frames outside this split)")
    explorer.assign("excluded")
    assert explorer.split.part("excluded") == [world.points["img_path"].iloc[0]]


def test_wrong_input_is_refused(world: ExplorerWorld, draft: SplitDraft) -> None:
    with pytest.raises(DatasetError, match="need the column img_path"):
        SplitExplorer(world.points.drop(columns="img_path"), draft)
    with pytest.raises(DatasetError, match="none of the 600 points is on a frame of split"):
        SplitExplorer(world.points.assign(img_path="other.png"), draft)
    with pytest.raises(TypeError, match=r"'crop' \(did you mean 'crops'\?\).*points, draft, crops, save, colour_by"):
        SplitExplorer(world.points, draft, crop=None)
    with pytest.raises(SplitError, match="'vall'"):
        SplitExplorer(world.points, draft).assign("vall")


def test_hover_tells_the_part_as_it_is_now(world: ExplorerWorld, draft: SplitDraft, explorer: SplitExplorer) -> None:
    explorer.colour_by = "object_class"  # so that an edit need not draw the points anew
    row = rows_of_video(world, draft, "train")[0]
    lasso(explorer, [row])
    explorer.assign("test")
    explorer._scatter.widget.hovering = row
    point = world.points.iloc[row]
    name = point["img_path"].rsplit("/", 1)[-1]
    card = f"class: {point['object_class']}\ncluster: {point['cluster']}\nsplit: {{}}\n{name}"
    assert explorer._legend.hover_text == card.format("test")
    assert explorer._mosaic.titles == [f"{card.format('test')}\n{point['annotation_id']}"]
    explorer.assign("val")
    assert explorer._legend.hover_text == card.format("val"), "the card that is on the page follows the edit"
    assert explorer._mosaic.titles == [f"{card.format('val')}\n{point['annotation_id']}"]
    explorer.undo()
    assert "split: test" in explorer._legend.hover_text
    assert explorer._legend.hover_picture == world.crops([world.points["annotation_id"].iloc[row]])[0]


def test_shares_that_miss_their_target_are_pointed_out(draft: SplitDraft) -> None:
    assert [share_note(share, 0.2) for share in (0, 0.05, 0.1, 0.4, 0.5)] == ["none", "low", "", "", "high"]
    assert share_note(0.3, 0.0) == ""
    balance = draft.numbers().classes
    boxes = np.array([[90, 10, 0, 0], [10, 90, 100, 5], [50, 0, 0, 0], [0, 0, 0, 3]])
    told = balance_rows(replace(balance, labels=("a", "b", "c", "d"), boxes=boxes), balance, draft.target, by_size=True)
    assert [row["label"] for row in told["rows"]] == ["b", "a", "c", "d"]
    assert [row["share"] for row in told["rows"]] == [0.9, 0.1, 0, 0]
    assert told["rows"][0]["test"] == 0.5
    assert [row["note"] for row in told["rows"]] == ["high", "", "none", "none"]


def test_part_colours_are_fixed_whatever_the_counts() -> None:
    colours = part_colouring("split", np.array([1, 1, 3], dtype=np.int32))
    assert colours.labels == PARTS
    assert colours.colours == tuple(PART_COLOURS.values())
    assert colours.counts == (0, 2, 0, 1)
    assert part_colouring("split", np.array([-1, 0], dtype=np.int32)).labels[-1] == "(not in the split)"


def test_still_picture_shows_the_parts_in_their_colours(world: ExplorerWorld, draft: SplitDraft) -> None:
    draft.assign(draft.img_paths[:1], "test")
    picture = split_picture(world.points, draft)
    assert (picture.mode, picture.size) == ("RGB", (1280, 660))
    found = {"#{:02X}{:02X}{:02X}".format(*colour) for _, colour in picture.getcolors(maxcolors=1_000_000) or []}
    assert {PART_COLOURS[part] for part in ("train", "val", "test")} <= found
    many = explorer_world(500, 100, classes=[f"{name} {n}" for n in range(5) for name in NAMES], clusters=40)
    other = SplitDraft(by_groups(many.snapshot, group_by=["video"]), many.snapshot)
    assert split_picture(many.points, other).size == (1280, 660)
    with pytest.raises(DatasetError, match="img_path"):
        split_picture(world.points.drop(columns="img_path"), draft)


def test_it_starts_in_the_colours_of_the_parts_and_offers_what_tells_something(world: ExplorerWorld) -> None:
    marks = world.snapshot.annotations.drop(columns=["img_path", "object_class", "task_name"])
    points = world.points.merge(marks, on="annotation_id").assign(outlier_score=0.5, my_own="a")
    draft = SplitDraft(by_groups(world.snapshot, group_by=["video"]), world.snapshot)
    explorer = SplitExplorer(points, draft)
    assert explorer.colour_by == "split"
    assert [title for title, _ in explorer._colour_menu.options] == [
        *("split", "class", "cluster", "task", "session", "camera", "video", "size", "distortion", "outlier score"),
        "my own",
    ]
    explorer.colour_by = "x1"
    assert explorer._colour_menu.value == explorer.colour_by == "x1", "Python may still ask for any column"
    explorer._colour_menu.value = "cluster"
    assert explorer.colour_by == "cluster"


def test_what_was_selected_in_python_is_what_moves(world: ExplorerWorld, draft: SplitDraft) -> None:
    explorer = SplitExplorer(world.points.sample(frac=1, random_state=4), draft)
    ids = world.points["annotation_id"].iloc[[5, 300]].tolist()
    explorer.selected = tuple(ids)
    expected = set(world.points["img_path"].iloc[[5, 300]])
    assert set(explorer.selected_frames) == expected
    explorer.assign("excluded")
    assert set(explorer.split.part("excluded")) == expected
    assert pd.Series(explorer.data()["annotation_id"]).isin(ids).all()
