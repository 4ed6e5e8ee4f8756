"""A pull at work: images from where they are, several tasks at once, accidents, and the account of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.collect import collect_cvat
from obdb_lib.cvat.pull import pull_into
from obdb_lib.errors import CvatError, DatasetError
from obdb_lib.progress import Task
from obdb_lib.store import Store
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.helpers import PASSWORD, log_in, make_images
from tests.one_database import emptied_store, one_database  # noqa: F401 - fixtures
from tests.test_cvat_pull import complete, draw, make_cvat_task
from tests.test_cvat_pull_into import kinds


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


# -- images ----------------------------------------------------------------------------------------------------------


def test_images_of_a_share_are_linked_not_fetched(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path
) -> None:
    number = make_cvat_task(client, tmp_path / "up", "T", "a.png", "b.png", "c.png")
    data = server.world.tasks[number].data
    assert data is not None
    for frame, name in zip(data.frames, ("fielddata/1L/a.png", "fielddata/1L/b.png", "other/c.png"), strict=True):
        frame.name = name
    make_images(tmp_path / "mount", ["1L/a.png"])
    make_images(tmp_path / "mount", ["1L/b.png"], size=(5, 5))  # not the image that was annotated
    share = {"fielddata": tmp_path / "mount"}
    down = tmp_path / "down"
    summary = pull_into(store, client, jobs="all", image_root=down, share=share)
    assert (summary.images_linked, summary.images_fetched) == (1, 2)
    assert (down / "fielddata/1L/a.png").resolve() == tmp_path / "mount/1L/a.png"
    assert (down / "fielddata/1L/b.png").read_bytes() == (tmp_path / "up/b.png").read_bytes()
    (tmp_path / "mount/1L/a.png").unlink()  # the share is gone: the image comes from CVAT in place of the dead link
    summary = pull_into(store, client, jobs="all", image_root=down, share=share)
    assert (summary.images_linked, summary.images_fetched) == (0, 1)
    assert not (down / "fielddata/1L/a.png").is_symlink()


def test_images_that_another_folder_has_are_not_fetched(client: CvatClient, store: Store, tmp_path: Path) -> None:
    make_cvat_task(client, tmp_path / "up", "T", "a.png", "b.png")
    make_images(tmp_path / "mine", ["T/a.png"])
    make_images(tmp_path / "mine", ["T/b.png"], size=(5, 5))
    store.add_image_roots([tmp_path / "mine"])
    summary = pull_into(store, client, jobs="all", image_root=tmp_path / "down")
    assert summary.images_fetched == 1
    assert [path.name for path in (tmp_path / "down").rglob("*.png")] == ["b.png"]


# -- several at once, broken off -----------------------------------------------------------------------------------


class Recorder:
    """Progress as a list, with the thread that told it."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self.threads: set[int] = set()

    def start(self, title: str, total: int | None) -> Task:
        recorder = self

        class Bar:
            def advance(self, steps: int = 1, **info: object) -> None:
                recorder.steps[title] = recorder.steps.get(title, 0) + steps
                recorder.threads.add(threading.get_ident())

        return Bar()

    def finish(self, task: Task) -> None:
        return


def test_several_tasks_at_once_and_no_more(
    client: CvatClient, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        draw(client, make_cvat_task(client, tmp_path / str(number), f"T{number}", "a.png"), {"points": [1, 1, 9, 9]})
    asked, running, most = CvatClient.annotations_json, 0, 0
    lock, together = threading.Lock(), threading.Barrier(3)

    def annotations(self: CvatClient, number: int, of: str = "tasks") -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(20)  # breaks unless three ask at once
        try:
            return asked(self, number, of)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(CvatClient, "annotations_json", annotations)
    progress = Recorder()
    summary = pull_into(store, client, jobs="all", workers=3, image_root=tmp_path / "down", progress=progress)
    assert most == 3
    assert summary.names == [f"T{number}" for number in range(6)]
    assert progress.steps == {"read CVAT tasks": 6, "get images": 6}
    assert progress.threads == {threading.get_ident()}, "a notebook's bars belong to its own thread"


def test_what_was_read_before_an_error_is_kept(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path
) -> None:
    numbers = [make_cvat_task(client, tmp_path, f"T{number}", "a.png") for number in range(4)]
    server.faults.append(Fault("GET", f"tasks/{numbers[2]}/annotations", kind="error_500", times=9))
    with pytest.raises(CvatError, match="500"):
        pull_into(store, client, jobs="all", workers=1)
    assert store.task_names() == ["T0", "T1"]
    server.faults.clear()
    assert kinds(pull_into(store, client, jobs="all")) == {
        **dict.fromkeys(("T0", "T1"), "not read"),
        **dict.fromkeys(("T2", "T3"), "added"),
    }


def test_an_interrupt_keeps_what_was_stored(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        make_cvat_task(client, tmp_path, f"T{number}", "a.png")
    put = Store.put_tasks

    def interrupted(self: Store, records: Any, **named: Any) -> Any:
        if len(self.task_names()) == 2:
            raise KeyboardInterrupt
        return put(self, records, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_tasks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pull_into(store, client, jobs="all")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pull")]
    assert len(store.task_names()) == 2
    assert len(pull_into(store, client, jobs="all").not_read) == 2


def test_a_task_deleted_while_it_is_read_is_told(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path
) -> None:
    numbers = [make_cvat_task(client, tmp_path, name, "a.png") for name in ("goes", "stays")]
    server.faults.append(
        Fault("GET", "data/meta", kind="hook", hook=lambda world: world.delete_task(world.tasks[numbers[0]]))
    )
    summary = pull_into(store, client, jobs="all", workers=1)
    assert (summary.names, store.task_names()) == (["stays"], ["stays"])
    assert "deleted while it was read" in str(summary.problems[0])


# -- the account -----------------------------------------------------------------------------------------------------


def test_summary_as_table_and_text(client: CvatClient, store: Store, tmp_path: Path) -> None:
    numbers = [make_cvat_task(client, tmp_path, name, "a.png", "b.png") for name in ("a", "b", "c")]
    draw(client, numbers[0], {"points": [1, 1, 20, 20]})
    complete(client, numbers[0])
    complete(client, numbers[1])
    first = pull_into(store, client)
    assert str(first) == "tasks: 2 added; 1 boxes added; 1 tasks without a job that counts"
    client.delete_task(numbers[1])
    second = pull_into(store, client)
    assert str(second) == "tasks: 1 not read again; 1 tasks without a job that counts; 1 tasks gone from CVAT"
    table = second.table()
    assert table[["task", "what"]].to_numpy().tolist() == [
        ["a", "not read again"],
        ["b", "gone from CVAT: deleted"],
        ["c", "no job counts yet"],
    ]
    assert first.table().loc[0, ["frames", "boxes", "boxes_added"]].tolist() == [2, 1, 1]


def test_collect__counts_what_is_there_read_or_not(
    server: StandIn, client: CvatClient, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"CVAT_URL": server.url, "CVAT_USERNAME": "admin", "CVAT_PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    number = make_cvat_task(client, tmp_path, "T", "a.png")
    with pytest.raises(DatasetError, match=r"no task with images and a job that counts .*1 tasks have none yet"):
        collect_cvat(store)
    draw(client, number, {"points": [1, 1, 20, 20]})
    complete(client, number)
    for kind in ("added", "not read"):
        collected = collect_cvat(store)
        assert kinds(collected.summary) == {"T": kind}
        assert (collected.tasks, collected.problems) == (["T"], [])
        assert collected.counts == {"tasks": 1, "frames": 1, "annotations": 1}
        assert (Path(collected.roots[0]) / "T/a.png").is_file()
