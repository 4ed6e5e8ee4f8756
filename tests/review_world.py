"""A field to review in a browser: plants on plain soil, suggestions of every kind, a real journal in MongoDB."""

from __future__ import annotations

from typing import Any

import numpy as np

from obdb_lib.boxes import BoxSet
from obdb_lib.records import Document
from widgets._pictures import Pixels

SIZE = (1920, 1080)
PLANTS = [(400, 300), (900, 500), (1500, 400), (700, 850), (1300, 800)]
RADIUS = 80
TASK = "FieldData 20200520145736 1L GH020068"


def load_frame(img_path: str) -> Pixels:
    """Soil in stripes with five green discs; the stripes make every part of a frame different."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width]
    frame = np.empty((height, width, 3), dtype=np.uint8)
    stripes = ((x // 7 + y // 5 + len(img_path)) % 9).astype(np.uint8)
    for channel, (base, step) in enumerate([(118, 2), (92, 2), (66, 1)]):
        frame[..., channel] = base + step * stripes
    for cx, cy in PLANTS:
        radius = np.hypot(x - cx, y - cy)
        leaf = radius < RADIUS - 20 + 20 * np.cos(5 * np.arctan2(y - cy, x - cx))
        frame[leaf] = (62, 128, 54)
    return frame


def box_at(number: int, grow: float = 0.0, shift: float = 0.0) -> list[float]:
    """The box of a plant, grown to all sides and moved to the right by pixels."""
    x, y = PLANTS[number]
    side = RADIUS + grow
    return [x - side + shift, y - side, x + side + shift, y + side]


def annotations(img_path: str) -> BoxSet:
    """Two plants of each frame are annotated."""
    boxes = np.array([box_at(0), box_at(2, grow=30, shift=40)], dtype=np.float32)
    ids = np.array([f"{img_path}/0", f"{img_path}/2"], dtype=object)
    return BoxSet(boxes, np.array(["sesame", "nutsedge"], dtype=object), ids=ids)


def detections(img_path: str) -> BoxSet:
    """What the model sees: all plants, and a stone it is not sure of."""
    boxes = np.array([*(box_at(number) for number in range(5)), [1650, 900, 1750, 1000]], dtype=np.float32)
    names = np.array(["nutsedge", "sesame", "nutsedge", "sesame", "sesame", "purslane"], dtype=object)
    return BoxSet(boxes, names, scores=np.array([0.93, 0.9, 0.85, 0.8, 0.7, 0.22], dtype=np.float32))


def suggestions(frames: int = 4) -> list[Document]:
    """Six on each frame: three missing boxes, then a wrong class, a bad box and a box without a plant."""
    found: list[Document] = []
    for frame in range(frames):
        path = f"field_{'x' * frame}{frame}.png"
        common: dict[str, Any] = {"img_path": path, "snapshot_id": "snap", "run_id": "run", "task_name": TASK}
        common["frame"] = 120 + frame
        rows = [
            ("missing", "sesame", box_at(1), 0.9, None),
            ("missing", "sesame", box_at(3), 0.8, None),
            ("missing", "sesame", box_at(4), 0.7, None),
            ("swapped_class", "nutsedge", box_at(0), 0.93, (0, "sesame", box_at(0))),
            ("bad_location", "nutsedge", box_at(2), 0.85, (2, "nutsedge", box_at(2, grow=30, shift=40))),
            ("spurious", "sesame", box_at(0), 0.1, (0, "sesame", box_at(0))),
        ]
        for number, (kind, name, points, score, about) in enumerate(rows):
            one = {"_id": f"f{frame}n{number}", "kind": kind, "object_class": name, "points": points, "score": score}
            # The order in which they are asked: frame by frame, as listed.
            one["probability"] = round(0.95 - 0.15 * number - 0.01 * frame, 3) if number else 0.99 - 0.01 * frame
            one["evidence"] = {"second_look": 0.81, "folds": 0.7, "twins": 3}
            if about is not None:
                one |= {
                    "annotation_id": f"{path}/{about[0]}",
                    "annotation_class": about[1],
                    "annotation_points": about[2],
                }
            found.append(common | one)
    return found
