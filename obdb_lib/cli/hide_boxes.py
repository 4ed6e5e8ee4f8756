"""How well are missing boxes found on your own data? ``python -m obdb_lib.cli.hide_boxes``

Takes the run of the notebooks (``--run-dir``: the folder of a batch run), hides boxes, lets the finder look for them
and prints a table: average precision, recall at precision .5, .8 and .9, calibration, and a person's seconds for each
box accepted where the journal knows them. Detections that notebook 05 made are used again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial

import pandas as pd

from obdb_lib import paths
from obdb_lib.collect import frames_of
from obdb_lib.errors import ObdbError
from obdb_lib.finder import DEFAULT_FIND_SCORE, find
from obdb_lib.hide_boxes import SHARES, WAYS, hide_and_find
from obdb_lib.look_again import look_again
from obdb_lib.progress import LogProgress
from obdb_lib.ranking import seconds_per_decision
from obdb_lib.settings import Settings
from obdb_lib.splits import split_from_documents
from obdb_lib.stages import read_result, run_folder
from obdb_lib.store import open_store

DEFAULT_SETTINGS = "settings.cpu.json"
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 for an error that is told in one line, 130 when interrupted (finished parts are kept)."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        table = _run(options)
    except ObdbError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept, the same command goes on\n")
        return INTERRUPTED
    plain = table.astype(object).where(table.notna(), None).to_dict("records")
    text = json.dumps(plain) if options.json else table.round(3).to_string(index=False)
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hide_boxes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run-dir", default="", help="folder of a batch run; the notebooks opened by hand when left out"
    )
    parser.add_argument("--settings", default=DEFAULT_SETTINGS, help=f"settings JSON, default {DEFAULT_SETTINGS}")
    parser.add_argument("--folds", type=int, default=3, help="detectors over folds; 0: the judged model alone")
    parser.add_argument(
        "--looks", type=int, default=1, help="detectors that look at each frame, as LOOKS of notebook 05"
    )
    parser.add_argument(
        "--min-score", type=float, default=DEFAULT_FIND_SCORE, help="detections below are not looked at"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which boxes are hidden")
    parser.add_argument("--shares", nargs="+", type=_share, default=list(SHARES), help="shares of all boxes, 0..1")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="each hides other boxes; the mean is told")
    parser.add_argument("--no-pictures", action="store_true", help="do not compare crops (quicker)")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"a share lies between 0 and 1; got {text}")
    return value


def _run(options: argparse.Namespace) -> pd.DataFrame:
    progress = LogProgress()
    folder = run_folder(options.run_dir)
    judged = read_result(folder, "04_evaluate")
    store = open_store()
    snapshot = store.load(judged["snapshot_id"])
    settings = Settings.load(paths.locate(options.settings))
    run = next((one for one in store.runs() if one["_id"] == judged["run_id"]), {})
    frames = frames_of(store, *judged["image_roots"], last=settings.dataset_dir)
    looked = look_again(
        judged,
        snapshot,
        split_from_documents(*store.split(judged["split_id"])),
        frames,
        settings,
        folds=options.folds,
        looks=options.looks,
        save_dir=folder / "models" if options.run_dir else paths.locate(settings.save_dir),
        hyperparameters=run.get("hyperparameters"),
        progress=progress,
    )
    sys.stderr.write(f"{looked.found.trust}\n")
    pictures = None if options.no_pictures else frames

    table, _ = hide_and_find(
        snapshot,
        partial(
            find,
            looked.found.detections,
            duplicates=looked.duplicates,
            frames=pictures,
            seen=looked.seen,
            min_score=options.min_score,
        ),
        ways=options.ways,
        shares=options.shares,
        seeds=options.seeds,
        among=looked.unseen,
        decision_s=seconds_per_decision(store.decisions()),
        progress=progress,
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
