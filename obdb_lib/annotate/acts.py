"""Named acts of maintenance for ``-w NAME``: first all steps are told, then, with leave, they are done.

An act is a function that gets a ``Work`` and yields steps: what would be done, and a function that does it. It may tell
things with ``work.say`` and needs no step for that. Until the person agreed, ``work.client`` sends no change; without
``--yes`` it deletes nothing at all. A user's own acts are the public functions of the Python file that the setting
``maintenance_acts`` names::

    def archive(work):
        "Rename the tasks that match -m."
        for task in work.tasks():
            change = partial(work.client.request, "PATCH", f"tasks/{task['id']}", body={"name": "old " + task["name"]})
            yield f"rename {task['name']}", change
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from obdb_lib import paths
from obdb_lib.annotate.completing import complete_job, open_jobs
from obdb_lib.annotate.desk import DONE, DRY_RUN, Desk
from obdb_lib.cvat.guarded import GuardedClient
from obdb_lib.cvat.push import StoreJournal
from obdb_lib.cvat.undo import undo_push
from obdb_lib.errors import ActError, ObdbError, SettingsError
from obdb_lib.records import Document
from obdb_lib.settings import Settings
from obdb_lib.store import Store

LIST = "list"
AUTO = "auto_annotation"
READING = ("queued", "started")
"""States of a background request that still reads a task's images."""

CLOSED = ("verified", "merged")
"""Steps of the journal that name what stands on CVAT."""

Step = tuple[str, Callable[[], object]]


@dataclass(frozen=True)
class Work:
    """What an act works with.

    Attributes:
        match: text of ``-m``, "" when not given; ``tasks`` are those whose name holds it.
        other: text of ``-d``.
    """

    client: GuardedClient
    store: Store
    settings: Settings
    say: Callable[[str], None]
    match: str = ""
    other: str = ""

    def tasks(self) -> list[Document]:
        """Tasks on CVAT whose name holds ``match``, oldest first."""
        return [task for task in self.client.tasks() if self.match in str(task["name"])]


Act = Callable[[Work], Iterable[Step] | None]


def complete_listed(work: Work) -> Iterator[Step]:
    """Set the tasks of the settings' first_year_tasks completed (what upstream's -w did last)."""
    wanted = work.settings.first_year_tasks
    if not wanted:
        work.say("the settings list no first_year_tasks")
    for task, jobs in open_jobs(work.client, lambda name: name in wanted):
        for job in jobs:
            yield f"complete job {job} of {task!r}", partial(complete_job, work.client, job)


def same_names(work: Work) -> None:
    """Tell tasks that share their name with another one; pull and merge need names that are unique."""
    ids: dict[str, list[int]] = {}
    for task in work.tasks():
        ids.setdefault(str(task["name"]), []).append(int(task["id"]))
    twice = {name: numbers for name, numbers in ids.items() if len(numbers) > 1}
    work.say("\n".join(f"{name!r}: ids {numbers}" for name, numbers in twice.items()) or "no two tasks share a name")


def delete_empty(work: Work) -> Iterator[Step]:
    """Delete auto_annotation tasks without images, as failed uploads leave them behind (-m: others of that name)."""
    for task in work.tasks():
        if not task.get("size") and (work.match or str(task["name"]).startswith(AUTO)):
            number = int(task["id"])
            request = work.client.upload_request(number)
            if request is None or request.get("status") not in READING:
                yield f"delete empty task {task['name']!r} (id {number})", partial(work.client.delete_task, number)


def delete_auto(work: Work) -> Iterator[Step]:
    """Delete the auto_annotation tasks whose name holds -d, with all that was drawn in them."""
    if not work.other:
        raise SettingsError("-w delete_auto needs -d, a part of the names, so that not all tasks go by mistake")
    for task in work.tasks():
        if str(task["name"]).startswith(AUTO) and work.other in str(task["name"]):
            number = int(task["id"])
            yield f"delete task {task['name']!r} (id {number})", partial(work.client.delete_task, number)


def pushes(work: Work) -> None:
    """List pushes, merges and uploads by their ids, and how many of their boxes are known to stand on CVAT."""
    standing: dict[str, set[str]] = {}
    for entry in work.store.pushes():
        what = entry.get("kind") or entry.get("model")
        line = "  ".join(str(part or "-") for part in (entry["push_id"], what, entry["server"], entry["task_name"]))
        boxes = standing.setdefault(line, set())
        if entry["step"] in CLOSED:
            boxes |= set(entry["suggestion_ids"])
        elif entry["step"] == "undone":
            boxes -= set(entry["suggestion_ids"])
    lines = [f"{line}  {len(boxes)} boxes" for line, boxes in standing.items()]
    work.say("\n".join(lines) or "nothing was pushed yet")


def undo(work: Work) -> Iterator[Step]:
    """Take back the push, merge or upload that -d names by its id: what it made goes, what people changed stays."""
    if not work.other:
        raise SettingsError("-w undo needs -d, the id of a push, merge or upload; -w pushes lists them")
    take_back = partial(undo_push, work.client, work.other, journal=StoreJournal(work.store))
    plan = take_back()
    told = [line for line in plan.summary().splitlines() if not line.startswith("Dry run")]  # how to is told below
    work.say("\n".join(told))
    work.say(f"{plan.table()[['task_id', 'act', 'boxes', 'kept', 'name']].to_string(index=False)}")
    if any(task.act.startswith("delete") for task in plan.tasks):
        yield f"undo {work.other}", partial(take_back, confirm=True)


OWN: tuple[Act, ...] = (complete_listed, same_names, delete_empty, delete_auto, pushes, undo)


def all_acts(settings: Settings) -> dict[str, Act]:
    """Acts by name: ours, and those of the user's file.

    Raises:
        SettingsError: the file cannot be loaded, or one of its acts has the name of ours.
    """
    found: dict[str, Act] = {act.__name__: act for act in OWN}
    if settings.maintenance_acts:
        path = paths.locate(settings.maintenance_acts)
        module = _load(path)
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                if name in found or name == LIST:
                    raise SettingsError(f"maintenance_acts: {path} names an act {name}, as the lab does; rename it")
                found[name] = value
    return found


def _load(path: Path) -> ModuleType:
    """The user's own code, run because the settings name it."""
    spec = importlib.util.spec_from_file_location("obdb_user_acts", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SettingsError(f"maintenance_acts: {path} is no Python file that is there")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file does wrong is told as their mistake, with its name
        raise SettingsError(f"maintenance_acts: {path} cannot be run ({type(error).__name__}: {error})") from error
    return module


def run_act(name: str, desk: Desk, *, match: str = "", other: str = "") -> int:
    """Tell what the act would do, ask, do it. ``list`` tells all acts.

    Raises:
        SettingsError: no act of this name, or the user's file is wrong.
        CvatError: CVAT cannot be used, or an act changes something without leave.
    """
    acts = all_acts(desk.settings)
    if name == LIST:
        desk.say("\n".join(f"{one:<18}{_about(act)}" for one, act in acts.items()))
        return DONE
    if name not in acts:
        near = difflib.get_close_matches(name, acts, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(f"-w {name!r}: no act of this name; {hint}there are {', '.join([*acts, LIST])}")
    client = GuardedClient(desk.client())
    work = Work(client, desk.store, desk.settings, desk.say, match, other)
    with _told_as_its_own(name):
        steps = list(acts[name](work) or ())
    if not steps:
        return DONE
    desk.say("\n".join(what for what, _ in steps))
    what = "this step" if len(steps) == 1 else f"these {len(steps)} steps"
    if not desk.agreed(f"Do {what} on {client.url}"):
        return DRY_RUN
    client.may_write, client.may_delete = True, desk.sure
    for number, (step, do) in enumerate(steps, 1):
        with _told_as_its_own(name):
            do()
        desk.say(f"{number}/{len(steps)} done: {step}")
    return DONE


@contextmanager
def _told_as_its_own(name: str) -> Iterator[None]:
    try:
        yield
    except ObdbError:
        raise
    except Exception as error:  # the code may be the user's
        raise ActError(f"-w {name} broke off with {type(error).__name__}: {error}") from error


def _about(act: Act) -> str:
    return (inspect.getdoc(act) or "(says nothing about itself)").splitlines()[0]
