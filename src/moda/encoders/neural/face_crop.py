"""The square around a face that the networks of the neural renderer see.

The square stands upright on the line from the eyes to the lips, 2.3 times as large as the face
from the brows to the chin. Networks take a crop of 512 or 256 px.

Source: the cropping of LivePortrait (arXiv 2407.03168), whose released networks expect it.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from moda.structures import Picture
from moda.structures.landmarks import (
    FACE_OVAL,
    LEFT_BROW,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LIPS,
    MOUTH_CORNERS,
    RIGHT_BROW,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    Array,
)

CROP_SIZE_PX = 512
EXTRACTOR_SIZE_PX = 256

CROP_SCALE = 2.3
"""Side of the square over the larger extent of the face."""
CROP_RISE = 0.125
"""How far the centre of the square lies above that of the face, in sides: room for the hair."""

SHORTEST_AXIS_PX = 1e-3
"""Eyes and lips nearer than this give no direction: the face counts as upright."""

OVAL_FROM_EYES = tuple(FACE_OVAL[FACE_OVAL.index(356) : FACE_OVAL.index(127) + 1])
"""The face oval from the height of the eyes down to the chin and up again: the networks' crop was
made with a set of points that has no forehead."""

NOSE = (168, 6, 197, 195, 5, 4, 1, 2, 129, 358, 98, 327)
FACE_POINTS = (
    *OVAL_FROM_EYES,
    *RIGHT_BROW,
    *LEFT_BROW,
    *RIGHT_EYE_UPPER,
    *RIGHT_EYE_LOWER,
    *LEFT_EYE_UPPER,
    *LEFT_EYE_LOWER,
    *NOSE,
    *LIPS,
)  # fmt: skip
RIGHT_EYE_CROSS, LEFT_EYE_CROSS = (33, 133, 159, 145), (263, 362, 386, 374)
"""Two corners and the middles of the two lids; their mean is the centre of the eye."""


class CropPoints(NamedTuple):
    """What the crop depends on, in pixels."""

    points: Array
    """(N, 2) points of the face without forehead"""
    eyes: Array
    """(2,) middle of both eyes"""
    lips: Array
    """(2,) middle of the mouth corners"""


class CropGeometry(NamedTuple):
    """A square in a picture, turned by ``angle`` radians, clockwise on the screen."""

    centre: Array  # (2,) pixels
    side_px: float
    angle: float
    crop_from_image: Array  # (2, 3)


def crop_points(landmarks: Array) -> CropPoints:
    """The points of a face (478, 3) that its crop depends on.

    The published crop was made from another set of 106 landmarks; these are the points that lie
    where its outermost ones do.
    """
    planar = landmarks[:, :2].astype(np.float64)
    eyes = [planar[list(eye)].mean(0) for eye in (RIGHT_EYE_CROSS, LEFT_EYE_CROSS)]
    return CropPoints(
        planar[list(FACE_POINTS)], np.mean(eyes, axis=0), planar[list(MOUTH_CORNERS)].mean(0)
    )


def crop_geometry(face: CropPoints) -> CropGeometry:
    """The square around a face.

    With ``v`` the direction from the eyes to the lips and ``u`` at right angles to it, the box of
    the points along ``u`` and ``v`` has a middle and a larger extent ``e``. The square has the side
    ``CROP_SCALE * e`` and its centre ``CROP_RISE`` sides above that middle.
    """
    down = face.lips - face.eyes
    length = np.linalg.norm(down)
    down = np.array([0.0, 1.0]) if length < SHORTEST_AXIS_PX else down / length
    axes = np.array([[down[1], -down[0]], down])
    mean = face.points.mean(0)
    along = (face.points - mean) @ axes.T
    low, high = along.min(0), along.max(0)
    side = CROP_SCALE * float((high - low).max())
    centre = mean + 0.5 * (low + high) @ axes - CROP_RISE * side * down
    return square_crop(centre, side, float(np.arctan2(axes[0, 1], axes[0, 0])))


def square_crop(centre: Array, side_px: float, angle: float) -> CropGeometry:
    """The geometry of a square of given centre (2,), side, and angle in radians."""
    zoom = CROP_SIZE_PX / side_px
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = zoom * np.array([[cosine, sine], [-sine, cosine]])
    crop_from_image = np.column_stack([linear, CROP_SIZE_PX / 2 - linear @ centre])
    return CropGeometry(centre, side_px, angle, crop_from_image)


def crop_picture(image: Picture, geometry: CropGeometry) -> Picture:
    """The crop (S, S, 3) of a picture (H, W, 3), bilinear, black where the picture ends."""
    crop = cv2.warpAffine(
        image,
        geometry.crop_from_image,
        (CROP_SIZE_PX, CROP_SIZE_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return crop.astype(np.uint8, copy=False)


def extractor_picture(crop: Picture) -> Picture:
    """A crop averaged down to the 256 px that the extractors see."""
    size = (EXTRACTOR_SIZE_PX, EXTRACTOR_SIZE_PX)
    return cv2.resize(crop, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
