"""The honest score: one recipe, judged on val parts that are ever harder to cheat on.

Every 10th frame of a video has its neighbour in train, so a detector that has learned the video by heart scores well.
The same recipe, trained on as many frames, is judged on such a split, on whole videos it has never seen, and on a day
it has never seen. What the score loses on the way is what the easy split had added to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.cache import content_hash, read_json, write_json
from obdb_lib.detections import read_detections, write_detections
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import DatasetError
from obdb_lib.evaluation import METRIC_SCORE_THRESHOLD, detect
from obdb_lib.frames import FrameStore
from obdb_lib.intervals import RESAMPLES, Intervals, group_intervals, judging_groups
from obdb_lib.leaks import report
from obdb_lib.matches import match_detections
from obdb_lib.progress import Progress, track
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split, by_groups, default_grouping, every_nth, make_split, new_day
from obdb_lib.tuning import Workbench

logger = logging.getLogger(__name__)

RANDOM, WHOLE_VIDEOS, NEW_DAY, WHOLE_TWINS = "random frames", "whole videos", "a new day", "whole duplicate groups"
NOT_THE_RECIPE = ("save_dir", "writer_dir", "dataset_dir", "workers")
"""Settings that do not change what is learned; a part that is finished stays so when they change."""
LEAST_SESSIONS = 2


@dataclass(frozen=True)
class HonestScores:
    """Scores of one recipe by strategy.

    Attributes:
        table: one row a finished strategy, in the order asked: strategy, train and val (frames), groups (of val), leak
            (share of val frames with a neighbour or twin in train, the largest that was found), ap, ap_low, ap_high,
            ap50, ap50_low, ap50_high (0..1), seconds (of training), warning.
        intervals: strategy -> its Intervals, class by class.
        variant, epochs: the recipe's network and length.
        partial: it was stopped; run it again to go on where it was.
    """

    table: pd.DataFrame
    intervals: Mapping[str, Intervals]
    variant: str
    epochs: int
    partial: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON note."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {"variant": self.variant, "epochs": self.epochs, "partial": self.partial, "table": rows}


def strategies(snapshot: Snapshot, duplicates: DuplicateGroups, *, nth: int = 10, seed: int = 0) -> dict[str, Split]:
    """The splits to compare, the easiest to cheat on first; val is one frame in ``nth`` of each.

    Every nth frame and random frames, which share videos with train; then, where the names tell videos, whole videos
    (with their twins), and a new day where there are two sessions or more (its ``test`` is val here, the rest trains);
    where they do not, duplicate groups kept whole.
    """
    share = 1 / nth
    easy = {f"every {nth}th frame": every_nth(snapshot, n=nth), RANDOM: random_frames(snapshot, share=share, seed=seed)}
    group_by = default_grouping(snapshot)
    shares = {"train": 1 - share, "val": share}
    apart = by_groups(snapshot, group_by=group_by, shares=shares, duplicates=duplicates, seed=seed)
    if "video" not in group_by:
        return {**easy, WHOLE_TWINS: apart}
    found = {**easy, WHOLE_VIDEOS: apart}
    if snapshot.frames["session"].replace("", None).nunique() >= LEAST_SESSIONS:
        day = new_day(snapshot, test_share=share, group_by=group_by, duplicates=duplicates, seed=seed).split
        parts = day.frames["part"].replace({"val": "train", "test": "val"})
        found[NEW_DAY] = make_split(snapshot.id, "new_day", day.frames.assign(part=parts), dict(day.parameters))
    return found


def random_frames(snapshot: Snapshot, *, share: float, seed: int = 0) -> Split:
    """Frames drawn for val one by one, whatever they share with train: for comparison only."""
    count = len(snapshot.frames)
    part = np.full(count, "train", dtype=object)
    part[np.random.default_rng(seed).choice(count, max(round(share * count), 1), replace=False)] = "val"
    table = pd.DataFrame({"img_path": snapshot.frames["img_path"], "part": part})
    return make_split(snapshot.id, "random", table, {"share": share, "seed": seed})


def honest_scores(
    snapshot: Snapshot,
    frames: FrameStore,
    settings: Settings,
    *,
    duplicates: DuplicateGroups,
    folder: Path,
    variant: str | None = None,
    hyperparameters: Hyperparameters | None = None,
    splits: Mapping[str, Split] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> HonestScores:
    """Train the recipe once for each split, on equally many frames, and judge each on its own val.

    The last epoch is judged, not the best one on val: to choose there would flatter the score. A split with more frames
    in train gives up some of them, drawn at random. Each part that is finished is kept in ``folder``, and a training
    that was cut off goes on, so the same call continues after a stop.

    Args:
        settings: the recipe; ``max_train_epochs`` of it are trained.
        folder: of the run; results go to ``honest`` below it.
        variant: which network of the settings; their first when None.
        hyperparameters: go before those of the settings (a search's best).
        splits: what to compare, by name; ``strategies(snapshot, duplicates)`` when None.
        resamples, seed: of the intervals; ``seed`` also draws the splits and the frames given up.

    Raises:
        DatasetError: the settings name no variant.
        TrainingError, CacheError: as ``training.fit``.
    """
    if not (variant or settings.variants):
        raise DatasetError("the settings name no variant to train; add one to variants")
    network = variant or settings.variants[0]
    recipe = _Recipe(snapshot, frames, settings, duplicates, folder / "honest", network, hyperparameters, progress)
    wanted = recipe.equal(splits or strategies(snapshot, duplicates, seed=seed), seed)
    rows: list[dict[str, Any]] = []
    found: dict[str, Intervals] = {}
    with track(progress, "honest score", len(wanted)) as task:
        for name, split in wanted.items():
            note = recipe.judged(name, split)
            if note is None:
                break
            val = [path for path in split.part("val") if path not in note["unreadable"]]
            detections = read_detections(Path(note["folder"]) / "detections.csv.gz")
            matches = match_detections(detections, snapshot.annotations, val, snapshot.classes)
            groups = judging_groups(snapshot, val, None, duplicates)
            found[name] = group_intervals(matches, groups, resamples=resamples, seed=seed)
            rows.append(
                _row(name, split, found[name], note, report(split, snapshot, duplicates=duplicates).largest_leak)
            )
            task.advance(1, part=name)
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return HonestScores(table, found, network, settings.max_train_epochs, len(rows) < len(wanted))


_SCORES = ("ap", "ap_low", "ap_high", "ap50", "ap50_low", "ap50_high")
_COLUMNS = ["strategy", "train", "val", "groups", "leak", *_SCORES, "seconds", "warning"]


def _row(name: str, split: Split, found: Intervals, note: dict[str, Any], leak: float) -> dict[str, Any]:
    scores = found.of()
    counts = {"train": len(split.part("train")), "val": len(split.part("val")), "groups": found.groups}
    told = {"seconds": note["seconds"], "warning": found.warning}
    return {"strategy": name, **counts, "leak": leak, **{key: scores[key] for key in _SCORES}, **told}


@dataclass(frozen=True)
class _Recipe:
    """What is the same for all strategies."""

    snapshot: Snapshot
    frames: FrameStore
    settings: Settings
    duplicates: DuplicateGroups
    folder: Path
    variant: str
    hyperparameters: Hyperparameters | None
    progress: Progress | None

    def workbench(self, split: Split, folder: Path) -> Workbench:
        """Training of one split in a folder of its own."""
        return Workbench(
            *(self.snapshot, split, self.frames, self.settings, folder, folder / "tensorboard"),
            duplicates=self.duplicates,
            progress=self.progress,
        )

    def equal(self, splits: Mapping[str, Split], seed: int) -> dict[str, Split]:
        """The splits with train parts of one size; frames given up are ``excluded``."""
        parts = {name: self.workbench(split, self.folder) for name, split in splits.items()}
        train, val = ({name: bench.part(part) for name, bench in parts.items()} for part in ("train", "val"))
        least = min(len(paths) for paths in train.values())
        cut = {}
        for name, split in splits.items():
            dice = np.random.default_rng(seed)
            kept = {train[name][i] for i in dice.choice(len(train[name]), least, replace=False)}
            part = [
                "train" if p in kept else "val" if p in set(val[name]) else "excluded" for p in split.frames["img_path"]
            ]
            table = split.frames[["img_path"]].assign(part=part)
            told = {**split.parameters, "train_frames": least}
            cut[name] = make_split(split.snapshot_id, split.strategy, table, told)
        return cut

    def judged(self, name: str, split: Split) -> dict[str, Any] | None:
        """Note of a finished part, training it first where needed; None when training was stopped."""
        plain = {key: value for key, value in self.settings.dump().items() if key not in NOT_THE_RECIPE}
        chosen = self.hyperparameters.to_json() if self.hyperparameters else None
        key = content_hash(self.snapshot.id, split.id, self.variant, plain, chosen, length=8)
        folder = self.folder / f"{name.replace(' ', '_')}-{key}"
        note_path = folder / "score.json"
        if note_path.exists():
            note: dict[str, Any] = read_json(note_path)
            return {**note, "folder": folder}
        logger.info("honest score: %s, %d frames to train on", name, len(split.part("train")))
        bench = self.workbench(split, folder)
        result = bench.train(self.variant, self.hyperparameters, judge_every=self.settings.max_train_epochs)
        if result.partial:
            return None
        table = detect(
            result.checkpoint,
            self.frames,
            split.part("val"),
            score_threshold=METRIC_SCORE_THRESHOLD,
            progress=self.progress,
        )
        write_detections(folder / "detections.csv.gz", table)
        note = {
            "strategy": name,
            "split": split.strategy,
            "split_id": split.id,
            "run_id": result.run_id,
            "checkpoint": result.checkpoint.relative_to(folder),
            "weights": result.weights,
            "seconds": result.seconds,
            "unreadable": table.attrs["unreadable"],
        }
        write_json(note_path, note)
        return {**note, "folder": folder}
