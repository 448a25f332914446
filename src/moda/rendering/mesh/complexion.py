"""What the portrait says about colours, light and sharpness inside the mouth."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.lips import LUMA, SEAM_LIGHT
from moda.rendering.mesh.plate import long_blur
from moda.structures import Floats, Picture
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    OUTER_LIP,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    Array,
)

RIGHT_CHEEK, LEFT_CHEEK = (50, 36, 205, 187, 147), (280, 266, 425, 411, 376)
AROUND_MOUTH = (129, 203, 206, 216, 212, 202, 204, 194, 201, 200, 421, 418, 424, 422, 432, 436,
                426, 423, 358, 2)  # fmt: skip
IVORY = np.array([1.06, 1.01, 0.92])
AVERAGE_SKIN = np.array([1.22, 0.95, 0.83])
MUCOSA = np.array([1.19, 0.90, 0.95])
"""Colours relative to a grey of the same brightness, in white light."""
LIPS_SOFTNESS = 0.85
"""The outline of lips is soft by itself; this allows for it."""
TOOTH_LIGHT = 0.88
"""Teeth lie in the shadow of the lips: those of 18 filmed speakers are 1.03 times as light as their
skin, and would be 1.21 times in front of it."""
GRAIN_SIZE = 64


class Palette(NamedTuple):
    """Colours 0..255, float32 (3,) each, in the light of the portrait."""

    tooth: Floats
    gum: Floats
    tongue: Floats
    deep: Floats
    wall: Floats
    lip: Floats
    seam: Floats
    """Where closed lips meet; their red is reflected from one to the other."""
    flush: Floats
    """Relative colour of light that flesh has reflected."""
    skin: Floats
    slant: float
    """Relative change of brightness from the middle of the mouth to its left corner."""

    @property
    def colours(self) -> Floats:
        """(9, 3) all colours, in their order here."""
        return np.stack(self[:-1])

    def with_tooth_colour(self, seen: Floats) -> Palette:
        """Take the colour of the teeth from teeth that are seen."""
        full_light = seen * min(1.08, 240.0 / max(float(seen.max()), 1.0))
        return self._replace(tooth=full_light.astype(np.float32))


def measure_palette(plate: Picture, landmarks: Array) -> Palette:
    """Colours of the mouth from those of skin, lips and eyes.

    A picture in one hue (black and white, sepia, a statue) gets a mouth of that hue.
    """
    right, left = (_median(plate, landmarks[list(c), :2]) for c in (RIGHT_CHEEK, LEFT_CHEEK))
    skin = 0.25 * (right + left) + 0.5 * _around_mouth(plate, landmarks)
    lip = _lip_colour(plate, landmarks)
    sclera = _sclera_colour(plate, landmarks, skin)
    skin_tint, lip_tint, sclera_tint = (_tint(colour) for colour in (skin, lip, sclera))
    variety = max(np.abs(lip_tint - skin_tint).max(), 0.7 * np.abs(sclera_tint - skin_tint).max())
    redness = float(lip[0] / max(lip[1], 1.0))
    natural = float(np.clip((variety - 0.02) / 0.04, 0.0, 1.0))
    natural *= float(np.clip((redness - 1.06) / 0.12, 0.0, 1.0))
    luma, sclera_luma = float(skin.mean()), float(sclera.mean())
    tooth_luma = min(0.62 * sclera_luma + 0.57 * luma, max(1.12 * sclera_luma, 1.04 * luma), 240.0)
    tooth_luma *= TOOTH_LIGHT * (0.85 + 0.15 * natural)

    def colour(luma: float, tint: Array) -> Floats:
        tint = natural * tint / tint.mean() + (1.0 - natural) * skin_tint
        if np.ptp(skin) == 0.0 and np.ptp(lip) == 0.0:
            tint = np.ones(3)
        return np.clip(luma * tint, 0.0, 255.0).astype(np.float32)

    light = np.clip(np.sqrt(skin_tint / AVERAGE_SKIN), 0.85, 1.15)
    flesh = _tint(skin_tint * MUCOSA)
    flesh = _tint(0.65 * flesh + 0.35 * np.clip(lip_tint, 0.85 * flesh, 1.15 * flesh))
    slant = float(np.clip(0.5 * (left.mean() - right.mean()) / max(luma, 1.0), -0.25, 0.25))
    return Palette(
        tooth=colour(tooth_luma, 0.45 * sclera_tint + 0.55 * IVORY * light),
        gum=colour(0.62 * luma, flesh * [1.05, 0.95, 0.97]),
        tongue=colour(0.41 * luma + 0.64 * min(float(lip.mean()), 0.75 * luma), flesh),
        deep=colour(0.135 * luma, flesh * [1.15, 0.9, 0.9]),
        wall=colour(0.44 * luma, flesh * [1.1, 0.9, 0.9]),
        lip=np.clip(lip, 0, 255).astype(np.float32),
        seam=np.clip(SEAM_LIGHT * lip * lip / max(float(lip @ LUMA), 1.0), 0, 255).astype(
            np.float32
        ),
        flush=(colour(100.0, flesh) / np.float32(100.0)),
        skin=skin.astype(np.float32),
        slant=slant,
    )


def blur_of(plate: Picture, landmarks: Array, unit: float) -> float:
    """Blur of the photograph in px (standard deviation), from the steepest edges at eyes and lips.

    An edge of contrast C blurred by a Gaussian has the steepest slope C / (blur * sqrt(2 pi)).
    """
    eyes = [
        _edge_blur(plate, landmarks[[*upper, *lower], :2], 0.06 * unit)
        for upper, lower in ((RIGHT_EYE_UPPER, RIGHT_EYE_LOWER), (LEFT_EYE_UPPER, LEFT_EYE_LOWER))
    ]
    lips = LIPS_SOFTNESS * _edge_blur(plate, landmarks[list(OUTER_LIP), :2], 0.03 * unit)
    return float(np.clip(0.4 * min(eyes) + 0.6 * lips, 0.5, max(0.6, 0.05 * unit)))


def _edge_blur(plate: Picture, points: Array, margin: float) -> float:
    region = _box(plate, points, margin).mean(2)
    if min(region.shape) < 4:
        return 1.0
    contrast = float(np.subtract(*np.percentile(region, [93, 7])))
    slope = np.hypot(*(gradient[1:-1, 1:-1] for gradient in np.gradient(region)))
    steepest = float(np.percentile(slope, 98))
    return contrast / max(steepest, 1e-3) / float(np.sqrt(2.0 * np.pi))


def grain_of(plate: Picture, landmarks: Array) -> Floats:
    """A tile (64, 64) of noise as strong as that of the skin, in grey levels."""
    region = _box(plate, landmarks[list(RIGHT_CHEEK), :2], 0.0).mean(2)
    strength = 0.0
    if min(region.shape) >= 6:
        rough = region - cv2.GaussianBlur(region, (0, 0), 1.0)
        strength = min(4.0, 1.4826 * float(np.median(np.abs(rough))))
    tile = np.random.default_rng(7).normal(0.0, 1.0, (GRAIN_SIZE, GRAIN_SIZE))
    margin = 8
    tile = long_blur(np.pad(tile, margin, "wrap"), 0.6)[margin:-margin, margin:-margin]
    return (0.8 * strength / tile.std() * tile).astype(np.float32)


def _tint(colour: Array) -> Array:
    return colour / max(float(colour.mean()), 1.0)


def _box(plate: Picture, points: Array, margin: float) -> Floats:
    height, width = plate.shape[:2]
    left, top = np.clip(np.floor(points.min(0) - margin).astype(int), 0, [width - 1, height - 1])
    right, bottom = np.ceil(points.max(0) + margin).astype(int) + 1
    return plate[top : max(bottom, top + 1), left : max(right, left + 1)].astype(np.float32)


def _mask(plate: Picture, outline: Array) -> NDArray[np.bool_]:
    mask = np.zeros(plate.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], (1,), cv2.LINE_8, 4)
    return mask > 0


def _median(plate: Picture, outline: Array) -> Array:
    pixels = plate[_mask(plate, outline)].astype(np.float32)
    if not len(pixels):
        pixels = _box(plate, outline, 0.0).reshape(-1, 3)
    return np.median(pixels, axis=0).astype(np.float64)


def _around_mouth(plate: Picture, landmarks: Array) -> Array:
    """Skin about the mouth without the lips; the brighter half, because of beards."""
    mask = _mask(plate, landmarks[list(AROUND_MOUTH), :2])
    mask &= ~_mask(plate, landmarks[list(OUTER_LIP), :2])
    pixels = plate[mask].astype(np.float64)
    if len(pixels) < 8:
        return _median(plate, landmarks[list(LEFT_CHEEK), :2])
    luma = pixels.mean(1)
    return np.median(pixels[luma >= np.median(luma)], axis=0)


def _lip_colour(plate: Picture, landmarks: Array) -> Array:
    mask = _mask(plate, landmarks[list(OUTER_LIP), :2])
    hole = [*INNER_LIP_UPPER, *INNER_LIP_LOWER[::-1][1:-1]]
    mask &= ~_mask(plate, landmarks[hole, :2])
    pixels = plate[mask].astype(np.float64)
    if len(pixels) < 4:
        return _median(plate, landmarks[list(OUTER_LIP), :2])
    return np.median(pixels, axis=0)


def _sclera_colour(plate: Picture, landmarks: Array, skin: Array) -> Array:
    """White of the eyes: the brighter, least yellow part of the eye beside the iris."""
    found = []
    for upper, lower, iris in (
        (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_IRIS),
        (LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_IRIS),
    ):
        outline = landmarks[[*upper, *lower[::-1][1:-1]], :2]
        centre = landmarks[iris[0], :2]
        radius = np.linalg.norm(landmarks[list(iris[1:]), :2] - centre, axis=1).mean()
        rows, columns = np.nonzero(_mask(plate, outline))
        white = np.hypot(columns - centre[0], rows - centre[1]) > 1.1 * radius
        pixels = plate[rows[white], columns[white]].astype(np.float64)
        if len(pixels) >= 4:
            luma = pixels.mean(1)
            pixels = pixels[luma >= np.percentile(luma, 55)]
            yellow = (pixels[:, 0] - pixels[:, 2]) / (pixels.mean(1) + 1.0)
            found.append(pixels[yellow <= np.percentile(yellow, 60)].mean(0))
    if not found:
        return 1.05 * skin
    colour = max(found, key=lambda c: float(c.mean()))
    luma = float(np.clip(colour.mean(), 0.85 * skin.mean(), min(1.9 * skin.mean(), 245.0)))
    return colour * (luma / max(float(colour.mean()), 1.0))
