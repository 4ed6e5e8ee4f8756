"""``labelmap.txt`` of VOC folders, as CVAT writes it: ``label:red,green,blue:parts:actions``, a label a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from obdb_lib.formats import _shared
from obdb_lib.records import Document, Problem, TaskRecord

LABEL_MAP = "labelmap.txt"
HEADING = "# label:color_rgb:parts:actions"
_LINE = re.compile(r"^(?P<name>.+?)(?::(?P<red>\d{1,3}),(?P<green>\d{1,3}),(?P<blue>\d{1,3})|:):[^:]*:[^:]*$")
_COLOUR = re.compile(r"^#[0-9a-fA-F]{6}$")


def read_label_map(folder: Path, problems: list[Problem]) -> list[Document]:
    """Labels as ``{name, color}`` in the order of the file; [] when the folder has none."""
    path = folder / LABEL_MAP
    if not path.is_file():
        return []
    labels: dict[str, Document] = {}
    text = _shared.decode_text(_shared.read_bytes(path, may_be_empty=True), path)
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.match(line)
        if found is None:
            problems.append(Problem(f"{path.name}, line {number}", "set aside: wanted label:r,g,b:parts:actions"))
            continue
        rgb = [int(found[part]) for part in ("red", "green", "blue")] if found["red"] else []
        colour = "#" + "".join(f"{value:02x}" for value in rgb) if rgb and max(rgb) < 256 else ""
        labels.setdefault(found["name"], {"name": found["name"], "color": colour})
    labels.pop("background", None)  # CVAT writes it in front; it is no label of the task
    return list(labels.values())


def label_map_text(tasks: Sequence[TaskRecord], problems: list[Problem]) -> str:
    """The file; a label whose name the notation cannot hold is told and left to the objects that have it."""
    colours: dict[str, str] = {}
    for task in tasks:
        for label in task.task.get("labels", []):
            colours.setdefault(str(label["name"]), str(label.get("color") or ""))
    lines = [HEADING]
    for name, colour in colours.items():
        if name.startswith("#") or not name.strip() or re.search(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", name):
            problems.append(Problem("VOC", f"label {name!r} cannot stand in {LABEL_MAP}; its objects keep it"))
            continue
        rgb = ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)) if _COLOUR.match(colour) else ""
        lines.append(f"{name}:{rgb}::")
    return "\n".join(lines) + "\n"
