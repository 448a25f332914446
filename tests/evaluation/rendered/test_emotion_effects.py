"""Measures of an emotion on made landmark tracks."""

from __future__ import annotations

import numpy as np
import pytest

from moda.encoders.face import FaceModels
from moda.encoders.tracking import track_landmarks
from moda.errors import FaceError, InputError
from moda.evaluation.rendered.emotions import (
    eye_opening,
    gap_spread,
    landmark_effects,
)
from moda.media import read_image
from moda.structures import Picture
from moda.structures.landmarks import LEFT_EYE_LOWER, RIGHT_EYE_LOWER, Array, rotation_from_euler
from moda.weights.spaces import load_motion_space
from paths import PORTRAIT


@pytest.fixture(scope="module")
def face() -> Array:
    canonical = load_motion_space().canonical_face
    assert canonical is not None
    return canonical.astype(np.float64)


def track(face: Array, *, pitch: float = 0.0, scale: float = 120.0) -> Array:
    """A few frames of the face in pixels, with a trembling head."""
    return np.stack(
        [
            scale * face @ rotation_from_euler(pitch, yaw, 1.0).T + [200.0, 150.0, 0.0]
            for yaw in (-1.0, 0.0, 1.0)
        ]
    )


def changed(face: Array, points: tuple[int, ...], offset: tuple[float, float]) -> Array:
    moved = face.copy()
    moved[list(points), :2] += offset
    return moved


def test_nothing_changed_is_nothing(face: Array) -> None:
    nodding = track(face, pitch=8.0, scale=90.0)
    effects = landmark_effects(track(face), nodding)
    assert max(abs(value) for value in effects.values()) < 1e-6


@pytest.mark.parametrize(
    ("name", "points", "offset", "hundredths"),
    [
        ("mouth_width", (291,), (0.05, 0.0), 5.0),
        ("corner_height", (61, 291), (0.0, -0.04), 4.0),
        ("corner_slant", (291,), (0.0, -0.03), 3.0),
        ("inner_brow_height", (107, 55, 336, 285), (0.0, -0.03), 3.0),
        ("outer_brow_height", (70, 46, 300, 276), (0.0, 0.02), -2.0),
        ("brow_distance", (107, 55), (0.02, 0.0), -2.0),
        ("lid_opening", (*RIGHT_EYE_LOWER[1:8], *LEFT_EYE_LOWER[1:8]), (0.0, 0.02), 2.0),
        ("lip_gap", (14,), (0.0, 0.06), 6.0),
    ],
)
def test_each_measure_sees_its_own_points(
    face: Array, name: str, points: tuple[int, ...], offset: tuple[float, float], hundredths: float
) -> None:
    before = track(face, scale=120.0)
    effects = landmark_effects(before, track(changed(face, points, offset), scale=150.0))
    assert effects[name] == pytest.approx(hundredths, abs=0.05)


def test_spread_of_the_gap(face: Array) -> None:
    """Lips that open by 0.05 more in every other frame, and by twice of it with the emotion."""
    open_by = [0.0, 0.05, 0.0, 0.05]
    plain, free = (
        np.stack([changed(face, (14,), (0.0, factor * by)) for by in open_by]) * 100.0
        for factor in (1.0, 2.0)
    )
    assert gap_spread(plain, plain + 30.0) == pytest.approx(1.0)
    assert gap_spread(plain, 1.4 * free) == pytest.approx(2.0, rel=0.02)
    with pytest.raises(InputError, match="do not move"):
        gap_spread(plain[:1], free)
    with pytest.raises(InputError, match="at least one"):
        gap_spread(plain, free[:0])


def test_opening_of_eyes_does_not_depend_on_size_or_roll(face: Array) -> None:
    opened = changed(face, (*RIGHT_EYE_LOWER[1:8], *LEFT_EYE_LOWER[1:8]), (0.0, 0.03))
    turn = rotation_from_euler(0.0, 0.0, 20.0).T
    wider = eye_opening(90.0 * opened[None] @ turn) - eye_opening(150.0 * face[None])
    assert wider == pytest.approx(0.03, abs=0.002)


def test_empty_tracks_are_refused(face: Array) -> None:
    with pytest.raises(InputError, match="at least one"):
        landmark_effects(track(face), track(face)[:0])


def test_pictures_are_tracked() -> None:
    models = FaceModels()
    picture = read_image(PORTRAIT)

    def tracked(frames: list[Picture]) -> Array:
        timed = ((index / 25, frame) for index, frame in enumerate(frames))
        return track_landmarks(timed, models).landmarks.astype(np.float64)

    effects = landmark_effects(tracked([picture] * 2), tracked([picture] * 3))
    assert max(abs(value) for value in effects.values()) < 0.5  # the tracker trembles at first
    with pytest.raises(FaceError, match="fewer than 2"):
        tracked([np.zeros_like(picture)] * 2)
