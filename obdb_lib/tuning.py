"""From settings and a split to a trained detector: data, search and training of one variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from obdb_lib import paths
from obdb_lib.cache import atomic_writer
from obdb_lib.checkpoints import start_from
from obdb_lib.dataset import DetectionDataset
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.early_stopping import EarlyStopping
from obdb_lib.errors import DatasetError, SettingsError
from obdb_lib.frames import FrameStore
from obdb_lib.hpo import SearchResult, search, training_objective
from obdb_lib.models import Detector, build_detector
from obdb_lib.progress import Progress
from obdb_lib.search_algorithms import Algorithm
from obdb_lib.search_objective import ObjectiveName
from obdb_lib.search_record import SUFFIX
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split, by_groups
from obdb_lib.training import FitResult, TrainingOptions, fit

JUDGE_SHARE = 0.25
"""Share of the train frames on which a search judges its trials; the val frames stay unseen until the end."""

KNOWN_GOOD = Hyperparameters(lr=0.01, momentum=0.9, weight_decay=1e-4, step_size=3, gamma=0.1)
"""A first trial of every search: torchvision's detection reference (momentum, decay, cut) with lr for small batches."""
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
            augment=augment,
            vertical_flip=self.settings.vertical_flip,
            seed=self.settings.seed,
            progress=self.progress,
        )

    def detector(self, variant: str) -> Detector:
        """The network of a variant as training begins: ImageNet features, or the weights of an earlier model."""
        start = self.settings.variant(variant).pretrained_model_path
        detector = build_detector(
            variant,
            self.snapshot.classes,
            image_size=self.settings.image_size,
            pretrained=False if start else "auto",
            seed=self.settings.seed,
        )
        if start:
            detector.spec = replace(detector.spec, weights=start_from(detector, paths.locate(start)))
        return detector

    def part(self, name: str) -> list[str]:
        """Frames of a part of the split; only those of ``annotations_list``'s tasks, when the settings have one.

        Raises:
            SettingsError: a task of ``annotations_list`` is not in the snapshot.
            DatasetError: the part has no frames.
        """
        wanted = self.settings.annotations_list
        unknown = sorted(set(wanted) - set(self.snapshot.task_names))
        if unknown:
            raise SettingsError(
                f"annotations_list names tasks that are not in the snapshot: {', '.join(unknown)}. There are: "
                f"{', '.join(self.snapshot.task_names)}; an empty list takes them all"
            )
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
        algorithm: Algorithm = "bayesian",
        objective: ObjectiveName = "val_map",
        early_stopping: EarlyStopping | None = EARLY_STOPPING,
        study: str | None = None,
        dashboard_port: int | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> SearchResult:
        """Search the hyper-parameters of a variant; the best are written to ``<variant>_settings.json``.

        The first trials are points known to be good: the settings' own hyperparameters, then ``KNOWN_GOOD`` moved into
        the ranges. The record lies in ``save_dir/search/<study>_trials.json``.

        Args:
            algorithm, early_stopping, dashboard_port: see ``hpo.search``.
            objective: see ``search_objective.training_objective``.
            study: name of the study; the variant's when None.
            stop: asked between trials and after every step of one; what was earned is kept.
        """
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
            objective=objective,
            stop=stop,
        )
        name = study or variant
        # What is searched is no part of the key: with use_settings_file it becomes the last search's best.
        fixed = {n: v for n, v in asdict(options).items() if n not in self.settings.sherpa_parameters.given()}
        own = self.settings.hyperparameters(variant, self.save_dir)
        return search(
            short,
            self.settings.sherpa_parameters,
            max_num_trials=self.settings.max_num_trials,
            num_initial_data_points=self.settings.num_initial_data_points,
            seed=self.settings.seed,
            algorithm=algorithm,
            first=[own, KNOWN_GOOD],
            study=name,
            early_stopping=early_stopping,
            dashboard_port=dashboard_port,
            stop=stop,
            settings_path=self.save_dir / f"{variant}_settings.json",
            record=self.save_dir / "search" / f"{name}{SUFFIX}",
            data_key=[self.snapshot.id, self.split.id, train, judge, fixed, self.settings.image_size],
            timeout=self.settings.hpo_timeout,
            progress=self.progress,
        )

    def train(self, variant: str, hyperparameters: Hyperparameters | None = None, **changes: Any) -> FitResult:
        """Train a variant on train and judge it on val; goes on with a run that was cut off."""
        options = TrainingOptions.from_settings(self.settings, variant, hyperparameters, save_dir=self.save_dir)
        result = fit(
            self.detector(variant),
            self.dataset(self.part("train"), augment=True),
            self.dataset(self.part("val"), augment=False),
            replace(options, **changes),
            save_dir=self.save_dir,
            writer_dir=self.writer_dir,
            snapshot_id=self.snapshot.id,
            split_id=self.split.id,
            resume="auto",
            progress=self.progress,
        )
        # The next training writes over <variant>_model.pth; what the store says of this run must stay true.
        kept = self.save_dir / "runs" / f"{result.run_id}.pth"
        with atomic_writer(kept) as file:
            file.write(result.checkpoint.read_bytes())
        return replace(result, checkpoint=kept)


def run_document(result: FitResult, workbench: Workbench) -> dict[str, Any]:
    """What the store keeps of a training (``Store.save_run``)."""
    return {
        "_id": result.run_id,
        "variant": result.variant,
        "classes": list(result.classes),
        "snapshot_id": workbench.snapshot.id,
        "split_id": workbench.split.id,
        "checkpoint": str(result.checkpoint),
        "best_map50": result.best_map50,
        "best_map": result.best_map,
        "seconds": result.seconds,
        "partial": result.partial,
        "weights": result.weights,
    }


def _some(img_paths: list[str], most: int, rng: np.random.Generator) -> list[str]:
    if len(img_paths) <= most:
        return img_paths
    return [img_paths[i] for i in sorted(rng.permutation(len(img_paths))[:most])]
