"""Builders of small worlds: tasks, images, snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from obdb_lib.records import TaskRecord, make_annotation, make_task
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.store import with_ids

CLASSES = ("Fat hen", "Dandelion")
COLOURS = {"Fat hen": (40, 160, 60), "Dandelion": (220, 200, 40)}


def task(
    name: str = "FieldData 20200520145736 1L GH020068",
    frames: int = 3,
    boxes: Mapping[int, Sequence[tuple[str, Sequence[float]]]] | None = None,
    *,
    size: tuple[int, int] = (96, 64),
    step: int = 5,
    classes: Sequence[str] = CLASSES,
) -> TaskRecord:
    """A task in upstream's naming; ``boxes`` are (class, x1 y1 x2 y2) by frame index."""
    session, camera, video = name.split(" ")[-3:]
    paths = [f"fielddata/{session}/{camera}/{video}/{video}frame{i * step:04d}.png" for i in range(frames)]
    record = make_task(name, classes, [(path, *size) for path in paths], created="2026-01-01T00:00:00.000000Z")
    for frame, items in (boxes or {}).items():
        for object_class, points in items:
            record.annotations.append(make_annotation(record, frame, object_class, points))
    return record


def random_boxes(rng: np.random.Generator, count: int, width: int = 96, height: int = 64) -> list[list[float]]:
    """Boxes of 12 to 30 pixels wholly inside the frame."""
    sides = rng.integers(12, 30, size=(count, 2))
    left = rng.integers(0, width - sides[:, 0])
    top = rng.integers(0, height - sides[:, 1])
    return np.stack([left, top, left + sides[:, 0], top + sides[:, 1]], axis=1).astype(float).tolist()


def snapshot_of(records: Sequence[TaskRecord]) -> Snapshot:
    """The snapshot that a store with these tasks would give."""
    annotations = [document for record in records for document in with_ids(record.annotations)]
    return build_snapshot([record.meta for record in records], annotations)


def write_frames(root: Path, records: Sequence[TaskRecord], *, seed: int = 0) -> Path:
    """Images for all frames: noisy soil with a filled rectangle in its class's colour for each annotation."""
    rng = np.random.default_rng(seed)
    for record in records:
        for number, place in enumerate(record.meta["frames"]):
            shape = (place["height"], place["width"], 3)
            pixels = np.clip(rng.normal((120, 95, 70), 12, size=shape), 0, 255).astype(np.uint8)
            for annotation in record.annotations:
                if annotation["frame"] == number:
                    x1, y1, x2, y2 = (int(value) for value in annotation["points"])
                    pixels[y1:y2, x1:x2] = COLOURS.get(annotation["object_class"], (200, 60, 200))
            path = root / place["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root
