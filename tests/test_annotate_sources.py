"""Frames taken out of tasks keep their own annotations, and a source is the snapshot that the store would give."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdb_lib.annotate.sources import Source, read_source, restricted
from obdb_lib.errors import DatasetError, SplitError
from obdb_lib.stages import run_folder, write_result
from obdb_lib.store import Store
from tests.helpers import snapshot_of, task

BOXES = {0: [("Fat hen", [1, 1, 20, 20])], 2: [("Dandelion", [5, 5, 30, 30]), ("Fat hen", [40, 10, 60, 30])]}


def test_restricted__frames_are_numbered_anew_with_their_own_annotations() -> None:
    record = task(frames=3, boxes=BOXES)
    names = [frame["name"] for frame in record.meta["frames"]]
    kept = restricted(record, {names[1], names[2]})
    assert [frame["name"] for frame in kept.meta["frames"]] == names[1:]
    assert [(one["frame"], one["img_path"], one["object_class"]) for one in kept.annotations] == [
        (1, names[2], "Dandelion"),
        (1, names[2], "Fat hen"),
    ]
    assert [one["frame"] for one in record.annotations] == [0, 2, 2], "the task itself is left alone"
    assert restricted(record, set()).meta["frames"] == []


def test_source_of_whole_tasks_has_the_id_of_the_store(store: Store) -> None:
    record = task(frames=3, boxes=BOXES)
    store.import_tasks([record])
    assert Source("x", (store.record(record.name),)).snapshot().id == store.snapshot()
    assert Source("x", (record,)).snapshot().id == snapshot_of([record]).id


def test_only_frames__by_paths_of_another_machine() -> None:
    record = task(frames=3, boxes=BOXES)
    source = Source("x", (record,))
    name = record.meta["frames"][2]["name"]
    kept = source.only_frames([f"/weed_data/{name}", "elsewhere/none.png"], named_by="list")
    assert [frame["name"] for frame in kept.records[0].meta["frames"]] == [name]
    assert len(kept.records[0].annotations) == 2
    assert [problem.where for problem in kept.problems] == ["list: 'elsewhere/none.png'"]
    with pytest.raises(SplitError, match="not one of the 1 listed names"):
        source.only_frames(["elsewhere/none.png"], named_by="list")


def test_part_of_the_split_that_the_notebook_chose(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    record = task(frames=3, boxes=BOXES)
    store.import_tasks([record])
    names = [frame["name"] for frame in record.meta["frames"]]
    with pytest.raises(DatasetError, match="-p 'val' is neither a file or folder"):
        read_source("val", store)
    parts = [{"img_path": name, "part": "val" if name == names[2] else "train"} for name in names]
    store.save_split({"_id": "abc"}, parts)
    write_result(run_folder(), "02_explore_and_split", {"split_id": "abc"})
    assert [len(read_source(text, store).snapshot().annotations) for text in ("val", "abc", "train", "abc:train")] == [
        *(2, 2, 1, 1)
    ]
    with pytest.raises(DatasetError, match=r"parts train, val, test, excluded; got 'valid'"):
        read_source("abc:valid", store)
    with pytest.raises(DatasetError, match="part test of split abc has no frame"):
        read_source("abc:test", store)
