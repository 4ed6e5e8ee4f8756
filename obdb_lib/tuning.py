"""From settings and a split to a trained detector: data, search and training of one variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from obdb_lib import paths
from obdb_lib.augmentation import Augmentation
from obdb_lib.before_training import require_start, require_tasks
from obdb_lib.cache import atomic_writer, write_json
from obdb_lib.checkpoints import start_from
from obdb_lib.dataset import DetectionDataset
from obdb_lib.distributed import first_process, processes
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.early_stopping import EarlyStopping
from obdb_lib.errors import DatasetError, SettingsError
from obdb_lib.frames import FrameStore
from obdb_lib.full_runs import agreement, best_of, conditions_of, hyperparameters_of, own_folder, take_over, trial_of
from obdb_lib.hpo import SearchResult, search, training_objective
from obdb_lib.models import Detector, build_detector
from obdb_lib.progress import Progress
from obdb_lib.search_record import SUFFIX
from obdb_lib.search_report import RankAgreement
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split, by_groups
from obdb_lib.training import FitResult, OnEpoch, TrainingOptions, fit

JUDGE_SHARE = 0.25
"""Share of the train frames on which a search judges its trials; the val frames stay unseen until the end."""

KNOWN_GOOD = Hyperparameters(lr=0.01, momentum=0.9, weight_decay=1e-4, step_size=3, gamma=0.1)
"""First trial of a search whose settings name no good point of their own: torchvision's detection reference (momentum,
decay, cut) with lr for small batches."""
EARLY_STOPPING = EarlyStopping()


@dataclass(frozen=True)
class Workbench:
    """All that training a variant needs, made once for all variants.

    Attributes:
        snapshot, split: the data, and which of it trains and judges.
        frames: where images come from.
        settings: checked settings.
        save_dir, writer_dir: where models and TensorBoard's files go.
        duplicates: near twins, so that the search's own parts do not leak either.
    """

    snapshot: Snapshot
    split: Split
    frames: FrameStore
    settings: Settings
    save_dir: Path
    writer_dir: Path
    duplicates: DuplicateGroups | None = None
    progress: Progress | None = None

    def dataset(self, img_paths: list[str], *, augment: bool) -> DetectionDataset:
        """Frames and boxes at training size."""
        return DetectionDataset(
            self.frames,
            img_paths,
            self.snapshot.annotations,
            self.snapshot.classes,
            image_size=self.settings.image_size,
            augment=augmentation_of(self.settings) if augment else False,
            seed=self.settings.seed,
            progress=self.progress,
        )

    def detector(self, variant: str) -> Detector:
        """The network of a variant as training begins: ImageNet features, or the weights of an earlier model."""
        block = self.settings.variant(variant)
        require_start(self.settings, variant)
        start = block.pretrained_model_path
        detector = build_detector(
            variant,
            self.snapshot.classes,
            image_size=self.settings.image_size,
            pretrained=False if start else block.pretrained,
            trainable_layers=block.trainable_layers,
            seed=self.settings.seed,
            told=not start,
        )
        if start:
            start_from(detector, paths.locate(start), trainable_layers=block.trainable_layers)
        return detector

    def part(self, name: str) -> list[str]:
        """Frames of a part of the split; only those of ``annotations_list``'s tasks, when the settings have one.

        Raises:
            SettingsError: a task of ``annotations_list`` is not in the snapshot.
            DatasetError: the part has no frames.
        """
        wanted = self.settings.annotations_list
        require_tasks(self.settings, self.snapshot)
        chosen = self.split.part(name)
        if wanted:
            tasks = dict(zip(self.snapshot.frames["img_path"], self.snapshot.frames["task_name"], strict=True))
            chosen = [img_path for img_path in chosen if tasks[img_path] in wanted]
        if not chosen:
            among = " among the tasks of annotations_list" if wanted else ""
            raise DatasetError(f"split {self.split.id} has no {name} frames{among}; make another one in notebook 02")
        return chosen

    def search_parts(self) -> tuple[list[str], list[str]]:
        """Frames that trials train on and are judged on: group-disjoint parts of train, cut to ``fake_dataset_len``."""
        # Clusters and the user's own groups are not at hand here; what else held the split together still does.
        known = tuple(name for name in self.split.group_by if name not in ("cluster", "given"))
        blocks = self.split.parameters
        inner = by_groups(
            self.snapshot,
            group_by=known or ("video",),
            block_frames=cast("int | None", blocks.get("block_frames")),
            buffer_frames=cast(int, blocks.get("buffer_frames", 0)),
            shares={"train": 1 - JUDGE_SHARE, "val": JUDGE_SHARE},
            duplicates=self.duplicates,
            frames=self.part("train"),
            seed=self.settings.seed,
        )
        rng = np.random.default_rng(self.settings.seed)
        most = self.settings.fake_dataset_len
        return _some(inner.part("train"), most, rng), _some(inner.part("val"), max(most // 2, 1), rng)

    def search(
        self,
        variant: str,
        *,
        early_stopping: EarlyStopping = EARLY_STOPPING,
        study: str | None = None,
        dashboard_port: int | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> SearchResult:
        """Search the hyper-parameters of a variant; the best are written to ``<variant>_settings.json``.

        The first trial is the settings' own hyperparameters where they name all that is searched, else ``KNOWN_GOOD``
        moved into the ranges. The record lies in ``save_dir/search/<study>_trials.json``.

        Args:
            early_stopping: which trials are ended, where ``hpo_early_stopping`` of the settings wants that.
            dashboard_port: see ``hpo.search``.
            study: name of the study; the variant's when None.
            stop: asked between trials and after every step of one; what was earned is kept.
        """
        if processes() > 1:
            raise SettingsError(
                f"{variant}: a search runs in one process. Search without torchrun first; then set run_hpo to 0 and "
                "use_settings_file to 1, and train on all GPUs with what was found"
            )
        train, judge = self.search_parts()
        options = TrainingOptions.from_settings(
            self.settings, variant, save_dir=self.save_dir, epochs=self.settings.search_epochs
        )
        short = training_objective(
            lambda: self.detector(variant),
            self.dataset(train, augment=True),
            self.dataset(judge, augment=False),
            options,
            work_dir=self.save_dir / "search" / variant,
            objective=self.settings.hpo_objective,
            stop=stop,
        )
        name = study or variant
        # What is searched is no part of the key: with use_settings_file it becomes the last search's best.
        ranges = self.settings.sherpa_parameters.given()
        fixed = {n: v for n, v in asdict(options).items() if n not in ranges}
        own = self.settings.hyperparameters(variant, self.save_dir)
        found = search(
            short,
            self.settings.sherpa_parameters,
            max_num_trials=self.settings.max_num_trials,
            num_initial_data_points=self.settings.num_initial_data_points,
            seed=self.settings.seed,
            algorithm=self.settings.hpo_algorithm,
            first=own if set(ranges) <= set(own.model_dump(exclude_none=True)) else [own, KNOWN_GOOD],
            study=name,
            early_stopping=early_stopping if self.settings.hpo_early_stopping else None,
            dashboard_port=dashboard_port,
            stop=stop,
            settings_path=self.save_dir / f"{variant}_settings.json",
            record=self.save_dir / "search" / f"{name}{SUFFIX}",
            data_key=[self.snapshot.id, self.split.id, train, judge, fixed, self.settings.image_size],
            about={**self._data(variant), "fixed": hyperparameters_of(fixed)},
            timeout=self.settings.hpo_timeout,
            progress=self.progress,
        )
        if not found.partial:
            short.forget()
        return found

    def train(
        self,
        variant: str,
        hyperparameters: Hyperparameters | None = None,
        *,
        stop: Callable[[], bool] | None = None,
        on_epoch: OnEpoch | None = None,
        progress: Progress | None = None,
        apart: bool = False,
        **changes: Any,
    ) -> FitResult:
        """Train a variant on train and judge it on val; goes on with a run that was cut off.

        What the run was and gave also goes into a folder of its own, ``save_dir/runs/<run id>``: the model,
        ``record.json`` (with the effective settings), ``history.csv``.

        Args:
            hyperparameters: a search's best; they go before the settings' own.
            stop, on_epoch: see ``training.fit``.
            progress: instead of the workbench's own.
            apart: one of several trainings of the variant (``full_runs.top_trials``): it keeps its files in a folder of
                its own below ``save_dir/full``, from which it goes on; ``keep_best`` puts the best into ``save_dir``.
            changes: fields of ``TrainingOptions`` to set.
        """
        options = TrainingOptions.from_settings(self.settings, variant, hyperparameters, save_dir=self.save_dir)
        options = replace(options, **changes)
        own = own_folder(self.save_dir, variant, asdict(options)) if apart else self.save_dir
        if apart and processes() == 1 and not (own / f"{variant}_last.pth").exists():
            # What was trained alone before (the best trial, usually) is not trained a second time.
            take_over(self.save_dir, own, variant, only=asdict(options))
        result = fit(
            self.detector(variant),
            self.dataset(self.part("train"), augment=True),
            self.dataset(self.part("val"), augment=False),
            options,
            save_dir=own,
            writer_dir=self.writer_dir,
            snapshot_id=self.snapshot.id,
            split_id=self.split.id,
            resume="auto",
            progress=progress or self.progress,
            stop=stop,
            on_epoch=on_epoch,
        )
        # The next training writes over <variant>_model.pth; what the store says of this run must stay true.
        if not first_process():
            return result
        folder = self.save_dir / "runs" / result.run_id
        with atomic_writer(folder / f"{result.run_id}.pth") as file:
            file.write(result.checkpoint.read_bytes())
        result = replace(result, checkpoint=folder / f"{result.run_id}.pth")
        with atomic_writer(folder / "history.csv", "w") as file:
            result.history.to_csv(file, index=False)
        write_json(folder / "record.json", run_document(result, self))
        return result

    def keep_best(self, variant: str, fits: Sequence[FitResult]) -> FitResult:
        """The best of several trainings by val mAP50; one that was trained ``apart`` becomes the variant's model.

        Its files go into ``save_dir`` as ``<variant>_model.pth`` and so on; the model that lay there becomes
        ``<variant>_model_previous.pth``.
        """
        best = best_of(fits)
        if first_process() and len(fits) > 1:
            take_over(own_folder(self.save_dir, variant, best.settings["options"]), self.save_dir, variant)
        return best

    def agreement(
        self, variant: str, documents: Sequence[Mapping[str, Any]], *, study: str | None = None
    ) -> RankAgreement:
        """Do the variant's short trials order settings as its full trainings did? See ``full_runs.agreement``.

        Args:
            documents: ``Store.runs``.
            study: name of the study; the variant's when None.
        """
        options = TrainingOptions.from_settings(self.settings, variant, save_dir=self.save_dir)
        conditions = conditions_of({**self._data(variant), "options": asdict(options)})
        return agreement(self.save_dir / "search" / f"{study or variant}{SUFFIX}", documents, conditions)[0]

    def _data(self, variant: str) -> dict[str, Any]:
        """What a search's record and a training must share before one is called the other's trial."""
        return {
            "snapshot_id": self.snapshot.id,
            "split_id": self.split.id,
            "variant": variant,
            "image_size": self.settings.image_size,
        }


def run_document(result: FitResult, workbench: Workbench) -> dict[str, Any]:
    """What the store keeps of a training (``Store.save_run``): which data, how, on what, how good, how long.

    ``search`` is the trial that tried the same hyperparameters (``full_runs.trial_of``), None without one.
    """
    facts = result.settings
    data = workbench._data(result.variant)
    named = ("options", "augmentation", "seed", "versions", "hardware", "processes", "train_frames", "val_frames")
    measured = ("metrics", "best_epoch", "images_per_s", "memory_mb", "frames_at_once")
    scores = {"best_map50": result.best_map50, "best_map": result.best_map}
    return {
        "_id": result.run_id,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **data,
        "classes": list(result.classes),
        "hyperparameters": hyperparameters_of(facts.get("options") or {}),
        "search": trial_of(workbench.save_dir / "search", {**data, "options": facts.get("options")}),
        "split_strategy": workbench.split.strategy,
        "checkpoint": str(result.checkpoint),
        **{name: None if value != value else value for name, value in scores.items()},
        "epochs": len(result.history),
        "seconds": result.seconds,
        "partial": result.partial,
        "weights": result.weights,
        "settings": workbench.settings.dump(),
        **{name: facts.get(name) for name in (*named, *measured)},
    }


RUN_COLUMNS = {
    "created": "when (UTC)",
    "variant": "variant",
    "best_map50": "val mAP50",
    "best_map": "val mAP",
    "best_epoch": "best epoch",
    "epochs": "epochs",
    "minutes": "minutes",
    "lr": "lr",
    "momentum": "momentum",
    "weight_decay": "weight decay",
    "schedule": "schedule",
    "trial": "from trial",
    "images_per_s": "images/s",
    "device": "device",
    "split_strategy": "split",
    "split_id": "split id",
    "snapshot_id": "snapshot id",
    "partial": "stopped early",
}


def runs_table(documents: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run of ``Store.runs``, newest first: index run id, columns as ``RUN_COLUMNS`` names them.

    Runs of earlier versions of the lab have gaps where nothing was recorded.
    """
    rows = []
    for document in documents:
        machine = document.get("hardware") or {}
        seconds = document.get("seconds")
        used = document.get("hyperparameters") or hyperparameters_of(document.get("options") or {})
        more = {
            **used,
            "schedule": _schedule(used) if used.get("lr") is not None else None,
            "trial": "{study} {trial}".format(**document["search"]) if document.get("search") else None,
            "device": machine.get("gpu") or machine.get("cpu"),
            "minutes": seconds / 60 if seconds else None,
        }
        rows.append({"run": document["_id"], **{name: {**document, **more}.get(name) for name in RUN_COLUMNS}})
    table = pd.DataFrame(rows, columns=["run", *RUN_COLUMNS]).set_index("run")
    return table.sort_values("created", ascending=False, na_position="last").rename(columns=RUN_COLUMNS)


def _schedule(used: Mapping[str, Any]) -> str:
    """How lr falls, in words."""
    if used.get("step_size") is None or used.get("gamma") is None:
        return "cosine"
    return f"x{used['gamma']:.2g} every {used['step_size']} epochs"


def _some(img_paths: list[str], most: int, rng: np.random.Generator) -> list[str]:
    if len(img_paths) <= most:
        return img_paths
    return [img_paths[i] for i in sorted(rng.permutation(len(img_paths))[:most])]


def augmentation_of(settings: Settings) -> Augmentation:
    """How the settings want training pictures changed; ``augmentation`` names what differs from the usual."""
    given: Any = getattr(settings, "augmentation", None) or {}
    plain = given if isinstance(given, dict) else given.model_dump(exclude_none=True)
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    return Augmentation(**{"vertical_flip": settings.vertical_flip, **plain})
