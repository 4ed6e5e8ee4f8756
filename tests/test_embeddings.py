"""Embeddings are kept by content, survive unreadable frames, and separate what looks different."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obdb_lib.crops import crop_box, cut, jpeg_crops
from obdb_lib.embedders import Embedder, find_embedder
from obdb_lib.embeddings import embed_crops
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.frames import FrameStore
from obdb_lib.networks import Images, Network
from tests.conftest import PROJECT
from tests.helpers import random_boxes, snapshot_of, task, write_frames


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def two_colours(count: int = 20) -> object:
    rng = np.random.default_rng(3)
    names = ("Fat hen", "Dandelion")
    return task(frames=count, boxes={i: [(names[i % 2], box)] for i in range(count) for box in random_boxes(rng, 1)})


def counting(seen: list[int], name: str = "mobilenet_v2", stop_at: int = 0) -> Embedder:
    """The real embedder, writing the size of each batch into ``seen``; interrupts the batch number ``stop_at``."""
    real = find_embedder(name)

    def load() -> Network:
        network = real.load()

        def embed(images: Images) -> np.ndarray:
            seen.append(len(images))
            if len(seen) == stop_at:
                raise KeyboardInterrupt
            return network.embed(images)

        return replace(network, embed=embed, batch_pixels=3 * real.size**2, threads=1)

    return replace(real, load=load)


def test_only_a_moved_box_is_computed_again(tmp_path: Path, fresh_cache: Path) -> None:
    records = [two_colours(6)]
    frames = FrameStore([write_frames(tmp_path, records)])
    first = embed_crops(snapshot_of(records), frames)
    seen: list[int] = []
    again = embed_crops(snapshot_of(records), frames, embedder=counting(seen))
    assert seen == []
    np.testing.assert_array_equal(first.vectors, again.vectors)
    records[0].annotations[2]["points"][0] += 1
    embed_crops(snapshot_of(records), frames, embedder=counting(seen))
    assert seen == [1]


def test_a_frame_that_was_replaced_is_computed_again_and_another_folder_is_not(
    tmp_path: Path, fresh_cache: Path
) -> None:
    records = [two_colours(4)]
    root = write_frames(tmp_path / "here", records)
    embed_crops(snapshot_of(records), FrameStore([root]), embedder="colour_histogram")
    moved = root.rename(tmp_path / "there")
    seen: list[int] = []
    embed_crops(snapshot_of(records), FrameStore([moved]), embedder=counting(seen, "colour_histogram"))
    assert seen == []
    name = records[0].meta["frames"][1]["name"]
    size = (moved / name).stat().st_size
    Image.new("RGB", (96, 64), (0, 0, 255)).save(moved / name)
    with (moved / name).open("ab") as file:  # the same size, so that only its date tells the new one
        file.truncate(size)
    found = embed_crops(snapshot_of(records), FrameStore([moved]), embedder=counting(seen, "colour_histogram"))
    assert seen == [1]
    blue = found.vectors[snapshot_of(records).annotations["img_path"].to_numpy() == name]
    assert (blue.max(axis=1) > 0.99).all(), "all of the new picture is one colour"


def test_nothing_heavy_is_imported_when_all_is_cached(tmp_path: Path, fresh_cache: Path) -> None:
    """torch takes seconds; a frame that cannot be read does not load it either."""
    records = [two_colours(3)]
    root = write_frames(tmp_path / "images", records)
    (root / records[0].meta["frames"][1]["name"]).write_bytes(b"no image")
    embed_crops(snapshot_of(records), FrameStore([root]))
    (tmp_path / "records.pickle").write_bytes(pickle.dumps(records))
    script = (
        "import pickle, sys; from pathlib import Path; from obdb_lib.embeddings import embed_crops; "
        "from obdb_lib.frames import FrameStore; from tests.helpers import snapshot_of; "
        f"records = pickle.loads(Path({str(tmp_path / 'records.pickle')!r}).read_bytes()); "
        f"found = embed_crops(snapshot_of(records), FrameStore([{str(root)!r}])); "
        "print(len(found), len(found.problems), 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert told.stdout.split() == ["2", "1", "False"]


def test_an_unreadable_frame_is_reported_and_the_rest_goes_on(tmp_path: Path, fresh_cache: Path) -> None:
    records = [two_colours(5)]
    frames = FrameStore([write_frames(tmp_path, records)])
    broken = records[0].meta["frames"][1]["name"]
    (tmp_path / broken).write_bytes(b"not an image")
    (tmp_path / records[0].meta["frames"][3]["name"]).unlink()
    snapshot = snapshot_of(records)
    found = embed_crops(snapshot, frames)
    assert len(found) == 3
    assert any(broken in str(problem) for problem in found.problems)
    assert any("IMAGE_ROOTS" in str(problem) for problem in found.problems)
    thumbnails = jpeg_crops(snapshot, frames, snapshot.annotations["annotation_id"].tolist())
    assert len(thumbnails) == 5  # a grey square for those without a picture
    assert all(picture[:2] == b"\xff\xd8" for picture in thumbnails)


def test_an_image_too_large_to_be_true_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = task(frames=1)
    write_frames(tmp_path, [record])
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    with pytest.raises(FrameError, match="cannot be read"):
        FrameStore([tmp_path]).load(record.meta["frames"][0]["name"])


def test_no_readable_picture_at_all_is_an_error(tmp_path: Path, fresh_cache: Path) -> None:
    with pytest.raises(DatasetError, match="none of the 5 pictures"):
        embed_crops(snapshot_of([two_colours(5)]), FrameStore([tmp_path]))


def test_an_interrupt_keeps_what_was_computed(tmp_path: Path, fresh_cache: Path) -> None:
    records = [two_colours(9)]
    frames = FrameStore([write_frames(tmp_path, records)])
    with pytest.raises(KeyboardInterrupt):
        embed_crops(snapshot_of(records), frames, embedder=counting([], "colour_histogram", stop_at=3))
    seen: list[int] = []
    embed_crops(snapshot_of(records), frames, embedder=counting(seen, "colour_histogram"))
    assert sum(seen) == 3


def test_crop_window_is_square_and_inside() -> None:
    assert crop_box([10, 10, 30, 20], 100, 80, margin=0) == (10, 5, 30, 25)
    assert crop_box([0, 0, 20, 10], 100, 80, margin=0.25) == (0, 0, 30, 30)  # moved, not cut
    assert crop_box([0, 0, 100, 10], 100, 80, margin=0.5) == (0, 0, 100, 80)  # as much as there is
    picture = cut(np.full((80, 100, 3), 7, np.uint8), [90, 70, 100, 80], 32)
    assert picture.shape == (32, 32, 3)
    assert (picture == 7).all()


def test_frames_are_found_with_leading_folders_taken_off(tmp_path: Path) -> None:
    record = task(frames=1)
    write_frames(tmp_path, [record])
    name = record.meta["frames"][0]["name"]
    store = FrameStore([tmp_path / "nowhere", tmp_path])
    assert store.load("/weed_data/" + name).shape == (64, 96, 3)
    assert store.missing([name, "fielddata/other.png"]) == ["fielddata/other.png"]
    with pytest.raises(FrameError, match="IMAGE_ROOTS"):
        store.path("../../etc/nothing.png")
