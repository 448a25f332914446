"""Pictures of which only a part is converted, against those that are converted whole."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from moda.media import VideoWriter
from moda.media.planes import PlanarPicture, with_surroundings
from moda.structures import Part, Picture

WIDTH, HEIGHT = 98, 66


def planes_of(frame: VideoFrame) -> Picture:
    return frame.to_ndarray().astype(np.uint8, copy=False)


def as_frame(picture: Picture) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame


@pytest.mark.parametrize(
    "moving",
    [
        (slice(20, 51), slice(31, 70)),  # odd sides, inside
        (slice(0, 21), slice(61, WIDTH)),  # in a corner
        (slice(0, HEIGHT), slice(0, WIDTH)),  # everything
        (slice(3, 64), slice(1, 3)),  # narrower than its surroundings
    ],
)
def test_only_a_part_converted_anew_gives_the_planes_of_the_whole_picture(moving: Part) -> None:
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    part = with_surroundings(moving, (WIDTH, HEIGHT))
    in_parts = PlanarPicture("yuv420p", (WIDTH, HEIGHT), part)
    in_parts.updated(as_frame(picture))
    for _ in range(3):
        patch = picture[moving]
        patch[:] = generator.integers(0, 256, patch.shape, np.uint8)
        whole = PlanarPicture("yuv420p", (WIDTH, HEIGHT), None).updated(as_frame(picture))
        updated = in_parts.updated(as_frame(picture[part]))
        np.testing.assert_array_equal(planes_of(updated), planes_of(whole))


def test_planes_are_those_of_bt709() -> None:
    colour = np.array([200, 40, 90])
    picture = np.broadcast_to(colour.astype(np.uint8), (HEIGHT, WIDTH, 3))
    planes = planes_of(PlanarPicture("yuv420p", (WIDTH, HEIGHT), None).updated(as_frame(picture)))
    red, green, blue = colour / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = [
        16 + 219 * luma,
        128 + 224 * (blue - luma) / 1.8556,
        128 + 224 * (red - luma) / 1.5748,
    ]
    rest = planes[HEIGHT:].reshape(2, -1)
    for values, value in zip((planes[:HEIGHT], *rest), expected, strict=True):
        assert np.abs(values.astype(float) - value).max() <= 1.0


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif"])
def test_files_are_the_same_as_those_of_whole_pictures(ending: str, tmp_path: Path) -> None:
    """Encoders keep no hold of a picture that changes under their hands."""
    generator = np.random.default_rng(1)
    picture = generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    moving = (slice(20, 51), slice(31, 70))
    with (
        VideoWriter(tmp_path / f"whole{ending}", (WIDTH, HEIGHT)) as whole,
        VideoWriter(tmp_path / f"part{ending}", (WIDTH, HEIGHT), moving=moving) as part,
    ):
        for _ in range(60):
            patch = picture[moving]
            patch[:] = generator.integers(0, 256, patch.shape, np.uint8)
            whole.write(picture)
            part.write(picture)
    assert part.path.read_bytes() == whole.path.read_bytes()
