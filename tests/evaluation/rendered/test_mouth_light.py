"""The brightness of a mouth that is made of two flat colours, and of the one that is painted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.evaluation.rendered.mouth_light import (
    FILMED,
    HOLE,
    MouthLight,
    light_by_gap,
    mouth_light,
)
from moda.structures import MotionSpace
from moda.structures.landmarks import INNER_LIP_LOWER, NUM_LANDMARKS, OUTER_LIP, Array


@pytest.fixture
def face(space: MotionSpace) -> Array:
    """The mean face, 300 px from eye to eye, with lips that are 0.12 eye distances apart."""
    assert space.canonical_face is not None
    points = np.zeros((NUM_LANDMARKS, 3))
    points[: len(space.canonical_face)] = space.canonical_face
    dropped = points[13, 1] + 0.12 - points[14, 1]
    points[[*INNER_LIP_LOWER[1:-1], 17, 84, 314, 181, 405, 91, 321], 1] += dropped
    points[14, 2] = points[13, 2]
    return 300 * points + [400, 300, 0]


def test_ratio_of_two_colours(face: Array) -> None:
    picture = np.full((800, 800, 3), 200, np.uint8)
    for outline, level in ((list(OUTER_LIP), 100), (HOLE, 60)):
        corners = np.round(face[outline, :2]).astype(np.int32)
        cv2.fillPoly(picture, [corners], (level, level, level))
    seen = mouth_light(picture, face)
    assert seen is not None
    assert seen.ratio == pytest.approx(0.6, abs=0.03)
    assert seen.gap == pytest.approx(0.12, abs=0.02)


def test_an_opening_of_a_few_pixels_says_nothing(face: Array) -> None:
    assert mouth_light(np.full((800, 800, 3), 200, np.uint8), 0.005 * face + 50) is None


def test_medians_of_the_ranges() -> None:
    frames = [MouthLight(gap, ratio) for gap in (0.07, 0.3) for ratio in (0.5, 0.8, 0.9)]
    counted = light_by_gap([*frames, MouthLight(0.02, 9.0)])
    assert [count for count, _ in counted] == [3, 0, 0, 3]
    assert counted[0][1] == counted[3][1] == 0.8
    assert np.isnan(counted[1][1])
    assert len(counted) == len(FILMED)
