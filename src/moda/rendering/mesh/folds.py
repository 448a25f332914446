"""Folds that deepen where the skin is pressed together.

Nothing is drawn that the photograph lacks: its own fine shadows beside the nose, between the brows
and on the forehead become darker with the mesh's strain across them. A smooth face stays smooth.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.geometry import smoothstep
from moda.rendering.mesh.plate import blur
from moda.structures import Picture
from moda.structures.landmarks import Array

F32 = NDArray[np.float32]


class Place(NamedTuple):
    """Where a fold may lie."""

    lines: tuple[tuple[int, ...], ...]
    """Chains of landmarks along it"""
    across: tuple[int, int]
    """Landmarks on its two sides, which come together as it deepens"""
    full: float
    """Shortening between them, beyond :data:`LEAST_SHORTENING`, at which it is deepest"""


PLACES = (
    Place(((129, 203, 206, 216),), (50, 61), 0.14),
    Place(((358, 423, 426, 436),), (280, 291), 0.14),
    Place(((9, 8), (107, 55), (336, 285)), (55, 285), 0.12),
    Place(((193, 122, 188), (168, 6), (417, 351, 412)), (129, 133), 0.12),
    Place(((104, 69, 108, 151, 337, 299, 333),), (66, 109), 0.18),
)
DEEPEST = 2.0
"""What is added to a fold's own shadow, at most, in the shadow's depth."""
LEAST_SHORTENING = 0.02
"""Speech and a breath of expression deepen nothing."""
REACH = 0.07
"""Half the width of the skin that belongs to a line; eye distances, as the next."""
FINE, COARSE = 0.008, 0.045
"""Shadows between these widths count as folds."""
DARKEST_FOLD, DARKEST_SHADOW = 0.12, 0.2
"""Logarithms of light: deeper shadows are limited to the first; beyond the second it is hair."""
LEAST_SHADOW = -0.004
MARGIN = 0.25
"""Of the picture around all places; eye distances."""


class Folds:
    """The folds of one portrait.

    Args:
        texture: that is warped, (H, W, 3).
        texels: (V, 2) where the mesh's points are on it.
        photographed: (468, 3) the face as it is there, canonical.
        unit: texels of an eye distance.
    """

    def __init__(self, texture: Picture, texels: F32, photographed: Array, unit: float) -> None:
        points = texels[[point for place in PLACES for line in place.lines for point in line]]
        left, top = np.maximum(points.min(0) - MARGIN * unit, 0).astype(int)
        right, bottom = (points.max(0) + MARGIN * unit).astype(int) + 1
        region = texture[top:bottom, left:right]
        shadow, place = _shadows(region, texels - np.array([left, top], np.float32), unit)
        rows, columns = np.nonzero(shadow < LEAST_SHADOW)
        self._texels = (rows + top) * texture.shape[1] + columns + left
        self._place = place[rows, columns]
        self._shadow = shadow[rows, columns]
        self._skin = region[rows, columns]
        self._lengths = _lengths(photographed)

    def deepen(self, texture: Picture, shape: Array) -> None:
        """Write the skin in the folds, as deep as on a face (468, 3), on a texture in place."""
        shortening = 1.0 - _lengths(shape) / self._lengths
        full = np.array([place.full for place in PLACES])
        depth = DEEPEST * smoothstep(0.0, 1.0, (shortening - LEAST_SHORTENING) / full)
        light = 1.0 + depth[self._place] * self._shadow
        pixels = self._skin * light[:, None] + 0.5
        texture.reshape(-1, 3)[self._texels] = pixels.astype(np.uint8)


def _lengths(shape: Array) -> Array:
    """(N,) how far apart the skin on both sides of each place is, canonical units."""
    first, second = np.array([place.across for place in PLACES]).T
    return np.linalg.norm(shape[first, :2] - shape[second, :2], axis=1)


def _shadows(skin: Picture, texels: F32, unit: float) -> tuple[F32, NDArray[np.intp]]:
    """What folds take from the light of a picture (h, w), 0 or below, and the place of each."""
    light = np.log(skin.mean(2, dtype=np.float32) + 8)
    relief = blur(light, FINE * unit) - blur(light, COARSE * unit)
    hair = cv2.dilate((relief < -DARKEST_SHADOW).astype(np.uint8), np.ones((5, 5), np.uint8))
    relief = (np.clip(relief, -DARKEST_FOLD, 0.0) * (1 - hair)).astype(np.float32)
    shadows = np.stack([relief * _weight(relief.shape, texels, unit, place) for place in PLACES])
    return shadows.min(0), shadows.argmin(0)


def _weight(size: tuple[int, ...], texels: F32, unit: float, place: Place) -> F32:
    """(H, W) 1 on the lines of a place, 0 away from them."""
    near = np.zeros(size, np.uint8)
    for line in place.lines:
        corners = np.round(texels[list(line)] * 16).astype(np.int32)
        cv2.polylines(near, [corners], False, 255, max(1, round(REACH * unit)), cv2.LINE_AA, 4)
    return blur(near.astype(np.float32) / np.float32(255), 0.03 * unit)
