"""What one notebook hands to the next: a small JSON file in the folder of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obdb_lib import paths
from obdb_lib.cache import read_json, write_json
from obdb_lib.errors import CacheError

STAGES = (
    "01_collect_annotations",
    "02_explore_and_split",
    "03_tune_and_train",
    "04_evaluate",
    "05_review_and_push",
)


def run_folder(run_dir: str = "") -> Path:
    """Folder of a run: the one named, else ``data_cache/lab``, where notebooks opened by hand leave their results."""
    folder = Path(run_dir).expanduser().resolve() if run_dir else paths.data_cache() / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_result(folder: Path, stage: str, result: dict[str, Any]) -> None:
    """Write a stage's result, whole or not at all."""
    write_json(folder / f"{stage}.json", result)


def read_result(folder: Path, stage: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """Result of an earlier stage; ``default`` where that notebook has not been run in this folder.

    Raises:
        CacheError: it has not been run, and there is no default.
    """
    path = folder / f"{stage}.json"
    if not path.exists():
        if default is not None:
            return default
        raise CacheError(
            f"notebook {stage} has not been run yet: {path} is missing. Run it first, then this one again."
        )
    result: dict[str, Any] = read_json(path)
    return result
