"""Our recommended CPU recipe against upstream's after equal CPU time, on real photographs.

Both train on sesame (739 photographs, groups of near duplicates kept whole) for ten minutes of one core, loading
included, judging not; one thread each. Ours is settings.cpu.json through ``fit``, with as many epochs as the budget
holds. Upstream's is weed_training's: resnet18-FPN at torchvision's default size (800..1333 px), batches of two, PIL
decoding in every epoch, mirrored and distorted in colour, normalised in the dataset and again in the model, SGD with
StepLR as in its settings. No ImageNet weights of resnet18 are to be had offline and none of ours fit into it (only
biases of the heads have the same shape), so it begins from random numbers.
``--quick``: every 60th photograph and 4 seconds each, upstream's judged once; its values fail.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from obdb_lib.dataset import DetectionDataset, Target, collate
from obdb_lib.evaluation import coco_metrics, detect_dataset
from obdb_lib.models import Detector, build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.settings import Settings
from obdb_lib.snapshots import Snapshot
from obdb_lib.training import fit
from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD
from tests.benchmarks._bars import arguments, bar, report
from tests.benchmarks._sesame import SESAME, dataset, frame_store, sesame_snapshot, sesame_split
from tests.conftest import PROJECT

BUDGET_S, QUICK_S = 600.0, 4.0
"""CPU seconds of one core for each training."""
SPARE = 0.97
"""Epochs are planned for this share of the budget; the rest is for a slower machine than the first steps showed."""
PROBE_STEPS = 12
UPSTREAM_SIZE = (800, 1333)
UPSTREAM = {"lr": 0.01, "momentum": 0.1, "weight_decay": 0.0007004410071105531, "step_size": 5, "gamma": 0.9}
"""The block resnet18 of upstream's settings_file_train_val.json."""
UPSTREAM_BATCH = 2
UPSTREAM_MARKS = (0.5, 1.0)
"""Shares of the budget at which upstream's is judged; each judging of val at its size takes minutes."""


@dataclass
class Curve:
    """val mAP50 over CPU time.

    Attributes:
        points: (CPU seconds of training so far, frames trained on, val mAP50).
    """

    points: list[tuple[float, int, float]] = field(default_factory=list)
    note: str = ""

    @property
    def best(self) -> float:
        return max((value for _, _, value in self.points), default=float("nan"))

    def text(self) -> str:
        """For a bar's note."""
        shown = ", ".join(f"{seconds:.0f} s {frames} frames {value:.3f}" for seconds, frames, value in self.points)
        return f"{self.note}; {shown}"


class Clock:
    """CPU time of training alone: runs from ``go`` to ``tick``; what happens in between others does not count."""

    def __init__(self) -> None:
        self.spent, self._since = 0.0, time.process_time()

    def go(self) -> None:
        self._since = time.process_time()

    def tick(self) -> float:
        now = time.process_time()
        self.spent += now - self._since
        self._since = now
        return self.spent


def map50(detector: Detector, val: DetectionDataset) -> float:
    """mAP50 on val at the size of ``val``."""
    found = detect_dataset(detector, val, device="cpu")
    return float(coco_metrics(found, val.truth, val.img_paths, val.classes).ap50)


def ours(snapshot: Snapshot, parts: dict[str, list[str]], budget: float, work: str) -> Curve:
    """settings.cpu.json for ``budget`` CPU seconds."""
    torch.set_num_threads(1)
    settings = Settings.load(PROJECT / "settings.cpu.json")
    (variant,) = settings.variants
    size, cache = settings.image_size, Path(work) / "frames"
    detector = build_detector(variant, snapshot.classes, image_size=size, seed=settings.seed)
    train = dataset(snapshot, parts["train"], size, cache, augment=True, seed=settings.seed)
    val = dataset(snapshot, parts["val"], size, cache, augment=False)
    options = TrainingOptions.from_settings(settings, variant, device="cpu", workers=0)
    clock, curve = Clock(), Curve()
    per_frame = _seconds_per_frame(detector, train, replace(options, epochs=1), Path(work) / "probe", clock)
    epochs = max(int(SPARE * (budget - clock.tick()) / per_frame / len(train)), 1)
    print(f"ours: {per_frame:.3f} CPU seconds a frame, {epochs} epochs", file=sys.stderr, flush=True)
    steps: list[int] = []

    def stop() -> bool:
        steps.append(1)
        return clock.tick() > budget

    def judged(row: dict[str, float]) -> None:
        curve.points.append((clock.spent, int(row["epoch"]) * len(train), row["val_ap50"]))
        print(f"ours: {curve.points[-1]}", file=sys.stderr, flush=True)
        clock.go()

    start = build_detector(variant, snapshot.classes, image_size=size, seed=settings.seed)
    plan = replace(options, epochs=epochs, max_plateau_count=epochs)
    clock.go()
    result = fit(start, train, val, plan, save_dir=Path(work) / "ours", stop=stop, on_epoch=judged)
    if result.partial:
        curve.points.append((clock.spent, len(steps) * plan.batch_size, map50(start, val)))
    curve.note = f"{variant} at {size} px, batch {plan.batch_size}, {epochs} epochs planned, {start.spec.weights}"
    return curve


def _seconds_per_frame(
    detector: Detector, train: DetectionDataset, options: TrainingOptions, folder: Path, clock: Clock
) -> float:
    """From a few steps on a network that is thrown away; they count as training."""
    ticks: list[float] = []
    steps = min(PROBE_STEPS, len(train) // options.batch_size - 1)  # the epoch must not end: val is no real one

    def stop() -> bool:
        ticks.append(clock.tick())
        return len(ticks) > steps

    fit(detector, train, train_less(train), options, save_dir=folder, stop=stop)
    return (ticks[-1] - ticks[0]) / (len(ticks) - 1) / options.batch_size


def train_less(train: DetectionDataset) -> DetectionDataset:
    """A val part for the probe, which is never judged: one frame under another name is enough."""
    other = DetectionDataset.__new__(DetectionDataset)
    other.__dict__.update(train.__dict__)
    other.img_paths = ["none"]
    return other


class UpstreamDataset(Dataset[tuple[Tensor, Target]]):
    """Frames as upstream's WeedDataOD gives them: decoded by PIL each time, mirrored, distorted, normalised."""

    def __init__(self, snapshot: Snapshot, img_paths: list[str]) -> None:
        self.snapshot, self.img_paths, self.frames = snapshot, img_paths, frame_store()
        self.label = {name: number for number, name in enumerate(snapshot.classes, 1)}
        self.change = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomPhotometricDistort()])
        self.normalise = v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))

    def __len__(self) -> int:
        return len(self.img_paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        from torchvision import tv_tensors

        with Image.open(self.frames.path(self.img_paths[index])) as file:
            pixels = np.array(file.convert("RGB")) / 255.0
        image = torch.as_tensor(np.transpose(pixels, (2, 0, 1)), dtype=torch.float32)
        boxes = self.snapshot.boxes(self.img_paths[index])
        wrapped = tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes.xyxy.copy()), format="XYXY", canvas_size=(image.shape[1], image.shape[2])
        )
        labels = torch.tensor([self.label[str(name)] for name in boxes.classes], dtype=torch.int64)
        changed, target = self.change(tv_tensors.Image(image), {"boxes": wrapped, "labels": labels})
        plain = {"boxes": target["boxes"].as_subclass(Tensor), "labels": target["labels"]}
        return self.normalise(changed.as_subclass(Tensor)), plain


def upstreams(snapshot: Snapshot, parts: dict[str, list[str]], budget: float, work: str) -> Curve:
    """weed_training's loop for ``budget`` CPU seconds. Its two loader processes would hide their CPU time, so it loads
    in the training process; what is shuffled and drawn hangs on a fixed seed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    detector = build_detector("resnet18", snapshot.classes, image_size=UPSTREAM_SIZE[1], pretrained=False)
    network = detector.network
    network.transform.min_size, network.transform.max_size = (UPSTREAM_SIZE[0],), UPSTREAM_SIZE[1]
    loader = DataLoader(
        UpstreamDataset(snapshot, parts["train"]), UPSTREAM_BATCH, shuffle=True, drop_last=True, collate_fn=collate
    )
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=UPSTREAM["lr"],
        momentum=UPSTREAM["momentum"],
        weight_decay=UPSTREAM["weight_decay"],
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, int(UPSTREAM["step_size"]), UPSTREAM["gamma"])
    val = dataset(snapshot, parts["val"], UPSTREAM_SIZE[1], Path(work) / "frames", augment=False)
    clock, curve, frames = Clock(), Curve(), 0
    for mark in UPSTREAM_MARKS if budget > QUICK_S else UPSTREAM_MARKS[-1:]:
        while clock.tick() < mark * budget:
            seen, whole = _upstream_epoch(network, loader, optimizer, clock, mark * budget)
            frames += seen
            if whole:
                schedule.step()
        # Judged as it was trained: pictures are normalised before the model does it again.
        hook = network.transform.register_forward_pre_hook(_normalise_first)
        curve.points.append((clock.spent, frames, map50(detector, val)))
        hook.remove()
        clock.go()
    curve.note = f"resnet18-FPN at {UPSTREAM_SIZE[0]}..{UPSTREAM_SIZE[1]} px, batch 2, {detector.spec.weights}"
    return curve


def _upstream_epoch(
    network: torch.nn.Module,
    loader: DataLoader[tuple[Tensor, Target]],
    optimizer: torch.optim.Optimizer,
    clock: Clock,
    budget: float,
) -> tuple[int, bool]:
    """One epoch, or what is left of the budget; the frames seen, and whether it came to the epoch's end."""
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats = False
    frames = 0
    for images, targets in loader:
        optimizer.zero_grad()
        loss = sum(network(list(images), list(targets)).values())
        loss.backward()
        optimizer.step()
        frames += len(images)
        if clock.tick() > budget:
            return frames, False
    return frames, True


def _normalise_first(module: torch.nn.Module, given: tuple[list[Tensor], object]) -> tuple[list[Tensor], object]:
    normalise = v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))
    return [normalise(image) for image in given[0]], given[1] if len(given) > 1 else None


def main() -> int:
    options = arguments(__doc__)
    names = ("ours, val mAP50 on sesame after 10 CPU minutes", "ours minus upstream's, val mAP50")
    if not SESAME.is_dir():
        absent = "the data set is not beside this checkout"
        report(
            "recipe",
            [bar(names[0], None, ">= 0.65", absent), bar(names[1], None, ">= 0.4", absent)],
            only_json=options.json,
        )
        return 0
    budget = QUICK_S if options.quick else BUDGET_S
    with tempfile.TemporaryDirectory(prefix="obdb_recipe_") as work:
        os.environ["OBDB_DATA_CACHE"] = work
        snapshot = sesame_snapshot(60 if options.quick else 1)
        split = sesame_split(snapshot, frame_store())
        parts = {name: split.part(name) for name in ("train", "val")}
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            pair = [pool.submit(run, snapshot, parts, budget, work) for run in (ours, upstreams)]
            mine, theirs = (one.result() for one in pair)
    if not options.json:
        print(json.dumps({"ours": mine.points, "upstream": theirs.points}))
    sizes = f"{len(parts['train'])} train, {len(parts['val'])} val photographs"
    bars = [
        bar(names[0], mine.best, ">= 0.65", f"{sizes}; {mine.text()}"),
        bar(names[1], mine.best - theirs.best, ">= 0.4", theirs.text()),
    ]
    report("recipe", bars, only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
