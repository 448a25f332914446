"""Convolutions along one axis with fewer multiplications than results times taps.

Every algorithm is bilinear: ``outputs @ ((inputs @ window) * (weights @ taps))`` gives some results
at once, from a window of the axis. Algorithms of several axes combine as a tensor product; over
channels, each of the products becomes a matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

POINTS = {
    2: ("0", "1", "-1"),
    4: ("0", "1", "-1", "2", "-2"),
    6: ("0", "1", "-1", "2", "-2", "1/2", "-1/2"),
}
"""Where three taps are evaluated, by the number of results; small numbers keep rounding small."""


class AxisAlgorithm(NamedTuple):
    """``y[i] = sum_k x[i + k - margin] w[k]`` with zeros outside, tile by tile."""

    inputs: Matrix  # (products, window)
    weights: Matrix  # (products, taps)
    outputs: Matrix  # (results, products)
    step: int
    """Inputs from one tile to the next"""
    margin: int
    """Inputs of the window before the tile's own"""


def single_tap() -> AxisAlgorithm:
    """One tap: the axis is only walked along."""
    one = np.ones((1, 1))
    return AxisAlgorithm(one, one, one, step=1, margin=0)


def winograd(results: Literal[2, 4, 6]) -> AxisAlgorithm:
    """Three taps by Winograd's minimal filtering: ``results + 2`` products (arXiv 1509.09308).

    Multiplication of polynomials by their values at some points and at infinity (Toom and Cook),
    transposed. Exact rational numbers; each row of ``inputs`` is scaled to a smallest entry of 1.
    """
    taps, points = 3, [Fraction(point) for point in POINTS[results]]
    interpolation = _inverse(_powers(points, results + taps - 1))
    inputs = np.array(interpolation, np.float64).T
    weights = np.array(_powers(points, taps), np.float64)
    outputs = np.array(_powers(points, results), np.float64).T
    smallest = np.where(inputs == 0, np.inf, np.abs(inputs)).min(axis=1, keepdims=True)
    return AxisAlgorithm(inputs / smallest, weights * smallest, outputs, step=results, margin=1)


def fourier(window: int, taps: int) -> AxisAlgorithm:
    """Any odd number of taps by a real Fourier transform of an even ``window``.

    ``window - taps + 1`` results. A pair of complex conjugate frequencies takes three real
    products: with inputs ``a + ib`` and weights ``c + id`` these are c(a + b), a(d - c), b(c + d).
    """
    results = window - taps + 1
    at_input, at_tap, at_result = np.arange(window), np.arange(taps), np.arange(results)
    inputs: list[Matrix] = []
    weights: list[Matrix] = []
    outputs: list[Matrix] = []
    for frequency in range(window // 2 + 1):
        angle = 2 * np.pi * frequency / window
        real, imaginary = np.cos(angle * at_input), -np.sin(angle * at_input)
        # The weights' conjugate: a correlation, not a convolution.
        real_weight, imaginary_weight = np.cos(angle * at_tap), np.sin(angle * at_tap)
        real_back, imaginary_back = np.cos(angle * at_result), -np.sin(angle * at_result)
        if frequency in (0, window // 2):
            inputs.append(real)
            weights.append(real_weight)
            outputs.append(real_back / window)
            continue
        inputs += [real + imaginary, real, imaginary]
        weights += [real_weight, imaginary_weight - real_weight, real_weight + imaginary_weight]
        both = 2 / window
        outputs += [both * (real_back + imaginary_back), both * imaginary_back, -both * real_back]
    return AxisAlgorithm(
        np.array(inputs), np.array(weights), np.array(outputs).T, step=results, margin=taps // 2
    )


def enlarged(factor: int) -> AxisAlgorithm:
    """Three taps on an axis whose positions are repeated ``factor`` times beforehand.

    With the sum ``s`` of the taps, all results of a position ``x`` between ``l`` and ``r`` follow
    from ``s x``, for its first copy ``w0 (l - x)`` and for its last copy ``w2 (r - x)``.
    """
    inputs = np.array([[0.0, 1, 0], [1, -1, 0], [0, -1, 1]])
    weights = np.array([[1.0, 1, 1], [1, 0, 0], [0, 0, 1]])
    outputs = np.zeros((factor, 3))
    outputs[:, 0] = outputs[0, 1] = outputs[-1, 2] = 1
    return AxisAlgorithm(inputs, weights, outputs, step=1, margin=1)


def _powers(points: Sequence[Fraction], count: int) -> list[list[Fraction]]:
    """Rows 1, p, p^2, ... of the points; infinity takes the highest coefficient alone."""
    rows = [[point**power for power in range(count)] for point in points]
    return [*rows, [Fraction(0)] * (count - 1) + [Fraction(1)]]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss-Jordan elimination, exact."""
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == k)) for k in range(size))] for i, row in enumerate(matrix)]
    for index in range(size):
        pivot = next(other for other in range(index, size) if rows[other][index])
        rows[index], rows[pivot] = rows[pivot], rows[index]
        rows[index] = [value / rows[index][index] for value in rows[index]]
        for other in range(size):
            if other != index:
                factor = rows[other][index]
                pairs = zip(rows[other], rows[index], strict=True)
                rows[other] = [value - factor * below for value, below in pairs]
    return [row[size:] for row in rows]
