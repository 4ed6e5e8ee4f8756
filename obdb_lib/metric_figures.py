"""Upstream's pictures of a judgement: a figure a class and measure, and frames with both kinds of boxes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from obdb_lib.boxes import BoxSet
from obdb_lib.cache import atomic_writer
from obdb_lib.frames import FrameStore
from obdb_lib.progress import Progress, tracked
from obdb_lib.voc import ClassMetrics

MEASURES = ("precision", "recall", "f1")
LINE_PX = 3
JPEG_QUALITY = 90


def write_figures(metrics: ClassMetrics, folder: Path) -> list[Path]:
    """``<class>_<precision|recall|f1>.svg``: the measure against IoU, a line for each confidence.

    Raises:
        CacheError: the folder cannot be written.
    """
    from matplotlib.figure import Figure

    written = []
    for name, values in metrics.items():
        for measure in MEASURES:
            figure = Figure(figsize=(6.4, 4.8), layout="constrained")
            axes = figure.add_subplot()
            for confidence, by_iou in values[measure].items():
                axes.plot(
                    [float(iou) for iou in by_iou], list(by_iou.values()), marker="o", label=f"score {confidence}"
                )
            axes.set(xlabel="IoU threshold", ylabel=measure, ylim=(0, 1.02), title=f"{name}: {measure}")
            axes.grid(color="#E6E6E6")
            axes.legend()
            written.append(folder / f"{safe_name(name)}_{measure}.svg")
            with atomic_writer(written[-1]) as file:
                figure.savefig(file, format="svg")
    return written


def write_frames(
    img_paths: Sequence[str],
    frames: FrameStore,
    layers: Mapping[str, tuple[Callable[[str], BoxSet], str]],
    folder: Path,
    *,
    progress: Progress | None = None,
) -> int:
    """Each frame as a JPEG with its boxes in ``folder``; returns how many were written.

    Args:
        layers: name -> (boxes of a frame, colour).

    Raises:
        FrameError: a frame cannot be read.
        CacheError: the folder cannot be written.
    """
    import torch
    from torchvision.utils import draw_bounding_boxes

    for img_path in tracked(img_paths, progress, "frames with boxes"):
        picture = torch.from_numpy(np.array(frames.load(img_path))).permute(2, 0, 1)
        for boxes, colour in layers.values():
            found = boxes(img_path)
            if len(found):
                corners = torch.from_numpy(found.xyxy.copy())
                picture = draw_bounding_boxes(picture, corners, colors=colour, width=LINE_PX)
        path = folder / f"{safe_name(str(Path(img_path).with_suffix('')))}.jpg"
        with atomic_writer(path) as file:
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=JPEG_QUALITY)
    return len(img_paths)


def safe_name(text: str) -> str:
    """A text as part of a file name: what could be a path or an option becomes ``_``."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.") or "_"
