"""Files of somebody who means harm: refused or made harmless, the store untouched, nothing run, no memory filled."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from obdb_lib import formats
from obdb_lib.collect import collect_files
from obdb_lib.errors import FormatError, FrameError, ObdbError, PickleRefusedError
from obdb_lib.formats import _shared, detect_and_read, frame_lists
from obdb_lib.frames import FrameStore
from obdb_lib.images import UNREADABLE, upright_size
from obdb_lib.store import Store
from tests.formats_helpers import ODD_NAMES, small_task, totals, write
from tests.helpers import task

MEMORY_MIB = 64
"""What a refusal may take: far less than the gigabytes that the files of these tests declare."""
LONG = "9" * 10_000


@contextmanager
def little_memory(mib: int = MEMORY_MIB) -> Iterator[None]:
    """Fails when Python takes more at its peak."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mib << 20
    finally:
        tracemalloc.stop()


# -- XML -----------------------------------------------------------------------------------------------------------

ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
DOCTYPES = {
    "billion laughs": f'<!DOCTYPE x [<!ENTITY e0 "lol">{ENTITIES}]>',
    "quadratic": f'<!DOCTYPE x [<!ENTITY e11 "{"x" * 50_000}">]>',
    "outside file": '<!DOCTYPE x [<!ENTITY e11 SYSTEM "file:///etc/passwd">]>',
    "outside type": '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">',
    "parameter entity": '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
}


@pytest.mark.parametrize("root", ["annotations", "annotation"], ids=["CVAT", "VOC"])
@pytest.mark.parametrize("kind", DOCTYPES)
def test_xml_with_a_document_type_is_refused(tmp_path: Path, root: str, kind: str) -> None:
    body = "&e11;" * 1000 if kind != "outside type" else ""
    path = write(tmp_path / "a.xml", f"<?xml version='1.0'?>{DOCTYPES[kind]}<{root}><folder>{body}</folder></{root}>")
    with little_memory(), pytest.raises(FormatError, match="refused, because it declares a document type"):
        detect_and_read(path)


def test_xml_nested_without_end_and_with_a_million_attributes(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        detect_and_read(write(tmp_path / "deep.xml", "<annotations>" + "<a>" * 200_000))
    many = " ".join(f'a{number}="1"' for number in range(100_000))
    assert detect_and_read(write(tmp_path / "wide.xml", f"<annotations><image {many}/></annotations>")).problems


# -- gzip ----------------------------------------------------------------------------------------------------------

FILES = ["a.json.gz", "a.xml.gz", "annotation_data.jsonl.gz", "a.pkl.gz", "data.yaml", "a.parquet", "classes.txt"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("shape", ["bomb", "many members", "cut off", "damaged"])
def test_gzip_that_grows_or_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: str) -> None:
    """300 MiB of spaces in 300 kB, against a limit of 8 MiB (the real one is a gigabyte)."""
    monkeypatch.setattr(_shared.read_bytes, "__defaults__", (8 << 20,))
    monkeypatch.setattr("obdb_lib.formats.upstream_pickle.MAX_PICKLE_BYTES", 8 << 20)
    member = gzip.compress(b" " * (50 << 20), 9)
    content = {
        "bomb": member,
        "many members": member * 6,
        "cut off": member[:-9],
        "damaged": member[:500] + b"\xff" * 90,
    }
    path = write(tmp_path / name, content[shape])
    with little_memory(), pytest.raises(FormatError, match=re.escape(name)):
        detect_and_read(path if name != "classes.txt" else tmp_path)


# -- pickles -------------------------------------------------------------------------------------------------------


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


def test_pickles_that_run_code_wherever_a_pickle_can_stand(tmp_path: Path) -> None:
    ran, evil = tmp_path / "ran", tmp_path / "evil"
    evil.mkdir()
    attack = Touch(ran)
    for name in ("t.pkl", "t.pickle"):
        with pytest.raises(PickleRefusedError):
            detect_and_read(write(evil / name, pickle.dumps(attack)))
    with pytest.raises(PickleRefusedError):
        detect_and_read(write(evil / "t.pkl.gz", gzip.compress(pickle.dumps(attack))))
    array = np.empty(1, dtype=object)
    array[0] = attack
    np.save(evil / "list.npy", array, allow_pickle=True)
    with pytest.raises(PickleRefusedError):
        frame_lists.read_list(evil / "list.npy")
    for name in ("a.parquet", "a.json", "a.xml", "data.yaml"):
        with pytest.raises(FormatError):
            detect_and_read(write(evil / name, pickle.dumps(attack)))
    assert not ran.exists()
    np.load(evil / "list.npy", allow_pickle=True)
    assert ran.exists(), "the attack does work on an unguarded reader"


def test_npy_that_declares_a_gigabyte(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array(["a.png"]))
    data = (tmp_path / "x.npy").read_bytes()
    claimed = data.replace(b"'shape': (1,), ", b"'shape': (99999999,), ")
    header = struct.unpack("<H", data[8:10])[0]
    grown = len(claimed) - len(data)
    claimed = claimed[:8] + struct.pack("<H", header + grown) + claimed[10:]
    with little_memory(), pytest.raises(FormatError, match="claims 99,999,999 values"):
        frame_lists.read_list(write(tmp_path / "big.npy", claimed))


# -- numbers, text, nesting ----------------------------------------------------------------------------------------


def coco_text(**more: str) -> str:
    fields = {"id": "1", "width": "640", "height": "480", "bbox": "[1, 2, 30, 40]", "attributes": "{}"} | more
    return (
        f'{{"images": [{{"id": 1, "file_name": "a.png", "width": {fields["width"]}, "height": {fields["height"]}}}], '
        '"categories": [{"id": 1, "name": "weed"}], "annotations": [{"image_id": 1, "category_id": 1, '
        f'"id": {fields["id"]}, "bbox": {fields["bbox"]}, "attributes": {fields["attributes"]}}}]}}'
    )


NUMBERS = {
    "too long to parse": LONG,
    "long": "9" * 4000,
    "beyond a float": "1e999",
    "NaN": "NaN",
    "-Infinity": "-Infinity",
    "beyond a database": "9" * 30,
}


@pytest.mark.parametrize("field", ["id", "width", "bbox", "attributes"])
def test_monstrous_numbers_in_coco(tmp_path: Path, store: Store, field: str) -> None:
    for name, value in NUMBERS.items():
        filled = {"bbox": f"[1, 2, {value}, 4]", "attributes": f'{{"age": {value}}}'}.get(field, value)
        path = write(tmp_path / f"{name}.json", coco_text(**{field: filled}))
        before = store.task_names()
        try:
            collected = collect_files(store, path)
        except ObdbError as error:
            refusal, after = str(error), store.task_names()
        else:
            refusal, after = "", before
            assert all(len(str(problem)) < 500 for problem in collected.problems)
            record = store.record(collected.tasks[0])
            assert all(np.isfinite(one["points"]).all() for one in record.annotations)
        assert len(refusal) < 500
        assert after == before


DOCUMENT = """{"type": "annotation", "task_name": "t", "frame": 0, "img_path": "a.png", "img_width": 64,
 "img_height": 48, "object_class": "%s", "points": [1, 2, 30, 40], "more": %s}""".replace("\n", "")
UNFIT = {
    "integer of 30 digits": "9" * 30,
    "half a character": '"\\ud800"',
    "half a character as a key": '{"\\ud800": 1}',
    "NUL in a key": '{"a\\u0000b": 1}',
    "nested 60 deep": "[" * 60 + "]" * 60,
    "nested 900 deep": '{"a": ' * 400 + "1" + "}" * 400,
    "an operator": '{"$where": "1"}',
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_a_database_cannot_hold_does_not_stop_the_import(tmp_path: Path, store: Store, kind: str) -> None:
    """One bad field of the second document: the whole task is imported but for that field (or the document)."""
    lines = [DOCUMENT % ("crop", '"fine"'), DOCUMENT % ("weed", UNFIT[kind])]
    write(tmp_path / "annotation_data.jsonl", "\n".join(lines))
    collected = collect_files(store, tmp_path)
    by_class = {one["object_class"]: one for one in store.record("t").annotations}
    assert by_class["crop"]["more"] == "fine"
    if kind != "an operator":  # nested operators are plain data to MongoDB
        assert said_any(collected.problems, "left out|set aside"), collected.problems
        assert "more" not in by_class.get("weed", {})


def said_any(problems: list[Any], pattern: str) -> bool:
    return any(re.search(pattern, str(problem)) for problem in problems)


def test_a_name_that_is_half_a_character_costs_its_task_and_no_other(tmp_path: Path, store: Store) -> None:
    good, bad = small_task("good"), small_task("bad")
    bad.meta["frames"][0]["name"] = "\ud800.png"
    formats.write([good, bad], tmp_path / "x.json", "coco")
    collected = collect_files(store, tmp_path / "x.json")
    assert collected.tasks == store.task_names() == ["good"]
    assert said_any(collected.problems, "'bad': set aside as a whole")


def test_json_nested_without_end(tmp_path: Path, store: Store) -> None:
    for name, text in {
        "a.json": "[" * 1_000_000,
        "annotation_data.json": '{"a":' * 100_000,
        "b.json": '{"images": ' + "[" * 100_000,
    }.items():
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        with pytest.raises(FormatError):
            collect_files(store, write(folder / name, text))
    assert store.task_names() == []


# -- names of files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", ["yolo", "voc"])
def test_names_of_frames_never_lead_out_of_the_folder(tmp_path: Path, format_name: str) -> None:
    names = [
        *ODD_NAMES,
        "..",
        "../..",
        "a/../../../b.png",
        "nul\0byte.png",
        "/etc/passwd",
        "\\\\server\\share\\x.png",
        "~",
    ]
    record = task(frames=1)
    record.meta["frames"][:] = [{"name": name, "width": 96, "height": 64} for name in names]
    if format_name == "voc":  # XML cannot hold a NUL, and says so
        record.meta["frames"] = [frame for frame in record.meta["frames"] if "\0" not in frame["name"]]
    inner = tmp_path / "deep" / "er"
    formats.write([record], inner / "out", format_name)
    assert [path.name for path in inner.iterdir()] == ["out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]
    for path in (inner / "out").rglob("*"):
        assert path.resolve().is_relative_to((inner / "out").resolve())
    again = detect_and_read(inner / "out")
    assert [frame["name"] for frame in again.tasks[0].meta["frames"]] == [f["name"] for f in record.meta["frames"]]


def test_a_data_set_cannot_name_files_outside_of_it(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.txt", "password.png\n")
    folder = tmp_path / "set"
    folder.mkdir()
    write(
        folder / "frames.csv",
        f"file,img_path,width,height,task_name\n../../secret,x.png,64,48,t\n{secret},y.png,64,48,t\n",
    )
    write(folder / "data.yaml", f"path: ..\ntrain: [../secret.txt, {secret}]\nnames: [weed]\n")
    result = detect_and_read(folder)
    assert totals(result) == (1, 2, 0)
    (folder / "frames.csv").unlink()
    with pytest.raises(FormatError, match="no image of a known size"):
        detect_and_read(folder)


@pytest.mark.parametrize(
    "name", ["../a.png", "absolute", "b/../../a.png", "a\0.png", "x" * 5000, "..\\a.png", "a/" * 3000 + "b.png"]
)
def test_names_that_ask_for_sizes_outside_or_cannot_be_names(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    name = str(tmp_path / "a.png") if name == "absolute" else name
    assert _shared.image_size("a.png", tmp_path) == (20, 10)
    assert _shared.image_size(name, inner) is None
    with pytest.raises(FrameError, match="was not found"):
        FrameStore([inner]).path(name)


# -- images --------------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A PNG that declares a size and has next to no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1 << 30, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


BOMBS = {"png": png(40_000, 40_000), "bmp": bmp(50_000, 50_000), "ppm": b"P6 30000 30000 255\n"}


@pytest.mark.parametrize("kind", BOMBS)
def test_images_that_declare_a_gigabyte(tmp_path: Path, store: Store, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", BOMBS[kind])
    with little_memory():
        with pytest.raises(UNREADABLE):
            upright_size(path)
        with pytest.raises(FrameError, match="cannot be read"):
            FrameStore([tmp_path]).load(path.name)
        images = [{"id": 1, "file_name": path.name}]
        write(tmp_path / "a.json", json.dumps({"images": images, "annotations": [], "categories": []}))
        with pytest.raises(ObdbError, match="no width and height"):
            collect_files(store, tmp_path / "a.json")
        write(tmp_path / "data.yaml", "train: .\nnames: [weed]")
        with pytest.raises(FormatError, match="no image of a known size"):
            detect_and_read(tmp_path / "data.yaml")
    assert store.task_names() == []


def test_a_file_that_would_start_a_program_is_no_image(tmp_path: Path) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    path = write(tmp_path / "a.png", eps)
    with pytest.raises(UNREADABLE):
        upright_size(path)
    with pytest.raises(FrameError):
        FrameStore([tmp_path]).load("a.png")
