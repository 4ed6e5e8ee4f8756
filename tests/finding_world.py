"""A field without pictures: true plants, forgotten boxes, and the detections of a middling detector."""

from __future__ import annotations

import numpy as np
import pandas as pd

from obdb_lib.snapshots import BOX, Snapshot
from tests.helpers import snapshot_of, task

SIZE = (640, 480)
NAMES = ("Dandelion", "Fat hen")


def places(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) boxes on a grid, so that none touches another."""
    cells = rng.permutation(48)[:count]
    corner = np.stack([cells % 8 * 80.0, cells // 8 * 80.0], axis=1) + rng.uniform(4, 20, size=(count, 2))
    return np.hstack([corner, corner + rng.uniform(30, 50, size=(count, 2))])


def field(seed: int = 0, frames: int = 60, plants: int = 8, forgotten: float = 0.1) -> tuple[Snapshot, pd.DataFrame]:
    """A snapshot that lacks ``forgotten`` of its boxes, and those boxes (img_path, object_class, x1..y2)."""
    rng = np.random.default_rng(seed)
    boxes: dict[int, list[tuple[str, list[float]]]] = {}
    lost: list[tuple[object, ...]] = []
    for frame in range(frames):
        drawn = []
        for box in places(rng, plants):
            name = NAMES[int(rng.integers(2))]
            if rng.random() < forgotten:
                lost.append((frame, name, *box.tolist()))
            else:
                drawn.append((name, box.tolist()))
        boxes[frame] = drawn
    record = task(frames=frames, boxes=boxes, size=SIZE)
    names = [frame["name"] for frame in record.meta["frames"]]
    table = pd.DataFrame(lost, columns=["img_path", "object_class", *BOX])
    return snapshot_of([record]), table.assign(img_path=[names[int(str(number))] for number in table["img_path"]])


def detected(
    snapshot: Snapshot, lost: pd.DataFrame, seed: int = 1, *, false_ones: int = 4, mirrored: bool = True
) -> pd.DataFrame:
    """Plants are found with high scores by both looks; false detections score middling, and only one look has them."""
    rng = np.random.default_rng(seed)
    columns = ["img_path", "object_class", *BOX]
    real = pd.concat([snapshot.annotations[columns], lost[columns]], ignore_index=True)
    real[BOX] = real[BOX].to_numpy(float) + rng.normal(0, 1.5, size=(len(real), 4))
    real = real.assign(score=1 / (1 + np.exp(-rng.normal(1.0, 1.2, size=len(real)))))
    rows = []
    for path, own in real.groupby("img_path"):
        taken = own[BOX].to_numpy(float)
        for box in places(rng, 48):
            apart = (taken[:, 2] < box[0]) | (taken[:, 0] > box[2]) | (taken[:, 3] < box[1]) | (taken[:, 1] > box[3])
            if apart.all():
                rows.append((path, NAMES[int(rng.integers(2))], *box, 1 / (1 + np.exp(-rng.normal(-0.5, 1.2)))))
            if len(rows) and sum(row[0] == path for row in rows[-false_ones:]) == false_ones:
                break
    plain = pd.concat([real, pd.DataFrame(rows, columns=[*columns, "score"])], ignore_index=True)
    if not mirrored:
        return plain
    second = real.assign(score=np.clip(real["score"] + rng.normal(0, 0.1, size=len(real)), 0.06, 0.99))
    return pd.concat([plain.assign(look="plain"), second.assign(look="mirrored")], ignore_index=True)
