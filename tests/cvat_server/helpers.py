"""A small world to push from: images, a snapshot of them, suggestions, decisions, a journal in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from obdb_lib.cvat.client import CvatClient, connect
from obdb_lib.cvat.push import PushPlan, plan_push
from obdb_lib.frames import FrameStore
from obdb_lib.paths import CvatAccess

from .app import StandIn

PASSWORD = "admin-password"
SIZE = (64, 48)
CLASSES = ("cleavers", "dandelion")


@dataclass
class MemoryJournal:
    """A push journal that lives as long as the test."""

    documents: list[dict[str, Any]] = field(default_factory=list)

    def append(self, document: dict[str, Any]) -> None:
        self.documents.append(dict(document))

    def entries(self, source_task: str | None = None) -> list[dict[str, Any]]:
        return [dict(found) for found in self.documents if source_task in (None, found["source_task"])]

    def steps(self) -> list[tuple[str, str]]:
        return [(found["step"], found["phase"]) for found in self.documents]


@dataclass
class TableSnapshot:
    """What a push needs of a snapshot."""

    id: str
    frames: pd.DataFrame


def log_in(server: StandIn, **more: Any) -> CvatClient:
    """A client of the stand-in's administrator; waits are not waited."""
    sleep = more.pop("sleep", lambda seconds: None)
    return connect(CvatAccess(server.url, "admin", PASSWORD, **more), sleep=sleep)


def connect_to(url: str) -> CvatClient:
    """As ``log_in``, from another process."""
    return connect(CvatAccess(url, "admin", PASSWORD), sleep=lambda seconds: None)


def make_images(root: Path, img_paths: Sequence[str], size: tuple[int, int] = SIZE) -> FrameStore:
    """An image at each path, each of its own colour."""
    for number, img_path in enumerate(img_paths):
        file = root / img_path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number * 40 % 256, 200, 30)).save(file)
    return FrameStore([root])


def make_snapshot(frames: Sequence[tuple[str, str]], size: tuple[int, int] = SIZE) -> Any:
    """A snapshot of (img_path, task name)."""
    rows = [(path, task, number, *size) for number, (path, task) in enumerate(frames)]
    table = pd.DataFrame(rows, columns=["img_path", "task_name", "frame", "width", "height"])
    return TableSnapshot("snap1", table)


def suggestion(number: str, img_path: str, points: Sequence[float], *, task: str, **more: Any) -> dict[str, Any]:
    base = {"_id": number, "img_path": img_path, "points": list(points), "task_name": task, "score": 0.75}
    return {**base, "object_class": "cleavers", "kind": "missing", **more}


def accept(number: str, **more: Any) -> dict[str, Any]:
    return {"suggestion_id": number, "verdict": "accept", **more}


def two_frame_plan(root: Path, **more: Any) -> PushPlan:
    """Two tasks, three frames, four accepted boxes, one rejected one."""
    first, second, other = "day/1L/GH1/img10.png", "day/1L/GH1/img2.png", "day/1L/GH2/img2.png"
    store = make_images(root, [first, second, other])
    snapshot = make_snapshot([(first, "Field A"), (second, "Field A"), (other, "Field B")])
    found = [
        suggestion("s1", first, [1, 2, 20.126, 30], task="Field A", score=0.9),
        suggestion("s2", first, [30, 5, 50, 40], task="Field A", object_class="dandelion"),
        suggestion("s3", second, [3, 3, 13, 13], task="Field A"),
        suggestion("s4", other, [4, 4, 14, 14], task="Field B"),
        suggestion("s5", other, [5, 5, 15, 15], task="Field B"),
    ]
    decisions = {number: accept(number) for number in ("s1", "s2", "s3", "s4")}
    decisions["s5"] = {"suggestion_id": "s5", "verdict": "reject"}
    return plan_push(found, decisions, snapshot, store, model="resnet18", classes=CLASSES, **more)


def stored_shapes(server: StandIn) -> list[dict[str, Any]]:
    """All shapes on the server, each with its task's name and its image's name and label's name."""
    world = server.world
    found = []
    for job in world.jobs.values():
        task = world.tasks[job.task_id]
        assert task.data is not None
        for shape in job.shapes:
            names = {"task": task.name, "image": task.data.frames[shape["frame"]].name}
            found.append({**shape, **names, "label": world.labels[shape["label_id"]].name})
    return found


def arrived(server: StandIn) -> Counter[tuple[Any, ...]]:
    """What a person would see: image, label and points of each box."""
    return Counter((shape["image"], shape["label"], *shape["points"]) for shape in stored_shapes(server))


EXPECTED = Counter(
    {
        ("day__1L__GH1__img10.png", "cleavers", 1.0, 2.0, 20.13, 30.0): 1,
        ("day__1L__GH1__img10.png", "dandelion", 30.0, 5.0, 50.0, 40.0): 1,
        ("day__1L__GH1__img2.png", "cleavers", 3.0, 3.0, 13.0, 13.0): 1,
        ("day__1L__GH2__img2.png", "cleavers", 4.0, 4.0, 14.0, 14.0): 1,
    }
)
"""What ``two_frame_plan`` sends."""
