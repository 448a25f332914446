"""Tracking: faces built with known motion give that motion back."""

from __future__ import annotations

import numpy as np
import pytest

from moda.encoders.face import FaceModels
from moda.encoders.regions import resize, shrink_to
from moda.encoders.tracking import (
    NECK_PIVOT,
    LandmarkTrack,
    blink_from_openness,
    grid_frame,
    motion_from_landmarks,
    relative_pose,
    resample_frames,
    track_landmarks,
)
from moda.errors import FaceError
from moda.media import read_image
from moda.structures import MotionSpace
from moda.structures.landmarks import (
    NUM_SURFACE,
    euler_from_rotation,
    eye_distance,
    fit_similarity,
    lip_gap,
    lip_gaps,
    rotation_from_euler,
)
from paths import EXAMPLES


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


def test_shots_are_tracked_by_themselves(space: MotionSpace) -> None:
    """A close-up after a wide shot, the head elsewhere: neither leaks into the other."""
    faces = faces_of(space, wave_motion(space, 160))
    turned = [rotation_from_euler(0.0, yaw, 0.0) for yaw in 8 * np.sin(np.linspace(0, 20, 160))]
    points = 80.0 * np.einsum("tij,tkj->tki", turned, faces)
    points[70:] = 1.6 * points[70:] + (150.0, -40.0, 0.0)
    found = np.ones(160, bool)
    joined = LandmarkTrack(points.astype(np.float32), found, cuts=(70,))
    motion, neutral = motion_from_landmarks(joined, space, neutral=faces[60])
    assert [(shot.start, shot.stop) for shot in joined.shots] == [(0, 70), (70, 160)]
    for shot in joined.shots:
        alone = LandmarkTrack(joined.landmarks[shot], found[shot])
        expected, _ = motion_from_landmarks(alone, space, neutral=neutral)
        for part in ("mouth", "pose"):
            np.testing.assert_allclose(motion.part(part)[shot], expected.part(part), atol=1e-5)
    assert np.abs(motion.part("pose")[:, 0] - 1.0).max() < 0.05
    blurred, _ = motion_from_landmarks(LandmarkTrack(joined.landmarks, found), space)
    assert np.ptp(blurred.part("pose")[:, 0]) > 0.3


@pytest.mark.parametrize("rate_hz", [25.0, 30.0, 59.94])
def test_a_cut_stays_a_cut_when_resampled(rate_hz: float) -> None:
    times = np.arange(int(2 * rate_hz)) / rate_hz
    cut, gone = int(0.7 * rate_hz), int(1.4 * rate_hz)
    landmarks = np.zeros((len(times), 478, 3), np.float32)
    landmarks[cut:] = 100.0
    landmarks[cut - 4 : cut + 3] = landmarks[gone:] = np.nan
    on_grid, found = resample_frames(landmarks, times, 50, (cut, gone))
    assert set(np.unique(on_grid)) == {0.0, 100.0}
    assert on_grid[grid_frame(times[cut]) - 1].max() == 0.0
    assert on_grid[grid_frame(times[cut])].min() == 100.0
    assert not found[-10:].any()


def test_cuts_of_a_film_are_found() -> None:
    """A portrait of which a part is shown larger; then only its background changes."""
    photograph = shrink_to(read_image(EXAMPLES / "portrait.jpg"), 256)
    height, width = photograph.shape[:2]
    part = resize(photograph[: height * 3 // 4, width // 8 : width * 7 // 8], (width, height))
    lit = part.copy()
    lit[:, : width // 6] = lit[:, -width // 6 :] = 0
    film = [photograph] * 6 + [part] * 6 + [lit] * 6
    track = track_landmarks(((n / 25.0, picture) for n, picture in enumerate(film)), FaceModels())
    assert track.cuts == (6,)
    eyes = eye_distance(track.landmarks.astype(float))
    np.testing.assert_allclose(eyes[:6], eyes[0], rtol=0.02)
    np.testing.assert_allclose(eyes[6:] / eyes[0], 4 / 3, rtol=0.05)


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
