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

from obdb_lib.batch_size import settle_batch_size
from obdb_lib.cache import content_hash, require_writable
from obdb_lib.dataset import DetectionDataset
from obdb_lib.distributed import join
from obdb_lib.epochs import epoch_batches, train_one_epoch
from obdb_lib.errors import TrainingError
from obdb_lib.evaluation import Metrics, coco_metrics
from obdb_lib.machine import hardware, versions
from obdb_lib.models import Detector
from obdb_lib.options import TrainingOptions
from obdb_lib.progress import Progress, track
from obdb_lib.run_files import RunFiles
from obdb_lib.runlog import RunLog
from obdb_lib.trainer import RunState, StopTraining, Trainer, make_trainer
from obdb_lib.validation import judge

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
            asked for, and its parts, seconds, step_s, wait_s (waiting for data) and its wait_share of the seconds,
            images_per_s, memory_mb, judge_s.
        best_map50, best_map: of the best epoch (``options.best_by`` decides), 0..1; NaN when none was judged.
        checkpoint: file of the best model.
        seconds: wall time of all sessions of the run.
        partial: stopped before its end (interrupt or ``stop``); what was earned is in ``checkpoint``.
        weights: sentence saying what training began with.
        settings: effective options and facts of the run, JSON-able.
        metrics: COCO metrics of the best epoch when it was judged in this session (``settings`` holds them always).
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
OnEpoch = Callable[[dict[str, float]], None]


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
    on_epoch: OnEpoch | None = None,
) -> FitResult:
    """Train a detector, judge it on val by COCO mAP (``options.best_by``), keep the best.

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
        on_epoch: called after each judged epoch with its row of the history. What it raises ends the training politely
            (what was earned is kept) and passes on.

    Raises:
        TrainingError: non-finite loss; datasets that do not fit the detector; a last file of another run.
        CacheError: the results cannot be written; told before training where the folder is at fault.
    """
    _check(detector, train, val)
    require_writable(save_dir, "save_dir")
    if writer_dir:
        require_writable(writer_dir, "writer_dir")
    with join() as world:
        record = Path(save_dir) / f"{detector.spec.variant}_run.json" if resume else None
        options, chosen = settle_batch_size(detector, train, options, world, record)
        steps = len(epoch_batches(len(train), options, 0, world))
        trainer = make_trainer(detector, options, world, steps_per_epoch=steps)
        facts = {
            "variant": detector.spec.variant,
            "spec": detector.spec.to_dict(),
            "options": asdict(options),
            "snapshot_id": snapshot_id,
            "split_id": split_id,
            **({"batch_size_choice": chosen} if chosen else {}),
            "train_frames": len(train),
            "val_frames": len(val),
            "unreadable": {**train.unreadable, **val.unreadable},
            "processes": world.size,
            "seed": options.seed,
            "augmentation": asdict(train.augment) if train.augment else None,
            "versions": versions(),
            "hardware": hardware(trainer.device),
            "data": content_hash(train.img_paths, val.img_paths, train.truth.to_csv(index=False)),
        }
        day = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        name = run_id or f"{detector.spec.variant}-{day}-{content_hash(facts, length=6)}"
        run = _Run(trainer, RunState(world.share(name)), RunFiles(Path(save_dir), facts, trainer))
        run.prepare(resume)
        log = RunLog(Path(writer_dir) / run.state.run_id if writer_dir and world.first else None)
        return run.go(train, val, log, progress, stop, on_epoch)


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
    """One ``fit``: where it stands and how it goes on."""

    def __init__(self, trainer: Trainer, state: RunState, files: RunFiles) -> None:
        self.trainer, self.state, self.files = trainer, state, files
        self.metrics: Metrics | None = None
        self.started = self.saved_at = time.monotonic()

    def prepare(self, resume: bool | Literal["auto"]) -> None:
        """Take up the last file, or clear the way for a new run."""
        world = self.trainer.world
        restored = self.files.restore(refuse=resume is True) if resume else None
        if restored is not None:
            self.state = restored
            if restored.best_epoch and world.first:
                # The search before this training has written the same file when the command was given again.
                self.files.save_settings(restored)
        elif world.first:
            self.files.clear()
        world.barrier()

    def go(
        self,
        train: DetectionDataset,
        val: DetectionDataset,
        log: RunLog,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
        on_epoch: OnEpoch | None,
    ) -> FitResult:
        """Train until the end, a plateau or a stop."""
        options, state, world = self.trainer.options, self.state, self.trainer.world
        self.started = self.saved_at = time.monotonic()
        partial = False
        steps = (options.epochs - state.epoch) * len(epoch_batches(len(train), options, 0, world)) - state.step
        try:
            with log, track(progress, f"train {self.files.facts['variant']}", max(steps, 0)) as task:
                while not state.finished:
                    numbers = train_one_epoch(
                        self.trainer, train, state, task=task, stop=stop, after_step=self._save_now_and_then
                    )
                    row = self._end_epoch(numbers, val, log)
                    # The epoch is on the disk by now, so whatever is raised here costs nothing.
                    if on_epoch is not None and not math.isnan(row["val_ap50"]):
                        on_epoch(dict(row))
        except (KeyboardInterrupt, StopTraining) as wish:
            partial = True
            # A stop that the caller asked for is no surprise to him; as a warning it would be red in a notebook.
            level = logging.INFO if isinstance(wish, StopTraining) else logging.WARNING
            logger.log(level, "%s: stopped in epoch %d; what was earned is kept", state.run_id, state.epoch + 1)
            self._keep_partial()
        return self._result(partial)

    def _end_epoch(self, numbers: dict[str, float], val: DetectionDataset, log: RunLog) -> dict[str, float]:
        """Judge, remember, save, and decide whether to go on; the epoch's row of the history."""
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
            self._save(best=better)
        world.barrier()
        return row

    def _judge(self, row: dict[str, float], val: DetectionDataset, log: RunLog) -> bool:
        """Metrics on val into ``row``; True when this is the best epoch so far."""
        state, trainer, options = self.state, self.trainer, self.trainer.options
        started = time.monotonic()
        judged = judge(trainer.detector, val, device=trainer.device, losses=options.val_loss)
        metrics = coco_metrics(judged.detections, val.truth, val.img_paths, val.classes)
        row.update(val_ap50=metrics.ap50, val_ap=metrics.ap, **judged.losses, judge_s=time.monotonic() - started)
        log.val(state.epoch + 1, val, judged.detections)
        value = row[options.best_by]
        better = math.isnan(state.best_value) or (
            value < state.best_value if options.best_by == "val_loss" else value > state.best_value
        )
        state.plateau = 0 if better else state.plateau + options.judge_every
        if better:
            state.best_value, state.best_epoch, state.best_metrics = value, state.epoch + 1, metrics.to_dict()
            state.best_ap50, state.best_ap, self.metrics = metrics.ap50, metrics.ap, metrics
        return better

    def _save(self, *, best: bool) -> None:
        self.saved_at = time.monotonic()
        state = replace(self.state, seconds=self._seconds())
        if best:
            self.files.save_best(state)
        self.files.save_record(state)  # first, for a resume looks there for a batch size that was chosen
        self.files.save_last(state)

    def _save_now_and_then(self) -> None:
        if self.trainer.world.first and time.monotonic() - self.saved_at > SAVE_EVERY_S:
            self._save(best=False)

    def _keep_partial(self) -> None:
        """After a stop: the exact place for a resume, and a model even if none was judged yet."""
        if self.trainer.world.first:
            self._save(best=not self.files.model.exists())

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
            checkpoint=self.files.model,
            seconds=self._seconds(),
            partial=partial,
            weights=spec.weights,
            settings=self.files.record(replace(state, seconds=self._seconds())),
            metrics=self.metrics,
        )
