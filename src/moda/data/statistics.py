"""Mean and standard deviation of motion, counted in parts and put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moda.structures.landmarks import Array


@dataclass(frozen=True)
class MotionStatistics:
    """Of frames of motion (n, D). Parts add up, in any order, up to rounding.

    Source: T. Chan, G. Golub, R. LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances", 1979.
    """

    num_frames: int
    mean: Array
    """(D,)"""
    squares: Array
    """(D,) sum of the squared distances from the mean"""

    @classmethod
    def of(cls, motion: Array) -> MotionStatistics:
        """Of motion (n, D)."""
        values = np.asarray(motion, np.float64)
        mean = values.mean(0) if len(values) else np.zeros(values.shape[1])
        return cls(len(values), mean, ((values - mean) ** 2).sum(0))

    @property
    def std(self) -> Array:
        """(D,)"""
        return np.sqrt(self.squares / max(self.num_frames, 1))

    def __add__(self, other: MotionStatistics) -> MotionStatistics:
        count = self.num_frames + other.num_frames
        share = other.num_frames / max(count, 1)
        difference = other.mean - self.mean
        return MotionStatistics(
            count,
            self.mean + share * difference,
            self.squares + other.squares + difference**2 * share * self.num_frames,
        )

    @classmethod
    def total(cls, parts: Iterable[MotionStatistics], size: int) -> MotionStatistics:
        """Of all parts together; of no frames of ``size`` numbers where there are none."""
        return sum(parts, start=cls(0, np.zeros(size), np.zeros(size)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "num_frames": self.num_frames,
            "mean": self.mean.tolist(),
            "squares": self.squares.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MotionStatistics:
        """Inverse of :meth:`to_dict`."""
        mean, squares = (np.array(values[name], np.float64) for name in ("mean", "squares"))
        return cls(int(values["num_frames"]), mean, squares)
