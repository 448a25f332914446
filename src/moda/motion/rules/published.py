"""Rules of the published system around its sampler: where motion starts, scale, livelier lips."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moda.errors import InputError
from moda.structures import Floats, MotionSpace
from moda.structures.keypoints import LIP_KEYPOINTS

STD_EPS = 1e-5
LIP_DIMENSIONS = [3 * point + axis for point in LIP_KEYPOINTS for axis in range(3)]
"""Where the lip key points are in a motion row."""
GAIN_SLOPE, GAIN_SHARE, GAIN_FLOOR = 5.0, 0.1, 0.05
"""Of the lip modulation: ``(sigmoid(5 q) - 0.5) / (0.1 Q + 0.05)``."""
SILENT_SHARE = 0.75
"""The silent frame is this share of the silence before the end."""


class StartMotion(NamedTuple):
    """Where the motion of a portrait begins."""

    row: Floats
    """(D,) normalised motion of the portrait itself"""
    scale_ratio: float
    """The portrait's scale over the usual one"""


def start_motion(rest: Floats, space: MotionSpace) -> StartMotion:
    """The portrait's own motion (D,) as the model sees it.

    Scale and translation are divided by the portrait's scale over the mean one, so that faces of
    any size look alike to the model; depth does not count.
    """
    scale = space.slice("scale").start
    translation = space.slice("translation")
    eps = np.float32(STD_EPS)
    ratio = (rest[scale] + eps) / (space.mean[scale] + eps)
    row = rest.astype(np.float32)
    row[translation.stop - 1] = 0.0
    row[scale : translation.stop] /= ratio
    return StartMotion(space.normalize(row), float(ratio))


def restore_scale(values: Floats, scale_ratio: float) -> Floats:
    """Raw motion (T, D) of the usual face at the portrait's size; inverse of the division above."""
    restored = values.copy()
    restored[:, -7:-3] *= np.float32(scale_ratio)
    return restored


def modulate_lips(values: Floats, *, num_silent: int) -> Floats:
    """Exaggerate the lips of a whole clip of normalised motion (T, D) that ends in silence.

    With e the difference of the lip key points (18 numbers) to those of a silent frame, q = |e|^2
    and Q its maximum over the clip, e grows by ``(sigmoid(5 q) - 0.5) / (0.1 Q + 0.05)``.

    Args:
        num_silent: frames of silence at the end.

    Raises:
        InputError: The clip is shorter than the silence.
    """
    from_end = max(int(SILENT_SHARE * num_silent), 1)
    if len(values) < from_end:
        raise InputError(
            f"motion of {len(values)} frames cannot end in {num_silent} silent ones; append them"
        )
    silent = values[-from_end, LIP_DIMENSIONS]
    away = values[:, LIP_DIMENSIONS] - silent
    energy = (away**2).sum(axis=1)
    return _with_lips(values, silent + away * _growth(energy, energy.max()))


class LipModulation:
    """The same as a stream: Q is the largest of the frames so far, not of the whole clip."""

    def __init__(self, silent_row: Floats) -> None:
        self._silent = silent_row[LIP_DIMENSIONS]
        self._largest = np.float32(0)

    def __call__(self, values: Floats) -> Floats:
        """The next frames (n, D) of normalised motion."""
        away = values[:, LIP_DIMENSIONS] - self._silent
        energy = (away**2).sum(axis=1)
        largest = np.maximum.accumulate(np.append(self._largest, energy))[1:]
        self._largest = largest[-1]
        return _with_lips(values, self._silent + away * _growth(energy, largest))


def _growth(energy: Floats, largest: Floats | np.float32) -> Floats:
    """Factors (n, 1) for the lips' distance from silence."""
    sigmoid = 1 / (1 + np.exp(-np.float32(GAIN_SLOPE) * energy))
    gain = (sigmoid - 0.5) / (GAIN_SHARE * largest + GAIN_FLOOR)
    return (1 + gain)[:, None].astype(np.float32)


def _with_lips(values: Floats, lips: Floats) -> Floats:
    modulated = values.copy()
    modulated[:, LIP_DIMENSIONS] = lips
    return modulated
