"""Every family of networks: builds, learns one step, detects in one form, and comes back from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from obdb_lib.checkpoints import Checkpoint, cpu_state, load_detector, save_checkpoint
from obdb_lib.detector_embedder import detector_embedder
from obdb_lib.families import DETECTIONS_PER_IMAGE, SCORE_FLOOR, trunk_of
from obdb_lib.models import Detector, build_detector
from obdb_lib.takeover import class_layout
from tests.few_proposals import quick
from tests.tiny_field import CLASSES

FAMILIES = {
    "mobilenet_v2": 64,
    "resnet18_mine": 64,
    "retina_net": 64,
    "fasterrcnn_resnet50_fpn_v2": 64,
    "fasterrcnn_mobilenet_v3_large_320_fpn": 64,
    "retinanet_resnet50_fpn_v2": 64,
    "fcos_resnet50_fpn": 64,
    "ssd300_vgg16": 64,
    "ssdlite320_mobilenet_v3_large": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
    "efficientnet_b0": 64,
    "resnext50_32x4d": 64,
    "regnet_y_400mf": 64,
    "densenet121": 64,
    "shufflenet_v2_x0_5": 64,
    "mnasnet0_5": 64,
    "squeezenet1_1": 64,
    "googlenet": 64,
}
"""Variant and image size: one of each kind of network in torchvision, small ones where there are several."""


def pictures(size: int) -> list[Tensor]:
    dice = torch.Generator().manual_seed(0)
    return [torch.rand(3, size * 2 // 3, size, generator=dice), torch.rand(3, size, size // 2, generator=dice)]


def targets() -> list[dict[str, Tensor]]:
    return [
        {"boxes": torch.tensor([[4.0, 4.0, 36.0, 36.0], [20.0, 10.0, 30.0, 24.0]]), "labels": torch.tensor([2, 1])},
        {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)},
    ]


def moved(parameters: list[nn.Parameter]) -> bool:
    return any(one.grad is not None and float(one.grad.abs().max()) > 0 for one in parameters)


def eager(detector: Detector) -> Detector:
    """Heads that find everything likely: a network that has learnt nothing would give no detections to look at."""
    with torch.no_grad():
        for name, one in detector.named_parameters():
            if class_layout(name) and name.endswith("bias") and "bbox_pred" not in name:
                one.reshape(-1, len(CLASSES) + 1)[:, 1:] += 4.0
    return detector.eval()


@pytest.mark.parametrize("variant", FAMILIES)
def test_family__learns_a_step_detects_and_comes_back(variant: str, tmp_path: Path) -> None:
    size = FAMILIES[variant]
    detector = quick(build_detector(variant, CLASSES, image_size=size, pretrained=False))
    # SSD300 knows no size but its own, so it gets one picture.
    count = 1 if variant == "ssd300_vgg16" else 2
    images = pictures(size)[:count]
    losses = detector.train()(images, targets()[:count])
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    trunk = list(trunk_of(detector.network).parameters())
    inner = {id(one) for one in trunk}
    assert moved(trunk[:4]), "the first layers of the trunk"
    assert moved([one for name, one in detector.named_parameters() if class_layout(name)]), "the class head"
    assert moved([one for one in detector.parameters() if id(one) not in inner])
    detector.zero_grad(set_to_none=True)

    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(eager(detector))))
    torch.load(path, weights_only=True)
    back = quick(load_detector(path))
    assert back.spec == detector.spec
    with torch.inference_mode():
        first, second = detector(images), back(images)
    assert len(first) == count
    for one, other, image in zip(first, second, images, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("boxes", "labels", "scores"))
        check_form(one, image)
    assert sum(len(one["scores"]) for one in first)


def check_form(found: dict[str, Tensor], image: Tensor) -> None:
    boxes, labels, scores = found["boxes"], found["labels"], found["scores"]
    assert set(found) == {"boxes", "labels", "scores"}
    assert boxes.shape == (len(scores), 4)
    assert (boxes.dtype, labels.dtype, scores.dtype) == (torch.float32, torch.int64, torch.float32)
    assert len(scores) <= DETECTIONS_PER_IMAGE
    assert set(labels.tolist()) <= {1, 2}
    assert bool((scores > SCORE_FLOOR).all())
    assert bool((boxes >= 0).all())
    assert bool((boxes[:, 2] <= image.shape[2] + 1e-3).all())
    assert bool((boxes[:, 3] <= image.shape[1] + 1e-3).all())
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())


@pytest.mark.parametrize(
    ("variant", "width"), [("swin_t", 384 + 768), ("ssdlite320_mobilenet_v3_large", 480), ("resnet18", 256 + 512)]
)
def test_trunk_of_any_family__embeds_crops(variant: str, width: int, tmp_path: Path) -> None:
    detector = build_detector(variant, CLASSES, image_size=64, pretrained=False)
    path = tmp_path / "model.pth"
    save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector)))
    crops = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    vectors = detector_embedder(path).load().embed(crops)
    assert vectors.shape == (3, width)
    assert np.isfinite(vectors).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
