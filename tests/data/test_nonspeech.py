"""Made music and noise: whole, at a level, repeatable, and of the right kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from moda.data.nonspeech import (
    SAMPLE_RATE_HZ,
    Sound,
    make_music,
    make_noise,
    make_non_speech,
)

Maker = Callable[[int, np.random.Generator], Sound]
MAKERS = (make_music, make_noise, make_non_speech)
NUM_SAMPLES = 4 * SAMPLE_RATE_HZ


def made(make: Maker, seed: int, num_samples: int = NUM_SAMPLES) -> Sound:
    return make(num_samples, np.random.default_rng(seed))


def root_mean_square(sound: Sound) -> float:
    return float(np.sqrt(np.mean(np.square(sound))))


def peakiness(sound: Sound) -> float:
    """Share of the power in the strongest hundredth of the frequencies."""
    power = np.sort(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2)
    return float(power[-(len(power) // 100) :].sum() / power.sum())


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("num_samples", [1_000, 16_001, NUM_SAMPLES])
def test_length_and_level(make: Maker, num_samples: int) -> None:
    for seed in range(8):
        sound = made(make, seed, num_samples)
        assert sound.shape == (num_samples,)
        assert np.isfinite(sound).all()
        assert root_mean_square(sound) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("make", "seed"), [(make_music, 136), (make_noise, 101)])
def test_a_short_stretch_is_not_silent_by_chance(make: Maker, seed: int) -> None:
    """With these seeds there are rests only, and no click."""
    assert root_mean_square(made(make, seed, 8_000)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_seeds_repeat_and_differ(make: Maker) -> None:
    sound = made(make, 3)
    np.testing.assert_array_equal(sound, made(make, 3))
    # The root mean square of the difference of two that are unrelated is the root of two.
    assert root_mean_square(sound - made(make, 4)) > 0.5


@pytest.mark.parametrize("make", MAKERS)
def test_there_is_something_to_hear(make: Maker) -> None:
    shares = []
    for seed in range(15):
        blocks = made(make, seed).reshape(-1, SAMPLE_RATE_HZ // 10)
        shares.append(float((np.sqrt(np.mean(blocks**2, axis=1)) > 0.05).mean()))
    assert min(shares) > 0.1
    assert np.median(shares) > 0.75


def test_music_is_made_of_tones() -> None:
    white = peakiness(np.random.default_rng(0).standard_normal(NUM_SAMPLES))
    # The strongest hundredth of exponentially distributed powers: p (1 - ln p).
    assert white == pytest.approx(0.01 * (1.0 - np.log(0.01)), rel=0.1)
    music = [peakiness(made(make_music, seed)) for seed in range(15)]
    noise = [peakiness(made(make_noise, seed)) for seed in range(15)]
    assert min(music) > 2.0 * white
    assert np.median(music) > 2.0 * np.median(noise)


def test_kinds_are_mixed() -> None:
    """Some sounds are mostly tones and some are noise; some have pauses."""
    sounds = [made(make_non_speech, seed) for seed in range(30)]
    measures = [peakiness(sound) for sound in sounds]
    assert max(measures) > 0.6
    assert min(measures) < 0.15
    quietest = [
        np.sqrt(np.mean(sound.reshape(-1, SAMPLE_RATE_HZ // 20) ** 2, axis=1)).min()
        for sound in sounds
    ]
    assert min(quietest) < 0.02
    assert max(quietest) > 0.2
