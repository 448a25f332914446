from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import Delaunay

from moda.rendering.mesh.planar import SymmetricBand, delaunay_triangles
from moda.rendering.mesh.plate import long_blur


def as_set(triangles: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.sort(triangles, axis=1).tolist()))


def test_triangles_are_those_of_delaunay() -> None:
    points = np.random.default_rng(0).uniform(-40.0, 500.0, (300, 2))
    found, expected = delaunay_triangles(points), Delaunay(points).simplices
    inner = np.abs(points[expected] - 230.0).max((1, 2)) < 240.0  # the hull is cut a little
    assert as_set(expected[inner]) <= as_set(found)
    assert len(as_set(found)) == len(found)


def test_a_grid_is_covered_without_gaps() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-3.3, 40.0, 12), np.linspace(1.7, 50.1, 13)), -1)
    points = grid.reshape(-1, 2)
    corners = points[delaunay_triangles(points)]
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2
    assert len(areas) == 2 * 11 * 12
    np.testing.assert_allclose(areas, 43.3 * 48.4 / (2 * 11 * 12), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 23, 60])
@pytest.mark.parametrize("reach", [1, 7])
def test_a_band_is_solved_as_the_whole_matrix(count: int, reach: int) -> None:
    random = np.random.default_rng(count)
    pairs = np.array(
        [(i, j) for i in range(count) for j in range(i + 1, min(count, i + reach + 1))], int
    ).reshape(-1, 2)
    pairs = pairs[random.uniform(size=len(pairs)) < 0.6]
    entries = -random.uniform(0.1, 2.0, len(pairs))
    whole = np.zeros((count, count))
    whole[pairs[:, 0], pairs[:, 1]] = entries
    whole += whole.T
    diagonal = 0.1 - whole.sum(1)
    whole += np.diag(diagonal)
    turned = np.where(random.uniform(size=(len(pairs), 1)) < 0.5, pairs, pairs[:, ::-1])
    right = random.normal(size=(count, 3))
    solved = SymmetricBand(diagonal, turned, entries).solve(right)
    np.testing.assert_allclose(whole @ solved, right, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.3, 0.72, 4.4])
def test_the_long_blur_is_gaussian(sigma: float) -> None:
    values = np.random.default_rng(1).normal(size=(9, 33))
    expected = gaussian_filter(values, sigma, mode="nearest")
    np.testing.assert_allclose(long_blur(values, sigma), expected, atol=1e-12)
    row = gaussian_filter(values[0], sigma, mode="nearest")
    np.testing.assert_allclose(long_blur(values[:1], sigma)[0], row, atol=1e-12)
