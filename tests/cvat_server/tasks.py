"""Projects, tasks, jobs and labels."""

from __future__ import annotations

from typing import Any

from . import render
from .answers import (
    REQUIRED,
    Answer,
    Refusal,
    as_json,
    empty,
    forbidden,
    not_a_choice,
    not_found,
    refuse,
    server_error,
)
from .request import Request
from .world import Job, Json, Project, Task

LABEL_TYPES = ("any", "cuboid", "ellipse", "mask", "points", "polygon", "polyline", "rectangle", "skeleton", "tag")
STATES = ("new", "in progress", "completed", "rejected")
STAGES = ("annotation", "validation", "acceptance")
TASK_FIELDS = ("name", "labels", "project_id", "owner_id", "assignee_id", "bug_tracker", "subset", "overlap")
MAX_NAME = 256


def _check_name(given: Json) -> str:
    if "name" not in given:
        raise refuse({"name": [REQUIRED]})
    if len(given["name"]) > MAX_NAME:
        raise refuse({"name": [f"Ensure this field has no more than {MAX_NAME} characters."]})
    return str(given["name"])


def _check_labels(labels: list[Json]) -> None:
    problems: list[Json] = []
    for label in labels:
        if label.get("name") == "":
            problems.append({"name": ["This field may not be blank."]})
        elif label.get("type", "any") not in LABEL_TYPES:
            problems.append({"type": [not_a_choice(label["type"])]})
        else:
            problems.append({})
    if any(problems):
        raise refuse({"labels": problems})
    names = [label["name"] for label in labels if "name" in label]
    if len(set(names)) != len(names):
        raise refuse(["All label names must be unique"])


def _change_labels(request: Request, labels: list[Json], **parent: int) -> None:
    for given in labels:
        if given.get("deleted"):
            request.world.delete_label(request.world.labels[given["id"]])
        elif "id" not in given:
            request.world.add_label(given, **parent)


def _in_scope(request: Request, items: list[Any]) -> list[Any]:
    scope = request.organization()
    return [item for item in items if scope == "any" or item.organization == scope]


def find_project(request: Request, number: str | int) -> Project:
    found = request.world.projects.get(int(number))
    if found is None:
        raise not_found("Project")
    if not (request.user.superuser or found.owner is request.user):
        raise forbidden()
    return found


def find_task(request: Request, number: str | int) -> Task:
    found = request.world.tasks.get(int(number))
    if found is None:
        raise not_found("Task")
    if not request.world.may_see(request.user, found):
        raise forbidden()
    return found


def find_job(request: Request, number: str | int) -> Job:
    found = request.world.jobs.get(int(number))
    if found is None:
        raise not_found("Job")
    if not request.world.may_work(request.user, found):
        raise forbidden()
    return found


def list_projects(request: Request) -> Answer:
    items = [item for item in request.world.projects.values() if request.user.superuser or item.owner is request.user]
    items = request.filtered(_in_scope(request, items), ("name",))
    items.sort(key=lambda item: item.id, reverse=request.query.get("sort") != "id")
    return request.paged(items, lambda item: render.project(item, request.world, request.base))


def create_project(request: Request) -> Answer:
    given, world = request.json(), request.world
    name = _check_name(given)
    _check_labels(given.get("labels", []))
    scope = request.organization()
    now = world.now()
    found = Project(world.next_id("project"), name, request.user, now, now, scope if isinstance(scope, int) else None)
    world.projects[found.id] = found
    _change_labels(request, given.get("labels", []), project_id=found.id)
    where = ("Location", f"{request.base}/api/projects/{found.id}")
    return as_json(render.project(found, world, request.base), 201, where)


def get_project(request: Request, number: str) -> Answer:
    return as_json(render.project(find_project(request, number), request.world, request.base))


def patch_project(request: Request, number: str) -> Answer:
    found, given = find_project(request, number), request.json()
    _change_labels(request, given.get("labels", []), project_id=found.id)
    found.name = given.get("name", found.name)
    found.updated = request.world.now()
    return as_json(render.project(found, request.world, request.base))


def delete_project(request: Request, number: str) -> Answer:
    request.world.delete_project(find_project(request, number))
    return empty(204)


def list_tasks(request: Request) -> Answer:
    items = [item for item in request.world.tasks.values() if request.world.may_see(request.user, item)]
    items = request.filtered(_in_scope(request, items), ("name", "project_id"))
    items.sort(key=lambda item: item.id, reverse=request.query.get("sort") != "id")
    return request.paged(items, lambda item: render.task(item, request.world, request.base))


def create_task(request: Request) -> Answer:
    given, world = request.json(), request.world
    name = _check_name(given)
    project_id, labels = given.get("project_id"), given.get("labels", [])
    if project_id is not None:
        if project_id not in world.projects:
            raise refuse(["Project matching query does not exist."])
        if labels:
            raise refuse(["Task must have only one of Label set or project_id"])
    _check_labels(labels)
    scope = request.organization()
    organization = scope if isinstance(scope, int) else None
    now = world.now()
    found = Task(world.next_id("task"), name, request.user, now, now, project_id, organization)
    found.segment_size, found.overlap = given.get("segment_size", 0), given.get("overlap")
    world.tasks[found.id] = found
    _change_labels(request, labels, task_id=found.id)
    where = ("Location", f"{request.base}/api/tasks/{found.id}")
    return as_json(render.task(found, world, request.base), 201, where)


def get_task(request: Request, number: str) -> Answer:
    return as_json(render.task(find_task(request, number), request.world, request.base))


def patch_task(request: Request, number: str) -> Answer:
    found, given = find_task(request, number), request.json()
    if any(key not in TASK_FIELDS for key in given):
        raise forbidden("Attempted to update an unknown field")
    if found.project_id is None:  # labels of a task in a project are ignored without a word
        _change_labels(request, given.get("labels", []), task_id=found.id)
    found.name = given.get("name", found.name)
    found.updated = request.world.now()
    return as_json(render.task(found, request.world, request.base))


def delete_task(request: Request, number: str) -> Answer:
    request.world.delete_task(find_task(request, number))
    return empty(204)


def list_labels(request: Request) -> Answer:
    world, query = request.world, request.query
    if "job_id" in query:
        items = world.labels_of(world.tasks[find_job(request, query["job_id"]).task_id])
    elif "task_id" in query:
        items = world.labels_of(find_task(request, query["task_id"]))
    elif "project_id" in query:
        items = [item for item in world.labels.values() if item.project_id == int(query["project_id"])]
    else:
        items = list(world.labels.values())
    return request.paged(items, render.label)


def patch_label(request: Request, number: str) -> Answer:
    world, given = request.world, request.json()
    found = world.labels.get(int(number))
    if found is None:
        raise not_found("Label")
    for other in world.labels.values():
        same_home = (other.project_id, other.task_id) == (found.project_id, found.task_id)
        if other is not found and same_home and other.name == given.get("name"):
            raise refuse(["All label names must be unique"])
    found.name, found.color = given.get("name", found.name), given.get("color", found.color)
    return as_json(render.label(found))


def delete_label(request: Request, number: str) -> Answer:
    found = request.world.labels.get(int(number))
    if found is None:
        raise not_found("Label")
    request.world.delete_label(found)
    return empty(204)


def list_jobs(request: Request) -> Answer:
    items = [item for item in request.world.jobs.values() if request.world.may_work(request.user, item)]
    items = request.filtered(items, ("task_id", "state", "stage"))
    items.sort(key=lambda item: item.id, reverse=request.query.get("sort") != "id")
    return request.paged(items, lambda item: render.job(item, request.world, request.base, request.user))


def create_job(request: Request) -> Answer:
    raise refuse([f"Unexpected job type '{request.json().get('type')}'"])


def get_job(request: Request, number: str) -> Answer:
    return as_json(render.job(find_job(request, number), request.world, request.base, request.user))


def patch_job(request: Request, number: str) -> Answer:
    """A change of stage sets the state back to new unless both are sent."""
    found, given, world = find_job(request, number), request.json(), request.world
    for key, allowed in (("state", STATES), ("stage", STAGES)):
        if key in given and given[key] not in allowed:
            raise refuse({key: [not_a_choice(given[key])]})
    if any(key not in ("state", "stage", "assignee") for key in given):
        raise forbidden("Attempted to update an unknown field")
    if set(given) - {"state"} and not world.may_see(request.user, world.tasks[found.task_id]):
        raise forbidden()
    if given.get("assignee") is not None and given["assignee"] not in world.users:
        raise Refusal(server_error())
    if "assignee" in given:
        found.assignee, found.assigned = world.users.get(given["assignee"]), world.now()
    if given.get("stage", found.stage) != found.stage:
        found.stage, found.state = given["stage"], "new"
    found.state = given.get("state", found.state)
    found.updated = world.tasks[found.task_id].updated = world.now()
    return as_json(render.job(found, world, request.base, request.user))
