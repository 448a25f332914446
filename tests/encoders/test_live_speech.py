"""Features of sound that is still being spoken, against those of whole recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from moda.encoders.live_speech import (
    LEAD_SAMPLES,
    LIVE_RATES_HZ,
    LiveSpeechEncoder,
    RateChange,
    silent_frame,
)
from moda.encoders.speech import SAMPLES_PER_FRAME, encode_speech
from moda.errors import InputError
from moda.media import AudioReader
from moda.structures import Floats, HeardFrame

SPEECH = Path(__file__).parents[2] / "examples" / "speech.wav"


def recording(rate: int) -> Floats:
    return np.concatenate(list(AudioReader(SPEECH, rate)))


def heard(samples: Floats, rate: int, sizes: list[int]) -> list[HeardFrame]:
    encoder, frames, start, turn = LiveSpeechEncoder(rate), [], 0, 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        frames += encoder.push(samples[start : start + size])
        start, turn = start + size, turn + 1
    return frames


@pytest.mark.parametrize("rate", [24_000, 48_000])
@pytest.mark.parametrize("sizes", [[100_000], [1], [7, 960, 1, 313]])
def test_change_of_rate_agrees_with_soxr_whatever_the_chunks(rate: int, sizes: list[int]) -> None:
    samples = recording(rate)[: rate // 2 if sizes == [1] else rate * 2]
    change, parts, start, turn = RateChange(rate), [], 0, 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        parts.append(change.push(samples[start : start + size]))
        start, turn = start + size, turn + 1
    changed = np.concatenate(parts)
    reference = soxr.resample(samples, rate, 16_000)[: len(changed)]
    error = np.sqrt(np.mean((changed - reference) ** 2) / np.mean(reference**2))
    assert error < 0.05
    assert len(samples) * 16_000 // rate - len(changed) <= 17  # its reach, and no more


def test_features_come_as_soon_as_they_can_be_told() -> None:
    encoder = LiveSpeechEncoder(16_000)
    assert encoder.push(np.zeros(SAMPLES_PER_FRAME + LEAD_SAMPLES - 17, np.float32)) == []
    assert len(encoder.push(np.zeros(17, np.float32))) == 1
    assert len(encoder.push(np.zeros(SAMPLES_PER_FRAME, np.float32))) == 1


def test_frames_do_not_depend_on_the_chunks() -> None:
    samples = recording(24_000)[:48_000]
    first, second = (heard(samples, 24_000, sizes) for sizes in ([48_000], [480, 33, 2000]))
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.active, other.active)
        np.testing.assert_allclose(one.features, other.features, atol=2e-4)


@pytest.mark.parametrize("gain", [0.05, 1.0])
def test_features_become_those_of_the_whole_recording(gain: float) -> None:
    """Nothing is known of the level at first; after some seconds all is as offline."""
    samples = np.tile(recording(16_000), 3)[: 16_000 * 20] * np.float32(gain)
    live = np.stack([frame.features for frame in heard(samples, 16_000, [640])])
    whole = np.concatenate([part.features for part in encode_speech([samples])])[: len(live)]
    voiced = whole.mean(1) > np.median(whole.mean(1))
    late = np.arange(len(live)) > 25 * 10
    difference = np.abs(live - whole)[voiced & late].mean()
    assert difference < 0.3  # nats, of about 6
    early = np.abs(live - whole)[voiced & (np.arange(len(live)) < 25)].mean()
    assert early > difference


def test_silence_and_hum_are_no_speech_and_speech_is() -> None:
    hum = 0.003 * np.random.default_rng(0).standard_normal(16_000 * 4).astype(np.float32)
    for quiet in (np.zeros(16_000 * 4, np.float32), hum):
        assert not any(frame.active.any() for frame in heard(quiet, 16_000, [640])[3:])
    active = [frame.active.mean() for frame in heard(recording(16_000), 16_000, [640])]
    assert np.mean(active) > 0.4


def test_what_is_forgotten_leaves_no_trace_of_a_voice() -> None:
    encoder = LiveSpeechEncoder(16_000)
    encoder.push(recording(16_000)[16_000:32_000])
    encoder.forget()
    frames = encoder.push(np.zeros(16_000, np.float32))
    assert not any(frame.active.any() for frame in frames)
    assert silent_frame().features.shape == frames[0].features.shape


def test_other_rates_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="44100"):
        LiveSpeechEncoder(44_100)
    assert LIVE_RATES_HZ == (16_000, 24_000, 48_000)
