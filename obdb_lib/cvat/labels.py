"""Labels by name: ids belong to one task or project and are never carried from one to another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from obdb_lib.errors import CvatError
from obdb_lib.records import Document


def names_by_id(labels: Iterable[Document]) -> dict[int, str]:
    """Name of each label id."""
    return {int(label["id"]): str(label["name"]) for label in labels}


def match_labels(wanted: Iterable[str], labels: Sequence[Document], *, where: str) -> dict[str, int]:
    """Label id for each class name.

    Args:
        wanted: class names that are about to be written.
        labels: what the server lists for the task or project.
        where: how to call that task or project in the error.

    Raises:
        CvatError: names that are not there, each with the nearest one that is.
    """
    ids = {name: number for number, name in names_by_id(labels).items()}
    names = set(wanted)
    missing = sorted(names - set(ids))
    if missing:
        raise CvatError(
            f"{where} has no label {', '.join(_with_nearest(name, list(ids)) for name in missing)}; it has "
            f"{', '.join(sorted(ids)) or 'none at all'}. Add the label in CVAT or change the class, then run this step "
            "again; nothing was sent."
        )
    return {name: ids[name] for name in names}


def _with_nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name!r} (did you mean {near[0]!r}?)" if near else repr(name)
