"""The container's /code: upstream's names of the commands, and settings that load."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from obdb_lib.settings import Settings
from tests.conftest import PROJECT

CODE = PROJECT / "docker" / "code"


@pytest.mark.parametrize("name", ["auto_annotate", "torch_model_runner", "test_model"])
def test_launcher_starts_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/code/{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(CODE / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: {name} ")
    assert "exit codes:" in told


def test_every_launcher_is_copied_into_the_image() -> None:
    assert "COPY --chown=lab:lab docker/code /code" in (PROJECT / "docker" / "Dockerfile").read_text()
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert not {"docker", "docker/", "docker/code"} & set(ignored)


def test_settings_of_the_container_are_upstreams(shared_data: Path) -> None:
    path = CODE / "settings_file.json"
    settings = Settings.load(path)
    assert (settings.save_dir, settings.dataset_dir) == ("/train/pickled_weed", "/weed_data")
    upstream = json.loads((shared_data / "openweeds" / "upstream" / "settings_readme.json").read_text())
    assert json.loads(path.read_text()) == {**upstream, "annotations_list": []}
