"""All five notebooks headless: ``python -m obdb_lib.batch`` (``make batch``).

Parameters are checked by name and type against the notebooks' own parameter cells before anything runs. Executed
notebooks, HTML pages and a summary go to ``data_cache/runs/<time>/``.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
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
from obdb_lib.errors import BatchError, ObdbError
from obdb_lib.stages import STAGES, read_result

logger = logging.getLogger(__name__)

NOTEBOOKS = paths.PROJECT_ROOT / "notebooks"
KERNEL = "python3"
SAVE_EVERY_S = 15
"""The output notebook is saved this often while a long cell runs."""
FAILED, WRONG_PARAMETERS = 1, 2


@dataclass
class StageSummary:
    """One notebook of a run: ``state`` is ok, failed or not run; ``numbers`` are what its last cell reported."""

    stage: str
    state: str = "not run"
    seconds: float = 0.0
    error: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass
class BatchSummary:
    """A whole run."""

    folder: Path
    stages: list[StageSummary]
    seconds: float = 0.0
    peak_memory_gb: float = 0.0

    @property
    def ok(self) -> bool:
        return all(stage.state == "ok" for stage in self.stages)

    def text(self) -> str:
        """The table that is printed at the end."""
        lines = [f"{'notebook':<26}{'state':<9}{'seconds':>8}  key numbers"]
        for stage in self.stages:
            numbers = ", ".join(f"{key} {_short(value)}" for key, value in stage.numbers.items())
            lines.append(f"{stage.stage:<26}{stage.state:<9}{stage.seconds:>8.0f}  {stage.error or numbers}")
        lines.append(f"{self.seconds:.0f} s in all, {self.peak_memory_gb:.1f} GB at most. Pages: {self.folder}")
        return "\n".join(lines)


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

    Raises:
        BatchError: a parameter is unknown or of the wrong type (nothing was run).
    """
    by_stage = check_parameters(parameters, stages, notebooks)
    folder = folder or paths.data_cache() / "runs" / datetime.now().strftime("%Y_%m_%d_%H_%M_%S")
    folder.mkdir(parents=True, exist_ok=True)
    _copy_plotly(folder)
    summary = BatchSummary(folder, [StageSummary(stage) for stage in stages])
    started = time.monotonic()
    with _MemoryWatch() as memory:
        for number, stage in enumerate(summary.stages, 1):
            logger.info("%d/%d %s", number, len(stages), stage.stage)
            own = {**by_stage[stage.stage], "INTERACTIVE": False, "RUN_DIR": str(folder)}
            _run_stage(stage, notebooks, folder, own)
            summary.seconds = time.monotonic() - started
            summary.peak_memory_gb = memory.peak / 1e9
            write_json(folder / "summary.json", asdict(summary))
            if stage.state != "ok":
                break
    return summary


def check_parameters(
    parameters: Mapping[str, object], stages: Sequence[str], notebooks: Path
) -> dict[str, dict[str, object]]:
    """Parameters for each notebook, typed as in its parameters cell; all mistakes in one BatchError."""
    defaults = {stage: notebook_parameters(notebooks / f"{stage}.ipynb") for stage in stages}
    known = sorted({name for names in defaults.values() for name in names})
    mistakes = []
    chosen: dict[str, dict[str, object]] = {stage: {} for stage in stages}
    for name, value in parameters.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            mistakes.append(f"unknown parameter {name!r}{hint}")
            continue
        for stage in stages:
            if name in defaults[stage]:
                try:
                    chosen[stage][name] = _as_type_of(value, defaults[stage][name])
                except ValueError as error:
                    mistakes.append(f"parameter {name} of {stage}: {error}")
    if mistakes:
        raise BatchError("nothing was run:\n- " + "\n- ".join(dict.fromkeys(mistakes)))
    return chosen


def notebook_parameters(path: Path) -> dict[str, object]:
    """Names and default values in a notebook's parameters cell (plain literals).

    Raises:
        BatchError: the notebook is missing or has no such cell.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise BatchError(f"{path} is not a notebook that can be read: {error}") from error
    for cell in cells:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            body = ast.parse("".join(cell["source"])).body
            return {
                target.id: ast.literal_eval(statement.value)
                for statement in body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            }
    raise BatchError(f"{path} has no cell tagged 'parameters'")


def _as_type_of(value: object, default: object) -> object:
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"wants {type(default).__name__} such as {default!r}; got {value!r}") from error
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"wants {type(default).__name__} such as {default!r}; got {type(value).__name__} {value!r}")
    return value


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
            # Encrypted even on loopback, where other users of the machine could listen.
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        )
        stage.numbers = dict(read_result(folder, stage.stage).get("summary", {}))
        stage.state = "ok"
    except papermill.PapermillExecutionError as error:
        stage.state, stage.error = "failed", f"cell {error.exec_count}: {error.ename}: {_one_line(error.evalue)}"
    except Exception as error:  # a dead kernel, a missing result: the run ends, but with its summary written
        stage.state, stage.error = "failed", f"{type(error).__name__}: {_one_line(str(error))}"
    stage.seconds = time.monotonic() - started
    if output.exists():
        _write_html(output)


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


class _MemoryWatch:
    """Largest sum of resident memory of this process and all its children, sampled twice a second, in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _MemoryWatch:
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


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 all ran, 1 a notebook failed, 2 wrong parameters (nothing was run)."""
    parser = argparse.ArgumentParser(prog="python -m obdb_lib.batch", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="folder or file with annotations (default: the built-in sample)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="set a notebook parameter")
    parser.add_argument("--only", action="append", metavar="STAGE", help="run only this notebook (may be repeated)")
    parser.add_argument("--out", type=Path, help="folder for the results (default: data_cache/runs/<time>)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("papermill", "nbconvert", "traitlets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        parameters: dict[str, object] = {}
        for text in options.set:
            name, equals, value = text.partition("=")
            if not equals:
                raise BatchError(f"--set wants NAME=VALUE; got {text!r}")
            parameters[name] = value
        if options.data:
            data = Path(options.data).expanduser().resolve()
            if not data.exists():
                raise BatchError(f"DATA {options.data!r} does not exist (looked for {data})")
            parameters["DATA"] = str(data)
        stages = _chosen_stages(options.only)
        summary = run_batch(parameters, stages=stages, folder=options.out)
    except ObdbError as error:
        print(f"batch: {error}", file=sys.stderr)
        return WRONG_PARAMETERS
    print(summary.text())
    return 0 if summary.ok else FAILED


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
