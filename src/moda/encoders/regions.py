"""Parts of pictures in which a face is looked at: turned squares, sizes and quarter turns.

Coordinates are pixels of the picture, whole numbers being pixel centres.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from moda.structures import Picture
from moda.structures.landmarks import Array


class FaceRegion(NamedTuple):
    """A square in a picture, turned by ``roll`` radians, clockwise on the screen."""

    x: float
    y: float
    side: float
    roll: float


def sample_region(image: Picture, region: FaceRegion, size: int, *, border: int) -> Picture:
    """Resample a region to a square of ``size`` pixels.

    Where the picture is reduced to less than half, it is averaged first.

    Args:
        image: (H, W, 3).
        border: what is outside of the picture, ``cv2.BORDER_REPLICATE`` or ``BORDER_CONSTANT``.

    Returns:
        (size, size, 3); pixel (u, v) shows the region at ((u, v) / size - 1/2) * side.
    """
    height, width = image.shape[:2]
    cosine, sine = np.cos(region.roll), np.sin(region.roll)
    reach = 0.5 * region.side * (abs(cosine) + abs(sine)) + 2
    left = int(np.clip(region.x - reach, 0, width - 1))
    top = int(np.clip(region.y - reach, 0, height - 1))
    right = int(np.clip(region.x + reach + 1, left + 1, width))
    bottom = int(np.clip(region.y + reach + 1, top + 1, height))
    visible = image[top:bottom, left:right]

    step = region.side / size
    linear = step * np.array([[cosine, -sine], [sine, cosine]])
    shift = np.array([region.x - left, region.y - top]) - linear @ [size / 2, size / 2]
    if step >= 2:
        reduced = [max(1, round(length / int(step))) for length in visible.shape[1::-1]]
        ratio = np.array(reduced) / visible.shape[1::-1]
        visible = resize(visible, (reduced[0], reduced[1]))
        linear, shift = ratio[:, None] * linear, ratio * (shift + 0.5) - 0.5
    square = cv2.warpAffine(
        visible,
        np.column_stack([linear, shift]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
    )
    return square.astype(np.uint8, copy=False)


def resize(image: Picture, size: tuple[int, int]) -> Picture:
    """Resample to (width, height): averaged where it shrinks, bicubic where it grows."""
    shrinks = size[0] <= image.shape[1] and size[1] <= image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=method).astype(np.uint8, copy=False)


def shrink_to(image: Picture, long_side: int) -> Picture:
    """Average a picture down to a long side of so many pixels; smaller ones stay as they are."""
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return image
    return resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))


def turn_points(points: Array, size: tuple[int, int], quarter_turns: int) -> Array:
    """Points (K, 3) of a picture of size (width, height) where ``np.rot90`` of it has them."""
    width, height = size
    turned = points.copy()
    for _ in range(quarter_turns % 4):
        turned[:, :2] = np.column_stack([turned[:, 1], width - 1 - turned[:, 0]])
        width, height = height, width
    return turned
