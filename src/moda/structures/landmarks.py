"""The 478-point face mesh: named index sets, similarity fit, and rotations.

Axes everywhere: x to the right of the picture, y down, z away from the camera. *Canonical*
coordinates are free of pose: the unit is the distance between the outer eye corners, the origin
is near the centre of the rigid part of the face. "Left" and "right" are the person's own.

The numbering of the points is that of MediaPipe Face Mesh (Apache-2.0): 468 points of the face
surface and 5 points of each iris.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NUM_LANDMARKS = 478
NUM_SURFACE = 468  # without the irises

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Closed outline of the face, clockwise from the forehead."""

INNER_LIP_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LIP_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""Inner lip lines from the right to the left mouth corner; the same length, facing each other."""

OUTER_LIP = (
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
)  # fmt: skip
LIPS = (
    0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181, 185, 191,
    267, 269, 270, 291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375, 402, 405, 409, 415,
)  # fmt: skip
MOUTH_CORNERS = (61, 291)
LIP_CENTRES = (13, 14)

RIGHT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_EYE_UPPER = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_EYE_LOWER = (263, 249, 390, 373, 374, 380, 381, 382, 362)
"""Lid lines from the outer to the inner corner."""
RIGHT_IRIS, LEFT_IRIS = (468, 469, 470, 471, 472), (473, 474, 475, 476, 477)
"""Centre first, then four points of the rim."""

RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)

OUTER_EYE_CORNERS = (33, 263)
STABLE = (
    10, 67, 109, 338, 297, 151, 9, 8, 168, 6, 197, 195, 33, 133, 362, 263, 127, 356, 234, 454,
    103, 332, 54, 284, 21, 251, 162, 389, 108, 337,
)  # fmt: skip
"""Points that speech and expression hardly move: the pose is fitted on these."""

NECK_PIVOT = (0.0, 1.25, 0.6)
"""Centre of the head's rotation in canonical units: below the chin line, inside the neck."""

IDENTITY_POINTS = (
    10, 152, 234, 454, 172, 397, 1, 168, 33, 133, 362, 263, 105, 334, 61, 291, 0, 17, 129, 358, 199,
)  # fmt: skip
"""21 points whose canonical coordinates describe the identity to the motion model."""


class Similarity(NamedTuple):
    """``target = scale * source @ rotation.T + translation``."""

    scale: float
    rotation: Array  # (3, 3)
    translation: Array  # (3,)

    def apply(self, points: Array) -> Array:
        """Map points (..., 3) forward."""
        return self.scale * points @ self.rotation.T + self.translation

    def invert(self, points: Array) -> Array:
        """Map points (..., 3) back."""
        return (points - self.translation) @ self.rotation / self.scale


def fit_similarity(source: Array, target: Array) -> Similarity:
    """Least-squares similarity that maps ``source`` onto ``target``, both (N, 3).

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", PAMI 1991, equations 40-42.
    """
    weight = 1.0 / len(source)
    source_mean, target_mean = (weight * source).sum(0), (weight * target).sum(0)
    source_centred, target_centred = source - source_mean, target - target_mean
    left, singular, right = np.linalg.svd((weight * target_centred).T @ source_centred)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    scale = float((singular * signs).sum() / (weight * source_centred**2).sum())
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def rotation_from_euler(pitch: float, yaw: float, roll: float) -> Array:
    """Rotation ``Rz(roll) Ry(yaw) Rx(pitch)`` of column vectors; angles in degrees."""
    (sx, sy, sz), (cx, cy, cz) = (f(np.radians([pitch, yaw, roll])) for f in (np.sin, np.cos))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def euler_from_rotation(rotation: Array) -> tuple[float, float, float]:
    """Inverse of :func:`rotation_from_euler` for yaw within 90 degrees: (pitch, yaw, roll)."""
    pitch = np.degrees(np.arctan2(rotation[2, 1], rotation[2, 2]))
    yaw = np.degrees(np.arcsin(np.clip(-rotation[2, 0], -1.0, 1.0)))
    roll = np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return float(pitch), float(yaw), float(roll)


def lip_gap(landmarks: Array) -> Array:
    """Inner-lip gap in units of the outer-eye distance; landmarks (..., 478, 3) -> (...)."""
    return _distance(landmarks, *LIP_CENTRES) / eye_distance(landmarks)


def lip_gaps(faces: Array) -> Array:
    """Vertical inner-lip gaps at the nine columns between the corners, (..., 9)."""
    upper, lower = list(INNER_LIP_UPPER[1:-1]), list(INNER_LIP_LOWER[1:-1])
    return faces[..., lower, 1] - faces[..., upper, 1]


def eased_gap(gap: Array, contact: Array | float, release: Array | float) -> Array:
    """Gaps between lips: none up to ``contact``, themselves from ``release`` on, a line between."""
    eased = np.maximum(0.0, gap - contact) * release / (release - contact)
    return np.where(gap < release, eased, gap)


def identity_vector(face: Array) -> NDArray[np.float32]:
    """(63,) canonical coordinates of the identity points of a face (478, 3)."""
    return face[list(IDENTITY_POINTS)].astype(np.float32).ravel()


def lip_width(landmarks: Array) -> Array:
    """Distance of the mouth corners in units of the outer-eye distance; (..., 478, 3) -> (...)."""
    return _distance(landmarks, *MOUTH_CORNERS) / eye_distance(landmarks)


def lip_opening(landmarks: Array) -> Array:
    """Inner-lip gap over the distance of the mouth corners; (..., 478, 3) -> (...)."""
    return lip_gap(landmarks) / lip_width(landmarks)


def eye_openings(landmarks: Array) -> Array:
    """Lid distance over eye width, right and left eye; (..., 478, 3) -> (..., 2)."""
    right = _distance(landmarks, 159, 145) / _distance(landmarks, 33, 133)
    left = _distance(landmarks, 386, 374) / _distance(landmarks, 263, 362)
    return np.stack([right, left], axis=-1)


def eye_opening(landmarks: Array) -> Array:
    """Lid distance over eye width, mean of both eyes; (..., 478, 3) -> (...)."""
    return eye_openings(landmarks).mean(-1)


def eye_distance(landmarks: Array) -> Array:
    """Distance of the outer eye corners, in the unit of the landmarks; (..., 478, 3) -> (...)."""
    return _distance(landmarks, *OUTER_EYE_CORNERS)


def _distance(landmarks: Array, one: int, other: int) -> Array:
    return np.linalg.norm(landmarks[..., one, :] - landmarks[..., other, :], axis=-1)
