"""A stretch of speech, as it is heard.

Axis letters in shape comments: T frames, F speech features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.structures.arrays import Floats

UNKNOWN_PHONE = -1
"""Class of a phone that nobody knows."""


@dataclass(frozen=True)
class Speech:
    """A stretch of speech on the 25 fps grid."""

    features: Floats  # (T, F)
    activity: Floats
    """(T,) in 0..1: 0 is silence, 1 is somebody speaking"""
    phones: NDArray[np.int8] | None = None
    """(T, 2) classes at 50 Hz where the words are known, see :mod:`moda.phones`;
    :data:`UNKNOWN_PHONE` elsewhere"""
    closure: Floats | None = None
    """(T,) in 0..1: how surely the lips are closed for a sound"""
    loudness: Floats | None = None
    """(T,) in nats above silence, relative to the level of the recording"""

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, frames: slice) -> Speech:
        """A part of the stretch."""
        parts = (self.features, self.activity, self.phones, self.closure, self.loudness)
        return Speech(*(None if part is None else part[frames] for part in parts))  # type: ignore[arg-type]


class HeardFrame(NamedTuple):
    """One frame of sound that is still being spoken, told without what comes later."""

    samples: Floats  # (640,) at 16 kHz
    loudness: float
    """nats above silence, relative to the level of the voice"""
    active: NDArray[np.bool_]
    """(H,) whether each hop of the frame is loud enough for speech"""


class RecentSpeech(NamedTuple):
    """The last N frames that were heard, each as well as it is known by now."""

    features: Floats  # (N, F), zeros before the first frame
    loudness: Floats  # (N,) nats
    activity: Floats  # (N,) in 0..1
    num_pending: int
    """Frames at the end whose tokens are not known yet, and 0 in the features"""
