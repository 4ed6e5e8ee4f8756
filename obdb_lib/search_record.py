"""The record of a search: one JSON file a study, written before and after every trial, from which it goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from obdb_lib.cache import read_json, write_json
from obdb_lib.errors import CacheError

logger = logging.getLogger(__name__)

SUFFIX = "_trials.json"
"""Ending of the record's file name; what stands before it is the study's name."""


@dataclass
class Record:
    """Trials of a study and the one that runs.

    Attributes:
        path: the file; None keeps the record in memory only.
        key: hash of all that makes trials comparable; a file with another one is put aside.
        facts: study, algorithm, objective, lower_is_better, ranges: for a reader.
        trials: rows of the trials that ended.
        running: number and parameters of a trial that has begun; what a killed search begins again.
    """

    path: Path | None
    key: str
    facts: dict[str, Any]
    trials: list[dict[str, Any]] = field(default_factory=list)
    running: dict[str, Any] | None = None

    @classmethod
    def open(cls, path: Path | str | None, key: str, facts: dict[str, Any]) -> Record:
        """The record in ``path`` if it is this study's; else an empty one, and the other is kept beside it."""
        record = cls(Path(path) if path is not None else None, key, facts)
        if record.path is None or not record.path.exists():
            return record
        stored = read_json(record.path)
        if not isinstance(stored, dict) or stored.get("key") != key:
            aside = record.path.with_name(f"{record.path.stem}_previous.json")
            record.path.replace(aside)
            logger.warning(
                "%s is the record of another search; it is kept as %s and this one starts anew", record.path, aside
            )
            return record
        record.trials, record.running = list(stored["trials"]), stored.get("running")
        return record

    def begin(self, trial: int, parameters: dict[str, Any]) -> None:
        """Note, before it runs, which trial runs with which parameters."""
        self.running = {"trial": trial, "parameters": parameters}
        self.save()

    def end(self, row: dict[str, Any]) -> None:
        """Note a trial that ended."""
        self.trials.append(row)
        self.running = None
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is not None:
            write_json(self.path, {"key": self.key, **self.facts, "trials": self.trials, "running": self.running})


def studies(folder: Path | str) -> pd.DataFrame:
    """The studies recorded in a folder, one row each: study, algorithm, objective, trials, best, running, file.

    ``best`` is the best objective (the highest, or the lowest of a loss); ``running`` the number of a trial that had
    begun when the record was last written, which the next search of that name begins again.
    """
    rows = []
    for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
        stored = read_json(path)
        if not isinstance(stored, dict) or "trials" not in stored:
            raise CacheError(f"{path} is no record of a search; move it out of this folder")
        values = [row["objective"] for row in stored["trials"] if row["objective"] is not None]
        best = (min if stored.get("lower_is_better") else max)(values) if values else None
        running = stored.get("running")
        rows.append(
            {
                "study": stored.get("study", path.name.removesuffix(SUFFIX)),
                "algorithm": stored.get("algorithm", ""),
                "objective": stored.get("objective", ""),
                "trials": len(stored["trials"]),
                "best": best,
                "running": running["trial"] if running else None,
                "file": str(path),
            }
        )
    columns = ["study", "algorithm", "objective", "trials", "best", "running", "file"]
    return pd.DataFrame(rows, columns=columns)
