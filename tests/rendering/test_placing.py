"""Pictures in the size of frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.rendering.placing import (
    even_size,
    resize_map,
    sampled_picture,
    scaled_picture,
    transform_points,
)


@pytest.mark.parametrize("size", [390, 420, 460])
def test_a_picture_that_becomes_a_little_smaller_stays_sharp(size: int) -> None:
    """Hair of 3 pixels: a mean over 1.1 pixels takes a tenth of it, a cubic hardly anything."""
    columns = np.arange(512)
    waves = 127 + 100 * np.sin(2 * np.pi * columns / 6.0)
    picture = np.repeat(np.tile(waves, (64, 1))[:, :, None], 3, 2).astype(np.uint8)
    scaled, _ = scaled_picture(picture, size)
    averaged = cv2.resize(picture, scaled.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert scaled.std() > 0.95 * picture.std() > averaged.std()


@pytest.mark.parametrize("size", [64, 128, 384, 510, 600])
def test_the_whole_picture_and_a_part_of_it_are_scaled_alike(size: int) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (30, 40, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (512, 384), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    scaled, affine = scaled_picture(picture, size)
    width, height = even_size(512, 384, size)
    assert scaled.shape == (height, width, 3)
    part = sampled_picture(picture, affine, (width, height))
    inside = np.s_[2:-2, 2:-2]
    assert np.abs(scaled[inside].astype(float) - part[inside]).mean() < 1.5
    corner = transform_points(resize_map(width / 512, height / 384), np.array([[-0.5, -0.5]]))
    np.testing.assert_allclose(corner, [[-0.5, -0.5]])
