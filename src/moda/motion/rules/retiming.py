"""Motion at 25 fps to the frame rate of the video, as a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from moda.structures import FRAMES_PER_SECOND, Floats, Motion, MotionSpace


class TimedMotion(NamedTuple):
    """Motion at 25 fps as it is made, and how long it lasts, which shows at its end."""

    stretches: Iterator[Motion]
    seconds: Callable[[], Fraction]


def retime_motion(timed: TimedMotion, frames_per_second: Fraction) -> Iterator[Motion]:
    """Motion at 25 fps to one row per video frame, ceil(seconds * frames_per_second) in all.

    Row n is the motion at time n / frames_per_second: the pose on a cubic through the four
    rows around it (Catmull and Rom 1974), the expression on a line, because a cubic overshoots
    where lips and lids close. At 25 frames per second nothing changes.
    """
    step = Fraction(FRAMES_PER_SECOND) / frames_per_second
    space: MotionSpace | None = None
    held: Floats = np.zeros((0, 0), np.float32)
    first = index = 0
    for motion in timed.stretches:
        held = motion.values if space is None else np.concatenate([held, motion.values])
        space = motion.space
        ready = math.ceil((first + len(held) - 2) / step)  # later ones need rows yet to come
        if ready > index:
            yield Motion(_rows_at(held, first, range(index, ready), step, space), space)
            index = ready
        used = min(max(math.floor(index * step) - 1 - first, 0), len(held) - 1)
        held, first = held[used:], first + used
    total = math.ceil(timed.seconds() * frames_per_second)
    if space is not None and total > index:
        yield Motion(_rows_at(held, first, range(index, total), step, space), space)


def _rows_at(held: Floats, first: int, frames: range, step: Fraction, space: MotionSpace) -> Floats:
    """Interpolated rows (n, D) of ``held`` (m, D), which begins at row ``first``."""
    numerators = np.arange(frames.start, frames.stop) * step.numerator
    row = numerators // step.denominator - first
    part = ((numerators % step.denominator) / step.denominator).astype(np.float32)[:, None]
    before, start, end, after = (held[np.clip(row + k, 0, len(held) - 1)] for k in (-1, 0, 1, 2))
    rows: Floats = start + part * (end - start)
    pose = space.slice("pose")
    cubic = start + 0.5 * part * (
        end - before
        + part * (2 * before - 5 * start + 4 * end - after)
        + part**2 * (3 * (start - end) + after - before)
    )  # fmt: skip
    rows[:, pose] = cubic[:, pose]
    return rows
