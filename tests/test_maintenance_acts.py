"""``auto_annotate -w NAME``: steps are told first, a user's own acts are found, and nothing is deleted unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from obdb_lib.cli.auto_annotate import main
from obdb_lib.store import Store
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import MemoryJournal, log_in, two_frame_plan
from tests.test_cvat_xml_upload import NAMES, upload, write_folder

ACTS = '''
"""Acts of our own."""
from functools import partial

def archive(work):
    """Rename the tasks that match -m."""
    for task in work.tasks():
        change = partial(work.client.request, "PATCH", f"tasks/{task['id']}", body={"name": "old " + task["name"]})
        yield f"rename {task['name']}", change

def careless(work):
    for task in work.tasks():
        work.client.delete_task(task["id"])

def sweep(work):
    """Delete all that match."""
    for task in work.tasks():
        yield f"delete {task['id']}", partial(work.client.delete_task, task["id"])

def broken(work):
    return [(1 / 0, None)]

def _hidden(work):
    raise AssertionError
'''


@pytest.fixture
def server(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Two tasks of an upload, one empty auto task, one full auto task."""
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    with StandIn() as found:
        for name, value in (("URL", found.url), ("USERNAME", "admin"), ("PASSWORD", "admin-password")):
            monkeypatch.setenv(f"CVAT_{name}", value)
        client = log_in(found)
        upload(write_folder(tmp_path), client)
        client.create_task("auto_annotation_resnet18_2021_empty", labels=["a"])
        yield found


def run(*arguments: str) -> int:
    return main(list(arguments))


def names(server: StandIn) -> list[str]:
    return [task.name for task in server.world.tasks.values()]


@pytest.fixture
def settings(tmp_path: Path) -> str:
    (tmp_path / "acts.py").write_text(ACTS)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"variants": ["resnet18"], "maintenance_acts": str(tmp_path / "acts.py")}))
    return str(path)


def test_list_tells_all_acts_with_their_first_sentence(
    settings: str, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    assert run("-w", "list", "--settings_file", settings) == 0
    told = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert {"complete_listed", "same_names", "delete_empty", "delete_auto", "pushes"} <= set(told)
    assert told["archive"] == "Rename the tasks that match -m."
    assert told["careless"] == "(says nothing about itself)"
    assert "_hidden" not in told
    assert "partial" not in told


def test_act_of_the_user__told_first_then_done(
    server: StandIn, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["-w", "archive", "-m", "GH02", "--settings_file", settings]
    before = len(server.writes)
    assert run(*given) == 3
    told = capsys.readouterr().out
    assert "rename FieldData 20200520145736 1L GH02" in told
    assert "GH03" not in told
    assert len(server.writes) == before
    assert run(*given, "--yes") == 0
    assert "1/1 done: rename" in capsys.readouterr().out
    assert f"old {next(iter(NAMES))}" in names(server)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("careless", "DELETE /api/tasks/1 was not sent: before anything is changed an act says what it would do"),
        ("broken", "-w broken broke off with ZeroDivisionError: division by zero"),
    ],
)
def test_careless_and_broken_acts_are_stopped(
    act: str, told: str, server: StandIn, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(server.writes)
    assert run("-w", act, "--settings_file", settings, "--yes") == 1
    assert told in capsys.readouterr().err
    assert len(server.writes) == before


def test_nothing_is_deleted_without_yes__not_even_with_a_yes_in_the_terminal(
    server: StandIn, settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "y")
    there = names(server)
    for act in (["sweep"], ["delete_empty"], ["delete_auto", "-d", "2021"]):
        assert run("-w", *act, "--settings_file", settings) == 1
        assert "it deletes, and that needs --yes" in capsys.readouterr().err
        assert names(server) == there
    assert run("-w", "sweep", "-m", "GH03", "--settings_file", settings, "--yes") == 0
    assert names(server) == [there[0], there[2]]


def test_delete_empty_and_delete_auto(server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from obdb_lib.cvat.push import send

    send(two_frame_plan(tmp_path / "push"), log_in(server), journal=MemoryJournal(), confirm=True)
    assert run("-w", "delete_empty", "--yes") == 0
    assert [name.split("_")[0] for name in names(server)] == [*NAMES, "auto", "auto"]
    assert run("-w", "delete_auto", "--yes") == 2
    assert "needs -d, a part of the names" in capsys.readouterr().err
    assert run("-w", "delete_auto", "-d", "Field A", "--yes") == 0
    assert [name for name in names(server) if name.startswith("auto")] == [names(server)[-1]]
    assert names(server)[-1].endswith("Field B")


def test_same_names_and_pushes(
    server: StandIn, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-w", "same_names") == 0
    assert "no two tasks share a name" in capsys.readouterr().out
    log_in(server).create_task(next(iter(NAMES)), labels=["a"])
    assert run("-w", "same_names") == 0
    assert f"{next(iter(NAMES))!r}: ids [1, 4]" in capsys.readouterr().out
    assert run("-w", "pushes") == 0
    assert "nothing was pushed yet" in capsys.readouterr().out
    assert run("-x", str(tmp_path / "xml"), "--yes") == 1
    assert "images cannot be read" in capsys.readouterr().err


def test_complete_listed__those_of_the_settings(
    server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"variants": ["resnet18"], "first_year_tasks": [next(iter(NAMES))]}))
    assert run("-w", "complete_listed", "--settings_file", str(path), "--yes") == 0
    assert [task["status"] for task in log_in(server).tasks()][:2] == ["completed", "annotation"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "is no Python file that is there"),
        ("def f(:", "cannot be run (SyntaxError"),
        ("import nowhere_at_all", "cannot be run (ModuleNotFoundError: No module named 'nowhere_at_all')"),
        ("def delete_auto(work):\n    pass", "names an act delete_auto, as the lab does; rename it"),
    ],
)
def test_wrong_file_of_acts(
    text: str | None,
    told: str,
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OBDB_DATABASE", store._db.name)
    if text is not None:
        (tmp_path / "acts.py").write_text(text)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"variants": ["resnet18"], "maintenance_acts": str(tmp_path / "acts.py")}))
    assert run("-w", "list", "--settings_file", str(path)) == 2
    assert told in capsys.readouterr().err
