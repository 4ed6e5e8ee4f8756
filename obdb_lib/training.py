"""Training runs: ``fit`` wires epochs, judging, checkpoints and the record of the run.

Everything random hangs on ``seed``, epoch and step, so a run that was killed and resumed ends like one that was not.
Started by ``torchrun`` the same call trains on all processes and only the first one judges and writes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from obdb_lib import __version__
from obdb_lib.cache import atomic_writer, content_hash, write_json
from obdb_lib.checkpoints import Checkpoint, cpu_state, load_checkpoint, save_checkpoint
from obdb_lib.dataset import DetectionDataset
from obdb_lib.distributed import join
from obdb_lib.epochs import (
    RunState,
    StopTraining,
    Trainer,
    epoch_batches,
    make_trainer,
    mean_loss,
    train_one_epoch,
)
from obdb_lib.errors import CacheError, TrainingError
from obdb_lib.evaluation import Metrics, coco_metrics, detect_dataset
from obdb_lib.models import Detector
from obdb_lib.options import TrainingOptions
from obdb_lib.progress import Progress, track
from obdb_lib.runlog import RunLog
from obdb_lib.settings import save_hyperparameters

__all__ = ["FitResult", "TrainingOptions", "TrainingRun", "fit", "train_one_epoch"]

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 300.0
"""A resume after a kill loses at most this much work."""


@dataclass(frozen=True)
class FitResult:
    """What a training gave.

    Attributes:
        run_id: names the run in the store and in suggestions.
        history: one row an epoch: epoch, lr, loss and its parts, val_ap50, val_ap (NaN where not judged), val_loss when
            asked for, seconds, step_s, wait_s (waiting for data), images_per_s, memory_mb.
        best_map50, best_map: of the best epoch (val mAP50 decides), 0..1; NaN when none was judged.
        checkpoint: file of the best model.
        seconds: wall time of all sessions of the run.
        partial: stopped before its end (interrupt or ``stop``); what was earned is in ``checkpoint``.
        weights: sentence saying what training began with.
        settings: effective options and facts of the run, JSON-able.
        metrics: COCO metrics of the best epoch when it was judged in this session.
    """

    run_id: str
    variant: str
    classes: tuple[str, ...]
    history: pd.DataFrame
    best_map50: float
    best_map: float
    checkpoint: Path
    seconds: float
    partial: bool
    weights: str
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: Metrics | None = None


TrainingRun = FitResult


def fit(
    detector: Detector,
    train: DetectionDataset,
    val: DetectionDataset,
    options: TrainingOptions,
    *,
    save_dir: Path | str,
    writer_dir: Path | str | None = None,
    run_id: str | None = None,
    snapshot_id: str = "",
    split_id: str = "",
    resume: bool | Literal["auto"] = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> FitResult:
    """Train a detector, judge it on val by COCO mAP50, keep the best.

    Writes into ``save_dir``: ``<variant>_model.pth`` (best), ``<variant>_last.pth`` (for a resume),
    ``<variant>_settings.json`` (upstream's hyperparameters), ``<variant>_run.json`` (everything that made the run) and
    ``<variant>_summary.csv`` (history). A model of an earlier run is kept as ``<variant>_model_previous.pth``.

    Args:
        detector: from ``build_detector``; changed in place (it ends as the last epoch, not the best).
        train, val: datasets at the detector's image size with its classes.
        save_dir: folder of the results.
        writer_dir: folder for TensorBoard (a folder a run below it); None writes none.
        run_id: name of the run; None makes one from variant, date and content.
        snapshot_id, split_id: which data; stored in every checkpoint.
        resume: go on with ``<variant>_last.pth`` if there is one. True refuses one of other data or options; "auto"
            then starts anew and keeps the earlier model as ``<variant>_model_previous.pth``.
        stop: asked after every step; True ends the training politely. So does KeyboardInterrupt.
        on_epoch: called after each judged epoch with its row of the history.

    Raises:
        TrainingError: non-finite loss; datasets that do not fit the detector; a last file of another run.
        CacheError: the results cannot be written.
    """
    _check(detector, train, val)
    with join() as world:
        steps = len(epoch_batches(len(train), options, 0, world))
        trainer = make_trainer(detector, options, world, steps_per_epoch=steps)
        facts = {
            "variant": detector.spec.variant,
            "spec": detector.spec.to_dict(),
            "options": asdict(options),
            "snapshot_id": snapshot_id,
            "split_id": split_id,
            "train_frames": len(train),
            "val_frames": len(val),
            "unreadable": {**train.unreadable, **val.unreadable},
            "processes": world.size,
            "data": content_hash(train.img_paths, val.img_paths, train.truth.to_csv(index=False)),
        }
        day = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        name = run_id or f"{detector.spec.variant}-{day}-{content_hash(facts, length=6)}"
        run = _Run(trainer, RunState(world.share(name)), Path(save_dir), facts, on_epoch)
        run.prepare(resume)
        return run.go(train, val, Path(writer_dir) if writer_dir else None, progress, stop)


def _check(detector: Detector, train: DetectionDataset, val: DetectionDataset) -> None:
    spec = detector.spec
    for name, dataset in (("train", train), ("val", val)):
        if dataset.classes != spec.classes:
            raise TrainingError(f"{name} has classes {list(dataset.classes)}, the detector {list(spec.classes)}")
        if dataset.image_size != spec.image_size:
            raise TrainingError(f"{name} is sized to {dataset.image_size} px, the detector to {spec.image_size} px")
    both = set(train.img_paths) & set(val.img_paths)
    if both:
        raise TrainingError(f"{len(both)} frames are in train and in val, e.g. {min(both)}; make the split again")
    if not len(train.truth):
        raise TrainingError("no training frame has a box; there is nothing to learn")


class _Run:
    """One ``fit``: where it stands, and its files."""

    def __init__(
        self,
        trainer: Trainer,
        state: RunState,
        save_dir: Path,
        facts: dict[str, Any],
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.trainer, self.state, self.facts, self.on_epoch = trainer, state, facts, on_epoch
        endings = {"model": "pth", "last": "pth", "settings": "json", "run": "json", "summary": "csv"}
        variant = facts["variant"]
        self.files = {name: save_dir / f"{variant}_{name}.{ending}" for name, ending in endings.items()}
        self.metrics: Metrics | None = None
        self.started = self.saved_at = time.monotonic()

    def prepare(self, resume: bool | Literal["auto"]) -> None:
        """Take up the last file, or clear the way for a new run."""
        if resume and self.files["last"].exists() and self._restore(refuse=resume is True):
            pass
        elif self.trainer.world.first:
            _put_aside(self.files["model"])
            self.files["last"].unlink(missing_ok=True)
        self.trainer.world.barrier()

    def go(
        self,
        train: DetectionDataset,
        val: DetectionDataset,
        writer_dir: Path | None,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> FitResult:
        """Train until the end, a plateau or a stop."""
        options, state, world = self.trainer.options, self.state, self.trainer.world
        self.started = self.saved_at = time.monotonic()
        partial = False
        steps = (options.epochs - state.epoch) * len(epoch_batches(len(train), options, 0, world)) - state.step
        log = RunLog(writer_dir / state.run_id if writer_dir and world.first else None)
        try:
            with log, track(progress, f"train {self.facts['variant']}", max(steps, 0)) as task:
                while not state.finished:
                    numbers = train_one_epoch(
                        self.trainer, train, state, task=task, stop=stop, after_step=self._save_now_and_then
                    )
                    self._end_epoch(numbers, val, log)
        except (KeyboardInterrupt, StopTraining):
            partial = True
            logger.warning("%s: stopped in epoch %d; what was earned is kept", state.run_id, state.epoch + 1)
            self._keep_partial()
        return self._result(partial)

    def _end_epoch(self, numbers: dict[str, float], val: DetectionDataset, log: RunLog) -> None:
        """Judge, remember, save, and decide whether to go on."""
        state, trainer, world = self.state, self.trainer, self.trainer.world
        lr = float(trainer.optimizer.param_groups[0]["lr"])
        row = {"epoch": float(state.epoch + 1), "lr": lr, **numbers, "val_ap50": math.nan, "val_ap": math.nan}
        last = state.epoch + 1 >= trainer.options.epochs
        better = False
        if world.first and (last or (state.epoch + 1) % trainer.options.judge_every == 0):
            better = self._judge(row, val, log)
        if not trainer.cosine:
            trainer.schedule.step()
        state.history.append(row)
        state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
        state.finished = world.share(last or state.plateau >= trainer.options.max_plateau_count)
        if world.first:
            logger.info("%s", " ".join(f"{name}={value:.4g}" for name, value in row.items()))
            log.scalars(state.epoch, row)
            if better:
                self._save_best()
            self._save_last()
            with atomic_writer(self.files["summary"], "w") as file:
                pd.DataFrame(state.history).to_csv(file, index=False)
            if self.on_epoch is not None:
                self.on_epoch(dict(row))
        world.barrier()

    def _judge(self, row: dict[str, float], val: DetectionDataset, log: RunLog) -> bool:
        """Metrics on val into ``row``; True when this is the best epoch so far."""
        state, trainer = self.state, self.trainer
        detections = detect_dataset(trainer.detector, val, device=trainer.device)
        metrics = coco_metrics(detections, val.truth, val.img_paths, val.classes)
        row.update(val_ap50=metrics.ap50, val_ap=metrics.ap)
        if trainer.options.val_loss:
            row["val_loss"] = mean_loss(trainer.detector, val, trainer.options.batch_size, trainer.device)
        log.images(state.epoch + 1, val, detections)
        better = math.isnan(state.best_ap50) or metrics.ap50 > state.best_ap50
        state.plateau = 0 if better else state.plateau + trainer.options.judge_every
        if better:
            state.best_ap50, state.best_ap, self.metrics = metrics.ap50, metrics.ap, metrics
        return better

    def _checkpoint(self, resume: dict[str, Any]) -> Checkpoint:
        metrics = {"ap50": self.state.best_ap50, "ap": self.state.best_ap, "epoch": self.state.epoch}
        ids = (self.facts["snapshot_id"], self.facts["split_id"], self.state.run_id)
        return Checkpoint(self.trainer.detector.spec, cpu_state(self.trainer.detector), *ids, metrics, resume)

    def _save_best(self) -> None:
        save_checkpoint(self.files["model"], self._checkpoint({}))
        save_hyperparameters(self.files["settings"], self.trainer.options.hyperparameters(self.state.best_ap50))
        scores = {"best_ap50": self.state.best_ap50, "best_ap": self.state.best_ap, "best_epoch": self.state.epoch}
        record = {"run_id": self.state.run_id, "code_version": __version__, **self.facts, **scores}
        write_json(self.files["run"], {k: None if v != v else v for k, v in record.items()})  # NaN is no JSON

    def _save_last(self) -> None:
        trainer = self.trainer
        self.saved_at = time.monotonic()
        resume = {
            "state": asdict(replace(self.state, seconds=self._seconds())),
            "fingerprint": self._fingerprint(),
            "optimizer": trainer.optimizer.state_dict(),
            "schedule": {k: v for k, v in trainer.schedule.state_dict().items() if k != "lr_lambdas"},
            "scaler": trainer.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        save_checkpoint(self.files["last"], self._checkpoint(resume))

    def _save_now_and_then(self) -> None:
        if self.trainer.world.first and time.monotonic() - self.saved_at > SAVE_EVERY_S:
            self._save_last()

    def _keep_partial(self) -> None:
        """After a stop: the exact place for a resume, and a model even if none was judged yet."""
        if self.trainer.world.first:
            self._save_last()
            if not self.files["model"].exists():
                self._save_best()

    def _fingerprint(self) -> str:
        """What must be the same for a resume: data, network and options (not device, workers or half precision)."""
        options = {k: v for k, v in self.facts["options"].items() if k not in ("device", "workers", "amp")}
        spec = {k: v for k, v in self.facts["spec"].items() if k != "weights"}
        return content_hash(spec, options, self.facts["data"], self.facts["split_id"])

    def _restore(self, *, refuse: bool) -> bool:
        """Stand where the last file stood; False when it is another run's and that is not to be refused."""
        path = self.files["last"]
        try:
            last = load_checkpoint(path)
        except TrainingError as error:
            if refuse:
                raise
            logger.warning("%s; this run starts anew", error)
            return False
        if last.resume.get("fingerprint") != self._fingerprint():
            if not refuse:
                logger.warning("%s belongs to another run; this one starts anew", path)
                return False
            raise TrainingError(
                f"{path} belongs to another run (data, classes, network or options differ), so it cannot be resumed; "
                'train with resume="auto" or into another save_dir'
            )
        trainer = self.trainer
        trainer.detector.load_state_dict(last.state)
        trainer.optimizer.load_state_dict(last.resume["optimizer"])
        trainer.schedule.load_state_dict({**trainer.schedule.state_dict(), **last.resume["schedule"]})
        trainer.scaler.load_state_dict(last.resume["scaler"])
        torch.set_rng_state(last.resume["random"])
        self.state = RunState(**last.resume["state"])
        logger.info("resume %s at epoch %d, step %d", self.state.run_id, self.state.epoch + 1, self.state.step)
        return True

    def _seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self.started

    def _result(self, partial: bool) -> FitResult:
        spec, state = self.trainer.detector.spec, self.state
        return FitResult(
            run_id=state.run_id,
            variant=spec.variant,
            classes=spec.classes,
            history=pd.DataFrame(state.history),
            best_map50=state.best_ap50,
            best_map=state.best_ap,
            checkpoint=self.files["model"],
            seconds=self._seconds(),
            partial=partial,
            weights=spec.weights,
            settings=self.facts,
            metrics=self.metrics,
        )


def _put_aside(model: Path) -> None:
    """Keep the model of an earlier run under another name instead of writing over it."""
    if not model.exists():
        return
    try:
        model.replace(model.with_name(f"{model.stem}_previous{model.suffix}"))
    except OSError as error:
        raise CacheError(f"cannot move the earlier model {model} aside: {error}") from error
