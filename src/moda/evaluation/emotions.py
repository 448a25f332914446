"""Does an emotion show? The faces of two videos, tracked again and compared."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moda.encoders.face import FaceModels
from moda.encoders.tracking import remove_pose, track_landmarks
from moda.errors import InputError
from moda.landmarks import INNER_LIP_LOWER, INNER_LIP_UPPER, MOUTH_CORNERS, Array, eye_distance
from moda.structures import FRAMES_PER_SECOND, Picture

INNER_BROWS = ((107, 55), (336, 285))
OUTER_BROWS = ((70, 46), (300, 276))
"""Upper and lower edge of the brow, right and left"""
UPPER_LIDS, LOWER_LIDS = (160, 159, 158, 387, 386, 385), (144, 145, 153, 373, 374, 380)


def emotion_effects(
    neutral_frames: Iterable[Picture], emotional_frames: Iterable[Picture], models: FaceModels
) -> dict[str, float]:
    """What an emotion changes on the face of a video, see :func:`landmark_effects`.

    Args:
        neutral_frames: pictures (H, W, 3) of the same person at 25 fps without the emotion.
        emotional_frames: the same with it; as many are not needed.

    Raises:
        FaceError: fewer than two pictures of either show a face.
    """
    tracks = [
        track_landmarks(
            ((index / FRAMES_PER_SECOND, frame) for index, frame in enumerate(frames)), models
        ).landmarks.astype(np.float64)
        for frames in (neutral_frames, emotional_frames)
    ]
    return landmark_effects(tracks[0], tracks[1])


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


def _measures(faces: Array) -> dict[str, float]:
    """Mean measures of pose-free faces (T, 478, 3) in their own unit."""
    mean: Array = faces.mean(0)
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
