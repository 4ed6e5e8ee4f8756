"""Let a detector annotate, and carry annotations to CVAT and back, with upstream's flags.

  auto_annotate -p pd_val.pkl -v resnet18 -t 0.5     detect, keep what no annotation explains, make CVAT tasks
  auto_annotate -r "TASK" -t 0.7                     the same for one task
  auto_annotate -f FOLDER                            the same for a folder of images that nobody annotated
  auto_annotate -p pd_val.pkl -g FOLDER              annotations of -p for the images of FOLDER to CVAT
  auto_annotate --upload_pkl True -p pd_val.pkl      all annotations of -p to CVAT
  auto_annotate -u True -m gt_val -d auto_annotation_resnet18_2021_12_16
                                                     merge verified auto tasks into their ground-truth tasks
  auto_annotate -x FOLDER                            CVAT XML files to tasks with frames and annotations
  auto_annotate -s True [-m TEXT]                    set all tasks (whose name holds TEXT) completed
  auto_annotate -c True --src DIR --dst DIR          crop 4K images to the lower, middle quarter
  auto_annotate -w list                              acts of maintenance; -w NAME does one

Nothing is changed on CVAT without --yes or a yes in the terminal. /train, /weed_data and /auto_annotation are looked
for where OBDB_TRAIN, OBDB_WEED_DATA and OBDB_AUTO_ANNOTATION say. CVAT is CVAT_URL with CVAT_TOKEN, or with
CVAT_USERNAME and CVAT_PASSWORD.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from obdb_lib import paths
from obdb_lib.cli._flags import (
    DRY_RUN_CODE,
    FAILED,
    INTERRUPTED,
    WRONG,
    add_switch,
    leave_to_change,
    overlap_of,
    share_of,
    truth_of,
)
from obdb_lib.errors import ObdbError, SettingsError
from obdb_lib.progress import LogProgress
from obdb_lib.settings import Settings
from obdb_lib.store import open_store

if TYPE_CHECKING:
    from obdb_lib.annotate.desk import Desk

DEFAULT_THRESHOLD = 0.5
NO_MAP = "default_class_map"
MAPS = (NO_MAP, "auto_annotation_class_map", "first_year_class_map", "wasp_seg_class_map")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code (see ``--help``)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    paths.share_cores()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("obdb_lib").setLevel(logging.INFO)
    try:
        return _run(options)
    except ObdbError as error:
        print(f"auto_annotate: {error}", file=sys.stderr)
        return WRONG if isinstance(error, SettingsError) else FAILED
    except KeyboardInterrupt:
        print("auto_annotate: stopped; the same command goes on where this one ended", file=sys.stderr)
        return INTERRUPTED


def _ground_truth_of(text: str) -> bool | Path:
    """A folder, or True or False."""
    try:
        return truth_of(text)
    except argparse.ArgumentTypeError:
        return paths.mapped(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="auto_annotate",
        description=__doc__,
        epilog=DRY_RUN_CODE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = "pickle, Parquet, COCO or another file or folder with annotations, or a split: its id, ID:PART, or val"
    add("-p", "--pickle_file", help=f"{what} (/train/pickled_weed/pd_val.pkl)")
    add(
        "-v",
        "--variant",
        default="",
        help="detector: /train/VARIANT_model.pth, else in save_dir (the settings', resnet18)",
    )
    add("-t", "--threshold", type=share_of, default=DEFAULT_THRESHOLD, help="least score, 0..1 (%(default)s)")
    iou = "overlap from which a detection is explained (0.5), or with -u from which two boxes are one (0.7)"
    add("-i", "--iou_threshold", type=overlap_of, help=iou)
    add("-f", "--folder_path", help="folder of images to annotate")
    add("-r", "--rerun_task", help="only this task; of -p, else of its default file, else of the store")
    truth = "upload the annotations of -p for the images of this folder; True: for all its images"
    add("-g", "--upload_pkl", type=_ground_truth_of, default=False, metavar="FOLDER|BOOL", help=truth)
    add_switch(parser, "-u", "--update_annotations", help="merge verified auto tasks into ground-truth tasks")
    add("-m", "--match_pattern_gt", default="", help="part of the names of ground-truth tasks")
    add(
        "-d",
        "--auto_annotation_folder",
        default="",
        help="beginning of the names of auto tasks; for -w undo the id of a push",
    )
    add("-x", "--xml_upload", help="folder of CVAT XML files")
    add_switch(parser, "-s", "--set_complete", help="set tasks completed")
    add("-w", "--whatever", metavar="NAME", help="an act of maintenance; list tells them all")
    add_switch(parser, "-c", "--crop_images", help="crop the images of --src into --dst")
    add("--src", help="folder of images to crop")
    add("--dst", help="folder of the crops")
    add("--ext", default="", help="ending of the images of -c (png) and -f (all pictures)")
    add("--model_path", default="", help="checkpoint, instead of -v")
    add("--settings_file", default="", help=f"settings JSON ({paths.default_settings()})")
    labels = "list of the settings whose names become the tasks' labels (%(default)s; when empty: the classes in use)"
    add("--class_map", default=NO_MAP, choices=MAPS, help=labels)
    share = "folder that the CVAT server has mounted as its share: images in it are not uploaded (alone: /weed_data)"
    add("--share", nargs="?", const="/weed_data", default="", metavar="FOLDER", help=share)
    add("-y", "--yes", action="store_true", help="change CVAT without asking; needed for what deletes")
    return parser


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """One act a call, with all that it needs."""
    acts = {
        "-f": options.folder_path,
        "-r": options.rerun_task,
        "-g/--upload_pkl": options.upload_pkl,
        "-u": options.update_annotations,
        "-x": options.xml_upload,
        "-s": options.set_complete,
        "-w": options.whatever,
        "-c": options.crop_images,
    }
    asked = [flag for flag, value in acts.items() if value]
    if len(asked) > 1:
        parser.error(f"{' and '.join(asked)} are different acts; give one of them")
    if options.update_annotations and not options.auto_annotation_folder:
        parser.error(
            "-u needs -d, the beginning of the auto tasks' names, as auto_annotation_resnet18_2021_12_16_12_57_57"
        )
    if options.set_complete and options.auto_annotation_folder:
        parser.error("-s takes its tasks by -m, a part of their names, and knows no -d; without -m it takes all tasks")
    if options.crop_images and not (options.src and options.dst):
        parser.error("-c needs --src and --dst")


def _run(options: argparse.Namespace) -> int:
    """Do the one act; what each needs is loaded for it alone, because torch takes seconds."""
    if options.crop_images:
        from obdb_lib.annotate.cropping import DEFAULT_EXT, crop_images

        source, target = paths.mapped(options.src), paths.mapped(options.dst)
        cropped = crop_images(source, target, ext=options.ext or DEFAULT_EXT, progress=LogProgress())
        print(cropped.summary())
        return FAILED if cropped.problems else 0
    settings = Settings.load(paths.mapped(options.settings_file) if options.settings_file else paths.default_settings())
    from obdb_lib.annotate.desk import Desk
    from obdb_lib.cvat.push import Share

    with open_store() as store:
        leave = leave_to_change(sure=options.yes)
        share = Share({paths.mapped(options.share): ""}) if options.share else None
        desk = Desk(store, settings, print, leave, sure=options.yes, share=share, progress=LogProgress())
        if options.whatever:
            from obdb_lib.annotate.acts import run_act

            return run_act(options.whatever, desk, match=options.match_pattern_gt, other=options.auto_annotation_folder)
        if options.update_annotations:
            from obdb_lib.annotate.merging import merge_verified

            prefix, match = options.auto_annotation_folder, options.match_pattern_gt
            return merge_verified(desk, prefix=prefix, match=match, min_iou=options.iou_threshold)
        if options.set_complete:
            from obdb_lib.annotate.completing import set_complete

            return set_complete(desk, match=options.match_pattern_gt)
        if options.xml_upload:
            from obdb_lib.annotate.uploading import upload_xml

            return upload_xml(desk, paths.mapped(options.xml_upload))
        if options.upload_pkl:
            return _upload_ground_truth(options, desk)
        return _annotate(options, desk)


def _upload_ground_truth(options: argparse.Namespace, desk: Desk) -> int:
    from obdb_lib.annotate.sources import DEFAULT_SOURCE, read_source
    from obdb_lib.annotate.uploading import listed_images, upload_ground_truth

    folder = options.upload_pkl
    names = listed_images(folder) if isinstance(folder, Path) else None
    source = read_source(options.pickle_file or DEFAULT_SOURCE, desk.store)
    if names is not None:
        source = source.only_frames(names, named_by=str(folder))
    return upload_ground_truth(desk, source, labels=getattr(desk.settings, options.class_map))


def _annotate(options: argparse.Namespace, desk: Desk) -> int:
    from obdb_lib.annotate.finding import choose_model
    from obdb_lib.annotate.sending import Look, auto_annotate
    from obdb_lib.annotate.sources import DEFAULT_SOURCE, images_of, of_task, read_source
    from obdb_lib.boxes import DEFAULT_MATCH_IOU

    model = choose_model(desk.settings, variant=options.variant, model_path=options.model_path)
    labels = getattr(desk.settings, options.class_map)
    look = Look(model, options.threshold, options.iou_threshold or DEFAULT_MATCH_IOU, labels)
    if options.folder_path:
        folder = paths.mapped(options.folder_path)
        source = images_of(folder, model.classes, ext=options.ext, progress=desk.progress)
    elif options.rerun_task:
        source = of_task(options.pickle_file, options.rerun_task, desk.store)
    else:
        source = read_source(options.pickle_file or DEFAULT_SOURCE, desk.store)
    return auto_annotate(desk, source, look)


if __name__ == "__main__":
    sys.exit(main())
