"""Names of networks, without loading torch: which network a variant of the settings means.

A variant is the name of a network, or begins with one (``resnet18_weeds_pretrained``). The networks are upstream's,
torchvision's detectors and torchvision's classifiers as backbones; a test holds these lists against torchvision's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LIGHT = "mobilenet_v2"
"""Faster R-CNN with a narrow pyramid and head, which a CPU trains in minutes."""
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Faster R-CNN with a ResNet-FPN, as upstream built them."""
RETINA_NET = "retina_net"
"""Upstream's name of RetinaNet on ResNet-50."""
DETECTORS = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
"""Builders of ``torchvision.models.detection`` that learn from boxes."""
BACKBONES = (
    "alexnet",
    *(f"convnext_{size}" for size in ("base", "large", "small", "tiny")),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"efficientnet_b{number}" for number in range(8)),
    *(f"efficientnet_v2_{size}" for size in "lms"),
    "googlenet",
    "inception_v3",
    *(f"mnasnet{width}" for width in ("0_5", "0_75", "1_0", "1_3")),
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    *(f"regnet_x_{size}" for size in ("16gf", "1_6gf", "32gf", "3_2gf", "400mf", "800mf", "8gf")),
    *(f"regnet_y_{size}" for size in ("128gf", "16gf", "1_6gf", "32gf", "3_2gf", "400mf", "800mf", "8gf")),
    "resnext101_32x8d",
    "resnext101_64x4d",
    "resnext50_32x4d",
    *(f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")),
    "squeezenet1_0",
    "squeezenet1_1",
    *(f"swin_{size}" for size in "bst"),
    *(f"swin_v2_{size}" for size in "bst"),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    "wide_resnet101_2",
    "wide_resnet50_2",
)
"""Classifiers of ``torchvision.models`` whose feature maps become a Faster R-CNN with a pyramid."""
ARCHITECTURES = (LIGHT, *RESNETS, RETINA_NET, *DETECTORS, *BACKBONES)
"""Networks that a variant name may be, or begin with."""

_ONE_SCALE = "takes pictures of one fixed size only and has no feature maps of several scales"
UNUSABLE = {
    "maskrcnn_resnet50_fpn": "is trained on masks, this lab on boxes; take fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2": "is trained on masks, this lab on boxes; take fasterrcnn_resnet50_fpn_v2",
    "keypointrcnn_resnet50_fpn": "is trained on keypoints, this lab on boxes; take fasterrcnn_resnet50_fpn",
    **{f"vit_{size}": f"{_ONE_SCALE}; take swin_t" for size in ("b_16", "b_32", "h_14", "l_16", "l_32")},
    "maxvit_t": "takes pictures of one fixed size only; take swin_t",
}
"""Networks of torchvision that cannot be used here, and why."""

SHORT_LIST = f"{LIGHT}, {', '.join(RESNETS)}, {RETINA_NET}, or another detector or backbone of torchvision"
"""What an error lists: the whole list is as long as a page."""
LEAST_LIKENESS = 0.5
"""difflib's ratio (0..1, 1 is equal) below which a name is not offered as the meant one; raise it for fewer offers."""


def architecture_of(variant: str) -> str | None:
    """The network a variant name means, or None when it means none or is doubtful (see ``variant_mistake``)."""
    name = _longest_prefix(variant, ARCHITECTURES)
    return None if name is None or _longest_prefix(variant, UNUSABLE) or _misspelt(variant, name) else name


def variant_mistake(variant: str) -> str | None:
    """Why a variant name means no network, with the nearest name; None when it means one."""
    if architecture_of(variant) is not None:
        return None
    unusable = _longest_prefix(variant, UNUSABLE)
    if unusable:
        return f"{variant!r} cannot be used: {unusable} {UNUSABLE[unusable]}"
    name = _longest_prefix(variant, ARCHITECTURES)
    if name is not None:
        return (
            f"{variant!r} could be {name!r} under another name or a misspelt {_misspelt(variant, name)!r}; write the "
            "one that is meant, or a suffix that is less like it"
        )
    return f"{variant!r} is no known network{did_you_mean(_nearest_beginning(variant))}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, whatever its case and dashes, or None when none is like it."""
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=LEAST_LIKENESS)
    return close[0] if close else None


def did_you_mean(name: str | None) -> str:
    """Tail of an error message; empty for None."""
    return f" (did you mean {name!r}?)" if name else ""


def _longest_prefix(variant: str, names: Iterable[str]) -> str | None:
    fitting = [name for name in names if variant == name or variant.startswith(f"{name}_")]
    return max(fitting, key=len, default=None)


def _nearest_beginning(variant: str) -> str | None:
    """The network most like any beginning of the variant's name: its suffix may be anything."""
    parts = variant.lower().replace("-", "_").split("_")
    best, likeness = None, LEAST_LIKENESS
    for count in range(1, len(parts) + 1):
        beginning = "_".join(parts[:count])
        for name in difflib.get_close_matches(beginning, ARCHITECTURES, n=1, cutoff=likeness):
            ratio = difflib.SequenceMatcher(None, beginning, name).ratio()
            if best is None or ratio > likeness:
                best, likeness = name, ratio
    return best


def _misspelt(variant: str, name: str) -> str | None:
    """The longer network that a suffix nearly spells: ``retinanet_resnet50_fpn_v3`` is no suffix of one's own."""
    given = variant[len(name) + 1 :].split("_")[0]
    for longer in ARCHITECTURES:
        wanted = longer[len(name) + 1 :]
        if longer.startswith(f"{name}_") and len(given) == len(wanted):
            differing = sum(one != other for one, other in zip(given, wanted, strict=True))
            if differing == 1:
                return longer
    return None
