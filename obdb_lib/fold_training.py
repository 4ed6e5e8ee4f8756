"""Training one model of an out-of-fold run and detecting with it, both kept so that neither is done twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from obdb_lib.cache import content_hash, read_json, write_json
from obdb_lib.dataset import sized_frame
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.errors import FrameError
from obdb_lib.fold_plan import FoldModel
from obdb_lib.frames import FrameStore
from obdb_lib.honest import NOT_THE_RECIPE
from obdb_lib.kept_detections import Kept, detect_kept, together
from obdb_lib.progress import Progress
from obdb_lib.settings import Hyperparameters, Settings
from obdb_lib.snapshots import Snapshot, frame_stamps
from obdb_lib.splits import Split, make_split
from obdb_lib.tuning import Workbench

logger = logging.getLogger(__name__)

JUDGED_WHILE_TRAINING = 8
"""Held-out frames on which a fold's training is judged, once, after its last step: no epoch is chosen by it, for that
would choose by the very annotations that may be wrong, and the held-out frames are all detected afterwards anyway."""
NOT_LEARNED = ("device", "workers", "amp")
"""Options that do not change what is learned; a model that is finished stays so when they change."""


@dataclass(frozen=True)
class FoldRecipe:
    """What is the same for all models.

    Attributes:
        folder: where each model has a folder of its own.
        changes: fields of ``TrainingOptions`` to set.
    """

    snapshot: Snapshot
    frames: FrameStore
    settings: Settings
    duplicates: DuplicateGroups | None
    folder: Path
    variant: str
    hyperparameters: Hyperparameters
    changes: Mapping[str, Any]

    @cached_property
    def _stamps(self) -> dict[str, str]:
        return {str(path): str(stamp) for path, stamp in frame_stamps(self.snapshot).items()}

    def home(self, model: FoldModel) -> Path:
        """Folder of a model, named by what it learns from and how; annotations of other frames do not matter."""
        plain = {key: value for key, value in self.settings.dump().items() if key not in NOT_THE_RECIPE}
        learned = {name: value for name, value in self.changes.items() if name not in NOT_LEARNED}
        recipe = (self.variant, plain, self.hyperparameters.to_json(), learned)
        data = [list(self.snapshot.classes), [[path, self._stamps[path]] for path in model.train]]
        return self.folder / content_hash(data, *recipe, length=16)

    def is_trained(self, model: FoldModel) -> bool:
        """Whether its training came to its end, and its checkpoint is still there."""
        home = self.home(model)
        note = home / "trained.json"
        return note.exists() and (home / read_json(note)["checkpoint"]).exists()

    def model(
        self, model: FoldModel, progress: Progress | None, how: dict[str, Any]
    ) -> tuple[dict[str, Any] | None, Kept] | None:
        """Note and detections of a model, trained first where needed; None when its training was stopped.

        Where none of its frames can be read there is nothing to train it for, and no note.
        """
        every = [*model.judged, *model.unannotated]
        val, unreadable = self._readable(every)
        if not val:
            return None, Kept(together([], second_look=how["second_look"]), (), unreadable, False)
        note = self._trained(model, val, progress, how["stop"])
        if note is None:
            return None
        home = self.home(model)
        kept = detect_kept(
            home / note["checkpoint"],
            self.frames,
            every,
            folder=home / "detected" / str(note["run_id"]),
            number=model.number,
            device=self.changes.get("device"),
            progress=progress,
            **how,
        )
        return {**note, "checkpoint": str(home / note["checkpoint"])}, kept

    def _readable(self, img_paths: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Up to JUDGED_WHILE_TRAINING frames that can be read, spread evenly, and those met that cannot, with why."""
        most = min(JUDGED_WHILE_TRAINING, len(img_paths))
        spread = [img_paths[int(place)] for place in np.linspace(0, len(img_paths) - 1, most)]
        found: list[str] = []
        unreadable: dict[str, str] = {}
        for path in dict.fromkeys([*spread, *img_paths]):
            try:
                sized_frame(self.frames, path, self.settings.image_size)
            except (FrameError, OSError) as error:
                unreadable[path] = str(error)
                continue
            found.append(path)
            if len(found) == most:
                break
        return found, unreadable

    def _split(self, model: FoldModel, val: Sequence[str]) -> Split:
        """The model's frames as a split, those of tasks that ``annotations_list`` leaves out left out of train."""
        wanted = self.settings.annotations_list
        tasks = dict(zip(self.snapshot.frames["img_path"], self.snapshot.frames["task_name"], strict=True))
        train = [path for path in model.train if not wanted or tasks[path] in wanted]
        part = {**dict.fromkeys(train, "train"), **dict.fromkeys(val, "val")}
        table = pd.DataFrame({"img_path": list(part), "part": list(part.values())})
        return make_split(self.snapshot.id, "fold", table, {"fold": model.number, "train_frames": len(train)})

    def _trained(
        self, model: FoldModel, val: Sequence[str], progress: Progress | None, stop: Callable[[], bool] | None
    ) -> dict[str, Any] | None:
        """Note of the finished training; None when it was stopped."""
        home = self.home(model)
        if self.is_trained(model):
            note: dict[str, Any] = read_json(home / "trained.json")
            return note
        logger.info("%s: %d frames to train on", self.variant, len(model.train))
        # Only the train part is a matter of annotations_list, and it is chosen already.
        settings = self.settings.model_copy(update={"annotations_list": []})
        bench = Workbench(
            *(self.snapshot, self._split(model, val), self.frames, settings, home, home / "tensorboard"),
            duplicates=self.duplicates,
            progress=progress,
        )
        epochs = int(self.changes.get("epochs", self.settings.max_train_epochs))
        changes = {**self.changes, "judge_every": epochs}
        result = bench.train(self.variant, self.hyperparameters, stop=stop, **changes)
        if result.partial:
            return None
        note = {
            "run_id": result.run_id,
            "checkpoint": str(result.checkpoint.relative_to(home)),
            "train": result.settings["train_frames"],
            "seconds": result.seconds,
            "weights": result.weights,
        }
        write_json(home / "trained.json", note)
        # What a resume needed is several times the size of the model, and k models add up.
        for left in ("last", "model"):
            (home / f"{self.variant}_{left}.pth").unlink(missing_ok=True)
        return note
