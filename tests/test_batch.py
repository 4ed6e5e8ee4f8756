"""The batch runner: parameters are checked before anything runs, failures are named, results are written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from obdb_lib import batch
from obdb_lib.batch import main, run_batch
from obdb_lib.errors import BatchError, CacheError
from obdb_lib.parameters import check_parameters, given_parameters
from obdb_lib.stages import STAGES
from tests.conftest import PROJECT


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
    wrong = {"CUONT": 3, "COUNT": "three", "SHARE": True, "NAMES": "[p,q]", "FLAG": 1, "ZZZ": 0}
    with pytest.raises(BatchError) as caught:
        check_parameters(wrong, ["a", "b"], notebooks)
    text = str(caught.value)
    assert "nothing was run" in text
    assert "'CUONT'; did you mean COUNT?" in text
    quote = "NAMES wants a list; got '[p,q]': quote the names, ['task', 'x'], or use commas without brackets"
    for part in ("COUNT wants int", "SHARE wants float", quote, "FLAG wants bool"):
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
        (["--sets", "TASKS=two words"], "got 'words'. A value with spaces needs quotes"),
        (["--sets", "TASKS='two words"], "is not closed"),
        (["--set", "RUN_DIR=x"], "RUN_DIR is set by the batch itself; choose the folder with --out"),
        (["--set", "INTERACTIVE=True"], "INTERACTIVE is set by the batch itself"),
        (["--set", "SETTINGS=none.json"], "parameter SETTINGS: settings file"),
        (["--out", "/dev/null/x"], "/dev/null/x, cannot be made or written (Not a directory). Choose another"),
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


def test_what_the_batch_sets_itself_is_not_offered(notebooks: Path) -> None:
    with pytest.raises(BatchError) as caught:
        check_parameters({"ZZZ": 1}, ["a", "b"], notebooks)
    assert "INTERACTIVE" not in str(caught.value)
    assert "RUN_DIR" not in str(caught.value)


def test_a_mistake_of_several_notebooks_is_told_once(notebooks: Path) -> None:
    for stage in ("a", "b"):
        notebook(notebooks, stage, parameters="INTERACTIVE = True\nRUN_DIR = ''\nSEED = 0\n")
    with pytest.raises(BatchError) as caught:
        check_parameters({"SEED": "x"}, ["a", "b"], notebooks)
    assert str(caught.value).count("SEED") == 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("p,q", ["p", "q"]),
        ("p", ["p"]),
        ("", []),
        ("['p', 'q']", ["p", "q"]),
        ("'a, b', c d", ["a, b", "c d"]),
        ("2020,2021", ["2020", "2021"]),
    ],
)
def test_lists_as_text(notebooks: Path, text: str, names: list[str]) -> None:
    assert check_parameters({"NAMES": text}, ["a"], notebooks)["a"]["NAMES"] == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("HIDE_SHARES=0.05,0.2 FIX_SEEDS=0,1", {"HIDE_SHARES": [0.05, 0.2], "FIX_SEEDS": [0, 1]}),
        ("HIDE_SHARES=[0.05, 1] FIX_SEEDS=[0,1]", {"HIDE_SHARES": [0.05, 1.0], "FIX_SEEDS": [0, 1]}),
        ("HIDE_SHARES= FIX_SEEDS=7", {"HIDE_SHARES": [], "FIX_SEEDS": [7]}),
        ("FIX_SEEDS=[] KINDS=missing", {"FIX_SEEDS": [], "KINDS": ["missing"]}),
        ("TARGET_PRECISION={'Fat hen':0.9,'Dandelion':1}", {"TARGET_PRECISION": {"Fat hen": 0.9, "Dandelion": 1.0}}),
    ],
)
def test_numbers_of_notebook_5_stay_numbers(text: str, found: dict[str, object]) -> None:
    chosen = check_parameters(given_parameters("", text, []), STAGES[4:], batch.NOTEBOOKS)[STAGES[4]]
    assert repr(chosen) == repr(found), "1 == 1.0 == True, but not for a training's seed"
    assert check_parameters(found, STAGES[4:], batch.NOTEBOOKS)[STAGES[4]] == found


@pytest.mark.parametrize("text", ["HIDE_SHARES=a,b", "FIX_SEEDS=[True]", "FIX_SEEDS=0.5", "FIX_SEEDS=[0"])
def test_what_is_no_number_is_told(text: str) -> None:
    with pytest.raises(BatchError, match="wants a list of numbers"):
        check_parameters(given_parameters("", "", [text]), STAGES[4:], batch.NOTEBOOKS)
    with pytest.raises(BatchError, match=r"TARGET_PRECISION wants float; got str"):
        check_parameters({"TARGET_PRECISION": {"a": "much"}}, STAGES[4:], batch.NOTEBOOKS)


def test_paths_of_notebook_5_start_at_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").touch()
    for name in ("new", "two words"):
        (tmp_path / name).mkdir()
    given = given_parameters("", "DECISIONS=mine.csv BLANK_FOLDERS='two words',new", [])
    found = check_parameters(given, STAGES[4:], batch.NOTEBOOKS)[STAGES[4]]
    assert found["DECISIONS"] == str(tmp_path / "mine.csv")
    assert found["BLANK_FOLDERS"] == [str(tmp_path / "two words"), str(tmp_path / "new")]


def through_make(folder: Path, **variables: str) -> list[str]:
    """What `make batch` hands to `python -m obdb_lib.batch`: a stand-in for python writes its arguments down."""
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@"\n')
    python.chmod(0o755)
    (folder / "venv" / ".installed").touch()
    pairs = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "-s", "batch", f"VENV={folder / 'venv'}", *pairs]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    shown = subprocess.run(command, cwd=PROJECT, env=clean, capture_output=True, text=True, check=True, timeout=60)
    arguments: list[str] = json.loads(shown.stdout)
    assert arguments[:2] == ["-m", "obdb_lib.batch"]
    return arguments[2:]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GROUP_BY=['task','duplicate_group']", {"GROUP_BY": ["task", "duplicate_group"]}),
        ("GROUP_BY=['task', 'duplicate_group'] NTH=5", {"GROUP_BY": ["task", "duplicate_group"], "NTH": 5}),
        ("GROUP_BY=task,duplicate_group VAL_SHARE=0.25", {"GROUP_BY": ["task", "duplicate_group"], "VAL_SHARE": 0.25}),
        ("TASKS='FieldData 2020 1L X','it$ y'", {"TASKS": ["FieldData 2020 1L X", "it$ y"]}),
        ('TASKS="it\'s, one"', {"TASKS": ["it's, one"]}),
        ("'TASKS=one task' NTH=3", {"TASKS": ["one task"], "NTH": 3}),
        (
            r"NAMING_PATTERN='(?P<session>\d+) (?P<video>[^/]+)$'",
            {"NAMING_PATTERN": r"(?P<session>\d+) (?P<video>[^/]+)$"},
        ),
        ("", {}),
    ],
)
def test_make_hands_over_lists_spaces_and_quotes(tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    data = tmp_path / "my $data's folder"
    data.mkdir()
    options = batch._parser().parse_args(through_make(tmp_path, SET=text, DATA=str(data)))
    chosen = check_parameters(given_parameters(options.data, options.sets, options.set), STAGES[:2], batch.NOTEBOOKS)
    assert chosen[STAGES[0]] | chosen[STAGES[1]] == expected | {"DATA": str(data)}


def test_relative_paths_start_at_the_caller(notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = "".join(f"{name} = ''\n" for name in ("RUN_DIR", "DATA", "CHECKPOINT", "SETTINGS"))
    code = "found = [DATA, *IMAGE_ROOTS, CHECKPOINT, SETTINGS, *GIVEN]\n"
    code += "write_result(Path(RUN_DIR), 'a', {'summary': {'paths': found}})"
    notebook(notebooks, "a", WRITE + code, parameters=f"INTERACTIVE = True\n{texts}IMAGE_ROOTS = []\nGIVEN = []\n")
    monkeypatch.chdir(tmp_path)
    for name in ("data", "images", "model.pth"):
        (tmp_path / name).mkdir()
    given = {"DATA": "data", "IMAGE_ROOTS": "images,elsewhere", "CHECKPOINT": "model.pth", "SETTINGS": "none.json"}
    summary = run_batch(given | {"GIVEN": "val=data"}, stages=["a"], folder=Path("out"), notebooks=notebooks)
    assert summary.ok, summary.text()
    data, images, model = (str(tmp_path / name) for name in ("data", "images", "model.pth"))
    assert summary.stages[0].numbers["paths"] == [data, images, "elsewhere", model, "none.json", f"val={data}"]
    assert (tmp_path / "out" / "a.html").exists()


def test_mistakes_in_the_settings_file_are_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text('{"variants": ["resnet81"], "batch_size": 0}')
    out = tmp_path / "out"
    wrong = ["--set", "SETTINGS=mine.json", "--set", "NTH=x", "--out", str(out)]
    assert main(wrong) == batch.WRONG_PARAMETERS
    shown = capsys.readouterr().err
    for part in ("nothing was run", "NTH wants int", "parameter SETTINGS", "2 mistakes", "'resnet81'", "batch_size"):
        assert part in shown
    assert not out.exists()
    assert check_parameters({}, STAGES, batch.NOTEBOOKS), "the default settings of notebook 3 are right"


def test_a_failure_is_shown_in_full_below_the_table(notebooks: Path, tmp_path: Path) -> None:
    mistakes = "\n".join(f"- mistake {number} {'x' * 60}" for number in range(30))
    notebook(notebooks, "a", f"raise ValueError({'wrong:' + chr(10) + mistakes!r})")
    text = run_batch({}, stages=["a"], folder=tmp_path / "out", notebooks=notebooks).text()
    table, below = text.split("Pages:")
    assert "mistake" not in table
    assert "a failed: cell 3: ValueError: wrong:" in below
    assert "\n- mistake 0 " in below
    assert "\n- mistake 29 " in below


def test_a_page_that_cannot_be_written_ends_nothing(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(notebook: Path) -> None:
        raise CacheError(f"cannot write {notebook.name}: no space")

    monkeypatch.setattr(batch, "_write_html", full)
    summary = run_batch({}, stages=["a", "b"], folder=tmp_path / "out", notebooks=notebooks)
    assert [stage.state for stage in summary.stages] == ["ok", "ok"]
    assert not summary.ok
    assert summary.text().count("no HTML page: cannot write") == 2


def test_a_summary_that_cannot_be_written_is_exit_code_1(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, value: object) -> None:
        raise CacheError(f"cannot write {path}: no space")

    monkeypatch.setattr(batch, "write_json", full)
    summary = run_batch({}, stages=["a", "b"], folder=tmp_path / "out", notebooks=notebooks)
    assert [stage.state for stage in summary.stages] == ["ok", "not run"]
    monkeypatch.setattr(batch, "run_batch", lambda *_, **__: summary)
    assert main([]) == batch.FAILED
    shown = capsys.readouterr().out
    assert "count 3" in shown
    assert "The run ended here: cannot write" in shown


def test_a_data_cache_that_is_a_file_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "file"))
    assert main([]) == batch.WRONG_PARAMETERS
    assert f"{tmp_path / 'file'}, cannot be made (it is a file). Set OBDB_DATA_CACHE" in capsys.readouterr().err


def test_the_store_as_data_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    for given, expected in (("store", "store"), ("./store", str(tmp_path / "store"))):
        parameters = given_parameters(given, "", [])
        assert check_parameters(parameters, STAGES[:1], batch.NOTEBOOKS)[STAGES[0]] == {"DATA": expected}
