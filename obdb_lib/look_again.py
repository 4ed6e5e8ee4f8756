"""The detections in which notebook 05 looks for mistakes: out of fold, or of the judged model alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obdb_lib.cache import content_hash
from obdb_lib.duplicates import DuplicateGroups, find_duplicates
from obdb_lib.errors import SplitError
from obdb_lib.fold_plan import blank_frames
from obdb_lib.frames import FrameStore
from obdb_lib.out_of_fold import OutOfFold, one_model, out_of_fold
from obdb_lib.progress import Progress
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split


@dataclass(frozen=True)
class SecondLook:
    """Detections, and who made them.

    Attributes:
        found: detections and what they may be believed for.
        run_id: of the judged model, or a name for the detectors of the folds; suggestions carry it.
        duplicates: frames that show the same ground.
        unseen: frames that no judge of theirs was trained on, and that could be read.
        hyperparameters: of the judged run; None where they are not known and the settings' own hold.
    """

    found: OutOfFold
    run_id: str
    duplicates: DuplicateGroups
    unseen: tuple[str, ...]
    hyperparameters: Hyperparameters | None = None

    @property
    def seen(self) -> tuple[str, ...]:
        """The other judged frames."""
        known = set(self.unseen)
        return tuple(str(path) for path in self.found.frames.index if path not in known)


def look_again(
    judged: Mapping[str, Any],
    snapshot: Snapshot,
    split: Split,
    frames: FrameStore,
    settings: Settings,
    *,
    folds: int,
    save_dir: Path,
    looks: int = 1,
    hyperparameters: Mapping[str, Any] | None = None,
    blank_tasks: bool = True,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> SecondLook:
    """Detect for a search of mistakes.

    Args:
        judged: what notebook 04 handed on: ``variant``, ``run_id``, ``checkpoint``.
        folds: so many detectors over folds (``out_of_fold``); 0 takes the judged model alone, which is quick and less
            to be trusted.
        looks: detectors that look at each frame.
        hyperparameters: of the judged run (``Store.runs``); go before those of the settings.
        blank_tasks: a task without any annotation is still to be annotated: all look at it and nobody learns from it.
            Otherwise its frames are taken for bare ground.

    Raises:
        SplitError, TrainingError, CacheError: as ``out_of_fold`` and ``one_model``.
    """
    paths = list(snapshot.frames["img_path"])
    duplicates = find_duplicates(paths, frames, progress=progress)
    bare = blank_frames(snapshot) if blank_tasks else []
    known = {name: value for name, value in (hyperparameters or {}).items() if name in Hyperparameters.model_fields}
    chosen = Hyperparameters(**known) if known else None
    if folds == 0:
        found = one_model(
            judged["checkpoint"],
            snapshot,
            frames,
            split=split,
            save_dir=save_dir,
            duplicates=duplicates,
            unannotated=bare,
            progress=progress,
            stop=stop,
        )
        run_id = str(judged["run_id"])
    else:
        try:
            found = out_of_fold(
                snapshot,
                frames,
                settings,
                duplicates=duplicates,
                save_dir=save_dir,
                variant=str(judged["variant"]),
                hyperparameters=chosen,
                k=folds,
                looks=looks,
                split=split,
                unannotated=bare,
                progress=progress,
                stop=stop,
            )
        except SplitError as error:
            raise SplitError(
                f"{folds} folds cannot be made: {error} Here: set FOLDS (--folds) to fewer, 2 at least, or to 0 for"
                " the judged model alone."
            ) from error
        weights = [Path(str(path)).read_bytes() for path in found.models["checkpoint"]]
        run_id = f"{judged['variant']}-{folds}folds-{content_hash(snapshot.id, weights, length=6)}"
    table = found.frames
    unseen = table.index[~table["seen"] & (table["unreadable"] == "") & (table["judges"].map(len) > 0)]
    return SecondLook(found, run_id, duplicates, tuple(str(path) for path in unseen), chosen)
