"""Lips that close, that were photographed open, and that are asked to open too far."""

from __future__ import annotations

import cv2
import numpy as np

from moda.motion.rules.idle import LipClosure
from moda.rendering.mesh.lips import LUMA, OPEN_GAPS, open_share, paint_over_mouth
from moda.rendering.mesh.renderer import MeshRenderer
from moda.rendering.mesh.retargeting import LARGEST_GAP, UPPER_LIP, UPPER_LIP_KEPT, UPPER_LIP_ROWS
from moda.structures import Motion, MotionSpace, Portrait
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    OUTER_LIP,
    Array,
    lip_gaps,
)


def opening(space: MotionSpace, gap: float) -> Array:
    """(B,) the likeliest parameters of the mouth that open its middle by ``gap``."""
    assert space.basis is not None
    parameters = np.zeros(len(space.basis))
    mouth = space.slice("mouth")
    pull = lip_gaps(space.basis[mouth].astype(np.float64))[:, 4]
    likely = space.std[mouth].astype(np.float64) ** 2 * pull
    parameters[mouth] = gap * likely / (likely @ pull)
    return parameters


def upper_lip(shape: Array) -> Array:
    height: Array = shape[UPPER_LIP, 1] - shape[UPPER_LIP_ROWS[0], 1]
    return height[2:-2]


def test_lips_that_are_asked_to_cross_touch_and_do_not_swell(
    renderer: MeshRenderer, space: MotionSpace
) -> None:
    retargeting, rig = renderer._retargeting, renderer._rig
    closing = np.zeros(len(retargeting.basis))
    closing[space.slice("mouth")] = LipClosure(space).narrowing(np.full(9, 0.06))
    touching, crossed = (retargeting.face_on(rig, share * closing) for share in (0.0, 1.0))
    upper, lower = list(INNER_LIP_UPPER), list(INNER_LIP_LOWER)
    np.testing.assert_allclose(crossed[upper], crossed[lower], atol=1e-9)
    assert np.abs(upper_lip(crossed) / upper_lip(touching) - 1.0).max() < 0.15


def test_no_mouth_opens_further_than_mouths_do(renderer: MeshRenderer, space: MotionSpace) -> None:
    faces = [
        renderer._retargeting.face_on(renderer._rig, opening(space, gap)) for gap in (0.1, 0.3, 3.0)
    ]
    small, wide, absurd = (float(lip_gaps(face).max()) for face in faces)
    assert 0.07 < small < wide < absurd < 1.2 * LARGEST_GAP


def test_upper_lip_stays_whole_in_a_wide_mouth(renderer: MeshRenderer, space: MotionSpace) -> None:
    rig = renderer._rig
    wide = renderer._retargeting.face_on(rig, opening(space, 0.35))
    assert (upper_lip(wide) > 0.99 * UPPER_LIP_KEPT * upper_lip(rig.neutral)).all()


def test_a_smile_with_teeth_closes_on_a_dark_line(
    portrait: Portrait, renderer: MeshRenderer, space: MotionSpace
) -> None:
    rest = space.rest[None].astype(np.float32)
    frame = next(renderer.render(Motion(rest, space)))
    screen = renderer._retargeting.geometry(rest[0])[0].screen
    lips = np.zeros(frame.shape[:2], np.uint8)
    cv2.fillPoly(lips, [np.round(screen[list(OUTER_LIP), :2]).astype(np.int32)], (1,))
    middle = np.round(screen[list(INNER_LIP_UPPER[3:-3]), :2]).astype(int)
    line = np.median(frame[middle[:, 1], middle[:, 0]] @ LUMA)
    assert line < 0.7 * np.median(frame[lips > 0] @ LUMA)
    teeth = np.percentile(portrait.image[lips > 0] @ LUMA, 90)
    assert np.percentile(frame[lips > 0] @ LUMA, 97) < teeth, "no tooth is left"


def test_a_gap_that_trackers_leave_is_no_opening(portrait: Portrait) -> None:
    closed = portrait.neutral_keypoints.copy()
    closed[list(INNER_LIP_LOWER), 1] = closed[list(INNER_LIP_UPPER), 1] + 0.9 * OPEN_GAPS[0]
    assert open_share(closed) == 0.0
    assert open_share(portrait.canonical_keypoints) == 1.0


def test_nothing_but_lips_is_painted_over(portrait: Portrait) -> None:
    plate, landmarks = portrait.crop_image, portrait.crop_landmarks
    unit = portrait.pose.scale
    np.testing.assert_array_equal(paint_over_mouth(plate, landmarks, unit, 0.0), plate)
    changed = (paint_over_mouth(plate, landmarks, unit, 1.0) != plate).any(2)
    lips = np.zeros(plate.shape[:2], np.uint8)
    cv2.fillPoly(lips, [np.round(landmarks[list(OUTER_LIP), :2]).astype(np.int32)], (1,))
    assert changed.any()
    assert not changed[cv2.dilate(lips, np.ones((3, 3), np.uint8)) == 0].any()
