"""Where a filmed speaker closes the lips, does ours close them too? On tracked lip gaps alone."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from moda.evaluation.metrics import lagged_correlation
from moda.evaluation.videos.motion import CLOSED_GAP
from moda.motion.hearing.listening import true_runs
from moda.structures.landmarks import Array

LOWEST_PERCENTILE = 2.0
"""Of a clip's gaps: as close as these lips come."""
FILMED_LOW_SHARE = 0.2
"""Filmed lips are low up to this share of the way from the lowest to the median gap of the clip,
and up to :data:`CLOSED_GAP`."""
OPENING = 0.02
"""A closure lies between gaps that are wider than low by this, in outer-eye distances, and than
the speaker's median."""
OPENING_REACH = 10
"""Frames before and after the closure within which the lips are open: a pause is no closure."""
MET_SHARE, MET_GAP = 0.3, 0.03
"""Our lips meet a closure below this share of the same way of their own, or below this gap."""
MET_REACH = 2
"""Frames by which ours may be earlier or later."""
CHANCE_SHIFTS = 20
CHANCE_DISTANCE = 25
"""Frames that the sound and the lips are apart at least for chance."""


@dataclass(frozen=True)
class ClosuresMet:
    """Closures of filmed lips, and what ours did there; counts add up."""

    closures: int = 0
    met: int = 0
    touched: int = 0
    """met by a gap below :data:`MET_GAP`, whatever is low for these lips"""
    by_chance: float = 0.0
    """expected number met by the same lips at other times of the clip"""

    def __add__(self, other: ClosuresMet) -> ClosuresMet:
        return ClosuresMet(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the closures: met, touched, met by chance; NaN without any."""
        count = self.closures or float("nan")
        return self.met / count, self.touched / count, self.by_chance / count


def find_closures(gap: Array) -> list[int]:
    """Frames at which the lips of a filmed speaker (T,) are closest between two openings.

    A closure is a run of gaps at or below the larger of :data:`CLOSED_GAP` and what is low for this
    clip, open within 10 frames before and after its lowest frame. Runs without an opening between
    them are one.
    """
    low = max(CLOSED_GAP, _own_low(gap, FILMED_LOW_SHARE))
    is_open = gap >= max(low + OPENING, float(np.median(gap)))
    found: list[int] = []
    for start, stop in true_runs(gap <= low):
        lowest = int(start + np.argmin(gap[start:stop]))
        if found and not is_open[found[-1] : lowest].any():
            if gap[lowest] < gap[found[-1]]:
                found[-1] = lowest
        else:
            found.append(lowest)
    return [
        frame
        for frame in found
        if is_open[max(0, frame - OPENING_REACH) : frame].any()
        and is_open[frame + 1 : frame + 1 + OPENING_REACH].any()
    ]


def meet_closures(filmed: Array, ours: Array) -> ClosuresMet:
    """How many of the closures of a filmed lip gap (T,) ours (T,) meets, at its best lag.

    The lag is that of the largest correlation within 6 frames. Chance is the mean over circular
    shifts of ours by a second and more, each at its own best lag.
    """
    count = min(len(filmed), len(ours))
    filmed, ours = filmed[:count], ours[:count]
    frames = find_closures(filmed)
    if not frames:
        return ClosuresMet()
    threshold = low_gap(ours)
    near = min(CHANCE_DISTANCE, count // 4)
    shifts = np.unique(np.linspace(near, count - near, CHANCE_SHIFTS).astype(int))
    chances = [_num_below(filmed, np.roll(ours, shift), frames, threshold) for shift in shifts]
    return ClosuresMet(
        len(frames),
        _num_below(filmed, ours, frames, threshold),
        _num_below(filmed, ours, frames, MET_GAP),
        float(np.mean(chances)),
    )


def low_gap(gap: Array) -> float:
    """The gap below which our lips (T,) meet a closure."""
    return max(MET_GAP, _own_low(gap, MET_SHARE))


def _own_low(gap: Array, share: float) -> float:
    lowest, middle = np.percentile(gap, [LOWEST_PERCENTILE, 50.0])
    return float(lowest + share * (middle - lowest))


def _num_below(filmed: Array, ours: Array, frames: list[int], threshold: float) -> int:
    """At how many frames ours, moved by its best lag, goes below the threshold."""
    lag = lagged_correlation(filmed, ours).lag
    places = np.clip(np.array(frames) + lag, 0, len(ours) - 1)
    return sum(
        bool(ours[max(0, place - MET_REACH) : place + MET_REACH + 1].min() < threshold)
        for place in places
    )
