"""Speech features: streaming, level, spectrum, activity, against closed forms and a recording."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest

from moda.encoders.speech import (
    HOP,
    NUM_BANDS,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
    WINDOW,
    _pairs,
    encode_speech,
    in_step,
    log_mel,
    prosody,
)
from moda.encoders.whisper import load_speech_encoder
from moda.structures import Floats, Speech
from paths import SPEECH

Kind = Literal["whisper", "log_mel"]


def whole(
    samples: np.ndarray, chunk: int = 5000, kind: Kind = "log_mel"
) -> tuple[np.ndarray, np.ndarray]:
    pieces = [samples[start : start + chunk] for start in range(0, len(samples), chunk)]
    parts = list(encode_speech(pieces, kind))
    return (
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.activity for part in parts]),
    )


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """The example sentence at 16 kHz, read without the project's own code."""
    with wave.open(str(SPEECH)) as file:
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


@pytest.mark.parametrize("kind", ["whisper", "log_mel"])
def test_no_samples_no_frames(kind: Kind) -> None:
    assert list(encode_speech([], kind)) == []


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


def joined(samples: np.ndarray, chunk: int = 10**9) -> Speech:
    """Tokens and prosody of a whole recording."""
    pieces = [samples[start : start + chunk] for start in range(0, len(samples), chunk)]
    parts = list(encode_speech(pieces))
    assert all(part.loudness is not None for part in parts)
    names = ("features", "activity", "loudness")
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
    return Speech(columns[0], columns[1], loudness=columns[2])


@pytest.fixture(scope="module")
def heard(recording: np.ndarray) -> Speech:
    return joined(recording[: 4 * SAMPLE_RATE_HZ])


@pytest.mark.parametrize("chunk", [333, 16_000])
def test_chunks_do_not_matter_to_tokens_and_prosody(
    recording: np.ndarray, heard: Speech, chunk: int
) -> None:
    other = joined(recording[: 4 * SAMPLE_RATE_HZ], chunk)
    np.testing.assert_array_equal(other.features[:, :768], heard.features[:, :768])
    np.testing.assert_allclose(other.features, heard.features, atol=1e-4)
    np.testing.assert_array_equal(other.activity, heard.activity)
    assert other.loudness is not None
    assert heard.loudness is not None
    np.testing.assert_allclose(other.loudness, heard.loudness, atol=1e-4)


def test_frames_are_two_tokens_and_the_prosody(recording: np.ndarray, heard: Speech) -> None:
    samples = recording[: 4 * SAMPLE_RATE_HZ]
    assert heard.features.shape == (100, 2 * 384 + 3)
    tail = np.zeros(SAMPLE_RATE_HZ, np.float32)
    tokens = load_speech_encoder().encode(np.concatenate([samples, tail]))
    np.testing.assert_array_equal(heard.features[:, :384], tokens[:200:2])
    np.testing.assert_array_equal(heard.features[:, 384:768], tokens[1:200:2])
    spectra, activity = whole(samples)
    assert heard.loudness is not None
    np.testing.assert_allclose(heard.loudness, spectra.mean(1), atol=1e-4)
    np.testing.assert_array_equal(heard.activity, activity)
    np.testing.assert_allclose(heard.features[:, 768], (heard.loudness - 4.0) / 2.5, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 321, 640, 641, 960, 5000])
def test_one_frame_of_tokens_per_started_forty_milliseconds(samples: int) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    speech = joined(noise, 500)
    assert len(speech) == len(speech.activity) == -(-samples // SAMPLES_PER_FRAME)
    assert np.isfinite(speech.features).all()
    if (samples - 1) % SAMPLES_PER_FRAME < SAMPLES_PER_FRAME // 2:
        last = speech.features[-1]
        np.testing.assert_array_equal(last[:384], last[384:768], "an odd last token is doubled")


def test_prosody_is_of_unit_size() -> None:
    loudness = np.array([4.0, 6.5, 0.0], np.float32)
    pitch = np.array([[0.0, 0.0], [0.3, 1.0], [-0.15, 0.5]], np.float32)
    expected = [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.6, -0.5, 0.5]]
    found = prosody(loudness, pitch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_prosody_of_a_real_voice_has_about_unit_size(heard: Speech) -> None:
    spoken = heard.features[heard.activity > 0.5, -3:]
    assert 0.3 < spoken[:, 0].std() < 2.0
    assert 0.3 < spoken[:, 1].std() < 2.0
    assert spoken[:, 2].min() >= 0.0
    assert spoken[:, 2].max() == 1.0


def cut_at_random(values: Floats, seed: int) -> Iterator[Floats]:
    random, start = np.random.default_rng(seed), 0
    while start < len(values):
        length = int(random.integers(0, 9))
        yield values[start : start + length]
        start += length


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [0, 1, 2, 51, 64])
def test_pairs_do_not_depend_on_the_cuts(seed: int, count: int) -> None:
    tokens = np.random.default_rng(9).standard_normal((count, 3)).astype(np.float32)
    parts = list(_pairs(cut_at_random(tokens, seed)))
    whole_pairs = np.concatenate([np.zeros((0, 6), np.float32), *parts])
    even = tokens if count % 2 == 0 else np.concatenate([tokens, tokens[-1:]])
    np.testing.assert_array_equal(whole_pairs, np.hstack([even[::2], even[1::2]]))


@pytest.mark.parametrize("seed", range(5))
def test_streams_in_step_have_equal_stretches_and_lose_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    wholes = [random.standard_normal((50, size)).astype(np.float32) for size in (1, 4, 2)]
    cuts = [cut_at_random(whole, 3 * seed + k) for k, whole in enumerate(wholes)]
    stretches = list(in_step(*cuts))
    assert all(len({len(part) for part in parts}) == 1 for parts in stretches)
    for index, expected in enumerate(wholes):
        found = np.concatenate([parts[index] for parts in stretches])
        np.testing.assert_array_equal(found, expected)


def test_streams_in_step_wait_for_no_more_than_they_need() -> None:
    taken = [0, 0]

    def stream(index: int, length: int) -> Iterator[Floats]:
        while True:
            taken[index] += 1
            yield np.zeros((length, 1), np.float32)

    pairs = in_step(stream(0, 4), stream(1, 1))
    for _ in range(6):
        next(pairs)
    assert taken == [2, 6]
