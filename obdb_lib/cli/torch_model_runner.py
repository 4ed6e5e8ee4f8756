"""Tune and train the variants of a settings file: ``python -m obdb_lib.cli.torch_model_runner -f settings.json``.

The same as notebook 03: on the split that notebook 02 made, each variant is searched where its block says ``run_hpo``,
trained, judged on val and recorded in the store; models go to the settings' ``save_dir``. A run that was cut off goes
on where it stopped. Started by torchrun it trains on all GPUs: ``torchrun --nproc-per-node=4 -m
obdb_lib.cli.torch_model_runner -f settings.json``.

Exit codes: 0 all variants are trained; 1 something went wrong (the message says what and what to do); 2 the settings or
options are wrong; 130 interrupted, with everything earned kept.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obdb_lib import paths
from obdb_lib.errors import ObdbError, SettingsError
from obdb_lib.progress import LogProgress
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.stages import read_result, run_folder, write_result
from obdb_lib.store import Store, open_store

STAGE = "03_tune_and_train"
FAILED, WRONG_SETTINGS, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    settings: Path
    run_dir: str
    variants: tuple[str, ...]
    train_top: int = 1


def run(wanted: Wanted) -> dict[str, Any]:
    """Search, train and record; returns what notebook 04 reads.

    Raises:
        ObdbError: wrong settings, no split yet, data that does not fit, a training that fails.
    """
    if wanted.train_top < 1:
        raise SettingsError(f"--train-top must be at least 1, the best trial alone; got {wanted.train_top}")
    settings = Settings.load(wanted.settings)
    unknown = [name for name in wanted.variants if name not in settings.variants]
    if unknown:
        raise SettingsError(
            f"--variant {', '.join(unknown)}: not in {wanted.settings}, which has {', '.join(settings.variants)}"
        )
    folder = run_folder(wanted.run_dir)
    chosen = read_result(folder, "02_explore_and_split")
    with open_store() as store:
        return _run(store, settings, folder, chosen, wanted)


def _run(store: Store, settings: Settings, folder: Path, chosen: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    # torch and what stands on it takes seconds to import; wrong settings are told before that.
    from obdb_lib.before_training import check_before_training
    from obdb_lib.collect import frames_of
    from obdb_lib.distributed import first_process
    from obdb_lib.duplicates import find_duplicates
    from obdb_lib.full_runs import top_trials
    from obdb_lib.splits import split_from_documents
    from obdb_lib.tuning import Workbench, run_document

    snapshot = store.load(chosen["snapshot_id"])
    save_dir = folder / "models" if wanted.run_dir else paths.locate(settings.save_dir)
    writer_dir = folder / "tensorboard" if wanted.run_dir else paths.locate(settings.writer_dir)
    variants = wanted.variants or settings.variants
    check_before_training(settings, snapshot, variants, save_dir=save_dir, writer_dir=writer_dir)
    frames = frames_of(store, *chosen["image_roots"], last=settings.dataset_dir)
    progress = LogProgress()
    workbench = Workbench(
        snapshot,
        split_from_documents(*store.split(chosen["split_id"])),
        frames,
        settings,
        save_dir=save_dir,
        writer_dir=writer_dir,
        duplicates=find_duplicates(list(snapshot.frames["img_path"]), frames, progress=progress),
        progress=progress,
    )
    results, trials = [], 0
    for variant in variants:
        tops: list[Hyperparameters | None] = [None]
        if settings.variant(variant).run_hpo:
            found = workbench.search(variant)
            trials += len(found.trials)
            tops = [*top_trials(found.trials, wanted.train_top, lower_is_better=found.lower_is_better)]
        fits = []
        for values in tops:
            result = workbench.train(variant, values, apart=len(tops) > 1)
            fits.append(result)
            if first_process():
                store.save_run(run_document(result, workbench))
                score = f"val mAP50 {result.best_map50:.3f}"
                print(f"{variant}: {score}, {len(result.history)} epochs, {result.checkpoint}")
            if result.partial:
                raise KeyboardInterrupt
        results.append(workbench.keep_best(variant, fits))
        if first_process() and settings.variant(variant).run_hpo:
            print(workbench.agreement(variant, store.runs(snapshot.id)).text)
    best_run = max(results, key=lambda result: result.best_map50)
    answer: dict[str, Any] = {
        "snapshot_id": snapshot.id,
        "split_id": workbench.split.id,
        "run_id": best_run.run_id,
        "variant": best_run.variant,
        "checkpoint": str(best_run.checkpoint),
        "image_roots": chosen["image_roots"],
        "summary": {
            "model": best_run.run_id,
            "val mAP50": best_run.best_map50,
            "val mAP": best_run.best_map,
            "trials": trials,
            "partial": best_run.partial,
        },
    }
    if first_process():
        write_result(folder, STAGE, answer)
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m obdb_lib.cli.torch_model_runner", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("-f", "--settings_file", type=Path, required=True, help="settings JSON, with upstream's keys")
    parser.add_argument("--variant", action="append", default=[], help="only this variant (may be repeated)")
    parser.add_argument(
        "--train-top", type=int, default=1, help="of each search, train so many of the best trials in full; default 1"
    )
    parser.add_argument(
        "--run-dir", default="", help="folder of a batch run with its split; default: what the notebooks left"
    )
    options = parser.parse_args(arguments)
    paths.share_cores()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("obdb_lib").setLevel(logging.INFO)
    try:
        answer = run(Wanted(options.settings_file, options.run_dir, tuple(options.variant), options.train_top))
    except ObdbError as error:
        print(f"torch_model_runner: {error}", file=sys.stderr)
        return WRONG_SETTINGS if isinstance(error, SettingsError) else FAILED
    except KeyboardInterrupt:
        print("torch_model_runner: stopped; the same command goes on where this one ended", file=sys.stderr)
        return INTERRUPTED
    print(f"The best model is {answer['variant']}, {answer['checkpoint']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
