"""Each way to detect learns four pictures by heart: targets, losses, boxes and scores fit together.

Weights are random but for the light network. A few steps on one batch leave batch norm's running statistics behind the
weights; they are set to those of the batch before judging.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from obdb_lib.evaluation import coco_metrics
from obdb_lib.models import Detector, build_detector
from tests.few_proposals import quick

CLASSES = ("square", "disc")
BOX = ["x1", "y1", "x2", "y2"]
WARMUP_STEPS = 10


def scenes(size: int, *, seed: int = 0) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Four pictures of noisy soil, each with a green square and a yellow disc in two of its quarters."""
    dice = np.random.default_rng(seed)
    images, targets = [], []
    half = size // 2
    for number in range(4):
        pixels = dice.normal(0.42, 0.02, (size, size, 3)).astype(np.float32)
        boxes, labels = [], []
        for place, quarter in enumerate(dice.permutation(4)[:2]):
            width, height = dice.integers(int(size * 0.29), int(size * 0.42), 2)
            x = (quarter % 2) * half + dice.integers(0, half - width + 1)
            y = (quarter // 2) * half + dice.integers(0, half - height + 1)
            label = 1 + (number + place) % 2
            rows, columns = np.mgrid[:height, :width] + 0.5
            disc = (columns / width * 2 - 1) ** 2 + (rows / height * 2 - 1) ** 2 <= 1
            shape = np.ones_like(disc) if label == 1 else disc
            pixels[y : y + height, x : x + width][shape] = (0.1, 0.8, 0.2) if label == 1 else (0.9, 0.8, 0.1)
            boxes.append([x, y, x + width, y + height])
            labels.append(label)
        images.append(torch.from_numpy(pixels).permute(2, 0, 1).clamp(0, 1))
        targets.append({"boxes": torch.tensor(np.array(boxes, np.float32)), "labels": torch.tensor(labels)})
    return images, targets


def learn(detector: Detector, images: list[Tensor], targets: list[dict[str, Tensor]], steps: int, lr: float) -> None:
    parameters = [one for one in detector.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, fused=True)
    detector.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / WARMUP_STEPS, 2 * (1 - step / steps))
        torch.manual_seed(step)
        loss = torch.stack(list(detector(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        detector(images, targets)


def map50(detector: Detector, images: list[Tensor], targets: list[dict[str, Tensor]]) -> float:
    with torch.inference_mode():
        found = detector.eval()(images)
    names = [f"frame{number}" for number in range(len(images))]

    def table(parts: list[dict[str, Tensor]]) -> pd.DataFrame:
        rows = []
        for name, part in zip(names, parts, strict=True):
            scores = part.get("scores", torch.ones(len(part["labels"])))
            values = zip(part["boxes"].tolist(), part["labels"].tolist(), scores.tolist(), strict=True)
            rows += [(name, CLASSES[label - 1], *box, score) for box, label, score in values]
        return pd.DataFrame(rows, columns=["img_path", "object_class", *BOX, "score"])

    return float(coco_metrics(table(found), table(targets).drop(columns="score"), names, CLASSES).ap50)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "size", "steps", "lr"),
    [
        ("mobilenet_v2", 64, 40, 1e-3),
        ("retina_net", 64, 36, 3e-4),
        ("fcos_resnet50_fpn", 64, 26, 3e-4),
        ("ssdlite320_mobilenet_v3_large", 96, 15, 3e-3),
    ],
)
def test_four_pictures__are_learnt_by_heart(variant: str, size: int, steps: int, lr: float) -> None:
    images, targets = scenes(size)
    detector = build_detector(variant, CLASSES, image_size=size, pretrained="auto" if "v2" in variant else False)
    detector = quick(detector, proposals=48)
    assert map50(detector, images, targets) < 0.5, "not by chance"
    learn(detector, images, targets, steps, lr)
    assert map50(detector, images, targets) == pytest.approx(1.0)
