"""Reference measures of a renderer: parts with known answers, and the renderer's own figures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.encoders.face import FaceModels
from moda.evaluation.rendered.reference import (
    ASKED_CLOSED,
    BLINKS_AT,
    GAPS,
    PITCH,
    SYLLABLE_SECONDS,
    YAW,
    measure_picture,
    reference_motion,
)
from moda.evaluation.rendered.steadiness import bending, flicker, optical_flow
from moda.media import read_image
from moda.motion.hearing.lips import lips_of_motion
from moda.structures import MotionSpace, Picture
from paths import EXAMPLES


def rough(seed: int = 0, side: int = 240) -> Picture:
    noise = np.random.default_rng(seed).uniform(0, 255, (side, side, 3)).astype(np.float32)
    return np.clip(4 * (cv2.GaussianBlur(noise, (0, 0), 2.0) - 127) + 127, 0, 255).astype(np.uint8)


def pushed(picture: Picture, across: np.ndarray) -> Picture:
    """Every column's pixels come from ``across`` pixels further left."""
    rows, columns = np.indices(picture.shape[:2], np.float32)
    moved = cv2.remap(picture, columns - across.astype(np.float32), rows, cv2.INTER_CUBIC)
    return np.asarray(moved, np.uint8)


def face_in(space: MotionSpace) -> np.ndarray:
    """Landmarks of the mean face in the middle of a square of 240 pixels, eyes 80 apart."""
    assert space.canonical_face is not None
    return 120.0 + 80.0 * space.canonical_face.astype(np.float64)


def test_a_kink_bends_more_than_a_smooth_turn(space: MotionSpace) -> None:
    picture, points = rough(), face_in(space)
    rows = np.arange(240)[:, None] * np.ones((1, 240))
    forehead = float(points[10, 1])
    smooth = 6.0 * (rows / 240.0)
    kinked = smooth + 4.0 * np.clip((rows - forehead) / 4.0, 0.0, 1.0)
    figures = [bending(picture, pushed(picture, push), points) for push in (smooth, kinked)]
    assert figures[0] < 0.006
    assert figures[1] > 0.02
    found = optical_flow(picture, pushed(picture, smooth))[40:-40, 40:-40, 0]
    np.testing.assert_allclose(found, smooth[40:-40, 40:-40], atol=0.4)


def test_flicker_is_what_movement_does_not_explain() -> None:
    picture = rough()
    where = np.zeros((240, 240), bool)
    where[60:180, 60:180] = True
    still = [picture] * 4
    moving = [pushed(picture, np.full((240, 240), 2.0 * n)) for n in range(4)]
    brighter = [
        np.clip(frame.astype(int) + 8 * (n % 2), 0, 255).astype(np.uint8)
        for n, frame in enumerate(moving)
    ]
    assert flicker(still, where) == 0.0
    assert flicker(moving, where) < 1.0
    assert 4.0 < flicker(brighter, where) < 9.0
    assert np.isnan(flicker(still[:2], where))


def test_the_reference_motion_asks_what_it_says(space: MotionSpace) -> None:
    motion = reference_motion(space)
    assert len(motion) == 100
    np.testing.assert_allclose(motion.values[0], space.rest, atol=1e-6)
    gap, _ = lips_of_motion(motion)
    middles = (np.arange(10) + 0.5) * SYLLABLE_SECONDS * 25.0
    np.testing.assert_allclose(gap[middles.astype(int)], np.tile(GAPS, 2), atol=1e-4)
    assert (gap[::10] < ASKED_CLOSED).all()
    assert np.abs(motion.part("yaw")).max() == pytest.approx(YAW, abs=0.1)
    assert np.abs(motion.part("pitch")).max() == pytest.approx(PITCH, abs=0.1)
    blink = motion.part("blink").min(1)
    assert [blink[round(25 * middle)] > 0.5 for middle in BLINKS_AT] == [True, True]
    assert (blink > 0.0).sum() < 15


def test_the_renderer_keeps_its_figures(models: FaceModels, space: MotionSpace) -> None:
    """Limits are the figures of docs/evaluation.md and a little more."""
    picture = read_image(EXAMPLES / "portraits" / "mona_lisa.jpg")
    faults, frames = measure_picture(picture, models, space, size=320)
    assert len(frames) == 8
    assert faults.background < 0.035
    assert faults.background_crop < 0.035
    assert max(faults.stripes, faults.stripes_crop) < 0.01
    assert 0.75 < faults.gap_kept < 1.2
    assert faults.gap_correlation > 0.94
    assert faults.width_kept > 0.85
    assert min(faults.yaw_kept, faults.roll_kept) > 0.85
    assert faults.closed_gap < 0.016
    assert faults.bending < 0.022
    assert faults.flicker < 1.5
