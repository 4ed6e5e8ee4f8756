"""The whole loop on this machine: minutes, memory, mAP50 on the sample and on real photographs, time to the map.

``python -m tests.benchmarks.loop --json`` runs the five notebooks of ``make batch`` on the sample and, where the data
set is beside the checkout, on the sesame photographs, each from an empty data_cache; then opens notebook 02 in a
browser with the sample cached. ``--quick`` does the same on the tiny sample with a minimal training, so its mAP bars
are expected to fail; they are measured all the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from obdb_lib.batch import NOTEBOOKS
from obdb_lib.stages import STAGES
from tests.benchmarks._bars import Bar, arguments, bar, report
from tests.conftest import PROJECT, SHARED
from tests.worlds import tiny_settings

SESAME = SHARED / "data" / "sesame"


def run_batch(cache: Path, *options: str) -> dict[str, Any]:
    """One batch in a process of its own, as ``make batch`` starts it; its summary."""
    out = cache / "run"
    command = [sys.executable, "-m", "obdb_lib.batch", "--out", str(out), *options]
    environment = {**os.environ, "OBDB_DATA_CACHE": str(cache)}
    subprocess.run(command, cwd=PROJECT, env=environment, check=False, stdout=sys.stderr)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


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


def main() -> int:
    options = arguments(__doc__)
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory(prefix="obdb_loop_") as name:
        work = Path(name)
        small = ["--set", "SAMPLE_SIZE=tiny", "--set", f"SETTINGS={tiny_settings(work)}"] if options.quick else []
        cache = work / "sample"
        cache.mkdir()
        sample = run_batch(cache, *small)
        bars.append(bar("make batch on the sample, minutes", sample["seconds"] / 60, "< 12"))
        bars.append(bar("make batch on the sample, peak GB", sample["peak_memory_gb"], "< 6"))
        bars.append(bar("val mAP50 on the sample, split by video", map50(sample), ">= 0.5"))
        bars.append(_sesame(work, quick=options.quick))
        value, note = seconds_to_map(cache, work / "browser")
        bars.append(bar("notebook 02, seconds to the map", value, "< 15", note))
        for folder in (cache, work / "sesame"):
            environment = {**os.environ, "OBDB_DATA_CACHE": str(folder)}
            subprocess.run([sys.executable, "-m", "obdb_lib.cli.lab", "stop"], env=environment, stdout=sys.stderr)
    report("loop", bars, only_json=options.json)
    return 0


def _sesame(work: Path, *, quick: bool) -> Bar:
    name, want = "val mAP50 on sesame, split by duplicate groups", ">= 0.5"
    if quick:
        return bar(name, None, want, "739 photographs do not fit into a minute; run without --quick")
    if not SESAME.is_dir():
        return bar(name, None, want, "the data set is not beside this checkout")
    cache = work / "sesame"
    cache.mkdir()
    return bar(name, map50(run_batch(cache, "--data", str(SESAME))), want)


if __name__ == "__main__":
    sys.exit(main())
