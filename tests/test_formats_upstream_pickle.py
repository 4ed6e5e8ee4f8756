"""Upstream's pickled tables: what a plain one gives, and that nothing else ever runs."""

from __future__ import annotations

import builtins
import functools
import operator
import os
import pickle
import pickletools
import struct
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obdb_lib.errors import FormatError, PickleRefusedError
from obdb_lib.formats import upstream_pickle
from obdb_lib.formats._table_pickle import ALLOWED, load_table
from obdb_lib.formats._table_pickle_writer import table_pickle
from tests.formats_helpers import VIDEO, examples, said, small_task, totals, upstream_row, upstream_table, write


def pickled(folder: Path, rows: list[dict[str, Any]], protocol: int = 4) -> Path:
    return write(folder / "t.pkl", pickle.dumps(upstream_table(rows), protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_plain_table_is_read(tmp_path: Path, protocol: int) -> None:
    result = upstream_pickle.read(
        pickled(tmp_path, [upstream_row(1), upstream_row(2, bboxes=[], labels=[], shape_types=[])], protocol)
    )
    (task,) = result.tasks
    assert result.problems == []
    assert task.name == "gt_val_1"
    assert [label["name"] for label in task.task["labels"]] == ["Cleavers", "Fat hen"]
    assert [frame["name"] for frame in task.meta["frames"]] == [
        VIDEO.format(number).removeprefix("/weed_data/") for number in (1, 2)
    ]
    first, second = task.annotations
    assert first["points"] == [10.5, 20.25, 40.0, 60.0]
    assert (first["object_class"], first["label_id"]) == ("Fat hen", 2)
    assert (second["occluded"], second["source"], second["frame"]) == (False, "manual", 0)
    assert (second["img_width"], second["img_height"]) == (1920, 1080)


def test_rows_and_columns_are_those_that_pandas_sees(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(5, 3)), columns=pd.Index(["a", "b", "c"], dtype=object))
    frame["n"], frame["flag"] = rng.integers(0, 9, 5), rng.random(5) > 0.5
    frame["text"] = pd.Series(list("vwxyz"), dtype=object)
    frame["more"] = pd.Series([[np.int64(n), np.float32(0.5)] for n in range(5)], dtype=object)
    frame.columns = frame.columns.astype(object)
    for variant in (frame, frame[::-1], frame[["text", "b", "n", "a"]], frame.iloc[1:3], frame.copy().sort_values("a")):
        expected = {name: variant[name].tolist() for name in variant.columns}
        assert load_table(pickle.dumps(variant, protocol=4), tmp_path) == expected


@pytest.mark.parametrize(("prefix", "start"), [("/weed_data/", "f/"), ("/weed_data/f/", "2020"), ("", "/weed_data/")])
def test_prefix_is_taken_off(tmp_path: Path, prefix: str, start: str) -> None:
    result = upstream_pickle.read(pickled(tmp_path, [upstream_row()]), strip_prefix=prefix)
    assert result.tasks[0].annotations[0]["img_path"].startswith(start)


def test_without_task_names_the_recording_or_folder_names_the_task(tmp_path: Path) -> None:
    rows = [upstream_row(1), upstream_row(2, img_path="/weed_data/north/a.png")]
    for one in rows:
        del one["task_name"]
    result = upstream_pickle.read(pickled(tmp_path, rows))
    assert [task.name for task in result.tasks] == ["FieldData 20200508122912 3R GH060070", "north"]


@pytest.mark.parametrize(
    ("change", "reason", "left"),
    [
        ({"labels": ["Fat hen"]}, "2 boxes but 1 labels", 0),
        ({"labels": ["Fat hen", ""]}, "box 1: set aside", 1),
        ({"bboxes": [[1, 2, 3], [1, 2, 30, 40]]}, "box 0: set aside", 1),
        ({"bboxes": [[1, 2, 3, float("nan")], [1, 2, 30, 40]]}, "box 0: set aside", 1),
        ({"img_path": ""}, "row 1: set aside: needs an img_path", 0),
        ({"img_width": 0}, "row 1: set aside: needs an img_path", 0),
        ({"shape_types": ["polygon", "rectangle"]}, "1 outlines", 2),
    ],
)
def test_bad_rows_are_set_aside_with_their_number(
    tmp_path: Path, change: dict[str, Any], reason: str, left: int
) -> None:
    result = upstream_pickle.read(pickled(tmp_path, [upstream_row(1), upstream_row(2, **change)]))
    assert totals(result)[2] == 2 + left
    assert said(result, reason)
    assert said(result, "row 1")


def test_missing_column_is_named(tmp_path: Path) -> None:
    one = upstream_row()
    del one["bboxes"]
    with pytest.raises(FormatError, match=r"t\.pkl is not one of upstream's tables: it lacks bboxes.*img_path"):
        upstream_pickle.read(pickled(tmp_path, [one]))


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def attacks(marker: Path) -> dict[str, Any]:
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, touch),
        "subprocess": Call(subprocess.check_call, ["touch", str(marker)]),
        "eval": Call(builtins.eval, code),
        "exec": Call(builtins.exec, code),
        "open": Call(builtins.open, str(marker), "w"),
        "getattr": Call(builtins.getattr, Call(builtins.__import__, "os"), "system"),
        "pathlib": Call(Path.touch, marker),
        "a path alone": marker,
        "partial": functools.partial(os.system, touch),
        "operator": Call(operator.methodcaller("touch"), marker),
        "attrgetter": operator.attrgetter("system"),
        "numpy.load": Call(np.load, str(marker)),
        "pandas.eval": Call(pd.eval, "1"),
        "read_pickle": Call(pd.read_pickle, str(marker)),
        "simple namespace": types.SimpleNamespace(a=1),
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", list(attacks(Path("marker"))))
def test_anything_else_is_refused_and_not_run(tmp_path: Path, name: str, protocol: int) -> None:
    marker = tmp_path / "ran"
    attack = attacks(marker)[name]
    for number, content in enumerate(
        [attack, [1, {"x": attack}], upstream_table([upstream_row(labels=["a", attack])])]
    ):
        if number == 2 and protocol < 2:
            continue
        path = write(tmp_path / "evil.pkl", pickle.dumps(content, protocol=protocol))
        with pytest.raises(
            PickleRefusedError, match=r"evil\.pkl was refused: it asks for \S+, which.*Nothing of it was run"
        ):
            upstream_pickle.read(path)
        assert not marker.exists()


def test_the_attacks_of_these_tests_do_work_on_an_unguarded_reader(tmp_path: Path) -> None:
    for name in ("os.system", "eval", "pathlib", "subprocess"):
        marker = tmp_path / name
        pickle.loads(pickle.dumps(attacks(marker)[name]))
        assert marker.exists(), name


def test_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(PickleRefusedError, match=r"it asks for (posix|nt)\.system"):
        upstream_pickle.read(write(tmp_path / "evil.pkl", pickle.dumps(Call(os.system, "true"))))


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch ran'\no.",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x04\x8c\x0bnumpy.core.\x8c\x0dos.path.split\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
        b"\x80\x02Pperson\n.",
    ],
    ids=["GLOBAL", "INST", "OBJ", "name only", "STACK_GLOBAL", "dotted", "dotted of an allowed one", "persistent id"],
)
def test_handwritten_programs_are_refused(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(PickleRefusedError, match="was refused"):
        upstream_pickle.read(write(tmp_path / "evil.pkl", program))
    assert not (Path.cwd() / "ran").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04}r\xff\xff\xff\x7f.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
        b"\x80\x04\x82\x01.",
        b"\x80\x04.",
        b"",
        b"\x80\x04N.",
        b"\x80\x04(" + b"0" * 50 + b".",
        pickle.dumps({"a": [1, 2]}),
    ],
    ids=["memo bomb", "bytearray bomb", "bytes bomb", "extension", "nothing", "empty", "None", "underflow", "a dict"],
)
def test_damaged_or_exhausting_programs_are_format_errors(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(FormatError, match=r"bad\.pkl"):
        upstream_pickle.read(write(tmp_path / "bad.pkl", program))


def test_cut_off_file_names_the_byte(tmp_path: Path) -> None:
    whole = pickled(tmp_path, [upstream_row()]).read_bytes()
    with pytest.raises(FormatError, match=r"bad\.pkl is not a whole pickle: it makes no sense after byte \d+"):
        upstream_pickle.read(write(tmp_path / "bad.pkl", whole[: len(whole) // 2]))


def test_an_array_cannot_claim_more_than_it_holds(tmp_path: Path) -> None:
    whole = pickle.dumps(upstream_table([upstream_row(), upstream_row(2)]), protocol=4)
    claimed = whole.replace(b"K\x02\x86", b"J\xff\xff\xff\x7f\x86", 1)
    assert claimed != whole
    with pytest.raises(FormatError, match="claims the shape"):
        upstream_pickle.read(write(tmp_path / "bad.pkl", claimed))


def test_the_allowlist_holds_nothing_that_can_act() -> None:
    for (module, name), stands_for in ALLOWED.items():
        inert = stands_for is slice or stands_for.__module__ == "obdb_lib.formats._table_pickle"
        assert inert, f"{module}.{name} stands for {stands_for}"


NAMES_OF_2021 = {
    *("pandas.core.frame DataFrame", "pandas.core.internals.managers BlockManager"),
    *("pandas._libs.internals _unpickle_block", "pandas.core.indexes.base _new_Index"),
    *("pandas.core.indexes.base Index", "pandas.core.indexes.range RangeIndex"),
    *("numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype", "builtins slice"),
}
"""What upstream's own files name: the pandas and numpy of 2021 have all of these, and those of today still do."""


def names_in(data: bytes) -> set[str]:
    """``module name`` of everything that a pickle asks for (STACK_GLOBAL takes the two texts before it)."""
    texts: list[str] = []
    memo: list[str] = []
    found = set()
    for opcode, argument, _ in pickletools.genops(data):
        if "UNICODE" in opcode.name:
            texts.append(str(argument))
        elif opcode.name == "MEMOIZE":
            memo.append(texts[-1] if texts else "")
        elif opcode.name == "STACK_GLOBAL":
            found.add(" ".join(texts[-2:]))
    return found


def test_the_written_table_asks_for_nothing_that_the_pandas_of_2021_lacks(tmp_path: Path) -> None:
    upstream_pickle.write([small_task()], tmp_path / "t.pkl")
    assert names_in((tmp_path / "t.pkl").read_bytes()) == NAMES_OF_2021


columns = st.one_of(
    st.lists(st.integers(-(2**62), 2**62), min_size=3, max_size=3),
    st.lists(st.floats(allow_nan=False), min_size=3, max_size=3),
    st.lists(st.text(st.characters(codec="utf-8")), min_size=3, max_size=3),
    st.lists(st.lists(st.lists(st.floats(allow_nan=False), max_size=4), max_size=2), min_size=3, max_size=3),
    st.lists(st.none() | st.booleans() | st.integers(-9, 9), min_size=3, max_size=3),
)


@settings(max_examples=examples(60), deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), columns, min_size=1, max_size=5))
def test_pandas_and_the_restricted_reader_see_the_table_that_was_written(table: dict[str, list[Any]]) -> None:
    data = table_pickle(table)
    frame = pickle.loads(data)
    assert list(frame.columns) == list(table)
    assert {name: frame[name].tolist() for name in table} == table
    assert load_table(data, Path("x")) == table
    assert frame.iloc[::-1].reset_index(drop=True).shape == (3, len(table)), "the table can be worked with"


def test_frames_without_annotations_can_be_left_out_as_upstream_does(tmp_path: Path) -> None:
    told = upstream_pickle.write([small_task()], tmp_path / "t.pkl", empty=False, prefix="/data/")
    assert pd.read_pickle(tmp_path / "t.pkl")["img_path"].tolist() == ["/data/a/0.png", "/data/a/2.png"]
    assert any("1 frames without annotations were left out" in problem.what for problem in told)
    told = upstream_pickle.write([small_task()], tmp_path / "all.pkl")
    assert any("1 frames without annotations are rows with empty lists" in problem.what for problem in told)


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([100.0, 100.0, 150.0, 100.0, 120.0, 160.0], True),
        ([100.0, 100.0, 150.0, 100.0, 120.0, 190.0], False),
        ([100.0, 100.0, 150.0, 160.0], False),
        ([float("nan")] * 6, False),
    ],
    ids=["of this box", "of another", "a box", "no numbers"],
)
def test_outlines_are_read_where_each_box_has_its_own(tmp_path: Path, points: list[float], kept: bool) -> None:
    row = upstream_row(bboxes=[[100.0, 100.0, 150.0, 160.0]], labels=["a"], shape_types=["polygon"], points=[points])
    (one,) = upstream_pickle.read(pickled(tmp_path, [row])).tasks[0].annotations
    assert (one["shape_types"] == "polygon") == kept
    assert one["points"] == (points if kept else [100.0, 100.0, 150.0, 160.0])
    assert one.get("upstream_shape_types") == (None if kept else "polygon")
