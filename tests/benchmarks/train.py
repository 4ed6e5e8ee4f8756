"""Training and inference against torchvision's reference detection loop, loading included.

One network (the CPU network at 320 px), one batch size, the same JPEG frames of the built-in field on this machine, in
one run, rounds of both in turn. The reference is torchvision's references/detection, written down here again: a
DataLoader with its default of four processes (at most as many as there are cores), frames decoded by PIL in every epoch
and mirrored at random, resized in the model, SGD, losses summed and reduced to numbers, no mixed precision; inference
under inference_mode with the same loader. Ours is ``train_one_epoch`` and ``detect_dataset``. Rates are medians over
rounds. Frames are decoded once by ours; how long that takes is told in the note.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from obdb_lib.augmentation import Augmentation
from obdb_lib.dataset import DetectionDataset, Target, collate
from obdb_lib.distributed import World
from obdb_lib.epochs import epoch_batches, step_seed, train_one_epoch
from obdb_lib.evaluation import DEFAULT_SCORE_THRESHOLD, detect_dataset
from obdb_lib.frames import FrameStore
from obdb_lib.models import Detector, build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.progress import track
from obdb_lib.sample.make import make_sample
from obdb_lib.sample.plan import SampleSize
from obdb_lib.snapshots import Snapshot, build_snapshot
from obdb_lib.store import with_ids
from obdb_lib.trainer import RunState, make_trainer
from tests.benchmarks._bars import Bar, arguments, bar, report

IMAGE_SIZE, BATCH = 320, 4
ROUNDS, QUICK_ROUNDS = 5, 2
FIELD = SampleSize(tasks=4, frames_per_task=12, width=1920, height=1080)
QUICK_FIELD = SampleSize(tasks=2, frames_per_task=6, width=1920, height=1080)
REFERENCE_WORKERS = 4
"""The default of references/detection/train.py (--workers)."""
LR, MOMENTUM, WEIGHT_DECAY = 0.02, 0.9, 1e-4
EQUAL_STEPS = 6


class ReferenceDataset(Dataset[tuple[Tensor, Target]]):
    """Frames as references/detection gives them: PIL, to tensor, mirrored at random, float."""

    def __init__(self, snapshot: Snapshot, frames: FrameStore, *, train: bool) -> None:
        self.snapshot, self.frames = snapshot, frames
        self.img_paths = snapshot.frames["img_path"].tolist()
        self.label = {name: number for number, name in enumerate(snapshot.classes, 1)}
        mirror = [v2.RandomHorizontalFlip(0.5)] if train else []
        self.change = v2.Compose([v2.PILToTensor(), *mirror, v2.ToDtype(torch.float, scale=True)])

    def __len__(self) -> int:
        return len(self.img_paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        boxes = self.snapshot.boxes(self.img_paths[index])
        with Image.open(self.frames.path(self.img_paths[index])) as file:
            image = file.convert("RGB")
        wrapped = tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes.xyxy.copy()), format="XYXY", canvas_size=(image.height, image.width)
        )
        labels = torch.tensor([self.label[str(name)] for name in boxes.classes], dtype=torch.int64)
        changed, target = self.change(image, {"boxes": wrapped, "labels": labels})
        return changed, {"boxes": target["boxes"].as_subclass(Tensor), "labels": target["labels"]}


def reference_workers() -> int:
    return min(REFERENCE_WORKERS, len(os.sched_getaffinity(0)))


def reference_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    parameters = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def reference_step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Any, targets: Any) -> float:
    """One step of the reference's train_one_epoch: losses, a finite check, backward, step."""
    images = [image.to("cpu") for image in images]
    targets = [{name: value.to("cpu") for name, value in target.items()} for target in targets]
    losses = network(images, targets)
    total = sum(losses.values())
    value = sum(loss.item() for loss in losses.values())
    if not math.isfinite(value):
        sys.exit(f"loss is {value}, stopping training")
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return value


def reference_epoch(network: nn.Module, dataset: ReferenceDataset, optimizer: torch.optim.Optimizer) -> float:
    """Images a second of one epoch, from making the loader's iterator to the last step."""
    sampler = BatchSampler(RandomSampler(dataset), BATCH, drop_last=True)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=reference_workers(), collate_fn=collate)
    network.train()
    started, seen = time.perf_counter(), 0
    for images, targets in loader:
        reference_step(network, optimizer, images, targets)
        seen += len(images)
    return seen / (time.perf_counter() - started)


@torch.inference_mode()
def reference_inference(network: nn.Module, dataset: ReferenceDataset) -> float:
    """Images a second of the reference's evaluate, without its metrics."""
    sampler = SequentialSampler(dataset)
    loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=reference_workers(), collate_fn=collate)
    network.eval()
    started, seen = time.perf_counter(), 0
    for images, _ in loader:
        outputs = network([image.to("cpu") for image in images])
        seen += len([{name: value.to("cpu") for name, value in output.items()} for output in outputs])
    return seen / (time.perf_counter() - started)


def our_epoch(detector: Detector, dataset: DetectionDataset, options: TrainingOptions) -> dict[str, float]:
    """Numbers of one epoch as ``fit`` runs it."""
    steps = len(epoch_batches(len(dataset), options, 0))
    trainer = make_trainer(detector, options, World(), steps_per_epoch=steps)
    with track(None, "train") as task:
        return train_one_epoch(trainer, dataset, RunState("bench"), task=task)


def our_inference(detector: Detector, dataset: DetectionDataset) -> float:
    started = time.perf_counter()
    detect_dataset(detector, dataset, score_threshold=DEFAULT_SCORE_THRESHOLD, batch=BATCH, device="cpu")
    return len(dataset) / (time.perf_counter() - started)


def network(snapshot: Snapshot) -> Detector:
    return build_detector("mobilenet_v2", snapshot.classes, image_size=IMAGE_SIZE)


def largest_difference(snapshot: Snapshot, dataset: DetectionDataset, options: TrainingOptions) -> float:
    """Of the losses of the first steps: the same weights, frames, order and seeds in both loops.

    Both get the frames at training size and unchanged, and one learning rate without warm-up.
    """
    theirs, mine = network(snapshot), network(snapshot)
    optimizer = reference_optimizer(theirs)
    theirs.train()
    expected = []
    for step, batch in enumerate(epoch_batches(len(dataset), options, 0)[:EQUAL_STEPS]):
        torch.manual_seed(step_seed(options, 0, step))
        expected.append(reference_step(theirs, optimizer, *collate([dataset[index] for index in batch])))
    sums: list[float] = []
    state = RunState("bench")
    plain = replace(options, step_size=1, gamma=1.0, clip_norm=math.inf)
    trainer = make_trainer(mine, plain, World(), steps_per_epoch=1)
    with track(None, "train") as task:
        train_one_epoch(trainer, dataset, state, task=task, after_step=lambda: sums.append(state.sums["loss"]))
    found = np.diff([0.0, *sums])[: len(expected)]
    return float(np.abs(found - expected).max())


def measure(work: Path, *, quick: bool) -> list[Bar]:
    """All bars in one run."""
    sample = make_sample(work / "field", size=QUICK_FIELD if quick else FIELD)
    documents = [document for record in sample.tasks for document in with_ids(record.annotations)]
    snapshot = build_snapshot([record.meta for record in sample.tasks], documents)
    frames = FrameStore([sample.root])
    names, truth = snapshot.frames["img_path"].tolist(), snapshot.annotations
    started = time.perf_counter()
    where = {"image_size": IMAGE_SIZE, "cache_dir": work / "frames"}
    mine = DetectionDataset(frames, names, truth, snapshot.classes, augment=Augmentation(), **where)
    decoding = time.perf_counter() - started
    plain = DetectionDataset(frames, names, truth, snapshot.classes, **where)
    theirs, still = (ReferenceDataset(snapshot, frames, train=train) for train in (True, False))
    options = TrainingOptions(
        epochs=1, batch_size=BATCH, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, device="cpu"
    )
    detectors = network(snapshot), network(snapshot)
    optimizer = reference_optimizer(detectors[1].network)
    rows = []
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        epoch = our_epoch(detectors[0], mine, options)
        row = {"train": epoch["images_per_s"], "wait": epoch["wait_share"]}
        row["train reference"] = reference_epoch(detectors[1].network, theirs, optimizer)
        # One network for both: how many boxes it finds decides how long it takes.
        row["infer"] = our_inference(detectors[0], plain)
        row["infer reference"] = reference_inference(detectors[0].network, still)
        rows.append(row)
    table = pd.DataFrame(rows)
    middle = table.median()
    note = f"{len(names)} frames of 1080p JPEG, {len(rows)} rounds, {torch.get_num_threads()} threads"
    told = {
        kind: f"{middle[kind]:.1f} against {middle[f'{kind} reference']:.1f} images/s" for kind in ("train", "infer")
    }
    ratios = {kind: statistics.median(table[kind] / table[f"{kind} reference"]) for kind in ("train", "infer")}
    once = f"decoding once takes ours {decoding / len(names) * 1000:.0f} ms a frame"
    loss = largest_difference(snapshot, plain, options)
    gpu = "no GPU here" if not torch.cuda.is_available() else "not measured by this benchmark yet"
    return [
        bar(
            "training, images/s against torchvision's loop",
            ratios["train"],
            ">= 1.0",
            f"{told['train']}; {note}; {once}",
        ),
        bar("inference, images/s against torchvision's loop", ratios["infer"], ">= 1.15", told["infer"]),
        bar("largest difference of losses, equal seeds", loss, "<= 0.001", f"{EQUAL_STEPS} steps"),
        bar("waiting for data, share of the step", float(middle["wait"]), "< 0.05"),
        bar("training on the GPU against torchvision's loop", None, ">= 1.5", f"skipped: {gpu}"),
    ]


def main() -> int:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="obdb_train_") as name:
        os.environ["OBDB_DATA_CACHE"] = name
        np.random.seed(0)
        torch.manual_seed(0)
        bars = measure(Path(name), quick=options.quick)
    report("train", bars, only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
