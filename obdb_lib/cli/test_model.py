"""Judge a model: ``python -m obdb_lib.cli.test_model -m model.pth -p pd_val.pkl`` (upstream's flags).

Without ``-p`` the val frames of the last run of the notebooks are judged, as notebook 04 does. Written to ``-s``:
``class_metrics.json`` and ``result_figures/`` as upstream wrote them, ``AveragePrecision_<time>.json`` (VOC AP at IoU
0.3), ``metrics.json`` (COCO metrics with intervals), and with ``-i True`` frames with boxes in ``test_imgs/``.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from obdb_lib import paths
from obdb_lib.cache import require_writable, write_json
from obdb_lib.checkpoints import load_checkpoint, load_detector
from obdb_lib.collect import frames_of
from obdb_lib.detections import boxes_by_frame
from obdb_lib.duplicates import DuplicateGroups, find_duplicates
from obdb_lib.errors import DatasetError, ObdbError, SettingsError
from obdb_lib.evaluation import METRIC_SCORE_THRESHOLD, coco_metrics, detect
from obdb_lib.formats import detect_and_read
from obdb_lib.frames import FrameStore
from obdb_lib.intervals import group_intervals, judging_groups
from obdb_lib.matches import match_detections
from obdb_lib.metric_figures import write_figures, write_frames
from obdb_lib.progress import LogProgress
from obdb_lib.records import check_task
from obdb_lib.settings import Settings
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.splits import Split, split_from_documents
from obdb_lib.stages import read_result, run_folder
from obdb_lib.store import open_store, with_ids
from obdb_lib.voc import CLASS_METRICS_NAME, class_metrics, voc_average_precision, write_average_precision

logger = logging.getLogger("obdb_lib")

DEFAULT_SETTINGS = "settings.cpu.json"
FIGURES, IMAGES, METRICS_NAME = "result_figures", "test_imgs", "metrics.json"
FOUND_COLOUR, TRUTH_COLOUR = "red", "blue"
"""Upstream's colours."""


@dataclass(frozen=True)
class _Data:
    """What is judged."""

    snapshot: Snapshot
    frames: FrameStore
    img_paths: list[str]
    model: str
    split: Split | None = None


def truth_of(text: str) -> bool:
    """True or False as written: upstream's ``type=bool`` took the word False for true."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"wants True or False; got {text!r}")
    return words[text.lower()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and write; 0, or with a message 2 for wrong settings, 1 for what else went wrong."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        _judge(options)
    except ObdbError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-f", "--settings_file", default=DEFAULT_SETTINGS, help="settings JSON (%(default)s)")
    parser.add_argument("-m", "--model_path", default="", help="checkpoint; the last run's best when left out")
    parser.add_argument("-p", "--pickle_path", default="", help="pickle, or any file or folder with annotations")
    parser.add_argument("-s", "--save_path", default=".", help="folder of the results (%(default)s)")
    parser.add_argument(
        "-l", "--limit_metrics", type=truth_of, default=True, help="metrics_..._range_small of the settings (True)"
    )
    parser.add_argument("-i", "--save_images", type=truth_of, default=False, help="write frames with boxes (False)")
    parser.add_argument("--run_dir", default="", help="folder of the run that is judged without -p")
    parser.add_argument("--image_root", action="append", default=[], help="folder of images; may be repeated")
    return parser


def _judge(options: argparse.Namespace) -> None:
    settings = Settings.load(paths.locate(options.settings_file))
    require_writable(Path(options.save_path).expanduser(), "-s")
    data = _given(options, settings) if options.pickle_path else _last_run(options)
    folder, progress = Path(options.save_path).expanduser(), LogProgress()
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
    found = {"model": data.model, "frames": len(judged), "unreadable": unreadable}
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


def _given(options: argparse.Namespace, settings: Settings) -> _Data:
    """Annotations of a file, all of them judged; nothing is stored."""
    path = Path(options.pickle_path).expanduser()
    if not path.exists():
        raise DatasetError(f"{path} does not exist; -p names a pickle, or a file or folder with annotations")
    if not options.model_path:
        raise DatasetError("-m names the checkpoint to judge; it is needed together with -p")
    folder = path if path.is_dir() else path.parent
    found = detect_and_read(path, image_root=folder)
    tasks = [check_task(record)[0] for record in found.tasks]
    snapshot = build_snapshot([t.meta for t in tasks], [d for t in tasks for d in with_ids(t.annotations)])
    roots = [*options.image_root, folder, paths.locate(settings.dataset_dir)]
    return _Data(snapshot, FrameStore(roots), list(snapshot.frames["img_path"]), options.model_path)


def _last_run(options: argparse.Namespace) -> _Data:
    """The val frames of a run of the notebooks.

    Raises:
        DatasetError: the model was trained with another split, so its score on this one would lie.
    """
    trained = read_result(run_folder(options.run_dir), "03_tune_and_train")
    model = options.model_path or trained["checkpoint"]
    store = open_store()
    split = split_from_documents(*store.split(trained["split_id"]))
    own = load_checkpoint(model).split_id
    if own != split.id:
        raise DatasetError(
            f"{model} was trained with split {own or 'unknown'}; its score on split {split.id} would lie. Judge it on "
            "its own run (--run_dir), or on annotations that it never saw (-p)"
        )
    frames = frames_of(store, *options.image_root, *trained["image_roots"])
    return _Data(store.load(trained["snapshot_id"]), frames, split.part("val"), model, split)


def _twins(data: _Data, progress: LogProgress) -> DuplicateGroups:
    names = list(data.snapshot.frames["img_path"]) if data.split else data.img_paths
    return find_duplicates(names, data.frames, progress=progress)


if __name__ == "__main__":
    sys.exit(main())
