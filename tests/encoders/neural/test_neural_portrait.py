"""Portraits for the neural renderer, from one real photograph."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from moda.encoders.face import FaceModels
from moda.encoders.neural.face_crop import crop_geometry, crop_points, extractor_picture
from moda.encoders.neural.motion_extractor import MotionExtractor, extract_faces
from moda.encoders.neural.portrait import LONGEST_SIDE_PX, encode_neural_portrait
from moda.encoders.portrait import choose_face, map_points
from moda.errors import FaceError
from moda.structures import NeuralPortrait, Picture
from moda.structures.landmarks import OUTER_EYE_CORNERS


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The network is tiny: on a busy machine more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def extractor() -> MotionExtractor:
    torch.manual_seed(0)
    return MotionExtractor(depths=(1, 1, 1, 1), channels=(8, 8, 8, 8)).eval()


@pytest.fixture(scope="module")
def portrait(photograph: Picture, models: FaceModels, extractor: MotionExtractor) -> NeuralPortrait:
    return encode_neural_portrait(photograph, models, extractor)


def test_crop_is_the_face_of_the_picture(
    portrait: NeuralPortrait, photograph: Picture, models: FaceModels
) -> None:
    assert portrait.image is photograph
    assert portrait.crop_image.shape == (512, 512, 3)
    landmarks = choose_face(photograph, models, None).points
    np.testing.assert_array_equal(portrait.landmarks, landmarks)
    geometry = crop_geometry(crop_points(landmarks))
    np.testing.assert_allclose(portrait.crop_from_image, geometry.crop_from_image, atol=1e-9)
    again = models.find_faces(portrait.crop_image)[0].points
    mapped = map_points(portrait.crop_from_image, landmarks)
    assert np.linalg.norm(again - mapped, axis=1)[list(OUTER_EYE_CORNERS)].max() < 6


def test_face_is_what_the_extractor_sees(
    portrait: NeuralPortrait, extractor: MotionExtractor
) -> None:
    seen = extract_faces(extractor, extractor_picture(portrait.crop_image)[None])[0]
    np.testing.assert_array_equal(portrait.face.motion, seen.motion)
    np.testing.assert_array_equal(portrait.identity, seen.canonical_keypoints.ravel())
    assert portrait.face.motion.shape == (70,)


def test_large_pictures_give_the_same_crop(
    portrait: NeuralPortrait,
    photograph: Picture,
    models: FaceModels,
    extractor: MotionExtractor,
) -> None:
    factor = 5
    size = factor * photograph.shape[1], factor * photograph.shape[0]
    assert max(size) > LONGEST_SIDE_PX
    large = cv2.resize(photograph, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    other = encode_neural_portrait(large, models, extractor)
    assert other.image is large
    enlarged = portrait.landmarks.copy()
    enlarged[:, :2] = (enlarged[:, :2] + 0.5) * factor - 0.5
    np.testing.assert_allclose(
        map_points(other.crop_from_image, enlarged)[:, :2],
        map_points(portrait.crop_from_image, portrait.landmarks)[:, :2],
        atol=4,
    )
    # where the map says, there the crop's pixels are
    sampled = cv2.warpAffine(large, other.crop_from_image, (512, 512), flags=cv2.INTER_LINEAR)
    assert np.abs(sampled.astype(int) - other.crop_image).mean() < 1


def test_faces_are_counted_from_the_left(
    photograph: Picture, models: FaceModels, extractor: MotionExtractor
) -> None:
    pair = np.concatenate([photograph, photograph], axis=1)
    centres = [
        encode_neural_portrait(pair, models, extractor, face=number).landmarks[:, 0].mean()
        for number in (1, 2)
    ]
    assert centres[0] < photograph.shape[1] < centres[1]
    with pytest.raises(FaceError, match="there is no face 3"):
        encode_neural_portrait(pair, models, extractor, face=3)


def test_no_face(models: FaceModels, extractor: MotionExtractor) -> None:
    with pytest.raises(FaceError, match="no face found"):
        encode_neural_portrait(np.full((300, 300, 3), 90, np.uint8), models, extractor)
