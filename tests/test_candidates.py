"""What counts as a candidate and of which kind: hand-made scenes, dense rows, and no frame lost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from obdb_lib.boxes import BoxSet, iou_matrix
from obdb_lib.candidates import KINDS, find_candidates
from obdb_lib.errors import DatasetError
from obdb_lib.explained import suppress
from obdb_lib.frame_matching import FlatBoxes, overlapping
from tests.helpers import snapshot_of, task

COLUMNS = ["x1", "y1", "x2", "y2", "object_class", "score", "img_path"]
Item = tuple[float, float, float, float, str, float]


def table(*items: Item, frame: str = "f") -> pd.DataFrame:
    made = pd.DataFrame([(*item, frame) for item in items], columns=COLUMNS)
    return made.assign(annotation_id=[f"n{number}" for number in range(len(items))])


def kinds_of(detections: pd.DataFrame, annotations: pd.DataFrame, **options: object) -> list[tuple[str, str, float]]:
    """(kind, class, score) of each candidate."""
    found = find_candidates(detections, annotations, **{"min_score": 0.02, **options})
    return [(row.kind, row.object_class, round(float(row.score), 2)) for row in found.itertuples()]


PLANT = (10, 10, 50, 50, "a", 1.0)
SEEN = (11, 10, 50, 50, "a", 0.9)


@pytest.mark.parametrize(
    ("detections", "wanted", "why"),
    [
        ([(12, 11, 51, 50, "a", 0.9)], [], "the annotated plant itself"),
        ([SEEN, (60, 10, 90, 50, "a", 0.9)], [("missing", "a", 0.9)], "another plant"),
        ([(10, 10, 50, 27, "a", 0.6)], [("bad_location", "a", 0.6)], "not even half of the annotation is the plant"),
        ([(11, 11, 50, 50, "b", 0.9)], [("swapped_class", "b", 0.9)], "annotated as another class"),
        ([(11, 11, 50, 50, "b", 0.9), (10, 10, 50, 50, "a", 0.3)], [("swapped_class", "b", 0.9)], "far more sure of b"),
        ([(11, 11, 50, 50, "b", 0.6), (10, 10, 50, 50, "a", 0.5)], [], "not far more sure of b: a second box"),
        ([(40, 10, 80, 50, "a", 0.9), SEEN], [("missing", "a", 0.9)], "a neighbour that overlaps a little"),
        ([(60, 60, 90, 90, "b", 0.9)], [("missing", "b", 0.9), ("spurious", "a", 0.0)], "nothing on the annotation"),
        ([(10, 10, 50, 50, "a", 0.04)], [("spurious", "a", 0.04)], "next to nothing on the annotation"),
        ([(10, 10, 50, 50, "b", 0.04)], [("spurious", "a", 0.0)], "nor does another class support it"),
        ([(10, 10, 50, 50, "b", 0.6)], [("swapped_class", "b", 0.6)], "another class supports that there is a plant"),
        ([], [("spurious", "a", 0.0)], "an empty frame was judged all the same"),
    ],
)
def test_one_annotation_and_what_was_detected(detections: list[Item], wanted: list, why: str) -> None:
    judged = kinds_of(table(*detections), table(PLANT), img_paths=["f"])
    assert sorted(judged) == sorted(wanted), why


def test_a_sure_box_is_not_a_candidate_because_a_weak_one_fits_better() -> None:
    sure, weak = (10, 10, 50, 33, "a", 0.9), (10, 16, 50, 50, "a", 0.05)
    assert kinds_of(table(sure, weak), table(PLANT)) == []
    # Without the first turn of the sure ones the weak box takes the annotation.
    assert kinds_of(table(sure, weak), table(PLANT), sure_score=0.0) == [("missing", "a", 0.9)]


def test_the_strongest_of_several_rivals_swaps() -> None:
    """Not the one that fits best: of a plant's three names the surest is proposed, and nothing else."""
    rivals = [(10, 10, 50, 38, "b", 0.9), (10, 10, 50, 49, "c", 0.3)]
    assert kinds_of(table(*rivals), table(PLANT)) == [("swapped_class", "b", 0.9)]


def test_a_second_box_on_the_detection_that_an_annotation_explains() -> None:
    """It hardly lies on the annotation (.53), but on the detection (.81)."""
    explained, second = (10, 10, 50, 36, "a", 0.9), (10, 12, 50, 33, "b", 0.6)
    assert kinds_of(table(explained, second), table(PLANT)) == []
    assert kinds_of(table(explained, second), table(PLANT), repeat_iou=0.9) == [("missing", "b", 0.6)]


def test_a_second_box_beside_a_bad_location() -> None:
    loose, second = (10, 10, 50, 28, "a", 0.9), (10, 15, 50, 30, "a", 0.6)
    assert kinds_of(table(loose, second), table(PLANT), merge_iou=0.7) == [("bad_location", "a", 0.9)]


def test_repeated_detections_of_one_plant_count_once() -> None:
    detections = table(
        (60, 10, 90, 50, "a", 0.7), (61, 10, 91, 50, "b", 0.9), (12, 10, 50, 48, "a", 0.6), (10, 10, 50, 50, "a", 0.95)
    )
    found = find_candidates(detections, table(PLANT), min_score=0.02)
    assert found[["kind", "object_class", "merged"]].to_numpy().tolist() == [["missing", "b", 1]]


def dense_row(plants: int, step: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True boxes of 40 px in a row, each overlapping the next, and detections that are off by a pixel or two."""
    left = np.arange(plants) * step
    truth = np.stack([left, np.full(plants, 10.0), left + 40, np.full(plants, 50.0)], axis=1)
    return truth, np.clip(truth + rng.normal(0, 0.8, truth.shape), 0, None)


@pytest.mark.parametrize("step", [26.0, 18.0, 12.0])
def test_hidden_plants_of_a_dense_row_are_found(step: float) -> None:
    """Neighbours overlap by .21, .38, and .54: every third plant was not annotated, and all of them come back."""
    truth, found = dense_row(60, step, np.random.default_rng(3))
    hidden = np.arange(60) % 3 == 1
    annotations = table(*[(*box, "a", 1.0) for box in truth[~hidden]])
    detections = table(*[(*box, "a", 0.8) for box in found])
    options = {"merge_iou": 0.7, "repeat_iou": 0.7} if step < 15 else {}
    candidates = find_candidates(detections, annotations, **options)
    assert set(candidates["kind"]) == {"missing"}
    boxes = BoxSet(candidates[["x1", "y1", "x2", "y2"]].to_numpy(np.float32))
    best = iou_matrix(BoxSet(truth[hidden].astype(np.float32)), boxes)
    assert len(candidates) == hidden.sum()
    assert (best.max(axis=1) > 0.85).all()


def test_a_dense_neighbour_over_half_inside_an_annotation_is_kept_by_default() -> None:
    """It overlaps the annotation by .54, which its own detection explains; the old rule dropped it."""
    detections = table((10, 10, 50, 50, "a", 0.9), (22, 10, 62, 50, "a", 0.8))
    found = find_candidates(detections, table(PLANT))
    assert found[["kind", "x1"]].to_numpy().tolist() == [["missing", 22.0]]
    assert found["overlap"][0] == pytest.approx(28 / 52, abs=1e-4)
    assert found["inside"][0] == pytest.approx(0.7, abs=1e-4)
    assert len(find_candidates(detections, table(PLANT), repeat_iou=0.5)) == 0, "settable"


def test_a_neighbour_of_another_class_beside_an_undetected_annotation() -> None:
    detections = table((30, 10, 70, 50, "b", 0.9))
    assert kinds_of(detections, table(PLANT), spurious_below=0) == [("missing", "b", 0.9)]
    assert kinds_of(detections, table(PLANT), spurious_below=0, loose_other_class=True) == []


def test_the_annotation_concerned_is_named() -> None:
    annotations = table(PLANT, (12, 12, 50, 52, "a", 1.0))
    found = find_candidates(table((100, 100, 120, 120, "a", 0.5)), annotations)
    assert found["annotation_id"].tolist() == ["", "n0", "n1"]
    assert found["annotation_class"].tolist() == ["", "a", "a"]
    assert found["annotation_x1"].isna().tolist() == [True, False, False]
    assert found[["x1", "y1", "x2", "y2"]].to_numpy().tolist()[2] == [12, 12, 50, 52]
    other = float(
        iou_matrix(*(BoxSet(np.array([box[:4]], dtype=np.float32)) for box in (PLANT, (12, 12, 50, 52))))[0, 0]
    )
    assert found["overlap"].tolist()[1:] == pytest.approx([other, other]), "a spurious one's overlap is with any other"


def test_no_frame_is_lost() -> None:
    snapshot = snapshot_of([task(frames=5, boxes={0: [("Fat hen", [10, 10, 30, 30])], 3: [("Fat hen", [1, 1, 9, 9])]})])
    paths = snapshot.frames["img_path"].tolist()
    detections = pd.concat(
        [
            table((10, 10, 30, 30, "Fat hen", 0.9), frame=paths[0]),
            table((50, 10, 80, 40, "Dandelion", 0.8), frame=paths[1]),
            table((0, 0, 9, 9, "Fat hen", 0.9), frame="elsewhere.png"),
        ]
    )
    detections.attrs["unreadable"] = {paths[3]: "truncated", "elsewhere.png": "x"}
    found = find_candidates(detections, snapshot)
    assert found[["img_path", "kind"]].to_numpy().tolist() == [[paths[1], "missing"]]
    assert found.attrs == {
        "images": 4,
        "unreadable": {paths[3]: "truncated"},  # its annotation is not spurious: nobody looked
        "unknown": ["elsewhere.png"],
        "without_annotations": 3,
        "without_detections": 2,
        "kinds": {"missing": 1, "swapped_class": 0, "bad_location": 0, "spurious": 0},
    }
    two = find_candidates(detections, snapshot, img_paths=paths[1:3])
    assert two.attrs["images"] == 2
    assert two.attrs["unknown"] == sorted([paths[0], "elsewhere.png"])
    nothing = find_candidates(table(), snapshot, kinds=["missing"])
    assert len(nothing) == 0
    assert nothing.attrs["images"] == 5
    assert nothing.attrs["kinds"]["spurious"] == 2, "counted, though not asked for"


def test_one_threshold_a_class() -> None:
    detections = table((60, 10, 90, 40, "a", 0.3), (60, 60, 90, 90, "b", 0.3), (10, 60, 40, 90, "c", 0.3))
    nothing = table()
    assert len(find_candidates(detections, nothing, min_score=0.3)) == 3
    found = find_candidates(detections, nothing, min_score={"a": 0.5, "b": 0.2}, default_score=0.4)
    assert found["object_class"].tolist() == ["b"]


def test_kinds_are_a_filter_and_change_no_other_candidate() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200, (120, 2))
    boxes = np.hstack([corners, corners + rng.uniform(20, 60, (120, 2))])
    items = [(*box, "ab"[number % 2], float(rng.random())) for number, box in enumerate(boxes)]
    every = find_candidates(table(*items[:70]), table(*items[50:]))
    assert set(every["kind"]) == set(KINDS)
    for kind in KINDS:
        one = find_candidates(table(*items[:70]), table(*items[50:]), kinds=[kind])
        pd.testing.assert_frame_equal(one, every[every["kind"] == kind].reset_index(drop=True))
    concerned = every.loc[every["annotation_id"] != "", "annotation_id"]
    assert not concerned.duplicated().any(), "one correction an annotation"


def test_the_order_of_the_rows_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 150, (90, 2))
    boxes = np.hstack([corners, corners + rng.uniform(20, 60, (90, 2))])
    items = table(*[(*box, "ab"[number % 2], float(rng.random())) for number, box in enumerate(boxes)])
    first = find_candidates(items[:60], items[40:])
    again = find_candidates(items[:60].sample(frac=1, random_state=2), items[40:].sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(first, again)


def test_greedy_suppression_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 120, (300, 2))
    boxes = np.hstack([corners, corners + rng.uniform(20, 60, (300, 2))]).astype(np.float32)
    scores = rng.integers(0, 50, 300).astype(np.float32) / 50
    frame = rng.integers(0, 3, 300)
    flat = FlatBoxes(boxes, frame, np.zeros(300))
    into = suppress(overlapping(flat, flat, min_iou=0.4), scores)
    overlaps = iou_matrix(BoxSet(boxes), BoxSet(boxes)) * (frame[:, None] == frame[None, :])
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        by = [one for one in kept if overlaps[row, one] >= 0.4]
        assert into[row] == (by[0] if by else -1)
        if not by:
            kept.append(row)
    assert 20 < len(kept) < 200


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"kinds": ["mising"]}, "missing, swapped_class"),
        ({"kinds": "missing"}, "must be a list"),
        ({"loose_iou": 0.6}, "at most min_iou"),
        ({"min_iou": 0}, "min_iou must be above 0"),
        ({"rival_share": 2}, "rival_share must be 0..1"),
    ],
)
def test_wrong_options_are_refused(options: dict, word: str) -> None:
    with pytest.raises(DatasetError, match=word):
        find_candidates(table(), table(), **options)


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(DatasetError, match="score are missing"):
        find_candidates(table().drop(columns="score"), table())
    with pytest.raises(DatasetError, match="x2 are missing"):
        find_candidates(table(), table().drop(columns="x2"))
    with pytest.raises(DatasetError, match=r"1 are not, the first is 1\.5"):
        find_candidates(table((0, 0, 9, 9, "a", 1.5)), table())
    with pytest.raises(DatasetError, match="scores must be"):
        find_candidates(table((0, 0, 9, 9, "a", float("nan"))), table())
