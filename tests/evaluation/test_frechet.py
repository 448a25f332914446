"""The Fréchet distance against closed forms and against the textbook formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from moda.errors import InputError
from moda.evaluation.metrics import RunningGaussian, frechet_distance
from moda.structures.landmarks import Array


def gaussian(mean: Array, covariance: Array) -> RunningGaussian:
    """Exactly this one."""
    return RunningGaussian(11, np.asarray(mean, float), 10.0 * np.asarray(covariance, float))


def random_covariance(size: int, seed: int) -> Array:
    root = np.random.default_rng(seed).standard_normal((size, size))
    return root @ root.T


def test_one_dimension_has_a_closed_form() -> None:
    first, second = gaussian([1.0], [[4.0]]), gaussian([4.0], [[9.0]])
    assert frechet_distance(first, second) == pytest.approx(3.0**2 + (2.0 - 3.0) ** 2)


def test_common_axes_have_a_closed_form() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))
    a, b = np.array([1.0, 2.0, 0.5, 3.0, 0.0]), np.array([2.0, 2.0, 1.5, 0.1, 4.0])
    first = gaussian(np.zeros(5), turn @ np.diag(a) @ turn.T)
    second = gaussian(np.ones(5), turn @ np.diag(b) @ turn.T)
    expected = 5.0 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_equals_the_textbook_formula_and_is_symmetric() -> None:
    generator = np.random.default_rng(1)
    means = generator.standard_normal((2, 6))
    one, two = random_covariance(6, 2), random_covariance(6, 3)
    root = np.real(sqrtm(one @ two))
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(one + two - 2.0 * root)
    first, second = gaussian(means[0], one), gaussian(means[1], two)
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(second, first) == pytest.approx(expected)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)


def test_fewer_samples_than_dimensions_need_no_patching() -> None:
    generator = np.random.default_rng(4)
    first, second = RunningGaussian(), RunningGaussian()
    first.add(generator.standard_normal((5, 40)))
    second.add(first.mean + generator.standard_normal((6, 40)))
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(first, second) > 10.0


def test_batches_give_the_moments_of_all() -> None:
    features = np.random.default_rng(5).standard_normal((50, 7)) * 3.0 + 100.0
    running = RunningGaussian()
    for part in (features[:1], features[1:20], features[20:20], features[20:]):
        running.add(part)
    np.testing.assert_allclose(running.mean, features.mean(0))
    np.testing.assert_allclose(running.covariance, np.cov(features.T), rtol=1e-9, atol=1e-12)


def test_one_sample_has_no_covariance() -> None:
    running = RunningGaussian()
    running.add(np.ones((1, 3)))
    with pytest.raises(InputError, match="1 samples have no covariance"):
        _ = running.covariance
