"""An earlier model's weights in a new network: classes of the same name keep what was learnt of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from obdb_lib.errors import TrainingError

BACKGROUND = ""
"""Name of class 0 in every head; no class of the data is called so."""
TRUNKS = ("network.backbone.body.", "network.backbone.")
"""Where a detector's trunk stands: before the pyramid, or (SSD) the whole backbone."""
_HEADS = {
    r"roi_heads\.box_predictor\.(cls_score|bbox_pred)\.(weight|bias)$": "class first",
    r"classification_head\.(cls_logits|module_list\.\d+(\.1)?)\.(weight|bias)$": "anchor first",
}


@dataclass(frozen=True)
class TakenOver:
    """What came from an earlier model.

    Attributes:
        left: names of tensors that start anew as a whole.
        kept: classes whose part of the head was taken over.
        new: classes that the earlier model did not know; their part of the head starts anew.
        dropped: classes of the earlier model that the new one does not have.
        mixed: names of tensors of the class head that were put together class by class.
    """

    left: list[str]
    kept: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """What was taken over, in words, for the record of the run."""
        parts = []
        if self.kept:
            parts.append(f"class head of {', '.join(self.kept)} taken over")
        if self.new:
            parts.append(f"class head of {', '.join(self.new)} anew")
        if self.dropped:
            parts.append(f"{', '.join(self.dropped)} left out")
        if self.left:
            parts.append(f"{len(self.left)} tensors of the head anew")
        return "; ".join(parts) or "all taken over"


def class_layout(name: str) -> str | None:
    """How a tensor of a class head is ordered along its first axis, or None for any other tensor.

    "class first": C x m rows (m = 1 scores or 4 sides of a box); "anchor first": A x C rows.
    """
    return next((layout for pattern, layout in _HEADS.items() if re.search(pattern, name)), None)


def take_over(
    detector: nn.Module, state: Mapping[str, Tensor], classes: Sequence[str], earlier: Sequence[str]
) -> TakenOver:
    """Load an earlier model's tensors where they fit; the class head class by class.

    Args:
        detector: a ``models.Detector`` with ``classes``; changed in place.
        state: of a detector with the classes ``earlier``, which may be of another family on the same trunk.

    Raises:
        TrainingError: the trunks differ.
    """
    own = detector.state_dict()
    _check_trunk(own, state)
    taken: dict[str, Tensor] = {}
    mixed = []
    for name, value in own.items():
        old = state.get(name)
        layout = class_layout(name)
        if old is None:
            continue
        if layout is None:
            if old.shape == value.shape:
                taken[name] = old
        else:
            rows = mix_classes(value, old, (BACKGROUND, *classes), (BACKGROUND, *earlier), layout)
            if rows is not None:
                taken[name] = rows
                mixed.append(name)
    detector.load_state_dict(taken, strict=False)
    left = sorted(name for name in own if name not in taken and not name.endswith("num_batches_tracked"))
    known = set(earlier) if mixed else set()
    return TakenOver(
        left,
        kept=[name for name in classes if name in known],
        new=[name for name in classes if name not in known] if mixed else [],
        dropped=[name for name in earlier if name not in classes] if mixed else [],
        mixed=mixed,
    )


def mix_classes(own: Tensor, old: Tensor, classes: Sequence[str], earlier: Sequence[str], layout: str) -> Tensor | None:
    """The new head's tensor with the earlier one's rows for every class that both know.

    Args:
        own, old: (C x m, ...) or (A x C, ...); C is the number of ``classes`` or of ``earlier``, background included.

    Returns:
        A tensor of ``own``'s shape, or None when the two heads do not fit (another width or number of anchors).
    """
    per_class, rest = divmod(own.shape[0], len(classes))
    if rest or own.shape[1:] != old.shape[1:] or old.shape[0] != per_class * len(earlier):
        return None
    axis = 0 if layout == "class first" else 1

    def apart(one: Tensor, count: int) -> Tensor:
        first = (count, per_class) if axis == 0 else (per_class, count)
        return one.reshape(*first, *one.shape[1:])

    made, given = apart(own.clone(), len(classes)), apart(old, len(earlier))
    pairs = [(number, earlier.index(name)) for number, name in enumerate(classes) if name in earlier]
    for number, source in pairs:
        made.select(axis, number).copy_(given.select(axis, source))
    return made.reshape(own.shape)


def _check_trunk(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse a state of another trunk: half of ResNet-50 would fit ResNet-101, and be worth nothing."""
    start = next((start for start in TRUNKS if any(name.startswith(start) for name in own)), "")
    trunk = [name for name in own if name.startswith(start) and not name.endswith("num_batches_tracked")]
    fitting = [name for name in trunk if name in state and state[name].shape == own[name].shape]
    if len(fitting) < len(trunk):
        raise TrainingError(
            f"only {len(fitting)} of {len(trunk)} tensors of the trunk fit; start from a checkpoint of the same network"
        )
