"""Matching detections with annotations on all frames at once, against one shapely polygon at a time.

``python -m tests.benchmarks.matching --json``: 4,000 frames with 40 detections and 30 annotations each, three classes,
as dense as a weedy row. A pair is one detection and one annotation of one frame, whatever their classes; both sides
count the same pairs and both end with the one-to-one choice. shapely sees the first frames alone, upstream's way: a
polygon for each box, intersection and union for each pair. ``--quick`` measures the same bars on fewer frames.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from obdb_lib.boxes import BoxSet, match
from obdb_lib.frame_matching import flat_boxes, match_frames
from tests.benchmarks._bars import Bar, arguments, bar, report

FRAMES, QUICK_FRAMES = 4_000, 1_000
SHAPELY_FRAMES = 60
DETECTIONS, ANNOTATIONS = 40, 30
CLASSES = np.array(["Cleavers", "Dandelion", "Fat hen"], dtype=object)
MIN_IOU = 0.5
REPEATS = 3
BOX = ["x1", "y1", "x2", "y2"]
WIDTH, HEIGHT = 1920, 1080


def crowded_field(frames: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Annotations anywhere in full-HD frames; detections are theirs, shifted, some of another class, and strays."""
    dice = np.random.default_rng(seed)
    count = frames * ANNOTATIONS
    corners = dice.uniform((0, 0), (WIDTH - 200, HEIGHT - 200), (count, 2))
    drawn = np.hstack([corners, corners + dice.uniform(40, 200, (count, 2))])
    names = CLASSES[dice.integers(0, len(CLASSES), count)]
    frame = np.repeat(np.arange(frames), ANNOTATIONS)
    # Each frame's annotations once and the first ones again, so that annotations have rivals.
    which = np.arange(frames * DETECTIONS)
    source = which // DETECTIONS * ANNOTATIONS + which % DETECTIONS % ANNOTATIONS
    found = drawn[source] + np.tile(drawn[source, 2:] - drawn[source, :2], 2) * dice.normal(0, 0.1, (len(source), 4))
    labels = np.where(dice.random(len(source)) < 0.1, CLASSES[0], names[source])
    truth = pd.DataFrame(drawn, columns=BOX).assign(img_path=frame, object_class=names)
    return pd.DataFrame(found, columns=BOX).assign(img_path=frame[source], object_class=labels), truth


def shapely_pairs(detections: pd.DataFrame, truth: pd.DataFrame, frames: int) -> tuple[set[tuple[int, int]], float]:
    """Matched rows and CPU seconds of the first ``frames`` frames."""
    from shapely.geometry import Polygon

    chosen: set[tuple[int, int]] = set()
    started = time.process_time()
    for frame in range(frames):
        found, wanted = (table[table["img_path"] == frame] for table in (detections, truth))
        overlaps = np.zeros((len(found), len(wanted)))
        for row, (a, name) in enumerate(zip(found[BOX].to_numpy(np.float32), found["object_class"], strict=True)):
            for column, (b, other) in enumerate(
                zip(wanted[BOX].to_numpy(np.float32), wanted["object_class"], strict=True)
            ):
                one = Polygon([(a[0], a[1]), (a[2], a[1]), (a[2], a[3]), (a[0], a[3])])
                two = Polygon([(b[0], b[1]), (b[2], b[1]), (b[2], b[3]), (b[0], b[3])])
                overlap = one.intersection(two).area / one.union(two).area
                if overlap >= MIN_IOU and name == other:
                    overlaps[row, column] = overlap
        for row, column in zip(*linear_sum_assignment(overlaps, maximize=True), strict=True):
            if overlaps[row, column]:
                chosen.add((int(found.index[row]), int(wanted.index[column])))
    return chosen, time.process_time() - started


def frame_by_frame(detections: pd.DataFrame, truth: pd.DataFrame, frames: int) -> set[tuple[int, int]]:
    """The same by ``boxes.match``."""
    chosen = set()
    for frame in range(frames):
        found, wanted = (table[table["img_path"] == frame] for table in (detections, truth))
        sets = [
            BoxSet(table[BOX].to_numpy(np.float32), table["object_class"].to_numpy(object)) for table in (found, wanted)
        ]
        for row, column in match(*sets, min_iou=MIN_IOU).pairs:
            chosen.add((int(found.index[row]), int(wanted.index[column])))
    return chosen


def measure(frames: int, seed: int = 0) -> list[Bar]:
    detections, truth = crowded_field(frames, seed)
    match_frames(*flat_boxes(detections.head(100), truth.head(100)), min_iou=MIN_IOU)  # loaded before the clock starts
    spent = []
    for _ in range(REPEATS):
        started = time.process_time()
        result = match_frames(*flat_boxes(detections, truth), min_iou=MIN_IOU)
        spent.append(time.process_time() - started)
    seconds = float(np.median(spent))
    rate = frames * DETECTIONS * ANNOTATIONS / seconds
    started = time.process_time()
    match_frames(*flat_boxes(detections, truth), min_iou=MIN_IOU, class_aware=False)
    blind = frames * DETECTIONS * ANNOTATIONS / (time.process_time() - started)
    told = f"{frames} frames x {DETECTIONS} x {ANNOTATIONS} boxes in {seconds:.2f} CPU s; of any class {blind:,.0f}"
    ours = {(int(a), int(b)) for a, b in result.pairs}
    early = {pair for pair in ours if pair[0] < SHAPELY_FRAMES * DETECTIONS}
    by_frame = frame_by_frame(detections, truth, min(frames, QUICK_FRAMES))
    judged = {pair for pair in ours if pair[0] < min(frames, QUICK_FRAMES) * DETECTIONS}
    bars = [
        bar("pairs a second", rate, ">= 1e6", told),
        bar("pairs that differ from boxes.match", len(judged ^ by_frame), "<= 0", f"of {len(by_frame)} matched"),
    ]
    try:
        theirs, their_time = shapely_pairs(detections, truth, SHAPELY_FRAMES)
    except ImportError as error:
        missing = f"shapely is not installed ({error}); pip install shapely==2.2.0"
        return [
            *bars,
            bar("times shapely's speed", None, ">= 100", missing),
            bar("pairs that differ from shapely's", None, "<= 0"),
        ]
    their_rate = SHAPELY_FRAMES * DETECTIONS * ANNOTATIONS / their_time
    return [
        *bars,
        bar(
            "times shapely's speed", rate / their_rate, ">= 100", f"shapely {their_rate:,.0f} pairs/s, ours {rate:,.0f}"
        ),
        bar("pairs that differ from shapely's", len(early ^ theirs), "<= 0", f"of {len(theirs)} matched"),
    ]


def main() -> None:
    options = arguments(__doc__)
    report("matching", measure(QUICK_FRAMES if options.quick else FRAMES), only_json=options.json)


if __name__ == "__main__":
    main()
