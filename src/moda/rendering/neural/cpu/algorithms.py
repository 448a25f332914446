"""Convolutions with fewer multiplications than results times taps, tile by tile.

Every algorithm is bilinear: ``outputs @ ((inputs @ window) * (weights @ taps))`` gives the results
of a tile from a window of the features. Those of single axes combine as a tensor product. Over
channels, each of the products becomes a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Axes = tuple[int, int, int]
"""One number each for depth, rows, columns"""

POINTS = {
    2: ("0", "1", "-1"),
    4: ("0", "1", "-1", "2", "-2"),
    6: ("0", "1", "-1", "2", "-2", "1/2", "-1/2"),
}
"""Where three taps are evaluated, by the number of results; small numbers keep rounding small."""


class AxisAlgorithm(NamedTuple):
    """``y[i] = sum_k x[i + k - margin] w[k]`` with zeros outside, for tiles of one axis."""

    inputs: Matrix  # (products, window)
    weights: Matrix  # (products, taps)
    outputs: Matrix  # (results, products)
    step: int
    """Inputs from one tile to the next"""
    margin: int
    """Inputs of the window before the tile's own"""


class Stage(NamedTuple):
    """A matrix to multiply the middle axis of numbers (outer, width, inner) with."""

    matrix: Matrix  # (rows, width)
    outer: int
    inner: int


class TileAlgorithm(NamedTuple):
    """The same for tiles of a volume; triples are depth, rows, columns."""

    inputs: tuple[Stage, Stage, Stage]
    """From the window to the products"""
    weights: Matrix
    """(products, taps), all taps of a kernel in a row"""
    outputs: tuple[Stage, Stage, Stage]
    """From the products to the results"""
    window: Axes
    results: Axes
    steps: Axes
    margins: Axes


def separable(depth: AxisAlgorithm, rows: AxisAlgorithm, columns: AxisAlgorithm) -> TileAlgorithm:
    """The tensor product of an algorithm for each axis."""
    axes = depth, rows, columns
    return TileAlgorithm(
        _along_axes(*(axis.inputs for axis in axes)),
        np.kron(depth.weights, np.kron(rows.weights, columns.weights)),
        _along_axes(*(axis.outputs for axis in axes)),
        window=triple(axis.inputs.shape[1] for axis in axes),
        results=triple(axis.outputs.shape[0] for axis in axes),
        steps=triple(axis.step for axis in axes),
        margins=triple(axis.margin for axis in axes),
    )


def plane(axis: AxisAlgorithm) -> TileAlgorithm:
    """The same algorithm for rows and columns, one tap along the depth."""
    return separable(single_tap(), axis, axis)


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


def fourier_plane(window: int, taps: int) -> TileAlgorithm:
    """Square kernels of an odd number of taps by Fourier transforms of a window of even size.

    ``window - taps + 1`` results in both directions. Rows and columns are transformed into cosines
    and sines, of which the last stage makes the plane's frequencies. A frequency and its conjugate
    take three real products: inputs ``a + ib`` and weights ``c + id`` make c(a + b), a(d - c) and
    b(c + d).
    """
    results, half = window - taps + 1, window // 2
    tap = np.arange(taps)
    inputs: list[Matrix] = []
    weights: list[Matrix] = []
    outputs: list[Matrix] = []
    for row, column in product(range(half + 1), range(window)):
        cosines, sines = zip(*(_waves_of(index, window) for index in (row, column)), strict=True)
        real = np.outer(*cosines) - np.outer(*sines)
        imaginary = -np.outer(sines[0], cosines[1]) - np.outer(cosines[0], sines[1])
        angle = 2 * np.pi * (row * tap[:, None] + column * tap) / window
        # The conjugate of the weights' transform: a correlation, not a convolution.
        real_weight, imaginary_weight = np.cos(angle), np.sin(angle)
        if row % half == 0 and column % half == 0:
            inputs.append(real)
            weights.append(real_weight)
            outputs.append(real / window**2)
        elif row % half or column < half:  # the others are conjugates of these
            inputs += [real + imaginary, real, imaginary]
            weights += [
                real_weight,
                imaginary_weight - real_weight,
                real_weight + imaginary_weight,
            ]
            both = 2 / window**2
            outputs += [both * (real + imaginary), both * imaginary, -both * real]
    frequencies = np.reshape(inputs, (len(inputs), -1))
    forward, backward = _waves(window, window), _waves(window, results).T
    return TileAlgorithm(
        (Stage(forward, 1, window), Stage(forward, window, 1), Stage(frequencies, 1, 1)),
        np.reshape(weights, (len(weights), -1)),
        (
            Stage(np.reshape(outputs, frequencies.shape).T, 1, 1),
            Stage(backward, 1, window),
            Stage(backward, results, 1),
        ),
        window=(1, window, window),
        results=(1, results, results),
        steps=(1, results, results),
        margins=(0, taps // 2, taps // 2),
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


def triple(numbers: Iterable[int]) -> Axes:
    """Exactly three numbers: of depth, rows, columns."""
    depth, rows, columns = numbers
    return depth, rows, columns


def _along_axes(depth: Matrix, rows: Matrix, columns: Matrix) -> tuple[Stage, Stage, Stage]:
    """One matrix for each axis of a box, one after the other."""
    return (
        Stage(depth, 1, rows.shape[1] * columns.shape[1]),
        Stage(rows, len(depth), columns.shape[1]),
        Stage(columns, len(depth) * len(rows), 1),
    )


def _waves(window: int, count: int) -> Matrix:
    """(window, count): all cosines, then all sines with a whole number of periods in a window."""
    half, position = window // 2, 2 * np.pi * np.arange(count) / window
    cosines = np.cos(np.outer(np.arange(half + 1), position))
    sines = np.sin(np.outer(np.arange(1, half), position))
    return np.concatenate((cosines, sines))


def _waves_of(frequency: int, window: int) -> tuple[Matrix, Matrix]:
    """Cosine and sine of a frequency below ``window`` as sums of :func:`_waves`."""
    cosine, sine = np.zeros((2, window))
    half, folded = window // 2, min(frequency, window - frequency)
    cosine[folded] = 1
    if folded % half:
        sine[half + folded] = 1 if frequency == folded else -1
    return cosine, sine


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
