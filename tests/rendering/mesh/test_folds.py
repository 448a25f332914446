"""Folds deepen where the mesh presses the skin together, and only those of the photograph."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.rendering.mesh.folds import Folds
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Picture
from moda.structures.landmarks import NUM_SURFACE, Array

UNIT, SIDE = 160.0, 400
FROWN = [55, 107, 285, 336]


@pytest.fixture
def face(renderer: MeshRenderer) -> Array:
    return renderer._rig.photographed.copy()


def texels_of(face: Array) -> np.ndarray:
    return (face[:NUM_SURFACE, :2] * UNIT + SIDE / 2 - (0, 60)).astype(np.float32)


def skin(face: Array, *, folded: bool) -> Picture:
    """Plain skin, with an upright fold between the brows if wanted."""
    picture = np.full((SIDE, SIDE, 3), 180, np.uint8)
    if folded:
        x, y = texels_of(face)[9].astype(int)
        cv2.line(picture, (int(x), int(y) - 10), (int(x), int(y) + 14), (158, 158, 158), 3)
    return picture


def frowning(face: Array) -> Array:
    shape = face.copy()
    shape[FROWN, 0] *= 0.88
    return shape


def test_a_frown_deepens_the_fold_and_a_face_at_rest_is_the_photograph(face: Array) -> None:
    texture = skin(face, folded=True)
    folds = Folds(texture, texels_of(face), face, UNIT)
    drawn = texture.copy()
    folds.deepen(drawn, frowning(face))
    x, y = texels_of(face)[9].astype(int)
    assert drawn[y, x].mean() < texture[y, x].mean() - 4
    assert (drawn <= texture).all()
    folds.deepen(drawn, face)
    np.testing.assert_array_equal(drawn, texture)


def test_smooth_skin_stays_smooth(face: Array) -> None:
    texture = skin(face, folded=False)
    drawn = texture.copy()
    Folds(texture, texels_of(face), face, UNIT).deepen(drawn, frowning(face))
    np.testing.assert_array_equal(drawn, texture)


def test_hair_is_no_fold(face: Array) -> None:
    texture = skin(face, folded=False)
    x, y = texels_of(face)[9].astype(int)
    cv2.line(texture, (int(x), int(y) - 30), (int(x), int(y) + 14), (20, 20, 20), 5)
    drawn = texture.copy()
    Folds(texture, texels_of(face), face, UNIT).deepen(drawn, frowning(face))
    assert np.abs(drawn[y, x].astype(int) - texture[y, x]).max() == 0
