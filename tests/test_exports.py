"""Out of the lab and in again: exports of the store, images beside label files, and the command ``convert``."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdb_lib import formats
from obdb_lib.cli import convert
from obdb_lib.collect import collect_files
from obdb_lib.errors import FormatError, StoreError
from obdb_lib.exports import export, parts_of, stored_tasks
from obdb_lib.formats import detect_and_read
from obdb_lib.frames import FrameStore
from obdb_lib.splits import every_nth
from obdb_lib.store import Store
from tests.formats_helpers import small_task, totals
from tests.helpers import task, write_frames

NAMES = ("FieldData 20200520145736 1L GH020068", "FieldData 20200521145736 1L GH020069")


@pytest.fixture
def filled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two tasks of three frames in the store that commands open, too."""
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    boxes = {0: [("Fat hen", [1.0, 2, 30, 40])], 2: [("Dandelion", [5.0, 6, 50, 60])]}
    store.import_tasks([task(name, boxes=boxes) for name in NAMES])
    return store


def test_tasks_of_the_store(filled: Store) -> None:
    assert [record.name for record in stored_tasks(filled)] == list(NAMES)
    snapshot_id = filled.snapshot(NAMES[:1])
    assert [record.name for record in stored_tasks(filled, snapshot_id=snapshot_id)] == [NAMES[0]]
    with pytest.raises(StoreError, match=f"snapshot {snapshot_id} has no task '{NAMES[1]}'"):
        stored_tasks(filled, tasks=[NAMES[1]], snapshot_id=snapshot_id)
    with pytest.raises(StoreError, match="the store has no task 'x'"):
        stored_tasks(filled, tasks=["x"])


def test_a_split_becomes_the_parts_of_a_yolo_folder(filled: Store, tmp_path: Path) -> None:
    split = every_nth(filled.load(filled.snapshot()), n=2)
    filled.save_split(*split.documents())
    parts = parts_of(filled, split.id)
    records = stored_tasks(filled)
    root = write_frames(tmp_path / "images", records)
    written = export(records, tmp_path / "y", "yolo", parts=parts, images="link", frames=FrameStore([root]))
    listed = {part: (tmp_path / "y" / f"{part}.txt").read_text().splitlines() for part in ("train", "val")}
    assert {part: len(lines) for part, lines in listed.items()} == {"train": 2, "val": 4}
    for line in listed["train"] + listed["val"]:
        assert (tmp_path / "y" / line).resolve().is_relative_to(root)
        label = tmp_path / "y" / line.replace("./images/", "labels/").replace(".png", ".txt")
        assert label.is_file(), "where Ultralytics looks for it"
    for again, record in zip(detect_and_read(written.path).tasks, records, strict=True):
        assert again.name == record.name
        assert again.meta["frames"] == record.meta["frames"]
        found, wanted = ([(a["img_path"], a["points"]) for a in one.annotations] for one in (again, record))
        assert found == wanted


@pytest.mark.parametrize("images", ["link", "copy"])
def test_images_beside_voc(tmp_path: Path, images: str) -> None:
    records = [task(NAMES[0])]
    root = write_frames(tmp_path / "images", records)
    (root / records[0].meta["frames"][1]["name"]).unlink()
    written = export(records, tmp_path / "v", "voc", images=images, frames=FrameStore([root]))
    found = sorted(path for path in (tmp_path / "v" / "JPEGImages").rglob("*") if path.is_file())
    assert len(found) == 2
    assert {path.is_symlink() for path in found} == {images == "link"}
    assert any("image not found" in problem.what for problem in written.problems)


@pytest.mark.parametrize("format_name", ["yolo", "voc"])
def test_images_of_an_exported_folder_are_found_again(store: Store, tmp_path: Path, format_name: str) -> None:
    records = [task(NAMES[0], boxes={0: [("Fat hen", [1.0, 2, 30, 40])]})]
    root = write_frames(tmp_path / "pictures", records)
    export(records, tmp_path / "out", format_name, images="copy", frames=FrameStore([root]))
    collected = collect_files(store, tmp_path / "out")
    assert collected.problems == []
    assert collected.counts == {"tasks": 1, "frames": 3, "annotations": 1}
    (first, *_) = (str(frame["name"]) for frame in records[0].meta["frames"])
    assert (FrameStore(collected.roots).load(first) == FrameStore([root]).load(first)).all()


def test_images_only_where_the_format_has_them(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="coco keeps no images"):
        export([small_task()], tmp_path / "x.json", "coco", images="copy")
    with pytest.raises(FormatError, match="images='move' is not known"):
        export([small_task()], tmp_path / "x", "yolo", images="move")
    assert list(tmp_path.iterdir()) == []


def test_convert_between_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.write([small_task("one"), small_task("two")], tmp_path / "in.json", "coco")
    command = [str(tmp_path / "in.json"), str(tmp_path / "out.xml"), "--to", "cvat_xml"]
    assert convert.main(command) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out.xml'}: 2 tasks, 6 frames, 6 annotations as cvat_xml\n"
    assert totals(detect_and_read(tmp_path / "out.xml")) == (2, 6, 6)
    before = (tmp_path / "out.xml").read_bytes()
    assert convert.main([*command, "--tasks", "one"]) == 3
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "out.xml").read_bytes() == before
    assert convert.main([*command, "--tasks", "one", "--overwrite"]) == 0
    assert totals(detect_and_read(tmp_path / "out.xml")) == (1, 3, 3)
    assert convert.main([*command, "--tasks", "three", "--overwrite"]) == 1
    assert "has no task 'three'; it has one, two" in capsys.readouterr().err
    assert convert.main([str(tmp_path / "gone"), str(tmp_path / "x"), "--to", "coco"]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_convert_tells_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.write([small_task()], tmp_path / "in", "mongoexport")
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "v"), "--to", "voc"]) == 0
    assert "VOC: 1 outlines are written as the boxes around them" in capsys.readouterr().err
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "v"), "--to", "voc"]) == 3
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "t.pkl"), "--to", "pickle", "--drop-empty"]) == 0
    assert totals(detect_and_read(tmp_path / "t.pkl")) == (1, 2, 3)


def test_convert_out_of_the_store_and_into_it(
    filled: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = every_nth(filled.load(filled.snapshot()), n=2)
    filled.save_split(*split.documents())
    assert convert.main(["store", str(tmp_path / "t.parquet"), "--to", "parquet"]) == 0
    assert convert.main(["store", str(tmp_path / "f.csv"), "--to", "frames", "--split", split.id]) == 0
    assert len(formats.frame_lists.read_parts(tmp_path / "f.csv")["val"]) == 4
    snapshot = f"snapshot:{split.snapshot_id}"
    assert convert.main([snapshot, str(tmp_path / "s.json"), "--to", "coco", "--tasks", NAMES[0]]) == 0
    assert totals(detect_and_read(tmp_path / "s.json")) == (1, 3, 2)
    before = filled.snapshot()
    capsys.readouterr()
    assert convert.main([str(tmp_path / "t.parquet"), "store"]) == 3
    assert "has 2 of these tasks already" in capsys.readouterr().err
    assert convert.main([str(tmp_path / "t.parquet"), "store", "--replace"]) == 0
    assert filled.snapshot() == before, "the same drawing comes back"
    assert convert.main(["snapshot:0000", str(tmp_path / "x.json"), "--to", "coco"]) == 1
    assert "there is no snapshot '0000'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["a", "b"], "--to is needed"),
        (["store", "store"], "source and target are the store"),
        (["a", "store", "--to", "coco"], "the target is the store"),
        (["a", "b", "--to", "tfrecord"], "invalid choice"),
    ],
)
def test_a_wrong_command_ends_with_2(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        convert.main(arguments)
    assert ended.value.code == 2
    assert word in capsys.readouterr().err
