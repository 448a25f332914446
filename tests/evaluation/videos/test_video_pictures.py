"""Picture metrics against formulas written out pixel by pixel, and known shifts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from moda.encoders.face import FaceModels
from moda.evaluation.videos.pictures import (
    BackgroundMotion,
    PictureScore,
    background_mask,
    compare_pictures,
    luma,
    mean_scores,
    regions,
    ssim_map,
)
from moda.structures import MotionSpace, Picture


def noise_picture(seed: int, size: tuple[int, int] = (48, 40)) -> Picture:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (12, 10, 3)).astype(np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def ssim_at(first: NDArray, second: NDArray, row: int, column: int) -> float:
    """The definition, with the weights of the window and the sums written out."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    sums = np.zeros(6)
    for y in range(-5, 6):
        for x in range(-5, 6):
            weight = np.exp(-(x * x + y * y) / (2 * 1.5**2))
            a, b = first[row + y, column + x], second[row + y, column + x]
            sums += weight * np.array([1.0, a, b, a * a, b * b, a * b])
    mean_a, mean_b, square_a, square_b, product = sums[1:] / sums[0]
    return float(
        (2 * mean_a * mean_b + c1)
        * (2 * (product - mean_a * mean_b) + c2)
        / ((mean_a**2 + mean_b**2 + c1) * ((square_a - mean_a**2) + (square_b - mean_b**2) + c2))
    )


class TestSimilarity:
    def test_equals_the_definition_at_single_pixels(self) -> None:
        first, second = luma(noise_picture(0)), luma(noise_picture(1))
        found = ssim_map(first, second)
        for row, column in ((5, 5), (20, 30), (34, 42)):
            expected = ssim_at(first, second, row, column)
            assert found[row, column] == pytest.approx(expected, abs=1e-9)

    def test_even_pictures_have_the_closed_form(self) -> None:
        a, b, c1 = 100.0, 140.0, (0.01 * 255) ** 2
        found = ssim_map(np.full((20, 20), a), np.full((20, 20), b))
        np.testing.assert_allclose(found, (2 * a * b + c1) / (a * a + b * b + c1), rtol=1e-9)

    def test_is_one_of_equal_pictures_and_falls_with_noise(self) -> None:
        picture = noise_picture(2)
        generator = np.random.default_rng(3)
        worse = [
            np.clip(picture + generator.normal(0, level, picture.shape), 0, 255)
            for level in (5, 25)
        ]
        values = [
            float(ssim_map(luma(picture), luma(other.astype(np.uint8))).mean())
            for other in (picture, *worse)
        ]
        assert values[0] == pytest.approx(1.0)
        assert values[0] > values[1] > values[2] > 0.0


class TestScores:
    def test_constant_error_gives_the_closed_form_in_every_region(self, space: MotionSpace) -> None:
        assert space.canonical_face is not None
        landmarks = 60.0 + 40.0 * space.canonical_face.astype(np.float64)
        where = regions(landmarks, (120, 130))
        assert where.whole.all()
        assert where.face.sum() > where.mouth.sum() > 50
        real = np.full((130, 120, 3), 100, np.uint8)
        score = compare_pictures(real + np.uint8(8), real, where)
        expected = 10 * np.log10(255.0**2 / 64.0)
        assert score[:3] == pytest.approx((expected,) * 3)
        assert compare_pictures(real, real, where).psnr_whole == 100.0

    def test_only_the_mouth_differs(self, space: MotionSpace) -> None:
        assert space.canonical_face is not None
        landmarks = 60.0 + 40.0 * space.canonical_face.astype(np.float64)
        where = regions(landmarks, (120, 130))
        real = np.full((130, 120, 3), 100, np.uint8)
        picture = real.copy()
        picture[where.mouth] += 30
        score = compare_pictures(picture, real, where)
        assert score.psnr_mouth == pytest.approx(10 * np.log10(255.0**2 / 900.0))
        share = (where.mouth & where.face).sum() / where.face.sum()
        assert score.psnr_face == pytest.approx(score.psnr_mouth - 10 * np.log10(share))
        assert score.psnr_whole > score.psnr_face

    def test_region_outside_is_not_known_and_left_out_of_the_mean(self) -> None:
        far = np.full((478, 3), -500.0)
        picture = noise_picture(0)
        score = compare_pictures(picture, picture, regions(far, (48, 40)))
        assert np.isnan(score.ssim_face)
        other = PictureScore(20.0, 30.0, 40.0, 0.5, 0.6, 0.7)
        means = mean_scores([score, other])
        assert means["ssim_face"] == 0.6
        assert means["psnr_whole"] == pytest.approx(60.0)
        assert np.isnan(mean_scores([])["psnr_face"])


class TestBackground:
    def test_known_shift_outside_the_person(self) -> None:
        generator = np.random.default_rng(4)
        scene = cv2.GaussianBlur(
            generator.integers(0, 255, (300, 300, 3)).astype(np.uint8), (0, 0), 2.0
        ).astype(np.float64)
        scene = ((scene - scene.min()) / np.ptp(scene) * 255).astype(np.uint8)
        person = np.zeros((200, 200), np.float32)
        person[60:140, 60:140] = 1.0
        mask = background_mask(person)
        motion = BackgroundMotion(mask)
        for step in range(4):
            picture = scene[2 * step : 2 * step + 200, 0:200].copy()
            picture[60:140, 60:140] = 40 * step  # what the person does is not looked at
            motion.see(np.ascontiguousarray(picture))
        assert motion.pixels_per_frame() == pytest.approx(2.0, abs=0.05)

    def test_still_scene_and_empty_wall(self) -> None:
        everywhere = np.ones((80, 80), np.bool_)
        still, wall = BackgroundMotion(everywhere), BackgroundMotion(everywhere)
        picture = noise_picture(5, (80, 80))
        for _ in range(3):
            still.see(picture)
            wall.see(np.full((80, 80, 3), 90, np.uint8))
        assert still.pixels_per_frame() == pytest.approx(0.0, abs=1e-3)
        assert np.isnan(wall.pixels_per_frame())

    def test_mask_keeps_away_from_a_real_person(
        self, photograph: Picture, models: FaceModels
    ) -> None:
        person = models.person_mask(photograph)
        mask = background_mask(person)
        assert 0.05 < mask.mean() < 0.8
        assert person[mask].max() <= 0.05
