"""The sesame photographs beside the checkout, split by duplicate groups, at training size."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from obdb_lib.dataset import DetectionDataset
from obdb_lib.duplicates import find_duplicates
from obdb_lib.formats import coco
from obdb_lib.frames import FrameStore
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.splits import Split, by_groups
from obdb_lib.store import with_ids
from tests.conftest import SHARED

SESAME = SHARED / "data" / "sesame"
VAL_SHARE = 0.2


def sesame_snapshot(every: int = 1) -> Snapshot:
    """Every n-th photograph with its boxes."""
    records = coco.read(SESAME / "annotations.json").tasks
    documents = [document for record in records for document in with_ids(record.annotations)]
    whole = build_snapshot([record.meta for record in records], documents)
    kept = set(whole.frames["img_path"][::every])
    frames: pd.DataFrame = whole.frames[whole.frames["img_path"].isin(kept)].reset_index(drop=True)
    annotations = whole.annotations[whole.annotations["img_path"].isin(kept)].reset_index(drop=True)
    return Snapshot(**{**whole.__dict__, "frames": frames, "annotations": annotations})


def sesame_split(snapshot: Snapshot, frames: FrameStore) -> Split:
    """Train and val that share no photograph: duplicate groups stay whole."""
    twins = find_duplicates(list(snapshot.frames["img_path"]), frames)
    shares = {"train": 1 - VAL_SHARE, "val": VAL_SHARE}
    return by_groups(snapshot, group_by=("duplicate_group",), shares=shares, duplicates=twins)


def frame_store() -> FrameStore:
    """Where the photographs lie."""
    return FrameStore([SESAME, SESAME / "images"])


def dataset(
    snapshot: Snapshot, img_paths: list[str], image_size: int, cache: Path, *, augment: bool, seed: int = 0
) -> DetectionDataset:
    """Frames at training size, decoded into ``cache``."""
    return DetectionDataset(
        frame_store(),
        img_paths,
        snapshot.annotations,
        snapshot.classes,
        image_size=image_size,
        augment=augment,
        seed=seed,
        cache_dir=cache,
    )
