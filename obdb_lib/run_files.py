"""The files of a training: the best model, the place for a resume, and the record of what made the run."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from obdb_lib import __version__
from obdb_lib.cache import atomic_writer, content_hash, write_json
from obdb_lib.checkpoints import Checkpoint, cpu_state, load_checkpoint, save_checkpoint
from obdb_lib.errors import CacheError, TrainingError
from obdb_lib.settings import save_hyperparameters
from obdb_lib.trainer import RunState, Trainer

logger = logging.getLogger(__name__)

NOT_THE_RECIPE = ("device", "workers", "amp")
"""Options that may differ when a run is resumed."""


class RunFiles:
    """Writes and reads ``<variant>_*`` in the save folder.

    Args:
        save_dir: the folder.
        facts: what made the run (variant, spec, options, ids, data, versions, hardware), JSON-able.
        trainer: whose state is saved and restored.
    """

    def __init__(self, save_dir: Path, facts: dict[str, Any], trainer: Trainer) -> None:
        self.facts, self.trainer = facts, trainer
        variant = facts["variant"]
        self.model = save_dir / f"{variant}_model.pth"
        self.last = save_dir / f"{variant}_last.pth"
        self._settings = save_dir / f"{variant}_settings.json"
        self._run = save_dir / f"{variant}_run.json"
        self._summary = save_dir / f"{variant}_summary.csv"

    def clear(self) -> None:
        """Make room for a new run; the model of an earlier one is kept under another name."""
        if self.model.exists():
            try:
                self.model.replace(self.model.with_name(f"{self.model.stem}_previous{self.model.suffix}"))
            except OSError as error:
                raise CacheError(f"cannot move the earlier model {self.model} aside: {error}") from error
        self.last.unlink(missing_ok=True)

    def save_best(self, state: RunState) -> None:
        """The lean model, and upstream's ``<variant>_settings.json`` beside it."""
        save_checkpoint(self.model, self._checkpoint(state, {}))
        self.save_settings(state)

    def save_settings(self, state: RunState) -> None:
        """Upstream's ``<variant>_settings.json``: what the best model was trained with, and its val mAP50."""
        save_hyperparameters(self._settings, self.trainer.options.hyperparameters(state.best_ap50))

    def save_last(self, state: RunState) -> None:
        """All that a resume needs."""
        trainer = self.trainer
        resume = {
            "state": asdict(state),
            "fingerprint": self._fingerprint(),
            "optimizer": trainer.optimizer.state_dict(),
            "schedule": {k: v for k, v in trainer.schedule.state_dict().items() if k != "lr_lambdas"},
            "scaler": trainer.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        save_checkpoint(self.last, self._checkpoint(state, resume))

    def record(self, state: RunState) -> dict[str, Any]:
        """Everything that made the run and how good it got; NaN is None (it is no JSON)."""
        rates = [row["images_per_s"] for row in state.history]
        found = {
            "run_id": state.run_id,
            "code_version": __version__,
            **self.facts,
            "best_ap50": state.best_ap50,
            "best_ap": state.best_ap,
            "best_epoch": state.best_epoch,
            "epochs_done": state.epoch,
            "metrics": state.best_metrics or None,
            "seconds": state.seconds,
            "images_per_s": sum(rates) / len(rates) if rates else None,
            "memory_mb": max((row["memory_mb"] for row in state.history), default=None),
            "frames_at_once": self.trainer.group,
        }
        return {name: None if value != value else value for name, value in found.items()}

    def save_record(self, state: RunState) -> None:
        """``<variant>_run.json`` and the history as ``<variant>_summary.csv``."""
        write_json(self._run, self.record(state))
        if state.history:
            with atomic_writer(self._summary, "w") as file:
                pd.DataFrame(state.history).to_csv(file, index=False)

    def restore(self, *, refuse: bool) -> RunState | None:
        """Put the trainer where the last file stood; None when there is none.

        Raises:
            TrainingError: it is damaged or another run's and ``refuse`` is set; otherwise that is told and None.
        """
        if not self.last.exists():
            return None
        try:
            last = load_checkpoint(self.last)
        except TrainingError as error:
            if refuse:
                raise
            logger.warning("%s; this run starts anew", error)
            return None
        if last.resume.get("fingerprint") != self._fingerprint():
            if not refuse:
                logger.warning("%s belongs to another run; this one starts anew", self.last)
                return None
            raise TrainingError(
                f"{self.last} belongs to another run (data, classes, network or options differ), so it cannot be "
                'resumed; train with resume="auto" or into another save_dir'
            )
        return self._take_up(last)

    def _take_up(self, last: Checkpoint) -> RunState:
        trainer = self.trainer
        trainer.detector.load_state_dict(last.state)
        trainer.optimizer.load_state_dict(last.resume["optimizer"])
        trainer.schedule.load_state_dict({**trainer.schedule.state_dict(), **last.resume["schedule"]})
        trainer.scaler.load_state_dict(last.resume["scaler"])
        torch.set_rng_state(last.resume["random"])
        state = RunState(**last.resume["state"])
        logger.info("resume %s at epoch %d, step %d", state.run_id, state.epoch + 1, state.step)
        return state

    def _checkpoint(self, state: RunState, resume: dict[str, Any]) -> Checkpoint:
        metrics = {"ap50": state.best_ap50, "ap": state.best_ap, "epoch": state.epoch}
        ids = (self.facts["snapshot_id"], self.facts["split_id"], state.run_id)
        return Checkpoint(self.trainer.detector.spec, cpu_state(self.trainer.detector), *ids, metrics, resume)

    def _fingerprint(self) -> str:
        """What must be the same for a resume: data, network and options (not device, workers or half precision)."""
        options = {k: v for k, v in self.facts["options"].items() if k not in NOT_THE_RECIPE}
        spec = {k: v for k, v in self.facts["spec"].items() if k != "weights"}
        augmentation = self.facts.get("augmentation")
        return content_hash(spec, options, augmentation, self.facts["data"], self.facts["split_id"])
