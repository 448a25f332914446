"""Is a mouth covered, by a mask, a hand, a microphone?"""

from __future__ import annotations

import numpy as np

from moda.encoders.face import FaceModels
from moda.structures import Picture
from moda.structures.landmarks import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LIPS,
    OUTER_EYE_CORNERS,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    Array,
)

LOOKS = (
    (0.05, 0.0, 1.08, 0.0),
    (-0.05, 0.0, 1.08, 0.0),
    (0.0, 0.05, 0.94, 0.0),
    (0.0, -0.05, 0.94, 0.0),
    (0.0, 0.0, 1.12, 6.0),
    (0.0, 0.0, 1.12, -6.0),
)
"""Further apart than those that the landmarks are the mean of."""
EYELIDS = [*RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER, *LEFT_EYE_UPPER, *LEFT_EYE_LOWER]
LARGEST_DOUBT = 0.006
"""How much more than the eyes a free mouth may wander, in outer-eye distances. Of 117 portraits of
all kinds the largest was .003; 24 coverings gave .02 in the median."""


def is_mouth_covered(image: Picture, landmarks: Array, models: FaceModels) -> bool:
    """Whether something lies over the mouth of the face with landmarks (478, 3) px of a picture.

    Where no lips are seen the network guesses them, and each look at the face guesses others:
    their height wanders from look to look, while that of the eyes stays.
    """
    right_eye, left_eye = landmarks[list(OUTER_EYE_CORNERS), :2]
    across = left_eye - right_eye
    down = np.array([-across[1], across[0]]) / (across @ across)
    heights = [
        [(face.points[part, :2] @ down).mean() for part in (list(LIPS), EYELIDS)]
        for face in models.look_again(image, landmarks, LOOKS)
    ]
    if len(heights) < 2:
        return False
    lips, eyes = np.std(heights, axis=0)
    return bool(lips - eyes > LARGEST_DOUBT)
