"""Annotations of tasks and jobs: read, create, update, delete, replace; what is checked and what is not."""

from __future__ import annotations

import copy
from typing import Any

from .answers import NOT_NULL, REQUIRED, Answer, Refusal, as_json, empty, not_a_choice, refuse, text
from .request import Request
from .tasks import find_job, find_task
from .world import Job, Json, Label, Task

SOURCES = ("auto", "semi-auto", "manual", "file", "consensus")
LENGTHS = {"rectangle": (4, 4), "ellipse": (4, 4), "cuboid": (16, 16), "polygon": (6, None), "polyline": (4, None)}
LENGTHS |= {"points": (2, None), "mask": (6, None), "skeleton": (0, 0)}
OPTIONAL = {"occluded": False, "outside": False, "z_order": 0, "rotation": 0}
PLACES = ("tags", "shapes", "tracks")


def _target(request: Request, kind: str, number: str) -> tuple[Task, list[Job]]:
    """The task, and the jobs that the address stands for."""
    if kind == "jobs":
        job = find_job(request, number)
        return request.world.tasks[job.task_id], [job]
    task = find_task(request, number)
    return task, request.world.jobs_of(task.id)


def get(request: Request, kind: str, number: str) -> Answer:
    task, jobs = _target(request, kind, number)
    if not task.ready:
        raise Refusal(text("Exporting annotations from a task without data is not allowed", 400))
    labels = {label.id: label for label in request.world.labels_of(task)}
    return as_json(
        {
            "version": 0,
            "tags": [_stored(tag, labels) for job in jobs for tag in job.tags],
            "shapes": [_stored(shape, labels) for job in jobs for shape in job.shapes],
            "tracks": [_stored(track, labels) for job in jobs for track in job.tracks],
            "intervals": [],
        }
    )


def _stored(item: Json, labels: dict[int, Label]) -> Json:
    """As read back: numbers are floats, and attributes that were left out have their default."""
    value = copy.deepcopy(item)
    if "points" in value:
        value["points"] = [float(point) for point in value["points"]]
        value["rotation"], value["score"] = float(value["rotation"]), float(value["score"])
    given = {attribute["spec_id"] for attribute in value["attributes"]}
    for spec in labels[value["label_id"]].attributes if value["label_id"] in labels else []:
        if spec["id"] not in given:
            value["attributes"].append({"spec_id": spec["id"], "value": spec["default_value"]})
    return value


def patch(request: Request, kind: str, number: str) -> Answer:
    task, jobs = _target(request, kind, number)
    action = request.query.get("action")
    if action not in ("create", "update", "delete"):
        raise refuse(["Please specify a correct 'action' for the request"])
    given = _validated(request, task, ids="forbidden" if action == "create" else "allowed")
    if action == "delete":
        return as_json(_delete(given, jobs, kind))
    answer = _store(request, given, task, jobs, kind, update=action == "update")
    return as_json(answer)


def replace(request: Request, kind: str, number: str) -> Answer:
    task, jobs = _target(request, kind, number)
    given = _validated(request, task, ids="forbidden")
    for job in jobs:
        job.shapes, job.tags, job.tracks = [], [], []
    return as_json(_store(request, given, task, jobs, kind, update=False))


def clear(request: Request, kind: str, number: str) -> Answer:
    _, jobs = _target(request, kind, number)
    for job in jobs:
        job.shapes, job.tags, job.tracks = [], [], []
    return empty(204)


def _validated(request: Request, task: Task, *, ids: str) -> dict[str, list[Json]]:
    given = request.json()
    if not task.ready:
        raise refuse("'NoneType' object has no attribute 'validation_mode'")
    checked: dict[str, list[Json]] = {place: list(given.get(place, [])) for place in PLACES}
    for place in PLACES:
        problems = [_problems(item, place, ids) for item in checked[place]]
        if any(problems):
            raise refuse({place: problems})
    labels = {label.id: label for label in request.world.labels_of(task)}
    for item in [item for place in PLACES for item in checked[place]]:
        if item["label_id"] not in labels:
            raise refuse([f"label_id `{item['label_id']}` is invalid"])
        specs = {spec["id"] for spec in labels[item["label_id"]].attributes}
        for attribute in item.get("attributes", []):
            if attribute["spec_id"] not in specs:
                raise refuse([f"spec_id `{attribute['spec_id']}` is invalid"])
    return checked


def _problems(item: Json, place: str, ids: str) -> Json:
    required = ("type", "label_id", "frame") if place == "shapes" else ("label_id", "frame")
    found: Json = {key: [REQUIRED] for key in required if key not in item}
    for key in ("label_id", "frame", "points"):
        if key in item and item[key] is None:
            found[key] = [NOT_NULL]
    if isinstance(item.get("frame"), int) and item["frame"] < 0:
        found["frame"] = ["Ensure this value is greater than or equal to 0."]
    if item.get("id") is not None and ids == "forbidden":
        found["id"] = ["must be absent"]
    if item.get("source", "manual") not in SOURCES:
        allowed = ", ".join(repr(source) for source in SOURCES)
        found["source"] = [f"must be one of {allowed}, got {item['source']!r}"]
    rotation = item.get("rotation", 0)
    if rotation < 0:
        found["rotation"] = ["Ensure this value is greater than or equal to 0."]
    if rotation > 360:
        found["rotation"] = ["Ensure this value is less than or equal to 360."]
    return found if found or place != "shapes" else _points_problem(item)


def _points_problem(item: Json) -> Json:
    """Number and kind of points. Inverted, empty and out-of-image boxes are not looked at."""
    shape, points = item["type"], item.get("points", [])
    if shape not in LENGTHS:
        return {"type": [not_a_choice(shape)]}
    if shape == "skeleton":
        return {} if item.get("elements") else {"elements": ["at least one required for skeleton shape"]}
    wrong = {
        str(place): "[ErrorDetail(string='Value must be a float or an integer', code='invalid')]"
        for place, value in enumerate(points)
        if isinstance(value, bool) or not isinstance(value, (int, float))
    }
    if wrong:
        return {"points": wrong}
    least, most = LENGTHS[shape]
    pairs = shape == "mask" or len(points) % 2 == 0
    if len(points) < least or (most is not None and len(points) > most) or not pairs:
        return {"points": [f"invalid length for shape type '{shape}'"]}
    return {}


def _job_of(item: Json, jobs: list[Job], kind: str, last_frame: int) -> Job | None:
    """The job that takes an annotation; None outside the task. A job takes what is sent to it, in its frames or not."""
    if item["frame"] > last_frame:
        return None
    if kind == "jobs":
        return jobs[0]
    return next(job for job in jobs if job.start <= item["frame"] <= job.stop)


def _store(
    request: Request, given: dict[str, list[Json]], task: Task, jobs: list[Job], kind: str, *, update: bool
) -> Json:
    """Create, or update (delete by id, then create under the same id; an unknown id is inserted)."""
    assert task.data is not None
    last_frame = len(task.data.frames) - 1
    placed = {
        place: [(item, job) for item in given[place] if (job := _job_of(item, jobs, kind, last_frame))]
        for place in PLACES
    }
    if update:
        _check_ids(request, placed)
        for place in PLACES:
            for item, job in placed[place]:
                _remove(job, place, item.get("id"))
    answer: Json = {"version": 0, "tags": [], "shapes": [], "tracks": [], "intervals": []}
    makers = {"tags": _tag, "shapes": _shape, "tracks": _track}
    for place in PLACES:
        for item, job in placed[place]:
            number = item.get("id") if update else None
            made = makers[place](request, item, request.world.next_id(place) if number is None else number)
            getattr(job, place).append(made)
            answer[place].append(made)
    if any(placed.values()):
        for job in jobs:
            job.updated = request.world.now()
    return copy.deepcopy(answer)


def _check_ids(request: Request, placed: dict[str, list[tuple[Json, Job]]]) -> None:
    for item, job in placed["shapes"]:
        for other in request.world.jobs.values():
            if other is not job and any(shape["id"] == item.get("id") for shape in other.shapes):
                raise refuse(
                    'duplicate key value violates unique constraint "engine_labeledshape_pkey"\n'
                    f"DETAIL:  Key (id)=({item['id']}) already exists.\n"
                )


def _remove(job: Job, place: str, number: Any) -> None:
    setattr(job, place, [found for found in getattr(job, place) if found["id"] != number])


def _delete(given: dict[str, list[Json]], jobs: list[Job], kind: str) -> Json:
    for place in PLACES:
        for item in given[place]:
            for job in jobs:
                if kind == "jobs" or job.start <= item["frame"] <= job.stop:
                    _remove(job, place, item.get("id"))
    shapes = [
        {**OPTIONAL, "group": 0, "source": "manual", "attributes": [], "score": 1, **item} for item in given["shapes"]
    ]
    return {"version": 0, "tags": given["tags"], "shapes": shapes, "tracks": given["tracks"], "intervals": []}


def _shape(request: Request, item: Json, number: int) -> Json:
    return {
        "type": item["type"],
        **{key: item.get(key, default) for key, default in OPTIONAL.items()},
        "points": item.get("points", []),
        "id": number,
        **_common(item),
        "score": item.get("score", 1),
        "elements": item.get("elements", []),
    }


def _common(item: Json) -> Json:
    return {
        "label_id": item["label_id"],
        "group": item.get("group", 0),
        "source": item.get("source", "manual"),
        "frame": item["frame"],
        "attributes": list(item.get("attributes", [])),
    }


def _tag(request: Request, item: Json, number: int) -> Json:
    return {"id": number, **_common(item)}


def _track(request: Request, item: Json, number: int) -> Json:
    shapes = [
        {
            "type": shape["type"],
            **{key: shape.get(key, default) for key, default in OPTIONAL.items()},
            "points": shape.get("points", []),
            "id": request.world.next_id("track_shape"),
            "frame": shape["frame"],
            "attributes": list(shape.get("attributes", [])),
        }
        for shape in item.get("shapes", [])
    ]
    return {"id": number, **_common(item), "shapes": shapes, "elements": []}
