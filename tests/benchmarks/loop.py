"""The whole loop on this machine: minutes, memory, mAP50 on the sample and on real photographs, time to the map.

``python -m tests.benchmarks.loop --json`` runs the five notebooks of ``make batch`` on the sample and, where the data
set is beside the checkout, on the sesame photographs, each from an empty data_cache; then opens notebook 02 in a
browser with the sample cached. ``--quick`` measures the same bars on the tiny sample and ten of the photographs, with
the shortest training there is, each in one kernel, both at once: its mAP bars are expected to fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import sync_playwright
from traitlets.config import Config

from obdb_lib import mongod, paths
from obdb_lib.batch import KERNEL, KERNEL_CONFIG, NOTEBOOKS, MemoryWatch
from obdb_lib.parameters import check_parameters
from obdb_lib.stages import STAGES, read_result
from tests.benchmarks._bars import arguments, bar, report
from tests.browser.harness import CHROMIUM, CHROMIUM_FLAGS, MAP_CANVAS, LabPage, LabServer
from tests.conftest import PROJECT, SHARED
from tests.worlds import tiny_settings

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


def quick_batch(cache: Path, parameters: Mapping[str, object]) -> dict[str, Any]:
    """The cells of all five notebooks in one kernel; a summary as of a batch.

    One kernel imports and compiles once, which is most of the time of a run as small as this.
    """
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=600, kernel_name=KERNEL, config=Config(KERNEL_CONFIG))
    client.resources = {"metadata": {"path": str(NOTEBOOKS)}}
    folder = cache / "lab"  # where notebook 02 in the browser looks for what notebook 01 collected
    folder.mkdir(parents=True)
    started = time.monotonic()
    with client.setup_kernel(env={**os.environ, "OBDB_DATA_CACHE": str(cache)}), MemoryWatch() as memory:
        by_stage = check_parameters(parameters, STAGES, NOTEBOOKS)
        for stage in STAGES:
            own = {**by_stage[stage], "INTERACTIVE": False, "RUN_DIR": str(folder)}
            notebook = parameterize_notebook(load_notebook_node(str(NOTEBOOKS / f"{stage}.ipynb")), own)
            client.nb = notebook
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
    numbers = [{"stage": stage, "numbers": read_result(folder, stage)["summary"]} for stage in STAGES]
    return {"seconds": time.monotonic() - started, "peak_memory_gb": memory.peak / 1e9, "stages": numbers}


def few_photographs(folder: Path) -> Path | None:
    """Every 75th photograph of sesame with its boxes, as a COCO folder; None where the data set is not there."""
    if not SESAME.is_dir():
        return None
    folder.mkdir()
    (folder / "images").symlink_to(SESAME / "images")
    coco = json.loads((SESAME / "annotations.json").read_text())
    coco["images"] = coco["images"][::75]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] in kept]
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


def map50(summary: dict[str, Any]) -> float | None:
    """val mAP50 of the run's detector, as notebook 04 judged it."""
    numbers = {stage["stage"]: stage["numbers"] for stage in summary["stages"]}
    value = numbers["04_evaluate"].get("AP50")
    return None if value is None else float(value)


def start_lab(cache: Path, work: Path) -> LabServer:
    """A JupyterLab with notebook 02 alone, over the sample in ``cache``."""
    root = work / "notebooks"
    root.mkdir(parents=True)
    shutil.copy(NOTEBOOKS / f"{STAGES[1]}.ipynb", root)
    return LabServer(root, work, {"OBDB_DATA_CACHE": str(cache)})


def seconds_to_map(server: LabServer) -> tuple[float | None, str]:
    """From "run all" in notebook 02 to the map on the screen, the sample cached; a fresh kernel."""
    if not CHROMIUM.exists():
        return None, f"no browser at {CHROMIUM}"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
        page = LabPage(server, chromium, server.work)
        page.open_notebook(f"{STAGES[1]}.ipynb")
        started = time.monotonic()
        page.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.page.wait_for_selector(MAP_CANVAS, timeout=180_000)
        spent = time.monotonic() - started
        page.close()
        chromium.close()
        return spent, ""


def measure(work: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Summaries of both batches: the sample's, and that of sesame (None where the data set is not there)."""
    for name in ("sample", "sesame"):
        (work / name).mkdir()
    sample = run_batch(work / "sample")
    return sample, run_batch(work / "sesame", "--data", str(SESAME)) if SESAME.is_dir() else None


def measure_quickly(work: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The same of the tiny sample and a few photographs, both at once: small runs mostly import, on one core."""
    small: dict[str, object] = {"SETTINGS": str(tiny_settings(work, **SHORTEST)), "FOLDS": 0, "HIDE_SHARES": []}
    small["COMPARE_CROPS"] = False
    photographs = few_photographs(work / "photographs")
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        sample = pool.submit(quick_batch, work / "sample", {**small, "SAMPLE_SIZE": "tiny"})
        if photographs is None:
            return sample.result(), None
        sesame = pool.submit(quick_batch, work / "sesame", {**small, "DATA": str(photographs)})
        return sample.result(), sesame.result()


def main() -> int:
    options = arguments(__doc__)
    paths.share_cores()
    with tempfile.TemporaryDirectory(prefix="obdb_loop_") as name:
        work = Path(name)
        server = start_lab(work / "sample", work / "browser")
        try:
            sample, sesame = measure_quickly(work) if options.quick else measure(work)
            value, note = seconds_to_map(server)
        finally:
            server.stop()
        absent = "" if sesame else "the data set is not beside this checkout"
        bars = [
            bar("make batch on the sample, minutes", sample["seconds"] / 60, "< 12"),
            bar("make batch on the sample, peak GB", sample["peak_memory_gb"], "< 6"),
            bar("val mAP50 on the sample, split by video", map50(sample), ">= 0.5"),
            bar("val mAP50 on sesame, split by duplicate groups", sesame and map50(sesame), ">= 0.5", absent),
            bar("notebook 02, seconds to the map", value, "< 15", note),
        ]
        for folder in (work / "sample", work / "sesame"):
            os.environ["OBDB_DATA_CACHE"] = str(folder)
            mongod.stop()
    report("loop", bars, only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
