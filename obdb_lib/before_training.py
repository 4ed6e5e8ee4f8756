"""What can be seen to be wrong before hours of training begin."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from obdb_lib import paths
from obdb_lib.cache import require_writable
from obdb_lib.errors import SettingsError
from obdb_lib.settings import Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.variants import did_you_mean

TASKS_TOLD = 12
"""A message names at most so many tasks; collections hold hundreds."""


def check_before_training(
    settings: Settings, snapshot: Snapshot, variants: Iterable[str], *, save_dir: Path, writer_dir: Path
) -> None:
    """See that nothing that can be known now ends the work after hours.

    Args:
        variants: names of the settings that are trained.
        save_dir, writer_dir: where models and TensorBoard's files go; made where they are not there.

    Raises:
        SettingsError: unknown variants or tasks, a start model that is not there.
        CacheError: a folder that cannot be written.
    """
    require_writable(save_dir, "save_dir")
    require_writable(writer_dir, "writer_dir")
    require_tasks(settings, snapshot)
    for variant in variants:
        require_start(settings, variant)


def require_tasks(settings: Settings, snapshot: Snapshot) -> None:
    """See that the snapshot has the tasks of ``annotations_list``.

    Raises:
        SettingsError: it lacks some; each is named with the task that is most like it.
    """
    known = snapshot.task_names
    unknown = sorted(set(settings.annotations_list) - set(known))
    if unknown:
        near = {name: difflib.get_close_matches(name, known, n=1) for name in unknown}
        told = ", ".join(f"{name!r}{did_you_mean(found[0] if found else None)}" for name, found in near.items())
        more = f" and {len(known) - TASKS_TOLD} more" if len(known) > TASKS_TOLD else ""
        raise SettingsError(
            f"annotations_list: the snapshot has no task {told}. There are: {', '.join(known[:TASKS_TOLD])}{more}; an "
            "empty list takes them all"
        )


def require_start(settings: Settings, variant: str) -> None:
    """See that the model a variant is to start from is there.

    Raises:
        SettingsError: no such file.
    """
    start = settings.variant(variant).pretrained_model_path
    if start and not paths.locate(start).is_file():
        raise SettingsError(
            f"{variant}.pretrained_model_path: {start} does not exist; name a model file, or leave the key out to "
            "start with torchvision's weights"
        )
