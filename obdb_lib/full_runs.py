"""Full trainings of a search's trials: which to train, which stays, and whether short trials may be believed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from obdb_lib.cache import atomic_writer, content_hash, read_json
from obdb_lib.errors import CacheError, TrainingError
from obdb_lib.search_record import SUFFIX
from obdb_lib.search_report import RankAgreement, rank_agreement
from obdb_lib.search_run import best_first
from obdb_lib.settings import HYPERPARAMETERS, Hyperparameters
from obdb_lib.training import FitResult

logger = logging.getLogger(__name__)

NEEDED_PAIRS = 3
"""Below so many pairs a rank correlation is 1, -1 or nothing."""
FILES = ("last.pth", "run.json", "summary.csv", "settings.json", "model.pth")
"""What a training leaves as ``<variant>_*``; the model is copied last, so that a cut-off copy is begun again."""


def hyperparameters_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a training's options under upstream's names; None where the schedule has none."""
    return {name: options.get(name) for name in HYPERPARAMETERS}


def conditions_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What two trainings must share to be compared: data, network, size, epochs planned, frames a step.

    Args:
        document: of ``Store.runs``, those of earlier versions of the lab included.
    """
    options, settings = document.get("options") or {}, document.get("settings") or {}
    return {
        **{name: document.get(name) for name in ("snapshot_id", "split_id", "variant")},
        "image_size": document.get("image_size", settings.get("image_size")),
        "max_epochs": options.get("epochs"),
        "batch_size": options.get("batch_size"),
    }


def top_trials(trials: pd.DataFrame, count: int, *, lower_is_better: bool = False) -> list[Hyperparameters]:
    """The ``count`` best trials, best first, each setting once; fewer where the search has fewer that ended well.

    Args:
        trials: ``SearchResult.trials``; those of the most epochs, and after them those that were stopped or given less.
        count: at least 1.

    Raises:
        TrainingError: ``count`` below 1.
    """
    if count < 1:
        raise TrainingError(f"at least 1 trial is to be trained in full; got {count}")
    plain = [dict(zip(trials.columns, row, strict=True)) for row in trials.itertuples(index=False, name=None)]
    rows = best_first([row for row in plain if row["objective"] == row["objective"]], lower_is_better)
    found: list[Hyperparameters] = []
    for row in rows:
        values = {name: row[name] for name in HYPERPARAMETERS if name in row}
        if values not in [one.model_dump(exclude_none=True, exclude={"best_value"}) for one in found]:
            found.append(Hyperparameters(**values, best_value=row["objective"]))
    return found[:count]


def trial_of(folder: Path, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The trial that tried a training's hyperparameters on its data: study, trial, objective, value; None without one.

    Exactly the same numbers on the same snapshot, split, network and image size: such a training is that trial made
    long, whether its parameters came straight from the search, by ``<variant>_settings.json`` or by hand.

    Args:
        folder: of the searches' records; of several the one written last.
        document: of the training, with ``options``, ids, variant and image_size.
    """
    wanted = hyperparameters_of(document.get("options") or {})
    same = conditions_of(document)
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            stored = read_json(path)
        except CacheError as error:
            logger.warning("%s; the run is recorded without its trial", error)  # a long training lies behind it
            continue
        if not isinstance(stored, dict) or any(stored.get(name) != same[name] for name in _DATA):
            continue
        for row in stored["trials"]:
            if _tried(stored, row) == wanted:
                named = {name: stored.get(name) for name in ("study", "objective", "lower_is_better")}
                return {**named, "trial": row["trial"], "value": row["objective"], "epochs": row.get("epochs")}
    return None


_DATA = ("snapshot_id", "split_id", "variant", "image_size")


def _tried(stored: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters of a recorded trial, those that were not searched included."""
    return {**hyperparameters_of(stored.get("fixed") or {}), **{name: row[name] for name in stored["ranges"]}}


def agreement(
    record: Path, documents: Sequence[Mapping[str, Any]], conditions: Mapping[str, Any]
) -> tuple[RankAgreement, pd.DataFrame]:
    """Do short trials order settings as full trainings do? From the stored runs of a study's trials.

    Args:
        record: of the study.
        documents: ``Store.runs``; only those of ``conditions`` that were not cut off count, and of several of one trial
            (other seeds) their mean.
        conditions: see ``conditions_of``.

    Returns:
        Spearman's correlation with its number of pairs and a text that says what it is worth, or that there are too few
        pairs and what to do; and the pairs: trial, short (the objective; a loss with its sign turned) and full (val
        mAP50).
    """
    variant = conditions["variant"]
    empty = pd.DataFrame({"trial": [], "short": [], "full": []})
    stored = read_json(record) if record.exists() else None
    if not isinstance(stored, dict) or any(stored.get(name) != conditions[name] for name in _DATA):
        none = rank_agreement([], [])
        return replace(none, text=f"{variant}: no search is recorded for this split (set run_hpo to 1 for one)"), empty
    ended = best_first(stored["trials"], bool(stored.get("lower_is_better")))
    whole = [row for row in ended if row["status"] == "COMPLETED" and row["epochs"] == ended[0]["epochs"]]
    runs = [d for d in documents if not d.get("partial") and conditions_of(d) == dict(conditions)]
    pairs = []
    for row in whole:
        same = [d for d in runs if hyperparameters_of(d.get("options") or {}) == _tried(stored, row)]
        full = [float(d["best_map50"]) for d in same if d.get("best_map50") is not None]
        if full:
            sign = -1 if stored.get("lower_is_better") else 1
            pairs.append({"trial": row["trial"], "short": sign * row["objective"], "full": sum(full) / len(full)})
    table = pd.DataFrame(pairs) if pairs else empty
    found = rank_agreement(table["short"].tolist(), table["full"].tolist())
    if len(pairs) < NEEDED_PAIRS:
        return replace(found, text=_too_few(stored["study"], len(pairs), len(whole), conditions)), table
    text = f"{variant}, short search against full training: {found.text}"
    if table["trial"].tolist() == [row["trial"] for row in whole[: len(pairs)]] and len(pairs) < len(whole):
        text += f"; only the best of {len(whole)} trials were trained in full, which are alike and so hard to order"
    return replace(found, text=text), table


def _too_few(study: str, pairs: int, whole: int, conditions: Mapping[str, Any]) -> str:
    text = (
        f"{conditions['variant']}, short search against full training: not enough pairs ({pairs} of {NEEDED_PAIRS}). "
        f"Of the {whole} whole trials of study {study}, {pairs} "
        f"{'was' if pairs == 1 else 'were'} trained in full ({conditions['max_epochs']} epochs, "
        f"{conditions['image_size']} px, this split). "
    )
    if whole < NEEDED_PAIRS:
        return text + "Next step: a search of more trials (max_num_trials)"
    return (
        text
        + f"Next step: TRAIN_TOP = {NEEDED_PAIRS} in notebook 03 (--train-top {NEEDED_PAIRS}) trains the best in full"
    )


def own_folder(save_dir: Path, variant: str, options: Mapping[str, Any]) -> Path:
    """Where one of several full trainings of a variant keeps its files, so that each can be continued by itself."""
    return save_dir / "full" / f"{variant}-{content_hash(hyperparameters_of(options), length=8)}"


def take_over(source: Path, target: Path, variant: str, *, only: Mapping[str, Any] | None = None) -> None:
    """Copy a training's files of a variant from folder to folder; a model of another run there is kept as previous.

    Args:
        only: copy nothing unless the source's training has these options.
    """
    run = source / f"{variant}_run.json"
    if not run.exists() or not (source / f"{variant}_model.pth").exists():
        return
    stored, there = read_json(run), target / f"{variant}_run.json"
    if only is not None and stored.get("options") != dict(only):
        return
    model = target / f"{variant}_model.pth"
    if model.exists() and (not there.exists() or read_json(there).get("run_id") != stored["run_id"]):
        model.replace(model.with_name(f"{model.stem}_previous{model.suffix}"))
    for name in FILES:
        if (source / f"{variant}_{name}").exists():
            with (source / f"{variant}_{name}").open("rb") as read, atomic_writer(target / f"{variant}_{name}") as file:
                shutil.copyfileobj(read, file)


def best_of(fits: Sequence[FitResult]) -> FitResult:
    """The training with the highest val mAP50; the first of equals, and one that was judged before one that was not."""
    return max(fits, key=lambda fit: (fit.best_map50 == fit.best_map50, fit.best_map50))
