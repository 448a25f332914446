"""Pictures in: any common format to 8-bit RGB."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from moda.errors import MediaError
from moda.files import whole_file
from moda.media.containers import check_file, check_pixels, kind_of_media
from moda.structures import Picture

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
MAX_FILE_BYTES = 512 * 2**20
MAX_PIXELS = 60_000_000
MAX_PICTURES = 60
"""Of an animation, in which a face is looked for."""
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
BACKGROUND = (128, 128, 128)
"""What shows through where a picture is transparent."""

DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
                   IndexError, KeyError, TypeError, OverflowError, RuntimeError)  # fmt: skip
"""What Pillow's decoders raise for damaged content."""


def read_image(path: str | Path) -> Picture:
    """Read a picture upright, as 8-bit sRGB, transparency on neutral grey; the first of several.

    A JPEG above :data:`MAX_PIXELS` is decoded at half its size, a quarter or an eighth.

    Returns:
        (H, W, 3), RGB.

    Raises:
        MediaError: The file is missing, damaged, in another format, or outside the limits.
    """
    return next(read_pictures(path))


def read_pictures(path: str | Path) -> Iterator[Picture]:
    """The pictures of an animation, at most :data:`MAX_PICTURES`; one of any other file.

    Yields and raises as :func:`read_image`.
    """
    try:
        with _opened(Path(path)) as image:
            for index in range(min(getattr(image, "n_frames", 1), MAX_PICTURES)):
                image.seek(index)
                image.load()
                yield _to_rgb(image)
    except DECODING_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MediaError(f"{path} is damaged ({reason}); save the picture again") from None


def check_image(path: str | Path) -> tuple[int, int]:
    """(width, height) of a picture whose header is that of a known format inside the limits.

    Nothing is decoded; what the header promises may still turn out to be damaged.

    Raises:
        MediaError: As :func:`read_image`, as far as the header tells.
    """
    try:
        with _opened(Path(path)) as image:
            return image.size
    except DECODING_ERRORS:
        raise _unknown(Path(path)) from None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose header has been read and is that of a known format inside the limits."""
    check_file(path, "picture", MAX_FILE_BYTES)
    try:
        with warnings.catch_warnings():
            # Size is checked below; Pillow's own warnings would reach the user unasked.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_formats(path)) as image:
                if image.format == "JPEG":
                    _decode_smaller(image)
                check_pixels(path, image.size, MAX_PIXELS, "picture")
                yield image
    except Image.DecompressionBombError:
        raise MediaError(
            f"{path} has far more than {MAX_PIXELS // 1_000_000} million pixels, the limit; "
            "make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise _unknown(path) from None


def _decode_smaller(image: Image.Image) -> None:
    """Let a JPEG above :data:`MAX_PIXELS` be decoded at a half, a quarter or an eighth."""
    width, height = image.size
    times = next((n for n in (1, 2, 4) if width * height <= MAX_PIXELS * n * n), 8)
    if times > 1:
        image.draft("RGB", (width // times, height // times))


def _formats(path: Path) -> tuple[str, ...]:
    """Formats that a file may have; that of iPhones needs a package, which this one loads.

    Raises:
        MediaError: The file is of that format and the package is not installed.
    """
    with path.open("rb") as file:
        beginning = file.read(12)
    if beginning[4:8] != b"ftyp" or beginning[8:12] not in HEIC_BRANDS:
        return FORMATS
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise MediaError(
            f"{path} is a HEIC picture; pip install 'moda-talking-head[heic]', or save it as JPEG"
        ) from None
    register_heif_opener()
    return ("HEIF",)


def _unknown(path: Path) -> MediaError:
    """What a file is that is no picture, and what to do."""
    kind = kind_of_media(path)
    if kind == "sound":
        return MediaError(
            f"{path} is a sound recording, not a picture; the portrait comes first, then the speech"
        )
    if kind == "video":
        return MediaError(
            f"{path} is a video, not a picture; `moda dub` gives a video new lips, "
            "or save one of its frames as a picture"
        )
    return MediaError(
        f"{path} is not a picture that can be read; use JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF"
    )


def _to_rgb(image: Image.Image) -> Picture:
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        grey = _grey_from_deep(np.asarray(image), image.mode)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image.alpha_composite(layered)
        image = image.convert("RGB")
    image = _to_srgb(image, profile)
    return np.asarray(image.convert("RGB")).copy()


def _grey_from_deep(values: np.ndarray, mode: str) -> Picture:
    """Grey of more than 8 bits (H, W) to (H, W) of 8 bits, scaled, not clipped."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    brightest = values.max(initial=0.0)
    if mode == "F" and brightest <= 1.0:
        white = 1.0
    elif mode in ("I", "F") and brightest <= 255.0:
        white = 255.0
    else:
        white = max(65535.0, brightest)
    return np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Apply an embedded colour profile (phones write Display P3); ignore a broken one."""
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        converted = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted if converted is not None else image


def decode_picture(data: bytes, max_pixels: int) -> Picture:
    """A JPEG or PNG that somebody has sent, as RGB (H, W, 3) of at most ``max_pixels``.

    Raises:
        MediaError: It is none, is damaged or has more pixels; what is wrong follows its name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise MediaError(
                        f"has {width} x {height} pixels, more than {max_pixels}; make it smaller"
                    )
                return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, *DECODING_ERRORS):
        raise MediaError("cannot be read; send JPEG or PNG") from None


def jpeg_bytes(picture: Picture, quality: int) -> bytes:
    """A picture (H, W, 3) as a JPEG file of a quality of 1 to 100."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done
    return data.tobytes()


def animation_bytes(pictures: Sequence[Picture], milliseconds: int) -> bytes:
    """Pictures (H, W, 3) as an animated WebP that repeats, each shown for so long."""
    first, *others = map(Image.fromarray, pictures)
    file = io.BytesIO()
    first.save(
        file, "WEBP", save_all=True, append_images=others, duration=milliseconds, loop=0,
        quality=60, method=1,
    )  # fmt: skip
    return file.getvalue()


def png_bytes(picture: Picture) -> bytes:
    """A picture (H, W, 3) or (H, W, 4) as a PNG file, written fast rather than small."""
    order = [2, 1, 0, 3][: picture.shape[2]]
    done, data = cv2.imencode(".png", picture[:, :, order], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return data.tobytes()


def write_image(path: str | Path, picture: Picture) -> None:
    """Write a picture (H, W, 3) as PNG, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    with whole_file(path) as part:
        Image.fromarray(picture).save(part, format="PNG")
