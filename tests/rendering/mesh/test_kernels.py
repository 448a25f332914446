"""Compiled loops against other ways to the same result."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from moda.rendering.compiled import compiled, part_of_kernel
from moda.rendering.mesh.eye_painting import CURVE_SAMPLES, lid_curve
from moda.rendering.mesh.mouth_painting import lip_curves
from moda.rendering.mesh.warp import keep_triangle_areas
from moda.structures.landmarks import Array


def flattened_grid(side: int) -> tuple[Array, Array, np.ndarray, Array]:
    """Points of a grid, the same pushed over each other, triangles, and which points may move."""
    generator = np.random.default_rng(2)
    rest = np.argwhere(np.ones((side, side))).astype(np.float64) * 10.0
    points = rest + generator.normal(0.0, 9.0, rest.shape)
    corner = np.arange(side * side).reshape(side, side)[:-1, :-1].ravel()
    triangles = np.concatenate(
        [
            np.column_stack([corner, corner + 1, corner + side]),
            np.column_stack([corner + 1, corner + side + 1, corner + side]),
        ]
    ).astype(np.int32)
    return points, rest, triangles, (generator.random(len(rest)) < 0.9).astype(np.float64)


def areas(points: Array, triangles: np.ndarray) -> Array:
    """Twice the signed area of each triangle."""
    first, second, third = (points[corners] for corners in triangles.T)
    (bx, by), (cx, cy) = (second - first).T, (third - first).T
    return bx * cy - cx * by


def test_a_part_is_compiled_once_for_all_whole_numbers() -> None:
    @part_of_kernel
    def add(number: int, other: int) -> int:
        return number + other

    @compiled
    def total() -> int:
        return add(1, 2) + add(3, 4)

    assert total() == 10
    assert len(cast(Any, add).signatures) == 1


def test_triangles_that_are_passed_over_would_have_stayed() -> None:
    points, rest, triangles, mobility = flattened_grid(9)
    expected, minimum = points.copy(), 0.05
    for _ in range(15):
        for triangle in triangles:  # all of them, every time
            wanted = minimum * areas(rest, triangle[None])[0]
            lacking = wanted - areas(expected, triangle[None])[0]
            if lacking * wanted <= 0:
                continue
            gradients = np.array(
                [
                    [one[1] - two[1], two[0] - one[0]]
                    for one, two in (
                        (expected[triangle[1]], expected[triangle[2]]),
                        (expected[triangle[2]], expected[triangle[0]]),
                        (expected[triangle[0]], expected[triangle[1]]),
                    )
                ]
            )
            weights = mobility[triangle]
            reach = (weights * (gradients**2).sum(1)).sum()
            if reach > 1e-12:
                expected[triangle] += (1.05 * lacking / reach * weights)[:, None] * gradients
    keep_triangle_areas(
        points, rest, triangles, mobility, minimum, 15, np.zeros(len(points), np.int64)
    )
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-6)


def test_lip_curves_are_hermite_splines_with_secant_slopes() -> None:
    x = np.array([0.0, 6.0, 11.0, 20.0, 26.0, 40.0])
    upper = np.column_stack([x, np.sin(x)])
    lower = np.column_stack([x, np.cos(x)])
    start, step, table = lip_curves(upper, lower)
    places = start + step * np.arange(len(table))
    inner = x[2:] - x[:-2]
    for column, points in enumerate((upper, lower)):
        y = points[:, 1]
        slopes = np.concatenate(
            [[(y[1] - y[0]) / 6.0], (y[2:] - y[:-2]) / inner, [(y[-1] - y[-2]) / 14.0]]
        )
        curve = CubicHermiteSpline(x, y, slopes)(places)
        np.testing.assert_allclose(table[:, column], curve, atol=1e-5)


def test_a_lid_line_is_measured_along_and_across_its_axis() -> None:
    angle, width = 0.3, 40.0
    axis = np.array([np.cos(angle), np.sin(angle)])
    heights = np.array([0.0, -3.0, -6.0, -4.0, 0.0])
    places = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    normal = np.array([-axis[1], axis[0]])
    points = [7.0, 9.0] + places[:, None] * width * axis + heights[:, None] * normal
    for order in ([0, 1, 2, 3, 4], [0, 2, 1, 3, 4]):  # neighbours may change places
        curve = lid_curve(points[order], points[0], axis, width)
        expected = np.interp(np.linspace(0, 1, CURVE_SAMPLES), places, heights)
        np.testing.assert_allclose(curve, expected, atol=1e-5)
