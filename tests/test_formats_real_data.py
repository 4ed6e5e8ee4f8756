"""The published Openweeds annotations and the sesame photographs, where they lie beside the project."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from obdb_lib.formats import coco, cvat_xml, detect_and_read, mongoexport, upstream_pickle
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


def test_openweeds_through_every_writer(tmp_path: Path) -> None:
    original = mongoexport.read(OPENWEEDS / "full_hd")
    coco.write(original.tasks, tmp_path / "annotations.json")
    cvat_xml.write(original.tasks, tmp_path / "project.xml")
    mongoexport.write(original.tasks, tmp_path / "again")
    for path, tolerance in (("annotations.json", 1e-9), ("project.xml", 0.0051), ("again", 0.0)):
        result = detect_and_read(tmp_path / path)
        assert totals(result) == (48, 801, 8305)
        assert [task.meta for task in result.tasks] == [task.meta for task in original.tasks]
        for task, wanted in zip(result.tasks, original.tasks, strict=True):
            order = sorted(wanted.annotations, key=lambda one: one["frame"])
            found = sorted(task.annotations, key=lambda one: one["frame"])
            assert [one["object_class"] for one in found] == [one["object_class"] for one in order]
            np.testing.assert_allclose(
                [o["points"] for o in found], [o["points"] for o in order], rtol=0, atol=tolerance
            )
