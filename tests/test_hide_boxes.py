"""Hiding boxes and judging how they are found again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pandas as pd
import pytest

from obdb_lib.candidates import MISSING
from obdb_lib.errors import DatasetError
from obdb_lib.finder import find
from obdb_lib.hide_boxes import WAYS, hide, hide_and_find
from obdb_lib.ranking import calibration_error, judge_ranking, seconds_per_decision
from obdb_lib.snapshots import BOX
from tests.finding_world import detected, field


@pytest.mark.parametrize("how", WAYS)
def test_hidden_and_left_are_all_boxes(how: str) -> None:
    snapshot, _ = field(seed=1, frames=20)
    hidden = hide(snapshot, 0.2, how=how, seed=3)
    ids = [*hidden.snapshot.annotations["annotation_id"], *hidden.boxes["annotation_id"]]
    assert sorted(ids) == sorted(snapshot.annotations["annotation_id"])
    assert len(hidden.boxes) == pytest.approx(0.2 * len(snapshot.annotations), abs=8)
    assert hidden.snapshot.id != snapshot.id
    assert hide(snapshot, 0.2, how=how, seed=3).boxes.equals(hidden.boxes)
    assert not hide(snapshot, 0.2, how=how, seed=4).boxes.equals(hidden.boxes)


def test_each_way_hides_what_it_says() -> None:
    snapshot, _ = field(seed=1, frames=20)
    sides = snapshot.annotations[BOX].to_numpy(float)
    areas = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
    small = hide(snapshot, 0.2, how="small").boxes[BOX].to_numpy(float)
    assert ((small[:, 2] - small[:, 0]) * (small[:, 3] - small[:, 1])).max() <= np.quantile(areas, 0.34)
    by_class = hide(snapshot, 0.2, how="by_class").boxes["object_class"].value_counts()
    every = snapshot.annotations["object_class"].value_counts()
    assert (by_class - 0.2 * every).abs().max() < 1
    regions = hide(snapshot, 0.1, how="regions")
    touched = regions.boxes["img_path"].nunique()
    assert touched < 0.6 * len(regions.boxes)  # several of a frame go together


@pytest.mark.parametrize(
    ("share", "how", "said"), [(0.0, "random", "between 0 and 1"), (0.1, "odd", "are hidden random")]
)
def test_wrong_wishes__are_told(share: float, how: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        hide(field(frames=3)[0], share, how=how)


def test_precision_and_recall_of_a_list_by_hand() -> None:
    right = np.array([True, False, True, True, False])
    judged = judge_ranking(right, np.array([5.0, 4.0, 3.0, 2.0, 1.0]), 4, decision_s=3.0)
    assert judged.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])
    assert judged.recall.tolist() == pytest.approx([0.25, 0.25, 0.5, 0.75, 0.75])
    assert judged.average_precision == pytest.approx(0.25 * 1 + 0.5 * 0.75)
    assert judged.recall_at == pytest.approx({0.5: 0.75, 0.8: 0.25, 0.9: 0.25})
    assert judged.seconds_per_box == pytest.approx({0.5: 5.0, 0.8: 3.0, 0.9: 3.0})
    assert np.isnan(judged.calibration_error)
    with pytest.raises(DatasetError, match="nothing was hidden"):
        judge_ranking(right, np.arange(5.0), 0)


def test_calibration_error_by_hand() -> None:
    said = np.array([0.1] * 10 + [0.9] * 10)
    right = np.array([False] * 9 + [True] + [True] * 5 + [False] * 5)
    assert calibration_error(said, right, bins=2) == pytest.approx(0.2)


def test_a_persons_seconds_come_from_the_journal() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    times = [0, 2, 4, 6, 600, 603]
    rows = [{"who": "ann", "when": start + timedelta(seconds=at)} for at in times]
    rows.append({"who": "ann", "when": start + timedelta(seconds=4.1), "rule": "all"})
    assert seconds_per_decision(rows) == pytest.approx(2.0)
    assert seconds_per_decision(rows[:2]) is None
    assert seconds_per_decision([]) is None


def test_a_page_accepted_at_once_was_looked_at_before() -> None:
    """40 boxes looked through in 80 s, saved 6 ms apart: 2 s each, one time among those of single decisions."""
    start = datetime(2026, 5, 1, tzinfo=UTC)

    def at(second: float, **more: object) -> dict[str, object]:
        return {"who": "ann", "verdict": "accept", "when": start + timedelta(seconds=second), **more}

    page = [at(80 + 0.006 * number) for number in range(40)]
    assert seconds_per_decision([at(0), *page]) is None, "one time is too few"
    singles = [at(0), *page, at(90.234), at(93.234)]
    assert seconds_per_decision(singles) == pytest.approx(3.0)
    assert seconds_per_decision([*singles, at(95.234)]) == pytest.approx((80.234 / 40 + 3) / 2)
    other = [at(0.5), at(1.1, verdict="undo"), at(1.6, redoes="x"), at(2.0, recorded="d.json"), at(3.0, rule="all")]
    assert seconds_per_decision([*singles, *(one | {"who": "bob"} for one in other)]) == pytest.approx(3.0)


def test_frames_that_nobody_annotated_do_not_count_as_wrong(caplog: pytest.LogCaptureFixture) -> None:
    snapshot, lost = field(seed=9, frames=24, forgotten=0.0)
    detections = detected(snapshot, lost)
    names = snapshot.frames["img_path"].tolist()
    bare = snapshot.frames.head(12).assign(task_name="bare", img_path=[f"bare/{name}" for name in names[:12]])
    wider = replace(snapshot, frames=pd.concat([snapshot.frames, bare], ignore_index=True))
    there = detections[detections["img_path"].isin(names[:12])]
    more = pd.concat([detections, there.assign(img_path="bare/" + there["img_path"])], ignore_index=True)
    tables = []
    for one, table in ((snapshot, detections), (wider, more)):
        finder = partial(find, table, kinds=[MISSING])
        tables.append(hide_and_find(one, finder, ways=("random",), shares=(0.2,))[0])
    ap = [float(table["average_precision"].iloc[0]) for table in tables]
    assert ap[1] == pytest.approx(ap[0], abs=0.15)
    table, curves = hide_and_find(snapshot, lambda left: find(detections, left), ways=("random",), among=["nowhere"])
    assert (len(table), curves) == (0, {})
    assert "nothing is hidden random" in caplog.text


def test_the_finder_brings_hidden_boxes_back() -> None:
    snapshot, lost = field(seed=9, frames=30, forgotten=0.0)
    detections = detected(snapshot, lost)
    table, curves = hide_and_find(
        snapshot,
        lambda left: find(detections, left, kinds=[MISSING]),
        ways=("random", "small"),
        shares=(0.1, 0.2),
        decision_s=2.0,
    )
    assert table["how"].tolist() == ["random", "random", "small", "small"]
    assert table["share"].tolist() == [0.1, 0.2, 0.1, 0.2]
    assert (table["average_precision"] > 0.5).all()
    assert (table["recall_at_0.5"] >= table["recall_at_0.9"]).all()
    assert curves["random", 0.1].hidden == round(0.1 * len(snapshot.annotations))
    assert table["seconds_per_box_0.5"].between(2, 4).all()
