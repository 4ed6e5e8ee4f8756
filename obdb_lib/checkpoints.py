"""Checkpoints: plain tensors and numbers in one file, loaded without running any code of the file.

``<variant>_model.pth`` is the lean best model; ``<variant>_last.pth`` also carries what a resume needs. Classes,
normalisation, image size, split and snapshot travel with the weights, so nothing has to be looked up at detection.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from obdb_lib import __version__
from obdb_lib.cache import atomic_writer
from obdb_lib.errors import TrainingError
from obdb_lib.models import Detector, DetectorSpec, rebuild_detector
from obdb_lib.start_weights import fix_early
from obdb_lib.takeover import take_over

logger = logging.getLogger(__name__)

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
        "normalisation": {"mean": list(checkpoint.spec.mean), "std": list(checkpoint.spec.std)},
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
        spec = DetectorSpec.from_dict(plain["spec"])
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


def start_from(detector: Detector, path: Path | str, *, trainable_layers: int = 3) -> str:
    """Begin with an earlier model's weights; its classes may differ, and its family if the trunk is the same.

    Classes of the same name keep their part of the head. Norms and early stages that the earlier model kept fixed stay
    fixed. The detector's spec records what was taken over.

    Args:
        detector: from ``build_detector``; changed in place.
        trainable_layers: as ``build_detector``.

    Returns:
        The sentence of ``spec.weights``.

    Raises:
        TrainingError: the checkpoint cannot be used or is of another network.
    """
    checkpoint = load_checkpoint(path)
    earlier, own = checkpoint.spec, detector.spec
    try:
        taken = take_over(detector, checkpoint.state, own.classes, earlier.classes)
    except TrainingError as error:
        raise TrainingError(f"checkpoint {path} ({earlier.architecture}) for {own.variant}: {error}") from error
    if earlier.frozen_norm and not own.frozen_norm:
        fix_early(detector.network, own.architecture, trainable_layers)
    sentence = f"weights of {path} (run {checkpoint.run_id or 'unknown'}): {taken.sentence()}"
    detector.spec = replace(own, weights=sentence, frozen_norm=own.frozen_norm or earlier.frozen_norm)
    logger.info("%s: %s", own.variant, sentence)
    return sentence


def cpu_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's tensors copied to the CPU, so that further training does not change them."""
    return {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
