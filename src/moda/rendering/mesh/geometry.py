"""Where the face is in one frame: expression-applied shape, rigid head, screen position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.structures.landmarks import Array, Similarity


@dataclass(frozen=True)
class Head:
    """Rigid motion of the head about a neck pivot, then the portrait's own pose to pixels."""

    rest: Similarity  # canonical -> pixels of the plate
    pivot: Array  # (3,) canonical
    rotation: Array  # (3, 3) relative to the rest pose
    translation: Array  # (3,) canonical
    scale: float = 1.0

    def project(self, points: Array) -> Array:
        """Canonical points (N, 3) to pixels and depth (N, 3); larger depth is further away."""
        moved = self.scale * (points - self.pivot) @ self.rotation.T + self.pivot
        return self.rest.apply(moved + self.translation)


class FrameGeometry(NamedTuple):
    """One frame of the face mesh."""

    shape: NDArray[np.float64]
    """(468, 3) canonical vertices with expression, before the head's rigid motion"""
    screen: NDArray[np.float32]
    """(468 + outer vertices, 3) pixels of the plate and depth"""
    head: Head


def ease(low: float, high: float, value: float) -> float:
    """:func:`smoothstep` of one number, without numpy's ceremony."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def smoothstep(low: float, high: float, value: NDArray[np.floating[Any]] | float) -> Array:
    """0 below ``low``, 1 above ``high``, smooth in between."""
    t = np.clip((np.asarray(value) - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
