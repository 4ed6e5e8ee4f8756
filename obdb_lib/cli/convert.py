"""Annotations from one format into another: ``python -m obdb_lib.cli.convert SOURCE TARGET --to FORMAT``

SOURCE is a file or folder of any format that is read, ``store`` (what the database holds), or ``snapshot:ID``. TARGET
is a file or folder, or ``store``. What was set aside and what the format cannot hold is listed on standard error.

    convert annotations.json tables.parquet --to parquet
    convert store yolo_folder --to yolo --split 4f1c... --images link
    convert snapshot:9a41... task.xml --to cvat_xml --tasks "FieldData 20200520145736 1L GH020068"
    convert export_of_cvat/ store

Nothing is overwritten unless --overwrite says so, and tasks of the store are not replaced without --replace.
Exit status: 0, 1 for an error that is told in one line, 2 for a wrong command, 3 when something is there already,
130 when interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from obdb_lib.collect import collect_result, frames_of, roots_of
from obdb_lib.errors import FormatError, ObdbError
from obdb_lib.exports import IMAGES, export, parts_of, stored_tasks
from obdb_lib.formats import FOLDERS, FORMATS, detect_and_read
from obdb_lib.frames import FrameStore
from obdb_lib.progress import LogProgress
from obdb_lib.records import Problem, ReadResult, import_report
from obdb_lib.store import Store, open_store

FAILED, WRONG, THERE_ALREADY, INTERRUPTED = 1, 2, 3, 130
STORE, SNAPSHOT = "store", "snapshot:"


class _ThereError(FormatError):
    """Something would be overwritten, and nobody said that it may."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert; the exit status (see above)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    mistake = _mistake(options)
    if mistake:
        parser.error(mistake)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        print(_into_store(options) if options.target == STORE else _into_file(options))
    except ObdbError as error:
        print(f"convert: {error}", file=sys.stderr)
        return THERE_ALREADY if isinstance(error, _ThereError) else FAILED
    except KeyboardInterrupt:
        print("convert: stopped; nothing was left half-written", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {name:12} {what}" for name, what in FORMATS.items())
    parser = argparse.ArgumentParser(
        prog="convert",
        description=__doc__,
        epilog=f"formats that are written:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="file, folder, 'store', or 'snapshot:ID'")
    parser.add_argument("target", help="file or folder to write, or 'store'")
    parser.add_argument("--to", choices=sorted(FORMATS), help="format of the target (not for 'store')")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="only these tasks")
    parser.add_argument("--split", default="", metavar="ID", help="stored split whose parts yolo and frames tell")
    parser.add_argument("--images", choices=IMAGES, default="none", help="for yolo and voc, default: %(default)s")
    parser.add_argument("--image-root", nargs="+", default=[], metavar="FOLDER", help="where the images lie")
    parser.add_argument("--boxes-only", action="store_true", help="yolo: the boxes around outlines")
    parser.add_argument("--drop-empty", action="store_true", help="pickle: leave out frames without annotations")
    parser.add_argument("--overwrite", action="store_true", help="replace a target that is a file")
    parser.add_argument("--replace", action="store_true", help="replace tasks of the store that have the same names")
    return parser


def _mistake(options: argparse.Namespace) -> str:
    if options.target == STORE and (options.source == STORE or options.source.startswith(SNAPSHOT)):
        return "source and target are the store"
    if options.target == STORE and options.to:
        return "--to names the format of a file; the target is the store"
    if options.target != STORE and not options.to:
        return f"--to is needed: one of {', '.join(sorted(FORMATS))}"
    return ""


def _read(options: argparse.Namespace, store: Store | None) -> ReadResult:
    """Tasks of the source, and what was set aside."""
    if store is not None:
        snapshot_id = options.source.removeprefix(SNAPSHOT) if options.source.startswith(SNAPSHOT) else ""
        return ReadResult(stored_tasks(store, tasks=options.tasks, snapshot_id=snapshot_id, progress=LogProgress()))
    path = Path(options.source).expanduser()
    root = Path(options.image_root[0]).expanduser() if options.image_root else None
    found = detect_and_read(path, image_root=root or (path if path.is_dir() else path.parent))
    names = [record.name for record in found.tasks]
    unknown = sorted(set(options.tasks) - set(names))
    if unknown:
        raise FormatError(f"{path} has no task {', '.join(map(repr, unknown))}; it has {', '.join(names[:5])} ...")
    if options.tasks:
        found.tasks = [record for record in found.tasks if record.name in set(options.tasks)]
    if not found.tasks:
        raise FormatError(f"{path} holds no task with frames.{_told(found.problems)}")
    return found


def _into_file(options: argparse.Namespace) -> str:
    target = Path(options.target).expanduser()
    if options.to not in FOLDERS and target.exists() and not options.overwrite:
        raise _ThereError(f"{target} is there already. Name another one, or say --overwrite")
    if options.to in FOLDERS and target.is_dir() and any(target.iterdir()):
        raise _ThereError(f"{target} holds files already. Name a folder that does not exist yet")
    stored = options.source == STORE or options.source.startswith(SNAPSHOT)
    store = open_store() if stored or options.split else None
    found = _read(options, store if stored else None)
    roots = [*options.image_root, *([] if stored else roots_of(Path(options.source).expanduser()))]
    written = export(
        found.tasks,
        target,
        options.to,
        parts=parts_of(store, options.split) if store is not None and options.split else None,
        outlines=not options.boxes_only,
        empty=not options.drop_empty,
        images=options.images,
        frames=frames_of(store, *roots) if store is not None else FrameStore([Path(root) for root in roots]),
        progress=LogProgress(),
    )
    _tell([*found.problems, *written.problems])
    return f"{written.path}: {_counted(found)} as {options.to}"


def _into_store(options: argparse.Namespace) -> str:
    found = _read(options, None)
    with open_store() as store:
        there = sorted({record.name for record in found.tasks} & set(store.task_names()))
        if there and not options.replace:
            named = ", ".join(map(repr, there[:5])) + (" ..." if len(there) > 5 else "")
            raise _ThereError(f"the store has {len(there)} of these tasks already ({named}). Say --replace, or --tasks")
        path = Path(options.source).expanduser()
        roots = [*roots_of(path), *(Path(root).expanduser() for root in options.image_root)]
        collected = collect_result(store, str(path), found, roots, progress=LogProgress())
    _tell(collected.problems)
    return f"the store: {_counted(found)} of {path}"


def _counted(found: ReadResult) -> str:
    frames = sum(len(record.meta["frames"]) for record in found.tasks)
    boxes = sum(len(record.annotations) for record in found.tasks)
    return f"{len(found.tasks)} tasks, {frames} frames, {boxes} annotations"


def _tell(problems: Sequence[Problem]) -> None:
    if problems:
        print(f"{len(problems)} problems:\n{import_report(problems)}", file=sys.stderr)


def _told(problems: Sequence[Problem]) -> str:
    return f" First problem: {problems[0]}" if problems else ""


if __name__ == "__main__":
    sys.exit(main())
