"""Did the fix help: the same training on both annotations, both judged on both vals, nothing trained twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from obdb_lib.errors import DatasetError
from obdb_lib.fix_effect import AFTER, AS_IT_WAS, BEFORE, REPAIRED, FixEffect, fix_effect
from obdb_lib.fold_plan import FoldModel
from obdb_lib.fold_training import FoldRecipe
from obdb_lib.frames import FrameStore
from obdb_lib.kept_detections import Kept
from obdb_lib.snapshots import BOX, Snapshot, with_annotations
from obdb_lib.splits import Split, by_groups
from tests.folds_world import SETTINGS, Trainings, field, twins, videos
from tests.helpers import snapshot_of

World = tuple[Snapshot, Snapshot, Split]
"""Annotations with every second box missing, the whole ones, and a split by video."""


def worlds(records: list[Any]) -> World:
    whole = snapshot_of(records)
    split_of = by_groups(whole, group_by=["video"], shares={"train": 0.67, "val": 0.33})
    before = with_annotations(whole, whole.annotations.iloc[::2])
    return before, whole, split_of


@pytest.fixture(scope="module")
def many() -> World:
    """Thirty videos: enough groups for an interval."""
    return worlds(videos(30))


class Pretended:
    """Detectors that need no training: what each seed and side finds on val."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.found: dict[tuple[int, str], pd.DataFrame] = {}
        self.asked: list[int] = []
        patch.setattr(FoldRecipe, "model", lambda recipe, model, progress, how: self.model(recipe, model))
        patch.setattr(FoldRecipe, "is_trained", lambda recipe, model: False)

    def model(self, recipe: FoldRecipe, model: FoldModel) -> tuple[dict[str, Any], Kept]:
        self.asked.append(recipe.settings.seed)
        arm = (BEFORE, AFTER)[self.asked[:-1].count(recipe.settings.seed) % 2]
        table = self.found[recipe.settings.seed, arm].assign(score=0.9)
        note = {"run_id": f"{arm}{recipe.settings.seed}", "checkpoint": "", "seconds": 1.0}
        return note, Kept(table[table["img_path"].isin(model.judged)], model.judged, {}, False)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    return Pretended(monkeypatch)


def compare(world: World, folder: Path, **more: Any) -> FixEffect:
    before, after, split = world
    paths = before.frames["img_path"].tolist()
    given = {"duplicates": twins(paths), "save_dir": folder, "resamples": 200, **more}
    return fix_effect(before, after, split, FrameStore([]), SETTINGS, **given)


def numbers(found: FixEffect, val: str, measure: str = "mAP50") -> pd.Series:
    return found.table.set_index(["val", "measure"]).loc[(val, measure)]


def test_detector_that_learned_the_missing_boxes__is_better_on_the_repaired_val(
    many: World, tmp_path: Path, pretended: Pretended
) -> None:
    before, after, split = many
    for seed in (3, 4):
        pretended.found |= {(seed, BEFORE): before.annotations, (seed, AFTER): after.annotations}
    found = compare(many, tmp_path, seeds=(3, 4))
    assert numbers(found, REPAIRED)["after"] == pytest.approx(1)
    assert numbers(found, REPAIRED)["before"] < 0.7
    assert numbers(found, AS_IT_WAS)["before"] == pytest.approx(1)
    assert numbers(found, AS_IT_WAS)["difference"] < 0, "plants that nobody annotated count against it there"
    row = numbers(found, REPAIRED)
    assert 0 < row["low"] <= row["difference"] <= row["high"]
    assert row["difference"] == pytest.approx(row["after"] - row["before"])
    assert found.text.startswith("The fix helped: on the repaired val mAP50 went from ")
    assert "on val as it was mAP50 went from 1.000" in found.text
    own = set(split.part("val"))
    lost = set(after.annotations["annotation_id"]) - set(before.annotations["annotation_id"])
    inside = after.annotations[after.annotations["annotation_id"].isin(lost)]["img_path"].isin(own).sum()
    assert found.changed == {"train": len(lost) - inside, "val": inside}
    assert f"{len(lost) - inside} annotations of train and {inside} of val were changed" in found.text
    assert found.trainings[["seed", "arm"]].to_numpy().tolist() == [
        [3, "before"],
        [3, "after"],
        [4, "before"],
        [4, "after"],
    ]
    assert set(found.differences[REPAIRED].table["object_class"]) == {"(all)", *after.classes}
    assert json.loads(json.dumps(found.to_dict()))["text"] == found.text


def test_the_worse_and_the_undecided__are_said_so(many: World, tmp_path: Path, pretended: Pretended) -> None:
    before, after, _ = many
    pretended.found = {(0, BEFORE): after.annotations, (0, AFTER): before.annotations}
    worse = compare(many, tmp_path, seeds=(0,))
    assert worse.text.startswith("The fix did harm: on the repaired val")
    assert "one training a side says nothing of the luck of training" in worse.text
    pretended.found = {(0, BEFORE): after.annotations, (0, AFTER): after.annotations}
    same = compare(many, tmp_path, seeds=(0,))
    assert same.text.startswith("Whether the fix helped cannot be told from these frames")
    assert numbers(same, REPAIRED)["difference"] == 0


def test_several_seeds__are_averaged_and_their_disagreement_is_told(
    many: World, tmp_path: Path, pretended: Pretended
) -> None:
    before, after, _ = many
    pretended.found = {
        **{(0, BEFORE): before.annotations, (0, AFTER): after.annotations},
        **{(1, BEFORE): after.annotations, (1, AFTER): before.annotations},
    }
    found = compare(many, tmp_path, seeds=(0, 1))
    seeds = found.by_seed[(found.by_seed["val"] == REPAIRED) & (found.by_seed["measure"] == "mAP50")]
    assert seeds["difference"].tolist() == [pytest.approx(-seeds["difference"].iloc[1]), seeds["difference"].iloc[1]]
    assert numbers(found, REPAIRED)["difference"] == pytest.approx(0)
    assert found.text.startswith("Whether the fix helped cannot be told from these trainings")
    assert "they disagree" in found.text
    one = compare(many, tmp_path, seeds=(0,))
    assert numbers(one, REPAIRED)["difference"] == pytest.approx(seeds["difference"].iloc[0])


def test_few_groups__are_warned_of(tmp_path: Path, pretended: Pretended) -> None:
    world = worlds(videos(6))
    pretended.found = {(0, BEFORE): world[0].annotations, (0, AFTER): world[1].annotations}
    found = compare(world, tmp_path, seeds=(0,))
    assert "Only 2 groups of frames were judged" in found.text
    assert found.warnings


def test_only_val_was_repaired__there_was_nothing_to_learn(many: World, tmp_path: Path, pretended: Pretended) -> None:
    before, after, split = many
    in_val = after.annotations["img_path"].isin(split.part("val"))
    kept = after.annotations["annotation_id"].isin(before.annotations["annotation_id"])
    only_val = with_annotations(after, after.annotations[in_val | kept])
    pretended.found = {(0, BEFORE): after.annotations, (0, AFTER): after.annotations}
    found = compare((before, only_val, split), tmp_path, seeds=(0,))
    assert found.changed["train"] == 0
    assert found.text.startswith("The detectors are the same: no annotation of train was changed")


def test_mistakes__are_told(many: World, tmp_path: Path) -> None:
    before, after, split = many
    with pytest.raises(DatasetError, match="nothing was repaired"):
        compare((before, before, split), tmp_path)
    with pytest.raises(DatasetError, match="hold other frames"):
        compare((before, worlds(videos(4))[1], split), tmp_path)
    for seeds in ((), (1, 1)):
        with pytest.raises(DatasetError, match="seeds must be"):
            compare(many, tmp_path, seeds=seeds)
    with pytest.raises(DatasetError, match="name no variant"):
        fix_effect(
            before, after, split, FrameStore([]), SETTINGS.model_copy(update={"variants": []}), save_dir=tmp_path
        )
    with pytest.raises(DatasetError, match=r"none of the \d+ val frames can be read; the first: image"):
        compare(many, tmp_path)


def test_trainings__differ_in_their_annotations_alone_and_none_is_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, frames = field(tmp_path / "images", videos())
    before = with_annotations(whole, whole.annotations.iloc[1:].assign(object_class="Fat hen"))
    after = with_annotations(whole, whole.annotations.assign(object_class=["Dandelion"] + ["Fat hen"] * 23))
    split = by_groups(
        whole,
        group_by=["video"],
        shares={"train": 0.67, "val": 0.33},
        fixed={whole.annotations["img_path"][0]: "train"},
    )
    trainings = Trainings(monkeypatch)
    steps: list[int] = []
    folder = tmp_path / "runs"

    def run(seeds: tuple[int, ...] = (5,), end: Snapshot = after, **more: Any) -> FixEffect:
        given = {"save_dir": folder, "duplicates": None, "resamples": 20, "seeds": seeds, **more}
        return fix_effect(before, end, split, frames, SETTINGS, **given)

    part = run(stop=lambda: bool(steps.append(1)) or len(steps) == 9)  # six steps are the first training
    assert part.partial
    assert part.table.empty
    assert part.text == "No pair of trainings is finished yet. It was stopped; the same call goes on."
    assert part.trainings["arm"].tolist() == ["before"]
    found = run()
    assert [result.partial for result in trainings.results] == [False, True, False]
    assert trainings.results[2].run_id == trainings.results[1].run_id
    assert trainings.train[0] == trainings.train[2] == tuple(split.part("train"))
    first, second = (trainings.results[number] for number in (0, 2))
    assert first.classes == second.classes == ("Dandelion", "Fat hen"), "a class the repair brought is known to both"
    assert first.settings["options"] == second.settings["options"]
    assert first.settings["data"] != second.settings["data"]
    assert first.settings["options"]["seed"] == 5
    assert set(found.table["val"]) == {AS_IT_WAS, REPAIRED}
    assert found.table[["before", "after"]].notna().all(axis=None)
    assert all(Path(path).exists() for path in found.trainings["checkpoint"])
    again = run()
    pd.testing.assert_frame_equal(again.table, found.table)
    assert len(trainings.train) == 3
    more = with_annotations(after, after.annotations.assign(x2=after.annotations["x2"] + 1))
    run(end=more)
    assert len(trainings.train) == 4, "only the side that was changed is trained"
    moved = after.annotations.copy()
    moved.loc[moved["img_path"].isin(split.part("val")), BOX] += 1
    run(end=with_annotations(after, moved))
    assert len(trainings.train) == 4, "annotations of val train nothing"
