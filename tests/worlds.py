"""The lab on a tiny sample: settings and notebook parameters that make the whole loop run in a minute or two."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import PROJECT

LOW_SCORE = 0.05
"""A detector trained for seconds on 32 frames is unsure of everything; real runs take the default of notebook 05."""


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
    """Notebook parameters of a tiny run."""
    return {"SAMPLE_SIZE": "tiny", "SETTINGS": str(tiny_settings(folder)), "MIN_SCORE": LOW_SCORE}
