"""What a format cannot hold of the tasks that are written: counted and told, never dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from obdb_lib.records import Document, Problem, TaskRecord

BASE_FIELDS = frozenset(
    {
        *("type", "task_name", "shape_types", "points", "frame", "label_id", "object_class"),
        *("img_path", "img_height", "img_width", "_id"),
    }
)
"""Fields of an annotation that every format holds, or that reading makes anew (``label_id``, ``_id``)."""
TASK_FIELDS = frozenset({"type", "name", "labels", "created_date", "updated_date", "_id", "importing"})
META_FIELDS = frozenset({"task_name", "frames", "_id"})
FRAME_FIELDS = frozenset({"name", "width", "height"})
DEFAULTS = {"occluded": False, "source": "manual", "rotation": 0, "score": 1.0}
"""What a field means when it is not there; CVAT gives everything that a person drew the score 1."""
SHOWN = 5


def losses(
    tasks: Sequence[TaskRecord], format_name: str, holds: Collection[str], *, labels: Sequence[str] | None = None
) -> list[Problem]:
    """One problem for each kind of thing that ``format_name`` cannot hold and that these tasks have.

    Args:
        holds: names of what the format does hold: annotation fields (``occluded``, ``source``, ``attributes``,
            ``rotation``, ...; ``*`` for all), ``polygon``, and of the task ``labels`` (its own list, with ids, colours
            and attributes; ``colour``: one list for all tasks, with colours), ``dates``, ``task``
            (other fields of the task, its frames and their list).
    """
    told: list[Problem] = []

    def tell(count: int, what: str) -> None:
        if count:
            told.append(Problem(format_name, f"{count} {what}"))

    annotations = [one for task in tasks for one in task.annotations]
    if "polygon" not in holds:
        outlines = sum(one.get("shape_types", "rectangle") != "rectangle" for one in annotations)
        tell(outlines, "outlines are written as the boxes around them")
    if "*" not in holds:
        lost = Counter(field for one in annotations for field in _unusual(one) if field not in holds)
        for field, count in sorted(lost.items()):
            tell(count, f"annotations lose their field {field!r}, for which this format has no place")
    if "labels" not in holds:
        common = common_labels(tasks) if labels is None else labels
        tell(
            _own_labels(tasks, common, colours="colour" not in holds),
            "tasks lose what is their own among the labels (list, ids, colours or attributes)",
        )
    if "unknown size" not in holds:
        unknown = sum(not (frame["width"] and frame["height"]) for task in tasks for frame in task.meta["frames"])
        tell(unknown, "frames have no size; reading sets them aside where their image is not there")
    if "dates" not in holds and tasks:
        tell(len(tasks), "tasks lose their dates; reading takes the file's date")
    if "task" not in holds:
        fields = sorted({field for task in tasks for field in _further(task)})
        more = f" and {len(fields) - SHOWN} more" if len(fields) > SHOWN else ""
        count = sum(bool(_further(task)) for task in tasks)
        tell(count, f"tasks lose further fields of theirs: {', '.join(map(repr, fields[:SHOWN]))}{more}")
    return told


def _unusual(annotation: Document) -> list[str]:
    """Fields whose value is not what reading fills in by itself."""
    return [
        field
        for field, value in annotation.items()
        if field not in BASE_FIELDS and value != DEFAULTS.get(field, _NO_DEFAULT) and not _is_empty(value)
    ]


_NO_DEFAULT = object()


def _is_empty(value: object) -> bool:
    return value is None or value == "" or value == [] or value == {}


def common_labels(tasks: Sequence[TaskRecord]) -> list[str]:
    """Names of all labels, in the order of the tasks and of each task's list; then classes that no label names."""
    names = dict.fromkeys(name for task in tasks for name in _names(task))
    names.update(dict.fromkeys(sorted({str(one["object_class"]) for task in tasks for one in task.annotations})))
    return list(names)


def _own_labels(tasks: Sequence[TaskRecord], common: Sequence[str], *, colours: bool) -> int:
    """How many tasks have labels that one common list of names would not give back."""
    return sum(
        _names(task) != list(common)
        or any(label.get("id") != number for number, label in enumerate(task.task.get("labels", []), 1))
        or any((colours and label.get("color")) or label.get("attributes") for label in task.task.get("labels", []))
        for task in tasks
    )


def _names(task: TaskRecord) -> list[str]:
    return [str(label["name"]) for label in task.task.get("labels", [])]


def _further(task: TaskRecord) -> set[str]:
    fields = set(task.task) - TASK_FIELDS | set(task.meta) - META_FIELDS
    return fields | {field for frame in task.meta["frames"] for field in set(frame) - FRAME_FIELDS}
