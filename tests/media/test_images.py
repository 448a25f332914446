from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from media_files import write_video, write_wav
from moda.errors import MediaError
from moda.media import AudioReader, check_image, read_image
from moda.media.images import read_pictures


def gradient(width: int = 96, height: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 2, rows * 3, np.full_like(rows, 90)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(gradient()).save(path, **options)
    picture = read_image(path)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, gradient())


@pytest.mark.parametrize("suffix", ["jpg", "gif", "avif"])
def test_lossy_formats_are_read_nearly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(gradient()).save(path, quality=95)
    difference = np.abs(read_image(path).astype(int) - gradient())
    assert difference.mean() < 6.0


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    Image.fromarray(gradient()).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(path), gradient())


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = gradient()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: np.rot90(upright, 2),
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    picture = read_image(path)
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).mean() < (
        6.0 if suffix not in ("png", "tiff") else 1e-9
    )
    (same,) = read_pictures(path)
    np.testing.assert_array_equal(same, picture)


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_every_picture_of_a_turned_animation_is_upright(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    turns = {3: 2, 6: 1}[orientation]
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(gradient(), turns)))
    other = Image.fromarray(255 - np.asarray(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"moves.{suffix}"
    stored.save(path, save_all=True, append_images=[other], exif=exif, lossless=True)
    first, second = read_pictures(path)
    np.testing.assert_array_equal(first, gradient())
    np.testing.assert_array_equal(second, 255 - gradient())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_shows_neutral_grey(tmp_path: Path, mode: str) -> None:
    alpha = np.zeros((80, 96), np.uint8)
    alpha[:, 48:] = 255
    image = Image.fromarray(np.dstack([np.full((80, 96, 3), 200, np.uint8), alpha]))
    path = tmp_path / "picture.png"
    image.convert("P" if mode == "PA" else mode).save(path)
    picture = read_image(path)
    assert np.abs(picture[:, :48].astype(int) - 128).max() <= 2
    assert np.abs(picture[:, 48:].astype(int) - 200).max() <= 2


READS_YCBCR_TIFF = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 cannot read the TIFF that it wrote"
)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "CMYK", pytest.param("YCbCr", marks=READS_YCBCR_TIFF), "LAB"]
)
def test_any_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.full((80, 96, 3), 255, np.uint8))
    white = Image.new("LAB", (96, 80), (255, 128, 128)) if mode == "LAB" else image.convert(mode)
    path = tmp_path / "picture.tiff"
    white.save(path)
    picture = read_image(path)
    assert picture.shape == (80, 96, 3)
    assert picture.min() >= 250


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 96).astype(np.uint16)
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(np.tile(ramp, (80, 1))).save(path)
    expected = np.rint(ramp / 257.0)
    picture = read_image(path)
    np.testing.assert_allclose(picture[0], np.repeat(expected[:, None], 3, 1), atol=1)


def png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG file from its rows, without Pillow."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    values = (gradient().astype(">u2") * 257).reshape(80, -1)
    path = tmp_path / "picture.png"
    path.write_bytes(png(96, 80, 16, 2, b"".join(b"\0" + row.tobytes() for row in values)))
    np.testing.assert_array_equal(read_image(path), gradient())


def test_floating_point_grey(tmp_path: Path) -> None:
    path = tmp_path / "picture.tiff"
    Image.fromarray(np.tile(np.linspace(0, 1, 96, dtype=np.float32), (80, 1))).save(path)
    picture = read_image(path)
    assert (picture.min(), picture.max()) == (0, 255)


def test_colour_profile_is_applied_and_a_broken_one_ignored(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (lab, b"no profile at all"):
        path = tmp_path / "picture.png"
        Image.fromarray(gradient()).save(path, icc_profile=profile)
        difference = np.abs(read_image(path).astype(int) - gradient())
        assert difference.max() <= 3


def test_first_picture_of_an_animation(tmp_path: Path) -> None:
    path = tmp_path / "picture.gif"
    first, second = (Image.new("RGB", (96, 80), (level,) * 3) for level in (200, 20))
    first.save(path, save_all=True, append_images=[second])
    assert read_image(path).min() > 190


def make_bad_files(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(whole)
    files = {
        "does not exist": folder / "nothing.png",
        "is a folder": folder,
        "0 bytes": folder / "empty.jpg",
        "not a picture": folder / "text.jpg",
        "damaged": folder / "truncated.png",
        "below the limit": folder / "tiny.png",
        "million": folder / "bomb.png",
    }
    files["0 bytes"].write_bytes(b"")
    files["not a picture"].write_text("this is no picture\n" * 100)
    files["damaged"].write_bytes(whole.read_bytes()[:5000])
    Image.new("RGB", (63, 200)).save(files["below the limit"])
    files["million"].write_bytes(png(30_000, 30_000, 8, 2, bytes(1000)))
    return files


@pytest.mark.parametrize(
    "problem",
    [
        "does not exist",
        "is a folder",
        "0 bytes",
        "not a picture",
        "damaged",
        "below the limit",
        "million",
    ],
)
def test_bad_pictures_get_one_clear_line(tmp_path: Path, problem: str) -> None:
    path = make_bad_files(tmp_path)[problem]
    with pytest.raises(MediaError, match=problem) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert ";" in message, "the message names a remedy"


def test_formats_outside_the_list_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(gradient()).save(path, format="ICO", sizes=[(96, 80)])
    with pytest.raises(MediaError, match="not a picture"):
        read_image(path)


@pytest.mark.parametrize("length", [1, 50, 300, 900, 2000])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "gif", "avif", "bmp"])
def test_truncation_anywhere_is_one_error(tmp_path: Path, suffix: str, length: int) -> None:
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(whole)
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.read_bytes()[:length])
    with pytest.raises(MediaError):
        read_image(path)


def test_a_large_photograph_is_decoded_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = np.kron(gradient(), np.ones((4, 4, 1), np.uint8))
    path = tmp_path / "large.jpg"
    Image.fromarray(large).save(path, quality=95)
    monkeypatch.setattr("moda.media.images.MAX_PIXELS", large[..., 0].size // 10)
    picture = read_image(path)
    assert picture.shape == gradient().shape
    assert np.abs(picture.astype(int) - gradient()).mean() < 6.0
    Image.fromarray(large).save(tmp_path / "large.png")
    with pytest.raises(MediaError, match="384 x 320 pixels"):
        read_image(tmp_path / "large.png")


def test_pictures_of_telephones_are_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "picture.heic"
    heif.from_pillow(Image.fromarray(gradient())).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - gradient()).mean() < 6.0
    assert check_image(path) == (96, 80)


def test_without_the_package_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "renamed.jpg"
    path.write_bytes(b"\0\0\0\x24ftypheic" + bytes(80))
    with pytest.raises(MediaError, match=r"is a HEIC picture; pip install .*heic.* JPEG"):
        read_image(path)


def test_all_pictures_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((80, 96, 3), level, np.uint8)) for level in (0, 90, 200)]
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"moves.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=80)
        levels = [float(picture.mean()) for picture in read_pictures(path)]
        assert levels == pytest.approx([0, 90, 200], abs=3)
        assert read_image(path).mean() < 3


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "sound.jpg", np.zeros(8000), 16_000)
    with pytest.raises(MediaError, match=r"is a sound recording, .*the portrait comes first"):
        read_image(sound)
    film = write_video(tmp_path / "film.mp4", [gradient()] * 3, [0, 40, 80])
    with pytest.raises(MediaError, match="is a video, not a picture; `moda dub`"):
        check_image(film)
    with pytest.raises(MediaError, match="standard input"):
        read_image("-")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_a_picture_is_no_sound(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"face.{suffix}"
    Image.fromarray(gradient()).save(path)
    with pytest.raises(MediaError, match="is a picture, not sound; the portrait comes first"):
        AudioReader(path)
