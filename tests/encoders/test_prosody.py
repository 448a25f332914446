"""Pitch of sounds whose pitch is known."""

import numpy as np
import pytest

from moda.encoders.prosody import USUAL_PITCH_OCTAVES, PitchTracker, pitch_of, track_pitch

RATE = 16_000


def voice(hertz: float, seconds: float) -> np.ndarray:
    """Harmonics that fall by 6 dB an octave, as a voice's do."""
    times = np.arange(int(seconds * RATE)) / RATE
    harmonics = range(1, int(4000 / hertz))
    sound = sum(np.sin(2 * np.pi * hertz * k * times + 0.3 * k) / k for k in harmonics)
    return (0.1 * np.asarray(sound)).astype(np.float32)


@pytest.mark.parametrize("hertz", [70.0, 120.0, 210.0, 330.0])
def test_pitch_of_a_voice_is_its_first_harmonic(hertz):
    octaves, height = pitch_of(voice(hertz, 0.1)[:1024].astype(float))
    assert octaves == pytest.approx(np.log2(hertz), abs=0.03)
    assert height > 0.9


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert np.concatenate(list(track_pitch([0.1 * noise])))[:, 1].mean() < 0.1
    assert not np.concatenate(list(track_pitch([np.zeros(16_000, np.float32)]))).any()


def test_pitch_is_relative_to_what_is_usual_for_the_speaker():
    """Two speakers an octave apart who rise by the same interval look the same in the end."""
    rises = []
    for hertz in (100.0, 200.0):
        sound = np.concatenate([voice(hertz, 12.0), voice(hertz * 2 ** (1 / 3), 0.4)])
        rises.append(np.concatenate(list(track_pitch([sound])))[-5, 0])
    assert rises[0] == pytest.approx(1 / 3, abs=0.05)
    assert rises[1] == pytest.approx(rises[0], abs=0.05)


def test_any_cut_of_the_stream_gives_the_same_rows():
    sound = np.concatenate([voice(140.0, 1.0), voice(180.0, 0.73)])
    whole = np.concatenate(list(track_pitch([sound])))
    assert len(whole) == -(-len(sound) // 640)
    cut = [sound[start : start + 501] for start in range(0, len(sound), 501)]
    np.testing.assert_array_equal(np.concatenate(list(track_pitch(cut))), whole)


def test_the_first_guess_is_forgotten():
    tracker = PitchTracker()
    first, _ = tracker(voice(320.0, 0.1)[:1024])
    for _ in range(100):
        last, _ = tracker(voice(320.0, 0.1)[:1024])
    assert abs(last) < 0.03 < abs(first) < 8.3 - USUAL_PITCH_OCTAVES + 1
