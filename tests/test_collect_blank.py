"""Folders without annotations as tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdb_lib.collect import collect_blank, collect_store, frames_of
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.fold_plan import blank_frames
from obdb_lib.records import make_annotation
from obdb_lib.store import Store
from tests.helpers import task, write_frames


def folder_of_images(tmp_path: Path, name: str = "new field") -> Path:
    record = task(frames=3)
    write_frames(tmp_path / name, [record])
    (tmp_path / name / "torn.png").write_bytes(b"no picture")
    return tmp_path / name


def test_each_folder_becomes_a_task_whose_frames_are_found(store: Store, tmp_path: Path) -> None:
    drawn = task(boxes={0: [("Dandelion", [10, 10, 30, 30])]})
    store.import_tasks([drawn])
    first = store.snapshot()
    blank = collect_blank(store, [folder_of_images(tmp_path)], ["Dandelion", "Fat hen"])
    assert blank.tasks == ["new field"]
    assert blank.counts == {"tasks": 1, "frames": 3, "annotations": 0}
    assert [problem.where for problem in blank.problems] == ["new field/torn.png"]
    snapshot = store.load(store.snapshot_with(first, blank.tasks))
    assert snapshot.task_names == (drawn.name, "new field")
    assert len(snapshot.annotations) == 1
    names = blank_frames(snapshot)
    assert len(names) == 3
    assert frames_of(store, *blank.roots).load(names[0]).shape == (64, 96, 3)
    again = collect_blank(store, [folder_of_images(tmp_path)], ["Dandelion", "Fat hen"])
    assert store.snapshot_with(first, again.tasks) == snapshot.id


def test_the_store_is_collected_without_blank_folders(store: Store, tmp_path: Path) -> None:
    """A later notebook 1 must not take a folder to be annotated for one in which nothing grows."""
    collect_blank(store, [folder_of_images(tmp_path)], ["Dandelion"])
    with pytest.raises(DatasetError, match=r"nothing but folders without annotations \(new field\)"):
        collect_store(store)
    drawn, empty = task(boxes={0: [("Dandelion", [10, 10, 30, 30])]}), task("FieldData 20200520145736 1L GH020099")
    store.import_tasks([drawn, empty])
    found = collect_store(store)
    assert found.tasks == [drawn.name, empty.name], "an empty task of one's own is a negative"
    assert found.counts == {"tasks": 2, "frames": 6, "annotations": 1}
    assert "new field: a folder that nobody annotated; left out" in str(found.problems[0])
    assert collect_store(store, include_blank=True).counts["tasks"] == 3
    record = store.record("new field")
    record.annotations.append(make_annotation(record, 0, "Dandelion", [10, 10, 30, 30]))
    store.import_tasks([record])
    assert "new field" in collect_store(store).tasks, "somebody has drawn in it"


def test_a_blank_folder_never_replaces_a_task_with_annotations(store: Store, tmp_path: Path) -> None:
    store.import_tasks([task("FieldData 20200520145736 1L new", boxes={0: [("Dandelion", [10, 10, 30, 30])]})])
    folder = folder_of_images(tmp_path, "FieldData 20200520145736 1L new")
    with pytest.raises(DatasetError, match="with annotations; rename the folder"):
        collect_blank(store, [folder], ["Dandelion"])
    with pytest.raises(FrameError, match="is no folder"):
        collect_blank(store, [tmp_path / "nowhere"], ["Dandelion"])
    with pytest.raises(DatasetError, match="two folders are named"):
        collect_blank(store, [folder_of_images(tmp_path, "a/x"), folder_of_images(tmp_path, "b/x")], ["Dandelion"])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"no image in .* can be read"):
        collect_blank(store, [tmp_path / "bad"], ["Dandelion"])
