"""The README says what is so: settings, environment variables, notebooks, packages, make targets, pictures."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from obdb_lib.settings import AugmentationSettings, Hyperparameters, SearchRanges, Settings, VariantSettings
from obdb_lib.stages import STAGES
from obdb_lib.variants import DETECTORS, architecture_of
from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text()


def words_in_code() -> set[str]:
    return {part for text in re.findall(r"`([^`]+)`", README) for part in re.split(r"[^\w-]+", text)}


JSON_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "yes or no"}


def type_in_words(schema: dict[str, Any]) -> str:
    """A field's JSON schema in the words of the README's table."""
    if "enum" in schema:
        values = [f"`{value}`" for value in schema["enum"]]
        return f"{', '.join(values[:-1])} or {values[-1]}"
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "anyOf" in schema:
        return " or ".join(type_in_words(one) for one in schema["anyOf"] if one.get("type") != "null")
    return f"{type_in_words(schema['items'])}s" if schema["type"] == "array" else JSON_TYPES[schema["type"]]


def default_in_words(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    shown = "none" if default is None else json.dumps(default).removesuffix(".0")
    return shown if default is None or type(default) in (int, float) else f"`{shown}`"


def keys_of_the_model() -> dict[str, tuple[str, str]]:
    """Every key that a settings file may have, with default and type."""
    blocks = {
        "": Settings,
        "<variant>.": VariantSettings,
        "<variant>.optimal_hpo_settings.": Hyperparameters,
        "sherpa_parameters.": SearchRanges,
        "augmentation.": AugmentationSettings,
    }
    keys = {}
    for prefix, model in blocks.items():
        schema = model.model_json_schema()["properties"]
        for name, field in model.model_fields.items():
            if "$ref" not in schema[name] and name != "blocks":
                keys[f"{prefix}{name}"] = (default_in_words(field), type_in_words(schema[name]))
    return keys


def test_settings_table_is_the_model() -> None:
    """Both ways: no key without its row, no row without its key, and every default and type as in the code."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", README.split("## Settings")[1], re.M)
    table = {key: (default, kind) for key, default, kind in rows if not key.isupper()}
    assert len(table) == sum(not key.isupper() for key, *_ in rows), "no key twice"
    assert table == keys_of_the_model()


def test_networks_of_the_readme_are_known() -> None:
    named = README.split("A variant is a network's name")[1].split("The keys down to")[0]
    networks = {name for name in re.findall(r"`([a-z_0-9]+)`", named) if name not in ("image_size", "maxvit_t")}
    assert {name for name in networks if architecture_of(name) is None} == set()
    assert set(DETECTORS) <= networks


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
