"""The lab's other files in the hands of somebody who means harm: decisions, settings, split manifests, detections."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obdb_lib import manifest
from obdb_lib.cache import read_json
from obdb_lib.detections import read_detections
from obdb_lib.errors import ObdbError
from obdb_lib.recorded import read_decisions
from obdb_lib.settings import Settings
from obdb_lib.settings_blocks import load_hyperparameters
from tests.conftest import PROJECT
from tests.formats_helpers import examples
from tests.test_formats_fuzz import damage

DECISION = {"verdict": "accept", "img_path": "a.png", "object_class": "weed", "x1": 1, "y1": 2, "x2": 30, "y2": 40}
LONGEST = 20_000
"""Characters of a message: those about settings list all mistakes, and name each key as it is written."""
MANIFEST = b'{"obdb_split": 1, "parts": {"train": [["a.png", "0 0"]]}, "strategy": "given"}'
TABLE = b"img_path,object_class,x1,y1,x2,y2,score\na.png,weed,1,2,30,40,0.5\n"
READERS: dict[str, tuple[Callable[[Path], Any], str, bytes]] = {
    "decisions, JSON": (read_decisions, "a.json", json.dumps([DECISION]).encode()),
    "decisions, CSV": (
        read_decisions,
        "a.csv",
        "\n".join([",".join(DECISION), ",".join(map(str, DECISION.values()))]).encode(),
    ),
    "settings": (Settings.load, "a.json", (PROJECT / "settings.cpu.json").read_bytes()),
    "manifest": (
        manifest.load,
        "a.json",
        b'{"obdb_split": 1, "parts": {"train": [["a.png", "0 0"]]}, "strategy": "given"}',
    ),
    "hyperparameters": (load_hyperparameters, "a.json", b'{"lr": 0.001, "batch_size": 2}'),
    "any JSON": (read_json, "a.json", b'{"a": [1, 2]}'),
    "detections": (read_detections, "a.csv.gz", gzip.compress(TABLE)),
}


def read_or_refuse(name: str, content: bytes) -> None:
    """The reader's answer, or an error of the lab's own; anything else fails the test."""
    read, file, _ = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(content)
        try:
            read(path)
        except ObdbError as error:
            said = str(error)
        else:
            return
    assert len(said) < LONGEST


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_damaged_files(name: str, data: st.DataObject) -> None:
    whole = READERS[name][2]
    packed = whole.startswith(b"\x1f\x8b")
    inside = damage(gzip.decompress(whole)).map(gzip.compress) if packed else st.nothing()
    read_or_refuse(name, data.draw(st.binary(max_size=200) | damage(whole) | inside))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b'{"a": ' + b"9" * 10_000 + b"}", b"\xff\xfe", b"\0" * 99, b""],
    ids=["nested lists", "nested objects", "a long number", "a long number inside", "no UTF-8", "NUL", "empty"],
)
def test_monstrous_files(name: str, content: bytes) -> None:
    read_or_refuse(name, content)
