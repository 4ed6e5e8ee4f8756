"""Duplicate frames: precision and recall of pairs by kind of change, time a frame, and memory at 20,000 frames.

The truth is made: distinct photographs (frames of the drawn sample that lie far apart, and one photograph of each
group of the sesame set where it lies beside the project), each with one copy of every kind of change in tests/twins.py.

    python -m tests.benchmarks.duplicates [--json] [--quick]
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from obdb_lib.duplicates import find_duplicates
from obdb_lib.frame_candidates import candidate_pairs
from obdb_lib.frame_features import ROW, FeatureTable, frame_features
from obdb_lib.frames import FrameStore
from obdb_lib.sample import SampleSize, make_sample
from tests.benchmarks._bars import Bar, arguments, bar, report
from tests.twins import CHANGES

SESAME = Path(__file__).resolve().parents[3] / "shared" / "data" / "sesame"
MANY, MANY_QUICK = 20_000, 2_000
SAMPLE_APART = 5
"""Frames of the sample that lie so many apart share no ground."""


def originals(folder: Path, sesame: int, frames: int) -> Iterator[tuple[str, Image.Image]]:
    """Distinct photographs by name; a group of sesame gives its first one."""
    size = SampleSize(tasks=9, frames_per_task=frames, width=640, height=360)
    for record in make_sample(folder, size=size).tasks:
        for place in record.meta["frames"][::SAMPLE_APART]:
            yield Path(place["name"]).stem, Image.open(folder / place["name"]).convert("RGB")
    if not SESAME.is_dir():
        return
    names = sorted(f"images/{path.name}" for path in (SESAME / "images").glob("*.jpg"))
    groups = find_duplicates(names[: 4 * sesame], FrameStore([SESAME])).groups
    for name in groups.drop_duplicates().index[:sesame]:
        yield Path(str(name)).stem, Image.open(SESAME / str(name)).convert("RGB")


def write_copies(folder: Path, sesame: int, frames: int) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Files with names that tell nothing, and (original, kind) of each."""
    rng = np.random.default_rng(0)
    truth: dict[str, tuple[str, str]] = {}
    (folder / "frames").mkdir()
    for original, image in originals(folder / "sample", sesame, frames):
        for kind, change in {"original": lambda one, _: one, **CHANGES}.items():
            name = f"{rng.integers(1 << 60):015x}.png"
            change(image, rng).save(folder / "frames" / name, compress_level=1)
            truth[name] = (f"{original} {image.size}", kind)
    return sorted(truth), truth


def quality(names: list[str], truth: dict[str, tuple[str, str]], folder: Path, *, sesame: bool) -> list[Bar]:
    """Precision of all pairs, recall of original and copy by kind, groups that hold two photographs, time."""
    started = time.process_time()
    found = find_duplicates(names, FrameStore([folder / "frames"]))
    seconds = (time.process_time() - started) / len(names)
    pairs = list(zip(found.pairs["first"], found.pairs["second"], strict=True))
    right = [truth[a][0] == truth[b][0] for a, b in pairs]
    photographs = len({original for original, _ in truth.values()})
    kinds: Counter[str] = Counter()
    for (a, b), same in zip(pairs, right, strict=True):
        if same and "original" in (truth[a][1], truth[b][1]):
            kinds[truth[b][1] if truth[a][1] == "original" else truth[a][1]] += 1
    held = found.groups.index.to_series().map(lambda name: truth[name][0]).groupby(found.groups).nunique()
    note = f"{photographs} photographs" + ("" if sesame else "; sesame is not beside this checkout")
    bars = [bar("precision of pairs", float(np.mean(right)), ">= 0.99", f"{len(pairs)} pairs of {note}")]
    bars += [bar(f"recall: {kind}", kinds[kind] / photographs, ">= 0.9", note) for kind in CHANGES]
    bars.append(bar("groups that hold two photographs", float((held > 1).sum()), "<= 0"))
    within = sum(right) / (photographs * (len(CHANGES) + 1) * len(CHANGES) / 2)
    bars.append(bar("recall: any two copies of one photograph", within, ">= 0.9", "both changed, each its own way"))
    bars.append(bar("CPU seconds a frame, all in all", seconds, "<= 0.15", f"{len(names)} frames"))
    return bars


def many(names: list[str], folder: Path, count: int) -> list[Bar]:
    """Candidates of ``count`` frames: the rows of the real ones, with noise, from a file as the real ones come."""
    real = frame_features(FrameStore([folder / "frames"]), names)
    rows = np.lib.format.open_memmap(folder / "many.npy", "w+", ROW, (count,))
    rng = np.random.default_rng(0)
    for number in range(count):
        rows[number] = real.row(number % len(names))
        noise = rng.integers(0, 24, rows[number]["descriptors"].shape, dtype=np.uint8)
        rows[number]["descriptors"][:] = rows[number]["descriptors"] // 2 + noise
    table = FeatureTable([], [], [])
    table._rows = [rows[number] for number in range(count)]
    started = time.process_time()
    found = candidate_pairs(table, np.arange(count), 24)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = f"{count} frames, {len(found)} pairs to prove"
    return [
        bar("candidates: CPU seconds a frame", seconds / count, "<= 0.05", note),
        bar("peak memory of the whole process, mapped rows included, MB", peak, "<= 3000", note),
    ]


def main() -> None:
    asked = arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="obdb_duplicates_") as name:
        folder = Path(name)
        os.environ["OBDB_DATA_CACHE"] = str(folder / "data_cache")
        names, truth = write_copies(folder, *((15, 1) if asked.quick else (60, 11)))
        bars = quality(names, truth, folder, sesame=SESAME.is_dir())
        bars += many(names, folder, MANY_QUICK if asked.quick else MANY)
    report("duplicates", bars, only_json=asked.json)


if __name__ == "__main__":
    main()
