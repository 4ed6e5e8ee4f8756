"""The user's own detector as an embedder: what its backbone sees in a crop."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from obdb_lib import paths
from obdb_lib.crops import DEFAULT_MARGIN
from obdb_lib.embedders import CROP_SIZE, Embedder
from obdb_lib.embeddings import Embeddings, embed_crops
from obdb_lib.errors import DatasetError
from obdb_lib.frames import FrameStore
from obdb_lib.networks import Network, network_of
from obdb_lib.own_vectors import SUFFIXES, own_vectors
from obdb_lib.progress import Progress
from obdb_lib.snapshots import Snapshot

if TYPE_CHECKING:
    from torch import Tensor, nn

CHECKPOINT_SUFFIXES = (".pth", ".pt")
LEVELS = 2
"""Deepest stages of the backbone whose means are put side by side, each at length 1."""


def embed_by_name(
    name: str,
    snapshot: Snapshot,
    frames: FrameStore,
    *,
    margin: float = DEFAULT_MARGIN,
    progress: Progress | None = None,
) -> Embeddings:
    """Vectors of a snapshot's crops by any name a notebook takes.

    Args:
        name: a file of own vectors (.npz, .npy, .parquet), a checkpoint of this lab (.pth), or a name of
            embedders.find_embedders.

    Raises:
        DatasetError: no such embedder or file, its weights cannot be had, or the file does not fit the snapshot.
        TrainingError: the checkpoint cannot be used.
    """
    if name.endswith(SUFFIXES):
        return own_vectors(paths.locate(name), snapshot)
    embedder = detector_embedder(paths.locate(name)) if name.endswith(CHECKPOINT_SUFFIXES) else name
    return embed_crops(snapshot, frames, embedder=embedder, margin=margin, progress=progress)


def detector_embedder(checkpoint: Path | str) -> Embedder:
    """Backbone of a checkpoint of this lab, without its pyramid and heads. The file's content is its identity.

    A detector saw its training frames: crops of those lie closer to their class than new ones will. Judge it on groups
    it has not seen.

    Raises:
        DatasetError: the file does not exist.
    """
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise DatasetError(f"embedder {path}: there is no such checkpoint; train one in notebook 03, or name another")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Embedder(str(path), CROP_SIZE, f"detector backbone, {LEVELS} levels, {digest}", lambda: _load(path))


def _load(path: Path) -> Network:
    from obdb_lib.checkpoints import load_detector

    return network_of(_means(load_detector(path).network))


def _means(network: nn.Module) -> nn.Module:
    import torch

    from obdb_lib.families import FeatureMaps

    class Means(torch.nn.Module):
        """Means of the deepest feature maps, (N, D)."""

        def __init__(self) -> None:
            super().__init__()
            self.maps = FeatureMaps(network)

        def forward(self, pixels: Tensor) -> Tensor:
            maps = self.maps(pixels)[-LEVELS:]
            means = [torch.nn.functional.normalize(one.mean(dim=(2, 3)), dim=1) for one in maps]
            return torch.cat(means, dim=1)

    return Means()
