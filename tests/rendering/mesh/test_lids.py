"""Closed lids: the skin over the eye, and eyes too large for their landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from moda.rendering.mesh.eyes import are_too_large
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Motion, MotionSpace, Portrait
from moda.structures.landmarks import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    Array,
)

MakeMotion = Callable[..., Motion]
EYES = (
    (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_IRIS),
    (LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_IRIS),
)


def enlarged(face: Array, factor: float) -> Array:
    """A pose-free face (478, 3) whose eyes have been scaled about their middles."""
    large = face.copy()
    for upper, lower, iris in EYES:
        points = sorted({*upper, *lower, *iris})
        middle = face[points].mean(0)
        large[points] = middle + factor * (face[points] - middle)
    return large


def test_a_lid_of_an_outlined_eye_has_the_colour_of_the_skin(
    portrait: Portrait, space: MotionSpace, make_motion: MakeMotion
) -> None:
    """Lines as cartoons have them are not drawn out over the lid."""
    image = portrait.image.copy()
    for upper, _, _ in EYES:
        line = portrait.landmarks[list(upper), :2] - (0, 1)
        points = np.round(line * 16).astype(np.int32)
        cv2.polylines(image, [points], False, (40, 20, 15), 2, cv2.LINE_AA, 4)
    drawn = MeshRenderer(replace(portrait, image=image), space, size=512)
    (closed,) = drawn.render(make_motion(blink=1.0))
    for upper, lower, _ in EYES:
        eye = portrait.landmarks[[upper[4], lower[4]], :2]
        middle = np.round(eye[0] + 0.2 * (eye[1] - eye[0])).astype(int)
        lid = closed[middle[1] - 1 : middle[1] + 1, middle[0] - 3 : middle[0] + 4].mean()
        cheek = np.round(eye[1] + (0, 14)).astype(int)
        skin = image[cheek[1] - 2 : cheek[1] + 3, cheek[0] - 3 : cheek[0] + 4].mean()
        assert lid > 0.74 * skin


def test_a_blink_leaves_the_brows_where_they_are(
    renderer: MeshRenderer, make_motion: MakeMotion
) -> None:
    brows = [105, 66, 334, 296]
    still, shut = (
        renderer._retargeting.geometry(make_motion(blink=blink).values[0])[0].shape
        for blink in (0.0, 1.0)
    )
    assert np.abs(shut - still)[brows].max() < 0.005
    assert (shut - still)[[159, 386], 1].min() > 0.04


def test_only_drawn_eyes_are_too_large(portrait: Portrait) -> None:
    face = portrait.canonical_keypoints
    assert not are_too_large(face)
    assert not are_too_large(enlarged(face, 1.1))
    assert are_too_large(enlarged(face, 2.0))


@pytest.mark.parametrize("part", [{"blink": 1.0}, {"gaze": (0.05, 0.0)}], ids=["blink", "gaze"])
def test_eyes_that_are_too_large_stay_as_they_are(
    portrait: Portrait, space: MotionSpace, make_motion: MakeMotion, part: dict[str, object]
) -> None:
    crop = portrait.pose.apply(enlarged(portrait.canonical_keypoints, 2.0))
    drawn = MeshRenderer(replace(portrait, crop_landmarks=crop), space, size=256)
    (still,), (moved,) = (drawn.render(make_motion(**parts)) for parts in ({}, part))
    np.testing.assert_array_equal(still, moved)
