"""A split's report on a large data set: time, memory, and whether nearest neighbours tell leaking from fair splits.

``python -m tests.benchmarks.report --json``: 200,000 crops (float16 vectors of 1,280, memory-mapped as embeddings are
kept on disk), 20,000 frames, 400 videos, 12 long-tailed classes; the report of a split by video with a test part, then
that of every 10th frame. ``--quick`` measures the same bars on a tenth of the crops and frames. Time is judged
by CPU seconds, which other work on the machine hardly changes; the clock's stand beside them.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from obdb_lib import leaks, manifest
from obdb_lib.duplicates import DuplicateGroups
from obdb_lib.embeddings import Embeddings
from obdb_lib.records import make_annotation, make_task
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.splits import Split, every_nth, make_split
from tests.benchmarks._bars import arguments, bar, report

DIMENSIONS = 1_280
PER_VIDEO = 50
CROPS_PER_FRAME = 10
GIB = 1 << 20  # ru_maxrss counts KiB


def make_data(frames: int, rng: np.random.Generator) -> Snapshot:
    """Videos of 50 frames, 5 numbers apart, with 10 boxes of long-tailed classes in each frame."""
    classes = [f"class {number:02d}" for number in range(12)]
    weights = 0.6 ** np.arange(12)
    metas, boxes = [], []
    for video in range(frames // PER_VIDEO):
        name = f"FieldData {20200520000000 + video // 8} {video % 4 + 1}L GH{video:06d}"
        session, camera, key = name.split(" ")[1:]
        paths = [f"f/{session}/{camera}/{key}/{key}frame{5 * n:04d}.png" for n in range(PER_VIDEO)]
        record = make_task(name, classes, [(path, 1920, 1080) for path in paths])
        metas.append(record.meta)
        corners = rng.uniform(0, 900, size=(PER_VIDEO, CROPS_PER_FRAME, 2))
        sides = rng.lognormal(4, 0.6, size=(PER_VIDEO, CROPS_PER_FRAME, 2))
        kinds = rng.choice(classes, size=(PER_VIDEO, CROPS_PER_FRAME), p=weights / weights.sum())
        for frame in range(PER_VIDEO):
            for place in range(CROPS_PER_FRAME):
                points = [*corners[frame, place], *(corners[frame, place] + sides[frame, place])]
                box = make_annotation(record, frame, str(kinds[frame, place]), points)
                boxes.append({**box, "_id": f"{video}-{frame}-{place}"})
    return build_snapshot(metas, boxes)


def make_vectors(snapshot: Snapshot, folder: Path, rng: np.random.Generator) -> Embeddings:
    """Each video has a direction of its own, each crop strays from it."""
    video = pd.factorize(snapshot.annotations["img_path"].map(snapshot.frames.set_index("img_path")["video"]))[0]
    centres = rng.normal(size=(video.max() + 1, DIMENSIONS)).astype(np.float32)
    common = 2 * rng.normal(size=DIMENSIONS).astype(np.float32)
    path = folder / "vectors.npy"
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (len(video), DIMENSIONS))
    for start in range(0, len(video), 4_096):
        rows = video[start : start + 4_096]
        values = common + centres[rows] + rng.normal(size=(len(rows), DIMENSIONS)).astype(np.float32)
        vectors[start : start + len(rows)] = values / np.linalg.norm(values, axis=1, keepdims=True)
    vectors.flush()
    ids = snapshot.annotations["annotation_id"].to_numpy(object)
    return Embeddings(ids, np.load(path, mmap_mode="r"), "made up")


def by_video(snapshot: Snapshot) -> Split:
    """Every 7th video is val, the next one test: what a builder would give, without the builder's time."""
    number = pd.factorize(snapshot.frames["video"])[0] % 7
    parts = np.select([number == 0, number == 1], ["val", "test"], "train")
    table = pd.DataFrame({"img_path": snapshot.frames["img_path"], "part": parts})
    return make_split(snapshot.id, "by video", table, {"shares": {"train": 5 / 7, "val": 1 / 7, "test": 1 / 7}})


def main() -> None:
    """Make the data, report twice, print the bars."""
    options = arguments(__doc__)
    frames = 2_000 if options.quick else 20_000
    rng = np.random.default_rng(0)
    snapshot = make_data(frames, rng)
    names = snapshot.frames["img_path"].to_numpy(object)
    pairs = pd.DataFrame({"first": names[:-1:3], "second": names[1::3][: len(names[:-1:3])], "correlation": 0.9})
    duplicates = DuplicateGroups(pd.Series(np.arange(len(names)) // 3, index=names), pairs)
    clusters = pd.Series(rng.integers(-1, 30, len(snapshot.annotations)), index=snapshot.annotations["annotation_id"])
    with tempfile.TemporaryDirectory() as folder:
        embeddings = make_vectors(snapshot, Path(folder), rng)
        told = {}
        spent: dict[str, tuple[float, float]] = {}
        for split in (by_video(snapshot), every_nth(snapshot)):
            wall, cpu = time.perf_counter(), time.process_time()
            told[split.strategy] = leaks.report(
                split, snapshot, duplicates=duplicates, clusters=clusters, embeddings=embeddings
            )
            spent[split.strategy] = (time.perf_counter() - wall, time.process_time() - cpu)
        cpu = time.process_time()
        path = Path(folder) / "split.json"
        manifest.write(path, by_video(snapshot), snapshot, told["by video"])
        manifest.check(path, snapshot)
        manifest_seconds = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    fair, leaky = (told[name].borders["val/train"].nearest for name in ("by video", "every_nth"))
    size = f"{len(snapshot.annotations):,} crops, {frames:,} frames"
    times = ", ".join(f"{name} {wall:.1f} s by the clock, {cpu:.1f} s of CPU" for name, (wall, cpu) in spent.items())
    bars = [
        bar("CPU seconds of a report", max(cpu for _, cpu in spent.values()), "<= 20", f"{size}; {times}"),
        bar("peak memory of the process, GiB", peak, "< 3", "data, vectors and reports"),
        bar("CPU seconds to write, read and check a manifest", manifest_seconds, "<= 20", f"{frames:,} lines"),
        bar("novelty of the split by video", fair.novelty if fair else None, ">= 0.75", "1 = as another group"),
        bar("novelty of every 10th frame", leaky.novelty if leaky else None, "<= 0.25", "0 = as the same group"),
        bar("adjacent leak of every 10th frame", told["every_nth"].adjacent_leak, ">= 1", "known: all of them"),
        bar("adjacent leak of the split by video", told["by video"].adjacent_leak, "<= 0", "known: none"),
    ]
    report("report", bars, only_json=options.json)


if __name__ == "__main__":
    main()
