"""The published Openweeds annotations and the sesame photographs, where they lie beside the project."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib import formats
from obdb_lib.exports import export
from obdb_lib.formats import detect_and_read, mongoexport, upstream_pickle
from obdb_lib.frames import FrameStore
from obdb_lib.records import ReadResult
from tests.formats_helpers import SHARED_DATA, totals

OPENWEEDS, SESAME = SHARED_DATA / "openweeds", SHARED_DATA / "sesame"
pytestmark = pytest.mark.skipif(not OPENWEEDS.is_dir() or not SESAME.is_dir(), reason="the real data are not here")


def boxes(result: ReadResult) -> list[tuple[str, str, str, list[float]]]:
    return sorted(
        (one["task_name"], one["img_path"], one["object_class"], one["points"])
        for task in result.tasks
        for one in task.annotations
    )


def outlines(result: ReadResult) -> Counter[str]:
    """What the boxes were upstream, where they were no rectangles."""
    shapes = [one.get("upstream_shape_types", "rectangle") for task in result.tasks for one in task.annotations]
    return Counter(shape for shape in shapes if shape != "rectangle")


@pytest.mark.parametrize("part", ["full_hd", "4k"])
def test_openweeds_counts(part: str) -> None:
    stats = json.loads((OPENWEEDS / "stats.json").read_text())[part]
    result = detect_and_read(OPENWEEDS / part)
    assert totals(result) == (stats["tasks"], stats["meta_frames"], stats["boxes"])
    images = {frame["name"] for task in result.tasks for frame in task.meta["frames"]}
    assert len(images) == stats["distinct_images"]
    classes = Counter(one["object_class"] for task in result.tasks for one in task.annotations)
    assert classes == dict(stats["classes"])
    assert result.problems == []


@pytest.mark.parametrize(("part", "counts"), [("full_hd", (48, 801, 8305)), ("4k", (56, 842, 15420))])
def test_upstream_pickle_equals_the_collections(part: str, counts: tuple[int, int, int]) -> None:
    expected = mongoexport.read(OPENWEEDS / part)
    result = upstream_pickle.read(OPENWEEDS / "upstream" / f"pd_val_{part}.pkl")
    assert totals(result) == totals(expected) == counts
    assert [task.meta for task in result.tasks] == [task.meta for task in expected.tasks]
    found, wanted = boxes(result), boxes(expected)
    assert [one[:3] for one in found] == [one[:3] for one in wanted]
    np.testing.assert_allclose([one[3] for one in found], [one[3] for one in wanted], atol=1e-3)
    assert outlines(result) == outlines(expected)


def test_sesame_by_coco_and_by_collections() -> None:
    by_coco, by_collections = detect_and_read(SESAME / "annotations.json"), detect_and_read(SESAME)
    assert totals(by_coco) == totals(by_collections) == (15, 739, 1265)

    def plain(result: ReadResult) -> list[tuple[str, str, list[float]]]:
        return sorted((Path(path).name, name, points) for _, path, name, points in boxes(result))

    found, wanted = plain(by_coco), plain(by_collections)
    assert [one[:2] for one in found] == [one[:2] for one in wanted]
    np.testing.assert_allclose([one[2] for one in found], [one[2] for one in wanted], atol=0.02)
    assert [[Path(frame["name"]).name for frame in task.meta["frames"]] for task in by_coco.tasks] == [
        [Path(frame["name"]).name for frame in task.meta["frames"]] for task in by_collections.tasks
    ], "runs of 50 files in name order"


WRITERS = {
    "coco": ("annotations.json", 1e-9),
    "cvat_xml": ("project.xml", 0.0051),
    "mongoexport": ("again", 0.0),
    "parquet": ("table.parquet", 0.0),
    "pickle": ("table.pkl", 0.0),
}


@pytest.mark.parametrize("format_name", sorted(WRITERS))
def test_openweeds_through_every_writer(tmp_path: Path, format_name: str) -> None:
    original = mongoexport.read(OPENWEEDS / "full_hd")
    path, tolerance = WRITERS[format_name]
    formats.write(original.tasks, tmp_path / path, format_name)
    for result in (detect_and_read(tmp_path / path),):
        assert totals(result) == (48, 801, 8305)
        assert [task.meta for task in result.tasks] == [task.meta for task in original.tasks]
        for task, wanted in zip(result.tasks, original.tasks, strict=True):
            order = sorted(wanted.annotations, key=lambda one: one["frame"])
            found = sorted(task.annotations, key=lambda one: one["frame"])
            assert [one["object_class"] for one in found] == [one["object_class"] for one in order]
            np.testing.assert_allclose(
                [o["points"] for o in found], [o["points"] for o in order], rtol=0, atol=tolerance
            )


@pytest.mark.parametrize(("format_name", "file"), [("yolo", "yolo"), ("voc", "voc")])
def test_openweeds_as_label_files(tmp_path: Path, format_name: str, file: str) -> None:
    """Two images stand in two tasks: YOLO writes them once, and says so."""
    original = mongoexport.read(OPENWEEDS / "full_hd")
    written = formats.write(original.tasks, tmp_path / file, format_name)
    result = detect_and_read(tmp_path / file)
    frames = 799 if format_name == "yolo" else 801
    assert totals(result) == (48, frames, 8305)
    assert any("2 frames stand in two tasks" in str(problem) for problem in written.problems) == (format_name == "yolo")
    found, wanted = boxes(result), boxes(original)
    assert sorted(one[1:3] for one in found) == sorted(one[1:3] for one in wanted)
    places = [sorted((one[1], one[2], *one[3]) for one in some) for some in (found, wanted)]
    np.testing.assert_allclose([one[2:] for one in places[0]], [one[2:] for one in places[1]], rtol=0, atol=1e-5)


def test_the_pickle_that_we_write_is_upstreams_table(tmp_path: Path) -> None:
    """Column by column what plain pandas reads from upstream's own file, but for the cropping and float32."""
    theirs = pd.read_pickle(OPENWEEDS / "upstream" / "pd_val_full_hd.pkl")
    formats.write(
        upstream_pickle.read(OPENWEEDS / "upstream" / "pd_val_full_hd.pkl").tasks, tmp_path / "t.pkl", "pickle"
    )
    ours = pd.read_pickle(tmp_path / "t.pkl")
    assert ours.columns.tolist() == theirs.columns.tolist()
    assert ours.dtypes.equals(theirs.dtypes)
    for column in ("img_path", "img_width", "img_height", "task_name", "labels", "shape_types"):
        assert sorted(map(str, ours[column])) == sorted(map(str, theirs[column])), column
    places = [sorted([*map(float, box)] for row in table["bboxes"] for box in row) for table in (ours, theirs)]
    np.testing.assert_allclose(places[0], places[1], rtol=0, atol=1e-3)


def test_sesame_as_yolo_with_its_images_and_read_without_our_table(tmp_path: Path) -> None:
    """As a data set of others: sizes come from the images, names from the lists."""
    original = detect_and_read(SESAME / "annotations.json", image_root=SESAME)
    small = [replace(task, annotations=task.annotations) for task in original.tasks[:2]]
    export(small, tmp_path / "yolo", "yolo", images="link", frames=FrameStore([SESAME]))
    (tmp_path / "yolo" / "frames.csv").unlink()
    result = detect_and_read(tmp_path / "yolo")
    assert result.problems == []
    assert totals(result)[1:] == (100, sum(len(task.annotations) for task in small))
    found = sorted((Path(path).name, name, *points) for _, path, name, points in boxes(result))
    wanted = sorted((Path(path).name, name, *points) for _, path, name, points in boxes(ReadResult(small)))
    assert [one[:2] for one in found] == [one[:2] for one in wanted]
    np.testing.assert_allclose([one[2:] for one in found], [one[2:] for one in wanted], rtol=0, atol=1e-5)
