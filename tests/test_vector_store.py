"""Vectors on disk: what was written is there, whoever else writes, and whatever is broken off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from obdb_lib import vector_store
from obdb_lib.vector_store import VectorStore
from tests.conftest import PROJECT


def keys(start: int, stop: int) -> list[str]:
    return [f"{number:024x}" for number in range(start, stop)]


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, 32)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_vectors__come_back_by_key_at_length_one(tmp_path: Path) -> None:
    store, vectors = VectorStore(tmp_path), unit_vectors(10)
    store.add(keys(0, 10), vectors)
    assert not store.found(keys(0, 10)).any(), "not before they are written"
    store.save()
    wanted = [*keys(7, 9), *keys(2, 4), *keys(7, 8)]
    assert store.found([*wanted, "f" * 24]).tolist() == [True] * 5 + [False]
    again = VectorStore(tmp_path).get(wanted)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, vectors[[7, 8, 2, 3, 7]], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1, rtol=1e-6)
    with pytest.raises(KeyError):
        store.get(["f" * 24])


def test_full_shards__are_found_after_a_save_with_nothing_left_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_store, "FLUSH_ROWS", 10)
    store = VectorStore(tmp_path)
    store.add(keys(0, 10), unit_vectors(10))
    store.save()
    assert store.found(keys(0, 10)).all()


def test_a_damaged_shard__costs_its_own_vectors_and_no_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for start in (0, 10):
        store = VectorStore(tmp_path)
        store.add(keys(start, start + 10), unit_vectors(10))
        store.save()
    damaged = next(path for path in tmp_path.glob("*.npy") if ".keys" not in path.name)
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert VectorStore(tmp_path).found(keys(0, 20)).sum() == 10
    assert "made again" in caplog.text
    (tmp_path / "half.npy").write_bytes(b"")  # a shard whose keys were never written is none
    assert len(VectorStore(tmp_path)) == 10


def test_many_small_shards__become_few_and_readers_in_between_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_store, "MANY_SHARDS", 5)
    vectors = unit_vectors(60)
    early = None
    for start in range(0, 60, 10):
        store = VectorStore(tmp_path)
        store.add(keys(start, start + 10), vectors[start : start + 10])
        if start == 50:
            early = VectorStore(tmp_path)  # knows the five small shards that are about to go
        store.save()
    assert len(list(tmp_path.glob("*.keys.npy"))) == 1
    assert len(list(tmp_path.glob("*.npy"))) == 2, "the parts are gone"
    np.testing.assert_allclose(VectorStore(tmp_path).get(keys(0, 60)), vectors, atol=1e-3)
    assert early is not None
    np.testing.assert_allclose(early.get(keys(0, 50)), vectors[:50], atol=1e-3)


def test_two_kernels_at_once__lose_and_mix_nothing(tmp_path: Path) -> None:
    """Four processes write the same and different keys in small shards and merge all the while."""
    script = (
        "import sys; import numpy as np; from pathlib import Path; from obdb_lib import vector_store as module; "
        "module.MANY_SHARDS = 3; number = int(sys.argv[2]);\n"
        "for start in range(0, 200, 10):\n"
        "    rows = np.arange(start, start + 10) + 100 * number\n"
        "    vectors = np.stack([np.cos(rows), np.sin(rows)], axis=1).astype(np.float32)\n"
        "    store = module.VectorStore(Path(sys.argv[1]))\n"
        "    store.add([f'{row:024x}' for row in rows], vectors)\n"
        "    store.save()\n"
        "    assert store.found([f'{row:024x}' for row in rows]).all()\n"
        "    store.get([f'{row:024x}' for row in rows])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(number)], cwd=PROJECT, stderr=subprocess.PIPE) for number in range(4)]
    told = [writer.communicate()[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, told
    rows = np.arange(500)
    found = VectorStore(tmp_path).get(keys(0, 500))
    np.testing.assert_allclose(found, np.stack([np.cos(rows), np.sin(rows)], axis=1), atol=1e-3)
