"""Decoding: the quick decoders give Pillow's pixels, and leave alone what they would read otherwise."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from obdb_lib import frames
from obdb_lib.errors import FrameError
from obdb_lib.frames import FrameStore, decode, frames_below
from obdb_lib.images import ORIENTATION, UNREADABLE


def photograph(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8))
    return small.resize((67, 45), Image.Resampling.BICUBIC).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def on_its_side() -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return exif


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(photograph(), "JPEG", quality=85),
    "jpeg of full colour": lambda: saved(photograph(), "JPEG", subsampling=0),
    "progressive jpeg": lambda: saved(photograph(), "JPEG", progressive=True),
    "jpeg on its side": lambda: saved(photograph(), "JPEG", exif=on_its_side()),
    "grey jpeg": lambda: saved(photograph("L"), "JPEG"),
    "cmyk jpeg": lambda: saved(photograph("CMYK"), "JPEG"),
    "png": lambda: saved(photograph(), "PNG"),
    "png on its side": lambda: saved(photograph(), "PNG", exif=on_its_side()),
    "png with a palette": lambda: saved(photograph("P"), "PNG"),
    "png with alpha": lambda: saved(photograph("RGBA"), "PNG"),
    "grey png": lambda: saved(photograph("L"), "PNG"),
    "animated png": lambda: saved(photograph(), "PNG", save_all=True, append_images=[photograph().rotate(90)]),
    "webp": lambda: saved(photograph(), "WEBP"),
    "bmp": lambda: saved(photograph(), "BMP"),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels__are_pillows(name: str) -> None:
    data = FILES[name]()
    found = decode(data)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pillow(data))


def test_png_with_orientation_behind_its_pixels__is_turned() -> None:
    """Where the tag stands does not matter; Pillow finds it by decoding all."""
    data = saved(photograph(), "PNG", exif=on_its_side())
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
    end = data.index(b"IEND") - 4
    data = data[:start] + data[stop:end] + data[start:stop] + data[end:]
    assert data.index(b"eXIf") > data.index(b"IDAT")
    assert decode(data).shape == (67, 45, 3)


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_plain_files__do_not_go_through_pillows_decoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FILES[name]()
    monkeypatch.setattr(frames.ImageOps, "exif_transpose", lambda image: pytest.fail("Pillow decoded it"))
    assert decode(data).shape == (45, 67, 3)


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_cut_off_files__are_errors_and_not_grey_pictures(name: str) -> None:
    data = FILES[name]()
    with pytest.raises(UNREADABLE):
        decode(data[: len(data) // 2])


def test_a_damaged_frame__is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(FILES["jpeg"]()[:300])
    with pytest.raises(frames.FrameError, match=r"a\.jpg cannot be read .*[Tt]runcated.*replace the file"):
        FrameStore([tmp_path]).load("a.jpg")


def test_frames_below_a_folder__are_all_its_pictures_and_are_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "new field"
    for name in ("b.PNG", "deep/a.jpg", "notes.txt", ".hidden/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    names = frames_below(folder)
    assert names == ["new field/b.PNG", "new field/deep/a.jpg"]
    store = FrameStore([tmp_path / "elsewhere", folder.parent])
    assert [store.path(name) for name in names] == [folder / "b.PNG", folder / "deep/a.jpg"]
    with pytest.raises(FrameError, match="is no folder; name the folder"):
        frames_below(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FrameError, match="holds no picture"):
        frames_below(tmp_path / "empty")


def test_a_name_with_two_slashes_does_not_lead_out_of_the_roots(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    with pytest.raises(FrameError, match="was not found"):
        FrameStore([tmp_path / "images"]).path(f"/{tmp_path}/secret.png")
