"""The report of a split: every number against one counted by hand or by another way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from obdb_lib import nearest
from obdb_lib.box_statistics import box_statistics, frame_statistics
from obdb_lib.clusters import Clusters
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.findings import findings, told
from obdb_lib.formats import detect_and_read
from obdb_lib.given import given
from obdb_lib.leaks import compare, leaking_frames, report
from obdb_lib.naming import parse_recording
from obdb_lib.records import make_task
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.splits import Split, every_nth, make_split
from obdb_lib.store import with_ids
from tests.helpers import snapshot_of, task

VIDEOS = [f"FieldData 2020052{day}145736 {camera} GH0{day}0068" for day in range(3) for camera in ("1L", "2R")]
PER_VIDEO = 20


@pytest.fixture(scope="module")
def field() -> Snapshot:
    """Six videos of two cameras on three days, 20 frames each, 5 numbers apart; one box a frame, sizes 10 or 20 px."""
    records = []
    for number, name in enumerate(VIDEOS):
        kinds = ["Fat hen" if frame % 4 else "Dandelion" for frame in range(PER_VIDEO)]
        side = 10 + 10 * (number % 2)
        boxes = {frame: [(kinds[frame], [8, 8, 8 + side, 8 + side])] for frame in range(PER_VIDEO)}
        records.append(task(name, PER_VIDEO, boxes))
    return snapshot_of(records)


def split_of(snapshot: Snapshot, part_of: dict[str, str], **parameters: object) -> Split:
    """Split by video: ``part_of`` names parts of videos (by their first letters), the rest is train."""
    table = snapshot.frames[["img_path", "video"]].copy()
    table["part"] = [next((p for v, p in part_of.items() if video.startswith(v)), "train") for video in table["video"]]
    return make_split(snapshot.id, "by hand", table[["img_path", "part"]], parameters)


def by_video(snapshot: Snapshot) -> Split:
    return split_of(
        snapshot, {"20200520145736/1L": "val", "20200521145736/2R": "test"}, shares={"train": 0.6, "val": 0.2}
    )


def test_groups_across_a_border_are_counted(field: Snapshot) -> None:
    border = report(by_video(field), field).borders["val/train"]
    assert {level: (s.groups, s.shared, s.frames, s.shared_frames) for level, s in border.shared.items()} == {
        "task": (1, 0, 20, 0),
        "video": (1, 0, 20, 0),
        "session": (1, 1, 20, 20),  # the other camera of that day is in train
        "camera": (1, 1, 20, 20),
    }
    own = pd.Series({path: "left" if "1L" in path else "right" for path in field.frames["img_path"]})
    for groups in (own, pd.factorize(own.reindex(field.frames["img_path"]))[0]):
        shared = report(by_video(field), field, groups=groups).borders["test/val"].shared["group"]
        assert (shared.groups, shared.shared, shared.rate) == (1, 0, 0.0)


def test_gaps_are_measured_within_the_video(field: Snapshot) -> None:
    paths = field.frames["img_path"].to_numpy(object)
    parts = np.full(len(paths), "train", dtype=object)
    parts[[10, 11, 12]] = "val"  # numbers 50, 55, 60 of the first video: 5, 10 and 5 away from train
    parts[20:40] = "val"  # the whole second video
    table = pd.DataFrame({"img_path": paths, "part": parts})
    gaps = report(make_split(field.id, "by hand", table, {}), field).borders["val/train"].gaps
    assert gaps is not None
    assert (gaps.step, gaps.frames, gaps.adjacent, gaps.median) == (5, 23, 2, 5.0)
    assert gaps.histogram == {"0": 0, "1": 0, "5": 2, "10": 1, "25": 0, "50": 0, "100": 0, "more": 0, "no frame": 20}
    assert [gaps.within(edge) for edge in (1, 5, 10, 100)] == [0, 2, 3, 3]


@pytest.mark.parametrize("seed", range(3))
def test_gaps_are_those_of_all_pairs(field: Snapshot, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"img_path": field.frames["img_path"]})
    table["part"] = rng.choice(["train", "val", "test", "excluded"], len(table), p=[0.3, 0.3, 0.2, 0.2])
    made = make_split(field.id, "random", table, {})
    merged = field.frames.merge(made.frames, on="img_path")
    for name, border in report(made, field).borders.items():
        judging, known = name.split("/")
        pairs = merged[merged["part"] == judging].merge(merged[merged["part"] == known], on="video")
        pairs["gap"] = (pairs["frame_number_x"] - pairs["frame_number_y"]).abs()
        expected = pairs.groupby("img_path_x")["gap"].min()
        assert border.gaps is not None
        assert border.gaps.adjacent == int((expected <= 5).sum())
        assert border.gaps.within(10) == int((expected <= 10).sum())
        assert border.gaps.median == float(expected.median())


def twins(pairs: list[tuple[str, str]], names: list[str]) -> DuplicateGroups:
    groups = pd.Series(range(len(names)), index=names)
    for first, second in pairs:
        groups[groups == groups[second]] = groups[first]
    table = pd.DataFrame(pairs, columns=["first", "second"])
    return DuplicateGroups(groups, table.assign(correlation=np.linspace(0.9, 0.5, len(pairs), dtype=np.float32)))


def test_twins_across_every_border_are_told(field: Snapshot) -> None:
    made = by_video(field)
    train, val, test = made.part("train"), made.part("val"), made.part("test")
    pairs = [(val[0], train[0]), (train[1], val[4]), (val[0], train[5]), (test[3], val[1])]
    duplicates = twins([*pairs, (train[2], train[3])], [*train, *val, *test])
    told = report(made, field, duplicates=duplicates)
    assert {name: border.near_duplicates for name, border in told.borders.items()} == {
        "val/train": 2,
        "test/train": 0,
        "test/val": 1,
    }
    assert told.near_duplicate_leak == told.leak == told.largest_leak == 2 / 20
    assert report(split_of(field, {}), field, duplicates=duplicates).largest_leak == 0
    assert told.borders["val/train"].shared["duplicate_group"].shared == 2
    frames = leaking_frames(made, field, duplicates=duplicates)
    assert frames[["img_path", "part", "known", "twin"]].to_numpy().tolist() == [
        [val[0], "val", "train", train[0]],  # its surest twin
        [val[4], "val", "train", train[1]],
        [test[3], "test", "val", val[1]],
    ]


def test_leaking_frames_are_those_that_are_counted(field: Snapshot) -> None:
    made = every_nth(field, n=10)
    told = leaking_frames(made, field)
    assert len(told) == report(made, field).borders["val/train"].gaps.adjacent == 12
    assert set(told["gap"]) == {5.0}
    assert set(told["img_path"]) == set(made.part("val"))


def test_mix_sizes_and_places_against_train_by_hand(field: Snapshot) -> None:
    told = report(by_video(field), field)
    val, test = told.fairness["val"], told.fairness["test"]
    assert told.frames == {"train": 80, "val": 20, "test": 20}
    assert val.class_share == {"Fat hen": 15 / 90, "Dandelion": 5 / 30}
    assert (val.target, test.target) == (0.2, None)
    assert (val.smallest_class, val.smallest_count, val.class_jsd) == ("Dandelion", 5, pytest.approx(0, abs=1e-12))
    # Train has two videos of 20 px and two of 10 px; val has 10 px, test 20 px: half of the boxes differ by 10 px.
    assert (val.size_distance, test.size_distance) == (pytest.approx(5), pytest.approx(5))
    assert val.size_distance_relative == pytest.approx(5 / 15)
    assert val.x_distance == pytest.approx(2.5 / 96)  # centres at 13 and 18 px of 96
    assert told.sizes is not None
    assert {part: sum(counts) for part, counts in told.sizes.counts.items()} == {"train": 80, "val": 20, "test": 20}


def test_clusters_that_val_lacks_are_named(field: Snapshot) -> None:
    boxes = field.annotations
    labels = pd.Series(0, index=boxes["annotation_id"])
    labels[boxes.loc[boxes["img_path"].str.contains("/2R/"), "annotation_id"]] = 1
    labels.iloc[50:53] = -1  # outliers, in train: no look that val could lack
    made = split_of(field, {"20200520145736/1L": "val"})
    for clusters in (labels, Clusters(labels, labels * 0.0, labels * 0.0)):
        told = report(made, field, clusters=clusters)
        assert (told.fairness["val"].cluster_coverage, told.fairness["val"].missing_clusters) == (0.5, ["1"])
        assert told.clusters is not None
        assert told.clusters["1"] == {"train": 60, "val": 0, "test": 0}
    # Mix of train (37 of cluster 0, 60 of cluster 1, 3 outliers) and val (20 of 0), by the definition.
    p, q = np.array([0.37, 0.6, 0.03]), np.array([1.0, 0, 0])
    middle = (p + q) / 2
    halves = [float((x[x > 0] * np.log2(x[x > 0] / middle[x > 0])).sum()) for x in (p, q)]
    assert told.cluster_jsd == pytest.approx(sum(halves) / 2)


def vectors_of(snapshot: Snapshot, group_spread: float, seed: int = 0, dtype: type = np.float32) -> Embeddings:
    """Crops of a video lie around a direction of their own; ``group_spread``: how far videos are from each other."""
    rng = np.random.default_rng(seed)
    video = pd.factorize(snapshot.annotations["img_path"].map(snapshot.frames.set_index("img_path")["video"]))[0]
    common = rng.normal(size=24)
    vectors = common + group_spread * rng.normal(size=(6, 24))[video] + 0.2 * rng.normal(size=(len(video), 24))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(snapshot.annotations["annotation_id"].to_numpy(object), vectors.astype(dtype), "by hand")


def test_nearest_distances_are_those_of_all_pairs(field: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "CHUNK", 7)  # several chunks
    made, embeddings = by_video(field), vectors_of(field, 0.5)
    told = report(made, field, embeddings=embeddings).borders["test/train"].nearest
    part = field.annotations["img_path"].map(made.parts()).to_numpy(object)
    video = field.annotations["img_path"].map(field.frames.set_index("img_path")["video"]).to_numpy(object)
    frame = field.annotations["img_path"].to_numpy(object)
    distances = cdist(embeddings.vectors, embeddings.vectors, "cosine")
    train, test = part == "train", part == "test"
    inside = distances[np.ix_(train, train)]
    other_frame = np.where(frame[train][:, None] == frame[train], np.inf, inside).min(axis=1)
    other_video = np.where(video[train][:, None] == video[train], np.inf, inside).min(axis=1)
    across = distances[np.ix_(test, train)].min(axis=1)
    assert told is not None
    assert (told.crops, told.known, told.asked, told.compared) == (20, 80, 20, 80)
    for found, expected in (
        (told.across, across),
        (told.within_frames, other_frame),
        (told.within_groups, other_video),
    ):
        assert found == {str(p): pytest.approx(np.percentile(expected, p), abs=2e-5) for p in nearest.PERCENTILES}
    middle, low, high = (np.median(v) for v in (across, other_frame, other_video))
    assert told.novelty == pytest.approx((middle - low) / (high - low), abs=1e-3)
    assert told.ratio == pytest.approx(middle / low, rel=1e-3)
    smaller = (across[:, None] < other_frame[None, :]).mean()
    assert told.closer == pytest.approx(smaller, abs=1e-3)
    assert all(sum(counts) == n for counts, n in zip(told.histograms.values(), (20, 80, 80), strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_leaking_split_lies_suspiciously_near(field: Snapshot, dtype: type) -> None:
    embeddings = vectors_of(field, 0.5, dtype=dtype)
    leaky = report(every_nth(field, n=5), field, embeddings=embeddings).borders["val/train"].nearest
    honest = report(by_video(field), field, embeddings=embeddings).borders["val/train"].nearest
    assert leaky is not None
    assert honest is not None
    assert abs(leaky.novelty or 0.0) < 0.25
    assert leaky.suspicious
    assert leaky.closer == pytest.approx(0.5, abs=0.15)
    assert (honest.novelty or 0) > 0.6
    assert not honest.suspicious
    assert honest.closer < 0.1


def test_where_groups_tell_nothing_only_the_same_picture_is_suspicious(field: Snapshot) -> None:
    alike = vectors_of(field, 0.0)
    told = report(every_nth(field, n=5), field, embeddings=alike).borders["val/train"].nearest
    assert told is not None
    assert told.novelty is None
    assert not told.suspicious
    copies = alike.vectors.copy()
    made = every_nth(field, n=5)
    part = field.annotations["img_path"].map(made.parts()).to_numpy(object)
    copies[np.flatnonzero(part == "val")[:6]] = copies[np.flatnonzero(part == "train")[:6]]
    told = report(made, field, embeddings=Embeddings(alike.ids, copies, "by hand")).borders["val/train"].nearest
    assert told is not None
    assert told.same_picture == pytest.approx(6 / 24)
    assert told.suspicious


def test_samples_are_drawn_by_seed(field: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "QUERIES", 10)
    embeddings, made = vectors_of(field, 0.5), by_video(field)
    first, again, other = (report(made, field, embeddings=embeddings, seed=seed).as_dict() for seed in (1, 1, 2))
    assert first == again
    assert first["borders"] != other["borders"]
    assert first["borders"]["val/train"]["nearest"]["asked"] == 10


def test_the_json_is_whole_and_plain(field: Snapshot) -> None:
    told = report(by_video(field), field, embeddings=vectors_of(field, 0.5)).as_dict()
    again = json.loads(json.dumps(told))
    assert again == told
    assert again["borders"]["val/train"]["shared"]["session"]["rate"] == 1.0
    assert {"kind", "text"} == set(again["findings"][0])


def texts(split: Split, snapshot: Snapshot, **more: object) -> str:
    return "\n".join(f"{one.kind}: {one.text}" for one in findings(report(split, snapshot, **more)))


def test_findings_are_told_with_the_bad_ones_first(field: Snapshot) -> None:
    found = report(every_nth(field), field)
    lines = told(found).splitlines()
    assert sorted(line[2:] for line in lines) == sorted(one.text for one in findings(found))
    assert [line[0] for line in lines] == sorted((line[0] for line in lines), key="!-+".index)
    assert lines[0].startswith("! ")


def test_findings_say_what_a_person_must_know(field: Snapshot) -> None:
    leaky = texts(every_nth(field, n=10), field)
    assert "bad: 100.0 % (12 of 12) of the val frames have the neighbouring keyframe" in leaky
    assert "No leak" not in leaky
    assert "note: Nobody looked for near copies" in leaky
    honest = texts(by_video(field), field, duplicates=twins([], field.frames["img_path"].tolist()))
    assert "good: No leak from train into val was found (neighbouring keyframes, near copies)" in honest
    assert "note: All 1 sessions of val are in train, too" in honest
    assert "note: val has fewer than 10 boxes of Dandelion" in honest
    paths = field.frames["img_path"].tolist()
    no_class = make_split(field.id, "x", pd.DataFrame({"img_path": paths, "part": ["val", *["train"] * 119]}), {})
    assert "bad: val never shows Fat hen" in texts(no_class, field)
    nothing = make_split(field.id, "x", pd.DataFrame({"img_path": paths, "part": "train"}), {})
    assert "bad: val has no boxes" in texts(nothing, field)
    gone = make_split("old", "x", pd.DataFrame({"img_path": [*paths, "gone.png"], "part": "train"}), {})
    assert "bad: 1 frames of the split are not in the data" in texts(gone, field)


def test_comparison_shows_test_and_nearest_only_where_they_are(field: Snapshot) -> None:
    plain = compare([report(every_nth(field), field)])
    assert "frames in test" not in plain.index
    assert not any(line.startswith("nearest") for line in plain.index)
    both = compare([report(by_video(field), field, embeddings=vectors_of(field, 0.5)), report(every_nth(field), field)])
    assert both.loc["frames in test"].tolist() == ["20", "-"]
    assert both.loc["val frames whose session is in train"].tolist() == ["100.0 %", "100.0 %"]
    assert both.loc["boxes of that class in val", "by hand"] == "5 (Dandelion)"


def test_statistics_by_class_and_part(field: Snapshot) -> None:
    table = box_statistics(field)
    assert table.index.tolist() == ["all classes", "Fat hen", "Dandelion"]
    assert table["boxes"].tolist() == [120, 90, 30]
    assert table["videos"].tolist() == [6, 6, 6]
    row = table.loc["Dandelion"]
    assert (row["share"], row["size_median"], row["aspect_median"], row["small"]) == (0.25, 15, 1, 1)
    assert row["x_median"] == pytest.approx(15.5 / 96)
    parts = box_statistics(field, by_video(field))
    assert parts.loc[("Fat hen", "test"), "size_median"] == 20
    assert parts.loc[("Fat hen", "val"), "share"] == 0.75
    frames = frame_statistics(field, by_video(field))
    assert frames.loc["train", ["frames", "without_boxes", "sessions", "videos", "boxes"]].tolist() == [80, 0, 3, 4, 80]


KNOWN = [("full_hd", 701, 792, 808), ("4k", 799, 810, 810)]


@pytest.mark.parametrize(("kind", "gap_1", "gap_5", "total"), KNOWN)
def test_the_report_gives_the_known_answers_of_openweeds(
    shared_data: Path, kind: str, gap_1: int, gap_5: int, total: int
) -> None:
    """Upstream's own lists, as they came, made a split by ``given``; the numbers are those of the data's README."""
    openweeds = shared_data / "openweeds"
    lists = json.loads((openweeds / kind / "split.json").read_text())
    videos: dict[str, list[tuple[str, int, int]]] = {}
    for name in [*lists["train"], *lists["val"]]:
        videos.setdefault(parse_recording(name).key, []).append((name, 1920, 1080))
    boxes = [box for record in detect_and_read(openweeds / kind).tasks for box in with_ids(record.annotations)]
    snapshot = build_snapshot([make_task(video, [], frames).meta for video, frames in videos.items()], boxes)
    made = given(snapshot, {part: openweeds / "upstream" / f"{part}_frames_{kind}.npy" for part in ("train", "val")})
    assert made.problems == []
    told = report(made.split, snapshot)
    border = told.borders["val/train"]
    assert told.frames == {"train": len(lists["train"]), "val": total}
    assert border.gaps is not None
    assert (border.gaps.adjacent, border.gaps.within(1), border.gaps.within(5)) == (gap_1, gap_1, gap_5)
    assert border.gaps.histogram["0"] == 0  # identical frames in both
    assert (border.shared["video"].shared_frames, border.shared["video"].frames) == (total, total)
    assert (border.shared["session"].shared, border.shared["session"].groups) == (7, 7)
    assert round((told.adjacent_leak or 0) * total) == gap_1
    if kind == "full_hd":
        assert len(snapshot.annotations) == 8305
