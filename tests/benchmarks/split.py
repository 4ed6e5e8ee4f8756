"""The split builder against scikit-learn's group splitters on made fields: how far the worst share is off, and JSD.

Each of the 20 fields has 20,000 crops of 12 long-tailed classes in 30 clusters and 200 videos that differ in length, in
what grows there and in how it looks. 20 % is wanted for val. Every method has the same measure; the two of scikit-learn
give 100 splits each, of which the best by that very measure counts. The builder runs as a user runs it: ``by_groups``
with its defaults, which balances frames and box sizes as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from obdb_lib.snapshots import ANNOTATION_COLUMNS, FRAME_COLUMNS, Snapshot
from obdb_lib.splits import by_groups
from tests.benchmarks._bars import Bar, arguments, bar, report

CROPS, VIDEOS, CLUSTERS, CLASSES, VAL = 20_000, 200, 30, 12, 0.2
FIELDS, QUICK_FIELDS = 20, 6
BOXES_PER_FRAME = 10
MEASURES = ("largest deviation", "JSD")


@dataclass(frozen=True)
class Field:
    """Crops of a made field: video, class and cluster of each, and the snapshot that holds them."""

    video: np.ndarray
    classes: np.ndarray
    clusters: np.ndarray
    snapshot: Snapshot

    def measures(self, val: np.ndarray) -> tuple[float, float]:
        """Largest relative deviation of a class's or cluster's share in val; and both mixes' JSD in bit, added up."""
        largest, jsd = 0.0, 0.0
        for label, size in ((self.classes, CLASSES), (self.clusters, CLUSTERS)):
            inside, outside = np.bincount(label[val], minlength=size), np.bincount(label[~val], minlength=size)
            present = inside + outside > 0
            share = inside[present] / (inside + outside)[present]
            largest = max(largest, float(np.abs(share / VAL - 1).max()))
            jsd += float(jensenshannon(inside, outside, base=2)) ** 2
        return largest, jsd


def make_field(seed: int) -> Field:
    """A field whose videos differ: lengths are log-normal, classes and their looks Dirichlet around the whole's."""
    rng = np.random.default_rng(seed)
    length = rng.lognormal(0, 0.6, VIDEOS)
    video = np.sort(rng.choice(VIDEOS, size=CROPS, p=length / length.sum()))
    frequency = 1 / np.arange(1, CLASSES + 1) ** 1.2
    frequency /= frequency.sum()
    looks = _looks(frequency, rng)
    grows = np.stack([rng.dirichlet(30 * frequency + 1e-3) for _ in range(VIDEOS)])
    classes = _draw(grows[video], rng)
    seen = rng.gamma(12 * looks, size=(VIDEOS, CLASSES, CLUSTERS)) + 1e-12
    seen /= seen.sum(axis=2, keepdims=True)
    clusters = _draw(seen[video, classes], rng)
    return Field(video, classes, clusters, _snapshot(video, classes, rng))


def _looks(frequency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(class, cluster) shares: each class has looks of its own, frequent ones more; one crop in ten looks like another.

    No cluster is far below 1 % of all crops, the least that clusters.find_clusters forms.
    """
    many = np.sqrt(frequency)
    owner = np.concatenate([np.arange(CLASSES), rng.choice(CLASSES, CLUSTERS - CLASSES, p=many / many.sum())])
    looks = np.zeros((CLASSES, CLUSTERS))
    for one in range(CLASSES):
        own = np.flatnonzero(owner == one)
        looks[one, own] = 0.9 * (0.5 / len(own) + 0.5 * rng.dirichlet(np.ones(len(own))))
    return looks + 0.1 / CLUSTERS


def _draw(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column of each row, by its chances."""
    found = (chances.cumsum(axis=1) < rng.random(len(chances))[:, None]).sum(axis=1)
    return np.asarray(found.clip(max=chances.shape[1] - 1))


def _snapshot(video: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> Snapshot:
    frame = np.arange(CROPS) // BOXES_PER_FRAME
    frame = pd.factorize(pd.Series(video).astype(str) + "/" + pd.Series(frame).astype(str))[0]
    first = np.unique(frame, return_index=True)[1]
    paths = np.array(
        [f"s/c/v{video[crop]:03d}/frame{number:05d}.png" for number, crop in enumerate(first)], dtype=object
    )
    frames = pd.DataFrame(dict.fromkeys(FRAME_COLUMNS, ""), index=range(len(paths)))
    frames["img_path"], frames["video"] = paths, [f"v{video[crop]:03d}" for crop in first]
    frames["frame_number"] = pd.array(range(len(paths)), dtype="Int64")
    side = 60 * rng.lognormal(0, 0.3, VIDEOS)[video] * rng.lognormal(0, 0.4, CROPS)
    boxes = pd.DataFrame(dict.fromkeys(ANNOTATION_COLUMNS, ""), index=range(CROPS))
    boxes["annotation_id"], boxes["img_path"] = np.arange(CROPS).astype(str), paths[frame]
    boxes["object_class"] = [f"class {number}" for number in classes]
    boxes["x1"] = boxes["y1"] = np.float32(0)
    boxes["x2"] = boxes["y2"] = side.astype(np.float32)
    return Snapshot("made", ("made",), tuple(sorted(set(boxes["object_class"]))), frames, boxes)


def builder(field: Field, seed: int) -> tuple[tuple[float, float], tuple[float, float], str]:
    """What ``by_groups`` reaches, its seconds (CPU, wall clock) and what it says of itself."""
    clusters = pd.Series(field.clusters, index=field.snapshot.annotations["annotation_id"])
    began, busy = time.perf_counter(), time.process_time()
    split = by_groups(
        field.snapshot, group_by=("video",), shares={"train": 1 - VAL, "val": VAL}, clusters=clusters, seed=seed
    )
    seconds = (time.process_time() - busy, time.perf_counter() - began)
    val = field.snapshot.annotations["img_path"].map(split.parts()).to_numpy(object) == "val"
    assert not set(field.video[val]) & set(field.video[~val]), "a video was torn apart"
    solver = split.parameters["solver"]
    assert isinstance(solver, dict)
    return field.measures(val), seconds, str(solver["method"])


def stratified(field: Field) -> list[tuple[float, float]]:
    """StratifiedGroupKFold by class, 5 folds x 20 seeds."""
    found = []
    for seed in range(20):
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        found += [field.measures(_mask(val)) for _, val in folds.split(field.classes, field.classes, field.video)]
    return found


def shuffled(field: Field) -> list[tuple[float, float]]:
    """100 GroupShuffleSplits."""
    splits = GroupShuffleSplit(100, test_size=VAL, random_state=0)
    return [field.measures(_mask(val)) for _, val in splits.split(field.classes, groups=field.video)]


def _mask(rows: np.ndarray) -> np.ndarray:
    mask = np.zeros(CROPS, dtype=bool)
    mask[rows] = True
    return mask


def main() -> None:
    """Run all fields and print the bars."""
    options = arguments(__doc__)
    rows = []
    for seed in range(QUICK_FIELDS if options.quick else FIELDS):
        field = make_field(seed)
        reached, seconds, method = builder(field, seed)
        others = [np.min(stratified(field), axis=0), np.min(shuffled(field), axis=0)]
        rows.append((reached, others, seconds))
        if not options.json:
            told = ", ".join(
                f"{name} {reached[at]:.4g} against {others[0][at]:.4g} / {others[1][at]:.4g}"
                for at, name in enumerate(MEASURES)
            )
            print(f"field {seed}: {told}; {seconds[0]:.2f} s of CPU, {method}", flush=True)
    bars: list[Bar] = []
    for at, name in enumerate(MEASURES):
        own = np.array([row[0][at] for row in rows])
        kfold, shuffle = (np.array([row[1][which][at] for row in rows]) for which in (0, 1))
        times = np.minimum(kfold, shuffle) / own
        note = (
            f"median of {len(rows)} fields (worst {times.min():.2f}); medians: builder {np.median(own):.4g}, "
            f"StratifiedGroupKFold {np.median(kfold):.4g}, GroupShuffleSplit {np.median(shuffle):.4g}"
        )
        bars.append(bar(f"{name}: times smaller than the better of two", float(np.median(times)), ">= 6", note))
    # CPU time of all threads: on an idle machine it is the wall clock or more, and others' work does not add to it.
    busy, clock = (np.array([row[2][which] for row in rows]) for which in (0, 1))
    note = (
        f"median {np.median(busy):.2f} s of CPU; wall clock median {np.median(clock):.2f} s, most {clock.max():.2f} s"
    )
    bars.append(bar("seconds of CPU, slowest field", float(busy.max()), "< 3", note))
    report("split", bars, only_json=options.json)


if __name__ == "__main__":
    main()
