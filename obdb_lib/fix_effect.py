"""Did the fix help: the same training before and after the annotations were repaired, judged on both truths.

Two detectors of one recipe, one seed and the same frames differ in their annotations alone. Both are judged on val as
it was, which blames a detector for plants that nobody annotated, and on the repaired val. The interval of the
difference is drawn over groups of frames; how much trainings differ by luck is shown by more than one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pandas as pd

from obdb_lib.cache import require_writable
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import DatasetError
from obdb_lib.evaluation import METRIC_SCORE_THRESHOLD
from obdb_lib.fix_words import fix_sentences
from obdb_lib.fold_plan import FoldModel
from obdb_lib.fold_training import FoldRecipe
from obdb_lib.frames import FrameStore
from obdb_lib.intervals import ALL, LEVEL, RESAMPLES, Difference, judging_groups, paired_difference
from obdb_lib.kept_detections import Kept
from obdb_lib.matches import Matches, match_detections
from obdb_lib.progress import Progress, Titled, track
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import BOX, Snapshot
from obdb_lib.splits import Split
from obdb_lib.tuning import Workbench

DEFAULT_SEEDS = (0, 1)
BEFORE, AFTER = "before", "after"
AS_IT_WAS, REPAIRED = "as it was", "repaired"
TRUTHS = (AS_IT_WAS, REPAIRED)
MEASURES = {"ap50": "mAP50", "ap": "mAP"}


@dataclass(frozen=True)
class FixEffect:
    """What repairing the annotations did to a detector.

    Attributes:
        table: a row for each val (one of TRUTHS) and measure (mAP50, mAP): val, measure, before, after, difference,
            low, high (0..1, means over the seeds; difference is after less before, low and high its interval).
        by_seed: the same without limits, a row for each seed, too.
        differences: one of TRUTHS -> the Difference behind it, class by class.
        trainings: seed, arm (before, after), run_id, checkpoint, seconds.
        changed: part -> annotations of it that were added, removed or changed.
        level: share of resamples within the interval, 0..1.
        text: what it means, in sentences.
        partial: it was stopped; the same call goes on. The tables hold the seeds that are finished.
    """

    table: pd.DataFrame
    by_seed: pd.DataFrame
    differences: Mapping[str, Difference]
    trainings: pd.DataFrame
    changed: Mapping[str, int]
    level: float
    text: str
    partial: bool
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON note; NaN becomes None."""
        plain = {
            name: table.astype(object).where(table.notna(), None).to_dict("records")
            for name, table in (("table", self.table), ("by_seed", self.by_seed))
        }
        return {**plain, "changed": dict(self.changed), "text": self.text, "partial": self.partial}


def fix_effect(
    before: Snapshot,
    after: Snapshot,
    split: Split,
    frames: FrameStore,
    settings: Settings,
    *,
    save_dir: Path | str,
    duplicates: DuplicateGroups | None = None,
    variant: str | None = None,
    hyperparameters: Hyperparameters | None = None,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **changes: Any,
) -> FixEffect:
    """Train a recipe on the annotations before and after, once a seed, and compare on val as it was and as it is now.

    The last epoch is judged: to choose an epoch on either val would favour one side. Each training has a folder of its
    own below ``save_dir/fix_effect``, goes on after a stop, and is not made twice: further decisions retrain only the
    side they change.

    Args:
        before, after: the same frames (``repair.repaired(before, ...).snapshot`` is an ``after``).
        split: parts train and val, of ``before``.
        settings: the recipe; ``max_train_epochs`` of it are trained.
        variant: which network of the settings; their first when None.
        hyperparameters: go before those of the settings (a search's best).
        seeds: one pair of trainings each.
        resamples, level: of the interval, drawn with seed 0.
        stop: asked after every training step and between parts of the detecting.
        changes: fields of ``TrainingOptions`` to set.

    Raises:
        DatasetError: other frames, no seeds, no difference between the annotations, or no variant.
        TrainingError, CacheError: as ``training.fit``.
    """
    _check(before, after, settings, variant, seeds)
    require_writable(save_dir, "save_dir")
    name = variant or settings.variants[0]
    bench = Workbench(before, split, frames, settings, Path(save_dir), Path(save_dir))
    parts = {part: bench.part(part) for part in ("train", "val")}
    model = FoldModel(0, tuple(parts["train"]), tuple(parts["val"]), ())
    classes = tuple(sorted({*before.classes, *after.classes}))
    arms = {arm: _with_classes(one, classes) for arm, one in ((BEFORE, before), (AFTER, after))}
    chosen = hyperparameters or settings.hyperparameters(name)
    recipes = {
        (seed, arm): FoldRecipe(
            snapshot=one,
            frames=frames,
            settings=settings.model_copy(update={"seed": seed}),
            duplicates=duplicates,
            folder=Path(save_dir) / "fix_effect",
            variant=name,
            hyperparameters=chosen,
            changes=changes,
        )
        for seed in seeds
        for arm, one in arms.items()
    }
    found, notes = _trained(recipes, model, progress, stop)
    changed = {part: _changes(before, after, paths) for part, paths in parts.items()}
    return _compared(found, notes, arms, seeds, changed, split, duplicates, (resamples, level))


def _check(before: Snapshot, after: Snapshot, settings: Settings, variant: str | None, seeds: Sequence[int]) -> None:
    if not (variant or settings.variants):
        raise DatasetError("the settings name no variant to train; add one to variants")
    if not seeds or len(set(seeds)) < len(seeds):
        raise DatasetError(f"seeds must be one or more different numbers; got {list(seeds)}")
    if set(before.frames["img_path"]) != set(after.frames["img_path"]):
        raise DatasetError(
            f"snapshots {before.id} and {after.id} hold other frames, so scores before and after cannot be compared; "
            "take the repaired snapshot of the first (repair.repaired)"
        )
    if before.id == after.id:
        raise DatasetError(f"nothing was repaired: snapshot {before.id} is before and after; accept suggestions first")


def _with_classes(snapshot: Snapshot, classes: tuple[str, ...]) -> Snapshot:
    """A class that the repair brought or took away stays known on both sides, so that the networks are equal."""
    return Snapshot(snapshot.id, snapshot.task_names, classes, snapshot.frames, snapshot.annotations, snapshot.problems)


Runs = dict[tuple[int, str], Kept]


def _trained(
    recipes: Mapping[tuple[int, str], FoldRecipe],
    model: FoldModel,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> tuple[Runs, list[dict[str, Any]]]:
    """Detections on val of each seed and arm, and a row of each training; fewer when it was stopped."""
    found: Runs = {}
    notes = []
    todo = sum(not recipe.is_trained(model) for recipe in recipes.values())
    how = {"score_threshold": METRIC_SCORE_THRESHOLD, "second_look": False, "stop": stop}
    with track(progress, "did the fix help, trainings", todo) as task:
        for (seed, arm), recipe in recipes.items():
            was_trained = recipe.is_trained(model)
            own = Titled(progress, f"seed {seed}, {arm}") if progress else None
            one = recipe.model(model, own, how)
            if one is None or one[1].partial:
                break
            note, kept = one
            if note is None:
                why = next(iter(kept.unreadable.values()))
                raise DatasetError(f"none of the {len(model.judged)} val frames can be read; the first: {why}")
            found[seed, arm] = kept
            told = {name: note[name] for name in ("run_id", "checkpoint", "seconds")}
            notes.append({"seed": seed, "arm": arm, **told})
            task.advance(0 if was_trained else 1)
    return found, notes


def _compared(
    found: Runs,
    notes: list[dict[str, Any]],
    arms: Mapping[str, Snapshot],
    seeds: Sequence[int],
    changed: Mapping[str, int],
    split: Split,
    duplicates: DuplicateGroups | None,
    drawn: tuple[int, float],
) -> FixEffect:
    """Tables and words of the seeds whose two trainings are finished."""
    done = [seed for seed in seeds if (seed, AFTER) in found]
    rows: list[dict[str, Any]] = []
    by_seed: list[dict[str, Any]] = []
    differences: dict[str, Difference] = {}
    if done:
        # A frame that became readable in between is judged for all or for none.
        val = sorted(set.intersection(*(set(one.judged) for one in found.values())))
        groups = judging_groups(arms[BEFORE], val, split, duplicates)
        for truth, snapshot in zip(TRUTHS, (arms[BEFORE], arms[AFTER]), strict=True):
            matches = {
                key: match_detections(kept.detections, snapshot.annotations, val, snapshot.classes)
                for key, kept in found.items()
            }
            pairs = [(matches[seed, BEFORE], matches[seed, AFTER]) for seed in done]
            whole = _difference(pairs, groups, drawn)
            differences[truth] = whole
            rows += _rows(whole, {"val": truth})
            for seed, pair in zip(done, pairs, strict=True):
                by_seed += _rows(_difference([pair], groups, (1, drawn[1])), {"seed": seed, "val": truth})
    table = pd.DataFrame(rows, columns=["val", "measure", "before", "after", "difference", "low", "high"])
    seeds_table = pd.DataFrame(by_seed, columns=["seed", "val", "measure", "before", "after", "difference"])
    partial = len(done) < len(seeds)
    warnings = tuple(dict.fromkeys(one.warning for one in differences.values() if one.warning))
    return FixEffect(
        table,
        seeds_table,
        differences,
        pd.DataFrame(notes, columns=["seed", "arm", "run_id", "checkpoint", "seconds"]),
        changed,
        drawn[1],
        fix_sentences(table, seeds_table, changed, warnings, level=drawn[1], partial=partial),
        partial,
        warnings,
    )


def _difference(pairs: Sequence[tuple[Matches, Matches]], groups: pd.Series, drawn: tuple[int, float]) -> Difference:
    firsts, seconds = zip(*pairs, strict=True)
    return paired_difference(firsts, seconds, groups, resamples=drawn[0], level=drawn[1])


def _rows(difference: Difference, told: dict[str, Any]) -> list[dict[str, Any]]:
    row = difference.table.set_index("object_class").loc[ALL]
    names = {"before": "first", "after": "second", "difference": "difference", "low": "low", "high": "high"}
    return [
        {**told, "measure": word, **{n: float(cast(float, row[f"{m}_{column}"])) for n, column in names.items()}}
        for m, word in MEASURES.items()
    ]


def _changes(before: Snapshot, after: Snapshot, img_paths: Sequence[str]) -> int:
    """Annotations of these frames that were added, removed or changed."""
    own = set(img_paths)
    sides = []
    for snapshot in (before, after):
        table = snapshot.annotations[snapshot.annotations["img_path"].isin(own)]
        columns = table[["annotation_id", "object_class", *BOX]].itertuples(index=False, name=None)
        sides.append({row[0]: row[1:] for row in columns})
    return sum(sides[0].get(number) != sides[1].get(number) for number in sides[0].keys() | sides[1].keys())
