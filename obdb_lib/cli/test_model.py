"""Judge a model: ``python -m obdb_lib.cli.test_model -m model.pth -p pd_val.pkl`` (upstream's flags).

Without ``-p`` a stored run is judged on the val frames of its own split, as notebook 04 does: the one that ``--run``
names (its id, or the ``save_dir`` it was trained into), else the last one of the notebooks. Written to ``-s``:
``class_metrics.json`` and ``result_figures/`` as upstream wrote them, ``AveragePrecision_<time>.json`` (VOC AP at IoU
0.3), ``metrics.json`` (COCO metrics with intervals), and with ``-i True`` frames with boxes in ``test_imgs/``.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from obdb_lib import paths
from obdb_lib.annotate.sources import read_source
from obdb_lib.cache import require_writable, write_json
from obdb_lib.checkpoints import load_checkpoint, load_detector
from obdb_lib.cli._flags import EXIT_CODES, add_switch
from obdb_lib.collect import frames_of
from obdb_lib.detections import boxes_by_frame
from obdb_lib.duplicates import DuplicateGroups, find_duplicates
from obdb_lib.errors import CacheError, DatasetError, ObdbError, SettingsError, StoreError
from obdb_lib.evaluation import METRIC_SCORE_THRESHOLD, coco_metrics, detect
from obdb_lib.frames import FrameStore
from obdb_lib.intervals import group_intervals, judging_groups
from obdb_lib.matches import match_detections
from obdb_lib.metric_figures import write_figures, write_frames
from obdb_lib.progress import LogProgress
from obdb_lib.settings import Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split, split_from_documents
from obdb_lib.stages import read_result, run_folder
from obdb_lib.store import Store, open_store
from obdb_lib.stored_runs import StoredRun, find_run
from obdb_lib.tuning import Workbench
from obdb_lib.voc import CLASS_METRICS_NAME, class_metrics, voc_average_precision, write_average_precision

logger = logging.getLogger("obdb_lib")

FAILED, WRONG_SETTINGS, INTERRUPTED = 1, 2, 130
FIGURES, IMAGES, METRICS_NAME = "result_figures", "test_imgs", "metrics.json"
FOUND_COLOUR, TRUTH_COLOUR = "red", "blue"
"""Upstream's colours."""


@dataclass(frozen=True)
class _Data:
    """What is judged, and by which settings."""

    snapshot: Snapshot
    frames: FrameStore
    img_paths: list[str]
    model: str
    settings: Settings
    split: Split | None = None
    run_id: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and write; 0, or with a message 2 for wrong settings, 1 for what else went wrong (130 when interrupted)."""
    options = _parser().parse_args(arguments)
    paths.share_cores()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        _judge(options)
    except ObdbError as error:
        print(f"test_model: {error}", file=sys.stderr)
        return WRONG_SETTINGS if isinstance(error, SettingsError) else FAILED
    except KeyboardInterrupt:
        print("test_model: stopped; nothing was written but whole files", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="test_model",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        *("-f", "--settings_file"), default="", help=f"settings JSON (those of --run, else {paths.default_settings()})"
    )
    parser.add_argument("-m", "--model_path", default="", help="checkpoint; the run's own when left out")
    parser.add_argument(
        *("-p", "--pickle_path"), default="", help="pickle, or any file or folder with annotations, or a split"
    )
    parser.add_argument("-s", "--save_path", default=".", help="folder of the results (%(default)s)")
    small = "metrics_..._range_small of the settings (True)"
    add_switch(parser, "-l", "--limit_metrics", default=True, help=small)
    add_switch(parser, "-i", "--save_images", help="write frames with boxes (False)")
    parser.add_argument("--run", default="", help="a stored run: its id, its folder, or the save_dir of its training")
    parser.add_argument(
        "--run_dir", default="", help="folder of a batch, whose last run is judged without -p and --run"
    )
    parser.add_argument("--image_root", action="append", default=[], help="folder of images; may be repeated")
    return parser


def _judge(options: argparse.Namespace) -> None:
    data = _data(options)
    settings = data.settings
    folder, progress = paths.mapped(options.save_path), LogProgress()
    require_writable(folder, "-s")
    detector = load_detector(data.model)
    table = detect(detector, data.frames, data.img_paths, score_threshold=METRIC_SCORE_THRESHOLD, progress=progress)
    unreadable = table.attrs["unreadable"]
    judged = [path for path in data.img_paths if path not in unreadable]
    if not judged:
        raise DatasetError(f"none of the {len(data.img_paths)} frames can be read: {next(iter(unreadable.values()))}")
    small = "_small" if options.limit_metrics else ""
    confidences: list[float] = getattr(settings, f"metrics_confidence_range{small}")
    overlaps: list[float] = getattr(settings, f"metrics_iou_range{small}")
    everything = (table, data.snapshot.annotations, judged, detector.spec.classes)
    metrics, matches = coco_metrics(*everything), match_detections(*everything)
    groups = judging_groups(data.snapshot, judged, data.split, _twins(data, progress))
    intervals = group_intervals(matches, groups, seed=settings.seed, progress=progress)
    grid = class_metrics(match_detections(*everything, ious=overlaps), confidences)
    write_json(folder / CLASS_METRICS_NAME, grid)
    write_figures(grid, folder / FIGURES)
    voc_file = write_average_precision(folder, voc_average_precision(matches))
    found = {"model": data.model, "run_id": data.run_id, "frames": len(judged), "unreadable": unreadable}
    write_json(folder / METRICS_NAME, {**found, **metrics.to_dict(), "intervals": intervals.to_dict()})
    if options.save_images:
        shown = boxes_by_frame(table, min_score=settings.confidence_threshold_save_img)
        layers = {"found": (shown, FOUND_COLOUR), "truth": (data.snapshot.boxes, TRUTH_COLOUR)}
        write_frames(judged, data.frames, layers, folder / IMAGES, progress=progress)
    sure = intervals.of()
    print(
        f"AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f} [{sure['ap50_low']:.3f}, {sure['ap50_high']:.3f}] on "
        f"{metrics.images} frames, {metrics.truth} boxes, {intervals.groups} groups. {intervals.warning}"
    )
    print(
        f"{len(unreadable)} frames cannot be read. In {folder}: {CLASS_METRICS_NAME}, {voc_file.name}, {METRICS_NAME}"
    )


def _data(options: argparse.Namespace) -> _Data:
    """What the flags ask for.

    Raises:
        DatasetError: they contradict each other, or what they name is not there.
    """
    if options.run and options.model_path:
        raise DatasetError("--run and -m both name a model; give one of them")
    if options.run and options.run_dir:
        raise DatasetError("--run and --run_dir both name a run; give one of them")
    if options.pickle_path and not (options.model_path or options.run):
        raise DatasetError("-m names the checkpoint to judge (or --run a stored run); it is needed together with -p")
    settings = Settings.load(paths.locate(options.settings_file) if options.settings_file else paths.default_settings())
    options.model_path = str(paths.mapped(options.model_path)) if options.model_path else ""
    with open_store() as store:
        if options.pickle_path and options.model_path:
            return _given(options, settings, options.model_path, store)
        if not options.run:
            return _last_run(options, store, settings)
        run = find_run(store, options.run)
        if run.settings and not options.settings_file:
            settings = run.settings
        if options.pickle_path:
            return replace(_given(options, settings, str(run.model), store), run_id=run.id)
        return _of_run(options, store, run, settings)


def _given(options: argparse.Namespace, settings: Settings, model: str, store: Store) -> _Data:
    """Annotations of a file or a split, all of them judged; nothing is stored."""
    source = read_source(options.pickle_path, store)
    snapshot = source.snapshot()
    roots = [*map(paths.mapped, options.image_root), *source.roots, *store.image_roots()]
    frames = FrameStore([*roots, paths.locate(settings.dataset_dir), paths.mapped("/weed_data")])
    return _Data(snapshot, frames, list(snapshot.frames["img_path"]), model, settings)


def _of_run(options: argparse.Namespace, store: Store, run: StoredRun, settings: Settings) -> _Data:
    """The val frames that a run never trained on.

    Raises:
        DatasetError: the store does not hold the data it was trained on.
    """
    try:
        snapshot = store.load(run.document["snapshot_id"])
        split = split_from_documents(*store.split(run.document["split_id"]))
    except (KeyError, StoreError) as error:
        raise DatasetError(
            f"run {run.id} cannot be judged on its own val frames: {error}. Judge it on annotations that it never saw "
            f"(--run {options.run} -p FILE), or point MONGODB_URI or OBDB_DATABASE to the store it was trained from"
        ) from error
    frames = frames_of(store, *options.image_root, last=settings.dataset_dir)
    judged = Workbench(snapshot, split, frames, run.settings or settings, Path(), Path()).part("val")
    logger.info("run %s, %s: %d val frames of split %s", run.id, run.model, len(judged), split.id)
    return _Data(snapshot, frames, judged, str(run.model), settings, split, run.id)


def _last_run(options: argparse.Namespace, store: Store, settings: Settings) -> _Data:
    """The val frames of a run of the notebooks.

    Raises:
        DatasetError: the model was trained with another split, so its score on this one would lie.
        CacheError: notebook 03 has not been run.
    """
    try:
        trained = read_result(run_folder(options.run_dir), "03_tune_and_train")
    except CacheError as error:
        raise CacheError(f"{error} Or name a stored run (--run), or a model and annotations (-m and -p).") from error
    model = options.model_path or trained["checkpoint"]
    split = split_from_documents(*store.split(trained["split_id"]))
    checkpoint = load_checkpoint(model)
    if checkpoint.split_id != split.id:
        raise DatasetError(
            f"{model} was trained with split {checkpoint.split_id or 'unknown'}; its score on split {split.id} would "
            "lie. Judge it on its own run (--run), or on annotations that it never saw (-p)"
        )
    frames = frames_of(store, *options.image_root, *trained["image_roots"])
    snapshot = store.load(trained["snapshot_id"])
    return _Data(snapshot, frames, split.part("val"), model, settings, split, checkpoint.run_id)


def _twins(data: _Data, progress: LogProgress) -> DuplicateGroups:
    names = list(data.snapshot.frames["img_path"]) if data.split else data.img_paths
    return find_duplicates(names, data.frames, progress=progress)


if __name__ == "__main__":
    sys.exit(main())
