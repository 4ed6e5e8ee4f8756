"""Strategy ``given``: lists of other people, matched to frames without guessing."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from obdb_lib import manifest
from obdb_lib.errors import FormatError, ObdbError, PickleRefusedError, SplitError
from obdb_lib.formats import frame_lists
from obdb_lib.given import given, lists_from
from obdb_lib.snapshots import Snapshot
from tests.helpers import snapshot_of, task

VIDEO = "fielddata/20200520145736/1L/GH020068/GH020068frame{:04d}.png"
OTHER = "fielddata/20200521145736/2R/GH010001/GH010001frame{:04d}.png"


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    box = {0: [("Fat hen", [10, 10, 30, 30])]}
    return snapshot_of([task(frames=4, boxes=box), task("FieldData 20200521145736 2R GH010001", 3, box)])


def as_objects(path: Path, names: list[object]) -> None:
    np.save(path, np.array(names, dtype=object), allow_pickle=True)


def as_text(path: Path, names: list[object]) -> None:
    path.write_text("# upstream's\n\n" + "\n".join(map(str, names)) + "\n")


WRITERS: list[Callable[[Path, list[object]], None]] = [
    lambda path, names: np.save(path, np.array(names)),
    as_objects,
    as_text,
]


@pytest.mark.parametrize("write", WRITERS, ids=["npy of text", "npy of objects", "text"])
def test_lists_by_part_make_a_split(snapshot: Snapshot, tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "train.npy", [VIDEO.format(0), VIDEO.format(5)])
    write(tmp_path / "val.npy", [OTHER.format(0)])
    made = given(snapshot, {"train": tmp_path / "train.npy", "validation": tmp_path / "val.npy"})
    assert made.problems == []
    assert made.split.strategy == "given"
    assert made.split.part("train") == [VIDEO.format(0), VIDEO.format(5)]
    assert made.split.part("val") == [OTHER.format(0)]
    assert len(made.split.part("excluded")) == 4  # frames of no list
    assert given(snapshot, {"val": [OTHER.format(0)]}, rest="train").split.part("train")[-1] == OTHER.format(10)


def test_a_name_means_the_frame_it_ends_with_or_that_ends_with_it(snapshot: Snapshot) -> None:
    made = given(
        snapshot,
        {
            "train": ["/weed_data/" + VIDEO.format(0), "..\\" + VIDEO.format(5).replace("/", "\\"), VIDEO.format(5)],
            "val": ["GH010001/GH010001frame0005.png"],
            "test": ["GH020068frame0010.png"],
        },
    )
    assert made.problems == []
    assert made.split.part("train") == [VIDEO.format(0), VIDEO.format(5)]
    assert made.split.part("val") == [OTHER.format(5)]
    assert made.split.part("test") == [VIDEO.format(10)]


def test_what_matches_nothing_or_several_is_reported_and_left_out() -> None:
    records = [task(f"FieldData 2020052014573{n} 1L GH020068", 2) for n in (6, 7)]  # the same file names twice
    twice = snapshot_of(records)
    first = "20200520145736/1L/GH020068/GH020068frame0000.png"
    names = [first, "GH020068frame0005.png", "elsewhere/GH020068frame0000.png", "0000.png"]
    made = given(twice, {"train": names})
    assert made.split.part("train") == [f"fielddata/{first}"]
    told = [str(problem) for problem in made.problems]
    assert "GH020068frame0005.png" in told[0]
    assert "could be 2 frames" in told[0]
    assert ["is no frame of this snapshot" in line for line in told] == [False, True, True]  # not by part of a name
    assert made.split.parameters["unmatched"] == 3


def test_longer_names_that_end_with_the_same_frame_are_not_guessed() -> None:
    record = task(frames=1)
    record.meta["frames"][0]["name"] = "frame0001.png"
    plain = snapshot_of([record, task("FieldData 20200521145736 2R GH010001", 1)])
    made = given(plain, {"train": ["a/frame0001.png", OTHER.format(0)], "val": ["b/frame0001.png"]})
    assert [path for part in ("train", "val") for path in made.split.part(part)] == [OTHER.format(0)]
    assert all("one of 2 names that all end with" in str(problem) for problem in made.problems)
    assert len(made.problems) == 2
    assert given(plain, {"train": ["a/frame0001.png"]}).split.part("train") == ["frame0001.png"]


def test_a_frame_in_two_lists_is_refused_or_told(snapshot: Snapshot) -> None:
    lists = {"train": [VIDEO.format(0), VIDEO.format(5)], "val": ["/weed_data/" + VIDEO.format(5)]}
    with pytest.raises(SplitError, match=r"1 frames stand in two lists: .*frame0005.png \(train and val\)"):
        given(snapshot, lists)
    made = given(snapshot, lists, conflicts="excluded")
    assert made.split.part("train") == [VIDEO.format(0)]
    assert "train and val; put into excluded" in str(made.problems[0])


def test_one_file_can_hold_all_parts(snapshot: Snapshot, tmp_path: Path) -> None:
    expected = given(snapshot, {"train": [VIDEO.format(0)], "val": [OTHER.format(0)]}).split
    csv = tmp_path / "split.csv"
    csv.write_text(f"part, img_path\ntrain,{VIDEO.format(0)}\nval,{OTHER.format(0)}\n")
    (tmp_path / "split.json").write_text(json.dumps({"train": [VIDEO.format(0)], "val": [OTHER.format(0)]}))
    manifest.write(tmp_path / "m.json", expected, snapshot)
    for name in ("split.csv", "split.json", "m.json"):
        assert given(snapshot, tmp_path / name).split.id == expected.id


def test_plain_texts_name_one_file_or_one_for_each_part(snapshot: Snapshot, tmp_path: Path) -> None:
    as_text(tmp_path / "a=train.txt", [VIDEO.format(0)])
    np.save(tmp_path / "val.npy", np.array([OTHER.format(0)]))
    made = given(snapshot, lists_from([f"train={tmp_path}/a=train.txt", f"val = {tmp_path}/val.npy"])).split
    assert made.part("train") == [VIDEO.format(0)]
    assert made.part("val") == [OTHER.format(0)]
    (tmp_path / "my=split.csv").write_text(f"img_path,part\n{VIDEO.format(0)},val\n")
    assert given(snapshot, lists_from([f"{tmp_path}/my=split.csv"])).split.part("val") == [VIDEO.format(0)]
    for texts in ([], ["train.npy", "val.npy"], ["val=a.npy", "val=b.npy"], ["train=", "val=b.npy"]):
        with pytest.raises(SplitError, match=r"\['train=train.npy', 'val=val.npy'\]; got"):
            lists_from(texts)


def test_the_same_lists_give_the_same_split_from_any_folder(snapshot: Snapshot, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        as_text(tmp_path / folder / "val.txt", [VIDEO.format(0), OTHER.format(0)])
    first, second = (given(snapshot, {"val": tmp_path / folder / "val.txt"}).split for folder in ("a", "b"))
    assert first.id == second.id
    assert first.parameters == second.parameters


def test_an_array_of_objects_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    bomb = type("Bomb", (), {"__reduce__": lambda self: (Path.touch, (target,))})
    np.save(tmp_path / "evil.npy", np.array([bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(PickleRefusedError, match="was refused"):
        frame_lists.read_list(tmp_path / "evil.npy")
    assert not target.exists()
    assert np.load(tmp_path / "evil.npy", allow_pickle=True) is not None  # it would have run
    assert target.exists()


def damaged(folder: Path, kind: str) -> Path:
    path = folder / "list.npy"
    as_objects(path, ["a.png"] * 50)
    whole = path.read_bytes()
    contents = {
        "cut off": whole[:-20],
        "no header": whole[:7],
        "numbers": b"",
        "a table": whole[:128] + pickle.dumps({"a": 1}),
        "empty": b"",
        "binary": bytes(range(128, 250)),
        "csv without columns": b"a,b\nc,d\n",
        "csv with a hole": b"img_path,part\na.png,\n",
        "json without lists": b'{"train": 5}',
    }
    path.write_bytes(contents[kind])
    if kind == "numbers":
        np.save(path, np.arange(3))
    return path


@pytest.mark.parametrize(
    ("kind", "read", "word"),
    [
        ("cut off", frame_lists.read_list, "not a whole pickle"),
        ("no header", frame_lists.read_list, "not a whole .npy"),
        ("numbers", frame_lists.read_list, "entry 0 is '0'"),
        ("a table", frame_lists.read_list, "not a readable array"),
        ("empty", frame_lists.read_list, "is empty"),
        ("binary", frame_lists.read_list, "not UTF-8"),
        ("csv without columns", frame_lists.read_parts, "columns img_path, part"),
        ("csv with a hole", frame_lists.read_parts, "line 2: needs an img_path and a part"),
        ("json without lists", frame_lists.read_parts, "no list of frames"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, kind: str, read: Callable[[Path], object], word: str) -> None:
    with pytest.raises(FormatError, match=word):
        read(damaged(tmp_path, kind))


@pytest.mark.parametrize(
    ("lists", "options", "word"),
    [
        ({"training": [VIDEO.format(0)], "trian": []}, {}, "name the part 'trian'"),
        ({"train": ["nothing.png"]}, {}, "they read like 'nothing.png', its frames like 'fielddata"),
        ({"train": []}, {}, "no frame at all"),
        ({"train": [VIDEO.format(0)]}, {"rest": "left"}, "rest must be one of train"),
        ({"train": [VIDEO.format(0)]}, {"conflicts": "left"}, "conflicts must be one of train"),
        ({"train": "/nowhere/list.txt"}, {}, "cannot be read"),
    ],
)
def test_impossible_lists_are_explained(
    snapshot: Snapshot, lists: dict[str, object], options: dict[str, str], word: str
) -> None:
    with pytest.raises(ObdbError, match=word):
        given(snapshot, lists, **options)
