"""Triangles between points of a plane, and linear systems on their edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.structures.landmarks import Array


def delaunay_triangles(points: Array) -> NDArray[np.intp]:
    """Delaunay triangulation of different points (N, 2), as indices (M, 3).

    Points are told apart as numbers of single precision. Where four lie on one circle, either
    diagonal may come.
    """
    single = np.ascontiguousarray(points, np.float32)
    low, high = np.floor(single.min(0)).astype(int), np.ceil(single.max(0)).astype(int)
    plane = cv2.Subdiv2D((*(low - 1).tolist(), *(high - low + 3).tolist()))
    for point in single.tolist():
        plane.insert(point)
    corners = np.ascontiguousarray(plane.getTriangleList(), np.float32).view(np.complex64)
    names = single.view(np.complex64)[:, 0]
    order = np.argsort(names)
    found: NDArray[np.intp] = order[np.searchsorted(names[order], corners)]
    return found


class SymmetricBand:
    """A symmetric matrix (N, N) whose entries are near the diagonal, as blocks on and above it.

    Args:
        diagonal: (N,).
        pairs: (E, 2) row and column of each entry off the diagonal, named once.
        entries: (E,).
    """

    def __init__(self, diagonal: Array, pairs: NDArray[np.integer], entries: Array) -> None:
        low, high = pairs.min(1, initial=len(diagonal)), pairs.max(1, initial=0)
        self._size = size = int((high - low).max(initial=1))
        count = -(-len(diagonal) // size)
        self._on = np.zeros((count, size, size))
        self._above = np.zeros((count, size, size))
        self._on[:] = np.eye(size)  # beyond the last row
        place = np.arange(len(diagonal))
        self._on[place // size, place % size, place % size] = diagonal
        same = low // size == high // size
        first, second, within = low[same], high[same], entries[same]
        self._on[first // size, first % size, second % size] = within
        self._on[first // size, second % size, first % size] = within
        self._above[low[~same] // size, low[~same] % size, high[~same] % size] = entries[~same]

    def solve(self, right_side: Array) -> Array:
        """The x (N, C) with ``matrix @ x = right_side``, block by block, without pivots.

        The matrix has to be positive definite.
        """
        count, size = len(self._on), self._size
        right = np.zeros((count, size, right_side.shape[1]))
        right.reshape(count * size, -1)[: len(right_side)] = right_side
        factors = np.empty_like(self._above)
        on = self._on[0]
        for k in range(count):
            if k:
                above = self._above[k - 1]
                on = self._on[k] - above.T @ factors[k - 1]
                right[k] -= above.T @ right[k - 1]
            solved = np.linalg.solve(on, np.concatenate([self._above[k], right[k]], axis=1))
            factors[k], right[k] = solved[:, :size], solved[:, size:]
        for k in range(count - 2, -1, -1):
            right[k] -= factors[k] @ right[k + 1]
        return right.reshape(count * size, -1)[: len(right_side)]
