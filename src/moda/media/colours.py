"""Decoded pictures to the colours of ordinary screens: BT.709 at 100 % of its own white."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from moda.structures import Floats, Picture
from moda.structures.landmarks import Array

UNSPECIFIED = 2
"""Of a matrix, primaries or a transfer function, in the numbers of ITU-T H.273."""
LARGEST_STANDARD_DEFINITION = (1024, 576)
"""(width, height) px: larger pictures that do not name their matrix have that of BT.709."""
BT2020_PRIMARIES, PQ, HLG = 9, 16, 18
LARGE_WHITE_NITS, PEAK_NITS = 203.0, 1000.0
"""Diffuse white of high dynamic range (ITU-R BT.2408), and the brightest that is told apart."""
SCREEN_GAMMA = 2.4
"""ITU-R BT.1886."""
CODES = 4096
DARKEST = 1e-6
"""Light, as a share of the peak, below which there is nothing."""
BT709_FROM_BT2020 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
BT2020_LUMA = np.array([[0.2627, 0.6780, 0.0593]], np.float32)


def to_rgb(frame: VideoFrame, size: tuple[int, int]) -> Picture:
    """A decoded picture in the size (width, height) as RGB (H, W, 3).

    High dynamic range and the wide colours of BT.2020 become those of BT.709. Pictures that do not
    name their matrix have that of BT.709 where they are larger than standard definition.
    """
    is_wide = frame.color_trc in (PQ, HLG) or frame.color_primaries == BT2020_PRIMARIES
    matrix = None
    if frame.colorspace == UNSPECIFIED:
        large = any(np.greater((frame.width, frame.height), LARGEST_STANDARD_DEFINITION))
        matrix = Colorspace.BT2020 if is_wide else Colorspace.ITU709 if large else None
    width, height = size
    kind = "rgb48le" if is_wide else "rgb24"
    picture = frame.reformat(width, height, kind, matrix).to_ndarray()
    return _narrowed(picture, frame.color_trc) if is_wide else picture.astype(np.uint8, copy=False)


def _narrowed(codes: np.ndarray, transfer: int) -> Picture:
    """Wide colours (H, W, 3) of 16 bit as the screen's, toned down if they are brighter."""
    curves = _curves(transfer)
    light = curves.light.take(codes >> 4)
    brightest = cv2.max(cv2.max(light[..., 0], light[..., 1]), light[..., 2])
    system = cv2.pow(cv2.transform(light, BT2020_LUMA) + DARKEST, curves.system_gamma - 1.0)
    steps = np.minimum(cv2.sqrt(brightest * system), 1.0) * (CODES - 1)
    light *= (system * curves.gain.take(steps.astype(np.uint16)))[..., None]
    narrow = np.clip(cv2.transform(light, BT709_FROM_BT2020), 0.0, 1.0)
    return cv2.convertScaleAbs(cv2.pow(narrow, 1.0 / SCREEN_GAMMA), alpha=255.0).astype(np.uint8)


class Curves(NamedTuple):
    """How the codes of one transfer function become light on a screen."""

    light: Floats
    """(4096,) linear, 1 being the peak, by the code"""
    system_gamma: float
    """From the light of the scene to that of the screen"""
    gain: Floats
    """(4096,) towards 1 for the screen's white, by the square root of the brightest channel"""


@cache
def _curves(transfer: int) -> Curves:
    codes = np.linspace(0.0, 1.0, CODES)
    if transfer not in (PQ, HLG):
        return Curves((codes**SCREEN_GAMMA).astype(np.float32), 1.0, np.ones(CODES, np.float32))
    light = pq_nits(codes) / PEAK_NITS if transfer == PQ else hlg_scene_light(codes)
    nits = np.maximum(PEAK_NITS * codes**2, 1e-3)
    gain = toned_down(nits, PEAK_NITS, LARGE_WHITE_NITS) / nits * (PEAK_NITS / LARGE_WHITE_NITS)
    system_gamma = 1.2 if transfer == HLG else 1.0
    return Curves(light.astype(np.float32), system_gamma, gain.astype(np.float32))


def pq_nits(codes: Array) -> Array:
    """Light of PQ codes 0..1 (ITU-R BT.2100, table 4)."""
    root = codes ** (1.0 / 78.84375)
    return 1e4 * (np.maximum(root - 0.8359375, 0.0) / (18.8515625 - 18.6875 * root)) ** (
        1.0 / 0.1593017578125
    )


def pq_codes(nits: Array) -> Array:
    """Inverse of :func:`pq_nits`."""
    power = (nits / 1e4) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1.0 + 18.6875 * power)) ** 78.84375


def hlg_scene_light(codes: Array) -> Array:
    """Linear light 0..1 of HLG codes 0..1 (ITU-R BT.2100, table 5)."""
    bright = (np.exp((codes - 0.55991073) / 0.17883277) + 0.28466892) / 12.0
    return np.where(codes <= 0.5, codes**2 / 3.0, bright)


def toned_down(nits: Array, peak: float, target: float) -> Array:
    """Light of up to ``peak`` on a screen of ``target``; dark and middle tones stay.

    The highlights follow a Hermite spline of PQ codes (ITU-R BT.2390, section 5.4).
    """
    largest = float(pq_codes(np.array(peak)))
    code, white = pq_codes(nits) / largest, float(pq_codes(np.array(target))) / largest
    knee = 1.5 * white - 0.5
    way = np.clip((code - knee) / (1.0 - knee), 0.0, 1.0)
    spline = (
        (2 * way**3 - 3 * way**2 + 1) * knee
        + (way**3 - 2 * way**2 + way) * (1.0 - knee)
        + (3 * way**2 - 2 * way**3) * white
    )
    return np.where(code < knee, nits, pq_nits(spline * largest))
