"""A training run found again by its id or by the folder it was saved in, so that it can be judged later."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obdb_lib import paths
from obdb_lib.cache import read_json
from obdb_lib.errors import CacheError, DatasetError
from obdb_lib.settings import Settings
from obdb_lib.store import Store

RECORD_NAME, RUNS_FOLDER = "record.json", "runs"
LISTED = 5
"""Runs that a message names, the newest first."""


@dataclass(frozen=True)
class StoredRun:
    """A run and where its model lies now.

    Attributes:
        document: what the training recorded (``tuning.run_document``).
        model: the checkpoint.
        settings: the effective settings of the training; None for runs of earlier versions, which kept none.
    """

    document: Mapping[str, Any]
    model: Path
    settings: Settings | None

    @property
    def id(self) -> str:
        return str(self.document["_id"])


def find_run(store: Store, name: str) -> StoredRun:
    """The run of an id, of its own folder (``save_dir/runs/<id>``), or the newest one of a ``save_dir``.

    Args:
        name: an id as notebook 03 lists it, or a folder; ``data_cache/...`` means this lab's.

    Raises:
        DatasetError: no such run, or its model is gone.
        CacheError: its record cannot be read.
    """
    for folder in (Path(name).expanduser(), paths.locate(name)):
        if folder.is_dir():
            return _of_folder(folder.resolve())
    known = store.runs()
    for document in known:
        if document["_id"] == name:
            return _stored(document, Path(document["checkpoint"]))
    raise DatasetError(f"there is no run {name!r} in the store, and no such folder. {_there_are(name, known)}")


def _there_are(name: str, known: Sequence[Mapping[str, Any]]) -> str:
    if not known:
        return "The store holds no runs yet; notebook 03 and torch_model_runner make them"
    ids = [str(document["_id"]) for document in known]
    near = difflib.get_close_matches(name, ids, n=1)
    listed = ", ".join([*near, *(one for one in ids if one not in near)][:LISTED])
    more = f" and {len(ids) - LISTED} more (notebook 03 lists all)" if len(ids) > LISTED else ""
    return f"There are {listed}{more}" if not near else f"Did you mean {near[0]!r}? There are {listed}{more}"


def _of_folder(folder: Path) -> StoredRun:
    """The run of its own folder, or the newest of the runs below."""
    own = folder / RECORD_NAME
    records = [own] if own.is_file() else sorted((folder / RUNS_FOLDER).glob(f"*/{RECORD_NAME}"))
    if not records:
        raise DatasetError(
            f"{folder} holds no trained run: neither {RECORD_NAME} nor {RUNS_FOLDER}/<run id>/{RECORD_NAME} is there. "
            "Name a run's id, the save_dir of a training, or a model file (-m)"
        )
    found: list[tuple[str, str, dict[str, Any], Path]] = []
    for path in records:
        document = read_json(path)
        if not isinstance(document, dict) or "_id" not in document:
            raise CacheError(f"{path} is no record of a run (no _id in it); train again, or name a model file (-m)")
        found.append((str(document.get("created", "")), str(document["_id"]), document, path.parent))
    *_, document, place = max(found, key=lambda one: one[:2])
    return _stored(document, place / f"{document['_id']}.pth")


def _stored(document: Mapping[str, Any], model: Path) -> StoredRun:
    if not model.is_file():
        raise DatasetError(
            f"the model of run {document['_id']} is gone: {model} does not exist. If it was moved, name its folder, or "
            "the file with -m"
        )
    given = document.get("settings")
    settings = Settings.parse(given, where=f"settings of run {document['_id']}") if given else None
    return StoredRun(document, model, settings)
