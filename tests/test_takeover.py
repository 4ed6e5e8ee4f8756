"""Weights of an earlier model: classes are found by name, in every family's head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from obdb_lib.errors import TrainingError
from obdb_lib.models import build_detector
from obdb_lib.takeover import class_layout, mix_classes, take_over

EARLIER, NOW = ("thistle", "dock", "nettle"), ("nettle", "cleavers", "thistle", "rape")


def test_rows_of_a_class_first_head__move_by_name() -> None:
    old = torch.arange(16.0).reshape(16, 1)
    made = mix_classes(torch.full((20, 1), -1.0), old, ("", *NOW), ("", *EARLIER), "class first")
    assert made is not None
    assert made.reshape(5, 4).tolist() == [[0, 1, 2, 3], [12, 13, 14, 15], [-1] * 4, [4, 5, 6, 7], [-1] * 4]


def test_rows_of_an_anchor_first_head__move_by_name() -> None:
    old = torch.arange(8.0)
    made = mix_classes(torch.full((10,), -1.0), old, ("", *NOW), ("", *EARLIER), "anchor first")
    assert made is not None
    assert made.reshape(2, 5).tolist() == [[0, 3, -1, 1, -1], [4, 7, -1, 5, -1]]


@pytest.mark.parametrize("shape", [(9,), (12,), (8, 2)])
def test_heads_of_other_shape__do_not_mix(shape: tuple[int, ...]) -> None:
    assert mix_classes(torch.zeros(10), torch.zeros(shape), ("", *NOW), ("", *EARLIER), "anchor first") is None


def scores_of(variant: str, state: dict[str, Tensor], classes: int) -> list[Tensor]:
    """Per class: all numbers of the scoring head that belong to it."""
    rows: list[list[Tensor]] = [[] for _ in range(classes + 1)]
    for name, value in state.items():
        layout = class_layout(name)
        if layout is not None and "bbox_pred" not in name:
            first = value.reshape(-1, classes + 1, *value.shape[1:])
            for number in range(classes + 1):
                rows[number].append(first[:, number].flatten())
    return [torch.cat(parts) for parts in rows]


@pytest.mark.parametrize(
    "variant", ["mobilenet_v2", "ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn", "retinanet_resnet50_fpn"]
)
def test_same_classes_keep_their_head__in_every_family(variant: str) -> None:
    old = build_detector(variant, EARLIER, image_size=64, pretrained=False, seed=1)
    new = build_detector(variant, NOW, image_size=64, pretrained=False, seed=2)
    before = scores_of(variant, new.state_dict(), len(NOW))
    taken = take_over(new, old.state_dict(), NOW, EARLIER)
    assert (taken.kept, taken.new, taken.dropped) == (["nettle", "thistle"], ["cleavers", "rape"], ["dock"])
    assert taken.mixed
    assert not taken.left
    was, now = scores_of(variant, old.state_dict(), len(EARLIER)), scores_of(variant, new.state_dict(), len(NOW))
    assert torch.equal(now[0], was[0])
    assert torch.equal(now[1], was[3])
    assert torch.equal(now[3], was[1])
    assert torch.equal(now[2], before[2])
    assert taken.sentence() == (
        "class head of nettle, thistle taken over; class head of cleavers, rape anew; dock left out"
    )


def test_other_family_on_the_same_trunk__gives_its_trunk() -> None:
    old = build_detector("resnet50", EARLIER, image_size=64, pretrained=False, seed=1)
    new = build_detector("fcos_resnet50_fpn", EARLIER, image_size=64, pretrained=False, seed=2)
    taken = take_over(new, old.state_dict(), EARLIER, EARLIER)
    first = "network.backbone.body.layer4.2.conv3.weight"
    assert torch.equal(new.state_dict()[first], old.state_dict()[first])
    assert taken.left
    assert all("backbone.body" not in name for name in taken.left)
    assert taken.kept == []
    assert taken.sentence() == f"{len(taken.left)} tensors of the head anew"


def test_half_of_a_trunk__is_refused() -> None:
    small = build_detector("resnet18", EARLIER, image_size=64, pretrained=False)
    large = build_detector("resnet34", EARLIER, image_size=64, pretrained=False)
    with pytest.raises(TrainingError, match=r"only \d+ of \d+ tensors of the trunk fit"):
        take_over(large, small.state_dict(), EARLIER, EARLIER)
