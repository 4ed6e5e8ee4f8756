"""A small search as a process of its own, for the test that kills it: folder, seconds of an epoch."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from obdb_lib.early_stopping import EarlyStopping
from obdb_lib.hpo import search
from obdb_lib.search_objective import Report
from obdb_lib.settings import Hyperparameters

EPOCHS, TRIALS = 4, 9


@dataclass
class Hill:
    """mAP by epoch that grows towards a top which lies at lr .01 and momentum .6; notes every epoch in a file."""

    folder: Path
    pause: float = 0.0
    name: str = "val_map"
    lower_is_better: bool = False
    epochs: int = EPOCHS

    def by_epoch(self, hyperparameters: Hyperparameters, report: Report, epochs: int) -> float:
        lr, momentum = hyperparameters.lr or 1.0, hyperparameters.momentum or 0.0
        top = 1 / (1 + 40 * (lr - 0.01) ** 2 / lr + (momentum - 0.6) ** 2)
        best = 0.0
        for epoch in range(1, epochs + 1):
            time.sleep(self.pause)
            best = max(best, top * epoch / epochs)
            with (self.folder / "epochs.txt").open("a") as file:
                file.write(f"{lr!r} {epoch}\n")
            if report(epoch, best):
                break
        return best


def main() -> None:
    folder, pause = Path(sys.argv[1]), float(sys.argv[2])
    folder.mkdir(exist_ok=True)
    result = search(
        Hill(folder, pause),
        {"lr": [1e-4, 1.0], "momentum": [0.1, 0.9]},
        max_num_trials=TRIALS,
        seed=3,
        record=folder / "hill_trials.json",
        settings_path=folder / "hill_settings.json",
        early_stopping=EarlyStopping(warmup_epochs=1, min_trials=3),
    )
    table = result.trials.drop(columns="seconds")
    (folder / "answer.json").write_text(json.dumps(json.loads(table.to_json(orient="records", double_precision=15))))


if __name__ == "__main__":
    main()
