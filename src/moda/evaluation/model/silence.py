"""Do lips rest where nobody speaks? In pauses, and to music and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moda.data.nonspeech import make_non_speech
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.evaluation.metrics import closed_share, silence_runs
from moda.evaluation.model.lips import hear, sampled_motion
from moda.motion.hearing.lips import lips_of_motion
from moda.motion.hearing.listening import true_runs
from moda.structures import FRAMES_PER_SECOND, Floats, Motion
from moda.structures.landmarks import Array
from moda.weights.checkpoints import Checkpoint

SILENCE_HEAD_FRAMES, SILENCE_TAIL_FRAMES = 5, 4
"""Taken off a silence: the last sound still ends, and the lips prepare the next."""
NON_SPEECH_PIECE_SECONDS = 15.0
NON_SPEECH_LEVEL = 0.05
"""Root mean square, about that of speech."""


@dataclass(frozen=True)
class Silence:
    """Silences of 0.5 s and more in recordings."""

    num_frames: int
    closed: float
    """share of these frames with closed lips"""

    def markdown(self) -> list[str]:
        return [f"Lips closed in {self.closed:.1%} of {self.num_frames} silent frames."]


@dataclass(frozen=True)
class NonSpeech:
    """Music and noise that nobody speaks to."""

    minutes: float
    closed: float
    """share of the frames with closed lips"""
    gap_ratio: float
    """standard deviation of the lip gap over that in speech"""
    width_ratio: float

    def markdown(self) -> list[str]:
        return [
            f"Music and noise, {self.minutes:.3g} min: lips closed in {self.closed:.1%} of the "
            f"frames; lips move {self.gap_ratio:.2f} (gap) and {self.width_ratio:.2f} (width) of "
            "what they do in speech."
        ]


def silence_report(checkpoint: Checkpoint, recordings: Sequence[Floats]) -> Silence:
    """Share of frames with closed lips in silences of 0.5 s and more, and their number.

    The first 0.2 s of a silence, in which the last sound ends, and the last 0.16 s, in which the
    lips prepare the next, do not count.
    """
    gaps: list[Array] = []
    silent: list[NDArray[np.bool_]] = []
    for samples in recordings:
        gap, _ = lips_of_motion(sampled_motion(checkpoint, hear(checkpoint, samples)))
        inside = settled_silence(silence_runs(samples)[: len(gap)])
        gaps.append(gap[: len(inside)])
        silent.append(inside)
    where = np.concatenate(silent)
    return Silence(int(where.sum()), closed_share(np.concatenate(gaps), where))


def with_pauses(sound: Floats) -> Floats:
    """A recording with a second of digital silence after every three seconds."""
    pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
    length = 3 * SAMPLE_RATE_HZ
    pieces = [sound[start : start + length] for start in range(0, len(sound), length)]
    return np.concatenate([part for piece in pieces for part in (piece, pause)])


def settled_silence(silent: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(T,) without the frames of every silence in which the lips still or already move."""
    trimmed = np.zeros_like(silent)
    for start, stop in true_runs(silent):
        begin = start if start == 0 else start + SILENCE_HEAD_FRAMES
        end = stop if stop == len(silent) else stop - SILENCE_TAIL_FRAMES
        trimmed[begin : max(begin, end)] = True
    return trimmed


def non_speech_report(checkpoint: Checkpoint, speaking: Motion, *, minutes: float) -> NonSpeech:
    """Lips to made music and noise, beside those of ``speaking``, motion to speech."""
    pieces = max(1, round(minutes * 60.0 / NON_SPEECH_PIECE_SECONDS))
    size = int(NON_SPEECH_PIECE_SECONDS * SAMPLE_RATE_HZ)
    values = []
    for seed in range(pieces):
        sound = NON_SPEECH_LEVEL * make_non_speech(size, np.random.default_rng([seed, 0x50]))
        speech = hear(checkpoint, sound.astype(np.float32))
        values.append(sampled_motion(checkpoint, speech).values)
    return compare_rest(Motion(np.concatenate(values), checkpoint.space), speaking)


def compare_rest(resting: Motion, speaking: Motion) -> NonSpeech:
    """How much the lips of one motion move beside those of another."""
    gap, width = lips_of_motion(resting)
    speaking_gap, speaking_width = lips_of_motion(speaking)
    return NonSpeech(
        minutes=len(resting) / FRAMES_PER_SECOND / 60.0,
        closed=closed_share(gap, np.ones(len(gap), np.bool_)),
        gap_ratio=float(gap.std() / speaking_gap.std()),
        width_ratio=float(width.std() / speaking_width.std()),
    )
