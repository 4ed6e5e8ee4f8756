"""Splits keep groups whole and parts balanced; the report tells the truth about any split."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib.balance import assign_groups, imbalance
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import SplitError
from obdb_lib.leaks import adjacent_leak, compare, near_duplicate_leak, report
from obdb_lib.naming import frame_number, parse_recording
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Edit, by_groups, default_grouping, every_nth, make_split, split_from_documents
from obdb_lib.store import Store
from tests.helpers import random_boxes, snapshot_of, task

TASKS = [
    f"FieldData 2020052{day}145736 {camera} GH0{day}0068" for day in range(3) for camera in ("1L", "2R", "3R", "4R")
]


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    rng = np.random.default_rng(0)
    records = []
    for name in TASKS:
        share = rng.uniform(0.2, 0.8)
        boxes = {
            frame: [("Fat hen" if rng.random() < share else "Dandelion", box) for box in random_boxes(rng, 3)]
            for frame in range(10)
        }
        records.append(task(name, 10, boxes))
    return snapshot_of(records)


def twins(snapshot: Snapshot, pairs: list[tuple[int, int]]) -> DuplicateGroups:
    names = snapshot.frames["img_path"].tolist()
    groups = pd.Series(range(len(names)), index=names)
    for a, b in pairs:
        groups[groups == groups.iloc[b]] = groups.iloc[a]
    table = pd.DataFrame({"first": [names[a] for a, _ in pairs], "second": [names[b] for _, b in pairs]})
    return DuplicateGroups(groups, table.assign(correlation=np.float32(0.9)))


def test_no_video_is_torn_apart_and_classes_are_balanced(snapshot: Snapshot) -> None:
    split = by_groups(snapshot, group_by=["video"], shares={"train": 0.75, "val": 0.25})
    sides = snapshot.frames.assign(part=snapshot.frames["img_path"].map(split.parts()))
    assert (sides.groupby("video")["part"].nunique() == 1).all()
    numbers = report(split, snapshot)
    assert numbers.frames == {"train": 90, "val": 30}
    assert numbers.shared_videos == numbers.adjacent_leak == 0
    assert all(abs(share - 0.25) < 0.08 for share in numbers.val_share_by_class.values())


def test_twins_in_two_videos_stay_together(snapshot: Snapshot) -> None:
    duplicates = twins(snapshot, [(5, 25), (25, 65), (31, 111)])
    for seed in range(5):
        split = by_groups(snapshot, duplicates=duplicates, seed=seed)
        assert near_duplicate_leak(split.parts(), duplicates) == 0
        assert report(split, snapshot, duplicates=duplicates).adjacent_leak == 0


def test_every_nth_is_upstreams_and_leaks(snapshot: Snapshot) -> None:
    split = every_nth(snapshot)
    assert len(split.part("val")) == 12
    assert all(path.endswith("frame0000.png") for path in split.part("val"))
    numbers = report(split, snapshot, duplicates=twins(snapshot, [(0, 1)]))
    assert numbers.adjacent_leak == 1.0
    assert numbers.shared_videos == 1.0
    assert numbers.near_duplicate_leak == pytest.approx(1 / 12)


def test_adjacent_leak_by_hand() -> None:
    frames = pd.DataFrame(
        {"img_path": list("abcdef"), "video": ["v"] * 5 + ["w"], "frame_number": [0, 5, 10, 20, 25, 0]}
    )
    frames["frame_number"] = frames["frame_number"].astype("Int64")
    parts = pd.Series(["train", "val", "val", "val", "excluded", "val"], index=list("abcdef"))
    assert adjacent_leak(parts, frames) == pytest.approx(1 / 4)  # b beside a; c, d and f have no train neighbour
    assert adjacent_leak(parts, frames, max_gap=10) == pytest.approx(2 / 4)


def test_split_survives_the_store_and_damage_is_noticed(snapshot: Snapshot, store: Store) -> None:
    split = by_groups(snapshot, group_by=["video"])
    store.save_split(*split.documents())
    document, frames = store.split(split.id)
    back = split_from_documents(document, frames)
    pd.testing.assert_frame_equal(back.frames, split.frames)
    frames[0]["part"] = "val" if frames[0]["part"] == "train" else "train"
    with pytest.raises(SplitError, match="damaged"):
        split_from_documents(document, frames)


def test_edits_are_stored_with_the_split(snapshot: Snapshot, store: Store) -> None:
    plain = every_nth(snapshot)
    names = plain.frames["img_path"].tolist()
    edits = (Edit("val", (names[3], names[1])), Edit("excluded", (names[1],)), Edit("builder", (names[3],)))
    edited = make_split(plain.snapshot_id, plain.strategy, plain.frames, plain.parameters, edits)
    store.save_split(*edited.documents())
    again = split_from_documents(*store.split(edited.id))
    assert again.edits == edits
    assert again.edits[0].img_paths == (names[1], names[3])
    with pytest.raises(SplitError, match="'vall'; the parts are train"):
        Edit("vall", (names[0],))


def test_same_seed_same_split(snapshot: Snapshot) -> None:
    assert by_groups(snapshot, group_by=["video"], seed=3).id == by_groups(snapshot, group_by=["video"], seed=3).id


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"group_by": ["vidoe"]}, "video, session"),
        ({"group_by": []}, "one or more"),
        ({"group_by": ["duplicate_group"]}, "find_duplicates"),
        ({"group_by": ["video"], "shares": {"train": 0.5, "val": 0.1}}, "sum 1"),
        ({"group_by": ["video"], "shares": {"train": 0.5, "valid": 0.5}}, "unknown parts"),
        ({"group_by": ["session"], "shares": {"train": 0.25, "val": 0.25, "test": 0.25, "excluded": 0.25}}, "too few"),
    ],
)
def test_impossible_splits_are_explained(snapshot: Snapshot, arguments: dict[str, object], word: str) -> None:
    with pytest.raises(SplitError, match=word):
        by_groups(snapshot, **arguments)


def test_search_finds_the_best_of_all_assignments() -> None:
    rng = np.random.default_rng(5)
    features = rng.integers(0, 20, size=(10, 4)).astype(np.float32)
    weights, shares = np.ones(4, dtype=np.float32), np.array([0.7, 0.3])
    relative = features / features.sum(axis=0)
    costs = [
        imbalance(np.stack([relative[np.array(p) == part].sum(axis=0) for part in (0, 1)]), weights, shares)
        for p in product((0, 1), repeat=10)
        if 0 < sum(p) < 10
    ]
    found = assign_groups(features, weights, shares)
    reached = imbalance(np.stack([relative[found == part].sum(axis=0) for part in (0, 1)]), weights, shares)
    assert float(reached) == pytest.approx(float(min(costs)), abs=1e-9)


def test_names_that_tell_no_video_are_held_by_twins_alone(snapshot: Snapshot) -> None:
    assert default_grouping(snapshot) == ("video", "duplicate_group")
    record = task(frames=4)
    for number, frame in enumerate(record.meta["frames"]):
        frame["name"] = f"images/agri_{number}.jpg"
    plain = snapshot_of([type(record)({**record.task, "name": "plain"}, {**record.meta, "task_name": "plain"}, [])])
    assert default_grouping(plain) == ("duplicate_group",)


def test_comparison_table_reads_as_a_person_expects(snapshot: Snapshot) -> None:
    table = compare([report(every_nth(snapshot), snapshot), report(by_groups(snapshot, group_by=["video"]), snapshot)])
    assert table.loc["val frames with the adjacent keyframe in train"].tolist() == ["100.0 %", "0.0 %"]
    assert table.loc["val frames with a near-duplicate in train"].tolist() == ["not known", "not known"]


@pytest.mark.parametrize(("part", "gap_1", "gap_5", "total"), [("full_hd", 701, 792, 808), ("4k", 799, 810, 810)])
def test_published_split_leaks_as_known(shared_data: Path, part: str, gap_1: int, gap_5: int, total: int) -> None:
    """Known answers of the published Openweeds split, as its README gives them."""
    lists = json.loads((shared_data / "openweeds" / part / "split.json").read_text())
    names = [*lists["val"], *lists["train"]]
    frames = pd.DataFrame({"img_path": names})
    frames["video"] = [parse_recording(name).key for name in names]
    frames["frame_number"] = pd.array([frame_number(name) for name in names], dtype="Int64")
    parts = pd.Series(["val"] * len(lists["val"]) + ["train"] * len(lists["train"]), index=names)
    assert len(lists["val"]) == total
    one, five = adjacent_leak(parts, frames), adjacent_leak(parts, frames, max_gap=5)
    assert one is not None
    assert five is not None
    assert (round(one * total), round(five * total)) == (gap_1, gap_5)
