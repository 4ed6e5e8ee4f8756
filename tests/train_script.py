"""A small training as a process of its own, for the tests that kill it or start several.

``python -m tests.train_script``: folder, epochs, resume (0 or 1), seconds to sleep after each step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from obdb_lib.dataset import DetectionDataset
from obdb_lib.models import build_detector
from obdb_lib.options import TrainingOptions
from obdb_lib.training import fit
from tests.tiny_field import CLASSES, make_field

TRAIN, VAL = 8, 3


def datasets(folder: Path) -> tuple[DetectionDataset, DetectionDataset]:
    frames, img_paths, truth = make_field(folder / "images", TRAIN + VAL, size=(64, 64))
    where = {"image_size": 64, "cache_dir": folder / "cache"}
    train = DetectionDataset(frames, img_paths[:TRAIN], truth, CLASSES, augment=True, **where)
    return train, DetectionDataset(frames, img_paths[TRAIN:], truth, CLASSES, **where)


def main() -> None:
    folder, epochs, resume, pause = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", float(sys.argv[4])
    torch.set_num_threads(1)
    rank = os.environ.get("RANK", "0")
    train, val = datasets(folder / f"data{rank}")

    def slow_step() -> bool:
        with (folder / "steps.txt").open("a") as file:
            file.write("step\n")
        time.sleep(pause)
        return False

    result = fit(
        build_detector("mobilenet_v2", CLASSES, image_size=64),
        train,
        val,
        TrainingOptions(epochs=epochs, batch_size=2, device="cpu", val_loss=True),
        save_dir=folder / "out",
        resume=resume,
        stop=slow_step,
    )
    answer = {"rank": rank, "best": result.best_map50, "loss": result.history["loss"].tolist(), "run_id": result.run_id}
    answer["val"] = result.history[["val_ap50", "val_ap", "val_loss"]].to_numpy().tolist() if rank == "0" else []
    (folder / f"answer{rank}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
