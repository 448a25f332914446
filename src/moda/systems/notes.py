"""What a user should know of a picture though it stops nothing."""

from __future__ import annotations

import numpy as np

from moda.options import FrameOptions
from moda.structures import Picture
from moda.structures.landmarks import FACE_OVAL, Array

SMALL_FACE_SHARE = 0.15
"""Width of a face in that of its picture, below which hardly anything is seen of its motion."""


def notes_on(
    image: Picture, landmarks: Array, options: FrameOptions, *, mouth_covered: bool = False
) -> tuple[str, ...]:
    """Lines about the face with landmarks (478, 3) of a picture (H, W, 3), framed as chosen."""
    notes = []
    share = float(np.ptp(landmarks[list(FACE_OVAL), 0])) / image.shape[1]
    if options.full_frame and share < SMALL_FACE_SHARE:
        notes.append(f"the face is {share:.0%} of the picture's width; --crop shows it larger")
    if mouth_covered:
        notes.append("the mouth seems to be covered; use a picture that shows it to see it speak")
    return tuple(notes)
