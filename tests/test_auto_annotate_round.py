"""Round by the command lines alone: ground truth up, boxes found and sent, verified, merged, and taken back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from obdb_lib.store import Store
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import stored_shapes
from tests.test_auto_annotate import NAMES, PICKLE, checkpoint, records, run, server, world

__all__ = ["checkpoint", "records", "server", "world"]


def truth(server: StandIn) -> list[tuple[str, str, tuple[float, ...]]]:
    """Shapes of the ground-truth tasks."""
    every = stored_shapes(server)
    return sorted((one["image"], one["label"], tuple(one["points"])) for one in every if one["task"] in NAMES)


def test_up_found_verified_merged_and_taken_back(
    world: Path, server: StandIn, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--upload_pkl", "True", "--yes") == 0
    drawn = truth(server)
    assert len(drawn) == 6
    assert run(*PICKLE, "-i", "0.1", "--yes") == 0
    found = [shape for shape in stored_shapes(server) if shape["task"] not in NAMES]
    assert found
    task = found[0]["task"]
    prefix = re.sub(r"_FieldData.*", "", task)
    merge = ["-u", "True", "-d", prefix]
    capsys.readouterr()
    assert run(*merge) == 0
    assert "is not completed on CVAT, left out" in capsys.readouterr().out
    assert run("-s", "True", "-m", prefix, "--yes") == 0
    capsys.readouterr()
    assert run(*merge, "-i", "0.9") == 3
    assert "verified boxes to add" in capsys.readouterr().out
    assert truth(server) == drawn, "a dry run"
    assert run(*merge, "-i", "0.9", "--yes") == 0
    told = capsys.readouterr().out
    after = truth(server)
    assert set(drawn) < set(after)
    assert run(*merge, "-i", "0.9", "--yes") == 0
    assert truth(server) == after, "a second run changes nothing"
    (merge_id,) = set(re.findall(r"\(merge (\w+)\)", told))
    assert run("-w", "undo", "-d", merge_id) == 3
    assert truth(server) == after
    assert run("-w", "undo", "-d", merge_id, "--yes") == 0
    assert truth(server) == drawn
    capsys.readouterr()
    assert run("-w", "pushes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {merge_id}


def test_upload_is_taken_back_by_its_id(
    world: Path, server: StandIn, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--upload_pkl", "True", "--yes") == 0
    capsys.readouterr()
    assert run("-w", "pushes") == 0
    ids = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert len(ids) == 2
    assert run("-w", "undo", "-d", ids[0], "--yes") == 0
    assert [found.name for found in server.world.tasks.values()] == NAMES[1:]
    assert run("--upload_pkl", "True", "--yes") == 0
    assert sorted(found.name for found in server.world.tasks.values()) == NAMES
    assert run("-w", "undo", "-d", "no_such") == 1
    assert "the journal has no push 'no_such'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-d", "auto_annotation_resnet18_2021"], "whose name begins with 'auto_annotation_resnet18_2021'"),
        (["-d", "auto_annotation", "-i", "1"], "whose name begins with 'auto_annotation'"),
    ],
)
def test_nothing_to_merge_is_told(
    world: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-u", "yes", "-m", "gt_val", *arguments) == 1
    assert told in capsys.readouterr().err
