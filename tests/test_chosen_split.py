"""What notebook 02 hands on: edits come back when it is run again, and a split that cannot be used is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib.chosen_split import NO_EDITS, SplitKeeper
from obdb_lib.clusters import Clusters
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.errors import SplitError
from obdb_lib.snapshots import Snapshot
from obdb_lib.split_draft import SplitDraft
from obdb_lib.splits import Split, by_groups, every_nth
from obdb_lib.stages import STAGES, read_result
from obdb_lib.store import Store
from tests.helpers import random_boxes, snapshot_of, task


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    boxes = {frame: [("Fat hen", box) for box in random_boxes(np.random.default_rng(frame), 2)] for frame in range(6)}
    return snapshot_of([task(f"FieldData 2020052{day}145736 1L GH0{day}0068", 6, boxes) for day in range(5)])


@pytest.fixture
def keeper(snapshot: Snapshot, store: Store, tmp_path: Path) -> SplitKeeper:
    frames, ids = snapshot.frames["img_path"], snapshot.annotations["annotation_id"].to_numpy(object)
    pairs = pd.DataFrame({"first": [], "second": [], "correlation": [], "kind": []})
    alone = DuplicateGroups(pd.Series(np.arange(len(frames)), index=frames), pairs)
    vectors = np.random.default_rng(0).standard_normal((len(ids), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    clusters = Clusters(pd.Series(np.arange(len(ids)) % 2, index=ids))
    return SplitKeeper(
        store, tmp_path, snapshot, alone, clusters, Embeddings(ids, vectors, "own"), compared=every_nth(snapshot, n=3)
    )


def built(snapshot: Snapshot) -> Split:
    return by_groups(snapshot, group_by=["video"])


def edited(snapshot: Snapshot) -> Split:
    draft = SplitDraft(built(snapshot), snapshot)
    draft.assign(built(snapshot).part("train")[:1], "val")
    draft.assign(built(snapshot).part("train")[6:7], "excluded")
    return draft.result()


def test_edits_that_were_kept_come_back_when_the_notebook_is_run_again(keeper: SplitKeeper, snapshot: Snapshot) -> None:
    assert keeper.with_edits(built(snapshot)).edits == ()
    keeper.keep(edited(snapshot))
    again = keeper.with_edits(built(snapshot))
    assert again.id == edited(snapshot).id
    assert again.edits == edited(snapshot).edits
    assert keeper.with_edits(built(snapshot), NO_EDITS).edits == ()
    elsewhere = replace(keeper, folder=keeper.folder / "other")
    assert elsewhere.with_edits(built(snapshot)).edits == (), "another run, other edits"
    assert elsewhere.with_edits(built(snapshot), again.id).id == again.id, "asked for by name"


def test_edits_of_a_split_that_began_otherwise_stay_away(keeper: SplitKeeper, snapshot: Snapshot) -> None:
    keeper.keep(edited(snapshot))
    assert keeper.with_edits(every_nth(snapshot)).edits == ()
    with pytest.raises(SplitError, match=r"EDITS: there is no split 'deadbeef' .* leave EDITS empty"):
        keeper.with_edits(built(snapshot), "deadbeef")


@pytest.mark.parametrize(("part", "lacking"), [("val", "train"), ("train", "val"), ("test", "train")])
def test_a_split_without_boxes_on_a_side_is_refused(
    keeper: SplitKeeper, snapshot: Snapshot, part: str, lacking: str
) -> None:
    draft = SplitDraft(built(snapshot), snapshot)
    draft.assign(draft.img_paths, part)
    with pytest.raises(SplitError, match=f"{lacking} has no boxes: .*; put frames with boxes into it"):
        keeper.keep(draft.result())
    assert read_result(keeper.folder, STAGES[1], default={}) == {}, "nothing was written"


def test_the_leak_that_is_told_counts_test_too(keeper: SplitKeeper, snapshot: Snapshot) -> None:
    draft = SplitDraft(built(snapshot), snapshot)
    draft.keep_groups_whole = False
    draft.assign(built(snapshot).part("train")[1:2], "test")
    keeper.keep(draft.result())
    summary = read_result(keeper.folder, STAGES[1])["summary"]
    assert summary["leak"] == 1.0, "the only test frame has its neighbours in train"
    assert summary["edits"] == 1
