"""Two ground-truth tasks on the stand-in, and verified auto tasks of a push to merge into them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.push import PushJournal, send

from .app import StandIn
from .helpers import CLASSES, SIZE, two_frame_plan

PREFIX = "auto_annotation_resnet18"
FIELD_A = ("img1.png", "img10.png", "img2.png")
"""Images of ground-truth task "Field A", as CVAT orders them; the auto task of a push has only the last two."""


def make_task(
    client: CvatClient,
    name: str,
    images: Sequence[str],
    *,
    labels: Sequence[str] = CLASSES,
    size: tuple[int, int] = SIZE,
) -> int:
    """A task with images; returns its id."""
    task_id = int(client.create_task(name, labels=labels)["id"])
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / image for image in images]
        for number, file in enumerate(files):
            Image.new("RGB", size, (number, 0, 0)).save(file)
        client.wait(client.upload(task_id, files))
    return task_id


def add(client: CvatClient, task_id: int, frame: int, label: str, points: Sequence[float], **more: Any) -> int:
    """A shape by hand; returns its id."""
    numbers = {str(one["name"]): int(one["id"]) for one in client.labels(task_id=task_id)}
    shape = {"type": "rectangle", "frame": frame, "label_id": numbers[label], "points": list(points), **more}
    return int(client.add_shapes(task_id, [shape])[0]["id"])


def complete(client: CvatClient, task_id: int) -> None:
    """Accept all jobs of a task."""
    for job in client.jobs(task_id):
        client.request("PATCH", f"jobs/{job['id']}", body={"stage": "acceptance", "state": "completed"})


def verified_world(
    server: StandIn, client: CvatClient, root: Path, journal: PushJournal, *, now: datetime | None = None
) -> tuple[int, int]:
    """Ground-truth tasks "Field A" and "Field B", and the pushed boxes for both, verified; ids of the former.

    Auto task A has boxes at (1, 2, 20.13, 30) and (30, 5, 50, 40, dandelion) on img10 and (3, 3, 13, 13) on img2;
    auto task B has (4, 4, 14, 14) on GH2's img2.
    """
    truth = make_task(client, "Field A", FIELD_A), make_task(client, "Field B", ["day__1L__GH2__img2.png"])
    plan = two_frame_plan(root, now=now)
    for task in send(plan, client, journal=journal, confirm=True).tasks:
        complete(client, task.task_id)
    return truth


def shapes_of(server: StandIn, task_id: int) -> list[tuple[Any, ...]]:
    """Image, label and points of each shape of a task, sorted."""
    data = server.world.tasks[task_id].data
    assert data is not None
    return sorted(
        (data.frames[shape["frame"]].name, server.world.labels[shape["label_id"]].name, *shape["points"])
        for job in server.world.jobs_of(task_id)
        for shape in job.shapes
    )
