"""How bright the opening between the lips is over the lips themselves, by the width of the gap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.structures import Picture
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    OUTER_LIP,
    Array,
    lip_gap,
)

GAP_EDGES = (0.06, 0.10, 0.16, 0.25, float("inf"))
"""Four ranges of the lip gap, in outer-eye distances; narrower openings hold too few pixels."""
FILMED = (0.72, 0.90, 1.02, 0.87)
"""Medians of 3354 frames of filmed speakers in these ranges."""
LUMA = np.array([0.299, 0.587, 0.114])
LEAST_PIXELS = 6
HOLE = [*INNER_LIP_UPPER, *INNER_LIP_LOWER[::-1][1:-1]]


class MouthLight(NamedTuple):
    """The opening of the mouth in one frame."""

    gap: float
    """in outer-eye distances"""
    ratio: float
    """mean luma of the opening over that of the lips"""


def mouth_light(picture: Picture, landmarks: Array) -> MouthLight | None:
    """What one frame (H, W, 3) with its landmarks (478, 3) in pixels shows.

    None where the opening or the lips are smaller than 6 pixels.
    """
    outer = _inside(landmarks[list(OUTER_LIP), :2], picture.shape[:2])
    opening = _inside(landmarks[HOLE, :2], picture.shape[:2])
    lips = outer & ~opening
    if min(opening.sum(), lips.sum()) < LEAST_PIXELS:
        return None
    inside, around = ((picture[where] @ LUMA).mean() for where in (opening, lips))
    return MouthLight(float(lip_gap(landmarks)), float(inside / max(around, 1.0)))


def light_by_gap(frames: Iterable[MouthLight]) -> list[tuple[int, float]]:
    """Number of frames and median ratio in each of the four ranges; NaN where there is none."""
    seen = list(frames)
    ranges = np.digitize([frame.gap for frame in seen], GAP_EDGES)
    ratios = np.array([frame.ratio for frame in seen])
    groups = [ratios[ranges == number] for number in range(1, len(GAP_EDGES))]
    return [(len(g), float(np.median(g)) if len(g) else float("nan")) for g in groups]


def _inside(outline: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], (1,), cv2.LINE_8, 4)
    return mask > 0
