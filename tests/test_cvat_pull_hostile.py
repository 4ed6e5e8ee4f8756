"""What a server should never send: names that lead elsewhere, numbers beyond any database, answers of another form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.pull import pull_into, pull_tasks
from obdb_lib.cvat.pull_images import place_of
from obdb_lib.cvat.pull_read import img_path
from obdb_lib.errors import CvatError, ObdbError, StoreError
from obdb_lib.frames import FrameStore
from obdb_lib.store import Store
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.answers import Answer
from tests.cvat_server.helpers import log_in
from tests.one_database import emptied_store, one_database  # noqa: F401 - fixtures
from tests.test_cvat_pull import draw, make_cvat_task

TOO_LONG = ("x" * 300 + ".png", "ü" * 200 + "/evil.png")
EVIL_NAMES = (
    "../../evil.png",
    "/etc/../../evil.png",
    "..\\..\\evil.png",
    "a/../../../evil.png",
    "nul\x00.png",
    "../nul\x00.png",
    "line\nbreak.png",
    "//host/share/evil.png",
    "C:\\windows\\evil.png",
    *TOO_LONG,
    "..",
    ".",
    "a/..",
    "a/",
)
HTML, FORMULA = "<script>alert(1)</script>", '=HYPERLINK("http://evil","weed")'


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


def answer(server: StandIn, pattern: str, value: Any, times: int = 1) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    server.faults.append(Fault("GET", pattern, answer=Answer(200, body, "application/json"), times=times))


@pytest.mark.parametrize("name", EVIL_NAMES, ids=lambda name: repr(name)[:24])
def test_image_names_stay_in_their_folder(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path, name: str
) -> None:
    number = make_cvat_task(client, tmp_path / "up", "T", "a.png")
    draw(client, number, {"points": [1, 1, 20, 20]})
    data = server.world.tasks[number].data
    assert data is not None
    data.frames[0].name = name
    before = {path for path in tmp_path.rglob("*") if "down" not in path.parts}
    summary = pull_into(store, client, jobs="all", image_root=tmp_path / "down", share={"": tmp_path / "share"})
    assert {path for path in tmp_path.rglob("*") if "down" not in path.parts} == before
    record = store.record("T")
    assert [box["img_path"] for box in record.annotations] == [record.meta["frames"][0]["name"]]
    assert "\x00" not in record.meta["frames"][0]["name"]
    written = [path for path in (tmp_path / "down").rglob("*") if path.is_file()]
    if name in TOO_LONG:
        assert "too long for a file" in str(summary.problems[0])
        assert written == []
    else:
        assert [FrameStore([tmp_path / "down"]).path(record.meta["frames"][0]["name"])] == written


def test_image_names_never_read_a_share_from_outside(tmp_path: Path) -> None:
    for name in EVIL_NAMES:
        assert place_of(tmp_path, name).is_relative_to(tmp_path)
        assert ".." not in place_of(tmp_path, name).parts


@pytest.mark.parametrize("task", ["..", ".", "../..", "a/../b", "/", "x" * 250, "ü" * 250, "nul\x00", HTML, FORMULA])
def test_task_names_make_one_folder(tmp_path: Path, task: str) -> None:
    folder, _, name = img_path("a.png", task, {}).partition("/")
    assert name == "a.png"
    assert folder not in ("", ".", "..")
    assert len(folder.encode()) < 230
    (tmp_path / folder).mkdir()
    assert (tmp_path / folder).parent == tmp_path


def test_task_names_that_look_alike_have_folders_of_their_own() -> None:
    names = ["..", ".", "x" * 240 + "a", "x" * 240 + "b"]
    assert len({img_path("a.png", name, {}) for name in names}) == len(names)


@pytest.mark.parametrize("label", [HTML, FORMULA, "a" * 5000, "\x00", "{$where: 1}", "$name", "a.b", "ﬁ\u202e"])
def test_label_names_are_only_text(client: CvatClient, store: Store, tmp_path: Path, label: str) -> None:
    """Kept letter by letter, so that a push finds the label again; what shows them escapes them."""
    from tests.cvat_server.helpers import make_images

    images = make_images(tmp_path, ["a.png"])
    number = int(client.create_task("T", labels=[label, "other"])["id"])
    client.wait(client.upload(number, [images.path("a.png")]))
    draw(client, number, {"points": [1, 1, 20, 20]})
    summary = pull_into(store, client, jobs="all")
    assert [box["object_class"] for box in store.record("T").annotations] == [label]
    assert store.load(store.snapshot()).classes == (label,)
    assert kinds_twice(store, client) == []
    assert "<script" not in summary.table().to_html()


def kinds_twice(store: Store, client: CvatClient) -> list[str]:
    return [
        change.kind for change in pull_into(store, client, jobs="all", force=True).changes if change.kind != "unchanged"
    ]


def test_a_task_name_of_html_is_escaped_in_the_table(client: CvatClient, store: Store, tmp_path: Path) -> None:
    make_cvat_task(client, tmp_path, HTML, "a.png")
    summary = pull_into(store, client, jobs="all")
    assert store.task_names() == [HTML]
    assert "<script" not in summary.table()._repr_html_()


SHAPE = {"type": "rectangle", "frame": 0, "label_id": 1, "points": [1, 1, 9, 9], "id": 1}
LONG = "9" * 10_000


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"points": [1, 1, 1e308, 9]}, "set aside"),
        ({"points": [1, 1, 10**30, 9]}, "set aside"),
        ({"frame": 10**30}, "has not the form"),
        ({"frame": 10**9}, "has not the form"),
        ({"frame": -1}, "has not the form"),
        ({"frame": "zero"}, "has not the form"),
        ({"id": 2**63}, "has not the form"),
        ({"label_id": 10**400}, "has not the form"),
        ({"points": "1,2,3,4"}, "has not the form"),
        ({"points": [[1, 1], [9, 9]]}, "has not the form"),
        ({"points": None}, "has not the form"),
        ({"points": []}, "set aside"),
        ({"points": [1, 1, 9]}, "set aside"),
        ({"rotation": 1e400}, "has not the form"),
        ({"score": float("nan")}, "has not the form"),
        ({"attributes": [{"spec_id": 10**30, "value": "x"}]}, "has not the form"),
        ({"type": None}, "has not the form"),
        ({"source": {"$gt": ""}}, "has not the form"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_numbers_and_kinds(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path, shape: dict[str, Any], told: str
) -> None:
    make_cvat_task(client, tmp_path, "T", "a.png")
    pull_into(store, client, jobs="all")
    answer(server, "annotations", {"shapes": [SHAPE, {**SHAPE, "id": 2, **shape}], "tracks": [], "tags": []}, times=3)
    if told == "set aside":
        summary = pull_into(store, client, jobs="all", force=True)
        assert told in str(summary.problems[0])
        assert len(store.record("T").annotations) == 1
    else:
        with pytest.raises(CvatError, match=told) as caught:
            pull_into(store, client, jobs="all", force=True)
        assert "'T' (id 1)" in str(caught.value)
        assert store.record("T").annotations == [], "nothing of it was stored"


def test_ten_thousand_digits(server: StandIn, client: CvatClient, store: Store, tmp_path: Path) -> None:
    make_cvat_task(client, tmp_path, "T", "a.png")
    body = json.dumps({"shapes": [{**SHAPE, "points": [1, 1, 9, "X"]}]}).replace('"X"', LONG).encode()
    answer(server, "annotations", body, times=3)
    with pytest.raises(CvatError, match="has not the form"):
        pull_into(store, client, jobs="all")
    assert store.task_names() == []


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("data/meta", {"frames": [{"name": "a.png", "width": 10**30, "height": 4}], "size": 1}),
        ("data/meta", {"frames": [{"name": None, "width": 4, "height": 4}], "size": 1}),
        ("data/meta", {"frames": {"a.png": 1}}),
        ("data/meta", {"frames": [{"name": "a.png", "width": 4, "height": 4}], "size": 2**40}),
        ("labels", {"results": [{"id": 10**30, "name": "a"}], "next": None}),
        ("labels", {"results": [{"id": 1, "name": ["a"]}], "next": None}),
        ("labels", {"results": ["a"], "next": None}),
        ("api/jobs", {"results": [{"id": 1}], "next": None}),
        ("api/jobs", {"results": [7], "next": None}),
        ("api/tasks\\?", {"results": [{"id": "one", "name": 3}], "next": None}),
        ("api/tasks\\?", {"results": ["T"], "next": None}),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
def test_lists_and_frames_of_another_form(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path, pattern: str, value: Any
) -> None:
    make_cvat_task(client, tmp_path, "T", "a.png")
    answer(server, pattern, value, times=3)
    with pytest.raises(ObdbError):
        pull_into(store, client, jobs="all")
    assert store.task_names() == []


def test_what_a_label_hides_is_told_by_the_store(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path
) -> None:
    make_cvat_task(client, tmp_path, "T", "a.png")
    label = {"id": 1, "name": "a", "attributes": [{"id": 10**30}]}
    answer(server, "labels", {"results": [label], "next": None})
    with pytest.raises(StoreError, match="task 'T' cannot be stored"):
        pull_into(store, client, jobs="all")
    assert store.task_names() == []


def test_images_that_are_none_or_too_large_are_not_kept(server: StandIn, client: CvatClient, tmp_path: Path) -> None:
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    make_cvat_task(client, tmp_path, "T", "a.png")
    for content in (b"\x89PNG\r\n\x1a\n" + chunk, b"<html>log in</html>", b""):
        answer(server, "type=frame", content)
        result = pull_tasks(client, only_completed=False, image_root=tmp_path / "down")
        assert "not saved" in str(result.problems[-1])
        assert not list((tmp_path / "down").rglob("*.png"))
