"""The rooms of DESIGN.md: who may import whom, who may read the environment, and what stays out of the library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

ROWS: list[tuple[str, ...]] = [
    (
        *("errors", "paths", "progress", "cache", "naming", "records", "settings", "boxes", "stages", "images"),
        *("frame_matching", "task_change", "collector", "cells"),
        *("variants", "settings_mistakes", "settings_blocks"),
        *("balance", "balance_problem", "balance_search", "balance_bounds"),
    ),
    ("box_ids", "mongo", "mongod", "snapshots", "roll_forward", "whole_tasks", "store", "formats", "sample"),
    ("frames", "weights", "networks", "crops", "vector_store", "augmentation", "dataset", "collect", "exports"),
    (
        *("embedders", "flow", "embeddings", "own_vectors", "embedder_choice"),
        *("frame_features", "frame_match", "frame_candidates", "frame_proofs", "exact_copies", "duplicates"),
        *("reduction", "tsne", "umap_layout", "projection", "map_quality", "diffusion", "clusters"),
        *("grouping", "split_builder", "splits", "live_numbers", "split_draft", "given", "manifest", "migration"),
        *("leaks", "borders", "nearest", "fairness", "findings", "box_statistics", "chosen_split"),
        "kept_map",
    ),
    (
        *(
            "backbones",
            "families",
            "takeover",
            "start_weights",
            "models",
            "checkpoints",
            "distributed",
            "trainer",
            "steps",
            "batch_size",
        ),
        *("epochs", "validation", "runlog", "run_files", "board", "training", "hpo", "sherpa_door", "machine"),
        *("evaluation", "options", "detections", "before_training", "tuning", "detector_embedder", "choices"),
        *("detecting", "matches", "bootstrap", "intervals", "curves", "confusion", "voc", "cluster_scores", "honest"),
        *("metric_figures", "stored_runs"),
        *("gaussian", "bayesian", "search_space", "search_algorithms", "search_objective", "search_record"),
        *("search_report", "search_run", "early_stopping", "dashboard", "full_runs"),
        *("fold_plan", "fold_training", "kept_detections", "trust", "out_of_fold", "fix_effect", "fix_words"),
    ),
    (
        *("explained", "candidates", "twin_frames", "evidence", "likeness", "acceptance"),
        *("finder", "ranking", "hide_boxes", "look_again"),
        *("suggest", "review", "decision_log", "repair", "static_scene", "memory", "recorded", "rules"),
    ),
    ("cvat",),
    ("annotate", "dataset_files", "parameters", "batch", "cli"),
]
ROOM_ROW = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
# cache: files that appear whole or not at all.
WIDGETS_MAY_IMPORT = {"boxes", "cache", "errors", "progress", "review", "split_draft", "splits"}
FRONT_END = {"widgets", "IPython", "ipywidgets", "anywidget", "jscatter", "notebook", "jupyterlab"}
ONLY_DOOR = {
    "pymongo": {"store", "mongo", "roll_forward"},
    "sherpa": {"sherpa_door"},
    "cvat_sdk": {"cvat"},
    "requests": set(),
    "papermill": {"batch"},
}

LIBRARY = sorted((PROJECT / "obdb_lib").rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PROJECT / "obdb_lib").parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, int]]:
    """Every imported module with its line; inside functions, too, but not what is for type checkers alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def test_every_room_has_its_row() -> None:
    rooms = {room_of(path) for path in LIBRARY} - {"__init__"}
    assert rooms == set(ROOM_ROW), "a new module needs its row here and in the README"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_go_upwards_only(path: Path) -> None:
    own = ROOM_ROW.get(room_of(path), -1)
    wrong = []
    for name, line in imports_of(path):
        parts = name.split(".")
        if parts[0] == "obdb_lib" and len(parts) > 1 and ROOM_ROW.get(parts[1], -1) > own:
            wrong.append(f"line {line} imports {name}")
        if parts[0] in FRONT_END:
            wrong.append(f"line {line} imports {name}: no front end in the library")
        if parts[0] in ONLY_DOOR and room_of(path) not in ONLY_DOOR[parts[0]]:
            wrong.append(f"line {line} imports {name}: only {ONLY_DOOR[parts[0]] or 'nobody'} may")
    assert not wrong


@pytest.mark.parametrize("path", sorted((PROJECT / "widgets").glob("*.py")), ids=lambda path: path.name)
def test_widgets_import_little_of_the_library(path: Path) -> None:
    rooms = {name.split(".")[1] for name, _ in imports_of(path) if name.startswith("obdb_lib.")}
    assert rooms <= WIDGETS_MAY_IMPORT


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PROJECT)))
def test_only_paths_reads_the_environment(path: Path) -> None:
    text = path.read_text()
    if room_of(path) not in ("paths", "distributed"):  # torchrun talks to its processes through the environment
        assert "os.environ" not in text
        assert "getenv" not in text


def test_importing_the_library_loads_neither_torch_nor_jupyter() -> None:
    script = (
        "import sys, obdb_lib, obdb_lib.store, obdb_lib.splits, obdb_lib.embeddings, obdb_lib.review; "
        "print([m for m in ('torch', 'IPython', 'ipywidgets', 'umap', 'sherpa') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == "[]"


def test_no_module_is_loaded_by_nobody() -> None:
    """Dead rooms are taken down: each module is imported by another one, by a notebook, or is a command."""
    used = {name for path in [*LIBRARY, *(PROJECT / "widgets").glob("*.py")] for name, _ in imports_of(path)}
    notebooks = "".join(path.read_text() for path in (PROJECT / "notebooks").glob("*.ipynb"))
    for path in LIBRARY:
        if path.name == "__init__.py":
            continue
        module = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        known = any(name == module or name.startswith(f"{module}.") for name in used)
        assert known or module in notebooks or '__name__ == "__main__"' in path.read_text(), module
