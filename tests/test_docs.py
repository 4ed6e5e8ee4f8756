"""The README says what is so: settings, environment variables, notebooks, packages, make targets, pictures."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from obdb_lib.settings import Settings, VariantSettings
from obdb_lib.stages import STAGES
from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text()


def words_in_code() -> set[str]:
    return {part for text in re.findall(r"`([^`]+)`", README) for part in re.split(r"[^\w-]+", text)}


def test_every_setting_is_documented() -> None:
    wanted = (set(Settings.model_fields) - {"blocks"}) | set(VariantSettings.model_fields)
    assert not wanted - words_in_code()


def test_shown_defaults_are_the_defaults() -> None:
    for key, shown in re.findall(r"^\| `(\w+)` \| `?\"?([\w\[\]]+)\"?`? \|", README, re.M):
        if key in Settings.model_fields and shown not in ("none", "in"):
            default = Settings.model_fields[key].get_default(call_default_factory=True)
            assert json.dumps(default).strip('"').removesuffix(".0") == shown, key


@pytest.mark.parametrize("name", ["settings.example.json", "settings.cpu.json"])
def test_example_settings_load(name: str) -> None:
    assert Settings.load(PROJECT / name).variants


def test_example_settings_are_upstreams_readme(shared_data: Path) -> None:
    """The same keys and numbers; only folders and tasks are this lab's."""
    upstream = json.loads((shared_data / "openweeds" / "upstream" / "settings_readme.json").read_text())
    ours = json.loads((PROJECT / "settings.example.json").read_text())
    adapted = {"annotations_list", "save_dir", "writer_dir", "dataset_dir"}
    assert {k: v for k, v in ours.items() if k not in adapted} == {
        k: v for k, v in upstream.items() if k not in adapted
    }
    assert set(ours) == set(upstream)


def test_environment_variables_are_documented() -> None:
    read = set(re.findall(r'environ\.get\("(\w+)"\)', (PROJECT / "obdb_lib" / "paths.py").read_text())) - {"USER"}
    assert read
    assert not read - words_in_code()


def test_notebooks_are_documented() -> None:
    assert not set(STAGES) - words_in_code()


def test_every_package_is_named_with_its_purpose() -> None:
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    names = [re.split(r"[=; ]", line)[0] for line in lines if line and not line.startswith("#")]
    table = README.split("## What it is made of")[1]
    missing = [name for name in names if name not in table and not re.match(r"types-|.*-stubs$", name)]
    assert not missing
    assert all("==" in line for line in lines if line and not line.startswith("#")), "every package is pinned"


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.M))
    assert not set(re.findall(r"`?make ([a-z]+)", README)) - targets


def test_pictures_exist() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) >= 4
    for picture in pictures:
        assert (PROJECT / picture).stat().st_size > 10_000, picture


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in (PROJECT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    ("named", "said"), [("/bin/sh", ""), ("/no/such/browser", "OBDB_CHROMIUM names /no/such/browser")]
)
def test_the_browser_that_is_looked_for_is_the_one_that_is_started(named: str, said: str) -> None:
    script = PROJECT / "tests" / "browser" / "install_chromium.sh"
    shown = subprocess.run(
        ["sh", str(script)],
        env={**os.environ, "OBDB_CHROMIUM": named},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert said in shown.stderr
    assert bool(said) == bool(shown.stderr)
    assert re.findall(r"OBDB_CHROMIUM:-([^}]+)\}", script.read_text()) == ["/usr/bin/chromium"]
    assert '"OBDB_CHROMIUM", "/usr/bin/chromium"' in (PROJECT / "tests" / "browser" / "harness.py").read_text()
