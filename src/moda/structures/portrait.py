"""One face of one picture.

Axis letters in shape comments: K key points, H, W picture, S crop size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.structures.arrays import Floats, Picture
from moda.structures.landmarks import Similarity, identity_vector


@dataclass(frozen=True)
class Portrait:
    """One face of one picture: the identity and the texture.

    Landmarks are in pixels; ``landmarks`` of the whole image, ``crop_landmarks`` of the square crop
    around the head, on which rendering takes place. ``crop_from_image`` maps homogeneous image
    points to crop points.
    """

    image: Picture  # (H, W, 3)
    landmarks: NDArray[np.float64]  # (478, 3)
    crop_image: Picture  # (S, S, 3)
    crop_from_image: NDArray[np.float64]  # (2, 3)
    crop_landmarks: NDArray[np.float64]  # (478, 3)
    person_mask: Floats  # (S, S) in 0..1, on the crop
    pose: Similarity
    """canonical -> crop pixels"""
    canonical_keypoints: NDArray[np.float64]
    """(478, 3) pose-free face as photographed, canonical units"""
    neutral_keypoints: NDArray[np.float64]
    """(478, 3) the same with the mouth closed"""
    mouth_covered: bool = False
    """Something lies over the mouth, which is then neither moved nor painted"""

    @property
    def identity(self) -> Floats:
        """(63,) canonical coordinates of 21 points, what the motion model is told of the face."""
        return identity_vector(self.neutral_keypoints)


class ImplicitFace(NamedTuple):
    """A face as the motion extractor of the neural renderer sees it."""

    canonical_keypoints: Floats
    """(21, 3) implicit key points without pose and expression: the identity"""
    motion: Floats
    """(70,) raw motion of the neural space: expression (63, key-point-major), scale, translation
    (x, y, z), pitch, yaw, roll in degrees"""


@dataclass(frozen=True)
class NeuralPortrait:
    """One face of one picture, as the neural renderer needs it.

    ``crop_from_image`` maps image points to the points of the square crop around the face, which
    may be turned. The renderer draws the crop and pastes it back.
    """

    image: Picture  # (H, W, 3)
    landmarks: NDArray[np.float64]  # (478, 3) pixels of the image
    crop_image: Picture  # (512, 512, 3)
    crop_from_image: NDArray[np.float64]  # (2, 3)
    face: ImplicitFace

    @property
    def identity(self) -> Floats:
        """(63,) raw canonical key points, what the published motion model is told of the face."""
        return self.face.canonical_keypoints.reshape(-1)


class Background(NamedTuple):
    """What takes the place of the photograph behind the person."""

    colour: tuple[int, int, int] | None
    """RGB; None is nothing: frames are transparent there."""
