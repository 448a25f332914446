"""Likeness of made performances whose correlations are known."""

from __future__ import annotations

import numpy as np
import pytest

from moda.evaluation.rendered.filming import SeenFace
from moda.evaluation.rendered.sameness import all_pairs, likeness, relative_difference, sameness


def mixed(share: float, seed: int = 0, num_frames: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Two series whose correlation is ``share``."""
    first, second = np.random.default_rng(seed).standard_normal((2, num_frames))
    return first, share * first + np.sqrt(1.0 - share**2) * second


def face(angles: np.ndarray, gap: np.ndarray | None = None) -> SeenFace:
    gap = np.zeros(len(angles)) if gap is None else gap
    return SeenFace(gap, np.zeros(len(angles)), angles)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9, -0.6])
def test_likeness_is_the_size_of_a_known_correlation(share: float) -> None:
    first, second = mixed(share)
    assert likeness(first, second, still=0.1) == pytest.approx(abs(share), abs=0.02)


def test_two_still_heads_do_the_same_and_one_does_not() -> None:
    noise, other = 0.01 * np.random.default_rng(0).standard_normal((2, 500))
    assert likeness(noise, other, still=0.2) == 1.0
    assert likeness(noise, 100.0 * other, still=0.2) < 0.2


def test_difference_over_the_spread() -> None:
    first, second = mixed(0.0)
    assert relative_difference(first, first[:100]) == 0.0
    assert relative_difference(first, second) == pytest.approx(np.sqrt(2.0), abs=0.02)
    assert relative_difference(first, -first) == pytest.approx(2.0, abs=0.02)
    assert relative_difference(first, first + 3.0) == pytest.approx(3.0, abs=0.02)
    assert np.isnan(relative_difference(np.zeros(5), np.ones(5)))


def test_sameness_keeps_angles_apart_and_cuts_to_common_frames() -> None:
    (pitch, other_pitch), (yaw, other_yaw), (roll, other_roll) = (
        mixed(share, seed) for seed, share in enumerate((0.2, 0.95, 0.5))
    )
    gap, other_gap = mixed(0.7, 4)
    first = face(np.stack([pitch, yaw, roll], 1), 0.1 * gap)
    second = face(np.stack([other_pitch, other_yaw, other_roll], 1), 0.1 * other_gap)
    longer = SeenFace(*(np.concatenate([values, values[:100]]) for values in second))
    found = sameness([(first, longer)])
    assert found.num_pairs == 1
    assert found.seconds == 1600.0
    for value, expected in zip(
        (found.pitch, found.yaw, found.roll, found.gap), (0.2, 0.95, 0.5, 0.7), strict=True
    ):
        assert value.mean == value.largest == pytest.approx(expected, abs=0.02)
    assert found.head_degrees == pytest.approx(1.0, abs=0.02)


def test_all_pairs_mean_and_largest() -> None:
    same, other = mixed(0.0, num_frames=5000)
    faces = [face(np.stack([values] * 3, 1)) for values in (same, same, other)]
    found = sameness(all_pairs(faces))
    assert found.num_pairs == 3
    assert found.yaw.largest == pytest.approx(1.0)
    assert found.yaw.mean == pytest.approx(1.0 / 3.0, abs=0.03)
    assert str(found.gap) == "1.00 (1.00)", "lips that never move are alike"


def test_nothing_to_compare() -> None:
    found = sameness(all_pairs([face(np.zeros((10, 3)))]))
    assert found.num_pairs == 0
    assert np.isnan(found.yaw.mean)
    assert np.isnan(found.head_degrees)
