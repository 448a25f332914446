"""What the benchmarks of live sessions share: the speech they send, and how lips are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moda.encoders.face import FaceModels, FaceTracker
from moda.evaluation.model.lips import sampled_motion, whole_speech
from moda.media import AudioReader
from moda.motion.hearing.lips import lips_of_motion
from moda.structures.landmarks import lip_gap
from moda.weights.checkpoints import load_checkpoint

RATE = 16_000
IDLE_SECONDS = 4.0
"""Of silence before the recording begins."""
LOUD = 0.05
SYNC_SECONDS = 60.0
BARGE_IN_EVERY_SECONDS = 60.0
AFTER_BARGE_IN_SECONDS = 1.5
OPEN_GAP = 0.012
"""Canonical units beyond the resting gap at which lips count as open."""


def long_speech(path: Path, seconds: float) -> np.ndarray:
    """The recording over and over, with pauses of a second, after some silence."""
    speech = np.concatenate(list(AudioReader(path, RATE)))
    one = np.concatenate([speech, np.zeros(RATE, np.float32)])
    spoken = np.tile(one, int(seconds * RATE / len(one)) + 1)[: int(seconds * RATE)]
    return np.concatenate([np.zeros(int(IDLE_SECONDS * RATE), np.float32), spoken])


def is_time_for_barge_in(samples: np.ndarray, place: int, next_interrupt: float) -> bool:
    """Whether to interrupt here: it is due, the speech is loud, and its end is not near."""
    seconds = place / RATE
    ends_soon = seconds > len(samples) / RATE - SYNC_SECONDS - 5.0
    recent = samples[max(0, place - RATE // 2) : place]
    is_due = seconds > next_interrupt and not ends_soon
    return is_due and bool(np.sqrt(np.mean(recent**2)) > LOUD)


def tracked_gaps(pictures: Sequence[np.ndarray | None]) -> np.ndarray:
    """Lip gap (N,) of pictures in canonical units; NaN where there is none."""
    tracker = FaceTracker(FaceModels())
    gaps = np.full(len(pictures), np.nan)
    for index, picture in enumerate(pictures):
        face = None if picture is None else tracker.track(picture)
        if face is not None:
            gaps[index] = float(lip_gap(face.points[None].astype(np.float64))[0])
    return gaps


def first_open(times: np.ndarray, gaps: np.ndarray, spoken: float) -> float:
    """Seconds from ``spoken`` to the first picture with open lips; NaN if there is none."""
    rest = np.nanmedian(gaps[times < spoken])
    opened = np.flatnonzero((times > spoken) & (gaps > rest + OPEN_GAP))
    return float(times[opened[0]] - spoken) if len(opened) else float("nan")


def sound_delay(got: np.ndarray, samples: np.ndarray, near: int) -> int:
    """Place in ``samples`` at which the stretch that came back begins."""
    begin = max(0, near - 3 * RATE)
    part = samples[begin : near + 3 * RATE + len(got)]
    size = 1 << int(np.ceil(np.log2(len(part) + len(got))))
    match = np.fft.irfft(np.fft.rfft(part, size) * np.conj(np.fft.rfft(got, size)), size)
    return begin + int(np.argmax(match[: len(part) - len(got) + 1]))


def sync_milliseconds(
    pictures: Sequence[np.ndarray | None], got: np.ndarray, samples: np.ndarray, near: int
) -> tuple[float, float]:
    """Offset of picture against sound and the correlation there; 25 pictures a second."""
    begin = sound_delay(got, samples, near)
    gaps = tracked_gaps(pictures)
    known = np.flatnonzero(np.isfinite(gaps))
    gaps = np.interp(np.arange(len(gaps)), known, gaps[known])
    checkpoint = load_checkpoint("moda-tiny")
    context = min(begin, 8 * RATE)
    stretch = samples[begin - context : begin + len(got) + RATE]
    motion = sampled_motion(checkpoint, whole_speech(stretch))
    offline, _ = lips_of_motion(motion)
    places = context / RATE * 25 + np.arange(len(gaps))
    lags = np.arange(-8.0, 8.01, 0.125)
    scores = [
        np.corrcoef(gaps, np.interp(places - lag, np.arange(len(offline)), offline))[0, 1]
        for lag in lags
    ]
    best = int(np.argmax(scores))
    return float(lags[best] * 40.0), float(scores[best])
