"""Lips where nobody speaks: made sound, and the built-in model."""

from __future__ import annotations

import wave

import numpy as np
import pytest

from made_clips import tiny_checkpoint
from moda.evaluation.model.silence import (
    compare_rest,
    non_speech_report,
    silence_report,
    with_pauses,
)
from moda.structures import Motion
from moda.weights.checkpoints import load_checkpoint
from moda.weights.spaces import load_motion_space
from paths import EXAMPLES


def test_pauses_come_after_three_seconds() -> None:
    sound = with_pauses(np.ones(4 * 16_000, np.float32))
    assert len(sound) == 6 * 16_000
    np.testing.assert_array_equal(sound.reshape(6, -1).mean(1), [1, 1, 1, 0, 1, 0])


def test_the_built_in_model_rests_in_silence() -> None:
    with wave.open(str(EXAMPLES / "speech.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0
        rate = file.getframerate()
    seconds = np.arange(int(len(samples) / rate * 16_000)) / 16_000
    speech = np.interp(seconds, np.arange(len(samples)) / rate, samples).astype(np.float32)
    pause = np.zeros(24_000, np.float32)
    recording = np.concatenate([speech, pause, speech[:48_000], pause])
    found = silence_report(load_checkpoint("moda-tiny"), [recording])
    assert found.num_frames > 40
    assert found.closed > 0.95


def test_rest_is_measured_beside_speech() -> None:
    space = load_motion_space()
    speaking = np.tile(space.rest, (100, 1))
    speaking[:, :16] = np.random.default_rng(0).standard_normal((100, 16))
    found = compare_rest(Motion(0.0 * speaking, space), Motion(speaking, space))
    assert (found.closed, found.gap_ratio, found.width_ratio) == (1.0, 0.0, 0.0)
    half = speaking.copy()
    half[:, :16] *= 0.5
    found = compare_rest(Motion(half, space), Motion(speaking, space))
    assert found.gap_ratio == pytest.approx(0.5, rel=1e-5)
    assert found.width_ratio == pytest.approx(0.5, rel=1e-5)
    assert 0.0 < found.closed < 1.0


def test_music_and_noise_are_whole_pieces() -> None:
    checkpoint = tiny_checkpoint()
    speaking = np.random.default_rng(0).standard_normal((50, checkpoint.space.size))
    motion = Motion(speaking.astype(np.float32), checkpoint.space)
    first, again = (non_speech_report(checkpoint, motion, minutes=0.1) for _ in range(2))
    assert first.minutes == 0.25
    assert first == again
