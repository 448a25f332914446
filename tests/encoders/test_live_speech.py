"""Features of sound that is still being spoken, against those of whole recordings."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from moda.encoders.live_speech import (
    LEAD_SAMPLES,
    REFRESH_FRAMES,
    REFRESHED_FRAMES,
    LiveFeatures,
    LiveSpeechEncoder,
    RateChange,
    live_features,
    silent_frame,
)
from moda.encoders.prosody import track_pitch
from moda.encoders.speech import SAMPLES_PER_FRAME, encode_speech, prosody
from moda.encoders.whisper import load_speech_encoder
from moda.media import AudioReader
from moda.structures import Floats, HeardFrame, RecentSpeech
from paths import SPEECH


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
        np.testing.assert_allclose(one.samples, other.samples, atol=1e-6)
        assert one.loudness == pytest.approx(other.loudness, abs=2e-4)


def test_samples_of_frames_are_the_recording() -> None:
    samples = recording(16_000)[:32_000]
    frames = heard(samples, 16_000, [333])
    told = np.concatenate([frame.samples for frame in frames])
    np.testing.assert_array_equal(told, samples[: len(told)])


@pytest.mark.parametrize("gain", [0.05, 1.0])
def test_loudness_becomes_that_of_the_whole_recording(gain: float) -> None:
    """Nothing is known of the level at first; after some seconds all is as offline."""
    samples = np.tile(recording(16_000), 3)[: 16_000 * 20] * np.float32(gain)
    live = np.array([frame.loudness for frame in heard(samples, 16_000, [640])])
    spectra = encode_speech([samples], "log_mel")
    whole = np.concatenate([part.features for part in spectra]).mean(1)[: len(live)]
    voiced = whole > np.median(whole)
    late = np.arange(len(live)) > 25 * 10
    difference = np.abs(live - whole)[voiced & late].mean()
    assert difference < 0.2  # nats, of about 6
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
    assert [part.shape for part in (frames[0].samples, frames[0].active)] == [(640,), (4,)]
    assert frames[-1].loudness == pytest.approx(silent_frame().loudness, abs=0.3)


def remembered(frames: list[HeardFrame], num_frames: int = 60) -> tuple[LiveFeatures, RecentSpeech]:
    features = LiveFeatures(num_frames)
    for frame in frames:
        recent = features.hear(frame)
    return features, recent


def test_tokens_are_told_again_and_again_and_soon_agree_with_the_recordings() -> None:
    samples = recording(16_000)[: 16_000 * 4]
    whole = np.concatenate([part.features for part in encode_speech([samples])])
    live = live_features(samples)
    assert live.shape == whole.shape == (100, 771)
    spread = whole[:, :768].std(0)
    error = np.abs(live[:, :768] - whole[:, :768]) / spread
    assert error[50:].mean() < 0.45
    assert error[:25].mean() < 0.7  # the encoder is told no more than there is


def test_pitch_is_exactly_that_of_the_recording() -> None:
    samples = recording(16_000)[: 16_000 * 3]
    expected = prosody(np.zeros(75, np.float32), np.concatenate(list(track_pitch([samples]))))
    assert np.ptp(expected[:, 1]) > 0.5
    np.testing.assert_allclose(live_features(samples)[:, -2:], expected[:, 1:], atol=1e-6)


def test_what_was_not_heard_or_not_told_yet_is_zero() -> None:
    frames = heard(recording(16_000)[16_000:48_000], 16_000, [640])
    _, recent = remembered(frames[: REFRESH_FRAMES + 1])
    assert recent.num_pending == 1
    assert not recent.features[-1, :768].any()
    assert recent.features[-1 - REFRESH_FRAMES : -1, :768].any(1).all()
    assert not recent.features[: -1 - REFRESH_FRAMES].any()
    assert remembered(frames[: 2 * REFRESH_FRAMES])[1].num_pending == 0


def test_a_look_ahead_as_long_as_the_refreshing_is_enough() -> None:
    """The frame after the one that is judged has tokens, too."""
    features = LiveFeatures(60)
    for number, frame in enumerate(heard(recording(16_000)[:48_000], 16_000, [640])):
        recent = features.hear(frame)
        assert recent.num_pending < REFRESH_FRAMES
        if number >= REFRESH_FRAMES:
            assert recent.features[-REFRESH_FRAMES - 1 : -REFRESH_FRAMES + 1, :768].any(1).all()


def test_what_is_forgotten_is_told_again_as_silence() -> None:
    samples = recording(16_000)[16_000:56_000]
    features, before = remembered(heard(samples, 16_000, [640])[:58])
    features.forget(6)
    after = features.hear(silent_frame())
    silent = load_speech_encoder().encode(
        np.concatenate([samples[8 * 640 : 52 * 640], np.zeros(6 * 640, np.float32)])
    )
    np.testing.assert_allclose(after.features[-7:-1, :768], silent[-12:].reshape(6, 768), atol=1e-4)
    told = slice(0, len(before.features) - REFRESHED_FRAMES - 1)
    np.testing.assert_array_equal(after.features[told], before.features[1:][told])
    assert after.num_pending == 1
