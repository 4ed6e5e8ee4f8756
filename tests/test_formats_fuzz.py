"""Arbitrary and damaged files in every reader: a result or a typed error that names the file, never a half import.

A few examples each; ``OBDB_FUZZ_EXAMPLES=20000 pytest tests/test_formats_fuzz.py`` for a long run.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from obdb_lib import formats
from obdb_lib.collect import collect_files
from obdb_lib.errors import FormatError, FrameError, ObdbError
from obdb_lib.formats import detect_and_read, frame_lists
from obdb_lib.frames import FrameStore
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.records import ReadResult
from obdb_lib.store import Store
from tests.formats_helpers import examples, small_task

FEW = settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SLOW = settings(FEW, max_examples=examples(25))
TARGETS = {
    "coco": ("a.json", "a.json"),
    "cvat_xml": ("a.xml", "a.xml"),
    "mongoexport": ("m", "m/meta.jsonl.gz"),
    "parquet": ("a.parquet", "a.parquet"),
    "pickle": ("a.pkl", "a.pkl"),
    "voc": ("v", "v/Annotations/a/0.xml"),
    "voc labels": ("v", "v/labelmap.txt"),
    "yolo": ("y", "y/data.yaml"),
    "yolo labels": ("y", "y/labels/a/0.txt"),
    "yolo frames": ("y", "y/frames.csv"),
}
"""What is read, and the file in it that is damaged."""
NAMES = [
    "a.json",
    "a.xml",
    "a.pkl",
    "a.parquet",
    "data.yaml",
    "annotation_data.json",
    "meta.jsonl",
    "a.xml.gz",
    "a.bin",
]
SPLICES = [
    *(b"NaN", b"-1", b"1e999", b"9" * 5000, b"null", b"[" * 2000, b"{}", b'""', b"\0", b"\xff", b"\\ud800", b"../"),
    *(
        b"&x;",
        b"<!DOCTYPE x>",
        b"<image/>",
        b"<",
        b'"',
        b"\n",
        b"true",
        b"&#0;",
        b"]]>",
        b"18446744073709551616",
        b": &a",
    ),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small task in every format."""
    folder = tmp_path_factory.mktemp("whole")
    task = small_task()
    task.annotations[0]["attributes"] = {"age": "old"}
    for format_name, (name, _) in TARGETS.items():
        if format_name in formats.FORMATS:
            formats.write([task], folder / name, format_name)
    return folder


def read_or_refuse(read: Callable[[Path], Any], path: Path, folder: Path) -> Any:
    """The result, or None when it was refused in one sentence that names the place."""
    try:
        return read(path)
    except FormatError as error:
        said = str(error)
    assert str(folder) in said, f"the message names no file: {said}"
    assert len(said) < 2000
    return None


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes changed, cut out, doubled or put in, or the end cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(0, 40))
        act = draw(st.sampled_from(["change", "cut out", "double", "put in", "swap", "end"]))
        if act == "change" and data:
            data[place] = draw(st.integers(0, 255))
        elif act == "cut out":
            del data[place : place + length]
        elif act == "double":
            data[place:place] = data[place : place + length]
        elif act == "put in":
            data[place:place] = draw(st.sampled_from(SPLICES))
        elif act == "swap":
            data[place : place + length] = draw(st.sampled_from(SPLICES))
        else:
            del data[place:]
    return bytes(data)


def unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def is_sound(result: ReadResult) -> None:
    """Whatever a reader lets through holds: places, classes, finite points."""
    for task in result.tasks:
        labels = {label["name"] for label in task.task["labels"]}
        for one in task.annotations:
            assert 0 <= one["frame"] < len(task.meta["frames"])
            assert one["object_class"] in labels or not labels
            assert np.isfinite(one["points"]).all()
            assert len(one["points"]) >= 4


@FEW
@given(name=st.sampled_from(NAMES), data=st.binary(max_size=300), packed=st.booleans())
def test_arbitrary_bytes(name: str, data: bytes, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(gzip.compress(data) if packed else data)
        read_or_refuse(detect_and_read, path, Path(folder))
        read_or_refuse(detect_and_read, Path(folder), Path(folder))


@pytest.mark.parametrize("target", sorted(TARGETS))
@FEW
@given(data=st.data())
def test_damaged_files(whole: Path, target: str, data: st.DataObject) -> None:
    name, damaged = TARGETS[target]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = whole / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
        content = (folder / damaged).read_bytes()
        inside = data.draw(st.booleans())
        changed = data.draw(damage(unpacked(content) if inside else content))
        (folder / damaged).write_bytes(changed)
        result = read_or_refuse(detect_and_read, folder / name, folder)
        if result is not None:
            is_sound(result)


@SLOW
@given(target=st.sampled_from(sorted(TARGETS)), data=st.data())
def test_no_damaged_file_is_imported_by_half(whole: Path, store: Store, target: str, data: st.DataObject) -> None:
    """The store has what the reader gave, whole, or is as it was before: with the task of the undamaged file."""
    name, damaged = TARGETS[target]
    store.remove_tasks(store.task_names())
    collect_files(store, whole / name)
    before = store.snapshot()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = whole / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
        content = unpacked((folder / damaged).read_bytes())
        (folder / damaged).write_bytes(data.draw(damage(content)))
        try:
            collected = collect_files(store, folder / name)
        except ObdbError:
            assert store.snapshot() == before
            return
        expected = detect_and_read(folder / name, image_root=folder)
    assert sorted(task.name for task in expected.tasks) == sorted(collected.tasks)
    for task in expected.tasks:
        stored = store.record(task.name)
        assert len(stored.annotations) == len(task.annotations)
        assert stored.meta["frames"] == task.meta["frames"]


@FEW
@given(name=st.sampled_from(["a.npy", "a.txt", "a.csv", "a.json"]), data=st.data())
def test_lists_of_frames(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / name
        if name in ("a.npy", "a.txt"):
            frame_lists.write_list(["a.png", "b.png"], path)
        else:
            frame_lists.write_parts({"train": ["a.png"], "val": ["b,c.png", "=d.png"]}, path)
        content = data.draw(st.binary(max_size=200) | damage(path.read_bytes()))
        path.write_bytes(content)
        read_or_refuse(frame_lists.read_list, path, Path(place))
        read_or_refuse(frame_lists.read_parts, path, Path(place))


def pictures() -> dict[str, bytes]:
    picture = Image.fromarray(np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3))
    turned = Image.Exif()
    turned[0x0112] = 6
    found = {}
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM"):
        memory = io.BytesIO()
        more = {"exif": turned} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
        picture.save(memory, format=kind, **more)  # type: ignore[arg-type]
        found[kind] = memory.getvalue()
    return found


PICTURES = pictures()


@FEW
@given(kind=st.sampled_from(sorted(PICTURES)), data=st.data())
def test_damaged_images(kind: str, data: st.DataObject) -> None:
    content = data.draw(st.binary(max_size=100) | damage(PICTURES[kind]))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.png"
        path.write_bytes(content)
        with contextlib.suppress(UNREADABLE):
            assert all(side > 0 for side in upright_size(path))
        with contextlib.suppress(FrameError):
            assert FrameStore([place]).load("a.png").shape[2] == 3
