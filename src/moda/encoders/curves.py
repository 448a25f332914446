"""Curves through numbers that were measured one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moda.structures.landmarks import Array


def smooth(values: Array, window: int) -> Array:
    """Values (T, ...) moved to the parabola that fits best around each.

    The filter of Savitzky and Golay (1964); the first and last values lie on the parabola of the
    first and last ``window``, which is odd and at most T.
    """
    reach = window // 2
    places = np.arange(-reach, reach + 1.0)
    powers = np.vander(places, 3)
    onto_parabola = powers @ np.linalg.pinv(powers)  # (window, window)
    flat = values.reshape(len(values), -1)
    result = np.empty(flat.shape)
    result[:reach] = onto_parabola[:reach] @ flat[:window]
    result[len(flat) - reach :] = onto_parabola[reach + 1 :] @ flat[-window:]
    inner = result[reach : len(flat) - reach]
    inner[:] = 0.0
    for offset, weight in enumerate(onto_parabola[reach]):
        inner += weight * flat[offset : offset + len(inner)]
    return result.reshape(values.shape).astype(values.dtype, copy=False)


def monotone_curve(times: Array, values: NDArray[np.floating[Any]], wanted: Array) -> Array:
    """A cubic curve through values (N, ...) that rises and falls only where they do.

    Fritsch and Butland (1984), as PCHIP does. ``times`` (N,) rise, N is at least 2; ``wanted`` (M,)
    lie between the first and the last.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    step = np.diff(times)[:, None]
    slope = np.diff(flat, axis=0) / step
    tangent = _tangents(step, slope)
    span = np.clip(np.searchsorted(times, wanted, "right") - 1, 0, len(step) - 1)
    width = step[span]
    t = (wanted - times[span])[:, None] / width
    low, high = flat[span], flat[span + 1]
    bend = (t - 1) * tangent[span] + t * tangent[span + 1] - (2 * t - 1) * slope[span]
    curve = low + t * (high - low) + t * (t - 1) * width * bend
    return curve.reshape(len(wanted), *values.shape[1:])


def _tangents(step: Array, slope: Array) -> Array:
    """Slopes (N, C) at the points, from those (N - 1, C) between them."""
    if len(step) == 1:
        return np.repeat(slope, 2, axis=0)
    before, after = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    same = slope[:-1] * slope[1:] > 0
    safe = np.where(same, slope[:-1], 1.0), np.where(same, slope[1:], 1.0)
    inner = np.where(same, (before + after) / (before / safe[0] + after / safe[1]), 0.0)
    ends = [_end_tangent(step[k], slope[k]) for k in (slice(None, 2), slice(-1, -3, -1))]
    return np.concatenate([ends[0][None], inner, ends[1][None]])


def _end_tangent(step: Array, slope: Array) -> Array:
    """Slope (C,) at an end, from the outermost two steps (2, 1) and slopes (2, C)."""
    near, far = step[:, 0]
    tangent = ((2 * near + far) * slope[0] - near * slope[1]) / (near + far)
    turns = (np.sign(slope[0]) != np.sign(slope[1])) & (abs(tangent) > 3 * abs(slope[0]))
    tangent = np.where(turns, 3 * slope[0], tangent)
    return np.where(np.sign(tangent) == np.sign(slope[0]), tangent, 0.0)
