"""Measures of a background that should stay and of borders without stripes, on made pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.evaluation.rendered.background import background_motion, border_stripes
from moda.structures import Picture

EYE_DISTANCE = 60.0


def rough(seed: int = 0) -> Picture:
    """(200, 260, 3) with texture everywhere."""
    noise = np.random.default_rng(seed).uniform(0, 255, (200, 260, 3)).astype(np.float32)
    return np.clip(4 * (cv2.GaussianBlur(noise, (0, 0), 2.0) - 127) + 127, 0, 255).astype(np.uint8)


def person() -> np.ndarray:
    """(200, 260) a disc in the middle."""
    return cv2.circle(np.zeros((200, 260), np.float32), (130, 100), 40, (1.0,), -1)


def moved(picture: Picture, x: float, y: float) -> Picture:
    shift = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    return cv2.warpAffine(
        picture, shift, picture.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    ).astype(np.uint8)


@pytest.mark.parametrize(("x", "y"), [(3.0, 0.0), (-2.4, 4.7), (0.0, -11.0)])
def test_a_background_that_moves_is_measured(x: float, y: float) -> None:
    picture = rough()
    found = background_motion([picture, moved(picture, x, y)], person(), EYE_DISTANCE)
    assert found.num_blocks > 50
    expected = np.hypot(x, y) / EYE_DISTANCE
    assert float(np.median(found.distances)) == pytest.approx(expected, abs=0.15 / EYE_DISTANCE)
    assert found.largest == pytest.approx(expected, abs=0.4 / EYE_DISTANCE)


def test_a_person_that_moves_before_a_still_background_is_not() -> None:
    picture, mask = rough(), person()
    frames = [picture]
    for x in (2.0, 5.0):
        turned = moved(rough(1), x, 0.0)
        frames.append(np.where(moved(mask[..., None], x, 0.0)[..., None] > 0.5, turned, picture))
    found = background_motion(frames, mask, EYE_DISTANCE)
    assert found.distances.shape[0] == 2
    assert found.largest == pytest.approx(0.0, abs=1e-6)


def test_flat_backgrounds_have_no_place_to_measure() -> None:
    flat = np.full((200, 260, 3), 90, np.uint8)
    found = background_motion([flat, flat, flat], person(), EYE_DISTANCE)
    assert found.num_blocks == 0
    assert np.isnan(found.largest)


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_repeated_border_pixels_are_stripes(side: str) -> None:
    picture, wide = rough(), 12
    before = {"top": 0, "bottom": 0, "left": 0, "right": 0, side: wide}
    top, bottom, left, right = before.values()
    padded = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REPLICATE)
    assert border_stripes(picture) < 0.02
    assert border_stripes(np.asarray(padded, np.uint8)) > 0.5


def test_a_flat_border_is_no_stripe(photograph: Picture) -> None:
    assert border_stripes(np.full((100, 100, 3), 200, np.uint8)) == 0.0
    assert border_stripes(photograph) < 0.02
