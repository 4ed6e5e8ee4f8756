"""Names on the page: what many have in common is left out, so that what tells them apart can be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from widgets.palette import EMPTY_LABEL, OUTSIDE_LABEL

TITLES = {"object_class": "class", "task_name": "task", "cluster_ap": "cluster AP50"}
"""What a person calls a column, where that is not its own name."""

LEAST_COMMON = 5
"""A common beginning shorter than this (characters) is kept: leaving it out would gain nothing."""

_SEAM = re.compile(r"[\s/_\\-]")
_NO_NAME = re.compile(r"\d+ others")


def title_of(column: str) -> str:
    """What a person calls a column."""
    return TITLES.get(column, column.replace("_", " "))


def short_names(labels: Sequence[str]) -> list[str]:
    """The labels, each with "…" for the whole words with which all of them begin.

    A beginning ends at a space, slash, dash or underscore. ``(none)``, ``(not in the split)`` and "6 others" are no
    names: they stay, and do not count as labels that begin otherwise.
    """
    names = [label for label in labels if _is_name(label)]
    if len(names) < 2:
        return list(labels)
    # What the first and the last one in sorted order share, all share.
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False))
    seams = [seam.end() for seam in _SEAM.finditer("".join(one for one, _ in pairs))]
    cut = seams[-1] if seams else 0
    if cut < LEAST_COMMON:
        return list(labels)
    return [f"…{label[cut:]}" if _is_name(label) else label for label in labels]


def _is_name(label: str) -> bool:
    return label not in (EMPTY_LABEL, OUTSIDE_LABEL) and not _NO_NAME.fullmatch(label)
