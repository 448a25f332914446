"""Speech features: streaming, level, spectrum, activity, against closed forms and a recording."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from moda.encoders.speech import (
    HOP,
    NUM_BANDS,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
    WINDOW,
    encode_speech,
    log_mel,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "speech.wav"


def whole(samples: np.ndarray, chunk: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    pieces = [samples[start : start + chunk] for start in range(0, len(samples), chunk)]
    parts = list(encode_speech(pieces))
    return (
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.activity for part in parts]),
    )


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """The example sentence at 16 kHz, read without the project's own code."""
    with wave.open(str(EXAMPLE)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0
        rate = file.getframerate()
    seconds = np.arange(int(len(samples) / rate * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.interp(seconds, np.arange(len(samples)) / rate, samples).astype(np.float32)


@pytest.mark.parametrize("chunk", [160, 777, 16_000, 10**9])
def test_chunks_do_not_matter(recording: np.ndarray, chunk: int) -> None:
    reference, activity = whole(recording, 5000)
    features, other = whole(recording, chunk)
    np.testing.assert_allclose(features, reference, atol=1e-4)  # matrix products differ by shape
    np.testing.assert_array_equal(other, activity)


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 64_000, 100_001])
def test_one_frame_per_started_forty_milliseconds(samples: int) -> None:
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    features, activity = whole(noise)
    assert len(features) == len(activity) == -(-samples // SAMPLES_PER_FRAME)


def test_no_samples_no_frames() -> None:
    assert list(encode_speech([])) == []


@pytest.mark.parametrize("gain_db", [-30.0, -12.0, 6.0])
def test_loudness_does_not_matter(recording: np.ndarray, gain_db: float) -> None:
    quiet = 0.3 * recording
    features, activity = whole(quiet)
    louder, other = whole(quiet * np.float32(10.0 ** (gain_db / 20.0)))
    assert np.abs(louder - features).mean() < 0.05
    assert np.abs(other - activity).mean() < 0.02


def test_a_tone_is_in_its_mel_band() -> None:
    seconds = np.arange(16_000) / SAMPLE_RATE_HZ
    frequency = 1000.0
    energies = log_mel(np.sin(2 * np.pi * frequency * seconds).astype(np.float32)).mean(0)
    mel = 2595.0 * np.log10(1.0 + frequency / 700.0)
    top = 2595.0 * np.log10(1.0 + 8000.0 / 700.0)
    expected = mel / top * (NUM_BANDS + 1) - 1.0
    assert abs(int(energies.argmax()) - expected) <= 0.5


def test_a_click_is_in_its_frame() -> None:
    samples = np.zeros(16_000, np.float32)
    samples[10 * SAMPLES_PER_FRAME + 320] = 1.0
    features, _ = whole(samples)
    assert int(features.sum(1).argmax()) == 10


def test_windows_are_whole() -> None:
    assert log_mel(np.zeros(WINDOW + 2 * HOP, np.float32)).shape == (3, NUM_BANDS)


def test_silence_is_small_and_inactive(recording: np.ndarray) -> None:
    pause = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    features, activity = whole(np.concatenate([recording, pause, recording]))
    first = -(-len(recording) // SAMPLES_PER_FRAME)
    silent = slice(first + 6, first + 40)
    assert features[silent].max() < 0.4 * features[:first].max()
    assert np.ptp(features[silent], axis=0).max() == 0.0  # nothing moves
    assert activity[silent].max() == 0.0
    assert activity[:first].mean() > 0.6


def test_noise_after_speech_is_not_speech(recording: np.ndarray) -> None:
    generator = np.random.default_rng(1)
    noisy = np.concatenate([recording, np.zeros(30 * SAMPLE_RATE_HZ, np.float32)])
    level = np.sqrt((recording**2).mean())
    noisy = noisy + 0.01 * level * generator.standard_normal(len(noisy)).astype(np.float32)
    _, activity = whole(noisy)
    first = -(-len(recording) // SAMPLES_PER_FRAME)
    assert activity[first + 10 :].mean() < 0.03
    assert activity[:first].mean() > 0.6
