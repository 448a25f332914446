"""Do different speeches, portraits and seeds give different performances? On what is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from moda.data.sync import correlation_at_lag
from moda.evaluation.rendered.filming import SeenFace
from moda.structures import FRAMES_PER_SECOND
from moda.structures.landmarks import Array

STILL_DEGREES = 0.2
"""Heads whose angle deviates less are still: two still heads do the same, whatever the tracker's
noise does."""
STILL_GAP = 0.003

Pair = tuple[SeenFace, SeenFace]


@dataclass(frozen=True)
class Likeness:
    """Size of the correlation over pairs of videos: mean and largest."""

    mean: float
    largest: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.largest:.2f})"


@dataclass(frozen=True)
class Sameness:
    """How alike several videos are in the same frames; NaN without pairs."""

    num_pairs: int
    seconds: float
    """of the shortest pair"""
    pitch: Likeness
    yaw: Likeness
    roll: Likeness
    gap: Likeness
    head_degrees: float
    """standard deviation of an angle within a video, mean of the three and of the videos"""


def sameness(pairs: Sequence[Pair]) -> Sameness:
    """Correlations without lag over the common first frames of each pair."""
    cut = [_common(*pair) for pair in pairs]
    spreads = [face.angles.std(0).mean() for pair in cut for face in pair]

    def angle(index: int) -> Likeness:
        return _likeness(
            [likeness(a.angles[:, index], b.angles[:, index], still=STILL_DEGREES) for a, b in cut]
        )

    return Sameness(
        num_pairs=len(cut),
        seconds=min((len(a) for a, _ in cut), default=0) / FRAMES_PER_SECOND,
        pitch=angle(0),
        yaw=angle(1),
        roll=angle(2),
        gap=_likeness([likeness(a.gap, b.gap, still=STILL_GAP) for a, b in cut]),
        head_degrees=float(np.mean(spreads)) if spreads else float("nan"),
    )


def all_pairs(faces: Sequence[SeenFace]) -> list[Pair]:
    """Each face with each other one."""
    return list(combinations(faces, 2))


def likeness(first: Array, second: Array, *, still: float) -> float:
    """Size of the Pearson correlation of two series (T,); 1 of two that deviate less than still."""
    if first.std() < still and second.std() < still:
        return 1.0
    return abs(correlation_at_lag(first, second, 0))


def relative_difference(first: Array, second: Array) -> float:
    """Root mean square of the difference of two series (T,) over their spread.

    0 of equal ones, the root of 2 of independent ones with the same mean. The spread is the root of
    the mean of both variances; NaN without any.
    """
    count = min(len(first), len(second))
    first, second = first[:count], second[:count]
    spread = np.sqrt(0.5 * (first.var() + second.var()))
    return float(np.sqrt(((first - second) ** 2).mean()) / spread) if spread > 0 else float("nan")


def _common(first: SeenFace, second: SeenFace) -> Pair:
    count = min(len(first), len(second))
    return first.first(count), second.first(count)


def _likeness(values: Sequence[float]) -> Likeness:
    if not values:
        return Likeness(float("nan"), float("nan"))
    return Likeness(float(np.mean(values)), float(np.max(values)))
