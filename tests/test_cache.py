"""Files appear whole or not at all; a full disk is one clear sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from obdb_lib import paths
from obdb_lib.cache import artefact_arrays, atomic_writer, content_hash, read_json, require_writable, write_json
from obdb_lib.errors import CacheError
from obdb_lib.stages import read_result, run_folder, write_result


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"version": 1})

    def write_half() -> None:
        with atomic_writer(path, "w") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert read_json(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path], "no temporary file stays"


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"version": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(paths, "data_cache", lambda: Path("/nowhere"))
    with pytest.raises(CacheError, match=r"a\.json: No space left on device\. Free some space or name another folder"):
        write_json(path, {"version": 2})
    monkeypatch.setattr(paths, "data_cache", lambda: tmp_path)
    with pytest.raises(CacheError, match=r"a\.json: No space left on device\. Free some space or set OBDB_DATA_CACHE"):
        write_json(path, {"version": 2})
    monkeypatch.undo()
    assert read_json(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_tried_before_long_work(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "models", "save_dir")
    assert list((tmp_path / "new" / "models").iterdir()) == []
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CacheError, match=r"save_dir: .*models cannot be written \(Not a directory\); name a folder"):
        require_writable(tmp_path / "file" / "models", "save_dir")


def test_the_kernel_refusing_to_write_more_is_explained_too(tmp_path: Path) -> None:
    """A real refusal in the middle of a write, by a limit on the size of files."""
    script = textwrap.dedent(
        f"""
        import resource, signal
        from obdb_lib.cache import atomic_writer
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with atomic_writer({str(tmp_path / "big.bin")!r}) as file:
            for _ in range(100):
                file.write(b"x" * 1024)
        """
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "CacheError: cannot write" in found.stderr
    assert "big.bin" in found.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda data: b"damaged", lambda data: b"", lambda data: data[:-40]])
def test_a_damaged_artefact_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    calls: list[int] = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a": np.arange(5)}

    for _ in range(2):
        assert artefact_arrays("things", {"seed": 1}, make)["a"].tolist() == [0, 1, 2, 3, 4]
    assert len(calls) == 1
    (file,) = (tmp_path / "things").glob("*.npz")
    assert read_json(file.with_suffix(".json"))["inputs"] == {"seed": 1}
    file.write_bytes(damage(file.read_bytes()))
    assert artefact_arrays("things", {"seed": 1}, make)["a"].tolist() == [0, 1, 2, 3, 4]
    assert len(calls) == 2


def test_malformed_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(CacheError, match=r"a\.json is not valid JSON"):
        read_json(path)


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(CacheError, match=r"a\.json cannot be read \(Is a directory\)"):
        read_json(tmp_path / "a.json")

    def refuse(self: Path, **named: object) -> str:  # root may read everything, so a mode would not do
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(CacheError, match=r"b\.json cannot be read \(Permission denied\)"):
        read_json(tmp_path / "b.json")


def test_hash_tells_parts_apart() -> None:
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})


def test_a_stage_that_was_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folder(str(tmp_path / "run"))
    with pytest.raises(CacheError, match="notebook 02_explore_and_split has not been run yet"):
        read_result(folder, "02_explore_and_split")
    assert read_result(folder, "02_explore_and_split", default={"a": 1}) == {"a": 1}
    write_result(folder, "02_explore_and_split", {"value": np.float32(0.5), "path": tmp_path})
    assert read_result(folder, "02_explore_and_split") == {"value": 0.5, "path": str(tmp_path)}


def test_settings_paths_follow_the_data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path))
    assert paths.locate("data_cache/models") == tmp_path / "models"
    assert paths.locate("/weed_data") == Path("/weed_data")
    assert paths.locate("settings.cpu.json") == paths.PROJECT_ROOT / "settings.cpu.json"
