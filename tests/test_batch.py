"""The batch runner: parameters are checked before anything runs, failures are named, results are written."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from obdb_lib import batch
from obdb_lib.batch import check_parameters, main, run_batch
from obdb_lib.errors import BatchError


def notebook(folder: Path, stage: str, *code: str, parameters: str = "INTERACTIVE = True\nRUN_DIR = ''\n") -> None:
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(text) for text in code]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{stage}.ipynb")


WRITE = "from pathlib import Path\nfrom obdb_lib.stages import write_result\nassert not INTERACTIVE\n"


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    parameters = "INTERACTIVE = True\nRUN_DIR = ''\nCOUNT = 3\nSHARE = 0.5\nNAMES = []\nNAME = 'x'\nFLAG = False\n"
    result = WRITE + "write_result(Path(RUN_DIR), 'a', {'summary': {'count': COUNT, 'share': SHARE, 'names': NAMES}})"
    notebook(folder, "a", result, parameters=parameters)
    notebook(folder, "b", WRITE + "write_result(Path(RUN_DIR), 'b', {'summary': {}})")
    return folder


def test_runs_in_order_and_hands_over_parameters(notebooks: Path, tmp_path: Path) -> None:
    given = {"COUNT": "7", "SHARE": "1", "NAMES": "['p', 'q']"}
    summary = run_batch(given, stages=["a", "b"], folder=tmp_path / "out", notebooks=notebooks)
    assert summary.ok, summary.text()
    assert summary.stages[0].numbers == {"count": 7, "share": 1.0, "names": ["p", "q"]}
    for name in ("a.ipynb", "a.html", "b.ipynb", "b.html", "summary.json", "plotly.min.js"):
        assert (tmp_path / "out" / name).exists(), name
    assert "count 7, share 1.000" in summary.text()
    assert summary.peak_memory_gb > 0.05


def test_all_mistakes_in_parameters_are_listed_and_nothing_runs(notebooks: Path) -> None:
    wrong = {"CUONT": 3, "COUNT": "three", "SHARE": True, "NAMES": "p", "FLAG": 1, "ZZZ": 0}
    with pytest.raises(BatchError) as caught:
        check_parameters(wrong, ["a", "b"], notebooks)
    text = str(caught.value)
    assert "nothing was run" in text
    assert "'CUONT'; did you mean COUNT?" in text
    for part in ("COUNT of a: wants int", "SHARE of a: wants float", "NAMES of a: wants list", "FLAG of a: wants bool"):
        assert part in text
    assert "unknown parameter 'ZZZ'; there are" in text


def test_a_failing_cell_ends_the_run_and_is_named(notebooks: Path, tmp_path: Path) -> None:
    notebook(notebooks, "a", "print('before')", "raise ValueError('the reason')")
    summary = run_batch({}, stages=["a", "b"], folder=tmp_path / "out", notebooks=notebooks)
    assert [stage.state for stage in summary.stages] == ["failed", "not run"]
    assert "ValueError: the reason" in summary.stages[0].error
    assert "before" in (tmp_path / "out" / "a.html").read_text(), "what ran before the failure is kept"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["stages"][0]["state"] == "failed"


def test_a_dead_kernel_is_a_failure_not_a_hang(notebooks: Path, tmp_path: Path) -> None:
    notebook(notebooks, "a", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    summary = run_batch({}, stages=["a", "b"], folder=tmp_path / "out", notebooks=notebooks)
    assert summary.stages[0].state == "failed"
    assert "died" in summary.stages[0].error.lower()


def test_a_notebook_without_its_result_fails(notebooks: Path, tmp_path: Path) -> None:
    notebook(notebooks, "a", "pass")
    summary = run_batch({}, stages=["a"], folder=tmp_path / "out", notebooks=notebooks)
    assert "a.json is missing" in summary.stages[0].error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/no/such/folder"], "does not exist"),
        (["--set", "DATA"], "NAME=VALUE"),
        (["--set", "VAL_SHAER=0.2"], "did you mean VAL_SHARE"),
        (["--only", "06"], "unknown notebooks 06"),
    ],
)
def test_command_line_mistakes_are_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == batch.WRONG_PARAMETERS
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown
