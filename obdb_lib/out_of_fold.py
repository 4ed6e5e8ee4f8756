"""Out-of-fold detections: every frame judged by detectors that saw neither it nor its near twin.

A detector is shy to find what it was taught to be background, and so is taught every plant that nobody annotated. So k
detectors are trained over folds of whole groups, and each judges what it was not trained on. One checkpoint of one's
own is the quick option; the result then says what that costs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.before_training import require_tasks
from obdb_lib.cache import content_hash, require_writable
from obdb_lib.checkpoints import load_checkpoint
from obdb_lib.detecting import PLAIN
from obdb_lib.distributed import processes
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import DatasetError, SettingsError, TrainingError
from obdb_lib.evaluation import coco_metrics
from obdb_lib.fold_plan import NO_FOLD, FoldModel, plan_folds
from obdb_lib.fold_training import FoldRecipe
from obdb_lib.frames import FrameStore
from obdb_lib.kept_detections import Kept, detect_kept, together
from obdb_lib.progress import Progress, Titled, track
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split
from obdb_lib.trust import folds_sentence, one_model_sentence

logger = logging.getLogger(__name__)

DEFAULT_FOLDS = 3
LOW_SCORE = 0.02
"""Detections below are dropped. Nearly everything is kept: what a score is worth is decided later."""


@dataclass(frozen=True)
class OutOfFold:
    """What one or more detectors found, and which of them were asked about which frame.

    Attributes:
        detections: DETECTION_COLUMNS, fold (int64, number of the model) and, with a second look, look.
        frames: every frame that was asked for, index img_path: fold (int64, NO_FOLD where it belongs to none), judges
            (tuple of the models that have judged it), seen (bool: a judge was trained on it or on a frame of its
            group), unreadable (reason, "" when it could be read).
        models: one row a finished model: fold, train and judged (frames), ap50 (0..1, of the plain look on the
            annotations of its held-out frames as they are; NaN without any), seconds (of training), checkpoint.
        looks: models that judge each annotated frame when nothing is partial.
        trust: how far to believe the detections, in a sentence or two.
        partial: it was stopped; the same call goes on. ``frames`` tells which ones were judged.
    """

    detections: pd.DataFrame
    frames: pd.DataFrame
    models: pd.DataFrame
    looks: int
    trust: str
    partial: bool

    @property
    def fold_of(self) -> pd.Series:
        """Series img_path -> fold."""
        return self.frames["fold"]

    @property
    def unreadable(self) -> dict[str, str]:
        """img_path -> reason."""
        told = self.frames["unreadable"]
        return {str(path): str(why) for path, why in told[told != ""].items()}

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Number of each finished model -> its file."""
        return {int(n): Path(str(p)) for n, p in zip(self.models["fold"], self.models["checkpoint"], strict=True)}

    def plain(self) -> pd.DataFrame:
        """The detections of the frames as they are, without the mirrored look."""
        table = self.detections
        return table[table["look"] == PLAIN].reset_index(drop=True) if "look" in table.columns else table


def out_of_fold(
    snapshot: Snapshot,
    frames: FrameStore,
    settings: Settings,
    *,
    duplicates: DuplicateGroups,
    save_dir: Path | str,
    variant: str | None = None,
    hyperparameters: Hyperparameters | None = None,
    k: int = DEFAULT_FOLDS,
    looks: int = 1,
    split: Split | None = None,
    group_by: Sequence[str] | None = None,
    unannotated: Sequence[str] = (),
    score_threshold: float = LOW_SCORE,
    second_look: bool = True,
    seed: int | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **changes: Any,
) -> OutOfFold:
    """Train ``k`` detectors over folds of whole groups and let each one judge the frames it was not trained on.

    The last epoch is taken, not the best one on the held-out frames. A ``pretrained_model_path`` of the settings may
    have seen every frame; ``trust`` then says so. What is finished lies in ``save_dir/folds`` and is not made twice:
    after a stop or a kill the same call goes on in the middle of a training.

    Args:
        settings: the recipe; ``max_train_epochs`` of it are trained, on the tasks of ``annotations_list``.
        duplicates: near twins, always kept together (``find_duplicates``).
        variant: which network of the settings; their first when None.
        hyperparameters: go before those of the settings (a search's best).
        k, looks, split, group_by, unannotated: see ``fold_plan.plan_folds``. ``unannotated`` frames, of a task or of
            any folder that ``frames`` knows, are judged by all models and train none.
        score_threshold: 0..1, detections below are dropped.
        second_look: also look at each frame mirrored (column look).
        seed: of folds and trainings; the settings' when None.
        stop: asked after every training step and between parts of the detecting.
        changes: fields of ``TrainingOptions`` to set.

    Raises:
        DatasetError: the settings name no variant.
        SettingsError: started by torchrun with several processes.
        SplitError: as ``plan_folds``.
        TrainingError, CacheError: as ``training.fit``.
    """
    if not (variant or settings.variants):
        raise DatasetError("the settings name no variant to train; add one to variants")
    if processes() > 1:
        raise SettingsError("out-of-fold detections are made in one process; start this step without torchrun")
    require_writable(save_dir, "save_dir")
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    name = variant or settings.variants[0]
    chosen = hyperparameters or settings.hyperparameters(name)
    plan = plan_folds(
        snapshot,
        duplicates=duplicates,
        k=k,
        looks=looks,
        split=split,
        group_by=group_by,
        unannotated=unannotated,
        seed=settings.seed,
        folder=Path(save_dir) / "folds",
    )
    require_tasks(settings, snapshot)
    recipe = FoldRecipe(snapshot, frames, settings, duplicates, Path(save_dir) / "folds", name, chosen, changes)
    how = {"score_threshold": score_threshold, "second_look": second_look, "stop": stop}
    kept: dict[int, Kept] = {}
    rows: list[dict[str, Any]] = []
    # What is finished is read in no time and would make the time left look short.
    todo = sum(not recipe.is_trained(model) for model in plan.models)
    with track(progress, "out-of-fold detections, models to train", todo) as task:
        for model in plan.models:
            was_trained = recipe.is_trained(model)
            own = Titled(progress, f"fold {model.number + 1} of {k}") if progress else None
            found = recipe.model(model, own, how)
            if found is None:
                break
            note, kept[model.number] = found
            if note is not None:
                rows.append(_row(model, note, kept[model.number], snapshot))
            if kept[model.number].partial:
                break
            task.advance(0 if was_trained else 1)
    partial = len(kept) < k or any(one.partial for one in kept.values())
    table = _account(plan.fold_of, kept).assign(seen=lambda t: t.index.isin(plan.near))
    trust = folds_sentence(plan, table, partial=partial, start=settings.variant(name).pretrained_model_path)
    detections = together([one.detections for one in kept.values()], second_look=second_look)
    return OutOfFold(detections, table, pd.DataFrame(rows, columns=_COLUMNS), looks, trust, partial)


def one_model(
    checkpoint: Path | str,
    snapshot: Snapshot,
    frames: FrameStore,
    *,
    split: Split | None,
    save_dir: Path | str,
    duplicates: DuplicateGroups | None = None,
    unannotated: Sequence[str] = (),
    score_threshold: float = LOW_SCORE,
    second_look: bool = True,
    device: str | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> OutOfFold:
    """The quick option: one detector judges all frames, those it was trained on, too, which are marked ``seen``.

    Args:
        checkpoint: from notebook 03.
        split: the one it was trained with; its train frames and their near twins are seen. None says that the
            detector comes from elsewhere.
        save_dir: detections are kept in ``detected`` below it.
        unannotated, score_threshold, second_look, stop: as in ``out_of_fold``.

    Raises:
        TrainingError: the checkpoint cannot be used, or was trained with another split.
    """
    path = Path(checkpoint)
    stored = load_checkpoint(path)
    if split is not None and stored.split_id and stored.split_id != split.id:
        raise TrainingError(
            f"checkpoint {path} was trained with split {stored.split_id}, but split {split.id} was given, so it is not "
            "known which frames it has seen; give the split of its run (Store.split), or None for a foreign detector"
        )
    require_writable(save_dir, "save_dir")
    own = set(split.part("train")) if split else set()
    every = list(dict.fromkeys([*snapshot.frames["img_path"], *unannotated]))
    if duplicates is not None and own:
        twins = set(duplicates.groups[duplicates.groups.index.isin(own)])
        own |= set(duplicates.groups.index[duplicates.groups.isin(twins)])
    weights = content_hash(stored.run_id, path.read_bytes(), length=8)
    kept = detect_kept(
        path,
        frames,
        every,
        folder=Path(save_dir) / "detected" / weights,
        score_threshold=score_threshold,
        second_look=second_look,
        device=device,
        progress=progress,
        stop=stop,
    )
    fold_of = pd.Series(NO_FOLD, index=pd.Index(every, name="img_path"), name="fold", dtype=np.int64)
    table = _account(fold_of, {0: kept}).assign(seen=fold_of.index.isin(own))
    trained = len(split.part("train")) if split else 0
    model = {"fold": 0, "train": trained, "judged": len(kept.judged), "ap50": np.nan, "seconds": np.nan}
    models = pd.DataFrame([{**model, "checkpoint": str(path)}], columns=_COLUMNS)
    trust = one_model_sentence(table, known=split is not None, partial=kept.partial)
    return OutOfFold(kept.detections, table, models, 1, trust, kept.partial)


_COLUMNS = ["fold", "train", "judged", "ap50", "seconds", "checkpoint"]


def _account(fold_of: pd.Series, kept: Mapping[int, Kept]) -> pd.DataFrame:
    """A row for every frame asked for: its fold, who has judged it, and why it could not be read."""
    judges: dict[str, list[int]] = {}
    unreadable: dict[str, str] = {}
    for number, one in kept.items():
        unreadable |= one.unreadable
        for path in one.judged:
            judges.setdefault(path, []).append(number)
    return pd.DataFrame(
        {
            "fold": fold_of,
            "judges": [tuple(judges.get(str(path), ())) for path in fold_of.index],
            "unreadable": [unreadable.get(str(path), "") for path in fold_of.index],
        }
    )


def _row(model: FoldModel, note: dict[str, Any], kept: Kept, snapshot: Snapshot) -> dict[str, Any]:
    """Row of a model, with its score on the annotations it was not trained on."""
    judged = set(kept.judged)
    held = [path for path in model.judged if path in judged]
    ap50 = np.nan
    if held:
        found = kept.detections
        plain = found[found["look"] == PLAIN] if "look" in found.columns else found
        ap50 = coco_metrics(plain, snapshot.annotations, held, snapshot.classes).ap50
    return {
        "fold": model.number,
        "train": note["train"],
        "judged": len(kept.judged),
        "ap50": ap50,
        **{name: note[name] for name in ("seconds", "checkpoint")},
    }
