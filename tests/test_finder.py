"""Evidence, acceptance probabilities and the ranking built on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib.acceptance import ACCEPTED, ANNOTATED, ASKED, OPEN, REJECTED, acceptance, calibrated, plant_share
from obdb_lib.candidates import BAD_LOCATION, MISSING, SPURIOUS, SWAPPED_CLASS, find_candidates
from obdb_lib.duplicates import DuplicateGroups, find_duplicates
from obdb_lib.errors import DatasetError
from obdb_lib.evidence import Claims, Scene, evidence
from obdb_lib.finder import decided_places, find
from obdb_lib.frames import FrameStore
from obdb_lib.likeness import likeness
from obdb_lib.ranking import calibration_error, judge_ranking, right_ones
from obdb_lib.snapshots import BOX
from obdb_lib.twin_frames import twin_frames
from tests.finding_world import detected, field
from tests.helpers import snapshot_of, task, write_frames


def pair_of(names: list[str], **place: float) -> DuplicateGroups:
    """Two frames that show the same ground, the second laid over the first as told."""
    told = {"turn": 0.0, "zoom": 1.0, "shift_x": 0.0, "shift_y": 0.0, "mirrored": 0.0, **place}
    row = {"first": names[0], "second": names[1], "kind": "near", "correlation": 1.0, **told}
    groups = pd.Series(0, index=pd.Index(names, name="img_path"))
    return DuplicateGroups(groups, pd.DataFrame([row]))


# -- twin frames ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [0.0, 12.0, 180.0])
def test_a_box_is_laid_where_real_duplicates_show_it(tmp_path: Path, turn: float, mirrored: bool) -> None:
    from PIL import Image

    from tests.twins import ground

    first = Image.fromarray(ground(3, 512)).crop((0, 0, 400, 300))
    second = first.rotate(turn, resample=Image.Resampling.BICUBIC)
    second = second.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else second
    first.save(tmp_path / "a.png")
    second.save(tmp_path / "b.png")
    frames = pd.DataFrame({"img_path": ["a.png", "b.png"], "width": 400, "height": 300})
    found = find_duplicates(["a.png", "b.png"], FrameStore([tmp_path]))
    twins = twin_frames(frames, found)
    box = np.array([[180, 100, 220, 140]], dtype=np.float32)
    row, twin, laid = twins.projected(np.array([0]), box)
    assert row.tolist() == [0]
    assert twin.tolist() == [1]
    # The picture is turned about its middle, anticlockwise as seen.
    angle = np.radians(turn)
    x, y = 200 - 200, 120 - 150
    middle = 200 + x * np.cos(angle) + y * np.sin(angle), 150 - x * np.sin(angle) + y * np.cos(angle)
    wanted = (400 - middle[0] if mirrored else middle[0], middle[1])
    assert ((laid[0, :2] + laid[0, 2:]) / 2).tolist() == pytest.approx(wanted, abs=3)
    back = twins.projected(np.array([1]), laid.astype(np.float32))[2]
    assert ((back[0, :2] + back[0, 2:]) / 2).tolist() == pytest.approx([200, 120], abs=1)


def test_frames_of_other_sizes_and_shifts__are_laid_over_each_other() -> None:
    frames = pd.DataFrame({"img_path": ["a", "b", "c"], "width": [400, 200, 400], "height": [300, 150, 300]})
    twins = twin_frames(frames, pair_of(["a", "b"], shift_x=0.25))
    # b is half as large and its middle lies 100 px further right on a.
    row, twin, laid = twins.projected(np.array([1, 2]), np.array([[80, 60, 120, 90], [0, 0, 9, 9]], dtype=np.float32))
    assert (row.tolist(), twin.tolist()) == ([0], [0])
    assert laid.tolist() == [pytest.approx([260, 120, 340, 180])]
    outside = twins.projected(np.array([0]), np.array([[0, 0, 20, 20]], dtype=np.float32))
    assert len(outside[0]) == 0  # b does not show that corner of a
    assert len(twin_frames(frames, None).projected(np.array([0]), np.zeros((1, 4), np.float32))[0]) == 0


# -- evidence ------------------------------------------------------------------------------------------------------


def test_neighbouring_frames_and_second_looks_speak_for_a_plant() -> None:
    record = task(frames=2, boxes={1: [("Dandelion", [10, 10, 30, 30])]}, size=(96, 64))
    snapshot = snapshot_of([record])
    names = snapshot.frames["img_path"].tolist()
    box = [10.0, 10.0, 30.0, 30.0]
    claims = pd.DataFrame(
        [
            (names[0], "Dandelion", *box, 0.6),
            (names[0], "Fat hen", *box, 0.6),
            (names[0], "Dandelion", 60, 30, 80, 50, 0.6),
        ],
        columns=["img_path", "object_class", *BOX, "score"],
    )
    looks = pd.DataFrame(
        [(names[0], "Dandelion", *box, 0.6, "plain"), (names[0], "Dandelion", *box, 0.8, "mirrored")],
        columns=["img_path", "object_class", *BOX, "score", "look"],
    )
    twins = twin_frames(snapshot.frames, pair_of(names))
    nobody = np.full(3, "", dtype=object)
    numbers = evidence(Claims(claims, nobody), Scene(snapshot.annotations, looks, twins))
    assert np.isfinite(numbers.to_numpy()).all()
    assert numbers["drawn"].tolist() == pytest.approx([1, 0, 0])
    assert numbers["drawn_any"].tolist() == pytest.approx([1, 1, 0])
    assert numbers["twins"].tolist() == pytest.approx([np.log(2)] * 3)
    unseen = np.log(1e-4 / (1 - 1e-4))
    assert numbers["second_look"].tolist() == pytest.approx([np.log(4), unseen, unseen])
    assert numbers["other_class"][1] == pytest.approx(np.log(1.5), abs=1e-5)


def test_an_annotation_taken_as_not_drawn_does_not_count_for_itself() -> None:
    record = task(
        frames=1, boxes={0: [("Dandelion", [10, 10, 30, 30]), ("Dandelion", [20, 10, 40, 30])]}, size=(96, 64)
    )
    snapshot = snapshot_of([record])
    drawn = snapshot.annotations
    claims = drawn[["img_path", "object_class", *BOX]].assign(score=0.5).reset_index(drop=True)
    scene = Scene(drawn, claims.iloc[:0], twin_frames(snapshot.frames, None))
    own = evidence(Claims(claims, drawn["annotation_id"].to_numpy(object)), scene)["overlap"]
    assert own.tolist() == pytest.approx([1 / 3, 1 / 3])
    anyone = evidence(Claims(claims, np.full(2, "", dtype=object)), scene)["overlap"]
    assert anyone.tolist() == pytest.approx([1, 1])


def test_detectors_that_agree_are_averaged() -> None:
    record = task(frames=1, boxes={0: [("Dandelion", [60, 10, 80, 30])]}, size=(96, 64))
    snapshot = snapshot_of([record])
    name = snapshot.frames["img_path"][0]
    rows = [(name, "Dandelion", 10, 10, 30, 30, 0.8, 0), (name, "Dandelion", 11, 10, 31, 30, 0.4, 1)]
    table = pd.DataFrame(rows, columns=["img_path", "object_class", *BOX, "score", "fold"])
    scene = Scene(snapshot.annotations, table, twin_frames(snapshot.frames, None))
    numbers = evidence(Claims(table.drop(columns="fold"), np.full(2, "", dtype=object)), scene)
    assert numbers["looks"].tolist() == pytest.approx([0.6, 0.6])
    assert numbers["folds"].tolist() == pytest.approx([1, 1])
    table.loc[1, BOX] = [50, 40, 60, 50]  # the second detector looked, and sees something else
    numbers = evidence(
        Claims(table.drop(columns="fold"), np.full(2, "", dtype=object)), Scene(scene.annotations, table, scene.twins)
    )
    assert numbers["looks"].tolist() == pytest.approx([0.4, 0.2])
    assert numbers["folds"].tolist() == pytest.approx([0.5, 0.5])


def test_crops_are_compared_with_drawn_plants_of_other_frames(tmp_path: Path, data_cache: Path) -> None:
    boxes = {n: [("Fat hen", [10, 10, 40, 40]), ("Dandelion", [50, 20, 80, 50])] for n in range(3)}
    record = task(frames=3, boxes=boxes)
    snapshot = snapshot_of([record])
    store = FrameStore([write_frames(tmp_path, [record])])
    name = snapshot.frames["img_path"][0]
    rows = [
        (name, "Fat hen", 10, 10, 40, 40, 0.5),
        (name, "Dandelion", 10, 10, 40, 40, 0.5),
        ("gone", "Fat hen", 0, 0, 9, 9, 0.5),
    ]
    claims = pd.DataFrame(rows, columns=["img_path", "object_class", *BOX, "score"])
    found = likeness(Claims(claims, np.full(3, "", dtype=object)), snapshot, store, embedder="colour_lab")
    assert found["like_margin"][0] > 0.1  # green as fat hen is
    assert found["like_margin"][1] == pytest.approx(-found["like_margin"][0])
    assert found.iloc[2].tolist() == [0, 0, 0]


# -- probabilities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_the_share_of_plants_and_their_probability_are_estimated_without_labels(share: float) -> None:
    rng = np.random.default_rng(1)
    plants, others = rng.normal(2, 1, 3000), rng.normal(-2, 1, 3000)
    count = round(share * 2000)
    mixed = np.concatenate([plants[:count], others[: 2000 - count]])
    truth = np.arange(2000) < count
    known = rng.normal(2, 1, 1500)
    said = plant_share(known, mixed)
    assert said == pytest.approx(share, abs=0.06)
    curve = calibrated(known, mixed, said, np.empty(0), np.empty(0, dtype=bool))
    assert calibration_error(curve(mixed), truth) < 0.05


def test_decisions_move_the_probability() -> None:
    rng = np.random.default_rng(2)
    known, mixed = rng.normal(1, 1, 500), rng.normal(0, 1, 400)
    none = calibrated(known, mixed, 0.3, np.empty(0), np.empty(0, dtype=bool))
    judged = mixed[:200]
    yes = calibrated(known, mixed, 0.3, judged, np.ones(200, dtype=bool))
    no = calibrated(known, mixed, 0.3, judged, np.zeros(200, dtype=bool))
    assert no(np.array([0.5])) < none(np.array([0.5])) < yes(np.array([0.5]))


def test_too_little_to_learn_from__says_so_and_keeps_the_score() -> None:
    table = pd.DataFrame({"score": [0.0, 2.0, -2.0]})
    found = acceptance(table, np.array([ANNOTATED, OPEN, OPEN], dtype=object), np.arange(3))
    assert not found.learned
    assert found.probability.tolist() == pytest.approx([0.5, 0.881, 0.119], abs=1e-3)
    assert "Too little to learn from" in found.text


def test_mistakes__are_told() -> None:
    one = pd.DataFrame({"score": [0.0]})
    with pytest.raises(DatasetError, match="a claim is one of"):
        acceptance(one, np.array(["maybe"], dtype=object), np.zeros(1, dtype=np.int64))
    with pytest.raises(DatasetError, match="finite"):
        acceptance(one * np.nan, np.array([OPEN], dtype=object), np.zeros(1, dtype=np.int64))
    with pytest.raises(DatasetError, match="not alike"):
        acceptance(one, np.array([OPEN, OPEN], dtype=object), np.zeros(1, dtype=np.int64))


def test_asked_claims_teach_nothing() -> None:
    rng = np.random.default_rng(3)
    values = pd.DataFrame({"score": np.concatenate([rng.normal(2, 1, 100), rng.normal(-1, 1, 100)])})
    state = np.array([ANNOTATED] * 100 + [OPEN] * 100, dtype=object)
    groups = np.arange(200, dtype=np.int64) % 20
    alone = acceptance(values, state, groups)
    more = pd.concat([values, pd.DataFrame({"score": [5.0] * 50})], ignore_index=True)
    also = np.concatenate([state, np.full(50, ASKED, dtype=object)])
    # New groups, so that the folds of the others stay as they were only by chance; the scores must stay alike.
    asked = acceptance(more, also, np.concatenate([groups, groups[:50]]))
    assert np.corrcoef(asked.plant[:200], alone.plant)[0, 1] > 0.98
    assert asked.probability[200:].min() > np.median(asked.probability[100:200])
    assert asked.share == pytest.approx(alone.share, abs=0.05)


# -- the whole -----------------------------------------------------------------------------------------------------


def test_forgotten_boxes_come_first__and_the_probabilities_hold() -> None:
    snapshot, lost = field(seed=4)
    detections = detected(snapshot, lost)
    found = find(detections, snapshot, kinds=[MISSING])
    table = found.candidates
    right = right_ones(table, lost)
    ours = judge_ranking(right, -np.arange(len(table)), len(lost), probability=table["probability"].to_numpy())
    score = judge_ranking(right, table["score"].to_numpy(float), len(lost))
    assert ours.average_precision > score.average_precision + 0.1
    assert ours.calibration_error < 0.06
    assert found.expected[MISSING] == pytest.approx(right.sum(), rel=0.25)
    assert (np.diff(table["probability"]) <= 0).all()
    assert find(detections, snapshot, kinds=[MISSING]).candidates.equals(table)


def test_no_frame_is_lost() -> None:
    snapshot, lost = field(seed=5, frames=31)
    detections = detected(snapshot, lost)
    paths = snapshot.frames["img_path"].tolist()
    detections = detections[~detections["img_path"].isin(paths[:2])].reset_index(drop=True)
    detections.attrs["unreadable"] = {paths[2]: "damaged"}
    found = find(detections, snapshot)
    assert found.candidates.attrs["images"] == 30
    assert found.candidates.attrs["unreadable"] == {paths[2]: "damaged"}


def test_every_kind_has_a_probability() -> None:
    snapshot, lost = field(seed=6, forgotten=0.05)
    drawn = snapshot.annotations.copy()
    other = {"Dandelion": "Fat hen", "Fat hen": "Dandelion"}
    drawn.loc[::10, "object_class"] = drawn.loc[::10, "object_class"].map(other)
    detections = detected(snapshot, lost)
    rng = np.random.default_rng(0)
    gone = drawn["img_path"].isin(drawn["img_path"].unique()[:8]) & (rng.random(len(drawn)) < 0.5)
    middle = drawn.loc[gone, BOX].to_numpy(float)
    for box in middle:
        near = (np.abs(detections[BOX].to_numpy(float) - box) < 12).all(axis=1)
        detections = detections[~near].reset_index(drop=True)
    found = find(detections, type(snapshot)(**{**snapshot.__dict__, "annotations": drawn}))
    table = found.candidates
    assert {MISSING, SWAPPED_CLASS, SPURIOUS} <= set(table["kind"])
    assert table["probability"].between(0, 1).all()
    mean = table.groupby("kind")["probability"].mean()
    assert mean[SWAPPED_CLASS] > mean[MISSING] + 0.2  # all of them are right, and few of the missing ones
    assert "swapped_class" in found.text


def test_decisions_are_learned_from_by_place() -> None:
    snapshot, lost = field(seed=7)
    detections = detected(snapshot, lost)
    before = find(detections, snapshot, kinds=[MISSING]).candidates
    shown = before.iloc[:20]
    suggestions = [
        {
            "_id": str(n),
            "img_path": r.img_path,
            "kind": r.kind,
            "object_class": r.object_class,
            "points": [r.x1, r.y1, r.x2, r.y2],
        }
        for n, r in enumerate(shown.itertuples())
    ]
    rejected = {one["_id"]: {"verdict": "reject"} for one in suggestions}
    decided = decided_places(suggestions, rejected)
    assert len(decided) == 20
    after = find(detections, snapshot, kinds=[MISSING], decided=decided)
    assert after.candidates["probability"].sum() < before["probability"].sum() - 2
    assert "20 decisions" in after.text
    by_rule = {name: {**one, "rule": "all"} for name, one in rejected.items()}
    assert not len(decided_places(suggestions, by_rule))


def test_a_candidate_table_without_annotations_is_ranked_by_score() -> None:
    snapshot, lost = field(seed=8, frames=6, forgotten=1.0)
    found = find(detected(snapshot, lost, mirrored=False), snapshot, kinds=[MISSING, BAD_LOCATION, SPURIOUS])
    table = found.candidates
    assert not found.acceptance.learned
    assert table["score"].is_monotonic_decreasing
    assert table["probability"].isna().all()  # a score is no probability
    every = find_candidates(detected(snapshot, lost, mirrored=False), snapshot, kinds=[MISSING])
    assert len(table[table["kind"] == MISSING]) == len(every)


def test_what_is_learned_does_not_hang_on_the_kinds_asked_for() -> None:
    snapshot, lost = field(seed=6, frames=30)
    detections = detected(snapshot, lost)
    every = find(detections, snapshot).candidates
    some = find(detections, snapshot, kinds=[MISSING]).candidates
    assert every[every["kind"] == MISSING].reset_index(drop=True).equals(some)


def test_accepted_as_another_class__is_no_yes_to_what_was_proposed() -> None:
    one = {"_id": "1", "img_path": "a", "kind": MISSING, "object_class": "Fat hen", "points": [0, 0, 9, 9]}
    accepted = {"1": {"verdict": "accept", "object_class": "Dandelion"}}
    assert decided_places([one], accepted)["verdict"].tolist() == ["reject"]
    assert decided_places([one], {"1": {"verdict": "accept", "object_class": "Fat hen"}})["verdict"].tolist() == [
        "accept"
    ]


def test_states_are_words_of_one_list() -> None:
    assert len({OPEN, ANNOTATED, ACCEPTED, REJECTED, ASKED}) == 5
