"""What a person would see on the server and what the lab has in MongoDB, without ids and times: two runs compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from obdb_lib.store import Store

from .app import StandIn
from .world import Job, Label, Task, World

TAKEN_AWAY = frozenset(
    {"_id", "id", "cvat_id", "task_id", "when", "created", "created_date", "updated_date", "pulled", "import_id"}
)
"""Keys of documents that differ between two runs of the same; only their being there is compared."""
NOT_COMPARED = frozenset({"pushes", "import_locks"})
"""Collections whose documents tell how the end was reached."""


def server_state(server: StandIn) -> Any:
    """Projects and tasks with labels, frames, jobs and annotations, by name and in a fixed order."""
    world = server.world
    projects = [[found.name, _labels(world.labels, project=key)] for key, found in world.projects.items()]
    return {"projects": _sorted(projects), "tasks": _sorted([_task(world, task) for task in world.tasks.values()])}


def _task(world: World, task: Task) -> Any:
    data = task.data
    frames = data.frames if data else []
    project = world.projects[task.project_id].name if task.project_id is not None else None
    return {
        "name": task.name,
        "project": project,
        "labels": _labels(world.labels, task=task.id),
        "frames": [[f.name, f.width, f.height, hashlib.sha256(f.content).hexdigest()] for f in frames],
        "deleted": sorted(data.deleted) if data else [],
        "jobs": [_job(world, job) for job in world.jobs_of(task.id)],
    }


def _job(world: World, job: Job) -> Any:
    names = {number: label.name for number, label in world.labels.items()}
    specs = {spec["id"]: spec["name"] for label in world.labels.values() for spec in label.attributes}
    parts = {"shapes": job.shapes, "tags": job.tags, "tracks": job.tracks}
    kept = {key: _sorted([_annotation(one, names, specs) for one in part]) for key, part in parts.items()}
    return {"start": job.start, "stop": job.stop, "stage": job.stage, "state": job.state, **kept}


def _annotation(found: Mapping[str, Any], names: Mapping[int, str], specs: Mapping[int, str]) -> Any:
    kept = {key: value for key, value in found.items() if key not in ("id", "label_id", "attributes", "shapes")}
    kept["label"] = names.get(found.get("label_id", -1))
    kept["attributes"] = sorted([specs.get(one["spec_id"], "?"), one["value"]] for one in found.get("attributes", []))
    if "shapes" in found:
        kept["shapes"] = [_annotation(shape, names, specs) for shape in found["shapes"]]
    return kept


def _labels(labels: Mapping[int, Label], *, task: int = -1, project: int = -1) -> Any:
    own = [label for label in labels.values() if label.task_id == task or label.project_id == project]
    return sorted([label.name, label.type, [spec["name"] for spec in label.attributes]] for label in own)


def store_state(store: Store, *, leave_out: Collection[str] = NOT_COMPARED) -> Any:
    """All documents of all collections in a fixed order."""
    database = store._db
    names = sorted(set(database.list_collection_names()) - set(leave_out))
    return {name: found for name in names if (found := _sorted([_bare(one) for one in database[name].find()]))}


def _bare(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: None if key in TAKEN_AWAY else _bare(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_bare(one) for one in value]
    return "a time" if isinstance(value, datetime) else value


def _sorted(items: list[Any]) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True, default=str))
