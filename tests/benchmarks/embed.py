"""Embedding: crops a second against the way upstream went and against the bare network, and memory at 200,000 crops.

Upstream's way opens the full frame for each crop and shows the network one crop at a time, with gradients on. Both ways
and the bare network see the same frames of 1920 x 1080 (the sample's, 20 boxes each), the same crop size and weights;
they take turns, and the best turn of each counts. The bare network gets ready tensors, in the faster of two ways:
batches of 64 on all cores, or the lab's own small batches on each core.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from obdb_lib import paths
from obdb_lib.crops import crop_box
from obdb_lib.embedders import CROP_SIZE, Embedder, find_embedder
from obdb_lib.embeddings import embed_crops
from obdb_lib.frames import FrameStore
from obdb_lib.networks import Network, kept_threads, usable_cores
from obdb_lib.records import make_annotation, make_task
from obdb_lib.reduction import reduce
from obdb_lib.sample import SampleSize, make_sample
from obdb_lib.snapshots import BOX, Snapshot
from tests.benchmarks._bars import arguments, bar, report
from tests.conftest import PROJECT
from tests.helpers import snapshot_of

WIDTH, HEIGHT, BOXES = 1920, 1080, 20
DRAWN = SampleSize(tasks=1, frames_per_task=4, width=WIDTH, height=HEIGHT)
CROPS, DIMENSIONS, SMALL_FRAME = 200_000, 1280, 64
BOXES_A_FRAME = 500


def world(folder: Path, kind: str, pictures: list[Image.Image], frames: int, seed: int) -> tuple[Snapshot, FrameStore]:
    """``frames`` files made of the pictures in turn, with random boxes of 50 to 250 pixels."""
    names = [f"{kind}/frame{number:04d}.{kind}" for number in range(frames)]
    (folder / kind).mkdir()
    for number, name in enumerate(names):
        pictures[number % len(pictures)].save(folder / name, **({"quality": 90} if kind == "jpg" else {}))
    record = make_task(kind, ["plant"], [(name, WIDTH, HEIGHT) for name in names], created="2026-01-01T00:00:00Z")
    rng = np.random.default_rng(seed)
    for number in range(frames):
        sides = rng.uniform(50, 250, BOXES)
        lefts, tops = rng.uniform(0, WIDTH - sides), rng.uniform(0, HEIGHT - sides)
        for x, y, side in zip(lefts, tops, sides, strict=True):
            record.annotations.append(make_annotation(record, number, "plant", [x, y, x + side, y + side]))
    return snapshot_of([record]), FrameStore([folder])


def upstream_way(snapshot: Snapshot, frames: FrameStore, crops: int) -> Callable[[], int]:
    """Frame opened for each crop, one crop a batch, gradients on, the network as torchvision builds it."""
    import torch

    from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD, mobilenet_v2_backbone

    features: Any = mobilenet_v2_backbone()[0].features
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    rows = list(snapshot.annotations[["img_path", *BOX]].itertuples(index=False))[:crops]

    def run() -> int:
        for name, *box in rows:
            with Image.open(frames.path(name)) as image:
                window = [round(value) for value in crop_box(box, image.width, image.height)]
                crop = image.convert("RGB").crop(tuple(window)).resize((CROP_SIZE, CROP_SIZE))
            pixels = torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1).float() / 255
            features(((pixels - mean) / std)[None]).mean(dim=(2, 3)).detach().numpy()
        return len(rows)

    return run


def lab_way(snapshot: Snapshot, frames: FrameStore, network: Network) -> Callable[[], int]:
    """embed_crops with an empty cache each time; the network is loaded before, as it is once for thousands of crops."""
    turn = 0

    def run() -> int:
        nonlocal turn
        turn += 1
        chosen = find_embedder("mobilenet_v2")
        identity = f"{chosen.identity} {snapshot.task_names} {turn}"
        return len(embed_crops(snapshot, frames, embedder=replace(chosen, identity=identity, load=lambda: network)))

    return run


def bare_network(network: Network, crops: int) -> dict[str, Callable[[], int]]:
    """The network on pictures that are ready in memory, each way of running it that may be the fastest."""
    import torch

    from obdb_lib.weights import mobilenet_v2_backbone

    images = np.random.default_rng(0).integers(0, 255, (crops, CROP_SIZE, CROP_SIZE, 3)).astype(np.uint8)
    features: Any = mobilenet_v2_backbone()[0].features.to(memory_format=torch.channels_last)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)

    def large() -> int:
        with torch.inference_mode():
            for start in range(0, crops, 64):
                features(tensors[start : start + 64]).mean(dim=(2, 3))
        return crops

    def small() -> int:
        size = network.batch_of(CROP_SIZE)
        parts = [images[start : start + size] for start in range(0, crops, size)]
        with (
            kept_threads(),
            ThreadPoolExecutor(network.threads or usable_cores(), initializer=network.prepare) as pool,
        ):
            list(pool.map(network.embed, parts))
        return crops

    return {"large batches": large, "small batches": small}


def rates(runs: dict[str, Callable[[], int]], turns: int) -> dict[str, float]:
    """Crops a second of each run in its best turn."""
    best = dict.fromkeys(runs, 0.0)
    for turn in range(turns + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            count = run()
            if turn:  # the first turn warms up
                best[name] = max(best[name], count / (time.perf_counter() - started))
    return best


def memory(folder: Path, crops: int) -> None:
    """Compute, keep, read back and reduce ``crops`` vectors in this process; prints its peak in GB."""
    folder.mkdir(exist_ok=True)
    count = max(crops // BOXES_A_FRAME, 1)
    rng = np.random.default_rng(0)
    names = [f"f{number}.jpg" for number in range(count)]
    for name in names:
        pixels = rng.integers(0, 255, (SMALL_FRAME, SMALL_FRAME, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    frame = np.repeat(np.arange(count), BOXES_A_FRAME)
    corner = rng.uniform(0, SMALL_FRAME - 16, (len(frame), 2)).astype(np.float32)
    table = pd.DataFrame({"annotation_id": [f"{n:024x}" for n in range(len(frame))], "object_class": "plant"})
    table["img_path"] = np.array(names, dtype=object)[frame]
    table[BOX] = np.hstack([corner, corner + 12]).astype(np.float32)
    snapshot = Snapshot("memory", ("memory",), ("plant",), pd.DataFrame({"img_path": names}), table)

    def vectors(images: np.ndarray) -> np.ndarray:
        own = np.random.default_rng(int(images.sum()))
        return own.standard_normal((len(images), DIMENSIONS), dtype=np.float32)

    embedder = Embedder("synthetic", 8, "synthetic", lambda: Network(vectors))
    for _ in range(2):  # computed, then read back
        found = embed_crops(snapshot, FrameStore([folder]), embedder=embedder)
    assert found.vectors.shape == (len(frame), DIMENSIONS)
    reduce(found.vectors)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def peak_memory(work: Path, crops: int) -> float:
    """GB at the peak of a fresh process."""
    code = f"from tests.benchmarks.embed import memory; from pathlib import Path; memory(Path({str(work)!r}), {crops})"
    environment = {**os.environ, "OBDB_DATA_CACHE": str(work / "cache")}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(found.stdout.split()[-1])


def main() -> int:
    options = arguments(__doc__)
    paths.share_cores()
    turns, frames = (2, 8) if options.quick else (3, 96)
    with tempfile.TemporaryDirectory(prefix="obdb_embed_") as name:
        work = Path(name)
        os.environ["OBDB_DATA_CACHE"] = str(work / "cache")
        crops = CROPS // 4 if options.quick else CROPS
        peak = peak_memory(work / "memory", crops)
        sample = make_sample(work / "drawn", seed=3, size=DRAWN)
        pictures = [Image.open(path).convert("RGB") for path in sorted(sample.root.rglob("*.jpg"))]
        network = find_embedder("mobilenet_v2").load()
        runs: dict[str, Callable[[], int]] = dict(bare_network(network, frames * BOXES))
        for kind in ("png", "jpg"):
            snapshot, store = world(work, kind, pictures, frames, seed=1)
            runs[f"upstream {kind}"] = upstream_way(snapshot, store, BOXES * (1 if options.quick else 2))
            runs[f"lab {kind}"] = lab_way(snapshot, store, network)
        rate = rates(runs, turns)
    alone = max(rate["large batches"], rate["small batches"])
    note = ", ".join(f"{name} {value:.0f}/s" for name, value in rate.items())
    against = f"{rate['lab png'] / rate['large batches']:.2f} times the bare network in batches of 64"
    bars = [
        bar("PNG: crops a second, times upstream's", rate["lab png"] / rate["upstream png"], ">= 5", note),
        bar("JPEG: crops a second, times upstream's", rate["lab jpg"] / rate["upstream jpg"], ">= 2.4"),
        bar("JPEG: share of the bare network's crops a second", rate["lab jpg"] / alone, ">= 0.9"),
        bar("PNG: share of the bare network's crops a second", rate["lab png"] / alone, ">= 0.9", against),
        bar(f"{crops} crops: peak GB (computed, read back, reduced to 50)", peak, "< 3"),
    ]
    report("embed", bars, only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
