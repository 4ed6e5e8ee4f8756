"""Who trains on what and judges what: every frame once for each look, nothing of a group on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib import fold_plan
from obdb_lib.errors import SplitError
from obdb_lib.fold_plan import NO_FOLD, FoldPlan, blank_frames, plan_folds
from obdb_lib.records import make_annotation, make_task
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import by_groups, every_nth
from tests.folds_world import twins, videos
from tests.helpers import CLASSES, snapshot_of, task

SNAPSHOT = snapshot_of(videos(7, 5))
PATHS = SNAPSHOT.frames["img_path"].tolist()
VIDEO = SNAPSHOT.frames.set_index("img_path")["video"]


def check_whole(plan: FoldPlan, snapshot: Snapshot, looks: int) -> None:
    judged = pd.Series([path for model in plan.models for path in model.judged]).value_counts()
    assert set(judged.index) == set(plan.fold_of.index[plan.fold_of != NO_FOLD])
    assert (judged == looks).all()
    video = snapshot.frames.set_index("img_path")["video"]
    for model in plan.models:
        assert not set(video[list(model.train)]) & set(video[list(model.judged)])


@pytest.mark.parametrize(("k", "looks"), [(2, 1), (3, 1), (3, 2), (5, 3)])
def test_each_frame__is_judged_by_models_that_know_nothing_of_its_video(k: int, looks: int) -> None:
    plan = plan_folds(SNAPSHOT, duplicates=twins(PATHS), k=k, looks=looks)
    check_whole(plan, SNAPSHOT, looks)
    assert len(plan.models) == k
    assert sorted(plan.fold_of.index) == sorted(PATHS)
    assert np.mean([len(model.train) for model in plan.models]) == pytest.approx((k - looks) / k * 35)
    assert plan.group_by == ("video", "duplicate_group")
    again = plan_folds(SNAPSHOT, duplicates=twins(PATHS), k=k, looks=looks)
    pd.testing.assert_series_equal(again.fold_of, plan.fold_of)


def test_near_twins__stay_on_one_side_whatever_grouping_is_asked_for() -> None:
    pairs = [(PATHS[0], PATHS[7]), (PATHS[12], PATHS[33])]
    for group_by, split in ((["video"], None), (None, every_nth(SNAPSHOT, n=5)), (["task"], None)):
        plan = plan_folds(SNAPSHOT, duplicates=twins(PATHS, *pairs), k=3, group_by=group_by, split=split)
        check_whole(plan, SNAPSHOT, 1)
        assert all(plan.fold_of[one] == plan.fold_of[other] for one, other in pairs)


def test_blocks_of_one_video__keep_the_splits_buffer_and_lose_no_frame() -> None:
    snapshot = snapshot_of([task(frames=40, step=1)])
    paths = snapshot.frames["img_path"].tolist()
    split = by_groups(
        snapshot,
        group_by=["time_block", "duplicate_group"],
        duplicates=twins(paths),
        block_frames=5,
        buffer_frames=2,
        class_minimum=0,
    )
    assert split.part("excluded"), "the split gives up the frames between its blocks"
    plan = plan_folds(snapshot, duplicates=twins(paths), k=3, split=split)
    number = snapshot.frames.set_index("img_path")["frame_number"].astype(int)
    assert sorted(path for model in plan.models for path in model.judged) == sorted(paths)
    for model in plan.models:
        assert model.train
        apart = np.abs(number[list(model.train)].to_numpy()[:, None] - number[list(model.judged)].to_numpy()[None])
        assert apart.min() > 2
    plain = plan_folds(snapshot, duplicates=twins(paths), k=3, group_by=["time_block"], split=split)
    assert plain.fold_of.nunique() == 3


def test_frames_without_annotations__train_none_and_are_judged_by_all_that_know_nothing_of_them() -> None:
    task_paths = [path for path in PATHS if VIDEO[path] == VIDEO[PATHS[0]]]
    folder = ["folder/a.png", "folder/b.png", "folder/c.png"]
    near = twins([*PATHS, *folder], (PATHS[8], folder[1]), (PATHS[13], folder[2]), (PATHS[8], PATHS[13]))
    plan = plan_folds(SNAPSHOT, duplicates=near, k=3, unannotated=[*task_paths, *folder])
    check_whole(plan, SNAPSHOT, 1)
    assert (plan.fold_of[[*task_paths, *folder]] == NO_FOLD).all()
    for model in plan.models:
        assert not set(model.train) & set(task_paths)
        assert set(task_paths) | {folder[0]} <= set(model.unannotated)
        own = plan.fold_of[PATHS[8]] == model.number
        assert (folder[1] in model.unannotated) == own, "only the model that left its twin's fold out"
    assert plan.near == ()


def test_frame_whose_twins_lie_in_every_training__is_judged_all_the_same_and_told() -> None:
    # One video has annotated parts in two folds' groups: the same ground, found by nobody as a twin of each other.
    half = [path for path in PATHS if VIDEO[path] == VIDEO[PATHS[0]]][:2]
    numbers = twins([*PATHS, "x.png", "y.png"])
    plan = plan_folds(SNAPSHOT, duplicates=numbers, k=3, unannotated=half)
    rest = [path for path in PATHS if VIDEO[path] == VIDEO[PATHS[0]]][2:]
    fold = plan.fold_of[rest[0]]
    for model in plan.models:
        assert bool(set(half) & set(model.unannotated)) == (model.number == fold), "its video trains the other models"
    three = [next(path for path in PATHS if plan.fold_of[path] == number) for number in range(3)]
    given = plan_folds(
        SNAPSHOT,
        duplicates=twins([*PATHS, "x.png"], *((one, "x.png") for one in three[:1])),
        k=3,
        unannotated=["x.png"],
    )
    assert sum("x.png" in model.unannotated for model in given.models) == 1


def test_blank_frames__are_those_of_tasks_without_any_box() -> None:
    assert blank_frames(SNAPSHOT) == [], "an empty frame of an annotated task is a negative"
    blank = task("FieldData 20210101000000 1L GH019999", frames=2)
    snapshot = snapshot_of([*videos(2), blank])
    assert blank_frames(snapshot) == [place["name"] for place in blank.meta["frames"]]


def test_dealing_is_kept__for_the_search_may_end_otherwise_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"duplicates": twins(PATHS), "k": 3, "folder": tmp_path}
    first = plan_folds(SNAPSHOT, **asked)
    real = fold_plan.k_folds
    monkeypatch.setattr(fold_plan, "k_folds", lambda *args, **more: real(*args, **more)[::-1])
    other = plan_folds(SNAPSHOT, **{**asked, "folder": tmp_path / "elsewhere"})
    assert not other.fold_of.equals(first.fold_of)
    pd.testing.assert_series_equal(plan_folds(SNAPSHOT, **asked).fold_of, first.fold_of)
    joined = {**asked, "duplicates": twins(PATHS, (PATHS[0], PATHS[7]))}
    for changed in ({**asked, "seed": 4}, {**asked, "k": 2}, {**asked, "group_by": ["task"]}, joined):
        plan_folds(SNAPSHOT, **changed)
    kept = sorted(tmp_path.glob("folds-*.json"))
    assert len(kept) == 5, "what is dealt otherwise has a file of its own"
    for file in kept:
        file.write_text("cut")
    pd.testing.assert_series_equal(plan_folds(SNAPSHOT, **asked).fold_of, other.fold_of)


def test_a_blank_folder__deals_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it changes the snapshot, the numbers of the twins and the grouping that the names would tell."""
    nameless = []
    for part in range(6):
        record = make_task(f"part {part}", CLASSES, [(f"images/{part}_{frame}.png", 96, 64) for frame in range(3)])
        record.annotations.append(make_annotation(record, 0, "Fat hen", (5, 5, 30, 30)))
        nameless.append(record)
    blank = task("FieldData 20190101000000 1L GH019999", 4)
    alone, both = snapshot_of(nameless), snapshot_of([blank, *nameless])
    paths = alone.frames["img_path"].tolist()
    first = plan_folds(alone, duplicates=twins(paths, (paths[0], paths[5])), k=3, folder=tmp_path)
    real = fold_plan.k_folds
    monkeypatch.setattr(fold_plan, "k_folds", lambda *args, **more: real(*args, **more)[::-1])
    every = [*blank_frames(both), *paths]
    asked = {"duplicates": twins(every, (paths[0], paths[5])), "k": 3, "folder": tmp_path}
    second = plan_folds(both, unannotated=blank_frames(both), **asked)
    assert len(list(tmp_path.glob("folds-*.json"))) == 1
    pd.testing.assert_series_equal(second.fold_of[paths].sort_index(), first.fold_of[paths].sort_index())
    assert [model.train for model in second.models] == [model.train for model in first.models]
    nameless[0].annotations.clear()
    redrawn = snapshot_of([blank, *nameless])
    plan_folds(redrawn, unannotated=blank_frames(both), **asked)
    assert len(list(tmp_path.glob("folds-*.json"))) == 2, "other annotations may be dealt otherwise"


def test_wrong_numbers__are_told() -> None:
    for looks in (0, 3):
        with pytest.raises(SplitError, match=f"looks must be 1 to k - 1; got looks {looks} and k 3"):
            plan_folds(SNAPSHOT, duplicates=twins(PATHS), k=3, looks=looks)
    with pytest.raises(SplitError, match="group_by must name"):
        plan_folds(SNAPSHOT, duplicates=twins(PATHS), k=3, group_by=["weather"])
    with pytest.raises(SplitError, match=r"form 7 group.*too few for 8 parts"):
        plan_folds(SNAPSHOT, duplicates=twins(PATHS), k=8)
