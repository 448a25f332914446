"""Tracking: faces built with known motion give that motion back."""

from __future__ import annotations

import numpy as np
import pytest

from moda.encoders.tracking import (
    NECK_PIVOT,
    LandmarkTrack,
    blink_from_openness,
    motion_from_landmarks,
    relative_pose,
    resample_frames,
)
from moda.errors import FaceError
from moda.structures import MotionSpace
from moda.structures.landmarks import (
    NUM_SURFACE,
    euler_from_rotation,
    fit_similarity,
    lip_gap,
    lip_gaps,
    rotation_from_euler,
)


def faces_of(space: MotionSpace, coefficients: np.ndarray) -> np.ndarray:
    """Pose-free faces (T, 478, 3) of expression coefficients (T, 22) on the closed mean face."""
    assert space.canonical_face is not None
    assert space.basis is not None
    neutral = space.canonical_face.astype(np.float64).copy()
    for upper, lower in ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402)):
        neutral[[upper, lower], 1] = neutral[[upper, lower], 1].mean()
    for upper, lower in ((80, 88), (310, 318), (191, 95), (415, 324)):
        neutral[[upper, lower], 1] = neutral[[upper, lower], 1].mean()
    faces = np.repeat(neutral[None], len(coefficients), 0)
    faces[:, :NUM_SURFACE] += np.tensordot(coefficients, space.basis.astype(np.float64), 1)
    return faces


def wave_motion(space: MotionSpace, num_frames: int) -> np.ndarray:
    """Smooth mouth coefficients that are zero for a third of the time."""
    phase = np.linspace(0, 6 * np.pi, num_frames)[:, None] * np.array([[1.0, 0.7]])
    coefficients = np.zeros((num_frames, 22))
    coefficients[:, :2] = np.sin(phase) * space.std[:2] * (np.sin(phase / 2) > -0.3)
    return coefficients


def test_expression_comes_back(space: MotionSpace) -> None:
    faces = faces_of(space, wave_motion(space, 200))
    track = LandmarkTrack((100 * faces).astype(np.float32), np.ones(200, bool))
    motion, _ = motion_from_landmarks(track, space, smooth=False)
    rebuilt = np.tensordot(motion.part("mouth"), space.basis[:16], 1)  # type: ignore[index]
    gaps = lip_gaps(rebuilt)[:, 4]
    actual = lip_gaps(faces)[:, 4]
    assert np.corrcoef(gaps, actual)[0, 1] > 0.999
    assert np.abs(gaps - actual).max() < 0.02


def test_pose_comes_back(space: MotionSpace) -> None:
    generator = np.random.default_rng(0)
    angles = np.cumsum(generator.normal(0, 0.6, (120, 3)), axis=0)
    angles -= np.median(angles, axis=0)
    base = rotation_from_euler(3.0, -8.0, 2.0)
    rotations = np.stack([base @ rotation_from_euler(*row) for row in angles])
    scales = 90.0 * (1.0 + 0.05 * np.sin(np.linspace(0, 9, 120)))
    translations = np.stack([[300.0, 250.0, 0.0]] * 120)
    pose = relative_pose(scales, rotations, translations)
    np.testing.assert_allclose(pose[:, 0], scales / np.median(scales), atol=1e-9)
    assert np.abs(pose[:, 4:] - angles).max() < 1.5  # the rest pose is a median, not exactly base
    assert np.corrcoef(pose[:, 5], angles[:, 1])[0, 1] > 0.999


def test_translation_is_that_of_the_neck(space: MotionSpace) -> None:
    rotation = rotation_from_euler(0.0, 5.0, 0.0)
    rotations = np.stack([np.eye(3), np.eye(3), rotation])
    scales = np.full(3, 100.0)
    pivot = np.array(NECK_PIVOT)
    about_neck = 100.0 * (pivot - rotation @ pivot)
    translations = np.stack([np.zeros(3), np.zeros(3), about_neck])
    pose = relative_pose(scales, rotations, translations)
    np.testing.assert_allclose(pose[2, 1:4], 0.0, atol=1e-9)  # a turn about the neck moves nothing
    np.testing.assert_allclose(pose[2, 4:], [0.0, 5.0, 0.0], atol=1e-9)


def test_a_closed_mouth_is_closed(space: MotionSpace) -> None:
    coefficients = wave_motion(space, 200)
    coefficients[50:90] = 0.0
    faces = faces_of(space, coefficients)
    track = LandmarkTrack((80 * faces).astype(np.float32), np.ones(200, bool))
    motion, _ = motion_from_landmarks(track, space)
    gaps = motion.part("mouth") @ lip_gaps(space.basis[:16].astype(np.float64))[:, 4]  # type: ignore[index]
    assert np.abs(gaps[55:85]).max() < 0.006


def test_resampling_keeps_a_sine() -> None:
    times = np.arange(90) / 30.0
    landmarks = np.zeros((90, 478, 3), np.float32)
    landmarks[..., 0] = 100 + 10 * np.sin(2 * np.pi * times)[:, None]
    landmarks[40:43] = np.nan
    track = LandmarkTrack(*resample_frames(landmarks, times, 75))
    expected = 100 + 10 * np.sin(2 * np.pi * np.arange(75) / 25.0)
    assert np.abs(track.landmarks[:73, 0, 0] - expected[:73]).max() < 0.35
    assert not track.found[34]
    assert track.found.mean() > 0.9


def test_no_face_is_said() -> None:
    landmarks = np.full((10, 478, 3), np.nan, np.float32)
    with pytest.raises(FaceError, match="fewer than 2 frames"):
        resample_frames(landmarks, np.arange(10) / 25.0, 10)


def test_blink_range() -> None:
    openness = np.full((100, 2), 0.3)
    openness[50:53] = 0.05
    blink = blink_from_openness(openness)
    assert blink[:50].max() == 0.0
    assert blink[51].min() == 1.0


def test_similarity_is_exact() -> None:
    generator = np.random.default_rng(2)
    points = generator.standard_normal((30, 3))
    rotation = rotation_from_euler(10.0, -20.0, 30.0)
    fit = fit_similarity(points, 2.5 * points @ rotation.T + [1.0, 2.0, 3.0])
    assert fit.scale == pytest.approx(2.5)
    np.testing.assert_allclose(fit.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(fit.invert(fit.apply(points)), points, atol=1e-12)
    np.testing.assert_allclose(euler_from_rotation(rotation), (10.0, -20.0, 30.0), atol=1e-9)


def test_lip_gap_ignores_size() -> None:
    face = np.random.default_rng(3).standard_normal((478, 3))
    assert lip_gap(7.0 * face) == pytest.approx(float(lip_gap(face)))
