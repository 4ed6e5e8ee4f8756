"""Tune and train the variants of a settings file: ``python -m obdb_lib.cli.torch_model_runner -f settings.json``.

The same as notebook 03: on the split that notebook 02 made, each variant is searched where its block says ``run_hpo``,
trained, judged on val and recorded in the store; models go to the settings' ``save_dir``. A run that was cut off goes
on where it stopped. Started by torchrun it trains on all GPUs: ``torchrun --nproc-per-node=4 -m
obdb_lib.cli.torch_model_runner -f settings.json``.

With ``-t`` and ``-v`` train and val are the two files, upstream's way; without a split of notebook 02 they are its
default files where those are there. ``-m True`` writes the split of notebook 02 into the two files (``.pkl``,
``.parquet`` or ``.json``), ``--no_training`` ends there.

Exit codes: 0 all variants are trained (or the files are written); 1 something went wrong (the message says what and
what to do); 2 the settings or options are wrong; 130 interrupted, with everything earned kept.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obdb_lib import paths
from obdb_lib.cli._flags import EXIT_CODES, add_switch
from obdb_lib.errors import ObdbError, SettingsError
from obdb_lib.progress import LogProgress
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.stages import read_result, run_folder, write_result
from obdb_lib.store import Store, open_store

if TYPE_CHECKING:
    from obdb_lib.snapshots import Snapshot
    from obdb_lib.splits import Split

STAGE = "03_tune_and_train"
FAILED, WRONG_SETTINGS, INTERRUPTED = 1, 2, 130
DEFAULT_TRAIN, DEFAULT_VAL = "/train/pickled_weed/pd_train_full_hd.pkl", "/train/pickled_weed/pd_val_full_hd.pkl"
"""Upstream's defaults of ``-t`` and ``-v``."""
TASK_LISTS = ("annotations_list", "annotations_list_4k", "annotations_list_full_hd", "first_year_tasks")
"""Lists of the settings that ``-l`` can name."""


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    settings: Path
    run_dir: str
    variants: tuple[str, ...]
    train_top: int = 1
    train: str = ""
    val: str = ""
    make_new_dataset: bool = False
    task_list: str = ""
    no_training: bool = False

    @property
    def files(self) -> dict[str, Path]:
        """The two files, upstream's defaults where none is named."""
        named = {"train": self.train or DEFAULT_TRAIN, "val": self.val or DEFAULT_VAL}
        return {part: paths.mapped(name) for part, name in named.items()}


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
    if wanted.task_list:
        tasks = getattr(settings, wanted.task_list)
        if not tasks:
            raise SettingsError(f"-l {wanted.task_list}: the list is empty in {wanted.settings}; it names tasks")
        settings = settings.model_copy(update={"annotations_list": tasks})
    with open_store() as store:
        data = _data(store, settings, wanted)
        if wanted.make_new_dataset:
            _write_files(store, settings, data, wanted)
        if wanted.no_training:
            from obdb_lib.dataset_files import class_counts

            print(class_counts(data.snapshot, data.split).to_string())
            return {}
        return _run(store, settings, run_folder(wanted.run_dir), data, wanted)


@dataclass(frozen=True)
class _Data:
    """What trains and judges, and where its images are."""

    snapshot: Snapshot
    split: Split
    roots: tuple[str, ...]


def _data(store: Store, settings: Settings, wanted: Wanted) -> _Data:
    """The two files that were named, else the split of notebook 02, else upstream's default files.

    Raises:
        SettingsError: a new dataset of two files is asked for, or a task is not there.
        CacheError: there is nothing to train on.
    """
    from obdb_lib.before_training import require_tasks
    from obdb_lib.splits import split_from_documents

    chosen = read_result(run_folder(wanted.run_dir), "02_explore_and_split", default={})
    named = bool(wanted.train or wanted.val) and not wanted.make_new_dataset
    if named or (not chosen and not wanted.make_new_dataset and all(p.is_file() for p in wanted.files.values())):
        from obdb_lib.dataset_files import read_parts

        files = read_parts(**wanted.files)
        print(f"train and val from {' and '.join(map(str, wanted.files.values()))}; {len(files.problems)} problems")
        data = _Data(files.snapshot, files.split, tuple(map(str, files.roots)))
    else:
        chosen = chosen or read_result(run_folder(wanted.run_dir), "02_explore_and_split")
        split = split_from_documents(*store.split(chosen["split_id"]))
        data = _Data(store.load(chosen["snapshot_id"]), split, tuple(chosen["image_roots"]))
    require_tasks(settings, data.snapshot)
    return data


def _write_files(store: Store, settings: Settings, data: _Data, wanted: Wanted) -> None:
    from obdb_lib.dataset_files import write_parts
    from obdb_lib.distributed import first_process

    if not first_process():
        return
    counts, problems = write_parts(store, data.split, wanted.files, tasks=settings.annotations_list)
    for part, file in wanted.files.items():
        print(f"{file}: {counts[part]} frames")
    for problem in problems:
        print(f"- {problem}")


def _run(store: Store, settings: Settings, folder: Path, data: _Data, wanted: Wanted) -> dict[str, Any]:
    # torch and what stands on it takes seconds to import; wrong settings are told before that.
    from obdb_lib.before_training import check_before_training
    from obdb_lib.collect import frames_of
    from obdb_lib.distributed import first_process
    from obdb_lib.duplicates import find_duplicates
    from obdb_lib.full_runs import top_trials
    from obdb_lib.tuning import Workbench, run_document

    snapshot = data.snapshot
    save_dir = folder / "models" if wanted.run_dir else paths.locate(settings.save_dir)
    writer_dir = folder / "tensorboard" if wanted.run_dir else paths.locate(settings.writer_dir)
    variants = wanted.variants or settings.variants
    check_before_training(settings, snapshot, variants, save_dir=save_dir, writer_dir=writer_dir)
    frames = frames_of(store, *data.roots, "/weed_data", last=settings.dataset_dir)
    progress = LogProgress()
    workbench = Workbench(
        snapshot,
        data.split,
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
        "image_roots": list(data.roots),
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
        prog="torch_model_runner",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = paths.default_settings()
    parser.add_argument("-f", "--settings_file", default="", help=f"settings JSON, with upstream's keys ({default})")
    parser.add_argument("-t", "--dataset_training", default="", help="file with annotated frames that train")
    parser.add_argument("-v", "--dataset_validation", default="", help="file with annotated frames that judge")
    add_switch(parser, "-m", "--make_new_dataset", help="write the split of notebook 02 into the files of -t and -v")
    parser.add_argument(
        *("-l", "--list_of_tasks"),
        default="",
        choices=TASK_LISTS,
        metavar="NAME",
        help=f"list of the settings whose tasks are used, one of {', '.join(TASK_LISTS)} (annotations_list)",
    )
    add_switch(parser, "--no_training", help="do not train: only check the data, or write it with -m")
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
    wanted = Wanted(
        paths.mapped(options.settings_file) if options.settings_file else default,
        options.run_dir,
        tuple(options.variant),
        options.train_top,
        train=options.dataset_training,
        val=options.dataset_validation,
        make_new_dataset=options.make_new_dataset,
        task_list=options.list_of_tasks,
        no_training=options.no_training,
    )
    try:
        answer = run(wanted)
    except ObdbError as error:
        print(f"torch_model_runner: {error}", file=sys.stderr)
        return WRONG_SETTINGS if isinstance(error, SettingsError) else FAILED
    except KeyboardInterrupt:
        print("torch_model_runner: stopped; the same command goes on where this one ended", file=sys.stderr)
        return INTERRUPTED
    if answer:
        print(f"The best model is {answer['variant']}, {answer['checkpoint']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
