"""The split that notebook 02 hands on: judged, stored, written as a manifest, named in the result that 03 reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from obdb_lib import manifest
from obdb_lib.boxes import FloatArray
from obdb_lib.clusters import Clusters
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.kept_map import MAP_NAME, write_map
from obdb_lib.leaks import SplitReport, report
from obdb_lib.manifest import Manifest
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import Split
from obdb_lib.stages import STAGES, write_result
from obdb_lib.store import Store

MANIFEST_NAME = "split.manifest.json"


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

    def keep(self, split: Split) -> Manifest:
        """Store a split with its edits, write its manifest, and make it the one that notebook 03 trains on.

        Raises:
            SplitError: the split was made for another snapshot.
            CacheError: the folder cannot be written.
        """
        found, other = self.judge(split), self.compared_report
        written = manifest.write(self.folder / MANIFEST_NAME, split, self.snapshot, found)
        self.store.save_split(*split.documents())
        summary = {
            "split": split.id,
            **self.summary,
            "edits": len(split.edits),
            "val frames": found.frames["val"],
            "leak": found.leak,
            f"leak {other.strategy}": other.leak,
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
