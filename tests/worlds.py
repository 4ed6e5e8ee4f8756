"""The lab on a tiny sample: settings and notebook parameters that make the whole loop run in a minute or two."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import PROJECT


def tiny_settings(folder: Path, **own: object) -> Path:
    """settings.cpu.json made small, with keys of your ``own``, as a file in ``folder``."""
    settings = json.loads((PROJECT / "settings.cpu.json").read_text())
    settings |= {
        "image_size": 256,
        "max_train_epochs": 6,
        "fake_dataset_len": 16,
        "search_epochs": 1,
        "max_num_trials": 2,
        **own,
    }
    path = folder / "settings.json"
    path.write_text(json.dumps(settings))
    return path


def tiny_parameters(folder: Path) -> dict[str, object]:
    """Notebook parameters of a tiny run: no detectors over folds, and boxes hidden in one way."""
    quick = {"FOLDS": 0, "HIDE_WAYS": ["random"], "COMPARE_CROPS": False}
    return {"SAMPLE_SIZE": "tiny", "SETTINGS": str(tiny_settings(folder)), **quick}
