"""Upstream's folders of the container, mapped by environment variables outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdb_lib import paths


def test_folders_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in paths.CONTAINER_FOLDERS.values():
        monkeypatch.delenv(variable, raising=False)
    assert paths.mapped("/train/a.pkl") == Path("/train/a.pkl")
    monkeypatch.setenv("OBDB_TRAIN", str(tmp_path))
    monkeypatch.setenv("OBDB_WEED_DATA", "~/weeds")
    assert paths.mapped("/train/pickled_weed/a.pkl") == tmp_path / "pickled_weed/a.pkl"
    assert paths.mapped("/train") == tmp_path
    assert paths.mapped("/training/a") == Path("/training/a"), "whole folders only"
    assert paths.mapped("/weed_data/x.png") == Path.home() / "weeds/x.png"
    assert paths.mapped("/auto_annotation/x") == Path("/auto_annotation/x")
    assert paths.mapped("train/a.pkl") == Path("train/a.pkl")


def test_settings_paths_are_mapped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_TRAIN", str(tmp_path))
    assert paths.locate("/train/pickled_weed") == tmp_path / "pickled_weed"
    assert paths.locate("data_cache/models") == paths.data_cache() / "models"


def test_default_settings_are_the_containers_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.default_settings().name == "settings.cpu.json"
    own = tmp_path / "settings_file.json"
    monkeypatch.setattr(paths, "SETTINGS_NAMES", (own, *paths.SETTINGS_NAMES[1:]))
    own.write_text("{}")
    assert paths.default_settings() == own
