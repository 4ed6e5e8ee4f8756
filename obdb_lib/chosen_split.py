"""The split that notebook 02 hands on: judged, stored, written as a manifest, named in the result that 03 reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from obdb_lib import manifest
from obdb_lib.boxes import FloatArray
from obdb_lib.clusters import Clusters
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.errors import SplitError, StoreError
from obdb_lib.kept_map import MAP_NAME, write_map
from obdb_lib.leaks import SplitReport, report
from obdb_lib.manifest import Manifest
from obdb_lib.snapshots import Snapshot
from obdb_lib.split_draft import replay
from obdb_lib.splits import Split, split_from_documents
from obdb_lib.stages import STAGES, read_result, write_result
from obdb_lib.store import Store

MANIFEST_NAME = "split.manifest.json"
NO_EDITS = "none"
"""Instead of a split's id: make no edits again."""


@dataclass(frozen=True)
class SplitKeeper:
    """Judges splits of one snapshot by the same measures, and keeps the one that was chosen.

    Attributes:
        folder: of the run; manifest and result are written there.
        compared: another split whose report is to stand beside that of the chosen one.
        image_roots: folders of the images, for the notebooks that follow.
        summary: key numbers of the run that are not the split's own (clusters, say).
        xy: (N, 2) place of each of ``embeddings.ids`` on the map, kept for notebook 04; None keeps no map.
    """

    store: Store
    folder: Path
    snapshot: Snapshot
    duplicates: DuplicateGroups
    clusters: Clusters
    embeddings: Embeddings
    compared: Split
    image_roots: Sequence[str] = ()
    summary: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    xy: FloatArray | None = None

    def judge(self, split: Split) -> SplitReport:
        """Balance and leaks of a split."""
        return report(
            split,
            self.snapshot,
            duplicates=self.duplicates,
            clusters=self.clusters,
            embeddings=self.embeddings,
            seed=self.seed,
        )

    @cached_property
    def compared_report(self) -> SplitReport:
        """Balance and leaks of the split to compare with."""
        return self.judge(self.compared)

    def with_edits(self, built: Split, edits_of: str = "") -> Split:
        """A built split with edits by hand made again.

        Args:
            edits_of: id of a saved split whose edits are wanted; "" takes those of the split that was last kept in this
                folder, if it began as this one does (the notebook is run again); NO_EDITS takes none.

        Raises:
            SplitError: there is no such split, or its edits do not fit this one.
        """
        if edits_of == NO_EDITS:
            return built
        try:
            if edits_of:
                return replay(built, split_from_documents(*self.store.split(edits_of)).edits)
            kept = read_result(self.folder, STAGES[1], default={}).get("split_id")
            earlier = split_from_documents(*self.store.split(kept)) if kept else None
        except StoreError as error:
            if not edits_of:
                return built  # the store was changed since; nothing is asked for by name
            raise SplitError(f"EDITS: {error}; leave EDITS empty to begin without them") from error
        if earlier is None or not earlier.edits or earlier.snapshot_id != built.snapshot_id:
            return built
        before = earlier.parts()
        before.update(pd.Series(dict(earlier.built), dtype=object))
        return replay(built, earlier.edits) if before.equals(built.parts()) else built

    def keep(self, split: Split) -> Manifest:
        """Store a split with its edits, write its manifest, and make it the one that notebook 03 trains on.

        Raises:
            SplitError: the split was made for another snapshot, or has no boxes to train on or to judge by.
            CacheError: the folder cannot be written.
        """
        found, other = self.judge(split), self.compared_report
        for part, purpose in (("train", "learn from"), ("val", "judge by")):
            if not found.boxes.get(part):
                raise SplitError(f"{part} has no boxes: there is nothing to {purpose}; put frames with boxes into it")
        written = manifest.write(self.folder / MANIFEST_NAME, split, self.snapshot, found)
        self.store.save_split(*split.documents())
        summary = {
            "split": split.id,
            **self.summary,
            "edits": len(split.edits),
            "val frames": found.frames["val"],
            "leak": found.largest_leak,
            f"leak {other.strategy}": other.largest_leak,
            "class JSD": found.class_jsd,
            "smallest class share": found.smallest_class_share,
        }
        result = {
            "snapshot_id": self.snapshot.id,
            "split_id": split.id,
            "manifest": MANIFEST_NAME,
            "manifest_hash": written.hash,
            "image_roots": list(self.image_roots),
            "reports": [found.as_dict(), other.as_dict()],
            "summary": summary,
        }
        if self.xy is not None:
            write_map(self.folder / MAP_NAME, self.embeddings.ids, self.xy, self.clusters.labels)
            result["map"] = MAP_NAME
        write_result(self.folder, STAGES[1], result)
        return written
