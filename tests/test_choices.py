"""Parameters of notebook 02: all mistakes at once, by the parameters' names, before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from obdb_lib.choices import Choices
from obdb_lib.errors import SettingsError
from obdb_lib.parameters import notebook_parameters
from tests.conftest import PROJECT

DEFAULTS = {
    name.lower(): value
    for name, value in notebook_parameters(PROJECT / "notebooks" / "02_explore_and_split.ipynb").items()
    if name not in ("INTERACTIVE", "RUN_DIR", "SEED", "EDITS")
}


def told(**changed: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        Choices(**(DEFAULTS | changed)).check()
    return str(caught.value)


def test_the_notebooks_defaults_are_right() -> None:
    Choices(**DEFAULTS).check()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"map": "tsn"}, "MAP must be one of tsne, umap, pca; got 'tsn'; did you mean 'tsne'?"),
        ({"clusters": 1}, "CLUSTERS must be 0"),
        ({"nth": 1}, "NTH must be 2 or more; got 1"),
        ({"embedder": "mobilnet_v2"}, "EMBEDDER: unknown embedder 'mobilnet_v2', did you mean 'mobilenet_v2'?"),
        ({"embedder": "mobilenet_v2+colour_lad"}, "did you mean 'colour_lab'?"),
        ({"embedder": "resnet81"}, "did you mean 'resnet18'?"),
        ({"embedder": "gone.pth"}, "EMBEDDER: there is no file /"),
        ({"group_by": "video"}, "GROUP_BY must be a list such as ['video', 'duplicate_group']; got 'video'"),
        ({"group_by": ["vidoe"]}, "got 'vidoe'; did you mean 'video'?"),
        ({"group_by": ["given"]}, "GROUP_BY must be names of"),
        ({"group_by": ["time_block"]}, "BLOCK_FRAMES must be 1 or more, as GROUP_BY has 'time_block'; got 0"),
        ({"block_frames": 20}, "mean nothing without 'time_block' in GROUP_BY"),
        ({"group_by": ["time_block"], "block_frames": 20, "buffer_frames": -1}, "BUFFER_FRAMES must be 0 or more"),
        ({"val_share": 1.5}, "VAL_SHARE must be more than 0 and less than 1"),
        ({"val_share": 0.0}, "VAL_SHARE must be more than 0"),
        ({"test_share": -0.1}, "TEST_SHARE must be 0 (no test part) or less than 1; got -0.1"),
        ({"val_share": 0.6, "test_share": 0.5}, "VAL_SHARE + TEST_SHARE must be less than 1"),
        ({"given": "split.csv"}, "GIVEN must be a list such as"),
        ({"given": ["gone.csv"]}, "GIVEN: there is no file /"),
        ({"given": ["train=a.npy", "b.npy"]}, "GIVEN: lists of frames are one file for all parts"),
        ({"manifest": "gone.json"}, "MANIFEST: there is no file /"),
        ({"manifest": "a.json", "given": ["b.csv"]}, "GIVEN and MANIFEST are two splits"),
    ],
)
def test_a_mistake_is_told_by_its_parameter(changed: dict[str, Any], words: str) -> None:
    assert words in told(**changed)


def test_all_mistakes_come_at_once() -> None:
    lines = told(map="tsn", val_share=2.0, group_by=["tsak", "sesion"], given=["gone.csv"]).splitlines()
    assert [line.split()[1].rstrip(":") for line in lines[1:]] == ["MAP", "GROUP_BY", "GROUP_BY", "VAL_SHARE", "GIVEN"]


def test_files_that_are_there_and_joined_names_are_taken(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("split.csv", "m.json", "own.npz", "train.npy", "val.npy")}
    for path in files.values():
        path.touch()
    lists = [f"train={files['train.npy']}", f"val={files['val.npy']}"]
    for changed in (
        {"given": [str(files["split.csv"])], "embedder": str(files["own.npz"])},
        {"given": lists, "embedder": "resnet18+colour_lab"},
        {"manifest": str(files["m.json"]), "test_share": 0.2},
        {"group_by": ["time_block", "duplicate_group"], "block_frames": 30, "buffer_frames": 5},
    ):
        Choices(**(DEFAULTS | changed)).check()
