"""Does an emotion show? The faces of two videos, tracked again and compared."""

from __future__ import annotations

import numpy as np

from moda.encoders.tracking import remove_pose
from moda.errors import InputError
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    MOUTH_CORNERS,
    Array,
    eye_distance,
    lip_gap,
)

INNER_BROWS = ((107, 55), (336, 285))
OUTER_BROWS = ((70, 46), (300, 276))
"""Upper and lower edge of the brow, right and left"""
UPPER_LIDS, LOWER_LIDS = (160, 159, 158, 387, 386, 385), (144, 145, 153, 373, 374, 380)


def landmark_effects(neutral: Array, emotional: Array) -> dict[str, float]:
    """Differences of the mean face measures of two tracks, in hundredths of the outer-eye distance.

    Heights go up and are those of the pose-free face, so that a nod is no raised brow. The corners
    are measured against the middle of the lips: a smile is their curve, not where the mouth is.

    Args:
        neutral: (T, 478, 3) pixels.
        emotional: (U, 478, 3) pixels.

    Returns:
        ``mouth_width``, ``corner_height``, ``corner_slant`` (left corner above the right one),
        ``inner_brow_height``, ``outer_brow_height``, ``brow_distance``, ``lid_opening``,
        ``lip_gap``.

    Raises:
        InputError: a track is empty.
    """
    if not len(neutral) or not len(emotional):
        raise InputError("there are no faces to compare; give at least one of each")
    reference = neutral[0] / eye_distance(neutral[0])
    faces = [remove_pose(track, reference)[0] for track in (neutral, emotional)]
    unit = float(np.median(eye_distance(faces[0])))
    before, after = (_measures(face) for face in faces)
    return {name: 100.0 * (after[name] - before[name]) / unit for name in before}


def gap_spread(neutral: Array, emotional: Array) -> float:
    """How far an emotion lets the lips go in speech: spread of their gap over that without it.

    Args:
        neutral: (T, 478, 3) pixels, speaking.
        emotional: (U, 478, 3) pixels, saying the same.

    Raises:
        InputError: a track is empty, or the lips without the emotion do not move.
    """
    if not len(neutral) or not len(emotional):
        raise InputError("there are no faces to compare; give at least one of each")
    spread, reference = (float(lip_gap(track).std()) for track in (emotional, neutral))
    if reference == 0.0:
        raise InputError("the lips do not move without the emotion; give frames of speech")
    return spread / reference


def eye_opening(faces: Array) -> float:
    """Mean height between the lids (T, 478, 3), in outer-eye distances, as the eyes lie."""
    heights = faces[:, list(LOWER_LIDS), :2] - faces[:, list(UPPER_LIDS), :2]
    openings = np.linalg.norm(heights, axis=-1).mean(1) / eye_distance(faces)
    return float(openings.mean())


def _measures(faces: Array) -> dict[str, float]:
    """Mean measures of pose-free faces (T, 478, 3) in their own unit."""
    mean = faces.mean(0)
    right, left = mean[list(MOUTH_CORNERS)]
    lips = mean[[INNER_LIP_UPPER[5], INNER_LIP_LOWER[5]]]
    inner, outer = (mean[np.array(points)].mean(1) for points in (INNER_BROWS, OUTER_BROWS))
    return {
        "mouth_width": float(left[0] - right[0]),
        "corner_height": float(lips[:, 1].mean() - 0.5 * (left[1] + right[1])),
        "corner_slant": float(right[1] - left[1]),
        "inner_brow_height": float(-inner[:, 1].mean()),
        "outer_brow_height": float(-outer[:, 1].mean()),
        "brow_distance": float(inner[1, 0] - inner[0, 0]),
        "lid_opening": float((mean[list(LOWER_LIDS), 1] - mean[list(UPPER_LIDS), 1]).mean()),
        "lip_gap": float(lips[1, 1] - lips[0, 1]),
    }
