"""How to train, as one checked value made from the settings."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obdb_lib.errors import TrainingError
from obdb_lib.settings import Hyperparameters, Settings

logger = logging.getLogger(__name__)

DEFAULT_LR = 0.01
DEFAULT_MOMENTUM = 0.9
DEFAULT_WEIGHT_DECAY = 1e-4
DEFAULT_CLIP_NORM = 5.0
AUTO_BATCH = 0
"""``batch_size`` that is chosen by memory when the training begins (``batch_size.settle_batch_size``)."""
BEST_BY = ("val_ap50", "val_ap", "val_loss")
"""What may decide which epoch is the best; the losses are better when lower."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        epochs: passes over the training frames.
        batch_size: frames a step and process. Where they do not fit into memory at once, they go through the network in
            smaller groups whose gradients are added up, so that the recipe stays the same.
            ``AUTO_BATCH`` chooses by memory.
        lr, momentum, weight_decay: of SGD.
        step_size, gamma: cut ``lr`` by ``gamma`` every ``step_size`` epochs (upstream's StepLR); None for both means
            one cosine from ``lr`` to zero over the whole run.
        max_plateau_count: epochs without a better ``best_by`` after which training ends.
        best_by: column of the history that decides which epoch is kept: val_ap50, val_ap or (as upstream) val_loss.
        clip_norm: gradients longer than this are shortened; lower it when single batches throw the training off.
        seed: of order, augmentation and sampling.
        workers: loader processes; None chooses (0 on a CPU, where a frame costs a millisecond).
        amp: half precision on CUDA; never used on a CPU.
        val_loss: also compute the losses on val, in the same pass as the mAP (the backbone runs once for both).
        judge_every: epochs between two judgings on val; the last epoch is always judged.
        device: "cuda", "cpu", ...; None chooses.
    """

    epochs: int
    batch_size: int = 4
    lr: float = DEFAULT_LR
    momentum: float = DEFAULT_MOMENTUM
    weight_decay: float = DEFAULT_WEIGHT_DECAY
    step_size: int | None = None
    gamma: float | None = None
    max_plateau_count: int = 20
    best_by: str = BEST_BY[0]
    clip_norm: float = DEFAULT_CLIP_NORM
    seed: int = 0
    workers: int | None = None
    amp: bool = True
    val_loss: bool = False
    judge_every: int = 1
    device: str | None = None

    def __post_init__(self) -> None:
        counts = {"epochs": 1, "batch_size": AUTO_BATCH, "max_plateau_count": 1, "judge_every": 1}
        mistakes = [
            f"{n} must be at least {least}; got {getattr(self, n)}"
            for n, least in counts.items()
            if getattr(self, n) < least
        ]
        if not 0 < self.lr < math.inf:
            mistakes.append(f"lr must be above 0; got {self.lr}")
        if not self.clip_norm > 0:
            mistakes.append(f"clip_norm must be above 0 (inf switches clipping off); got {self.clip_norm}")
        if self.best_by not in BEST_BY:
            mistakes.append(f"best_by must be one of {', '.join(BEST_BY)}; got {self.best_by!r}")
        if self.best_by == "val_loss" and not self.val_loss:
            mistakes.append("best_by val_loss needs val_loss switched on")
        if (self.step_size is None) != (self.gamma is None):
            mistakes.append("step_size and gamma are given together or not at all")
        if mistakes:
            raise TrainingError("training options: " + "; ".join(mistakes))

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        variant: str,
        hyperparameters: Hyperparameters | None = None,
        *,
        save_dir: Path | None = None,
        **changes: Any,
    ) -> TrainingOptions:
        """Options of a variant; ``hyperparameters`` (a search's best) go before those of the settings, one by one.

        ``save_dir``: where ``<variant>_settings.json`` is looked for; the settings' own folder when None.
        """
        given: dict[str, Any] = {}
        for source in (settings.hyperparameters(variant, save_dir), hyperparameters or Hyperparameters()):
            given.update(source.model_dump(exclude_none=True, exclude={"best_value"}))
        if ("step_size" in given) != ("gamma" in given):
            given = {name: value for name, value in given.items() if name not in ("step_size", "gamma")}
            logger.warning("%s: step_size and gamma work only together; the cosine schedule is used", variant)
        common: dict[str, Any] = {
            "epochs": settings.max_train_epochs,
            "batch_size": AUTO_BATCH if settings.batch_size == "auto" else settings.batch_size,
            "max_plateau_count": settings.max_plateau_count,
            "seed": settings.seed,
            "workers": settings.workers,
            "val_loss": settings.val_loss,
        }
        # Keys that a settings file of another version may lack; the defaults above hold then.
        for name in ("best_by", "clip_norm"):
            if getattr(settings, name, None) is not None:
                common[name] = getattr(settings, name)
        common["val_loss"] = common["val_loss"] or common.get("best_by") == "val_loss"
        return cls(**{**common, **given, **changes})

    def hyperparameters(self, best_value: float | None = None) -> Hyperparameters:
        """What upstream's ``<variant>_settings.json`` holds."""
        return Hyperparameters(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            step_size=self.step_size,
            gamma=self.gamma,
            best_value=None if best_value is None or math.isnan(best_value) else best_value,
        )
