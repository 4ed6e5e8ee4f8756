"""The manifest tells what a split rests on, refuses what no longer fits, and moves on to newer data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from obdb_lib import manifest
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import DriftError, FormatError, SplitError
from obdb_lib.leaks import report
from obdb_lib.records import TaskRecord
from obdb_lib.snapshots import Snapshot, frame_stamps
from obdb_lib.split_draft import SplitDraft, replay
from obdb_lib.splits import BUILDER, Edit, Split, by_groups, every_nth, make_split, split_from_documents
from obdb_lib.store import Store
from tests.helpers import random_boxes, snapshot_of, task

TASKS = [f"FieldData 2020052{day}145736 {camera} GH0{day}0068" for day in range(4) for camera in ("1L", "2R")]


def records(frames: int = 6, tasks: list[str] = TASKS, *, seed: int = 0) -> list[TaskRecord]:
    """Each frame's boxes are its own, so that a longer video begins with those of a shorter one."""
    made = []
    for name in tasks:
        boxes = {
            frame: [("Fat hen", box) for box in random_boxes(np.random.default_rng([seed, len(made), frame]), 2)]
            for frame in range(frames)
        }
        made.append(task(name, frames, boxes))
    return made


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return snapshot_of(records())


@pytest.fixture(scope="module")
def split(snapshot: Snapshot) -> Split:
    return by_groups(snapshot, group_by=["video"], shares={"train": 0.5, "val": 0.25, "test": 0.25})


def edited(split: Split, snapshot: Snapshot) -> Split:
    draft = SplitDraft(split, snapshot)
    draft.assign([split.part("train")[0]], "val")
    draft.assign([split.part("val")[2]], "excluded")
    draft.assign([split.part("train")[0]], BUILDER)
    draft.keep_groups_whole = False
    draft.assign(split.part("test")[3:5], "train")
    return draft.result()


def test_a_manifest_gives_its_split_back(split: Split, snapshot: Snapshot, tmp_path: Path) -> None:
    mine = edited(split, snapshot)
    told = report(mine, snapshot)
    written = manifest.write(tmp_path / "split.json", mine, snapshot, told)
    loaded = manifest.load(tmp_path / "split.json")
    again = manifest.read(tmp_path / "split.json")
    pd.testing.assert_frame_equal(again.frames, mine.frames)
    assert (again.id, again.edits, dict(again.built), again.strategy) == (
        *(mine.id, mine.edits, dict(mine.built), mine.strategy),
    )
    assert again.group_by == ("video",)
    assert loaded.hash == written.hash == manifest.make(again, snapshot).hash
    assert loaded.report == json.loads(json.dumps(told.as_dict()))
    assert manifest.check(tmp_path / "split.json", snapshot).id == mine.id


def test_it_reads_as_a_line_a_frame_and_a_moved_frame_is_two_lines(
    split: Split, snapshot: Snapshot, tmp_path: Path
) -> None:
    manifest.write(tmp_path / "a.json", split, snapshot)
    table = split.frames.copy()
    row = int(np.flatnonzero(table["part"] == "val")[0])
    table.loc[row, "part"] = "train"
    manifest.write(tmp_path / "b.json", make_split(snapshot.id, split.strategy, table, split.parameters), snapshot)
    first, second = ((tmp_path / name).read_text().splitlines() for name in ("a.json", "b.json"))
    moved = [line for line in set(first) ^ set(second) if table.loc[row, "img_path"] in line]
    assert all(line.count("frame") <= 1 or "fielddata" in line for line in first)
    assert len([line for line in first if "fielddata/" in line]) == len(snapshot.frames)
    # The frame's own line is the same but for the comma before the end of a list; hash and counts differ.
    assert len(set(first) ^ set(second)) - len(moved) <= 8
    assert str(tmp_path) not in (tmp_path / "a.json").read_text()


def test_the_same_split_gives_the_same_bytes(split: Split, snapshot: Snapshot, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        manifest.write(tmp_path / name / "split.json", split, snapshot, report(split, snapshot))
    assert (tmp_path / "a" / "split.json").read_bytes() == (tmp_path / "b" / "split.json").read_bytes()


def test_replayed_edits_give_the_identical_hash(split: Split, snapshot: Snapshot, store: Store, tmp_path: Path) -> None:
    """A person edits; the split goes to MongoDB; headless, the strategy runs again and stored edits are replayed."""
    mine = edited(split, snapshot)
    by_hand = manifest.write(tmp_path / "split.json", mine, snapshot, report(mine, snapshot))
    store.save_split(*mine.documents())
    stored = split_from_documents(*store.split(mine.id))
    rebuilt = by_groups(snapshot, group_by=["video"], shares={"train": 0.5, "val": 0.25, "test": 0.25})
    for edits in (stored.edits, manifest.read(tmp_path / "split.json").edits):
        assert manifest.make(replay(rebuilt, edits), snapshot).hash == by_hand.hash
    assert manifest.make(stored, snapshot).hash == by_hand.hash
    assert manifest.make(replay(rebuilt, stored.edits[:-1]), snapshot).hash != by_hand.hash


def test_the_hash_is_of_content_and_not_of_noise(split: Split, snapshot: Snapshot) -> None:
    whole = manifest.make(split, snapshot, report(split, snapshot)).hash

    def hashed(**parameters: object) -> str:
        return manifest.make(replace(split, parameters={**split.parameters, **parameters}), snapshot).hash

    assert hashed() == whole  # the report is not in it
    assert hashed(solver={"seconds": 3.2, "bound": 0.01}) == whole
    assert hashed(shares={"train": 0.5, "val": 0.25, "test": 1 - 0.75 + 1e-16}) == whole
    assert hashed(shares={"train": 0.5, "val": 0.2501, "test": 0.2499}) != whole
    assert hashed(seed=1) != whole
    other = replace(split, edits=(Edit("val", (split.part("val")[0],)),))
    assert manifest.make(other, snapshot).hash != whole
    assert manifest.make(replace(split, strategy="given"), snapshot).hash != whole


def test_stamps_say_which_frames_differ_exactly_when_the_ids_do(snapshot: Snapshot) -> None:
    assert frame_stamps(snapshot_of(records())).equals(frame_stamps(snapshot))
    changes: list[Callable[[list[TaskRecord]], object]] = [
        lambda world: world[2].annotations[0].update(object_class="Dandelion"),
        lambda world: world[2].annotations[0].update(occluded=True),
        lambda world: world[2].annotations[0].update(points=[1, 1, 20, 20]),
        lambda world: world[2].annotations[0].update(source="auto"),
        lambda world: world[2].annotations.pop(0),
        lambda world: world[2].meta["frames"][0].update(width=97),
    ]
    for change in changes:
        world = records()
        change(world)
        other = snapshot_of(world)
        assert other.id != snapshot.id
        differing = frame_stamps(other) != frame_stamps(snapshot)
        assert differing[differing].index.tolist() == [world[2].meta["frames"][0]["name"]]


def test_drifted_data_is_refused_by_name(split: Split, snapshot: Snapshot, tmp_path: Path) -> None:
    manifest.write(tmp_path / "split.json", split, snapshot)
    world = records(7)  # one new frame in each of the eight videos
    world[0].annotations[0]["points"] = [1.0, 1.0, 20.0, 20.0]
    world.pop(3)  # six frames gone, and its new one never came
    later = snapshot_of(world)
    found = manifest.drift(manifest.load(tmp_path / "split.json"), later)
    assert (len(found.new), len(found.gone)) == (7, 6)
    assert found.changed == [world[0].meta["frames"][0]["name"]]
    with pytest.raises(DriftError) as refused:
        manifest.check(tmp_path / "split.json", later)
    told = str(refused.value)
    for word in ("7 frames new", "6 frames gone", "1 frames with other boxes", found.changed[0], "manifest.migrate"):
        assert word in told
    with pytest.raises(SplitError, match=r"was made for snapshot .*manifest.migrate"):
        manifest.write(tmp_path / "other.json", split, later)
    assert not (tmp_path / "other.json").exists()


def part_of(split: Split, video: str) -> set[str]:
    rows = split.frames[split.frames["img_path"].str.contains(video)]
    return set(rows["part"])


def test_migration_places_new_frames_by_their_group(split: Split, snapshot: Snapshot, tmp_path: Path) -> None:
    manifest.write(tmp_path / "split.json", split, snapshot)
    new = "FieldData 20200529145736 1L GH090001"
    later = snapshot_of([*records(8)[1:], *records(4, [new])])  # two frames more a video, one video gone, one new
    moved = manifest.migrate(manifest.load(tmp_path / "split.json"), later)
    manifest.write(tmp_path / "later.json", moved.split, later)
    assert manifest.check(tmp_path / "later.json", later).id == moved.split.id
    before, after = split.parts(), moved.split.parts()
    kept = before.index.intersection(after.index)
    assert (before[kept] == after[kept]).all()
    assert set(after.index) == set(later.frames["img_path"])
    sides = later.frames.assign(part=later.frames["img_path"].map(after))
    assert (sides.groupby("video")["part"].nunique() == 1).all()
    why = moved.moves["why"].value_counts().to_dict()
    assert why == {"its group": 14, "gone": 6, "share": 4}
    assert moved.split.parameters["migrated"] == {
        "from_split": split.id,
        "from_snapshot": snapshot.id,
        "its_group": 14,
        "share": 4,
        "joins_parts": 0,
        "buffer": 0,
        "gone": 6,
    }
    assert "14 new frames followed their group, 4 of new groups" in str(moved)


def test_new_groups_go_where_most_frames_are_missing(snapshot: Snapshot) -> None:
    table = pd.DataFrame({"img_path": snapshot.frames["img_path"], "part": "train"})
    table.loc[table["img_path"].str.contains("20200520"), "part"] = "val"  # 12 of 48 frames
    made = make_split(snapshot.id, "groups", table, {"group_by": ["video"], "shares": {"train": 0.6, "val": 0.4}})
    fresh = [f"FieldData 2020053{day}145736 1L GH090001" for day in range(3)]
    later = snapshot_of([*records(), *(one for n, name in enumerate(fresh) for one in records(4 + 4 * n, [name]))])
    moved = manifest.migrate(made, later)
    # 72 frames: wanted 43.2 / 28.8, there are 36 / 12. 12 frames go to val (24), 8 to train (44), 4 to val (28).
    assert [part_of(moved.split, name.split()[1]).pop() for name in fresh] == ["val", "train", "val"]


def twins_of(snapshot: Snapshot, pairs: list[tuple[str, str]]) -> DuplicateGroups:
    names = snapshot.frames["img_path"].tolist()
    groups = pd.Series(range(len(names)), index=names)
    for first, second in pairs:
        groups[groups == groups[second]] = groups[first]
    return DuplicateGroups(groups, pd.DataFrame(pairs, columns=["first", "second"]).assign(correlation=0.9))


def test_a_new_frame_that_joins_two_parts_is_told_and_excluded(snapshot: Snapshot) -> None:
    made = by_groups(
        snapshot,
        group_by=["video", "duplicate_group"],
        duplicates=twins_of(snapshot, []),
        shares={"train": 0.5, "val": 0.5},
    )
    later = snapshot_of([*records(), *records(2, ["FieldData 20200529145736 1L GH090001"])])
    bridge = [path for path in later.frames["img_path"] if "GH090001" in path]
    pairs = [(bridge[0], made.part("train")[0]), (bridge[1], made.part("val")[0])]
    with pytest.raises(SplitError, match="pass duplicates=find_duplicates"):
        manifest.migrate(made, later)
    moved = manifest.migrate(made, later, duplicates=twins_of(later, pairs))
    assert [moved.split.parts()[path] for path in bridge] == ["excluded", "excluded"]
    assert moved.moves["why"].tolist() == ["joins parts", "joins parts"]
    assert list(moved.torn_groups.values()) == [("train", "val")]
    assert "2 new frames belong to groups that stand in several parts and were excluded" in str(moved)
    assert report(moved.split, later, duplicates=twins_of(later, pairs)).largest_leak == 0
    # By video alone they join nothing: one group of their own.
    by_video = later.frames.set_index("img_path")["video"]
    alone = manifest.migrate(made, later, groups=by_video)
    assert len(part_of(alone.split, "GH090001")) == 1
    assert alone.moves["why"].tolist() == ["share", "share"]


def test_migration_of_a_split_that_tears_videos_adds_no_leak(snapshot: Snapshot) -> None:
    later = snapshot_of(records(7))
    moved = manifest.migrate(every_nth(snapshot, n=3), later)
    assert set(moved.moves["why"]) == {"joins parts"}
    assert moved.split.part("excluded") == moved.moves["img_path"].tolist()
    same = manifest.migrate(every_nth(snapshot, n=3), snapshot)
    assert same.moves.empty
    assert "8 groups of known frames stand in several parts; they were left there" in str(same)


def test_time_blocks_keep_their_buffers() -> None:
    first = snapshot_of(records(8, TASKS[:2]))  # numbers 0 to 35: blocks of 10 with 5 between
    made = by_groups(
        first, group_by=["time_block"], block_frames=10, buffer_frames=5, shares={"train": 0.5, "val": 0.5}
    )
    later = snapshot_of(records(11, TASKS[:2]))  # 40 is between two blocks, 45 and 50 are a new block
    moved = manifest.migrate(made, later)
    why = moved.moves.set_index("img_path")["why"]
    assert {path[-8:-4]: reason for path, reason in why.items() if "1L" in path} == {
        "0040": "buffer",
        "0045": "share",
        "0050": "share",
    }
    parts = moved.split.parts()
    assert {parts[path] for path in why.index[why == "buffer"]} == {"excluded"}
    assert report(moved.split, later).adjacent_leak == 0
    assert "2 new frames lie between two time blocks" in str(moved)


def test_groups_that_the_data_does_not_tell_are_asked_for(snapshot: Snapshot) -> None:
    own = {path: path.split("/")[1] for path in snapshot.frames["img_path"]}
    made = by_groups(snapshot, group_by=["given"], given=own, shares={"train": 0.5, "val": 0.5})
    later = snapshot_of(records(7))
    with pytest.raises(SplitError, match="pass groups=, as given cannot be told"):
        manifest.migrate(made, later)
    by_day = {path: path.split("/")[1] for path in later.frames["img_path"]}
    assert set(manifest.migrate(made, later, groups=by_day).moves["why"]) == {"its group"}


def test_edits_survive_a_migration_and_can_still_be_undone(split: Split, snapshot: Snapshot) -> None:
    mine = edited(split, snapshot)
    world = [one for one in records() if one.meta["frames"][0]["name"] != split.part("train")[0]]
    later = snapshot_of([*world, *records(2, ["FieldData 20200529145736 1L GH090001"])])
    moved = manifest.migrate(mine, later).split
    assert 0 < len(moved.edits) <= len(mine.edits)
    draft = SplitDraft(moved, later)  # refuses edits that do not give the frames
    while draft.undo():
        pass
    before = split.parts()
    kept = before.index.intersection(draft.parts().index)
    assert (draft.parts()[kept] == before[kept]).all()


def test_nothing_in_common_is_no_migration(split: Split) -> None:
    other = snapshot_of(records(2, ["FieldData 20200529145736 1L GH090001"]))
    with pytest.raises(SplitError, match="not one of the 48 frames"):
        manifest.migrate(split, other)


def change(path: Path, act: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    act(content)
    path.write_text(json.dumps(content, indent=1))


def move_by_hand(content: dict[str, Any]) -> None:
    name, stamp = content["frames"]["val"].popitem()
    content["frames"]["train"][name] = stamp


def in_two_parts(content: dict[str, Any]) -> None:
    name = next(iter(content["frames"]["val"]))
    content["frames"]["train"][name] = content["frames"]["val"][name]


ACTS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (move_by_hand, r"changed after it was written.*counts 24 frames in train, 25 are there.*explorer"),
    (in_two_parts, r"'fielddata/.*png' stands in (test|train|val) and in (test|train|val)"),
    (lambda c: c["frames"].update(vall=c["frames"].pop("val")), "'vall' is no part"),
    (lambda c: c["parameters"].update(seed=7), "changed after it was written"),
    (lambda c: c.update(snapshot_id="other"), "changed after it was written"),
    (lambda c: c["edits"].append({"part": "vall", "img_paths": []}), "its edits or parameters cannot be read"),
    (lambda c: c["edits"].append("all to val"), "its edits or parameters cannot be read"),
    (lambda c: c.pop("strategy"), "lacks strategy"),
    (lambda c: c.update(format="obdb-lab split manifest 9"), "it is 'obdb-lab split manifest 9'"),
    (lambda c: c.update(frames={"val": []}), "not grouped by part"),
    (lambda c: c.update(frames={}), "no frame at all"),
]


@pytest.mark.parametrize(("act", "word"), ACTS)
def test_files_changed_by_hand_are_refused(
    split: Split, snapshot: Snapshot, tmp_path: Path, act: Callable[[dict[str, Any]], object], word: str
) -> None:
    path = tmp_path / "split.json"
    manifest.write(path, split, snapshot)
    change(path, lambda content: None)  # other white space is no change
    assert manifest.read(path).id == split.id
    change(path, act)
    with pytest.raises(FormatError, match=word) as refused:
        manifest.load(path)
    assert str(path) in str(refused.value)


def test_damaged_files_are_refused(split: Split, snapshot: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    manifest.write(path, split, snapshot)
    text = path.read_text()
    cases = {
        "cut off": (text[: len(text) // 2], "not whole JSON"),
        "a frame twice": (
            text.replace('"train": {\n', '"train": {\n   "a.png": "x",\n   "a.png": "y",\n', 2),
            "stands twice",
        ),
        "a list": ("[]", "holds a list"),
        "something else": ("{}", "no manifest that this version reads"),
        "binary": ("\ud800", "not whole JSON"),
    }
    for content, word in cases.values():
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        with pytest.raises(FormatError, match=word):
            manifest.load(path)
    with pytest.raises(FormatError, match="cannot be read"):
        manifest.load(tmp_path / "absent.json")
