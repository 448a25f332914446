"""The lips of a texture: an open mouth painted shut, and how dark they are where they meet."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from moda.rendering.mesh.geometry import smoothstep
from moda.structures import Picture
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    OUTER_LIP,
    Array,
    lip_gaps,
)

UPPER, LOWER = list(INNER_LIP_UPPER), list(INNER_LIP_LOWER)
OUTER_UPPER, OUTER_LOWER = list(OUTER_LIP[:11]), [OUTER_LIP[0], *OUTER_LIP[:9:-1]]
FRINGE, FRINGE_OF_LIP = 0.025, 0.45
"""How far what is between open lips shows on them, in eye distances, and at most of their height:
a lens spreads teeth and dark over the edge, and the edge is not found exactly."""
LIP_USED = 0.85
"""Of a lip's height, what its continuation over the opening is taken from."""
OPEN_GAPS = (0.010, 0.020)
"""Lip gaps between which a pictured mouth passes from closed to open: trackers leave a gap between
closed lips."""
SEAM_LIGHT = 0.43
"""Luma of the line on which lips meet over that of the lips: median of 61 closed mouths."""
LUMA = np.array([0.299, 0.587, 0.114])


class MouthAxes(NamedTuple):
    """Axes along and across a mouth in a picture, with their origin between its corners, in px."""

    origin: Array  # (2,)
    turn: Array  # (2, 2)
    half_width: float

    def along_across(self, points: Array) -> Array:
        """Points (N, >= 2) of the picture in these axes (N, 2)."""
        return (points[:, :2] - self.origin) @ self.turn


def mouth_axes(corners: Array) -> MouthAxes:
    """Of a mouth whose right and left corners (2, >= 2) are known."""
    right, left = corners[:, :2]
    axis = left - right
    length = max(1e-6, float(np.hypot(*axis)))
    cosine, sine = axis / length
    return MouthAxes(
        0.5 * (right + left), np.array([[cosine, -sine], [sine, cosine]]), 0.5 * length
    )


def paint_over_mouth(plate: Picture, landmarks: Array, unit: float, share: float) -> Picture:
    """A picture whose open mouth has become lip.

    Teeth and dark between the lips, and their fringe on the lips, show the mirror image of the
    lip beside them.

    Args:
        plate: (H, W, 3).
        landmarks: (478, 3) px of it.
        unit: distance of the outer eye corners in px.
        share: 0..1, how much of the mouth is painted over.
    """
    texture: Picture = plate.copy()
    outline = landmarks[list(OUTER_LIP), :2]
    left, top = np.maximum(np.floor(outline.min(0)).astype(int), 0)
    right, bottom = np.ceil(outline.max(0)).astype(int) + 1
    region = texture[top:bottom, left:right]
    if min(region.shape) == 0:
        return texture
    axes = mouth_axes(landmarks[[UPPER[0], UPPER[-1]]])
    rows, columns = np.indices(region.shape[:2])
    pixels = np.column_stack([columns.ravel() + left, rows.ravel() + top])
    along, across = axes.along_across(pixels).T.reshape(2, *region.shape[:2])
    upper, lower, outer_upper, outer_lower = (
        _line(axes.along_across(landmarks[points]), along)
        for points in (UPPER, LOWER, OUTER_UPPER, OUTER_LOWER)
    )
    is_upper = across < 0.5 * (upper + lower)
    edge = np.where(is_upper, upper, lower)
    outwards = np.where(is_upper, -1.0, 1.0)
    height = np.maximum(np.where(is_upper, upper - outer_upper, outer_lower - lower), 0.0)
    fringe = np.minimum(max(FRINGE * unit, 1.5), FRINGE_OF_LIP * height)
    fringe *= np.clip(4.0 * (1.0 - np.abs(along) / axes.half_width), 0.0, 1.0)
    beside = outwards * (across - edge)
    mirrored = np.minimum(2.0 * fringe - beside, np.maximum(LIP_USED * height, fringe))
    source = np.where(beside < fringe, edge + outwards * mirrored - across, 0.0)
    shift = (source[..., None] * axes.turn[:, 1]).astype(np.float32)
    filled = cv2.remap(
        region,
        columns.astype(np.float32) + shift[..., 0],
        rows.astype(np.float32) + shift[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    region[:] = np.round(region + share * (filled.astype(np.float32) - region)).astype(np.uint8)
    return texture


def open_share(face: Array) -> float:
    """How open a mouth is, 0..1, from the canonical face (478, 3)."""
    return float(smoothstep(*OPEN_GAPS, float(lip_gaps(face).max())))


def _line(points: Array, along: Array) -> Array:
    """Heights of a line through points (N, 2) at places along it."""
    order = np.argsort(points[:, 0])
    return np.interp(along, points[order, 0], points[order, 1])
