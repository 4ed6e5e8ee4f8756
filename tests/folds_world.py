"""A small field of several videos for out-of-fold runs and what follows from them, trained in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obdb_lib import kept_detections, tuning
from obdb_lib.checkpoints import load_detector
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.frames import FrameStore
from obdb_lib.models import Detector
from obdb_lib.records import TaskRecord
from obdb_lib.settings import Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.training import FitResult
from tests.few_proposals import quick
from tests.helpers import CLASSES, random_boxes, snapshot_of, task, write_frames

SETTINGS = Settings.parse({"variants": ["mobilenet_v2"], "image_size": 64, "max_train_epochs": 1, "batch_size": 2})


def videos(count: int = 6, frames: int = 3, *, empty: int = 1) -> list[TaskRecord]:
    """One task a video; the last ``empty`` frames of each have no box."""
    rng = np.random.default_rng(1)
    names = [f"FieldData 202005{day:02d}145736 1L GH02{day:02d}68" for day in range(1, count + 1)]
    return [
        task(name, frames, {f: [(CLASSES[f % 2], box) for box in random_boxes(rng, 2)] for f in range(frames - empty)})
        for name in names
    ]


def field(root: Path, records: Sequence[TaskRecord]) -> tuple[Snapshot, FrameStore]:
    return snapshot_of(records), FrameStore([write_frames(root, records)])


def twins(img_paths: Sequence[str], *pairs: tuple[str, str]) -> DuplicateGroups:
    """Each frame alone, but for the pairs."""
    groups = pd.Series(range(len(img_paths)), index=pd.Index(img_paths, name="img_path"), name="duplicate_group")
    for first, second in pairs:
        groups[second] = groups[first]
    return DuplicateGroups(groups, pd.DataFrame(columns=["first", "second", "correlation"]))


class Trainings:
    """Watches ``fit``: which frames each training was given, from which step it went on, and whether it ended."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.train: list[tuple[str, ...]] = []
        self.val: list[tuple[str, ...]] = []
        self.results: list[FitResult] = []
        real_fit, real_detector = tuning.fit, tuning.Workbench.detector

        def fit(detector: Detector, train: object, val: object, *args: object, **asked: object) -> FitResult:
            self.train.append(tuple(train.img_paths))
            self.val.append(tuple(val.img_paths))
            self.results.append(real_fit(detector, train, val, *args, **asked))
            return self.results[-1]

        patch.setattr(tuning, "fit", fit)
        patch.setattr(tuning.Workbench, "detector", lambda bench, variant: quick(real_detector(bench, variant)))
        patch.setattr(kept_detections, "load_detector", lambda path: quick(load_detector(path)))
