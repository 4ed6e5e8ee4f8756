"""Random detections and annotations for tests of judging: overlapping boxes, wrong classes, ties, empty frames."""

from __future__ import annotations

import numpy as np
import pandas as pd

CLASSES = ("Cleavers", "Dandelion", "Fat hen")


def random_tables(
    images: int, boxes: int, *, seed: int = 0, classes: tuple[str, ...] = CLASSES, size: float = 900.0
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Detections, truth and img_paths: ``boxes`` annotations an image on average, most of them found, some twice.

    Scores have two digits, so that many are equal; the first image has neither annotations nor detections.
    """
    dice = np.random.default_rng(seed)
    img_paths = [f"field/frame{number:05d}.png" for number in range(images)]
    image = dice.integers(1, images, images * boxes)
    corner = dice.uniform(0, size, (len(image), 2))
    side = dice.lognormal(4, 0.8, (len(image), 2))
    wanted = np.concatenate([corner, corner + side], axis=1)
    label = dice.integers(0, len(classes), len(image))
    seen = dice.choice(len(image), size=len(image), replace=True)
    shaken = wanted[seen] + dice.normal(0, 0.1, (len(seen), 4)) * np.tile(side[seen], 2)
    found = np.concatenate([np.minimum(shaken[:, :2], shaken[:, 2:]), np.maximum(shaken[:, :2], shaken[:, 2:])], axis=1)
    other = np.where(dice.random(len(seen)) < 0.85, label[seen], dice.integers(0, len(classes), len(seen)))
    truth = _table(wanted, image, label, img_paths, classes)
    truth["annotation_id"] = [f"a{number}" for number in range(len(truth))]
    detections = _table(found, image[seen], other, img_paths, classes)
    detections["score"] = dice.random(len(seen)).round(2).astype(np.float32)
    return detections, truth, img_paths


def _table(
    boxes: np.ndarray, image: np.ndarray, label: np.ndarray, img_paths: list[str], classes: tuple[str, ...]
) -> pd.DataFrame:
    table = pd.DataFrame(boxes.astype(np.float32), columns=["x1", "y1", "x2", "y2"])
    table["img_path"] = np.array(img_paths, dtype=object)[image]
    table["object_class"] = np.array(classes, dtype=object)[label]
    return table


def boxes_of(*rows: tuple[object, ...]) -> pd.DataFrame:
    """A table of (img_path, class, x1, y1, x2, y2) and, with seven values, score."""
    names = ["img_path", "object_class", "x1", "y1", "x2", "y2", "score"]
    return pd.DataFrame(rows, columns=names[: len(rows[0])] if rows else names)
