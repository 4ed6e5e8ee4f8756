"""``auto_annotate -c``: upstream's crop of 4K frames, to the same places below another folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obdb_lib.annotate.cropping import crop_images
from obdb_lib.cli.auto_annotate import main
from obdb_lib.errors import FrameError


def picture(path: Path, width: int = 40, height: int = 20) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_lower_half_and_middle_half__places_kept(tmp_path: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    pixels = picture(src / "day/1L/a.png")
    picture(src / "b.PNG")
    picture(src / "c.jpg")
    done = crop_images(src, dst)
    assert (done.written, done.there) == (2, 0)
    assert sorted(p.relative_to(dst).as_posix() for p in dst.rglob("*.*")) == ["b.PNG", "day/1L/a.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(dst / "day/1L/a.png")), pixels[10:, 10:30])


def test_what_is_there_stays__and_what_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    picture(src / "a.png")
    (src / "b.png").write_bytes(b"no picture")
    dst.mkdir()
    (dst / "a.png").write_bytes(b"mine")
    assert main(["-c", "True", "--src", str(src), "--dst", str(dst), "--ext", "png"]) == 1
    told = capsys.readouterr().out
    assert "0 images cropped, 1 were there already" in told
    assert "b.png" in told
    assert (dst / "a.png").read_bytes() == b"mine"


def test_crops_inside_the_source_are_not_cropped_again(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    crop_images(tmp_path, tmp_path / "out")
    assert crop_images(tmp_path, tmp_path / "out").there == 1
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["a.png"]


def test_full_hd_of_4k(tmp_path: Path) -> None:
    picture(tmp_path / "src/a.jpg", 3840, 2160)
    crop_images(tmp_path / "src", tmp_path / "dst", ext=".JPG")
    assert Image.open(tmp_path / "dst/a.jpg").size == (1920, 1080)


@pytest.mark.parametrize(
    ("ext", "dst", "told"), [("png", "src", "is --src itself"), ("gif", "d", "no image"), ("py", "d", "no kind")]
)
def test_mistakes(tmp_path: Path, ext: str, dst: str, told: str) -> None:
    picture(tmp_path / "src/a.png")
    with pytest.raises(FrameError, match=told):
        crop_images(tmp_path / "src", tmp_path / dst, ext=ext)
