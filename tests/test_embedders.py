"""Embedders by name: equal to what torch says, honest where weights are missing; choosing one; own vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import resnet18

from obdb_lib import weights
from obdb_lib.checkpoints import Checkpoint, cpu_state, save_checkpoint
from obdb_lib.detector_embedder import detector_embedder, embed_by_name
from obdb_lib.embedder_choice import compare_embedders
from obdb_lib.embedders import CROP_SIZE, find_embedder, find_embedders
from obdb_lib.embeddings import Embeddings, embed_crops
from obdb_lib.errors import DatasetError, FrameError
from obdb_lib.flow import computed
from obdb_lib.frames import FrameStore
from obdb_lib.models import build_detector
from obdb_lib.networks import CPU_PRECISION, CUDA_PRECISION, Images, Network, usable_cores
from obdb_lib.own_vectors import own_vectors
from obdb_lib.snapshots import Snapshot
from obdb_lib.weights import IMAGENET_MEAN, IMAGENET_STD, mobilenet_v2_backbone
from tests.helpers import CLASSES, random_boxes, snapshot_of, task, write_frames

VIDEOS = ("FieldData 20200520145736 1L GH020068", "FieldData 20200521101010 1L GH020070")


def pictures(count: int = 3, size: int = CROP_SIZE) -> Images:
    return np.random.default_rng(0).integers(0, 255, (count, size, size, 3)).astype(np.uint8)


def field(tmp_path: Path, frames: int = 10) -> tuple[Snapshot, FrameStore]:
    """Two videos with one box a frame, classes in turn."""
    rng = np.random.default_rng(3)
    records = [
        task(
            name,
            frames=frames,
            boxes={i: [(CLASSES[i % 2], box)] for i in range(frames) for box in random_boxes(rng, 1)},
        )
        for name in VIDEOS
    ]
    return snapshot_of(records), FrameStore([write_frames(tmp_path, records)])


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBDB_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_mobilenet__gives_what_the_plain_network_gives() -> None:
    """Folded batch norms, channels_last and small batches change nothing but the time: 1e-4 of the largest value."""
    images = pictures()
    network, _ = mobilenet_v2_backbone()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        wanted = network.features((pixels - mean) / std).mean(dim=(2, 3)).numpy()
    if torch.cuda.is_available():
        pytest.skip("on CUDA the vectors are of half precision")
    found = find_embedder("mobilenet_v2").load().embed(images)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["mobilenet_v2", "colour_histogram", "colour_lab"])
def test_vectors__do_not_depend_on_neighbours_in_the_batch(name: str) -> None:
    embed = find_embedder(name).load().embed
    np.testing.assert_allclose(embed(pictures())[1], embed(pictures()[1:2])[0], rtol=1e-3, atol=1e-4)


def test_joined_embedders__weigh_the_same_and_use_what_is_kept(tmp_path: Path, fresh_cache: Path) -> None:
    snapshot, frames = field(tmp_path)
    parts = [embed_crops(snapshot, frames, embedder=name).vectors for name in ("mobilenet_v2", "colour_lab")]
    stored = {path: path.stat().st_mtime_ns for path in fresh_cache.rglob("*.npy")}
    both = embed_crops(snapshot, frames, embedder="mobilenet_v2 + colour_lab")
    assert both.embedder == "mobilenet_v2+colour_lab"
    np.testing.assert_allclose(both.vectors, np.hstack(parts) / 2**0.5, rtol=1e-6)
    assert {path: path.stat().st_mtime_ns for path in fresh_cache.rglob("*.npy")} == stored, "nothing was computed"


def test_colours__are_told_apart_by_hue_and_not_by_light() -> None:
    def likeness(name: str, first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
        plain = np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in (first, second)])
        vectors = find_embedder(name).load().embed(plain)
        return float(vectors[0] @ vectors[1])

    leaf, lit_leaf, soil = (70, 110, 50), (85, 125, 65), (110, 90, 75)
    assert likeness("colour_lab", leaf, lit_leaf) == pytest.approx(1)
    assert likeness("colour_lab", leaf, soil) == 0
    assert likeness("colour_histogram", leaf, leaf) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet9000", "colour_histogram, colour_lab, mobilenet_v2, any classifier of torchvision"),
        ("channel_shuffle", "unknown embedder 'channel_shuffle'"),  # a function of torchvision, but no network
        ("../resnet18", "unknown embedder"),
        ("mobilenet_v2+", "unknown embedder ''"),
        ("", "unknown embedder"),
    ],
)
def test_unknown_names__are_refused_before_anything_is_loaded(name: str, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        find_embedders(name)


def test_torchvision_without_its_weights__says_so_and_names_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "torchvision_weights", lambda name: (None, "no route to host"))
    embedder = find_embedder("resnet18")
    with pytest.raises(DatasetError, match=r"resnet18.*no route to host.*there are colour_histogram.*mobilenet_v2"):
        embedder.load()


def test_torchvision_with_its_weights__gives_the_features_before_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    whole = resnet18(weights=None).eval()
    monkeypatch.setattr(weights, "torchvision_weights", lambda name: (whole.state_dict(), "as stored"))
    embedder = find_embedder("resnet18")
    images = pictures(2, embedder.size)
    with torch.no_grad():
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
        classes = whole(pixels).numpy()
    if torch.cuda.is_available():
        pytest.skip("on CUDA the vectors are of half precision")
    features = embedder.load().embed(images)
    assert features.shape == (2, 512)
    again = features @ whole.fc.weight.detach().numpy().T + whole.fc.bias.detach().numpy()
    np.testing.assert_allclose(again, classes, atol=1e-3)


def test_own_detector__is_an_embedder_and_its_file_is_its_identity(tmp_path: Path, fresh_cache: Path) -> None:
    snapshot, frames = field(tmp_path)
    path = tmp_path / "best.pth"
    made = []
    for seed in (0, 1):
        detector = build_detector("mobilenet_v2", CLASSES, image_size=64, pretrained=False, seed=seed)
        save_checkpoint(path, Checkpoint(detector.spec, cpu_state(detector)))
        made.append(embed_by_name(str(path), snapshot, frames).vectors)
        assert made[-1].shape == (20, 96 + 320), "the two deepest stages of MobileNetV2's pyramid"
    assert not np.allclose(made[0], made[1]), "another training, other vectors"
    with pytest.raises(DatasetError, match=r"nowhere\.pth: there is no such checkpoint"):
        detector_embedder(tmp_path / "nowhere.pth")


def test_vectors_of_two_precisions__are_never_mixed(tmp_path: Path, fresh_cache: Path) -> None:
    """A cache from a machine with CUDA serves as it is; as soon as one crop has to be computed, all are."""
    snapshot, frames = field(tmp_path)
    real = find_embedder("colour_lab")
    half = replace(real, load=lambda: replace(real.load(), precision=CUDA_PRECISION, embed=_shifted(real.load())))
    stored = embed_crops(snapshot, frames, embedder=half)
    np.testing.assert_array_equal(embed_crops(snapshot, frames, embedder=real).vectors, stored.vectors)
    moved = replace(snapshot, annotations=snapshot.annotations.copy())
    moved.annotations.loc[3, "x1"] -= 4
    fresh = embed_crops(moved, frames, embedder=real)
    folders = sorted(path.name for path in next((fresh_cache / "embeddings").iterdir()).iterdir())
    assert folders == sorted([CPU_PRECISION, CUDA_PRECISION])
    others = np.arange(len(snapshot.annotations)) != 3
    assert not np.allclose(fresh.vectors[others], stored.vectors[others], atol=0.01)


def _shifted(network: Network) -> object:
    return lambda images: network.embed(images) + 0.1


def test_flow__reads_each_frame_once_in_bounded_number_and_order(tmp_path: Path) -> None:
    reads: list[str] = []
    taken = 0
    ahead = 0

    def read(name: str, rows: object) -> Images:
        nonlocal ahead
        reads.append(name)
        ahead = max(ahead, len(reads) - taken)
        if name == "f7":
            raise FrameError("f7 is broken")
        return np.full((2, 4, 4, 3), int(name[1:]), np.uint8)

    def embed(images: Images) -> np.ndarray:
        return images[:, 0, 0, :1].astype(np.float32)

    frames = {f"f{n}": [2 * n, 2 * n + 1] for n in range(60)}
    problems: list = []
    values = np.full(120, -1.0)
    order = []
    for rows, vectors in computed(frames, read, Network(embed, batch_pixels=5 * 16), 4, problems):
        taken = max(rows) // 2
        order.extend(rows)
        values[rows] = vectors[:, 0]
    assert sorted(reads) == sorted(frames), "each frame once"
    assert order == [row for row in range(120) if row // 2 != 7]
    np.testing.assert_array_equal(np.delete(values, [14, 15]), np.delete(np.arange(120) // 2, [14, 15]))
    assert ["f7 is broken" in str(problem) for problem in problems] == [True]
    assert ahead <= 12 * usable_cores() + 12


def test_comparison__shows_the_leak_and_proposes_what_holds_in_other_groups(tmp_path: Path) -> None:
    """One embedder knows the class, the other only the video and frame pair: twins fool leave-frame-out alone."""
    snapshot, frames = field(tmp_path, frames=40)
    table = snapshot.annotations
    rng = np.random.default_rng(0)
    label = (table["object_class"] == CLASSES[0]).to_numpy(float)
    video = table["task_name"].factorize()[0]
    ids = table["annotation_id"].to_numpy(object)

    def made(name: str, columns: np.ndarray) -> Embeddings:
        noisy = columns + rng.normal(scale=0.02, size=columns.shape)
        return Embeddings(ids, (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32), name)

    honest = made("honest", np.stack([label, 1 - label], axis=1))
    side = label.astype(int) ^ video  # within a video it tells the class, across videos the wrong one
    place = 0.3 * np.eye(2)[video]
    fooled = made("fooled", np.hstack([np.eye(2)[side], place]))
    choice = compare_embedders(snapshot, frames, [fooled, honest])
    assert choice.proposed == "honest"
    numbers = choice.table.set_index("embedder")
    assert numbers.loc["honest", "group out"] > 0.99
    assert numbers.loc["fooled", "frame out"] > 0.95
    assert numbers.loc["fooled", "group out"] < 0.3
    assert numbers.loc["fooled", "leak"] > 0.6


def test_comparison__by_names_and_with_groups_of_ones_own(tmp_path: Path, fresh_cache: Path) -> None:
    snapshot, frames = field(tmp_path)
    groups = pd.Series(np.arange(20) % 5, index=snapshot.frames["img_path"])
    choice = compare_embedders(snapshot, frames, ["colour_histogram", "colour_lab"], groups=groups, neighbours=3)
    assert choice.table["group out"].max() == 1, "the classes are painted in two colours"
    one_class = pd.Series(
        (snapshot.annotations["object_class"] == CLASSES[0]).to_numpy(int), snapshot.frames["img_path"]
    )
    assert compare_embedders(snapshot, frames, ["colour_lab"], groups=one_class).left_out == tuple(sorted(CLASSES))
    with pytest.raises(DatasetError, match="at least two classes and two groups are needed; got 2 and 1"):
        compare_embedders(snapshot, frames, ["colour_lab"], groups=groups * 0)


def write_own(path: Path, ids: list[str], vectors: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, ids=np.array(ids), vectors=vectors)
    elif path.suffix == ".npy":
        np.save(path, vectors)
        np.save(path.with_suffix(".ids.npy"), np.array(ids))
    elif path.stem == "lists":
        pd.DataFrame({"annotation_id": ids, "vector": list(vectors)}).to_parquet(path)
    else:
        columns = pd.DataFrame(vectors, columns=[f"v{n}" for n in range(vectors.shape[1])])
        columns.assign(annotation_id=ids).to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["own.npz", "own.npy", "lists.parquet", "columns.parquet"])
def test_own_vectors__come_in_the_snapshots_order(tmp_path: Path, name: str) -> None:
    snapshot, frames = field(tmp_path)
    wanted = snapshot.annotations["annotation_id"].tolist()
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    path = write_own(tmp_path / name, [*wanted[:0:-1], "someone else"], vectors)  # the first is not there
    found = embed_by_name(str(path), snapshot, frames)
    assert found.ids.tolist() == wanted[1:]
    length_one = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, length_one[18::-1], rtol=1e-5)
    assert "1 of 20 annotations have no vector" in str(found.problems[0])


def test_own_vectors__that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    snapshot, _ = field(tmp_path)
    ids = snapshot.annotations["annotation_id"].tolist()
    good = np.ones((20, 4), np.float32)
    wrong = {
        "wanted one row of numbers for each of the 19 ids": (ids[1:], good),
        "1 ids are there twice": ([ids[0], *ids[:-1]], good),
        "1 vectors hold NaN or infinity": (ids, np.where(np.arange(20)[:, None] == 3, np.nan, good)),
        "1 vectors are all zeros": (ids, np.where(np.arange(20)[:, None] == 3, 0, good)),
        "none of the 20 ids": ([f"x{n}" for n in range(20)], good),
    }
    for told, (names, vectors) in wrong.items():
        with pytest.raises(DatasetError, match=told):
            own_vectors(write_own(tmp_path / "own.npz", names, vectors), snapshot)
    np.savez(tmp_path / "pickled.npz", ids=np.array(ids, dtype=object), vectors=good)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "own.npz").read_bytes()[:100])
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 no table")
    np.save(tmp_path / "alone.npy", good)
    for name, told in {
        "pickled.npz": "cannot be read",
        "cut.npz": "cannot be read",
        "cut.parquet": "cannot be read",
        "alone.npy": "alone.ids.npy does not exist",
        "gone.npz": "gone.npz does not exist",
        "own.csv": "must be a file .npz, .parquet, .npy",
    }.items():
        with pytest.raises(DatasetError, match=told):
            own_vectors(tmp_path / name, snapshot)
