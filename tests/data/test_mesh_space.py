"""Fitting the mesh space on made faces."""

from __future__ import annotations

import numpy as np
import pytest

from moda.data.mesh_space import fit_mesh_space, mirrored_indices, principal_components
from moda.encoders.tracking import LandmarkTrack, lip_gaps, motion_from_landmarks
from moda.structures import MotionSpace
from moda.structures.landmarks import rotation_from_euler
from moda.weights.spaces import load_motion_space


@pytest.fixture(scope="module")
def tracks() -> list[LandmarkTrack]:
    """Eight people of different proportions, moving on the packaged basis."""
    space = load_motion_space()
    assert space.canonical_face is not None
    assert space.basis is not None
    generator = np.random.default_rng(0)
    made = []
    for _ in range(8):
        proportions = 1.0 + 0.05 * generator.standard_normal(3)
        steps = generator.standard_normal((160, 22)) * space.std[:22]
        smooth = np.apply_along_axis(
            lambda c: np.convolve(c, np.ones(5) / 5**0.5, "same"), 0, steps
        )
        smooth[:20] = 0.0
        faces = np.repeat(space.canonical_face[None].astype(np.float64), 160, 0)
        faces[:, :468] += np.tensordot(smooth, space.basis.astype(np.float64), 1)
        rotation = rotation_from_euler(*generator.normal(0, 4, 3))
        landmarks = 100.0 * (faces * proportions) @ rotation.T + [200.0, 200.0, 0.0]
        made.append(LandmarkTrack(landmarks.astype(np.float32), np.ones(160, bool)))
    return made


@pytest.fixture(scope="module")
def fitted(tracks: list[LandmarkTrack]) -> MotionSpace:
    triangles = load_motion_space().triangles
    assert triangles is not None
    return fit_mesh_space(tracks, triangles)


def test_mean_face_is_upright_and_symmetric(fitted: MotionSpace) -> None:
    face = fitted.canonical_face
    assert face is not None
    mirror = mirrored_indices(face.astype(np.float64))
    np.testing.assert_array_equal(mirror[mirror][:468], np.arange(468))
    assert np.abs(face[mirror][:468] * [-1, 1, 1] - face[:468]).max() < 0.02
    assert np.linalg.norm(face[33] - face[263]) == pytest.approx(1.0, abs=1e-6)
    assert face[152, 1] > face[1, 1] > face[10, 1]  # chin, nose, forehead
    assert face[1, 2] < face[234, 2]  # the nose is nearer to the camera than the ears


def test_held_out_person_is_explained(fitted: MotionSpace, tracks: list[LandmarkTrack]) -> None:
    motion, _ = motion_from_landmarks(tracks[-1], fitted, smooth=False)
    packaged = load_motion_space()
    other, _ = motion_from_landmarks(tracks[-1], packaged, smooth=False)

    def gaps(values: np.ndarray, space: MotionSpace) -> np.ndarray:
        assert space.basis is not None
        return values[:, :16] @ lip_gaps(space.basis[:16].astype(np.float64))[:, 4]

    assert np.corrcoef(gaps(motion.values, fitted), gaps(other.values, packaged))[0, 1] > 0.99


def test_groups_do_not_move_each_other(fitted: MotionSpace) -> None:
    basis = fitted.basis
    assert basis is not None
    assert np.abs(basis[16:20, [13, 14, 61, 291, 152]]).max() < 1e-6  # brows leave the mouth alone
    assert np.abs(basis[:16, [105, 334, 10]]).max() < 1e-6  # and the mouth the brows


def test_statistics_are_those_of_the_motion(
    fitted: MotionSpace, tracks: list[LandmarkTrack]
) -> None:
    values = np.concatenate([motion_from_landmarks(t, fitted)[0].values for t in tracks])
    normal = fitted.normalize(values)
    assert np.abs(normal[:, :16].mean(0)).max() < 0.05
    errors = np.abs(normal[:, :16].std(0) - 1.0)
    assert np.median(errors) < 0.03
    # The fit's prior is that of spread 1, which the weak components, the last ones, feel.
    assert errors[:14].max() < 0.3
    np.testing.assert_allclose(fitted.denormalize(normal), values, atol=1e-4)


def test_components_find_the_directions() -> None:
    generator = np.random.default_rng(1)
    direction = generator.standard_normal((468, 3)) * [1, 1, 0.1]
    amounts = generator.standard_normal(500)
    offsets = amounts[:, None, None] * direction / np.sqrt(500)
    (found,) = principal_components(offsets, None, 1)
    cosine = (found * direction).sum() / np.linalg.norm(found) / np.linalg.norm(direction)
    assert abs(cosine) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(direction), rel=0.1)
