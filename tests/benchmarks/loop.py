"""The whole loop on this machine: minutes, memory, mAP50 on the sample and on real photographs, time to the map.

``python -m tests.benchmarks.loop --json`` runs the five notebooks of ``make batch`` on the sample and, where the data
set is beside the checkout, on the sesame photographs, each from an empty data_cache; then opens notebook 02 in a
browser with the sample cached. ``--quick`` measures the same bars on the tiny sample and a few of the photographs, with
the shortest training there is, all notebooks in one kernel: its mAP bars are expected to fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

from obdb_lib import paths
from obdb_lib.batch import KERNEL, KERNEL_CONFIG, NOTEBOOKS, MemoryWatch
from obdb_lib.parameters import check_parameters
from obdb_lib.stages import STAGES, read_result
from tests.benchmarks._bars import arguments, bar, report
from tests.conftest import PROJECT, SHARED
from tests.worlds import LOW_SCORE, tiny_settings

SESAME = SHARED / "data" / "sesame"
SHORTEST = {"image_size": 128, "max_train_epochs": 1, "max_num_trials": 1}


def run_batch(cache: Path, *options: str) -> dict[str, Any]:
    """One batch in a process of its own, as ``make batch`` starts it; its summary."""
    out = cache / "run"
    command = [sys.executable, "-m", "obdb_lib.batch", "--out", str(out), *options]
    environment = {**os.environ, "OBDB_DATA_CACHE": str(cache)}
    subprocess.run(command, cwd=PROJECT, env=environment, check=False, stdout=sys.stderr)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def quick_batches(cache: Path, runs: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """The cells of all five notebooks once for each of the parameter sets, in one kernel; summaries as of a batch.

    One kernel imports and compiles once, which is most of the time of runs as small as these.
    """
    summaries = []
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=600, kernel_name=KERNEL, config=Config(KERNEL_CONFIG))
    client.resources = {"metadata": {"path": str(NOTEBOOKS)}}
    with client.setup_kernel(env={**os.environ, "OBDB_DATA_CACHE": str(cache)}), MemoryWatch() as memory:
        for parameters in runs:
            started = time.monotonic()
            folder = cache / "lab"  # where notebook 02 in the browser looks for what notebook 01 collected
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            by_stage = check_parameters(parameters, STAGES, NOTEBOOKS)
            for stage in STAGES:
                own = {**by_stage[stage], "INTERACTIVE": False, "RUN_DIR": str(folder)}
                notebook = parameterize_notebook(load_notebook_node(str(NOTEBOOKS / f"{stage}.ipynb")), own)
                client.nb = notebook
                for index, cell in enumerate(notebook.cells):
                    client.execute_cell(cell, index)
            numbers = [{"stage": stage, "numbers": read_result(folder, stage)["summary"]} for stage in STAGES]
            seconds = time.monotonic() - started
            summaries.append({"seconds": seconds, "peak_memory_gb": memory.peak / 1e9, "stages": numbers})
    return summaries


def few_photographs(folder: Path) -> Path | None:
    """Every 25th photograph of sesame with its boxes, as a COCO folder; None where the data set is not there."""
    if not SESAME.is_dir():
        return None
    folder.mkdir()
    (folder / "images").symlink_to(SESAME / "images")
    coco = json.loads((SESAME / "annotations.json").read_text())
    coco["images"] = coco["images"][::25]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] in kept]
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


def map50(summary: dict[str, Any]) -> float | None:
    """val mAP50 of the run's detector, as notebook 04 judged it."""
    numbers = {stage["stage"]: stage["numbers"] for stage in summary["stages"]}
    value = numbers["04_evaluate"].get("AP50")
    return None if value is None else float(value)


def seconds_to_map(cache: Path, work: Path) -> tuple[float | None, str]:
    """From "run all" in notebook 02 to the map on the screen, the sample cached; a fresh JupyterLab and kernel."""
    from playwright.sync_api import sync_playwright

    from tests.browser.harness import CHROMIUM, CHROMIUM_FLAGS, MAP_CANVAS, LabPage, LabServer

    if not CHROMIUM.exists():
        return None, f"no browser at {CHROMIUM}"
    root = work / "notebooks"
    root.mkdir(parents=True)
    shutil.copy(NOTEBOOKS / f"{STAGES[1]}.ipynb", root)
    server = LabServer(root, work, {"OBDB_DATA_CACHE": str(cache)})
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
            page = LabPage(server, chromium, work)
            page.open_notebook(f"{STAGES[1]}.ipynb")
            started = time.monotonic()
            page.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
            page.page.wait_for_selector(MAP_CANVAS, timeout=180_000)
            spent = time.monotonic() - started
            page.close()
            chromium.close()
            return spent, ""
    finally:
        server.stop()


def measure(work: Path, *, quick: bool) -> tuple[Path, dict[str, Any], dict[str, Any] | None]:
    """Both batches: the sample's data_cache, its summary and that of sesame (None where the data set is not there)."""
    cache = work / "sample"
    cache.mkdir()
    if quick:
        small: dict[str, object] = {"SETTINGS": str(tiny_settings(work, **SHORTEST)), "MIN_SCORE": LOW_SCORE}
        photographs = few_photographs(work / "photographs")
        # The sample comes last: notebook 02 in the browser opens what was collected last.
        runs = [*([{**small, "DATA": str(photographs)}] if photographs else []), {**small, "SAMPLE_SIZE": "tiny"}]
        *sesame, sample = quick_batches(cache, runs)
        return cache, sample, sesame[0] if sesame else None
    sample = run_batch(cache)
    if not SESAME.is_dir():
        return cache, sample, None
    other = work / "sesame"
    other.mkdir()
    return cache, sample, run_batch(other, "--data", str(SESAME))


def main() -> int:
    options = arguments(__doc__)
    paths.share_cores()
    with tempfile.TemporaryDirectory(prefix="obdb_loop_") as name:
        work = Path(name)
        cache, sample, sesame = measure(work, quick=options.quick)
        value, note = seconds_to_map(cache, work / "browser")
        absent = "" if sesame else "the data set is not beside this checkout"
        bars = [
            bar("make batch on the sample, minutes", sample["seconds"] / 60, "< 12"),
            bar("make batch on the sample, peak GB", sample["peak_memory_gb"], "< 6"),
            bar("val mAP50 on the sample, split by video", map50(sample), ">= 0.5"),
            bar("val mAP50 on sesame, split by duplicate groups", sesame and map50(sesame), ">= 0.5", absent),
            bar("notebook 02, seconds to the map", value, "< 15", note),
        ]
        for folder in (cache, work / "sesame"):
            environment = {**os.environ, "OBDB_DATA_CACHE": str(folder)}
            subprocess.run([sys.executable, "-m", "obdb_lib.cli.lab", "stop"], env=environment, stdout=sys.stderr)
    report("loop", bars, only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
