"""What a user should know of a picture though it stops nothing."""

from __future__ import annotations

import numpy as np

from moda.options import FrameOptions
from moda.structures import Picture
from moda.structures.landmarks import FACE_OVAL, Array

SMALL_FACE_SHARE = 0.15
"""Width of a face in that of its picture, below which hardly anything is seen of its motion."""


def notes_on(image: Picture, landmarks: Array, options: FrameOptions) -> tuple[str, ...]:
    """Lines about the face with landmarks (478, 3) of a picture (H, W, 3), framed as chosen."""
    share = float(np.ptp(landmarks[list(FACE_OVAL), 0])) / image.shape[1]
    if options.full_frame and share < SMALL_FACE_SHARE:
        return (f"the face is {share:.0%} of the picture's width; --crop shows it larger",)
    return ()
