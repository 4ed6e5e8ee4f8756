"""Detect in frames and keep what no annotation explains: the finding of notebook 05 with one checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from obdb_lib import paths
from obdb_lib.boxes import DEFAULT_MATCH_IOU
from obdb_lib.cache import atomic_writer, write_json
from obdb_lib.candidates import MISSING
from obdb_lib.checkpoints import load_checkpoint
from obdb_lib.cvat.push import PushPlan, StoreJournal, plan_push, pushed_places, pushed_suggestions
from obdb_lib.errors import DatasetError, SettingsError
from obdb_lib.explained import DEFAULT_LOOSE_IOU
from obdb_lib.finder import find
from obdb_lib.frames import FrameStore
from obdb_lib.out_of_fold import one_model
from obdb_lib.progress import Progress
from obdb_lib.records import Document
from obdb_lib.settings import VARIANT_NAME, Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.store import Store
from obdb_lib.suggest import suggestions_of
from obdb_lib.variants import did_you_mean, nearest

DEFAULT_THRESHOLD = 0.5
"""Upstream's: detections that score less are not kept; raise it for fewer and surer boxes."""
UPSTREAMS_VARIANT = "resnet18"
ENDING = "_model.pth"
FRAMES_FILE, SUGGESTIONS_FILE = "frames.txt", "suggestions.json"
DATE = "%Y_%m_%d_%H_%M_%S"


@dataclass(frozen=True)
class Model:
    """The detector that looks: its file, the name that tasks carry, the classes it knows."""

    path: Path
    variant: str
    run_id: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """What was found.

    Attributes:
        suggestions: of missing boxes, the likeliest first.
        unreadable: img_path -> why it could not be judged.
        text: how far the finder may be believed.
    """

    model: Model
    snapshot: Snapshot
    suggestions: list[Document]
    unreadable: dict[str, str]
    text: str


def choose_model(settings: Settings, *, variant: str = "", model_path: str = "") -> Model:
    """The checkpoint at ``model_path``, else ``/train/<variant>_model.pth`` as upstream, else that of ``save_dir``.

    Args:
        variant: when empty, the first of the settings' variants that is there, else UPSTREAMS_VARIANT.

    Raises:
        DatasetError: no such file.
        SettingsError: a variant (of ``-v`` or inside the checkpoint) that is no plain name.
        TrainingError: the file is no checkpoint of this lab.
    """
    wanted = [variant] if variant else list(dict.fromkeys([*settings.variants, UPSTREAMS_VARIANT]))
    folders = dict.fromkeys([paths.mapped("/train"), paths.locate(settings.save_dir)])
    named = [(paths.mapped(model_path), variant)]
    found = named if model_path else [(folder / f"{name}{ENDING}", name) for name in wanted for folder in folders]
    file, variant = next(((path, name) for path, name in found if path.is_file()), (None, variant))
    if file is None:
        there = sorted({one.name.removesuffix(ENDING) for folder in folders for one in folder.glob(f"*{ENDING}")})
        hint = f"There are {', '.join(there)}{did_you_mean(nearest(variant, there))}. " if there else ""
        looked = " nor ".join(str(path) for path, _ in found)
        raise DatasetError(
            f"the detector is not at {looked}. {hint}Train it (torch_model_runner.py) or name its file (--model_path)"
        )
    checkpoint = load_checkpoint(file)
    variant = variant or checkpoint.spec.variant
    if not VARIANT_NAME.fullmatch(variant):
        raise SettingsError(f"the variant {variant!r} cannot name folders and tasks; name another one with -v")
    return Model(file, variant, checkpoint.run_id or file.stem, checkpoint.spec.classes)


def find_missing(
    model: Model,
    snapshot: Snapshot,
    frames: FrameStore,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    min_iou: float = DEFAULT_MATCH_IOU,
    seed: int = 0,
    progress: Progress | None = None,
) -> Missing:
    """Detections of all frames of the snapshot that score ``threshold`` or more and that no annotation explains.

    Detections are kept below ``data_cache/auto_annotation``, so that a call that was cut off goes on and a repeated one
    looks at the same boxes.

    Args:
        min_iou: overlap from which an annotation of its class explains a detection, one to one.
    """
    looked = one_model(
        model.path,
        snapshot,
        frames,
        split=None,
        save_dir=paths.data_cache() / "auto_annotation",
        progress=progress,
    )
    found = find(
        looked.detections,
        snapshot,
        kinds=[MISSING],
        min_score=threshold,
        min_iou=min_iou,
        loose_iou=min(min_iou, DEFAULT_LOOSE_IOU),
        seed=seed,
        progress=progress,
    )
    suggestions = suggestions_of(found.candidates, snapshot, run_id=model.run_id)
    return Missing(model, snapshot, suggestions, dict(looked.unreadable), found.text)


def plan_auto(
    missing: Missing,
    frames: FrameStore,
    store: Store,
    *,
    rule: str,
    server: str | None = None,
    labels: Sequence[str] = (),
    now: datetime | None = None,
) -> PushPlan:
    """Push everything found, for people to verify on CVAT, as tasks ``auto_annotation_<variant>_<date>_<task>``.

    Nobody has judged these boxes, so the review's journal is left alone; boxes that were sent before are left out.

    Args:
        rule: why they count as accepted, in words.
        server: where they go; what was sent to another one does not count. Any server when None.
        labels: of the new tasks; those of model and annotations when empty.
    """
    decisions = {
        one["_id"]: {"suggestion_id": one["_id"], "verdict": "accept", "rule": rule} for one in missing.suggestions
    }
    sent = pushed_suggestions(StoreJournal(store).entries(), server=server)
    names = sorted(sent)
    return plan_push(
        missing.suggestions,
        decisions,
        missing.snapshot,
        frames,
        model=missing.model.variant,
        classes=list(labels) or list(dict.fromkeys([*missing.model.classes, *missing.snapshot.classes])),
        now=now,
        already_pushed=sent,
        pushed_places=pushed_places(sent, store.suggestions_by_id(names), store.decisions(names)),
    )


def write_found(missing: Missing, *, now: datetime | None = None) -> Path:
    """``frames.txt`` (images with boxes, a line each) and ``suggestions.json`` in ``/auto_annotation/<variant>/<date>``
    (below data_cache where that folder is not there); returns the folder. ``-g`` takes it.

    Raises:
        CacheError: it cannot be written.
    """
    date = (now or datetime.now(UTC)).strftime(DATE)
    folder = auto_annotation_folder() / missing.model.variant / date
    with atomic_writer(folder / FRAMES_FILE, "w") as file:
        for img_path in sorted({one["img_path"] for one in missing.suggestions}):
            file.write(f"{img_path}\n")
    write_json(folder / SUGGESTIONS_FILE, missing.suggestions)
    return folder


def auto_annotation_folder() -> Path:
    """Upstream's ``/auto_annotation`` where it is there or mapped to another place, else a folder of data_cache."""
    given = Path("/auto_annotation")
    folder = paths.mapped(given)
    return folder if folder != given or folder.is_dir() else paths.data_cache() / "auto_annotation" / "found"
