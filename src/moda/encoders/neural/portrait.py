"""A picture to a :class:`NeuralPortrait`: one face, its crop, key points and motion."""

from __future__ import annotations

import numpy as np

from moda.encoders.face import FaceModels
from moda.encoders.neural.face_crop import (
    crop_geometry,
    crop_picture,
    crop_points,
    extractor_picture,
)
from moda.encoders.neural.motion_extractor import MotionExtractor, extract_faces
from moda.encoders.portrait import choose_face
from moda.encoders.regions import shrink_to
from moda.structures import NeuralPortrait, Picture

LONGEST_SIDE_PX = 1920
"""Larger pictures are averaged down before the crop is sampled, as the published system does."""


def encode_neural_portrait(
    image: Picture, models: FaceModels, extractor: MotionExtractor, *, face: int | None = None
) -> NeuralPortrait:
    """Find a face and prepare it for the neural renderer.

    Args:
        image: (H, W, 3) RGB, of any size.
        extractor: computes where its weights are.
        face: which face, counted from left to right from 1; None is the largest.

    Raises:
        FaceError: there is no face, or not that many.
    """
    landmarks = choose_face(image, models, face).points
    small = shrink_to(image, LONGEST_SIDE_PX)
    ratio = np.array(small.shape[1::-1]) / image.shape[1::-1]
    # whole numbers are the centres of pixels, in both pictures
    geometry = crop_geometry(crop_points((landmarks[:, :2] + 0.5) * ratio - 0.5))
    crop = crop_picture(small, geometry)
    linear, shift = geometry.crop_from_image[:, :2], geometry.crop_from_image[:, 2]
    return NeuralPortrait(
        image=image,
        landmarks=landmarks,
        crop_image=crop,
        crop_from_image=np.column_stack([linear * ratio, linear @ (0.5 * ratio - 0.5) + shift]),
        face=extract_faces(extractor, extractor_picture(crop)[None])[0],
    )
