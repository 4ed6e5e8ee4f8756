"""Which verified task belongs to which ground-truth task, and which frame to which."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from obdb_lib.cvat.names import frame_names, last_part, upload_name
from obdb_lib.cvat.push_shapes import some
from obdb_lib.errors import CvatError
from obdb_lib.records import Document, Problem

COMPLETED = "completed"
DEFAULT_PREFIX = "auto_annotation"
"""Of the tasks that a push makes; they are never ground truth."""
AUTO_NAME = re.compile(r"^.+?_\d{4}(?:_\d\d){5}_(?P<source>.+)$", re.DOTALL)
"""Name of a task that a push made: ``<prefix>_<model>_<date>_<source task>``."""


@dataclass
class Pairing:
    """Verified tasks by the ground-truth task that takes them.

    Attributes:
        groups: (ground-truth task, its verified tasks), each as the server listed it, oldest first.
        problems: tasks that are left out, and why.
    """

    groups: list[tuple[Document, list[Document]]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def pair_tasks(tasks: Sequence[Document], source_prefix: str, target: str | None, *, only_completed: bool) -> Pairing:
    """Find the ground-truth task of each task whose name begins with ``source_prefix``.

    Args:
        tasks: all that the account sees.
        source_prefix: whole words of the name, for example ``auto_annotation_resnet18_2021_12_16_12_57_57``.
        target: a ground-truth task is named as the source task; with a ``target`` its name contains this and ends or
            begins with the source task's name. Blanks and underscores are the same here.
        only_completed: leave out tasks of which not every job is accepted and completed.

    Raises:
        CvatError: no task has the prefix.
    """
    prefix = source_prefix.rstrip("_")
    sources = [task for task in tasks if _begins(str(task["name"]), prefix)]
    if not prefix or not sources:
        raise CvatError(_no_sources(source_prefix, tasks))
    truths = [task for task in tasks if not _begins(str(task["name"]), DEFAULT_PREFIX) and task not in sources]
    found = Pairing()
    groups: dict[int, list[Document]] = defaultdict(list)
    for task in sources:
        where = f"task {task['name']!r} (id {task['id']})"
        named = AUTO_NAME.match(str(task["name"]))
        fits = _fitting(truths, named["source"], target) if named else []
        if only_completed and task.get("status") != COMPLETED:
            found.problems.append(Problem(where, "is not completed on CVAT, left out"))
        elif not task.get("size"):
            found.problems.append(Problem(where, "has no images, left out"))
        elif named is None:
            what = "does not tell its source task (no date as 2021_12_16_12_57_57 before it), left out"
            found.problems.append(Problem(where, what))
        elif len(fits) != 1:
            found.problems.append(Problem(where, _not_one(fits, named["source"], target, truths)))
        else:
            groups[int(fits[0]["id"])].append(task)
    found.groups = [(task, groups[int(task["id"])]) for task in truths if int(task["id"]) in groups]
    return found


def _begins(name: str, prefix: str) -> bool:
    """The prefix ends where a word ends: ``.._resnet1`` is not the beginning of ``.._resnet18_..``."""
    return name == prefix or name.startswith(f"{prefix}_")


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name).strip()


def _fitting(truths: Sequence[Document], source: str, target: str | None) -> list[Document]:
    wanted = _plain(source)
    fits = []
    for task in truths:
        name = _plain(str(task["name"]))
        if target is None:
            fitting = name == wanted
        else:
            beside = name == wanted or name.endswith(f" {wanted}") or name.startswith(f"{wanted} ")
            fitting = beside and _plain(target) in name
        if fitting and task.get("size"):
            fits.append(task)
    return fits


def _not_one(fits: Sequence[Document], source: str, target: str | None, truths: Sequence[Document]) -> str:
    if fits:
        listed = some([f"{task['name']!r} (id {task['id']})" for task in fits])
        return f"could belong to {len(fits)} ground-truth tasks, left out: {listed}. Name one by target, or rename"
    near = difflib.get_close_matches(source, [str(task["name"]) for task in truths], n=1)
    hint = f" (nearest: {near[0]!r})" if near else ""
    told = f" whose name contains {target!r}" if target is not None else ""
    return f"there is no ground-truth task for {source!r}{told}{hint}, left out"


def _no_sources(source_prefix: str, tasks: Sequence[Document]) -> str:
    names = [str(task["name"]) for task in tasks if AUTO_NAME.match(str(task["name"]))]
    near = difflib.get_close_matches(source_prefix, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"CVAT shows this account no task whose name begins with {source_prefix!r}{hint} Check the name, the account's "
        "rights and CVAT_ORG."
    )


def pair_frames(
    numbers: Sequence[int], source: Document, truth: Document, truth_name: str
) -> tuple[dict[int, int], dict[int, str]]:
    """Number in the ground-truth task of each needed frame of a verified task, by name and never by order.

    Args:
        numbers: frames of the verified task that carry shapes.
        source, truth: ``data/meta`` of both tasks.
        truth_name: of the ground-truth task.

    Returns:
        Numbers by number, and for frames without one why that is.
    """
    deleted = set(truth.get("deleted_frames") or ())
    by_name: dict[str, set[int]] = defaultdict(set)
    by_end: dict[str, set[int]] = defaultdict(set)
    for number, frame in enumerate(truth["frames"]):
        for name in frame_names(str(frame["name"]), truth_name):
            by_name[name].add(number)
        by_end[last_part(str(frame["name"]))].add(number)
    found: dict[int, int] = {}
    lost: dict[int, str] = {}
    for number in numbers:
        frame = source["frames"][number]
        name = str(frame["name"])
        fits = by_name.get(name, set()) | by_name.get(upload_name(name), set()) or by_end.get(last_part(name), set())
        if len(fits) != 1:
            lost[number] = f"{name}: {len(fits)} frames of that name" if fits else f"{name}: no frame of that name"
            continue
        place = next(iter(fits))
        there = truth["frames"][place]
        if place in deleted:
            lost[number] = f"{name}: deleted there"
        elif (there["width"], there["height"]) != (frame["width"], frame["height"]):
            size = f"{there['width']} x {there['height']}"
            lost[number] = f"{name}: {size} there, {frame['width']} x {frame['height']} here"
        else:
            found[number] = place
    return found, lost
