"""Finding boxes that people missed: our ranking against three rules and confidence, on the same detections.

On sesame and on the sample field 10 % of all boxes are hidden before anything is trained. Detectors of
settings.cpu.json judge the frames out of fold (three folds of whole duplicate groups), three seeds; each seed hides
other boxes and trains its own detectors. The candidates are those of ``find_candidates``: one-to-one, class-aware
matching at IoU .5, repeats dropped. A candidate is right when it brings back a hidden box of its class at IoU .5, one
to one. Rivals:

- confidence: the detector's score of the same candidates;
- FiftyOne's rule: of these, confidence above .95;
- upstream's rule: detections with confidence above .7 whose largest IoU with any annotation is at most .7, any class;
- cleanlab's ObjectLab: ``compute_overlooked_box_scores`` at its defaults, smaller is surer.

Nothing was chosen by these seeds: model and evidence were settled with another one (seed 100). Intervals are of the
mean over the seeds: 95 %, by drawing duplicate groups with replacement in each seed. What people really missed counts
as false for everyone. ``--work FOLDER`` keeps the detectors, so that a second run only ranks. ``--quick``: some frames,
one seed, one epoch; its values fail.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obdb_lib.boxes import iou_matrix
from obdb_lib.candidates import MISSING
from obdb_lib.duplicates import find_duplicates
from obdb_lib.finder import find
from obdb_lib.frames import FrameStore
from obdb_lib.hide_boxes import hide
from obdb_lib.out_of_fold import out_of_fold
from obdb_lib.ranking import calibration_error, judge_ranking, right_ones
from obdb_lib.sample import DEFAULT_SIZE, TINY_SIZE, make_sample
from obdb_lib.settings import Settings
from obdb_lib.snapshots import BOX, Snapshot, build_snapshot
from obdb_lib.store import with_ids
from tests.benchmarks._bars import Bar, bar, report
from tests.benchmarks._sesame import SESAME, frame_store, sesame_snapshot
from tests.conftest import PROJECT

HIDDEN_SHARE = 0.1
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)
FOLDS, QUICK_FOLDS = 3, 2
QUICK_EVERY = 30
"""Every n-th photograph of sesame in a quick run."""
DRAWS = 300
PRECISION = 0.8
FIFTYONE_SCORE, UPSTREAM_SCORE, UPSTREAM_IOU = 0.95, 0.7, 0.7
GAIN, ENOUGH, HIGH = 1.25, 0.9, 0.72
OURS = "ours"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """One method's list: which candidates are right, the larger ``rank`` the earlier, and the group of each."""

    right: NDArray[np.bool_]
    rank: Floats
    group: NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One data set and seed: the lists, how many boxes are hidden in each group, and our probabilities."""

    lists: dict[str, Ranked]
    hidden: NDArray[np.int64]
    probability: Floats


def world(name: str, quick: bool, work: Path) -> tuple[Snapshot, FrameStore]:
    """The data, whole: nothing is hidden yet."""
    if name == "sesame":
        return sesame_snapshot(QUICK_EVERY if quick else 1), frame_store()
    sample = make_sample(work / "sample", size=TINY_SIZE if quick else DEFAULT_SIZE, hidden_share=0.0)
    documents = [document for task in sample.tasks for document in with_ids(task.annotations)]
    return build_snapshot([task.meta for task in sample.tasks], documents), FrameStore([sample.root])


def case(name: str, seed: int, quick: bool, work: Path) -> Case:
    """Hide, train, detect and rank in a process of its own, on one core."""
    import torch

    torch.set_num_threads(1)
    os.environ["OBDB_DATA_CACHE"] = str(work / "cache" / name)
    whole, frames = world(name, quick, work)
    hidden = hide(whole, HIDDEN_SHARE, seed=seed)
    settings = Settings.load(PROJECT / "settings.cpu.json").model_copy(update={"seed": seed})
    if quick:
        settings = settings.model_copy(update={"max_train_epochs": 1})
    duplicates = find_duplicates(list(whole.frames["img_path"]), frames)
    found = out_of_fold(
        hidden.snapshot,
        frames,
        settings,
        duplicates=duplicates,
        save_dir=work / name / str(seed),
        k=QUICK_FOLDS if quick else FOLDS,
        group_by=("duplicate_group",),
        device="cpu",
        workers=0,
    )
    print(f"{name}, seed {seed}: AP50 of the folds {found.models['ap50'].round(3).tolist()}", file=sys.stderr)
    groups = duplicates.groups
    plain = found.plain()
    ours = find(found.detections, hidden.snapshot, duplicates=duplicates, frames=frames, kinds=[MISSING], seed=seed)
    tables = {
        OURS: ours.candidates.assign(rank=-np.arange(len(ours.candidates), dtype=np.float64)),
        "confidence": ours.candidates.assign(rank=ours.candidates["score"].astype(np.float64)),
        "FiftyOne's rule": _above(ours.candidates, FIFTYONE_SCORE),
        "upstream's rule": upstreams(plain, hidden.snapshot),
        "cleanlab": cleanlabs(plain, hidden.snapshot),
    }
    lists = {
        method: Ranked(right_ones(table, hidden.boxes), table["rank"].to_numpy(np.float64), _group_of(table, groups))
        for method, table in tables.items()
    }
    counts = np.bincount(_group_of(hidden.boxes, groups), minlength=int(groups.max()) + 1)
    return Case(lists, counts.astype(np.int64), ours.candidates["probability"].to_numpy(np.float64))


def _group_of(table: pd.DataFrame, groups: pd.Series) -> NDArray[np.int64]:
    return np.asarray(groups.reindex(table["img_path"]).to_numpy(), dtype=np.int64)


def _above(candidates: pd.DataFrame, limit: float) -> pd.DataFrame:
    kept = candidates[candidates["score"] > limit]
    return kept.assign(rank=kept["score"].astype(np.float64)).reset_index(drop=True)


def upstreams(plain: pd.DataFrame, snapshot: Snapshot) -> pd.DataFrame:
    """weed_annotations' rule: sure detections that overlap no annotation of any class by more than .7."""
    sure = plain[plain["score"] > UPSTREAM_SCORE].reset_index(drop=True)
    largest = np.zeros(len(sure))
    for path, rows in sure.groupby("img_path").indices.items():
        boxes, drawn = sure.iloc[rows], snapshot.boxes(str(path))
        found = type(drawn)(boxes[BOX].to_numpy(np.float32))
        largest[rows] = iou_matrix(found, drawn).max(axis=1, initial=0.0)
    kept = sure[largest <= UPSTREAM_IOU]
    return kept.assign(rank=kept["score"].astype(np.float64)).reset_index(drop=True)


def cleanlabs(plain: pd.DataFrame, snapshot: Snapshot) -> pd.DataFrame:
    """ObjectLab's overlooked scores (U. Tkachenko et al., 2023); detections it gives none are not on its list."""
    from cleanlab.object_detection.rank import compute_overlooked_box_scores

    paths = snapshot.frames["img_path"].tolist()
    number = {name: label for label, name in enumerate(snapshot.classes)}
    rows_of = plain.groupby("img_path").indices
    labels: list[dict[str, Any]] = []
    predictions, order = [], []
    for path in paths:
        drawn = snapshot.boxes(path)
        names = np.array([number[str(name)] for name in drawn.classes], dtype=np.int64)
        labels.append({"bboxes": drawn.xyxy.astype(np.float64), "labels": names, "seg_map": path})
        rows = np.asarray(rows_of.get(path, np.empty(0, dtype=np.int64)))
        per_class = []
        for name in snapshot.classes:
            own = rows[(plain["object_class"].to_numpy(object)[rows] == name)]
            per_class.append(plain.iloc[own][[*BOX, "score"]].to_numpy(np.float64).reshape(-1, 5))
            order.append(own)
        shaped = np.empty(len(per_class), dtype=object)
        shaped[:] = per_class
        predictions.append(shaped)
    scores = compute_overlooked_box_scores(labels=labels, predictions=predictions)
    table = plain.iloc[np.concatenate(order)].assign(rank=-np.concatenate([np.asarray(one, float) for one in scores]))
    return table[table["rank"].notna()].reset_index(drop=True)


def value(lists: list[Ranked], hidden: list[NDArray[np.int64]], what: str, draws: list[NDArray[np.int64]]) -> float:
    """Mean over the seeds of AP or recall, each group counted as often as drawn."""
    found = []
    for one, counts, drawn in zip(lists, hidden, draws, strict=True):
        times = drawn[one.group]
        judged = judge_ranking(
            np.repeat(one.right, times), np.repeat(one.rank, times), max(int((counts * drawn).sum()), 1)
        )
        found.append(judged.average_precision if what == "AP" else judged.recall_at[PRECISION])
    return float(np.mean(found))


def interval(measure: Callable[[list[NDArray[np.int64]]], float], sizes: list[int]) -> str:
    """95 % of what redrawn groups give."""
    rng = np.random.default_rng(0)
    drawn = [
        measure([np.bincount(rng.integers(size, size=size), minlength=size).astype(np.int64) for size in sizes])
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"[{low:.3f}, {high:.3f}]"


def bars_of(name: str, cases: list[Case]) -> list[Bar]:
    """The bars of one data set; the notes carry every method's numbers."""
    hidden, sizes = [one.hidden for one in cases], [len(one.hidden) for one in cases]
    once = [np.ones(size, dtype=np.int64) for size in sizes]

    def measured(what: str, method: str) -> Callable[[list[NDArray[np.int64]]], float]:
        return lambda draws: value([one.lists[method] for one in cases], hidden, what, draws)

    bars, told = [], {}
    for what in ("AP", "recall"):
        values = {method: measured(what, method)(once) for method in cases[0].lists}
        told[what] = values, "; ".join(f"{m} {v:.3f} {interval(measured(what, m), sizes)}" for m, v in values.items())
    recall, words = told["recall"]
    best = max(number for method, number in recall.items() if method != OURS)
    title = f"{name}, recall at precision .8"
    if best > HIGH:
        bars.append(bar(f"{title} (the best rival is above .72)", recall[OURS], f">= {ENOUGH}", words))
    else:
        # Where no rival reaches that precision at all there is nothing to be compared with.
        ratio = recall[OURS] / best if best else None
        bars.append(bar(f"{title}, times the best rival", ratio, f">= {GAIN}", words))
    ap, words = told["AP"]
    lead = ap[OURS] - max(number for method, number in ap.items() if method != OURS)
    bars.append(bar(f"{name}, AP ahead of the best rival", lead, "> 0", words))
    bars.append(_calibration(name, cases, sizes))
    return bars


def _calibration(name: str, cases: list[Case], sizes: list[int]) -> Bar:
    """Over all candidates of the seeds, and for the note over those of .1 and more, which a person may get to see."""

    def error(draws: list[NDArray[np.int64]], least: float = 0.0) -> float:
        kept = [
            np.repeat(np.arange(len(c.probability)), d[c.lists[OURS].group]) for c, d in zip(cases, draws, strict=True)
        ]
        chance = np.concatenate([c.probability[rows] for c, rows in zip(cases, kept, strict=True)])
        right = np.concatenate([c.lists[OURS].right[rows] for c, rows in zip(cases, kept, strict=True)])
        return calibration_error(chance[chance >= least], right[chance >= least])

    once = [np.ones(size, dtype=np.int64) for size in sizes]
    note = f"95 % {interval(error, sizes)}; of those with .1 or more: {error(once, 0.1):.3f}"
    want = "<= 0.05" if name == "sample" else "<= 1"
    return bar(f"{name}, expected calibration error", error(once), want, note)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    parser.add_argument("--quick", action="store_true", help="a smaller run of under a minute")
    parser.add_argument("--work", type=Path, help="folder that keeps the detectors for a second run")
    options = parser.parse_args()
    seeds = QUICK_SEEDS if options.quick else SEEDS
    names = ("sesame", "sample") if SESAME.is_dir() else ("sample",)
    bars = [] if SESAME.is_dir() else [bar("sesame", None, ">= 0", "the data set is not beside this checkout")]
    with tempfile.TemporaryDirectory(prefix="obdb_missing_") as folder:
        work = options.work or Path(folder)
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            # The first seed of each data set also draws the field and looks for twins, which the others find done.
            firsts = {pool.submit(case, name, seeds[0], options.quick, work): name for name in names}
            waiting: dict[str, list[Future[Case]]] = {name: [first] for first, name in firsts.items()}
            for first in as_completed(firsts):
                name = firsts[first]
                waiting[name] += [pool.submit(case, name, seed, options.quick, work) for seed in seeds[1:]]
            cases = {name: [one.result() for one in futures] for name, futures in waiting.items()}
        for name, found in cases.items():
            bars += bars_of(name, found)
    report("missing", bars, only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
