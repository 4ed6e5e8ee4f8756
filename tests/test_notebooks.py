"""Notebooks are stored clean, have the shape of DESIGN.md, and run headless from the first to the last."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obdb_lib import manifest
from obdb_lib.batch import NOTEBOOKS, BatchSummary, run_batch
from obdb_lib.cvat.names import upload_name
from obdb_lib.formats import detect_and_read
from obdb_lib.parameters import notebook_parameters
from obdb_lib.stages import STAGES
from obdb_lib.store import Store
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import PASSWORD, log_in, stored_shapes
from tests.cvat_server.merge_world import make_task
from tests.worlds import tiny_parameters, tiny_settings

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


def cells(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((NOTEBOOKS / name).read_text())["cells"]
    return found


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_there_are_the_five_of_the_loop() -> None:
    assert [name.removesuffix(".ipynb") for name in NAMES] == list(STAGES)


@pytest.mark.parametrize("name", NAMES)
def test_stored_without_outputs(name: str) -> None:
    for cell in cells(name):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert not re.search(r"/(home|root|work)/", (NOTEBOOKS / name).read_text()), "a path of somebody's machine"


@pytest.mark.parametrize("name", NAMES)
def test_shape(name: str) -> None:
    """Text first, then parameters as plain literals, then imports; the last cell asserts and writes."""
    found = cells(name)
    assert found[0]["cell_type"] == "markdown"
    assert "parameters" in found[1]["metadata"]["tags"]
    defaults = notebook_parameters(NOTEBOOKS / name)
    assert defaults["INTERACTIVE"] is True
    assert defaults["RUN_DIR"] == ""
    assert source(found[2]).lstrip().startswith(("from", "import"))
    assert "assert " in source(found[-1])
    assert re.search(r"write_result\(|keeper\.keep\(", source(found[-1]))
    for cell in found[3:]:
        code = source(cell)
        if cell["cell_type"] == "code":
            assert len(code.splitlines()) <= 32, "steps of a few lines"
            assert not re.search(r"^\s*(class |def |import )", code, re.M), "classes and functions live in the library"


def numbers_of(parameters: dict[str, object], folder: Path, stage: str) -> dict[str, Any]:
    """Run one notebook again, in the folder of an earlier run."""
    summary = run_batch(parameters, stages=[stage], folder=folder)
    assert summary.ok, summary.text()
    return summary.stages[0].numbers


def printed(notebook: Path) -> str:
    """All text that the cells of an executed notebook printed."""
    outputs = [output for cell in json.loads(notebook.read_text())["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", [])) for output in outputs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_five_run_headless_on_a_tiny_sample_and_go_round_cvat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Detectors trained for seconds are unsure of everything.
    review: dict[str, object] = {"MIN_PROBABILITY": 0.0, "TARGET_PRECISION": 0.3, "COMPARE_CROPS": True, "FOLDS": 2}
    review |= {"SETTINGS": str(tiny_settings(tmp_path))}
    out = {"EXPORT_TO": str(tmp_path / "yolo"), "EXPORT_IMAGES": "link"}
    summary = run_batch(tiny_parameters(tmp_path) | review | out, folder=tmp_path / "run")
    assert summary.ok, summary.text()
    check_run(tmp_path / "run", summary)
    exported = detect_and_read(tmp_path / "yolo").tasks
    assert sum(len(record.annotations) for record in exported) == summary.stages[0].numbers["boxes"]
    accepted = summary.stages[-1].numbers["accepted"]
    assert accepted > 0, "the tiny detector finds at least something"
    with StandIn() as server:
        for name, value in {"URL": server.url, "USERNAME": "admin", "PASSWORD": PASSWORD}.items():
            monkeypatch.setenv(f"CVAT_{name}", value)
        for expected in (accepted, 0):  # the second time there is nothing left to send
            pushed = numbers_of(review | {"CONFIRM_PUSH": True}, tmp_path / "run", "05_review_and_push")
            assert pushed["pushed"] == expected
            assert len(stored_shapes(server)) == accepted
        assert PASSWORD not in (tmp_path / "run" / "05_review_and_push.ipynb").read_text()
        client = log_in(server)
        for job in client.list_all("jobs"):
            client.request("PATCH", f"jobs/{job['id']}", body={"stage": "acceptance", "state": "completed"})
        pulled = numbers_of({"PULL_FROM_CVAT": True}, tmp_path / "pulled", "01_collect_annotations")
        assert (pulled["boxes"], pulled["problems"]) == (accepted, 0)
        assert server.url in printed(tmp_path / "pulled" / "01_collect_annotations.ipynb")
        check_merge_and_undo(review, tmp_path / "run", server, accepted)


def check_merge_and_undo(review: dict[str, object], folder: Path, server: StandIn, accepted: int) -> None:
    """The verified boxes go into ground-truth tasks, and the push that brought them is taken back."""
    client = log_in(server)
    auto = {task["name"]: task["id"] for task in client.tasks()}
    sources = {re.split(r"_\d{4}(?:_\d\d){5}_", name)[1] for name in auto}
    with Store() as store:
        for record in map(store.record, sorted(sources)):
            frames = record.meta["frames"]
            images = [upload_name(frame["name"]) for frame in frames]
            labels = [label["name"] for label in record.task["labels"]]
            make_task(client, record.name, images, labels=labels, size=(frames[0]["width"], frames[0]["height"]))
        push_id = str(store.pushes()[0]["push_id"])
    acts = {"MERGE": "auto_annotation", "CONFIRM_MERGE": True, "UNDO": push_id, "CONFIRM_UNDO": True}
    numbers = numbers_of(review | acts, folder, "05_review_and_push")
    assert (numbers["merged"], numbers["undone"]) == (accepted, accepted)
    assert {task["name"] for task in client.tasks()} == sources, "the auto tasks went, the ground truth stayed"
    assert len(stored_shapes(server)) == accepted


def check_run(folder: Path, summary: BatchSummary) -> None:
    """Numbers, pages and documents of a run over the tiny sample."""
    numbers = {stage.stage: stage.numbers for stage in summary.stages}
    assert numbers["01_collect_annotations"]["frames"] == 48
    assert numbers["02_explore_and_split"]["leak"] == 0
    assert numbers["02_explore_and_split"]["leak every_nth"] > 0.5
    assert numbers["03_tune_and_train"]["trials"] == 2
    assert 0 <= numbers["04_evaluate"]["AP50"] <= 1
    for stage in STAGES:
        page = (folder / f"{stage}.html").read_text()
        assert "Traceback" not in page
        assert not re.search(r'<(script|link)[^>]+(src|href)="https?://', page), "pages must open offline"
    executed = json.loads((folder / "02_explore_and_split.ipynb").read_text())
    kinds = {
        kind for cell in executed["cells"] for output in cell.get("outputs", []) for kind in output.get("data", {})
    }
    assert "image/png" in kinds, "headless, the map is a picture"
    assert "application/vnd.jupyter.widget-view+json" not in kinds
    written = json.loads((folder / "summary.json").read_text())
    assert [stage["state"] for stage in written["stages"]] == ["ok"] * 5
    with Store() as store:
        run_id = json.loads((folder / "05_review_and_push.json").read_text())["run_id"]
        snapshot_id = numbers["01_collect_annotations"]["snapshot"]
        suggestions = store.suggestions(snapshot_id, run_id)
        assert len(suggestions) == numbers["05_review_and_push"]["suggestions"]
        decided = store.decisions([suggestion["_id"] for suggestion in suggestions])
        assert len(decided) == len(suggestions)
        assert all(decision["snapshot_id"] == snapshot_id and decision["rule"] for decision in decided)
    sheets = {path.name for path in (folder / "contact_sheets").iterdir()}
    assert {"accepted_01.png", "contact_sheets.html"} <= sheets


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_notebook_2_takes_every_other_way_to_a_split(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    blocks: dict[str, object] = {"GROUP_BY": ["time_block", "duplicate_group"], "BLOCK_FRAMES": 20, "BUFFER_FRAMES": 5}
    blocks |= {"CLUSTERS": 4, "TEST_SHARE": 0.2, "MAP": "pca", "EMBEDDER": "colour_lab", "SAMPLE_SIZE": "tiny"}
    summary = run_batch(blocks, stages=STAGES[:2], folder=folder)
    assert summary.ok, summary.text()
    assert summary.stages[1].numbers["clusters"] == 4
    assert summary.stages[1].numbers["leak"] == 0
    told = printed(folder / f"{STAGES[1]}.ipynb")
    assert "Kept together: time_block, duplicate_group" in told
    assert re.search(r"Frames: train [\d.]+% \(wanted 60%\), val .*in \d+ groups that stay whole", told)
    parts = parts_of(folder)
    assert {part: len(names) for part, names in parts.items() if not names} == {}, "all four parts have frames"
    assert set(parts) == {"train", "val", "test", "excluded"}, "the buffer is left out"

    for part in ("train", "val"):
        np.save(tmp_path / f"{part}.npy", np.array(parts[part]))
    lists = [f"{part}={tmp_path}/{part}.npy" for part in ("train", "val")]
    numbers_of({"GIVEN": lists, "EMBEDDER": "colour_lab"}, folder, STAGES[1])
    given = parts_of(folder)
    assert {part: given[part] for part in ("train", "val")} == {part: parts[part] for part in ("train", "val")}
    assert sorted(given["excluded"]) == sorted(parts["test"] + parts["excluded"])

    earlier = tmp_path / "earlier.json"
    earlier.write_text((folder / "split.manifest.json").read_text())
    numbers_of({"MANIFEST": str(earlier), "EMBEDDER": "colour_lab"}, folder, STAGES[1])
    assert parts_of(folder) == given


def parts_of(folder: Path) -> dict[str, list[str]]:
    """Frames by part as the manifest of a run has them."""
    frames = manifest.read(folder / "split.manifest.json").frames
    return {str(part): rows["img_path"].tolist() for part, rows in frames.groupby("part")}
