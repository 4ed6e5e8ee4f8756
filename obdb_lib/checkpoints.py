"""Checkpoints: plain tensors and numbers in one file, loaded without running any code of the file.

``<variant>_model.pth`` is the lean best model; ``<variant>_last.pth`` also carries what a resume needs. Classes,
normalisation, image size, split and snapshot travel with the weights, so nothing has to be looked up at detection.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from obdb_lib import __version__
from obdb_lib.cache import atomic_writer
from obdb_lib.errors import TrainingError
from obdb_lib.models import Detector, DetectorSpec, rebuild_detector, take_over_weights
from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD

FORMAT = "obdb-lab-checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        spec: what network it is, with its classes and image size.
        state: the network's tensors, on the CPU.
        snapshot_id, split_id, run_id: which data and which run made it.
        metrics: e.g. ``{"ap50": .61, "ap": .33, "epoch": 4}``.
        resume: optimiser, schedule, scaler, epoch, best, random states; empty in a lean checkpoint.
    """

    spec: DetectorSpec
    state: dict[str, Tensor]
    snapshot_id: str = ""
    split_id: str = ""
    run_id: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    resume: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write atomically: a reader sees the old file or the new one, never a part.

    Raises:
        CacheError: disk full or folder not writable.
    """
    plain = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "code_version": __version__,
        "spec": checkpoint.spec.to_dict(),
        "normalisation": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        "state": checkpoint.state,
        "snapshot_id": checkpoint.snapshot_id,
        "split_id": checkpoint.split_id,
        "run_id": checkpoint.run_id,
        "metrics": checkpoint.metrics,
        "resume": checkpoint.resume,
    }
    with atomic_writer(path) as file:
        torch.save(plain, file)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint onto the CPU; nothing in the file is executed.

    Raises:
        TrainingError: missing, damaged, a pickled whole model (upstream's ``.pth``), or a foreign file.
    """
    path = Path(path)
    advice = "train the model again with this lab, or take another file"
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"checkpoint {path} does not exist; run the training notebook first") from error
    except pickle.UnpicklingError as error:
        raise TrainingError(
            f"checkpoint {path} is refused: it is not plain weights but a pickle of whole objects, which could run "
            f"code when loaded; {advice}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(f"checkpoint {path} is damaged ({error}); {advice}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise TrainingError(f"checkpoint {path} was not written by this lab (no {FORMAT!r} inside); {advice}")
    if plain.get("format_version") != FORMAT_VERSION:
        raise TrainingError(
            f"checkpoint {path} has format {plain.get('format_version')}, this code reads {FORMAT_VERSION}; {advice}"
        )
    try:
        spec = DetectorSpec(**{**plain["spec"], "classes": tuple(plain["spec"]["classes"])})
        names = ("state", "snapshot_id", "split_id", "run_id", "metrics", "resume")
        return Checkpoint(spec, **{name: plain[name] for name in names})
    except (KeyError, TypeError) as error:
        raise TrainingError(f"checkpoint {path} lacks {error}; {advice}") from error


def load_detector(path: Path | str) -> Detector:
    """The detector of a checkpoint, in evaluation mode, with the classes it was trained on.

    Raises:
        TrainingError: as ``load_checkpoint``, or the tensors do not fit the network named in it.
    """
    checkpoint = load_checkpoint(path)
    detector = rebuild_detector(checkpoint.spec)
    try:
        detector.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        raise TrainingError(f"checkpoint {path} does not fit {checkpoint.spec.architecture}: {error}") from error
    return detector.eval()


def start_from(detector: Detector, path: Path | str) -> str:
    """Begin with an earlier model's weights; its classes may differ. Returns a sentence for the run's record.

    Raises:
        TrainingError: the checkpoint cannot be used or is of another network.
    """
    checkpoint = load_checkpoint(path)
    left = take_over_weights(detector, checkpoint.state)
    note = f", {len(left)} tensors of the head anew" if left else ""
    return f"weights of {path} (run {checkpoint.run_id or 'unknown'}{note})"


def cpu_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's tensors copied to the CPU, so that further training does not change them."""
    return {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
