"""Channels of a recording: two of many, and one to listen to."""

from __future__ import annotations

import numpy as np

from moda.structures import Floats

SHARED = np.float32(np.sqrt(0.5))
"""Amplitude in each of two channels of what comes from the middle (ITU-R BS.775-3, table 2)."""
CANCELLED_SHARE = 0.05
"""Energy of the mean of two channels over that of one, below which they cancel each other."""


def to_stereo(samples: Floats, names: tuple[str, ...]) -> Floats:
    """(2, N) of more channels (C, N) by the places of their loudspeakers (FL, FR, FC, LFE, ...).

    What stands in front keeps its level, what stands in the middle or behind is heard on both
    sides or softer. Low frequency effects are left out, as ITU-R BS.775-3 recommends.
    """
    stereo = np.zeros((2, samples.shape[1]), np.float32)
    for channel, name in zip(samples, names, strict=True):
        if name in ("FL", "FLC"):
            stereo[0] += channel
        elif name in ("FR", "FRC"):
            stereo[1] += channel
        elif name.startswith("LFE"):
            continue
        else:
            sides = [side for side, end in enumerate("LR") if name.endswith(end)]
            stereo[sides or [0, 1]] += SHARED * channel
    return stereo


class OneVoice:
    """Makes one channel of two, as a stream; what is in opposite phase is not lost.

    The mean of the channels, or the louder one where they have cancelled each other so far.
    """

    def __init__(self) -> None:
        self._of_mean = 0.0
        self._of_channels = np.zeros(0)

    def mix(self, samples: Floats) -> Floats:
        """One channel (1, N) of the next samples (C, N)."""
        mean: Floats = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        if len(samples) == 1:
            return mean
        energies = np.square(samples, dtype=np.float64).sum(1)
        self._of_channels = energies if not self._of_channels.size else self._of_channels + energies
        self._of_mean += float(np.square(mean, dtype=np.float64).sum())
        if self._of_mean < CANCELLED_SHARE * self._of_channels.mean():
            loudest = int(self._of_channels.argmax())
            return samples[loudest : loudest + 1]
        return mean
