"""Matrices, ranges and high dynamic range: the colours of a picture are those that were filmed."""

from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame

from moda.media.colours import hlg_scene_light, pq_codes, pq_nits, to_rgb, toned_down

MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Shares (Kr, Kb) of red and blue in the luma, by the numbers of ITU-T H.273."""
COLOUR = (208, 87, 55)
BT2020_FROM_BT709 = np.array(
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)


def frame_of(
    colour: np.ndarray, matrix: int, *, size: tuple[int, int] = (96, 64), bits: int = 8, **tags: int
) -> VideoFrame:
    """An even picture of a colour (3,) in 0..1, coded with a matrix."""
    (red, blue), (width, height) = MATRICES[matrix], size
    luma = np.dot(colour, (red, 1.0 - red - blue, blue))
    chroma = (colour[2] - luma) / (2 - 2 * blue), (colour[0] - luma) / (2 - 2 * red)
    full = tags.get("color_range") == 2
    scale = 2 ** (bits - 8)
    levels = [luma * (255 if full else 219) + (0 if full else 16)]
    levels += [c * (255 if full else 224) + 128 for c in chroma]
    kind, dtype = ("yuv420p", np.uint8) if bits == 8 else ("yuv420p10le", np.uint16)
    rows = [np.full((height, width), levels[0] * scale)]
    rows += [np.full((height // 4, width), level * scale) for level in levels[1:]]
    frame = VideoFrame.from_ndarray(np.round(np.concatenate(rows)).astype(dtype), kind)
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame


def shown(frame: VideoFrame) -> np.ndarray:
    picture = to_rgb(frame, (frame.width, frame.height))
    assert picture.dtype == np.uint8
    assert picture.shape == (frame.height, frame.width, 3)
    return picture[20, 30].astype(float)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("color_range", [1, 2])
def test_named_matrices_and_ranges(matrix: int, color_range: int) -> None:
    frame = frame_of(np.array(COLOUR) / 255, matrix, colorspace=matrix, color_range=color_range)
    np.testing.assert_allclose(shown(frame), COLOUR, atol=3)


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((720, 576), 5), ((640, 480), 5), ((1280, 720), 1), ((720, 1280), 1), ((1440, 1080), 1)],
)
def test_unnamed_matrices_follow_the_size(size: tuple[int, int], matrix: int) -> None:
    frame = frame_of(np.array(COLOUR) / 255, matrix, size=size, colorspace=2, color_range=1)
    np.testing.assert_allclose(shown(frame), COLOUR, atol=3)


def signal(nits: np.ndarray, transfer: int) -> np.ndarray:
    """HLG or PQ codes (3,) of light in BT.709 colours."""
    light = BT2020_FROM_BT709 @ nits
    if transfer == 16:
        return pq_codes(light)
    luma = np.dot((0.2627, 0.6780, 0.0593), light / 1000)
    codes = np.linspace(0, 1, 100_001)
    return np.interp(light / 1000 * luma ** (1 / 1.2 - 1), hlg_scene_light(codes), codes)


@pytest.mark.parametrize("transfer", [16, 18])
@pytest.mark.parametrize("matrix_is_named", [True, False])
def test_dark_and_middle_tones_of_high_dynamic_range_stay(
    transfer: int, matrix_is_named: bool
) -> None:
    wanted = np.array([150.0, 100.0, 80.0])
    nits = 203.0 * (wanted / 255) ** 2.4
    tags = {"colorspace": 9 if matrix_is_named else 2, "color_range": 1}
    frame = frame_of(
        signal(nits, transfer), 9, bits=10, color_trc=transfer, color_primaries=9, **tags
    )
    np.testing.assert_allclose(shown(frame), wanted, atol=4)


@pytest.mark.parametrize("transfer", [16, 18])
def test_highlights_roll_off(transfer: int) -> None:
    grey = [
        shown(
            frame_of(
                signal(np.full(3, nits), transfer),
                9,
                bits=10,
                colorspace=9,
                color_range=1,
                color_trc=transfer,
                color_primaries=9,
            )
        )
        for nits in (50.0, 203.0, 500.0, 990.0)
    ]
    np.testing.assert_allclose(np.ptp(grey, axis=1), 0, atol=3)
    levels = np.mean(grey, axis=1)
    assert (np.diff(levels) > 1).all()
    assert levels[1] > 200
    assert levels[-1] > 250


def test_wide_colours_without_high_dynamic_range() -> None:
    light = BT2020_FROM_BT709 @ (np.array(COLOUR) / 255) ** 2.4
    frame = frame_of(
        light ** (1 / 2.4), 9, bits=10, colorspace=9, color_range=1, color_trc=14, color_primaries=9
    )
    np.testing.assert_allclose(shown(frame), COLOUR, atol=3)


def test_curves() -> None:
    codes = np.linspace(0.0, 1.0, 50)
    np.testing.assert_allclose(pq_codes(pq_nits(codes)), codes, atol=1e-6)
    np.testing.assert_allclose(pq_nits(np.array([0.508078, 1.0])), [100.0, 10_000.0], rtol=1e-3)
    np.testing.assert_allclose(
        hlg_scene_light(np.array([0.0, 0.5, 1.0])), [0, 1 / 12, 1], atol=1e-6
    )
    nits = np.linspace(0.1, 1000.0, 200)
    toned = toned_down(nits, 1000.0, 203.0)
    assert (np.diff(toned) > 0).all()
    assert toned[-1] == pytest.approx(203.0, rel=1e-3)
    np.testing.assert_allclose(toned[nits < 90], nits[nits < 90])
