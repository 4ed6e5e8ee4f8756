"""All five notebooks headless: ``python -m obdb_lib.batch`` (``make batch``).

Parameters are checked by name and type against the notebooks' own parameter cells before anything runs. Executed
notebooks, HTML pages and a summary go to ``data_cache/runs/<time>/``.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from obdb_lib import paths
from obdb_lib.cache import atomic_writer, write_json
from obdb_lib.errors import BatchError, CacheError, ObdbError
from obdb_lib.parameters import check_parameters, given_parameters
from obdb_lib.stages import STAGES, read_result

logger = logging.getLogger(__name__)

NOTEBOOKS = paths.PROJECT_ROOT / "notebooks"
KERNEL = "python3"
KERNEL_CONFIG = {"KernelManager": {"transport_encryption": "auto"}}
"""Talk with a kernel is encrypted even on loopback, where other users of the machine could listen."""
SAVE_EVERY_S = 15
"""The output notebook is saved this often while a long cell runs."""
FAILED, WRONG_PARAMETERS = 1, 2


@dataclass
class StageSummary:
    """One notebook of a run: ``state`` is ok, failed or not run; ``numbers`` are what its last cell reported.

    ``error`` is the whole message of a failure; ``page_error`` says why there is no HTML page.
    """

    stage: str
    state: str = "not run"
    seconds: float = 0.0
    error: str = ""
    page_error: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass
class BatchSummary:
    """A whole run; ``error`` says what went wrong outside the notebooks (a full disk, say)."""

    folder: Path
    stages: list[StageSummary]
    seconds: float = 0.0
    peak_memory_gb: float = 0.0
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and all(stage.state == "ok" and not stage.page_error for stage in self.stages)

    def text(self) -> str:
        """The table that is printed at the end, and below it every error in full."""
        lines = [f"{'notebook':<26}{'state':<9}{'seconds':>8}  key numbers"]
        for stage in self.stages:
            numbers = ", ".join(f"{key} {_short(value)}" for key, value in stage.numbers.items())
            notes = ["the error stands below" if stage.error else numbers, stage.page_error]
            row = f"{stage.stage:<26}{stage.state:<9}{stage.seconds:>8.0f}  {'; '.join(filter(None, notes))}"
            lines.append(row.rstrip())
        lines.append(f"{self.seconds:.0f} s in all, {self.peak_memory_gb:.1f} GB at most. Pages: {self.folder}")
        lines += [f"\n{stage.stage} failed: {stage.error}" for stage in self.stages if stage.error]
        return "\n".join([*lines, *([f"\n{self.error}"] if self.error else [])])


def run_batch(
    parameters: Mapping[str, object],
    *,
    stages: Sequence[str] = STAGES,
    folder: Path | None = None,
    notebooks: Path = NOTEBOOKS,
) -> BatchSummary:
    """Run notebooks one after the other with the same parameters; the first that fails ends the run.

    Args:
        parameters: by notebook parameter name; each goes to every notebook that has it.
        folder: where results go; ``data_cache/runs/<time>`` when None.

    Returns:
        The summary, also of a run that failed: once it began, nothing is raised.

    Raises:
        BatchError: a parameter or the settings file is wrong, or the folder cannot be used (nothing was run).
        CacheError: data_cache cannot be used (nothing was run).
    """
    by_stage = check_parameters(parameters, stages, notebooks)
    folder = _make_folder(folder)
    summary = BatchSummary(folder, [StageSummary(stage) for stage in stages])
    started = time.monotonic()
    with MemoryWatch() as memory:
        for number, stage in enumerate(summary.stages, 1):
            logger.info("%d/%d %s", number, len(stages), stage.stage)
            own = {**by_stage[stage.stage], "INTERACTIVE": False, "RUN_DIR": str(folder)}
            _run_stage(stage, notebooks, folder, own)
            summary.seconds = time.monotonic() - started
            summary.peak_memory_gb = memory.peak / 1e9
            try:
                write_json(folder / "summary.json", asdict(summary))
            except CacheError as error:
                summary.error = f"The run ended here: {error}"
            if stage.state != "ok" or summary.error:
                break
    return summary


def _make_folder(folder: Path | None) -> Path:
    # Absolute, because the notebooks run in a folder of their own.
    chosen = folder or paths.data_cache() / "runs" / datetime.now().strftime("%Y_%m_%d_%H_%M_%S")
    try:
        chosen = chosen.expanduser().resolve()
        chosen.mkdir(parents=True, exist_ok=True)
        _copy_plotly(chosen)
    except (OSError, RuntimeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise BatchError(
            f"nothing was run: the folder for the results, {chosen}, cannot be made or written ({reason}). "
            "Choose another one with --out."
        ) from error
    return chosen


def _run_stage(stage: StageSummary, notebooks: Path, folder: Path, parameters: Mapping[str, object]) -> None:
    import papermill
    from traitlets.config import Config

    output = folder / f"{stage.stage}.ipynb"
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            notebooks / f"{stage.stage}.ipynb",
            output,
            parameters=dict(parameters),
            kernel_name=KERNEL,
            cwd=str(notebooks),
            progress_bar=sys.stderr.isatty(),
            store_widget_state=False,
            autosave_cell_every=SAVE_EVERY_S,
            config=Config(KERNEL_CONFIG),
        )
        stage.numbers = dict(read_result(folder, stage.stage).get("summary", {}))
        stage.state = "ok"
    except papermill.PapermillExecutionError as error:
        stage.state, stage.error = "failed", f"cell {error.exec_count}: {error.ename}: {error.evalue.strip()}"
    except Exception as error:  # a dead kernel, a missing result: the run ends, but with its summary written
        stage.state, stage.error = "failed", f"{type(error).__name__}: {str(error).strip()}"
    stage.seconds = time.monotonic() - started
    try:
        if output.exists():
            _write_html(output)
    except Exception as error:  # the notebook itself ran and is kept, so the run goes on
        stage.page_error = f"no HTML page: {' '.join(str(error).split()) or type(error).__name__}"


def _write_html(notebook: Path) -> None:
    from nbconvert import HTMLExporter

    # No addresses outside: pages must open offline. Plotly's script lies beside the pages.
    quiet = logging.getLogger("nbconvert")
    exporter: Any = HTMLExporter(require_js_url="", mathjax_url="", embed_images=True, log=quiet)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_filename(str(notebook))
    with atomic_writer(notebook.with_suffix(".html"), "w") as file:
        file.write(body)


def _copy_plotly(folder: Path) -> None:
    import plotly

    shutil.copyfile(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder / "plotly.min.js")


class MemoryWatch:
    """Largest sum of resident memory of this process and all its children, sampled twice a second, in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code.

    0: all ran. 1: a notebook failed, or its page or the summary could not be written. 2: nothing was run.
    """
    options = _parser().parse_args(arguments)
    paths.share_cores()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("papermill", "nbconvert", "traitlets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        stages = _chosen_stages(options.only)
        summary = run_batch(
            given_parameters(options.data, options.sets, options.set), stages=stages, folder=options.out
        )
    except ObdbError as error:
        print(f"batch: {error}", file=sys.stderr)
        return WRONG_PARAMETERS
    print(summary.text())
    return 0 if summary.ok else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m obdb_lib.batch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="", help="folder or file with annotations (default: the built-in sample)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="set a notebook parameter")
    parser.add_argument(
        "--sets", default="", metavar="TEXT", help="several NAME=VALUE in one text, with spaces between"
    )
    parser.add_argument("--only", action="append", metavar="STAGE", help="run only this notebook (may be repeated)")
    parser.add_argument("--out", type=Path, help="folder for the results (default: data_cache/runs/<time>)")
    return parser


def _chosen_stages(only: Sequence[str] | None) -> Sequence[str]:
    if not only:
        return STAGES
    stages = [stage for stage in STAGES if any(stage == name or stage.startswith(f"{name}_") for name in only)]
    unknown = [name for name in only if not any(stage == name or stage.startswith(f"{name}_") for stage in STAGES)]
    if unknown:
        raise BatchError(f"unknown notebooks {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return stages


if __name__ == "__main__":
    sys.exit(main())
