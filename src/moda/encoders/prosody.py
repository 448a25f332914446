"""Pitch and voicing of speech on the 25 fps grid, as a stream.

Pitch by the normalised autocorrelation of P. Boersma, "Accurate short-term analysis of the
fundamental frequency", 1993: that of the windowed sound over that of the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from moda.structures import FRAMES_PER_SECOND, Floats

SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = int(SAMPLE_RATE_HZ / FRAMES_PER_SECOND)
WINDOW = 1024
"""64 ms: three periods of the lowest voice."""
LOWEST_HZ, HIGHEST_HZ = 60.0, 400.0
SHORT_LAG_BONUS = 5e-4
"""Per sample of lag: of two equal peaks the shorter period is the right one."""
UNVOICED, VOICED = 0.3, 0.7
"""Heights of the peak that count as no voice and as a clear one."""
QUIETEST = 1e-8
"""Mean square below which there is nothing to measure."""
USUAL_PITCH_OCTAVES = np.log2(160.0)
MEMORY_SECONDS = 20.0
"""How long the speaker's usual pitch remembers, in seconds of voice."""
LEAD_SAMPLES = (WINDOW - SAMPLES_PER_FRAME) // 2
"""Samples before the beginning and after the end of a frame that its pitch needs."""


class PitchTracker:
    """Pitch of one frame after the other, relative to what is usual for the speaker."""

    def __init__(self) -> None:
        self._usual = float(USUAL_PITCH_OCTAVES)
        self._heard = 1.0
        """Frames of voice, up to the memory; the first guess weighs as one."""

    def __call__(self, window: Floats) -> tuple[float, float]:
        """Pitch in octaves above the usual one times the voicing, and the voicing in 0..1.

        ``window`` (1024,) is centred on the frame.
        """
        octaves, height = pitch_of(window.astype(np.float64))
        voicing = float(np.clip((height - UNVOICED) / (VOICED - UNVOICED), 0.0, 1.0))
        if voicing > 0.0:
            self._heard = min(self._heard + voicing, MEMORY_SECONDS * FRAMES_PER_SECOND)
            self._usual += voicing / self._heard * (octaves - self._usual)
        return (octaves - self._usual) * voicing, voicing


def pitch_of(window: NDArray[np.float64]) -> tuple[float, float]:
    """Logarithm to base 2 of the pitch in Hz, and the height of its peak, of samples (1024,)."""
    sound = (window - window.mean()) * _TAPER
    power = float(sound @ sound)
    if power < QUIETEST * WINDOW:
        return float(USUAL_PITCH_OCTAVES), 0.0
    correlation = np.fft.irfft(np.abs(np.fft.rfft(sound, 2 * WINDOW)) ** 2)[_LAGS] / power
    peaks = correlation / _TAPER_CORRELATION
    best = int(np.argmax(peaks * (1.0 - SHORT_LAG_BONUS * np.arange(len(_LAGS)))))
    return float(np.log2(SAMPLE_RATE_HZ / _LAGS[best])), float(peaks[best])


def track_pitch(chunks: Iterable[Floats]) -> Iterator[Floats]:
    """Samples in chunks of any length -> pitch and voicing (n, 2) in stretches.

    There are ``ceil(samples / 640)`` rows in all. Nothing is heard beyond the ends.
    """
    tracker = PitchTracker()
    held = np.zeros(LEAD_SAMPLES, np.float32)
    received = emitted = 0
    for chunk in chunks:
        received += len(chunk)
        held = np.concatenate([held, np.asarray(chunk, np.float32)])
        count = max(0, (len(held) - WINDOW) // SAMPLES_PER_FRAME + 1)
        if count:
            yield _rows(tracker, held, count)
            emitted, held = emitted + count, held[count * SAMPLES_PER_FRAME :]
    missing = -(-received // SAMPLES_PER_FRAME) - emitted
    if missing:
        needed = (missing - 1) * SAMPLES_PER_FRAME + WINDOW
        yield _rows(tracker, np.pad(held, (0, max(0, needed - len(held)))), missing)


def _rows(tracker: PitchTracker, samples: Floats, count: int) -> Floats:
    starts = SAMPLES_PER_FRAME * np.arange(count)
    return np.array([tracker(samples[start : start + WINDOW]) for start in starts], np.float32)


_TAPER = np.hanning(WINDOW)
_LAGS = np.arange(int(SAMPLE_RATE_HZ / HIGHEST_HZ), int(SAMPLE_RATE_HZ / LOWEST_HZ) + 1)
_TAPER_CORRELATION = np.fft.irfft(np.abs(np.fft.rfft(_TAPER, 2 * WINDOW)) ** 2)[_LAGS] / (
    _TAPER @ _TAPER
)
